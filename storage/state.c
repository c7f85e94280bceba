#include "storage/state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "storage/row.h"
#include "storage/tree.h"

enum { MAX_READERS = 256, NO_ROOM_BYTES = 16 << 20 };

static const char book_key[] = "partition";

/* One open view of a partition: shared by readers and the writer, told apart by its ops. */
struct view {
    struct rows rows;
    struct view_owner *owner;
    uint16_t partition;
};

struct view_owner {
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_dbi dbi;
    struct state *state;
    struct view *views;
    uint8_t last_key[ROW_KEY_MAX];
};

struct state {
    MDB_env *env;
    struct state_options options;
    struct view_owner writer;
    struct state_partition *books, *committed;
    bool *edited;
};

struct state_reader {
    struct view_owner owner;
    bool open;
    struct state *state;
};

static enum err err_of(int rc)
{
    switch (rc) {
    case 0: return OK;
    case MDB_NOTFOUND: return ERR_NOT_FOUND;
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT: return ERR_DISK_FULL;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH: return ERR_CORRUPT;
    default: return ERR_IO;
    }
}

static size_t make_key(uint8_t *out, unsigned partition, uint8_t table, struct bytes key)
{
    CHECK(key.len <= ROW_KEY_MAX - ROW_PREFIX_BYTES);
    out[0] = (uint8_t)(partition >> 8);
    out[1] = (uint8_t)partition;
    out[2] = table;
    if (key.len > 0) {
        memcpy(out + ROW_PREFIX_BYTES, key.ptr, key.len);
    }
    return ROW_PREFIX_BYTES + key.len;
}

static struct bytes bytes_val(MDB_val val)
{
    return bytes_of(val.mv_data, val.mv_size);
}

static enum err open_value(MDB_val key, MDB_val raw, struct bytes *out)
{
    uint64_t sum;
    return row_open(bytes_val(key), bytes_val(raw), out, &sum);
}

static struct view *view_of(struct rows *rows)
{
    return container_of(rows, struct view, rows);
}

/* Whoever meets damage tells it, whatever becomes of the error. */
static enum err told(const struct view *view, enum err err)
{
    const struct state_options *options = &view->owner->state->options;
    if (err == ERR_CORRUPT && options->damaged != NULL) {
        options->damaged(options->ctx, view->partition);
    }
    return err;
}

static enum err view_get(struct rows *rows, uint8_t table, struct bytes key, struct bytes *out)
{
    struct view *view = view_of(rows);
    uint8_t raw_key[ROW_KEY_MAX];
    if (key.len > ROW_KEY_MAX - ROW_PREFIX_BYTES) {
        return ERR_NOT_FOUND;
    }
    MDB_val k = {make_key(raw_key, view->partition, table, key), raw_key}, v;
    enum err err = err_of(mdb_get(view->owner->txn, view->owner->dbi, &k, &v));
    return told(view, err == OK ? open_value(k, v, out) : err);
}

static enum err cursor_of(struct view_owner *owner, MDB_cursor **out)
{
    if (owner->cursor == NULL) {
        TRY(err_of(mdb_cursor_open(owner->txn, owner->dbi, &owner->cursor)));
    }
    *out = owner->cursor;
    return OK;
}

/* The row under the cursor, if it is one of this table. */
static enum err found(struct view *view, uint8_t table, MDB_val k, MDB_val v, struct bytes *out_key,
                      struct bytes *out_value)
{
    uint8_t prefix[ROW_PREFIX_BYTES];
    (void)make_key(prefix, view->partition, table, BYTES_NONE);
    if (k.mv_size < ROW_PREFIX_BYTES || memcmp(k.mv_data, prefix, ROW_PREFIX_BYTES) != 0) {
        return ERR_NOT_FOUND;
    }
    memcpy(view->owner->last_key, k.mv_data, k.mv_size);
    *out_key = bytes_of(view->owner->last_key + ROW_PREFIX_BYTES, k.mv_size - ROW_PREFIX_BYTES);
    return told(view, open_value(k, v, out_value));
}

static enum err view_ceil(struct rows *rows, uint8_t table, struct bytes from, struct bytes *out_key,
                          struct bytes *out_value)
{
    struct view *view = view_of(rows);
    MDB_cursor *cursor;
    uint8_t raw_key[ROW_KEY_MAX];
    TRY(cursor_of(view->owner, &cursor));
    MDB_val k = {make_key(raw_key, view->partition, table, from), raw_key}, v;
    TRY(told(view, err_of(mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE))));
    return found(view, table, k, v, out_key, out_value);
}

