#include "storage/state_inner.h"

static const char slots_key[] = "slots";

enum err state_load_slots(MDB_txn *txn, MDB_dbi dbi, unsigned partitions, uint8_t *out)
{
    struct bytes value;
    size_t size = row_slots_bytes(partitions);
    enum err err = state_get_row(txn, dbi, ROW_SLOTS, ROW_TABLE_BOOK, BYTES_LIT(slots_key), &value);
    memset(out, 0, size);
    if (err == ERR_NOT_FOUND) {
        return OK; /* nothing was ever installed */
    }
    TRY(err);
    if (value.len != size) {
        return ERR_CORRUPT;
    }
    memcpy(out, value.ptr, size);
    return OK;
}

/* ---- the writer ---- */

void state_aim_writer(struct state *state)
{
    for (unsigned p = 0; p < state->options.partitions; p++) {
        unsigned live = row_live_prefix(state->slots, p);
        state->writer.views[p].prefix = (uint16_t)live;
        state->writer.views[state->options.partitions + p].prefix = (uint16_t)(live ^ ROW_SLOT);
    }
}

static struct view *stage_of(struct state *state, unsigned partition)
{
    CHECK(partition < state->options.partitions && state->writer.txn != NULL);
    return &state->writer.views[state->options.partitions + partition];
}

struct rows *state_stage_rows(struct state *state, unsigned partition)
{
    return &stage_of(state, partition)->rows;
}

/* Whatever the row holds, also damage. Without its sum the set hash is wrong until all is erased. */
static enum err erase_row(MDB_cursor *cursor, MDB_val key, MDB_val value, struct state_partition *book)
{
    uint64_t sum;
    struct bytes ignored;
    uint8_t table = ((const uint8_t *)key.mv_data)[2];
    if (state_open_value(key, value, &ignored, &sum) == OK && table < STATE_TABLES) {
        book->set_hash -= sum;
        book->counts[table]--;
    }
    return state_err_of(mdb_cursor_del(cursor, 0));
}

enum err state_stage_clear(struct state *state, unsigned partition, size_t limit, bool *out_done)
{
    struct view *stage = stage_of(state, partition);
    struct state_partition *book = state_edit(stage);
    uint8_t first[ROW_KEY_MAX];
    MDB_cursor *cursor;
    *out_done = false;
    TRY(state_cursor_of(&state->writer, &cursor));
    for (size_t i = 0; i <= limit; i++) {
        MDB_val k = {state_make_key(first, stage->prefix, ROW_TABLE_BOOK + 1, BYTES_NONE), first}, v;
        enum err err = state_err_of(mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE));
        bool more =
            err == OK && k.mv_size >= ROW_PREFIX_BYTES && row_prefix(bytes_of(k.mv_data, k.mv_size)) == stage->prefix;
        if (err == ERR_NOT_FOUND || (err == OK && !more)) {
            *book = (struct state_partition){0}; /* and so its row goes */
            *out_done = true;
            return OK;
        }
        TRY(state_told(stage, err));
        TRY(i == limit ? OK : erase_row(cursor, k, v, book));
    }
    return OK;
}

/* What is needed of a slot that is not live: how much there is to be cleared. */
static struct state_partition left_over(const struct state_partition *book)
{
    struct state_partition left = {.set_hash = book->set_hash};
    memcpy(left.counts, book->counts, sizeof left.counts);
    return left;
}

enum err state_stage_check(struct state *state, unsigned partition, const struct state_partition *book)
{
    const struct state_partition *staged = &state->books[state->options.partitions + partition];
    bool same = memcmp(staged->counts, book->counts, sizeof book->counts) == 0 && staged->set_hash == book->set_hash;
    return same ? OK : ERR_CORRUPT;
}

enum err state_stage_switch(struct state *state, unsigned partition, const struct state_partition *book)
{
    struct view *live = &state->writer.views[partition], *stage = stage_of(state, partition);
    unsigned partitions = state->options.partitions;
    uint64_t sum;
    TRY(state_stage_check(state, partition, book));
    state->slots[partition / 8] ^= (uint8_t)(1U << partition % 8);
    state->switched = true;
    state_aim_writer(state);
    *state_edit(stage) = left_over(&state->books[partition]);
    *state_edit(live) = *book;
    state_edit(live)->installed_index = book->applied_index;
    return state_put_row(state->writer.txn, state->writer.dbi, ROW_SLOTS, ROW_TABLE_BOOK, BYTES_LIT(slots_key),
                         bytes_of(state->slots, row_slots_bytes(partitions)), &sum);
}

/* ---- who reads beside the writer ----
 * A reader looks at the row of the slots only when a switch was announced since it last looked. It loads the
 * announcement after it began its snapshot, and the writer announces before it commits: so no snapshot shows
 * a switch whose announcement is not seen. Announced and not in the snapshot (yet): looked at each time. */

void state_announce_switch(struct state *state)
{
    if (state->switched) {
        atomic_store_explicit(&state->switch_txn, mdb_txn_id(state->writer.txn), memory_order_relaxed);
        atomic_thread_fence(memory_order_release); /* LMDB publishes the transaction by a plain store */
    }
}

void state_settle_switch(struct state *state, bool committed)
{
    size_t size = row_slots_bytes(state->options.partitions);
    if (!state->switched) {
        return;
    }
    if (committed) {
        memcpy(state->committed_slots, state->slots, size);
    } else {
        memcpy(state->slots, state->committed_slots, size);
    }
    state->switched = false;
    state_aim_writer(state);
}

/* The whole file is damaged: every partition is told of. */
static enum err told_of_all(struct state_reader *reader, enum err err)
{
    for (unsigned p = 0; p < reader->state->options.partitions && err == ERR_CORRUPT; p++) {
        (void)state_told(&reader->owner.views[p], err);
    }
    return err;
}

enum err state_aim_reader(struct state_reader *reader)
{
    struct state *state = reader->state;
    atomic_thread_fence(memory_order_acquire); /* as in state_announce_switch */
    uint64_t announced = atomic_load_explicit(&state->switch_txn, memory_order_relaxed);
    /* In a process that only reads, nothing is announced. */
    if (announced == reader->slots_of && !state->options.read_only) {
        return OK;
    }
    unsigned partitions = state->options.partitions;
    uint8_t slots[ROW_SLOT / 8];
    TRY(told_of_all(reader, state_load_slots(reader->owner.txn, reader->owner.dbi, partitions, slots)));
    for (unsigned p = 0; p < partitions; p++) {
        reader->owner.views[p].prefix = (uint16_t)row_live_prefix(slots, p);
    }
    reader->slots_of = mdb_txn_id(reader->owner.txn) >= announced ? announced : UINT64_MAX;
    return OK;
}
