/* Rows of a partition were lost to damage: the rest is made to fit together again. Settings, messages, what is delayed,
 * groups, deliveries, pending messages and dead letters stand for themselves; everything else is made anew from them.
 * What an index still knows of a lost row is used first: so that messages are delivered once more, not never. */
#include <stdlib.h>

#include "actors/queue/queue.h"
#include "actors/queue/walk.h"
#include "node/limits.h"

/* Deliveries that were lost: what they held is at or behind these numbers. */
struct lost_delivery {
    uint64_t tid, smallest;
    uint32_t gid;
};

/* The topic at hand. */
struct mend {
    struct rows *rows;
    struct arena *arena;
    struct buf lost; /* struct lost_delivery, one behind another */
    struct queue *queue;
    struct group *group;
    struct buf flying; /* of the group: numbers in flight, sorted */
};

static struct queue_key all_of(uint64_t tid)
{
    struct queue_key key = queue_key(tid, ROW_STATE);
    key.len = 8;
    return key;
}

static struct queue_key all_of_group(uint64_t tid, uint32_t gid)
{
    struct queue_key key = all_of(tid);
    key_u32(&key, gid);
    return key;
}

static const struct queue_key everything = {.len = 0};

static enum err end_of(enum err err)
{
    return err == ERR_NOT_FOUND ? OK : err;
}

/* ---- what belongs to nothing is erased ---- */

/* Every topic has its numbers, if only to be counted anew. */
static enum err mend_states(struct mend *mend)
{
    struct walk walk = walk_of(mend->rows, TABLE_TOPIC, everything);
    struct bytes rest, value;
    enum err err;
    TRY(table_erase(mend->rows, TABLE_TOPIC_USER));
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        const struct topic_state none = {.next = 1, .first = 1};
        struct topic topic = {0};
        struct topic_state state = none;
        struct bytes name;
        TRY(field_unpack(topic_fields, arena_copy(mend->arena, value), &topic));
        TRY(topic_index_users(mend->rows, &topic, true));
        err = topic_state_find(mend->rows, (uint64_t)topic.tid, &state, &name);
        if (err == ERR_NOT_FOUND) {
            err = topic_state_put(mend->rows, (uint64_t)topic.tid, &none, topic.name);
        }
        TRY(err);
        TRY(state.ordinal == 0 ? OK : ordinal_put(mend->rows, state.ordinal, (uint64_t)topic.tid));
    }
    return end_of(err);
}

static enum err is_live(struct mend *mend, uint64_t tid, bool *out)
{
    struct topic_state state;
    struct bytes name;
    struct topic topic;
    enum err err = topic_state_find(mend->rows, tid, &state, &name);
    if (err == OK) {
        err = topic_find(mend->rows, arena_copy(mend->arena, name), &topic);
    }
    *out = err == OK && (uint64_t)topic.tid == tid;
    return end_of(err);
}

/* What topics that are gone have left in a table. */
static enum err erase_orphans(struct mend *mend, uint8_t table)
{
    struct queue_key from = everything;
    struct bytes found, value;
    enum err err;
    while ((err = queue_ceil(mend->rows, table, &from, 0, &found, &value)) == OK) {
        uint64_t tid = key_read_u64(found.ptr);
        bool live = tid == 0; /* of all topics */
        TRY(live ? OK : is_live(mend, tid, &live));
        TRY(live ? OK : walk_erase(mend->rows, table, all_of(tid)));
        from = all_of(tid + 1);
        arena_reset(mend->arena);
    }
    return end_of(err);
}

/* The same of groups that are gone. Whoever receives next in one of that name begins with the oldest message. */
static enum err erase_group_orphans(struct mend *mend)
{
    struct queue_key from = everything;
    struct bytes found, value;
    enum err err;
    while ((err = queue_ceil(mend->rows, TABLE_GROUP, &from, 0, &found, &value)) == OK) {
        uint64_t tid = key_read_u64(found.ptr);
        uint32_t gid = key_read_u32(found.ptr + 8);
        struct group_state state;
        struct bytes name;
        enum err is = group_find(mend->rows, tid, gid, &state, &name);
        TRY(end_of(is));
        TRY(is == OK ? OK : walk_erase(mend->rows, TABLE_GROUP, all_of_group(tid, gid)));
        from = gid == UINT32_MAX ? all_of(tid + 1) : all_of_group(tid, gid + 1);
    }
    return end_of(err);
}

