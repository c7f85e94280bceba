/* The invariants of the queue's rows in a partition, and how they are restored when rows were lost. */
#include "actors/queue/queue.h"
#include "node/limits.h"

/* ---- walking ---- */

struct walk {
    struct rows *rows;
    struct queue_key key;
    size_t prefix;
    uint8_t table;
};

static struct walk walk_of(struct rows *rows, uint8_t table, struct queue_key key)
{
    return (struct walk){rows, key, key.len, table};
}

/* The next row of the prefix. ERR_NOT_FOUND at the end. */
static enum err walk_next(struct walk *walk, struct bytes *out_rest, struct bytes *out_value)
{
    struct bytes found;
    TRY(queue_ceil(walk->rows, walk->table, &walk->key, walk->prefix, &found, out_value));
    if (found.len >= sizeof walk->key.b) {
        return ERR_CORRUPT;
    }
    walk->key.len = 0;
    key_bytes_add(&walk->key, found);
    *out_rest = bytes_of(walk->key.b + walk->prefix, walk->key.len - walk->prefix);
    key_bytes_add(&walk->key, bytes_of("", 1));
    return OK;
}

static enum err count_rows(struct rows *rows, uint8_t table, struct queue_key key, uint64_t *out)
{
    struct walk walk = walk_of(rows, table, key);
    struct bytes rest, value;
    enum err err;
    for (*out = 0; (err = walk_next(&walk, &rest, &value)) == OK; (*out)++) {
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static bool has_row(struct rows *rows, uint8_t table, const struct queue_key *key)
{
    struct bytes value;
    return rows_get(rows, table, key_of(key), &value) == OK;
}

#define MUST(condition)         \
    do {                        \
        if (!(condition)) {     \
            return ERR_CORRUPT; \
        }                       \
    } while (0)

/* ---- a topic's messages ---- */

struct counted {
    uint64_t retained, bytes, apart, lanes, delayed, dedups, dedup_times, groups;
};

static enum err check_message(struct rows *rows, uint64_t tid, uint64_t number, struct bytes row,
                              const struct topic_state *state, struct counted *counted)
{
    struct message message;
    TRY(message_read(row, &message));
    counted->retained++;
    counted->bytes += row.len;
    MUST(number >= state->first && number < state->next && message.ordinal < state->available);
    MUST(((message.flags & MESSAGE_APART) != 0) == (message.id != number || message.priority != PRIORITY_USUAL));
    if ((message.flags & MESSAGE_APART) != 0) {
        struct queue_key lane = queue_key(tid, ROW_LANE);
        key_u32(&lane, message.priority);
        key_u64_add(&lane, number);
        counted->apart++;
        MUST(has_row(rows, TABLE_QUEUE, &lane));
    }
    if (message.id != number) {
        struct queue_key moved = queue_key(tid, ROW_MOVED);
        key_u64_add(&moved, message.id);
        MUST(has_row(rows, TABLE_QUEUE, &moved));
    }
    if (message.key_hash != 0) {
        struct queue_key keyed = queue_key(tid, ROW_KEYED);
        key_u64_add(&keyed, message.key_hash);
        key_u64_add(&keyed, number);
        MUST(has_row(rows, TABLE_QUEUE, &keyed));
    }
    return OK;
}

static enum err check_messages(struct rows *rows, uint64_t tid, const struct topic_state *state)
{
    struct counted counted = {0};
    struct queue_key all = queue_key(tid, ROW_STATE), lane = queue_key(tid, ROW_LANE);
    struct bytes rest, value;
    uint64_t last_lane = UINT64_MAX, lanes = 0;
    enum err err;
    all.len = 8;
    struct walk walk = walk_of(rows, TABLE_MESSAGE, all);
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        TRY(check_message(rows, tid, key_read_u64(rest.ptr), value, state, &counted));
    }
    MUST(err == ERR_NOT_FOUND);
    walk = walk_of(rows, TABLE_QUEUE, lane);
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        lanes++;
        counted.lanes += key_read_u32(rest.ptr) != last_lane;
        last_lane = key_read_u32(rest.ptr);
    }
    MUST(err == ERR_NOT_FOUND);
    TRY(count_rows(rows, TABLE_QUEUE, queue_key(tid, ROW_DELAYED), &counted.delayed));
    TRY(count_rows(rows, TABLE_QUEUE, queue_key(tid, ROW_DEDUP), &counted.dedups));
    TRY(count_rows(rows, TABLE_QUEUE, queue_key(tid, ROW_DEDUP_TIME), &counted.dedup_times));
    TRY(count_rows(rows, TABLE_QUEUE, queue_key(tid, ROW_GROUP_NAME), &counted.groups));
    MUST(counted.retained == state->retained && counted.bytes == state->bytes && counted.apart == state->apart);
    MUST(lanes == state->apart && counted.lanes == state->lanes && counted.delayed == state->delayed);
    MUST(counted.dedups == state->dedups && counted.dedup_times == state->dedups && counted.groups == state->groups);
    struct queue_key retain = time_key(state->retain_at, TIME_RETAIN, tid);
    MUST(state->retain_at == 0 ? state->retained == 0 : has_row(rows, TABLE_QUEUE_TIME, &retain));
    return OK;
}

/* ---- a group ---- */

struct tally {
    uint64_t in_flight, ready, parked, waiting, dead, untaken;
};

