#include "storage/state_inner.h"

#include <errno.h>
#include <stdlib.h>

enum err state_err_of(int rc)
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

size_t state_make_key(uint8_t *out, unsigned prefix, uint8_t table, struct bytes key)
{
    CHECK(key.len <= ROW_KEY_MAX - ROW_PREFIX_BYTES);
    out[0] = (uint8_t)(prefix >> 8);
    out[1] = (uint8_t)prefix;
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

enum err state_open_value(MDB_val key, MDB_val raw, struct bytes *out, uint64_t *out_sum)
{
    return row_open(bytes_val(key), bytes_val(raw), out, out_sum);
}

enum err state_get_row(MDB_txn *txn, MDB_dbi dbi, unsigned prefix, uint8_t table, struct bytes key, struct bytes *out)
{
    uint8_t raw_key[ROW_KEY_MAX];
    uint64_t sum;
    MDB_val k = {state_make_key(raw_key, prefix, table, key), raw_key}, v;
    enum err err = state_err_of(mdb_get(txn, dbi, &k, &v));
    return err == OK ? state_open_value(k, v, out, &sum) : err;
}

enum err state_put_row(MDB_txn *txn, MDB_dbi dbi, unsigned prefix, uint8_t table, struct bytes key, struct bytes value,
                       uint64_t *out_sum)
{
    uint8_t raw_key[ROW_KEY_MAX];
    MDB_val k = {state_make_key(raw_key, prefix, table, key), raw_key};
    *out_sum = row_sum(bytes_val(k), value);
    uint64_t stored = row_seal(bytes_val(k), *out_sum);
    MDB_val v = {ROW_SUM_BYTES + value.len, NULL};
    TRY(state_err_of(mdb_put(txn, dbi, &k, &v, MDB_RESERVE)));
    memcpy(v.mv_data, &stored, ROW_SUM_BYTES);
    if (value.len > 0) {
        memcpy((uint8_t *)v.mv_data + ROW_SUM_BYTES, value.ptr, value.len);
    }
    return OK;
}

static struct view *view_of(struct rows *rows)
{
    return container_of(rows, struct view, rows);
}

enum err state_told(const struct view *view, enum err err)
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
    if (key.len > ROW_KEY_MAX - ROW_PREFIX_BYTES) {
        return ERR_NOT_FOUND;
    }
    return state_told(view, state_get_row(view->owner->txn, view->owner->dbi, view->prefix, table, key, out));
}

enum err state_cursor_of(struct view_owner *owner, MDB_cursor **out)
{
    if (owner->cursor == NULL) {
        TRY(state_err_of(mdb_cursor_open(owner->txn, owner->dbi, &owner->cursor)));
    }
    *out = owner->cursor;
    return OK;
}

/* The row under the cursor, if it is one of this table. */
static enum err found(struct view *view, uint8_t table, MDB_val k, MDB_val v, struct bytes *out_key,
                      struct bytes *out_value)
{
    uint8_t prefix[ROW_PREFIX_BYTES];
    (void)state_make_key(prefix, view->prefix, table, BYTES_NONE);
    if (k.mv_size < ROW_PREFIX_BYTES || memcmp(k.mv_data, prefix, ROW_PREFIX_BYTES) != 0) {
        return ERR_NOT_FOUND;
    }
    memcpy(view->owner->last_key, k.mv_data, k.mv_size);
    *out_key = bytes_of(view->owner->last_key + ROW_PREFIX_BYTES, k.mv_size - ROW_PREFIX_BYTES);
    uint64_t sum;
    return state_told(view, state_open_value(k, v, out_value, &sum));
}

static enum err view_ceil(struct rows *rows, uint8_t table, struct bytes from, struct bytes *out_key,
                          struct bytes *out_value)
{
    struct view *view = view_of(rows);
    MDB_cursor *cursor;
    uint8_t raw_key[ROW_KEY_MAX];
    TRY(state_cursor_of(view->owner, &cursor));
    MDB_val k = {state_make_key(raw_key, view->prefix, table, from), raw_key}, v;
    TRY(state_told(view, state_err_of(mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE))));
    return found(view, table, k, v, out_key, out_value);
}