/* ---- what times know of lost rows, before they are made anew ---- */

static enum err note_lease(struct mend *mend, uint64_t tid, struct bytes rest)
{
    struct lost_delivery lost = {.tid = tid, .gid = key_read_u32(rest.ptr), .smallest = key_read_u64(rest.ptr + 4)};
    struct queue_key key = group_key(tid, lost.gid, ROW_DELIVERY);
    struct bytes value;
    key_bytes_add(&key, bytes_of(rest.ptr + 4, rest.len - 4));
    enum err err = rows_get(mend->rows, TABLE_GROUP, key_of(&key), &value);
    if (err == ERR_NOT_FOUND) {
        buf_add(&mend->lost, &lost, sizeof lost);
    }
    return end_of(err);
}

static bool has_row(struct rows *rows, uint8_t table, const struct queue_key *key)
{
    struct bytes value;
    return rows_get(rows, table, key_of(key), &value) == OK;
}

/* A message that was waiting, or ready, or parked, as an index says. How often it was delivered is not known. */
static enum err repend(struct mend *mend, uint64_t tid, uint32_t gid, uint64_t number, struct pending pending)
{
    struct queue_key key = group_key(tid, gid, ROW_PENDING), dead = group_key(tid, gid, ROW_DEAD);
    struct queue_key of_message = message_key(tid, number);
    struct message message;
    struct bytes row;
    key_u64_add(&key, number);
    key_u64_add(&dead, number);
    enum err err = rows_get(mend->rows, TABLE_MESSAGE, key_of(&of_message), &row);
    if (err != OK || has_row(mend->rows, TABLE_GROUP, &key) || has_row(mend->rows, TABLE_GROUP, &dead)) {
        return end_of(err);
    }
    TRY(message_read(row, &message));
    pending.key_hash = message.key_hash;
    pending.priority = pending.priority == 0 ? message.priority : pending.priority;
    return rows_put(mend->rows, TABLE_GROUP, key_of(&key), bytes_of(&pending, sizeof pending));
}

static enum err note_wait(struct mend *mend, uint64_t tid, int64_t until, struct bytes rest)
{
    const struct pending pending = {.place = PENDING_WAITING, .until = until};
    uint32_t gid = key_read_u32(rest.ptr);
    struct queue_key group = group_key(tid, gid, ROW_GROUP);
    return has_row(mend->rows, TABLE_GROUP, &group) ? repend(mend, tid, gid, key_read_u64(rest.ptr + 4), pending) : OK;
}

static enum err note_times(struct mend *mend)
{
    struct walk walk = walk_of(mend->rows, TABLE_QUEUE_TIME, everything);
    struct bytes key, value;
    enum err err;
    while ((err = walk_next(&walk, &key, &value)) == OK) {
        uint64_t tid = key_read_u64(key.ptr + 9);
        struct bytes rest = bytes_of(key.ptr + 17, key.len - 17);
        if (key.ptr[8] == TIME_LEASE) {
            TRY(note_lease(mend, tid, rest));
        } else if (key.ptr[8] == TIME_WAIT) {
            TRY(note_wait(mend, tid, (int64_t)key_read_u64(key.ptr), rest));
        }
    }
    TRY(end_of(err));
    return table_erase(mend->rows, TABLE_QUEUE_TIME);
}

/* ---- a topic's messages ---- */

static void next_is_behind(struct queue *queue, uint64_t number)
{
    queue->state.next = number >= queue->state.next ? number + 1 : queue->state.next;
}

