/* DO_RECEIVE: what consumers of a topic's groups get. */
#include "actors/join.h"
#include "actors/queue/queue.h"
#include "node/limits.h"

/* One consumer's receive. */
struct pick {
    struct queue *queue;
    struct group *group;
    struct delivery_entry *entries;
    size_t len, max, bytes;
    int64_t visibility_ms; /* -1: as the message says, or the topic */
    unsigned looked;       /* messages looked at */
    uint64_t lanes_from;   /* more urgent lanes have nothing for the group, or nothing that may be taken */
    bool full;
    bool blocked; /* the next in its place must wait, and no more may be parked */
    bool more;    /* it was stopped before it had looked at everything */
};

/* A candidate: of the ready ones, of a lane, or the next in its place. */
enum source { SOURCE_NONE, SOURCE_READY, SOURCE_LANE, SOURCE_PLACE };
struct candidate {
    enum source source;
    uint32_t priority;
    uint64_t number;
};

static void prefer(struct candidate *best, enum source source, uint32_t priority, uint64_t number)
{
    bool before = priority < best->priority || (priority == best->priority && number < best->number);
    if (best->source == SOURCE_NONE || before) {
        *best = (struct candidate){source, priority, number};
    }
}

/* One more message is looked at; false: it is enough. */
static bool look(struct pick *pick)
{
    struct queue *queue = pick->queue;
    pick->more = pick->looked >= LIMIT_PICK_LOOKS || queue->looked >= LIMIT_RECEIVE_LOOKS ||
                 queue->deliveries >= LIMIT_DELIVERIES_EACH;
    pick->looked++;
    queue->looked++;
    return !pick->more;
}

static enum err look_at_ready(struct pick *pick, struct candidate *best)
{
    struct queue_key key = group_key(pick->queue->tid, pick->group->gid, ROW_READY);
    struct bytes found, value;
    if (pick->group->state.ready == 0) {
        return OK;
    }
    TRY(queue_ceil(pick->queue->rows, TABLE_GROUP, &key, key.len, &found, &value));
    prefer(best, SOURCE_READY, key_read_u32(found.ptr + key.len), key_read_u64(found.ptr + key.len + 4));
    return OK;
}