static enum err check_pending(struct rows *rows, uint64_t tid, uint32_t gid, struct tally *tally)
{
    struct walk walk = walk_of(rows, TABLE_GROUP, group_key(tid, gid, ROW_PENDING));
    struct bytes rest, value;
    struct pending pending;
    enum err err;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        uint64_t number = key_read_u64(rest.ptr);
        MUST(value.len == sizeof pending);
        memcpy(&pending, value.ptr, sizeof pending);
        struct queue_key key = group_key(tid, gid, pending.place == PENDING_READY ? ROW_READY : ROW_PARKED);
        uint8_t table = TABLE_GROUP;
        if (pending.place == PENDING_READY) {
            key_u32(&key, pending.priority);
            tally->ready++;
        } else if (pending.place == PENDING_PARKED) {
            key_u64_add(&key, pending.key_hash);
            tally->parked++;
        } else {
            MUST(pending.place == PENDING_WAITING);
            key = time_key(pending.until, TIME_WAIT, tid);
            key_u32(&key, gid);
            table = TABLE_QUEUE_TIME;
            tally->waiting++;
        }
        key_u64_add(&key, number);
        MUST(has_row(rows, table, &key));
        if (pending.key_hash != 0) {
            struct queue_key hold = group_key(tid, gid, ROW_HOLD);
            struct bytes holder;
            key_u64_add(&hold, pending.key_hash);
            enum err held = rows_get(rows, TABLE_GROUP, key_of(&hold), &holder);
            bool holds = held == OK && holder.len == 8 && memcmp(holder.ptr, &number, 8) == 0;
            MUST(holds == (pending.place != PENDING_PARKED));
        }
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err check_deliveries(struct rows *rows, struct arena *arena, uint64_t tid, uint32_t gid,
                                 struct tally *tally)
{
    struct walk walk = walk_of(rows, TABLE_GROUP, group_key(tid, gid, ROW_DELIVERY));
    struct bytes rest, value;
    enum err err;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        struct delivery delivery;
        uint64_t smallest = key_read_u64(rest.ptr), id = key_read_u64(rest.ptr + 8);
        TRY(delivery_find(rows, arena, tid, gid, smallest, id, &delivery));
        struct queue_key lease = time_key(delivery.next, TIME_LEASE, tid);
        key_u32(&lease, gid);
        key_u64_add(&lease, smallest);
        key_u64_add(&lease, id);
        MUST(has_row(rows, TABLE_QUEUE_TIME, &lease));
        for (size_t i = 0; i < delivery.len; i++) {
            MUST(delivery.entries[i].number >= smallest && delivery.entries[i].deadline >= delivery.next);
        }
        tally->in_flight += delivery.len;
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

/* Of the kept messages, those that the group has not taken. */
static enum err count_untaken(struct queue *queue, struct group *group, uint64_t *out)
{
    struct queue_key all = queue_key(queue->tid, ROW_STATE);
    struct bytes rest, value;
    enum err err;
    *out = 0;
    all.len = 8;
    struct walk walk = walk_of(queue->rows, TABLE_MESSAGE, all);
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        struct message message;
        bool taken;
        uint64_t number = key_read_u64(rest.ptr);
        TRY(message_read(value, &message));
        TRY(group_has_taken(queue, group, number, &message, &taken));
        *out += !taken && number >= group->state.start;
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err check_group(struct queue *queue, struct arena *arena, uint32_t gid)
{
    struct tally tally = {0};
    struct group *group;
    TRY(queue_group(queue, gid, &group));
    const struct group_state *g = &group->state;
    TRY(check_pending(queue->rows, queue->tid, gid, &tally));
    TRY(check_deliveries(queue->rows, arena, queue->tid, gid, &tally));
    TRY(count_rows(queue->rows, TABLE_GROUP, group_key(queue->tid, gid, ROW_DEAD), &tally.dead));
    TRY(count_untaken(queue, group, &tally.untaken));
    MUST(tally.ready == g->ready && tally.parked == g->parked && tally.waiting == g->waiting);
    MUST(tally.in_flight == g->in_flight && tally.dead == g->dead);
    MUST(g->passed <= queue->state.available);
    /* In a topic that erases what is acknowledged, a sought group counts what others have erased. */
    uint64_t left = queue->state.available - g->passed;
    MUST(left == tally.untaken);
    uint64_t rows;
    TRY(count_rows(queue->rows, TABLE_GROUP, group_key(queue->tid, gid, ROW_READY), &rows));
    MUST(rows == g->ready);
    TRY(count_rows(queue->rows, TABLE_GROUP, group_key(queue->tid, gid, ROW_PARKED), &rows));
    MUST(rows == g->parked);
    return OK;
}

static enum err check_topic(struct rows *rows, struct arena *arena, struct bytes name, struct bytes packed)
{
    struct turn turn = {.rows = rows, .arena = arena};
    struct queue queue;
    struct topic topic = {0};
    struct bytes rest, value;
    enum err err;
    TRY(field_unpack(topic_fields, packed, &topic));
    MUST(bytes_eq(topic.name, name));
    TRY(queue_open(&queue, &turn, name));
    MUST(bytes_eq(queue.name, name));
    TRY(check_messages(rows, queue.tid, &queue.state));
    struct walk walk = walk_of(rows, TABLE_QUEUE, queue_key(queue.tid, ROW_GROUP_NAME));
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        uint32_t gid;
        MUST(value.len == sizeof gid);
        memcpy(&gid, value.ptr, sizeof gid);
        TRY(check_group(&queue, arena, gid));
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

enum err queue_check(struct rows *rows, struct arena *arena)
{
    struct walk walk = walk_of(rows, TABLE_TOPIC, (struct queue_key){.len = 0});
    struct bytes rest, value;
    enum err err;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        enum err bad = check_topic(rows, arena, arena_copy(arena, rest), arena_copy(arena, value));
        TRY(bad == ERR_NOT_FOUND ? ERR_CORRUPT : bad);
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

enum err queue_mend(struct rows *rows)
{
    (void)rows;
    return OK;
}
