/* Applies log entries to the state: decodes the command, refuses or replays repeats, runs the
 * reducer, remembers the answer. Runs on the state writer's thread, inside its transaction, the
 * same on every replica; nothing here reads a clock or draws chance.
 *
 * The node's own tables, in every partition:
 *   1 configuration  the group's configuration in force, and its index
 *   2 requests       request id -> digest and answer, for LIMIT_REQUEST_WINDOW_MS of stamped time
 *   3 idempotency    account and key digest -> body digest and answer, for 24 hours
 *   4 idem_by_time   time | key: what expires next        5 idem_count  account -> keys kept */
#ifndef BELFRY_APPLY_H
#define BELFRY_APPLY_H

#include "actors/kind.h"
#include "storage/state_writer.h"

enum { TABLE_CONFIGURATION = 1, TABLE_REQUESTS = 2, TABLE_IDEM = 3, TABLE_IDEM_TIME = 4, TABLE_IDEM_COUNT = 5 };

/* What an entry came to; malloc'd, owned by whoever took it from the entry. */
struct outcome {
    enum err err; /* of the operation: OK or a domain error */
    struct reply reply;
    bool replayed; /* the answer of an earlier request with the same Idempotency-Key */
    uint8_t kind, op;
    int64_t stamped_ms;
    struct notice notices[NOTICES_MAX]; /* payloads in notice_arena */
    size_t notices_len;
    struct arena arena;
};
void outcome_free(struct outcome *outcome);

/* struct state_writer_options.apply and .drop; ctx is the number of data partitions. */
struct apply_context {
    unsigned partitions;
};
enum err apply_entry(void *ctx, struct state *state, uint16_t group, struct apply_entry *entry);
void apply_drop(void *ctx, struct apply_entry *entry);

/* The configuration row. */
enum err apply_put_configuration(struct rows *rows, uint64_t index, struct bytes encoded) MUST_USE;
enum err apply_configuration(struct rows *rows, struct bytes *out_encoded, uint64_t *out_index) MUST_USE;

#endif
