#include "storage/state_inner.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

enum { MAX_READERS = 256, NO_ROOM_BYTES = 16 << 20 };

static const char book_key[] = "partition";

static enum err load_book(MDB_txn *txn, MDB_dbi dbi, unsigned prefix, struct state_partition *out)
{
    struct bytes value;
    *out = (struct state_partition){0};
    enum err err = state_get_row(txn, dbi, prefix, ROW_TABLE_BOOK, BYTES_LIT(book_key), &value);
    if (err == ERR_NOT_FOUND) {
        return OK;
    }
    TRY(err);
    if (value.len != sizeof *out) {
        return ERR_CORRUPT;
    }
    memcpy(out, value.ptr, sizeof *out);
    return OK;
}

/* Damage in one partition's row is no reason not to show the others. */
static enum err open_book(struct state *state, MDB_txn *txn, unsigned prefix, struct state_partition *out)
{
    enum err err = load_book(txn, state->writer.dbi, prefix, out);
    if (err == ERR_CORRUPT && state->options.salvage) {
        state->options.damaged(state->options.ctx, prefix & (ROW_SLOT - 1));
        return OK;
    }
    return err;
}

/* Of both slots. What is not live was never applied to: otherwise the row that says so was lost. */
static enum err load_slots_and_books(struct state *state, MDB_txn *txn)
{
    unsigned partitions = state->options.partitions;
    TRY(state_load_slots(txn, state->writer.dbi, partitions, state->committed_slots));
    for (unsigned i = 0; i < partitions; i++) {
        unsigned live = row_live_prefix(state->committed_slots, i);
        TRY(open_book(state, txn, live, &state->committed[i]));
        TRY(open_book(state, txn, live ^ ROW_SLOT, &state->committed[partitions + i]));
        if (state->committed[partitions + i].applied_index != 0 && !state->options.salvage) {
            return ERR_CORRUPT;
        }
    }
    memcpy(state->books, state->committed, (size_t)2 * partitions * sizeof *state->books);
    memcpy(state->slots, state->committed_slots, row_slots_bytes(partitions));
    return OK;
}

static enum err load(struct state *state)
{
    MDB_txn *txn;
    TRY(state_err_of(mdb_txn_begin(state->env, NULL, state->options.read_only ? MDB_RDONLY : 0, &txn)));
    enum err err = state_err_of(mdb_dbi_open(txn, NULL, 0, &state->writer.dbi));
    err = err == OK ? load_slots_and_books(state, txn) : err;
    mdb_txn_abort(txn);
    return err;
}

static struct state *new_state(const struct state_options *options)
{
    struct state *state = mem_zalloc(sizeof *state);
    size_t views = 2 * (size_t)options->partitions;
    CHECK(options->partitions < ROW_SLOT - 1); /* the last number's second slot would be ROW_SLOTS */
    state->options = *options;
    state->books = mem_zalloc(views * sizeof *state->books);
    state->committed = mem_zalloc(views * sizeof *state->committed);
    state->edited = mem_zalloc(views * sizeof *state->edited);
    state->slots = mem_zalloc(row_slots_bytes(options->partitions));
    state->committed_slots = mem_zalloc(row_slots_bytes(options->partitions));
    state->writer.state = state;
    return state;
}

enum err state_open(const struct state_options *options, struct state **out)
{
    struct state *state = new_state(options);
    if (!options->read_only) {
        (void)mkdir(options->dir, 0750);
    }
    enum err err = state_err_of(mdb_env_create(&state->env));
    if (err == OK) {
        err = state_err_of(mdb_env_set_mapsize(state->env, options->map_bytes));
    }
    if (err == OK) {
        err = state_err_of(mdb_env_set_maxreaders(state->env, MAX_READERS));
    }
    if (err == OK) {
        unsigned how = options->read_only ? MDB_RDONLY : MDB_NOSYNC;
        err = state_err_of(mdb_env_open(state->env, options->dir, how | MDB_NOTLS | MDB_NORDAHEAD, 0640));
    }
    if (err == OK) {
        err = load(state);
    }
    if (err != OK) {
        state_close(state);
        return err;
    }
    state_owner_init(&state->writer, state, &state_writer_ops, state->writer.dbi, 2 * options->partitions);
    state_aim_writer(state);
    *out = state;
    return OK;
}

