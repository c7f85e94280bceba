/* What the files of the state share: state.c (environment, transactions, readers), state_rows.c (the rows
 * of a partition), state_stage.c (slots and the stage), state_pin.c (durable points). For them alone. */
#ifndef BELFRY_STORAGE_STATE_INNER_H
#define BELFRY_STORAGE_STATE_INNER_H

#include <lmdb.h>
#include <stdatomic.h>

#include "storage/row.h"

/* One open view of a slot: shared by readers and the writer, told apart by its ops. */
struct view {
    struct rows rows;
    struct view_owner *owner;
    uint16_t partition;
    uint16_t prefix; /* of its keys: of the slot that is live, or of the stage */
};

struct view_owner {
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_dbi dbi;
    struct state *state;
    struct view *views; /* of the live slots, a partition; the writer's: then of the stages */
    uint8_t last_key[ROW_KEY_MAX];
    struct buf sealed; /* the value that is being written */
};

struct state {
    MDB_env *env;
    struct state_options options;
    struct view_owner writer;
    /* As the writer's views: of the live slots, then of the stages. */
    struct state_partition *books, *committed;
    bool *edited;
    uint8_t *slots, *committed_slots; /* as the row of ROW_SLOTS */
    bool switched;                    /* in this transaction */
    atomic_uint_fast64_t switch_txn;  /* the newest transaction that switched, set before it commits; 0: none */
};

struct state_reader {
    struct view_owner owner;
    bool open;
    struct state *state;
    uint64_t slots_of; /* its views are right as long as this is state->switch_txn */
};

enum err state_err_of(int rc);
/* Whoever meets damage tells it, whatever becomes of the error. */
enum err state_told(const struct view *view, enum err err);
size_t state_make_key(uint8_t *out, unsigned prefix, uint8_t table, struct bytes key);
/* A row with its checksum. */
enum err state_get_row(MDB_txn *txn, MDB_dbi dbi, unsigned prefix, uint8_t table, struct bytes key, struct bytes *out);
enum err state_put_row(MDB_txn *txn, MDB_dbi dbi, unsigned prefix, uint8_t table, struct bytes key, struct bytes value,
                       uint64_t *out_sum);
enum err state_open_value(MDB_val key, MDB_val raw, struct bytes *out, uint64_t *out_sum);

/* ---- state_rows.c ---- */
extern const struct rows_ops state_reader_ops, state_writer_ops;
void state_owner_init(struct view_owner *owner, const struct state *state, const struct rows_ops *ops, MDB_dbi dbi,
                      unsigned views);
void state_owner_end(struct view_owner *owner);
enum err state_cursor_of(struct view_owner *owner, MDB_cursor **out);
/* The bookkeeping of what the writer's view shows, to be changed. */
struct state_partition *state_edit(struct view *view);

/* ---- state_stage.c ---- */
/* Which slots are live, as the transaction sees it. */
enum err state_load_slots(MDB_txn *txn, MDB_dbi dbi, unsigned partitions, uint8_t *out);
/* Points the writer's views at the slots they are to show. */
void state_aim_writer(struct state *state);
/* Before and after a commit or abort: what readers go by, and what was switched is kept or taken back. */
void state_announce_switch(struct state *state);
void state_settle_switch(struct state *state, bool committed);
/* Points the views of a reader just renewed at the slots that are live in its snapshot. */
enum err state_aim_reader(struct state_reader *reader);

#endif