static enum err mend_messages(struct mend *mend)
{
    struct queue *queue = mend->queue;
    struct topic_state *state = &queue->state;
    struct walk walk = walk_of(mend->rows, TABLE_MESSAGE, all_of(queue->tid));
    struct bytes rest, value;
    uint64_t before = state->retained, slips = 0;
    int64_t oldest_at = 0;
    enum err err;
    state->retained = state->bytes = state->apart = state->lanes = 0;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        struct message message;
        uint64_t number = key_read_u64(rest.ptr);
        TRY(message_read(value, &message));
        oldest_at = state->retained++ == 0 ? message.available_at : oldest_at;
        state->bytes += value.len;
        slips += message.destinations.len > 0;
        state->available = message.ordinal >= state->available ? message.ordinal + 1 : state->available;
        next_is_behind(queue, number > message.id ? number : message.id);
        TRY(queue_index(queue, number, &message));
    }
    TRY(end_of(err));
    state->slips = state->slips < slips ? slips : state->slips;
    state->available = state->available < state->retained ? state->retained : state->available;
    state->holes = state->retained != before ? UINT64_MAX : state->holes; /* the next number, when that is known */
    state->retain_at = 0;
    return state->retained == 0 ? OK : queue_retain_at(queue, oldest_at + queue->topic.retention_ms);
}

static enum err mend_delays(struct mend *mend)
{
    struct queue *queue = mend->queue;
    struct walk walk = walk_of(mend->rows, TABLE_QUEUE, queue_key(queue->tid, ROW_DELAYED));
    struct bytes rest, value;
    enum err err;
    queue->state.delayed = 0;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        struct message message;
        TRY(message_read(value, &message));
        struct queue_key time = time_key(message.available_at, TIME_DELAYED, queue->tid);
        key_u64_add(&time, message.id);
        next_is_behind(queue, message.id);
        queue->state.delayed++;
        TRY(rows_put(mend->rows, TABLE_QUEUE_TIME, key_of(&time), BYTES_NONE));
    }
    return end_of(err);
}

static enum err mend_dedups(struct mend *mend)
{
    struct queue *queue = mend->queue;
    struct walk walk = walk_of(mend->rows, TABLE_QUEUE, queue_key(queue->tid, ROW_DEDUP));
    struct bytes rest, value;
    int64_t first = INT64_MAX;
    enum err err;
    queue->state.dedups = 0;
    queue->state.dedup_at = 0;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        struct queue_key time = queue_key(queue->tid, ROW_DEDUP_TIME);
        struct dedup_row row;
        TRY(value.len == sizeof row ? OK : ERR_CORRUPT);
        memcpy(&row, value.ptr, sizeof row);
        key_u64_add(&time, (uint64_t)row.at);
        key_bytes_add(&time, rest);
        first = row.at < first ? row.at : first;
        next_is_behind(queue, row.id);
        queue->state.dedups++;
        TRY(rows_put(mend->rows, TABLE_QUEUE, key_of(&time), BYTES_NONE));
    }
    TRY(end_of(err));
    return queue->state.dedups == 0 ? OK : queue_dedup_at(queue, first + queue->topic.dedup_window_ms);
}

/* ---- a group: where its messages are ---- */

static struct walk walk_group(const struct mend *mend, enum group_row row)
{
    return walk_of(mend->rows, TABLE_GROUP, group_key(mend->queue->tid, mend->group->gid, row));
}

static enum err erase_group_rows(struct mend *mend, enum group_row row)
{
    return walk_erase(mend->rows, TABLE_GROUP, group_key(mend->queue->tid, mend->group->gid, row));
}