static enum err view_below(struct rows *rows, uint8_t table, struct bytes before, struct bytes *out_key,
                           struct bytes *out_value)
{
    struct view *view = view_of(rows);
    MDB_cursor *cursor;
    uint8_t raw_key[ROW_KEY_MAX];
    TRY(state_cursor_of(view->owner, &cursor));
    MDB_val k = {state_make_key(raw_key, view->prefix, table, before), raw_key}, v;
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    rc = mdb_cursor_get(cursor, &k, &v, rc == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
    TRY(state_told(view, state_err_of(rc)));
    return found(view, table, k, v, out_key, out_value);
}

struct state_partition *state_edit(struct view *view)
{
    struct state *state = view->owner->state;
    size_t at = (size_t)(view - view->owner->views);
    state->edited[at] = true;
    return &state->books[at];
}

/* Takes a row that is there out of the set hash. */
static enum err forget(struct view *view, MDB_val k, MDB_val v, uint8_t table)
{
    struct bytes old;
    uint64_t sum;
    TRY(state_told(view, state_open_value(k, v, &old, &sum)));
    struct state_partition *book = state_edit(view);
    book->set_hash -= sum;
    book->counts[table]--;
    return OK;
}

static void remember(struct view *view, uint64_t sum, uint8_t table)
{
    struct state_partition *book = state_edit(view);
    book->set_hash += sum;
    book->counts[table]++;
}

/* The value as it is stored. A copy: it may point into the map, where a put can move it. */
static MDB_val seal(struct view *view, MDB_val k, struct bytes value, uint64_t *out_sum)
{
    struct buf *sealed = &view->owner->sealed;
    *out_sum = row_sum(bytes_val(k), value);
    uint64_t stored = row_seal(bytes_val(k), *out_sum);
    sealed->len = 0;
    buf_add(sealed, &stored, ROW_SUM_BYTES);
    buf_add_bytes(sealed, value);
    return (MDB_val){sealed->len, sealed->ptr};
}

/* One search, whether the row is there or not. */
static enum err view_put(struct rows *rows, uint8_t table, struct bytes key, struct bytes value)
{
    struct view *view = view_of(rows);
    MDB_cursor *cursor;
    uint8_t raw_key[ROW_KEY_MAX];
    uint64_t sum;
    CHECK(table != ROW_TABLE_BOOK && table < STATE_TABLES);
    TRY(state_cursor_of(view->owner, &cursor));
    MDB_val k = {state_make_key(raw_key, view->prefix, table, key), raw_key};
    MDB_val v = seal(view, k, value, &sum), old = v;
    int rc = mdb_cursor_put(cursor, &k, &old, MDB_NOOVERWRITE);
    if (rc == MDB_KEYEXIST) {
        TRY(forget(view, k, old, table));
        rc = mdb_cursor_put(cursor, &k, &v, MDB_CURRENT);
    }
    TRY(state_told(view, state_err_of(rc)));
    remember(view, sum, table);
    return OK;
}

static enum err view_del(struct rows *rows, uint8_t table, struct bytes key)
{
    struct view *view = view_of(rows);
    MDB_cursor *cursor;
    uint8_t raw_key[ROW_KEY_MAX];
    TRY(state_cursor_of(view->owner, &cursor));
    MDB_val k = {state_make_key(raw_key, view->prefix, table, key), raw_key}, v;
    TRY(state_told(view, state_err_of(mdb_cursor_get(cursor, &k, &v, MDB_SET_KEY))));
    TRY(forget(view, k, v, table));
    return state_err_of(mdb_cursor_del(cursor, 0));
}

const struct rows_ops state_reader_ops = {view_get, view_ceil, view_below, NULL, NULL};
const struct rows_ops state_writer_ops = {view_get, view_ceil, view_below, view_put, view_del};

void state_owner_init(struct view_owner *owner, const struct state *state, const struct rows_ops *ops, MDB_dbi dbi,
                      unsigned views)
{
    owner->dbi = dbi;
    owner->views = mem_zalloc(views * sizeof *owner->views);
    for (unsigned i = 0; i < views; i++) {
        uint16_t partition = (uint16_t)(i % state->options.partitions);
        owner->views[i] = (struct view){{ops}, owner, partition, partition};
    }
}

void state_owner_end(struct view_owner *owner)
{
    if (owner->cursor != NULL) {
        mdb_cursor_close(owner->cursor);
        owner->cursor = NULL;
    }
}