static enum err lane_from(const struct pick *pick, uint32_t priority, uint64_t *out)
{
    struct queue_key key = group_key(pick->queue->tid, pick->group->gid, ROW_LANE_AT);
    struct bytes value;
    key_u32(&key, priority);
    enum err err = rows_get(pick->queue->rows, TABLE_GROUP, key_of(&key), &value);
    *out = pick->group->state.start;
    if (err == OK) {
        TRY(value.len == sizeof *out ? OK : ERR_CORRUPT);
        memcpy(out, value.ptr, sizeof *out);
        (*out)++;
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

/* The first of the most urgent lane that has anything the group has not taken. */
static enum err look_at_lanes(struct pick *pick, struct candidate *best)
{
    struct queue *queue = pick->queue;
    struct queue_key key = queue_key(queue->tid, ROW_LANE);
    struct bytes found, value;
    const size_t prefix = key.len;
    for (uint64_t priority = pick->lanes_from; queue->state.apart > 0 && priority <= UINT32_MAX; priority++) {
        uint64_t from;
        key.len = prefix;
        key_u32(&key, (uint32_t)priority);
        enum err err = queue_ceil(queue->rows, TABLE_QUEUE, &key, prefix, &found, &value);
        if (err != OK) {
            return err == ERR_NOT_FOUND ? OK : err;
        }
        priority = key_read_u32(found.ptr + prefix);
        key.len = prefix;
        key_u32(&key, (uint32_t)priority);
        TRY(lane_from(pick, (uint32_t)priority, &from));
        key_u64_add(&key, from);
        err = queue_ceil(queue->rows, TABLE_QUEUE, &key, prefix + 4, &found, &value);
        if (err == OK) {
            pick->lanes_from = priority;
            prefer(best, SOURCE_LANE, (uint32_t)priority, key_read_u64(found.ptr + prefix + 4));
            return OK;
        }
        TRY(err == ERR_NOT_FOUND ? OK : err);
    }
    return OK;
}

/* Those that stand apart are passed over here. */
static enum err look_at_places(struct pick *pick, struct candidate *best)
{
    struct queue *queue = pick->queue;
    struct group_state *group = &pick->group->state;
    while (!pick->blocked && group->cursor < queue->state.next) {
        struct queue_key key = message_key(queue->tid, group->cursor);
        struct bytes found, row;
        struct message message;
        enum err err = queue_ceil(queue->rows, TABLE_MESSAGE, &key, 8, &found, &row);
        if (err == ERR_NOT_FOUND) {
            group->cursor = queue->state.next;
            pick->group->changed = true;
            return OK;
        }
        TRY(err);
        TRY(message_read(row, &message));
        group->cursor = key_read_u64(found.ptr + 8);
        pick->group->changed = true;
        if (!group_takes_apart(&message)) {
            prefer(best, SOURCE_PLACE, PRIORITY_USUAL, group->cursor);
            return OK;
        }
        group->cursor++;
        if (!look(pick)) { /* what comes there may be more urgent than what was found elsewhere */
            best->source = SOURCE_NONE;
            return OK;
        }
    }
    return OK;
}

static enum err next_candidate(struct pick *pick, struct candidate *out)
{
    *out = (struct candidate){0};
    TRY(look_at_ready(pick, out));
    TRY(look_at_lanes(pick, out));
    /* What stands in its place has the usual priority, and is at the cursor or behind it. */
    bool before =
        out->priority < PRIORITY_USUAL || (out->priority == PRIORITY_USUAL && out->number < pick->group->state.cursor);
    return out->source != SOURCE_NONE && before ? OK : look_at_places(pick, out);
}

/* The group is past it. */
static enum err pass(struct pick *pick, const struct candidate *candidate)
{
    struct group_state *group = &pick->group->state;
    pick->group->changed = true;
    group->passed++;
    if (candidate->source == SOURCE_PLACE) {
        group->cursor = candidate->number + 1;
        return OK;
    }
    return group_come_to_lane(pick->queue, pick->group, candidate->priority, candidate->number);
}

static int64_t lease_ms(const struct pick *pick, uint32_t lease_s)
{
    bool own = pick->visibility_ms < 0 && lease_s > 0;
    return own                       ? (int64_t)lease_s * 1000
           : pick->visibility_ms < 0 ? pick->queue->topic.visibility_ms
                                     : pick->visibility_ms;
}

static void add_entry(struct pick *pick, struct taken taken, uint32_t lease_s, size_t size)
{
    pick->entries[pick->len++] =
        (struct delivery_entry){.number = taken.number,
                                .key_hash = taken.key_hash,
                                .deadline = pick->queue->turn->now_ms + lease_ms(pick, lease_s),
                                .attempts = taken.attempts + 1,
                                .priority = taken.priority};
    pick->bytes += size;
    pick->group->state.in_flight++;
    pick->group->state.delivered++;
    pick->group->state.redelivered += taken.attempts > 0;
    pick->group->changed = true;
}

static size_t size_of(const struct message *message)
{
    return MESSAGE_HEAD_BYTES + message->key.len + message->headers.len + message->destinations.len + message->body.len;
}

static bool is_expired(const struct pick *pick, const struct message *message)
{
    return message->expires_at > 0 && message->expires_at <= pick->queue->turn->now_ms;
}

static enum err expire(struct pick *pick, uint64_t number, uint64_t key_hash)
{
    pick->group->state.expired++;
    pick->group->changed = true;
    return group_release(pick->queue, pick->group, number, key_hash);
}

static bool has_room(struct pick *pick, size_t size)
{
    pick->full = pick->len > 0 && pick->bytes + size > LIMIT_RECEIVE_BYTES;
    return !pick->full;
}

/* The group does not come further there until keys are free. What frees them may be ready, or in a less urgent lane. */
static void block(struct pick *pick, const struct candidate *candidate)
{
    if (candidate->source == SOURCE_PLACE) {
        pick->blocked = true;
    } else {
        pick->lanes_from = (uint64_t)candidate->priority + 1;
    }
}

/* One that is met for the first time. */
static enum err take_fresh(struct pick *pick, const struct candidate *candidate, const struct message *message)
{
    bool waits, expired = is_expired(pick, message);
    size_t size = size_of(message);
    uint64_t key_hash = message->key_hash;
    struct message copy = *message;
    TRY(group_must_wait(pick->queue, pick->group, candidate->number, &copy, &waits));
    if (waits && pick->group->state.parked >= LIMIT_PARKED) {
        block(pick, candidate);
        return OK;
    }
    if (expired && !waits) { /* else later ones of its key would not know what it waited for */
        TRY(pass(pick, candidate));
        return expire(pick, candidate->number, key_hash);
    }
    if (!waits && !has_room(pick, size)) {
        return OK;
    }
    TRY(pass(pick, candidate));
    if (waits) {
        return group_park(pick->queue, pick->group, candidate->number, &copy);
    }
    TRY(group_hold(pick->queue, pick->group, candidate->number, key_hash));
    add_entry(pick, (struct taken){candidate->number, key_hash, 0, candidate->priority}, copy.lease_s, size);
    return OK;
}

static enum err take_ready(struct pick *pick, const struct candidate *candidate)
{
    struct message message;
    struct pending pending;
    uint64_t number = candidate->number;
    TRY(group_pending(pick->queue, pick->group, number, &pending));
    TRY(queue_message(pick->queue, number, &message));
    size_t size = size_of(&message);
    uint32_t lease_s = message.lease_s;
    bool expired = is_expired(pick, &message);
    if (!expired && !has_room(pick, size)) {
        return OK;
    }
    TRY(group_unpend(pick->queue, pick->group, number, &pending));
    if (expired) {
        return expire(pick, number, pending.key_hash);
    }
    add_entry(pick, (struct taken){number, pending.key_hash, pending.attempts, pending.priority}, lease_s, size);
    return OK;
}

static enum err take(struct pick *pick, const struct candidate *candidate)
{
    struct message message;
    if (candidate->source == SOURCE_READY) {
        return take_ready(pick, candidate);
    }
    TRY(queue_message(pick->queue, candidate->number, &message));
    return take_fresh(pick, candidate, &message);
}

static enum err pick_all(struct pick *pick)
{
    while (pick->len < pick->max && !pick->full && look(pick)) {
        struct candidate candidate;
        TRY(next_candidate(pick, &candidate));
        if (candidate.source == SOURCE_NONE) {
            return OK;
        }
        TRY(take(pick, &candidate));
    }
    return OK;
}

static enum err deliver(struct pick *pick, uint64_t consumer, struct received *out)
{
    struct queue *queue = pick->queue;
    struct turn *turn = queue->turn;
    struct delivery delivery = {.smallest = UINT64_MAX,
                                .id = turn->version * LIMIT_DELIVERIES_EACH + queue->deliveries++,
                                .consumer = consumer,
                                .entries = pick->entries,
                                .len = pick->len};
    for (size_t i = 0; i < pick->len; i++) {
        delivery.smallest =
            delivery.entries[i].number < delivery.smallest ? delivery.entries[i].number : delivery.smallest;
    }
    *out = (struct received){.smallest = delivery.smallest, .id = delivery.id, .gid = pick->group->gid};
    return delivery_put_new(queue, pick->group, &delivery);
}

enum err queue_group_for(struct queue *queue, struct bytes name, struct group **out)
{
    enum err err = queue_group_named(queue, name, out);
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    if (queue->state.groups >= LIMIT_GROUPS || (!queue->topic.retain_acked && queue->state.groups > 0)) {
        return ERR_LIMIT_REACHED;
    }
    return queue_group_new(queue, name, out);
}

static enum err receive(struct queue *queue, const struct caller *caller, struct bytes item, struct received *out)
{
    struct receive_ask ask;
    struct pick pick = {.queue = queue};
    memcpy(&ask, item.ptr, sizeof ask);
    *out = (struct received){0};
    if (!topic_allows(&queue->topic, caller, USE_CONSUME)) {
        return ERR_FORBIDDEN;
    }
    TRY(queue_group_for(queue, bytes_of(item.ptr + sizeof ask, item.len - sizeof ask), &pick.group));
    if (pick.group->state.paused_until > queue->turn->now_ms) {
        return OK;
    }
    pick.max = ask.max;
    pick.visibility_ms = ask.visibility_ms;
    pick.entries = delivery_room(queue, pick.max);
    enum err err = pick_all(&pick);
    TRY(err == ERR_NOT_FOUND ? ERR_CORRUPT : err); /* the rows that it goes by do not fit together */
    if (pick.len == 0) {
        *out = (struct received){.gid = pick.group->gid, .more = pick.more};
        return OK;
    }
    pick.group->state.active_at = queue->turn->now_ms;
    return deliver(&pick, ask.consumer, out);
}

/* ---- jobs of tubes (job.h) ---- */

enum { PEEK_LOOKS = 100 };

enum err receive_peek(struct queue *queue, struct group *group, uint64_t *out_number, uint32_t *out_priority)
{
    struct pick pick = {.queue = queue, .group = group, .max = 1, .looked = LIMIT_PICK_LOOKS - PEEK_LOOKS};
    struct candidate candidate;
    TRY(next_candidate(&pick, &candidate));
    *out_number = candidate.number;
    *out_priority = candidate.source == SOURCE_NONE ? PRIORITY_USUAL : candidate.priority;
    return candidate.source == SOURCE_NONE && !pick.more ? ERR_NOT_FOUND : OK;
}

/* The next of the line that a message stands in: its lane, or the places. */
static enum err next_of_line(struct pick *pick, const struct message *message, struct candidate *out)
{
    *out = (struct candidate){0};
    if (!group_takes_apart(message)) {
        return look_at_places(pick, out);
    }
    pick->lanes_from = message->priority;
    return look_at_lanes(pick, out);
}

enum err receive_up_to(struct queue *queue, struct group *group, uint64_t number, const struct message *message,
                       bool *out_more)
{
    struct pick pick = {.queue = queue, .group = group, .max = 1};
    const struct message line = {.flags = message->flags, .priority = message->priority};
    struct candidate candidate = {0};
    while (candidate.number != number && look(&pick)) {
        struct message met;
        bool waits;
        TRY(next_of_line(&pick, &line, &candidate));
        TRY(candidate.source == SOURCE_NONE && !pick.more ? ERR_CORRUPT : OK);
        if (candidate.source == SOURCE_NONE) {
            break;
        }
        TRY(queue_message(queue, candidate.number, &met));
        struct pending pending = {.place = PENDING_READY, .priority = candidate.priority, .key_hash = met.key_hash};
        TRY(group_must_wait(queue, group, candidate.number, &met, &waits));
        TRY(pass(&pick, &candidate));
        pending.place = waits ? PENDING_PARKED : PENDING_READY;
        TRY(waits ? OK : group_hold(queue, group, candidate.number, pending.key_hash));
        TRY(group_pend(queue, group, candidate.number, &pending));
    }
    *out_more = candidate.number != number;
    return OK;
}

enum err receive_this(struct queue *queue, struct group *group, uint64_t number, struct received *out)
{
    struct pick pick = {.queue = queue, .group = group, .max = 1, .visibility_ms = -1};
    struct pending pending;
    struct message message;
    TRY(group_pending(queue, group, number, &pending));
    TRY(queue_message(queue, number, &message));
    uint32_t lease_s = message.lease_s;
    pick.entries = delivery_room(queue, pick.max);
    TRY(group_unpend(queue, group, number, &pending));
    add_entry(&pick, (struct taken){number, pending.key_hash, pending.attempts, pending.priority}, lease_s, 0);
    group->state.active_at = queue->turn->now_ms;
    return deliver(&pick, 0, out);
}

static bool is_whole(struct bytes item)
{
    struct receive_ask ask;
    if (item.len <= sizeof ask) {
        return false;
    }
    memcpy(&ask, item.ptr, sizeof ask);
    return ask.max >= 1 && ask.max <= LIMIT_RECEIVE && ask.visibility_ms <= LIMIT_VISIBILITY_MS &&
           topic_name_is_good(bytes_of(item.ptr + sizeof ask, item.len - sizeof ask));
}

enum err receive_reduce(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct joined *in = raw;
    struct bytes rest = in->items, item;
    struct caller caller;
    struct queue queue;
    enum err opened = queue_open(&queue, turn, turn->key);
    if (opened != OK && opened != ERR_NOT_FOUND) {
        return opened;
    }
    while (joined_next(&rest, &caller, &item)) {
        struct received received = {0};
        enum err err = !is_whole(item) ? ERR_BAD_REQUEST : opened;
        if (err == OK) {
            err = receive(&queue, &caller, item, &received);
        }
        bool refused = err == ERR_FORBIDDEN || err == ERR_LIMIT_REACHED || err == ERR_BAD_REQUEST ||
                       (err == ERR_NOT_FOUND && opened != OK);
        if (err != OK && !refused) {
            return err;
        }
        joined_answer(reply, err, err == OK ? bytes_of(&received, sizeof received) : BYTES_NONE);
    }
    return opened == OK ? queue_save(&queue) : OK;
}
