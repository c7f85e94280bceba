/* The invariants of the queue's rows in a partition. */
#include "actors/queue/queue.h"
#include "actors/queue/walk.h"
#include "node/limits.h"

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

/* There are so many rows of that prefix. */
static enum err must_count(struct rows *rows, uint8_t table, struct queue_key prefix, uint64_t expected)
{
    uint64_t count;
    TRY(walk_count(rows, table, prefix, &count));
    MUST(count == expected);
    return OK;
}

/* ---- a topic's messages ---- */

struct counted {
    uint64_t retained, bytes, apart, moved, keyed, slips, last;
};

static enum err check_message(struct rows *rows, uint64_t tid, uint64_t number, struct bytes row,
                              const struct topic_state *state, struct counted *counted)
{
    struct message message;
    TRY(message_read(row, &message));
    bool moved = message.id != number, apart = moved || message.priority != PRIORITY_USUAL;
    counted->retained++;
    counted->bytes += row.len;
    counted->apart += apart;
    counted->moved += moved;
    counted->slips += message.destinations.len > 0;
    counted->keyed += message.key_hash != 0;
    MUST(number >= state->first && number < state->next && message.id < state->next);
    MUST(message.ordinal < state->available && (counted->retained == 1 || message.ordinal > counted->last));
    counted->last = message.ordinal;
    MUST(((message.flags & MESSAGE_APART) != 0) == apart);
    struct queue_key lane = queue_key(tid, ROW_LANE), moves = queue_key(tid, ROW_MOVED),
                     keyed = queue_key(tid, ROW_KEYED);
    key_u32(&lane, message.priority);
    key_u64_add(&lane, number);
    key_u64_add(&moves, message.id);
    key_u64_add(&keyed, message.key_hash);
    key_u64_add(&keyed, number);
    MUST(!apart || has_row(rows, TABLE_QUEUE, &lane));
    MUST(!moved || has_row(rows, TABLE_QUEUE, &moves));
    MUST(message.key_hash == 0 || has_row(rows, TABLE_QUEUE, &keyed));
    return OK;
}

static enum err check_lanes(struct rows *rows, uint64_t tid, const struct topic_state *state)
{
    struct walk walk = walk_of(rows, TABLE_QUEUE, queue_key(tid, ROW_LANE));
    struct bytes rest, value;
    uint64_t last = UINT64_MAX, lanes = 0;
    enum err err;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        lanes += key_read_u32(rest.ptr) != last;
        last = key_read_u32(rest.ptr);
    }
    MUST(lanes == state->lanes && lanes <= LIMIT_PRIORITIES);
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err check_messages(struct rows *rows, uint64_t tid, const struct topic_state *state)
{
    struct counted counted = {0};
    struct walk walk = walk_of(rows, TABLE_MESSAGE, queue_key(tid, ROW_STATE));
    struct bytes rest, value;
    enum err err;
    walk.key.len = walk.prefix = 8;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        TRY(check_message(rows, tid, key_read_u64(rest.ptr), value, state, &counted));
    }
    MUST(err == ERR_NOT_FOUND);
    MUST(counted.retained == state->retained && counted.bytes == state->bytes && counted.apart == state->apart);
    MUST(counted.slips <= state->slips);
    TRY(must_count(rows, TABLE_QUEUE, queue_key(tid, ROW_LANE), counted.apart));
    TRY(must_count(rows, TABLE_QUEUE, queue_key(tid, ROW_MOVED), counted.moved));
    TRY(must_count(rows, TABLE_QUEUE, queue_key(tid, ROW_KEYED), counted.keyed));
    TRY(must_count(rows, TABLE_QUEUE, queue_key(tid, ROW_DELAYED), state->delayed));
    TRY(must_count(rows, TABLE_QUEUE, queue_key(tid, ROW_DEDUP), state->dedups));
    TRY(must_count(rows, TABLE_QUEUE, queue_key(tid, ROW_DEDUP_TIME), state->dedups));
    TRY(must_count(rows, TABLE_QUEUE, queue_key(tid, ROW_GROUP_NAME), state->groups));
    struct queue_key retain = time_key(state->retain_at, TIME_RETAIN, tid);
    struct queue_key dedup = time_key(state->dedup_at, TIME_DEDUP, tid);
    MUST(state->retain_at == 0 ? state->retained == 0 : has_row(rows, TABLE_QUEUE_TIME, &retain));
    MUST((state->dedup_at == 0) == (state->dedups == 0));
    MUST(state->dedup_at == 0 || has_row(rows, TABLE_QUEUE_TIME, &dedup));
    return check_lanes(rows, tid, state);
}