static int by_number(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

static bool is_flying(const struct mend *mend, uint64_t number)
{
    return mend->flying.len > 0 &&
           bsearch(&number, mend->flying.ptr, mend->flying.len / sizeof number, sizeof number, by_number) != NULL;
}

static enum err open_delivery(struct mend *mend, struct bytes rest, struct delivery *out)
{
    return delivery_open(mend->queue, mend->group->gid, key_read_u64(rest.ptr), key_read_u64(rest.ptr + 8), out);
}

/* Deliveries get their times, consumers their counts. */
static enum err mend_deliveries(struct mend *mend)
{
    struct queue *queue = mend->queue;
    struct walk walk = walk_group(mend, ROW_DELIVERY);
    struct bytes rest, value;
    enum err err;
    mend->flying.len = 0;
    TRY(erase_group_rows(mend, ROW_CONSUMER));
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        struct delivery delivery;
        TRY(open_delivery(mend, rest, &delivery));
        for (size_t i = 0; i < delivery.len; i++) {
            const struct delivery_entry *entry = &delivery.entries[i];
            next_is_behind(queue, entry->number);
            buf_add(&mend->flying, &entry->number, sizeof entry->number);
        }
        TRY(delivery_put_new(queue, mend->group, &delivery));
    }
    if (mend->flying.len > 0) {
        qsort(mend->flying.ptr, mend->flying.len / sizeof(uint64_t), sizeof(uint64_t), by_number);
    }
    return end_of(err);
}

static enum err repend_here(struct mend *mend, uint64_t number, uint32_t place, uint32_t priority)
{
    const struct pending pending = {.place = place, .priority = priority};
    return is_flying(mend, number) ? OK : repend(mend, mend->queue->tid, mend->group->gid, number, pending);
}

/* What the indexes know of pending messages whose rows were lost. */
static enum err repend_indexed(struct mend *mend)
{
    struct walk ready = walk_group(mend, ROW_READY), parked = walk_group(mend, ROW_PARKED),
                hold = walk_group(mend, ROW_HOLD);
    struct bytes rest, value;
    enum err err;
    while ((err = walk_next(&ready, &rest, &value)) == OK) {
        TRY(repend_here(mend, key_read_u64(rest.ptr + 4), PENDING_READY, key_read_u32(rest.ptr)));
    }
    TRY(end_of(err));
    while ((err = walk_next(&parked, &rest, &value)) == OK) {
        TRY(repend_here(mend, key_read_u64(rest.ptr + 8), PENDING_PARKED, 0));
    }
    TRY(end_of(err));
    while ((err = walk_next(&hold, &rest, &value)) == OK) {
        uint64_t number;
        TRY(value.len == sizeof number ? OK : ERR_CORRUPT);
        memcpy(&number, value.ptr, sizeof number);
        TRY(repend_here(mend, number, PENDING_READY, 0));
    }
    return end_of(err);
}

/* A message that is somewhere was taken, and so was all before it in its lane. */
static enum err was_taken(struct mend *mend, uint64_t number, const struct message *message)
{
    bool taken;
    TRY(group_has_taken(mend->queue, mend->group, number, message, &taken));
    return taken || !group_takes_apart(message)
               ? OK
               : group_come_to_lane(mend->queue, mend->group, message->priority, number);
}

static enum err raise_lanes_of_flying(struct mend *mend)
{
    for (size_t at = 0; at < mend->flying.len; at += sizeof(uint64_t)) {
        struct message message;
        uint64_t number;
        memcpy(&number, mend->flying.ptr + at, sizeof number);
        enum err err = queue_message(mend->queue, number, &message);
        TRY(end_of(err));
        TRY(err == OK ? was_taken(mend, number, &message) : OK);
    }
    return OK;
}

/* Rows whose messages are lost. */
struct erased {
    uint64_t pending, dead;
};

/* Of pending messages and dead letters, those whose messages are lost are gone as well. */
static enum err raise_lanes_of(struct mend *mend, enum group_row row, uint64_t *out_erased)
{
    struct walk walk = walk_group(mend, row);
    struct bytes rest, value;
    enum err err;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        struct message message;
        uint64_t number = key_read_u64(rest.ptr);
        enum err is = queue_message(mend->queue, number, &message);
        next_is_behind(mend->queue, number);
        TRY(end_of(is));
        if (is == OK) {
            TRY(was_taken(mend, number, &message));
            continue;
        }
        (*out_erased)++;
        mend->group->state.dropped++;
        TRY(rows_del(mend->rows, TABLE_GROUP, bytes_of(walk.key.b, walk.key.len - 1)));
    }
    return end_of(err);
}