void state_close(struct state *state)
{
    if (state == NULL) {
        return;
    }
    if (state->env != NULL) {
        mdb_env_close(state->env);
    }
    free(state->writer.views);
    buf_free(&state->writer.sealed);
    free(state->books);
    free(state->committed);
    free(state->edited);
    free(state->slots);
    free(state->committed_slots);
    free(state);
}

const struct state_partition *state_partition(const struct state *state, unsigned partition)
{
    CHECK(partition < state->options.partitions);
    return &state->committed[partition];
}

/* Pages that were freed and can be used again: LMDB's free list, one record a transaction, each of which
 * starts with the number of its pages (mdb.c, "struct MDB_IDL"). */
static uint64_t free_pages(struct state *state)
{
    enum { FREE_DBI = 0 };
    MDB_txn *txn;
    MDB_cursor *cursor;
    uint64_t pages = 0;
    if (mdb_txn_begin(state->env, NULL, MDB_RDONLY, &txn) != 0) {
        return 0;
    }
    if (mdb_cursor_open(txn, FREE_DBI, &cursor) == 0) {
        MDB_val key, value;
        while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
            size_t count;
            memcpy(&count, value.mv_data, sizeof count);
            pages += count;
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return pages;
}

uint64_t state_file_bytes(const struct state *state)
{
    MDB_envinfo info;
    MDB_stat stat;
    CHECK(mdb_env_info(state->env, &info) == 0 && mdb_env_stat(state->env, &stat) == 0);
    return (uint64_t)(info.me_last_pgno + 1) * stat.ms_psize;
}

bool state_is_full(struct state *state)
{
    uint64_t quota = state->options.quota_bytes, file = state_file_bytes(state);
    return quota > 0 && file > quota && file - free_pages(state) * STATE_META_BYTES > quota;
}

enum err state_begin(struct state *state)
{
    return state_err_of(mdb_txn_begin(state->env, NULL, 0, &state->writer.txn));
}

struct rows *state_rows(struct state *state, unsigned partition)
{
    CHECK(partition < state->options.partitions && state->writer.txn != NULL);
    return &state->writer.views[partition].rows;
}

struct state_partition *state_partition_edit(struct state *state, unsigned partition)
{
    CHECK(partition < state->options.partitions);
    return state_edit(&state->writer.views[partition]);
}

static void writer_end(struct state *state, bool committed)
{
    state->writer.txn = NULL;
    for (unsigned i = 0; i < 2 * state->options.partitions; i++) {
        if (state->edited[i] || state->switched) {
            state->committed[i] = committed ? state->books[i] : state->committed[i];
            state->books[i] = state->committed[i];
        }
        state->edited[i] = false;
    }
    state_settle_switch(state, committed);
}

/* A stage without rows has no row of its own either. */
static enum err save_book(struct state *state, unsigned view)
{
    static const struct state_partition none;
    const struct state_partition *book = &state->books[view];
    unsigned prefix = state->writer.views[view].prefix;
    uint64_t sum;
    if (view >= state->options.partitions && memcmp(book, &none, sizeof none) == 0) {
        uint8_t raw_key[ROW_KEY_MAX];
        MDB_val k = {state_make_key(raw_key, prefix, ROW_TABLE_BOOK, BYTES_LIT(book_key)), raw_key};
        enum err err = state_err_of(mdb_del(state->writer.txn, state->writer.dbi, &k, NULL));
        return err == ERR_NOT_FOUND ? OK : err;
    }
    return state_put_row(state->writer.txn, state->writer.dbi, prefix, ROW_TABLE_BOOK, BYTES_LIT(book_key),
                         bytes_of(book, sizeof *book), &sum);
}

/* A full disk often shows as a short write, which LMDB reports as EIO. */
static bool has_no_room(const struct state *state)
{
    struct statvfs st;
    return statvfs(state->options.dir, &st) == 0 && (uint64_t)st.f_bavail * st.f_frsize < NO_ROOM_BYTES;
}

enum err state_commit(struct state *state)
{
    enum err err = OK;
    for (unsigned i = 0; i < 2 * state->options.partitions && err == OK; i++) {
        if (state->edited[i]) {
            err = save_book(state, i);
        }
    }
    if (err != OK) {
        state_abort(state);
        return err;
    }
    state_owner_end(&state->writer);
    state_announce_switch(state);
    err = state_err_of(mdb_txn_commit(state->writer.txn));
    if (err == ERR_IO && has_no_room(state)) {
        err = ERR_DISK_FULL; /* the pages did not fit; what was committed before is untouched */
    }
    writer_end(state, err == OK);
    return err;
}

void state_abort(struct state *state)
{
    state_owner_end(&state->writer);
    mdb_txn_abort(state->writer.txn);
    writer_end(state, false);
}

/* ---- readers ---- */

enum err state_reader_new(struct state *state, struct state_reader **out)
{
    struct state_reader *reader = mem_zalloc(sizeof *reader);
    reader->state = reader->owner.state = state;
    enum err err = state_err_of(mdb_txn_begin(state->env, NULL, MDB_RDONLY, &reader->owner.txn));
    if (err == OK) {
        err = state_err_of(mdb_cursor_open(reader->owner.txn, state->writer.dbi, &reader->owner.cursor));
    }
    if (err != OK) {
        if (reader->owner.txn != NULL) {
            mdb_txn_abort(reader->owner.txn);
        }
        free(reader);
        return err;
    }
    state_owner_init(&reader->owner, state, &state_reader_ops, state->writer.dbi, state->options.partitions);
    reader->slots_of = UINT64_MAX;
    mdb_txn_reset(reader->owner.txn);
    *out = reader;
    return OK;
}

void state_reader_free(struct state_reader *reader)
{
    if (reader != NULL) {
        state_owner_end(&reader->owner);
        mdb_txn_abort(reader->owner.txn);
        free(reader->owner.views);
        free(reader);
    }
}

enum err state_reader_renew(struct state_reader *reader)
{
    state_reader_reset(reader);
    TRY(state_err_of(mdb_txn_renew(reader->owner.txn)));
    reader->open = true;
    TRY(state_err_of(mdb_cursor_renew(reader->owner.txn, reader->owner.cursor)));
    return state_aim_reader(reader);
}

void state_reader_reset(struct state_reader *reader)
{
    if (reader->open) {
        mdb_txn_reset(reader->owner.txn);
        reader->open = false;
    }
}

struct rows *state_reader_rows(struct state_reader *reader, unsigned partition)
{
    CHECK(reader->open && partition < reader->state->options.partitions);
    return &reader->owner.views[partition].rows;
}

enum err state_reader_partition(struct state_reader *reader, unsigned partition, struct state_partition *out)
{
    CHECK(reader->open && partition < reader->state->options.partitions);
    return load_book(reader->owner.txn, reader->owner.dbi, reader->owner.views[partition].prefix, out);
}

enum err state_reader_scan(struct state_reader *reader, unsigned partition,
                           enum err (*each)(void *ctx, uint8_t table, struct bytes key, struct bytes value), void *ctx)
{
    uint8_t raw_key[ROW_KEY_MAX];
    CHECK(reader->open && partition < reader->state->options.partitions);
    const struct view *view = &reader->owner.views[partition];
    MDB_val k = {state_make_key(raw_key, view->prefix, ROW_TABLE_BOOK + 1, BYTES_NONE), raw_key}, v;
    int rc = mdb_cursor_get(reader->owner.cursor, &k, &v, MDB_SET_RANGE);
    while (rc == 0 && k.mv_size >= ROW_PREFIX_BYTES && row_prefix(bytes_of(k.mv_data, k.mv_size)) == view->prefix) {
        struct bytes value, key = bytes_of(k.mv_data, k.mv_size);
        uint64_t sum;
        TRY(state_told(view, state_open_value(k, v, &value, &sum)));
        TRY(each(ctx, key.ptr[2], bytes_of(key.ptr + ROW_PREFIX_BYTES, key.len - ROW_PREFIX_BYTES), value));
        rc = mdb_cursor_get(reader->owner.cursor, &k, &v, MDB_NEXT);
    }
    return rc == MDB_NOTFOUND ? OK : state_err_of(rc);
}

void state_drop_dead_readers(struct state *state)
{
    int dead;
    (void)mdb_reader_check(state->env, &dead);
}