static enum err view_below(struct rows *rows, uint8_t table, struct bytes before, struct bytes *out_key,
                           struct bytes *out_value)
{
    struct view *view = view_of(rows);
    MDB_cursor *cursor;
    uint8_t raw_key[ROW_KEY_MAX];
    TRY(cursor_of(view->owner, &cursor));
    MDB_val k = {make_key(raw_key, view->partition, table, before), raw_key}, v;
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    rc = mdb_cursor_get(cursor, &k, &v, rc == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
    TRY(told(view, err_of(rc)));
    return found(view, table, k, v, out_key, out_value);
}

static struct state_partition *edit(struct state *state, unsigned partition)
{
    CHECK(partition < state->options.partitions);
    state->edited[partition] = true;
    return &state->books[partition];
}

/* Takes the present row, if any, out of the set hash. */
static enum err forget(struct view *view, MDB_val *k, uint8_t table)
{
    MDB_val v;
    struct bytes old;
    TRY(told(view, err_of(mdb_get(view->owner->txn, view->owner->dbi, k, &v))));
    TRY(told(view, open_value(*k, v, &old)));
    uint64_t sum;
    memcpy(&sum, v.mv_data, ROW_SUM_BYTES);
    struct state_partition *book = edit(view->owner->state, view->partition);
    book->set_hash -= sum;
    book->counts[table]--;
    return OK;
}

static enum err view_put(struct rows *rows, uint8_t table, struct bytes key, struct bytes value)
{
    struct view *view = view_of(rows);
    uint8_t raw_key[ROW_KEY_MAX];
    CHECK(table != ROW_TABLE_BOOK && table < STATE_TABLES);
    MDB_val k = {make_key(raw_key, view->partition, table, key), raw_key};
    enum err err = forget(view, &k, table);
    if (err != OK && err != ERR_NOT_FOUND) {
        return err;
    }
    uint64_t sum = row_sum(bytes_val(k), value);
    /* The value may point into the map, where a put can move it: copy it first. */
    struct bytes copy = bytes_of(mem_copy(value.ptr, value.len), value.len);
    MDB_val v = {ROW_SUM_BYTES + value.len, NULL};
    err = err_of(mdb_put(view->owner->txn, view->owner->dbi, &k, &v, MDB_RESERVE));
    if (err == OK) {
        memcpy(v.mv_data, &sum, ROW_SUM_BYTES);
        memcpy((uint8_t *)v.mv_data + ROW_SUM_BYTES, copy.ptr, copy.len);
        struct state_partition *book = edit(view->owner->state, view->partition);
        book->set_hash += sum;
        book->counts[table]++;
    }
    free((void *)(uintptr_t)copy.ptr);
    return err;
}

static enum err view_del(struct rows *rows, uint8_t table, struct bytes key)
{
    struct view *view = view_of(rows);
    uint8_t raw_key[ROW_KEY_MAX];
    MDB_val k = {make_key(raw_key, view->partition, table, key), raw_key};
    TRY(forget(view, &k, table));
    return err_of(mdb_del(view->owner->txn, view->owner->dbi, &k, NULL));
}

static const struct rows_ops reader_ops = {view_get, view_ceil, view_below, NULL, NULL};
static const struct rows_ops writer_ops = {view_get, view_ceil, view_below, view_put, view_del};

static void owner_init(struct view_owner *owner, const struct state *state, const struct rows_ops *ops, MDB_dbi dbi)
{
    owner->dbi = dbi;
    owner->views = mem_zalloc(state->options.partitions * sizeof *owner->views);
    for (unsigned i = 0; i < state->options.partitions; i++) {
        owner->views[i] = (struct view){{ops}, owner, (uint16_t)i};
    }
}

static void owner_end(struct view_owner *owner)
{
    if (owner->cursor != NULL) {
        mdb_cursor_close(owner->cursor);
        owner->cursor = NULL;
    }
}

/* ---- environment ---- */

static enum err load_book(MDB_txn *txn, MDB_dbi dbi, unsigned partition, struct state_partition *out)
{
    uint8_t raw_key[ROW_KEY_MAX];
    MDB_val k = {make_key(raw_key, partition, ROW_TABLE_BOOK, BYTES_LIT(book_key)), raw_key}, v;
    struct bytes value;
    enum err err = err_of(mdb_get(txn, dbi, &k, &v));
    if (err == ERR_NOT_FOUND) {
        *out = (struct state_partition){0};
        return OK;
    }
    TRY(err);
    TRY(open_value(k, v, &value));
    if (value.len != sizeof *out) {
        return ERR_CORRUPT;
    }
    memcpy(out, value.ptr, sizeof *out);
    return OK;
}

static enum err load_books(struct state *state)
{
    MDB_txn *txn;
    TRY(err_of(mdb_txn_begin(state->env, NULL, state->options.read_only ? MDB_RDONLY : 0, &txn)));
    enum err err = err_of(mdb_dbi_open(txn, NULL, 0, &state->writer.dbi));
    for (unsigned i = 0; i < state->options.partitions && err == OK; i++) {
        err = load_book(txn, state->writer.dbi, i, &state->committed[i]);
    }
    mdb_txn_abort(txn);
    memcpy(state->books, state->committed, state->options.partitions * sizeof *state->books);
    return err;
}

enum err state_open(const struct state_options *options, struct state **out)
{
    struct state *state = mem_zalloc(sizeof *state);
    state->options = *options;
    state->books = mem_zalloc(options->partitions * sizeof *state->books);
    state->committed = mem_zalloc(options->partitions * sizeof *state->committed);
    state->edited = mem_zalloc(options->partitions * sizeof *state->edited);
    state->writer.state = state;
    if (!options->read_only) {
        (void)mkdir(options->dir, 0750);
    }
    enum err err = err_of(mdb_env_create(&state->env));
    if (err == OK) {
        err = err_of(mdb_env_set_mapsize(state->env, options->map_bytes));
    }
    if (err == OK) {
        err = err_of(mdb_env_set_maxreaders(state->env, MAX_READERS));
    }
    if (err == OK) {
        unsigned how = options->read_only ? MDB_RDONLY : MDB_NOSYNC;
        err = err_of(mdb_env_open(state->env, options->dir, how | MDB_NOTLS | MDB_NORDAHEAD, 0640));
    }
    if (err == OK) {
        err = load_books(state);
    }
    if (err != OK) {
        state_close(state);
        return err;
    }
    owner_init(&state->writer, state, &writer_ops, state->writer.dbi);
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
    free(state->books);
    free(state->committed);
    free(state->edited);
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
    return err_of(mdb_txn_begin(state->env, NULL, 0, &state->writer.txn));
}

struct rows *state_rows(struct state *state, unsigned partition)
{
    CHECK(partition < state->options.partitions && state->writer.txn != NULL);
    return &state->writer.views[partition].rows;
}

struct state_partition *state_partition_edit(struct state *state, unsigned partition)
{
    return edit(state, partition);
}

static void writer_end(struct state *state, bool committed)
{
    size_t size = state->options.partitions * sizeof *state->books;
    state->writer.txn = NULL;
    memset(state->edited, 0, state->options.partitions * sizeof *state->edited);
    if (committed) {
        memcpy(state->committed, state->books, size);
    } else {
        memcpy(state->books, state->committed, size);
    }
}

static enum err save_book(struct state *state, unsigned partition)
{
    uint8_t raw_key[ROW_KEY_MAX];
    MDB_val k = {make_key(raw_key, partition, ROW_TABLE_BOOK, BYTES_LIT(book_key)), raw_key};
    struct bytes value = bytes_of(&state->books[partition], sizeof state->books[partition]);
    uint64_t sum = row_sum(bytes_val(k), value);
    MDB_val v = {ROW_SUM_BYTES + value.len, NULL};
    TRY(err_of(mdb_put(state->writer.txn, state->writer.dbi, &k, &v, MDB_RESERVE)));
    memcpy(v.mv_data, &sum, ROW_SUM_BYTES);
    memcpy((uint8_t *)v.mv_data + ROW_SUM_BYTES, value.ptr, value.len);
    return OK;
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
    for (unsigned i = 0; i < state->options.partitions && err == OK; i++) {
        if (state->edited[i]) {
            err = save_book(state, i);
        }
    }
    if (err != OK) {
        state_abort(state);
        return err;
    }
    owner_end(&state->writer);
    err = err_of(mdb_txn_commit(state->writer.txn));
    if (err == ERR_IO && has_no_room(state)) {
        err = ERR_DISK_FULL; /* the pages did not fit; what was committed before is untouched */
    }
    writer_end(state, err == OK);
    return err;
}

void state_abort(struct state *state)
{
    owner_end(&state->writer);
    mdb_txn_abort(state->writer.txn);
    writer_end(state, false);
}

/* ---- readers ---- */

enum err state_reader_new(struct state *state, struct state_reader **out)
{
    struct state_reader *reader = mem_zalloc(sizeof *reader);
    reader->state = reader->owner.state = state;
    enum err err = err_of(mdb_txn_begin(state->env, NULL, MDB_RDONLY, &reader->owner.txn));
    if (err == OK) {
        err = err_of(mdb_cursor_open(reader->owner.txn, state->writer.dbi, &reader->owner.cursor));
    }
    if (err != OK) {
        if (reader->owner.txn != NULL) {
            mdb_txn_abort(reader->owner.txn);
        }
        free(reader);
        return err;
    }
    owner_init(&reader->owner, state, &reader_ops, state->writer.dbi);
    mdb_txn_reset(reader->owner.txn);
    *out = reader;
    return OK;
}

void state_reader_free(struct state_reader *reader)
{
    if (reader != NULL) {
        owner_end(&reader->owner);
        mdb_txn_abort(reader->owner.txn);
        free(reader->owner.views);
        free(reader);
    }
}

enum err state_reader_renew(struct state_reader *reader)
{
    state_reader_reset(reader);
    TRY(err_of(mdb_txn_renew(reader->owner.txn)));
    reader->open = true;
    return err_of(mdb_cursor_renew(reader->owner.txn, reader->owner.cursor));
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
    CHECK(reader->open);
    return load_book(reader->owner.txn, reader->owner.dbi, partition, out);
}

enum err state_reader_scan(struct state_reader *reader, unsigned partition,
                           enum err (*each)(void *ctx, uint8_t table, struct bytes key, struct bytes value), void *ctx)
{
    uint8_t prefix[ROW_PREFIX_BYTES], raw_key[ROW_KEY_MAX];
    (void)make_key(prefix, partition, 0, BYTES_NONE);
    MDB_val k = {make_key(raw_key, partition, ROW_TABLE_BOOK + 1, BYTES_NONE), raw_key}, v;
    CHECK(reader->open);
    int rc = mdb_cursor_get(reader->owner.cursor, &k, &v, MDB_SET_RANGE);
    while (rc == 0 && k.mv_size >= ROW_PREFIX_BYTES && memcmp(k.mv_data, prefix, 2) == 0) {
        struct bytes value, key = bytes_val(k);
        TRY(told(&reader->owner.views[partition], open_value(k, v, &value)));
        TRY(each(ctx, key.ptr[2], bytes_of(key.ptr + ROW_PREFIX_BYTES, key.len - ROW_PREFIX_BYTES), value));
        rc = mdb_cursor_get(reader->owner.cursor, &k, &v, MDB_NEXT);
    }
    return rc == MDB_NOTFOUND ? OK : err_of(rc);
}

void state_drop_dead_readers(struct state *state)
{
    int dead;
    (void)mdb_reader_check(state->env, &dead);
}

/* ---- durable points ----
 * LMDB's meta page n (n = transaction id & 1), after the page header of 16 bytes: magic (4),
 * version (4), address (8), map size (8), two database records (48 each), last page (8),
 * transaction id (8). LMDB 0.9, mdb.c "struct MDB_meta". */

enum { META_TXN_AT = 144 };

struct state_pin {
    struct state *state;
    MDB_txn *txn;
    uint64_t *applied, bytes;
    uint8_t meta[STATE_META_BYTES];
};

enum err state_pin(struct state *state, struct state_pin **out)
{
    struct state_pin *pin = mem_zalloc(sizeof *pin);
    MDB_envinfo info;
    MDB_stat stat;
    pin->state = state;
    enum err err = err_of(mdb_txn_begin(state->env, NULL, MDB_RDONLY, &pin->txn));
    if (err != OK) {
        free(pin);
        return err;
    }
    CHECK(mdb_env_info(state->env, &info) == 0 && mdb_env_stat(state->env, &stat) == 0);
    CHECK(stat.ms_psize == STATE_META_BYTES);
    size_t id = mdb_txn_id(pin->txn);
    int fd;
    CHECK(mdb_env_get_fd(state->env, &fd) == 0);
    ssize_t n = pread(fd, pin->meta, sizeof pin->meta, (off_t)((id & 1) * STATE_META_BYTES));
    pin->applied = mem_zalloc(state->options.partitions * sizeof *pin->applied);
    for (unsigned i = 0; i < state->options.partitions; i++) {
        pin->applied[i] = state->committed[i].applied_index;
    }
    uint64_t txn;
    if (n != STATE_META_BYTES || !tree_meta_txn(state_pin_meta(pin), &txn) || (id > 0 && txn != id)) {
        state_pin_free(pin);
        return ERR_IO;
    }
    *out = pin;
    return OK;
}

struct state *state_pin_state(const struct state_pin *pin)
{
    return pin->state;
}

void state_pin_free(struct state_pin *pin)
{
    if (pin != NULL) {
        mdb_txn_abort(pin->txn);
        free(pin->applied);
        free(pin);
    }
}

/* Writes what is dirty, piece by piece, each waited for. */
static enum err write_back(int fd)
{
    enum { PIECE_BYTES = 256 * 1024 };
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return ERR_IO;
    }
    for (off_t at = 0; at < st.st_size; at += PIECE_BYTES) {
        unsigned how = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
        if (sync_file_range(fd, at, PIECE_BYTES, how) != 0) {
            return ERR_IO;
        }
    }
    return OK;
}