/* What waits for its time, and what was published within the window, have their times. */
static enum err check_delays(struct rows *rows, uint64_t tid, const struct topic_state *state)
{
    struct walk walk = walk_of(rows, TABLE_QUEUE, queue_key(tid, ROW_DELAYED));
    struct dedup_row row;
    struct bytes rest, value;
    enum err err;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        struct message message;
        TRY(message_read(value, &message));
        struct queue_key time = time_key(message.available_at, TIME_DELAYED, tid);
        key_bytes_add(&time, rest);
        MUST(message.id == key_read_u64(rest.ptr) && message.id < state->next);
        MUST(has_row(rows, TABLE_QUEUE_TIME, &time));
    }
    MUST(err == ERR_NOT_FOUND);
    walk = walk_of(rows, TABLE_QUEUE, queue_key(tid, ROW_DEDUP_TIME));
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        struct queue_key dedup = queue_key(tid, ROW_DEDUP);
        key_bytes_add(&dedup, bytes_of(rest.ptr + 8, rest.len - 8));
        MUST(rows_get(rows, TABLE_QUEUE, key_of(&dedup), &value) == OK && value.len == sizeof row);
        memcpy(&row, value.ptr, sizeof row);
        MUST(row.at == (int64_t)key_read_u64(rest.ptr));
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

/* ---- a group ---- */

struct tally {
    uint64_t in_flight, ready, parked, waiting, dead, holds, consumers;
};

/* The message is kept and the group has taken it. */
static enum err must_be_taken(struct queue *queue, struct group *group, uint64_t number, struct message *out)
{
    bool taken;
    MUST(number >= group->state.start && queue_message(queue, number, out) == OK);
    TRY(group_has_taken(queue, group, number, out, &taken));
    MUST(taken);
    return OK;
}

/* Nobody else holds its key. */
static enum err must_hold(struct queue *queue, const struct group *group, uint64_t number, uint64_t key_hash,
                          struct tally *tally)
{
    struct queue_key hold = group_key(queue->tid, group->gid, ROW_HOLD);
    struct bytes holder;
    if (key_hash == 0) {
        return OK;
    }
    key_u64_add(&hold, key_hash);
    MUST(rows_get(queue->rows, TABLE_GROUP, key_of(&hold), &holder) == OK);
    MUST(bytes_eq(holder, bytes_of(&number, sizeof number)));
    tally->holds++;
    return OK;
}

static enum err check_place(struct queue *queue, struct group *group, uint64_t number, const struct pending *pending,
                            struct tally *tally)
{
    struct message message;
    struct queue_key key = group_key(queue->tid, group->gid, ROW_READY);
    uint8_t table = TABLE_GROUP;
    bool waits;
    TRY(must_be_taken(queue, group, number, &message));
    MUST(message.key_hash == pending->key_hash);
    if (pending->place == PENDING_PARKED) {
        key = group_key(queue->tid, group->gid, ROW_PARKED);
        key_u64_add(&key, pending->key_hash);
        tally->parked++;
        TRY(group_must_wait(queue, group, number, &message, &waits));
        MUST(waits); /* else nobody would ever free it */
    } else if (pending->place == PENDING_READY) {
        key_u32(&key, pending->priority);
        tally->ready++;
        TRY(must_hold(queue, group, number, pending->key_hash, tally));
    } else {
        MUST(pending->place == PENDING_WAITING);
        key = time_key(pending->until, TIME_WAIT, queue->tid);
        key_u32(&key, group->gid);
        table = TABLE_QUEUE_TIME;
        tally->waiting++;
        TRY(must_hold(queue, group, number, pending->key_hash, tally));
    }
    key_u64_add(&key, number);
    MUST(has_row(queue->rows, table, &key));
    return OK;
}