static enum err erase_empty_lanes(struct mend *mend)
{
    struct walk walk = walk_group(mend, ROW_LANE_AT);
    struct bytes rest, value;
    enum err err;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        bool has;
        uint64_t at;
        TRY(value.len == sizeof at ? OK : ERR_CORRUPT);
        memcpy(&at, value.ptr, sizeof at);
        next_is_behind(mend->queue, at);
        TRY(queue_has_lane(mend->queue, key_read_u32(rest.ptr), &has));
        TRY(has ? OK : rows_del(mend->rows, TABLE_GROUP, bytes_of(walk.key.b, walk.key.len - 1)));
    }
    return end_of(err);
}

/* From where on messages that were taken, and are nowhere, may have been lost; UINT64_MAX: there are none. What was
 * acknowledged is among them: nobody can tell, so it is delivered once more. Not for a dead letter, though, that
 * stands among them: it is not worth all of these, and its message can still be looked at. */
static enum err lost_from(struct mend *mend, const struct erased *erased, uint64_t *out)
{
    const struct group_state *state = &mend->group->state;
    uint64_t pending, dead, from = UINT64_MAX;
    TRY(walk_count(mend->rows, TABLE_GROUP, group_key(mend->queue->tid, mend->group->gid, ROW_PENDING), &pending));
    TRY(walk_count(mend->rows, TABLE_GROUP, group_key(mend->queue->tid, mend->group->gid, ROW_DEAD), &dead));
    bool flights = mend->flying.len / sizeof(uint64_t) < state->in_flight;
    bool others = pending + erased->pending < state->ready + state->parked + state->waiting;
    bool deaths = dead + erased->dead < state->dead && !mend->queue->topic.retain_acked;
    for (size_t at = 0; flights && at < mend->lost.len; at += sizeof(struct lost_delivery)) {
        struct lost_delivery lost;
        memcpy(&lost, mend->lost.ptr + at, sizeof lost);
        bool ours = lost.tid == mend->queue->tid && lost.gid == mend->group->gid;
        from = ours && lost.smallest < from ? lost.smallest : from;
    }
    *out = others || deaths || (flights && from == UINT64_MAX) ? state->start : from;
    return OK;
}

static enum err repend_lost(struct mend *mend, uint64_t from)
{
    struct walk walk = walk_of(mend->rows, TABLE_MESSAGE, all_of(mend->queue->tid));
    struct bytes rest, value;
    enum err err;
    key_u64_add(&walk.key, from > mend->group->state.start ? from : mend->group->state.start);
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        struct message message;
        uint64_t number = key_read_u64(rest.ptr);
        bool taken;
        TRY(message_read(value, &message));
        TRY(group_has_taken(mend->queue, mend->group, number, &message, &taken));
        TRY(taken ? repend_here(mend, number, PENDING_READY, message.priority) : OK);
    }
    return end_of(err);
}

/* What happened to messages that are lost. */
static enum err mend_past(struct mend *mend)
{
    struct walk walk = walk_group(mend, ROW_PAST);
    struct bytes rest, value;
    enum err err;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        struct message message;
        enum err is = queue_message(mend->queue, key_read_u64(rest.ptr), &message);
        TRY(end_of(is));
        TRY(is == OK ? OK : rows_del(mend->rows, TABLE_GROUP, bytes_of(walk.key.b, walk.key.len - 1)));
    }
    return end_of(err);
}

static enum err mend_buried(struct mend *mend)
{
    struct walk walk = walk_group(mend, ROW_DEAD);
    struct bytes rest, value;
    struct dead dead;
    enum err err;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        TRY(value.len == sizeof dead ? OK : ERR_CORRUPT);
        memcpy(&dead, value.ptr, sizeof dead);
        struct queue_key key = buried_key(mend->queue, mend->group, dead.order, key_read_u64(rest.ptr));
        TRY(dead.order != 0 ? rows_put(mend->rows, TABLE_GROUP, key_of(&key), BYTES_NONE) : OK);
    }
    return end_of(err);
}