/* A sync of a whole large file would hold up the log's own small syncs for as long as it takes. So most of
 * it is written back before, in passes: each covers what became dirty during the one before, and the
 * fdatasync at the end, which alone counts, finds little to do. */
enum err state_pin_sync(struct state_pin *pin)
{
    enum { PASSES = 3 };
    int fd;
    CHECK(mdb_env_get_fd(pin->state->env, &fd) == 0);
    for (int pass = 0; pass < PASSES; pass++) {
        TRY(write_back(fd));
    }
    struct stat st;
    if (fstat(fd, &st) != 0 || fdatasync(fd) != 0) { /* in this order: what is written meanwhile may not be on disk */
        return ERR_IO;
    }
    pin->bytes = (uint64_t)st.st_size;
    return OK;
}

struct bytes state_pin_meta(const struct state_pin *pin)
{
    return bytes_of(pin->meta, sizeof pin->meta);
}

const uint64_t *state_pin_applied(const struct state_pin *pin)
{
    return pin->applied;
}

uint64_t state_pin_bytes(const struct state_pin *pin)
{
    return pin->bytes;
}

static enum err write_meta(int fd, const uint8_t *meta, uint64_t slot, uint64_t txn)
{
    uint8_t page[STATE_META_BYTES];
    memcpy(page, meta, sizeof page);
    memcpy(page, &slot, sizeof slot); /* the page header starts with the page number */
    memcpy(page + META_TXN_AT, &txn, sizeof txn);
    return pwrite(fd, page, sizeof page, (off_t)(slot * STATE_META_BYTES)) == STATE_META_BYTES ? OK : ERR_IO;
}

static void data_path(const char *dir, const char *name, char *out)
{
    (void)snprintf(out, PATH_MAX, "%s/%s", dir, name);
}

enum err state_meta_restore(const char *dir, struct bytes meta)
{
    char path[PATH_MAX];
    uint64_t txn;
    if (!tree_meta_txn(meta, &txn)) {
        return ERR_CORRUPT;
    }
    data_path(dir, "data.mdb", path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? ERR_CORRUPT : ERR_IO;
    }
    enum err err = write_meta(fd, meta.ptr, txn & 1, txn);
    if (err == OK) {
        err = write_meta(fd, meta.ptr, (txn & 1) ^ 1, txn > 0 ? txn - 1 : 0);
    }
    if (err == OK && fdatasync(fd) != 0) {
        err = ERR_IO;
    }
    (void)close(fd);
    return err;
}

enum err state_erase(const char *dir)
{
    char path[PATH_MAX];
    data_path(dir, "data.mdb", path);
    if (unlink(path) != 0 && errno != ENOENT) {
        return ERR_IO;
    }
    data_path(dir, "lock.mdb", path);
    return unlink(path) == 0 || errno == ENOENT ? OK : ERR_IO;
}