static enum err check_pending(struct queue *queue, struct group *group, struct tally *tally)
{
    struct walk walk = walk_of(queue->rows, TABLE_GROUP, group_key(queue->tid, group->gid, ROW_PENDING));
    struct bytes rest, value;
    struct pending pending;
    enum err err;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        MUST(value.len == sizeof pending);
        memcpy(&pending, value.ptr, sizeof pending);
        TRY(check_place(queue, group, key_read_u64(rest.ptr), &pending, tally));
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err check_delivery(struct queue *queue, struct group *group, const struct delivery *delivery,
                               struct tally *tally)
{
    struct queue_key lease = time_key(delivery->next, TIME_LEASE, queue->tid);
    int64_t next = INT64_MAX;
    key_u32(&lease, group->gid);
    key_u64_add(&lease, delivery->smallest);
    key_u64_add(&lease, delivery->id);
    MUST(has_row(queue->rows, TABLE_QUEUE_TIME, &lease));
    for (size_t i = 0; i < delivery->len; i++) {
        const struct delivery_entry *entry = &delivery->entries[i];
        struct pending pending;
        struct dead dead;
        MUST(entry->number >= delivery->smallest && entry->attempts > 0);
        TRY(must_hold(queue, group, entry->number, entry->key_hash, tally));
        MUST(group_pending(queue, group, entry->number, &pending) == ERR_NOT_FOUND);
        MUST(group_dead(queue, group, entry->number, &dead) == ERR_NOT_FOUND);
        next = entry->deadline < next ? entry->deadline : next;
    }
    MUST(delivery->len > 0 && next == delivery->next);
    tally->in_flight += delivery->len;
    tally->consumers += delivery->consumer != 0 ? delivery->len : 0;
    return OK;
}

static enum err check_deliveries(struct queue *queue, struct group *group, struct tally *tally)
{
    struct walk walk = walk_of(queue->rows, TABLE_GROUP, group_key(queue->tid, group->gid, ROW_DELIVERY));
    struct bytes rest, value;
    enum err err;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        struct delivery delivery;
        TRY(delivery_open(queue, group->gid, key_read_u64(rest.ptr), key_read_u64(rest.ptr + 8), &delivery));
        TRY(check_delivery(queue, group, &delivery, tally));
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err check_consumers(struct queue *queue, const struct group *group, uint64_t expected)
{
    struct walk walk = walk_of(queue->rows, TABLE_GROUP, group_key(queue->tid, group->gid, ROW_CONSUMER));
    struct bytes rest, value;
    uint64_t flying, sum = 0;
    enum err err;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        TRY(consumer_flying(queue->rows, queue->tid, group->gid, key_read_u64(rest.ptr), &flying));
        MUST(flying > 0);
        sum += flying;
    }
    MUST(sum == expected);
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err check_dead(struct queue *queue, struct group *group, struct tally *tally)
{
    struct walk walk = walk_of(queue->rows, TABLE_GROUP, group_key(queue->tid, group->gid, ROW_DEAD));
    uint64_t orders = 0;
    struct bytes rest, value;
    enum err err;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        struct message message;
        struct pending pending;
        uint64_t number = key_read_u64(rest.ptr);
        TRY(must_be_taken(queue, group, number, &message));
        MUST(value.len == sizeof(struct dead));
        MUST(group_pending(queue, group, number, &pending) == ERR_NOT_FOUND);
        tally->dead++;
        struct dead dead;
        memcpy(&dead, value.ptr, sizeof dead);
        struct queue_key buried = buried_key(queue, group, dead.order, number);
        MUST(dead.order == 0 || has_row(queue->rows, TABLE_GROUP, &buried));
        orders += dead.order != 0;
    }
    MUST(err == ERR_NOT_FOUND);
    return must_count(queue->rows, TABLE_GROUP, group_key(queue->tid, group->gid, ROW_BURIED), orders);
}

static enum err check_past(struct queue *queue, const struct group *group)
{
    struct walk walk = walk_of(queue->rows, TABLE_GROUP, group_key(queue->tid, group->gid, ROW_PAST));
    struct bytes rest, value;
    enum err err;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        struct message message;
        MUST(value.len == sizeof(struct past));
        MUST(queue_message(queue, key_read_u64(rest.ptr), &message) == OK && message.lease_s > 0);
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

/* How far it came is known of lanes that there are, and of no others. */
static enum err check_lanes_at(struct queue *queue, const struct group *group)
{
    struct walk walk = walk_of(queue->rows, TABLE_GROUP, group_key(queue->tid, group->gid, ROW_LANE_AT));
    struct bytes rest, value;
    enum err err;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        bool has;
        MUST(value.len == sizeof(uint64_t));
        TRY(queue_has_lane(queue, key_read_u32(rest.ptr), &has));
        MUST(has);
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

/* Of the kept messages, those that the group has not taken. */
static enum err count_untaken(struct queue *queue, struct group *group, uint64_t *out)
{
    struct walk walk = walk_of(queue->rows, TABLE_MESSAGE, queue_key(queue->tid, ROW_STATE));
    struct bytes rest, value;
    enum err err;
    walk.key.len = walk.prefix = 8;
    *out = 0;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        struct message message;
        bool taken;
        TRY(message_read(value, &message));
        TRY(group_has_taken(queue, group, key_read_u64(rest.ptr), &message, &taken));
        *out += !taken;
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err check_group(struct queue *queue, struct bytes name, uint32_t gid)
{
    struct tally tally = {0};
    uint64_t returned;
    struct group *group;
    uint64_t untaken;
    TRY(queue_group(queue, gid, &group));
    const struct group_state *g = &group->state;
    MUST(bytes_eq(group->name, name) && gid <= queue->state.next_gid);
    MUST(g->start >= 1 && g->start <= g->cursor && g->cursor <= queue->state.next);
    TRY(check_pending(queue, group, &tally));
    TRY(check_deliveries(queue, group, &tally));
    TRY(check_dead(queue, group, &tally));
    TRY(walk_count(queue->rows, TABLE_GROUP, group_key(queue->tid, group->gid, ROW_RETURNED), &returned));
    MUST(returned == group->state.returned);
    TRY(check_past(queue, group));
    TRY(check_lanes_at(queue, group));
    TRY(check_consumers(queue, group, tally.consumers));
    TRY(count_untaken(queue, group, &untaken));
    MUST(tally.ready == g->ready && tally.parked == g->parked && tally.waiting == g->waiting);
    MUST(tally.in_flight == g->in_flight && tally.dead == g->dead);
    MUST(g->passed <= queue->state.available && queue->state.available - g->passed == untaken);
    struct queue_key resume = time_key(g->paused_until, TIME_RESUME, queue->tid);
    key_u32(&resume, gid);
    MUST(g->paused_until == 0 || has_row(queue->rows, TABLE_QUEUE_TIME, &resume));
    TRY(must_count(queue->rows, TABLE_GROUP, group_key(queue->tid, gid, ROW_READY), g->ready));
    TRY(must_count(queue->rows, TABLE_GROUP, group_key(queue->tid, gid, ROW_PARKED), g->parked));
    return must_count(queue->rows, TABLE_GROUP, group_key(queue->tid, gid, ROW_HOLD), tally.holds);
}

/* ---- topics ---- */

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
    uint64_t tid;
    MUST(ordinal_find(rows, queue.state.ordinal, &tid) == OK && tid == queue.tid);
    TRY(check_messages(rows, queue.tid, &queue.state));
    TRY(check_delays(rows, queue.tid, &queue.state));
    struct walk walk = walk_of(rows, TABLE_QUEUE, queue_key(queue.tid, ROW_GROUP_NAME));
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        uint32_t gid;
        MUST(value.len == sizeof gid);
        memcpy(&gid, value.ptr, sizeof gid);
        TRY(check_group(&queue, rest, gid));
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

/* Each row leads to a topic that names the account; what is lost of them is not missed here. */
static enum err check_users(struct rows *rows, struct arena *arena)
{
    struct walk walk = walk_of(rows, TABLE_TOPIC_USER, (struct queue_key){.len = 0});
    struct bytes rest, value;
    enum err err;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        struct topic topic;
        struct caller caller = {.role = ROLE_USER};
        MUST(rest.len > sizeof caller.account);
        memcpy(caller.account.b, rest.ptr, sizeof caller.account.b);
        rest = arena_copy(arena, rest);
        MUST(topic_find(rows, bytes_of(rest.ptr + sizeof caller.account, rest.len - sizeof caller.account), &topic) ==
             OK);
        MUST(topic_allows(&topic, &caller, USE_PUBLISH) || topic_allows(&topic, &caller, USE_CONSUME));
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

/* ---- times: what one names is there, or all of it was deleted ---- */

static enum err check_group_time(struct queue *queue, int64_t at, enum queue_time type, struct bytes rest)
{
    struct group *group;
    struct delivery delivery;
    struct pending pending;
    enum err err = queue_group(queue, key_read_u32(rest.ptr), &group);
    if (err != OK) {
        return err == ERR_NOT_FOUND ? OK : err;
    }
    if (type == TIME_RESUME) {
        MUST(group->state.paused_until == at);
    } else if (type == TIME_LEASE) {
        TRY(delivery_open(queue, group->gid, key_read_u64(rest.ptr + 4), key_read_u64(rest.ptr + 12), &delivery));
        MUST(delivery.next == at);
    } else {
        TRY(group_pending(queue, group, key_read_u64(rest.ptr + 4), &pending));
        MUST(pending.place == PENDING_WAITING && pending.until == at);
    }
    return OK;
}

static enum err check_time(struct rows *rows, struct arena *arena, struct bytes key)
{
    struct turn turn = {.rows = rows, .arena = arena};
    struct queue queue;
    MUST(key.len >= 17);
    int64_t at = (int64_t)key_read_u64(key.ptr);
    struct bytes rest = bytes_of(key.ptr + 17, key.len - 17);
    enum err err = queue_open_tid(&queue, &turn, key_read_u64(key.ptr + 9));
    if (err != OK || key.ptr[8] == TIME_SWEEP) {
        return err == OK || err == ERR_NOT_FOUND ? OK : err;
    }
    switch ((enum queue_time)key.ptr[8]) {
    case TIME_LEASE:
    case TIME_WAIT:
    case TIME_RESUME: return check_group_time(&queue, at, (enum queue_time)key.ptr[8], rest);
    case TIME_RETAIN: MUST(queue.state.retain_at == at); return OK;
    case TIME_DEDUP: MUST(queue.state.dedup_at == at); return OK;
    case TIME_DELAYED: {
        struct queue_key delayed = queue_key(queue.tid, ROW_DELAYED);
        key_bytes_add(&delayed, rest);
        MUST(has_row(rows, TABLE_QUEUE, &delayed));
        return OK;
    }
    case TIME_SWEEP: break;
    }
    return ERR_CORRUPT;
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
    MUST(err == ERR_NOT_FOUND);
    TRY(check_users(rows, arena));
    walk = walk_of(rows, TABLE_QUEUE_TIME, (struct queue_key){.len = 0});
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        enum err bad = check_time(rows, arena, rest);
        TRY(bad == ERR_NOT_FOUND ? ERR_CORRUPT : bad);
    }
    return err == ERR_NOT_FOUND ? OK : err;
}