/* ---- a group: keys ---- */

static enum err mend_holds(struct mend *mend)
{
    struct walk walk = walk_group(mend, ROW_DELIVERY);
    struct bytes rest, value;
    enum err err;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        struct delivery delivery;
        TRY(open_delivery(mend, rest, &delivery));
        for (size_t i = 0; i < delivery.len; i++) {
            TRY(group_hold(mend->queue, mend->group, delivery.entries[i].number, delivery.entries[i].key_hash));
        }
    }
    return end_of(err);
}

/* The first of a key that is ready or waiting holds it, if nothing in flight does; others are parked. */
static enum err place_again(struct mend *mend, uint64_t number, struct pending pending)
{
    struct queue_key hold = group_key(mend->queue->tid, mend->group->gid, ROW_HOLD);
    key_u64_add(&hold, pending.key_hash);
    bool keyed = pending.key_hash != 0, held = keyed && has_row(mend->rows, TABLE_GROUP, &hold);
    if (held) {
        pending.place = PENDING_PARKED;
    } else if (pending.place != PENDING_PARKED) {
        TRY(group_hold(mend->queue, mend->group, number, pending.key_hash));
    }
    return group_pend(mend->queue, mend->group, number, &pending);
}

static enum err mend_places(struct mend *mend)
{
    struct walk walk = walk_group(mend, ROW_PENDING);
    struct bytes rest, value;
    struct pending pending;
    enum err err;
    mend->group->state.ready = mend->group->state.parked = mend->group->state.waiting = 0;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        TRY(value.len == sizeof pending ? OK : ERR_CORRUPT);
        memcpy(&pending, value.ptr, sizeof pending);
        TRY(place_again(mend, key_read_u64(rest.ptr), pending));
    }
    TRY(end_of(err));
    walk = walk_group(mend, ROW_PENDING);
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        memcpy(&pending, value.ptr, sizeof pending);
        if (pending.place == PENDING_PARKED) {
            TRY(group_release(mend->queue, mend->group, UINT64_MAX, pending.key_hash)); /* if its key is free */
        }
    }
    return end_of(err);
}

/* ---- a group: numbers ---- */

static enum err mend_passed(struct mend *mend)
{
    struct walk walk = walk_of(mend->rows, TABLE_MESSAGE, all_of(mend->queue->tid));
    struct bytes rest, value;
    uint64_t untaken = 0;
    enum err err;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        struct message message;
        bool taken;
        TRY(message_read(value, &message));
        TRY(group_has_taken(mend->queue, mend->group, key_read_u64(rest.ptr), &message, &taken));
        untaken += !taken;
    }
    mend->group->state.passed = mend->queue->state.available - untaken;
    return end_of(err);
}

static enum err mend_numbers(struct mend *mend)
{
    struct group_state *state = &mend->group->state;
    int64_t paused_until = state->paused_until;
    state->in_flight = mend->flying.len / sizeof(uint64_t);
    TRY(walk_count(mend->rows, TABLE_GROUP, group_key(mend->queue->tid, mend->group->gid, ROW_DEAD), &state->dead));
    TRY(walk_count(mend->rows, TABLE_GROUP, group_key(mend->queue->tid, mend->group->gid, ROW_RETURNED),
                   &state->returned));
    state->paused_until = 0;
    TRY(queue_resume_at(mend->queue, mend->group, paused_until));
    next_is_behind(mend->queue, state->cursor - 1);
    mend->group->changed = true;
    return mend_passed(mend);
}

static enum err mend_group(struct mend *mend)
{
    static const enum group_row indexes[] = {ROW_HOLD, ROW_READY, ROW_PARKED, ROW_BURIED};
    struct erased erased = {0};
    uint64_t from;
    TRY(mend_deliveries(mend));
    TRY(repend_indexed(mend));
    TRY(erase_empty_lanes(mend));
    TRY(raise_lanes_of_flying(mend));
    TRY(raise_lanes_of(mend, ROW_PENDING, &erased.pending));
    TRY(raise_lanes_of(mend, ROW_DEAD, &erased.dead));
    TRY(lost_from(mend, &erased, &from));
    TRY(from == UINT64_MAX ? OK : repend_lost(mend, from));
    for (size_t i = 0; i < ARRAY_LEN(indexes); i++) {
        TRY(erase_group_rows(mend, indexes[i]));
    }
    TRY(mend_past(mend));
    TRY(mend_buried(mend));
    TRY(mend_holds(mend));
    TRY(mend_places(mend));
    return mend_numbers(mend);
}

static enum err mend_groups(struct mend *mend)
{
    struct queue *queue = mend->queue;
    struct walk walk = walk_of(mend->rows, TABLE_GROUP, all_of(queue->tid));
    struct bytes rest, value;
    enum err err;
    queue->state.groups = 0;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        struct queue_key name = queue_key(queue->tid, ROW_GROUP_NAME);
        uint32_t gid = key_read_u32(rest.ptr);
        if (rest.ptr[4] != ROW_GROUP) {
            continue;
        }
        TRY(queue_group(queue, gid, &mend->group));
        key_bytes_add(&name, mend->group->name);
        TRY(rows_put(mend->rows, TABLE_QUEUE, key_of(&name), bytes_of(&gid, sizeof gid)));
        queue->state.groups++;
        queue->state.next_gid = gid > queue->state.next_gid ? gid : queue->state.next_gid;
        TRY(mend_group(mend));
    }
    return end_of(err);
}

/* ---- topics ---- */

static enum err mend_topic(struct mend *mend, struct bytes name)
{
    static const enum queue_row indexes[] = {ROW_LANE, ROW_KEYED, ROW_MOVED, ROW_DEDUP_TIME, ROW_GROUP_NAME};
    struct turn turn = {.rows = mend->rows, .arena = mend->arena};
    struct queue queue;
    TRY(queue_open(&queue, &turn, name));
    mend->queue = &queue;
    for (size_t i = 0; i < ARRAY_LEN(indexes); i++) {
        TRY(walk_erase(mend->rows, TABLE_QUEUE, queue_key(queue.tid, indexes[i])));
    }
    TRY(mend_messages(mend));
    TRY(mend_delays(mend));
    TRY(mend_dedups(mend));
    TRY(mend_groups(mend));
    queue.state.holes = queue.state.holes == UINT64_MAX ? queue.state.next : queue.state.holes;
    TRY(queue.state.ordinal != 0 ? OK : ordinal_give(mend->rows, queue.tid, &queue.state.ordinal));
    queue.changed = true;
    queue.touched = false; /* nobody waits yet */
    return queue_save(&queue);
}

static enum err mend_all(struct mend *mend)
{
    static const uint8_t tables[] = {TABLE_GROUP, TABLE_QUEUE, TABLE_MESSAGE};
    struct walk walk = walk_of(mend->rows, TABLE_TOPIC, everything);
    struct bytes rest, value;
    enum err err;
    TRY(walk_erase(mend->rows, TABLE_QUEUE, queue_key(0, ROW_ORDINAL)));
    TRY(mend_states(mend));
    for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
        TRY(erase_orphans(mend, tables[i]));
    }
    TRY(erase_group_orphans(mend));
    TRY(note_times(mend));
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        arena_reset(mend->arena);
        TRY(mend_topic(mend, arena_copy(mend->arena, rest)));
    }
    return end_of(err);
}

enum err queue_mend(struct rows *rows)
{
    struct arena arena = {0};
    struct mend mend = {.rows = rows, .arena = &arena};
    enum err err = mend_all(&mend);
    buf_free(&mend.lost);
    buf_free(&mend.flying);
    arena_close(&arena);
    return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
}
