/* DO_RING: what is due in a partition: leases that ended, delays that are over, what is too old, what was deleted. */
#include "actors/queue/queue.h"
#include "node/limits.h"

const struct field ring_ask_fields[] = {FIELD_INT(1, ring_ask, max, 1, LIMIT_RING_ALONE, FIELD_REQUIRED), FIELDS_END};
const struct field ring_done_fields[] = {FIELD_BOOL(1, ring_done, more, 0), FIELDS_END};

int64_t ring_due(struct rows *rows)
{
    struct bytes key, value;
    return rows_ceil(rows, TABLE_QUEUE_TIME, BYTES_NONE, &key, &value) == OK ? (int64_t)key_read_u64(key.ptr)
                                                                             : INT64_MAX;
}

enum { TIME_HEAD = 17 /* time, type, tid */, CROWDS = 16, ENTRIES_A_MOVE = 64, LOOKS = 2 };

/* Of what is due, the oldest goes first; but a crowd, which has taken half of what a command had left for it, is passed
 * over, be the rest of it as old as it may: others are not to wait until a million leases have ended, or a million
 * messages are swept. What is due of a topic is one crowd, each kind of housekeeping in it another. */
struct ring {
    struct turn *turn;
    struct queue queue; /* of the topic that the rows at hand are about */
    bool open;
    unsigned moves, most; /* until now, and of all; a little more where one thing takes several */
    struct crowd {
        uint64_t who;
        unsigned moves, share;
    } crowds[CROWDS], *at_work; /* who has moved most; whose rows are at hand */
};

static uint64_t crowd_id(uint8_t type, uint64_t tid)
{
    bool keeps_house = type == TIME_RETAIN || type == TIME_DEDUP || type == TIME_SWEEP;
    return tid ^ (keeps_house ? (uint64_t)type << 56 : 0); /* tid is an index of the log: it has no such bits */
}

/* The crowd's, or where it can be noted. */
static struct crowd *crowd_of(struct ring *ring, uint64_t who)
{
    struct crowd *least = &ring->crowds[0];
    for (size_t i = 0; i < CROWDS; i++) {
        struct crowd *crowd = &ring->crowds[i];
        if (crowd->who == who) {
            return crowd;
        }
        least = crowd->moves < least->moves ? crowd : least;
    }
    unsigned left = ring->most > ring->moves ? ring->most - ring->moves : 0;
    *least = (struct crowd){who, 0, (left + 1) / 2};
    return least;
}

static void moved(struct ring *ring, unsigned moves)
{
    ring->moves += moves;
    ring->at_work->moves += moves;
}

static void count(struct ring *ring)
{
    if (ring->open) {
        moved(ring, ring->queue.moves);
        ring->queue.moves = 0;
    }
}

static bool has_had_its_share(const struct ring *ring, const struct crowd *crowd)
{
    return ring->moves >= ring->most || crowd->moves >= crowd->share;
}

/* The crowd at work is to make room. */
static bool is_over(struct ring *ring)
{
    count(ring);
    return has_had_its_share(ring, ring->at_work);
}

static enum err close_topic(struct ring *ring)
{
    if (!ring->open) {
        return OK;
    }
    count(ring);
    ring->open = false;
    return queue_save(&ring->queue);
}

/* Errors: ERR_NOT_FOUND for one that was deleted. */
static enum err open_topic(struct ring *ring, uint64_t tid)
{
    if (ring->open && ring->queue.tid == tid) {
        return OK;
    }
    TRY(close_topic(ring));
    TRY(queue_open_tid(&ring->queue, ring->turn, tid));
    ring->open = true;
    return OK;
}

/* ---- one of each type. ERR_NOT_FOUND: it is about something that is gone, and nothing was written ---- */

/* From here on everything must be there: half of it is written. */
static enum err must(enum err err)
{
    return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
}

/* Of that moment, so that it goes by time, whatever else is in the delivery. */
static enum err lease_ends(struct ring *ring, int64_t time, struct bytes rest)
{
    struct queue *queue = &ring->queue;
    struct group *group;
    struct delivery delivery;
    size_t kept = 0;
    TRY(queue_group(queue, key_read_u32(rest.ptr), &group));
    TRY(delivery_open(queue, group->gid, key_read_u64(rest.ptr + 4), key_read_u64(rest.ptr + 12), &delivery));
    for (size_t i = 0; i < delivery.len; i++) {
        struct delivery_entry *entry = &delivery.entries[i];
        struct taken taken = {entry->number, entry->key_hash, entry->attempts, entry->priority};
        if (entry->deadline > time || is_over(ring)) {
            delivery.entries[kept++] = *entry;
            continue;
        }
        TRY(must(group_retry(queue, group, taken, 0, PAST_TIMEOUT)));
    }
    delivery.len = kept;
    queue->moves += (unsigned)(kept / ENTRIES_A_MOVE); /* written anew */
    return must(delivery_update(queue, group, &delivery));
}

static enum err wait_ends(struct ring *ring, struct bytes rest)
{
    struct group *group;
    TRY(queue_group(&ring->queue, key_read_u32(rest.ptr), &group));
    return must(group_wake(&ring->queue, group, key_read_u64(rest.ptr + 4)));
}

static enum err pause_ends(struct ring *ring, struct bytes rest)
{
    struct group *group;
    TRY(queue_group(&ring->queue, key_read_u32(rest.ptr), &group));
    ring->queue.touched = true;
    return must(queue_resume_at(&ring->queue, group, 0));
}

/* The oldest go when their time is over. */
static enum err retention_ends(struct ring *ring)
{
    struct queue *queue = &ring->queue;
    int64_t now = ring->turn->now_ms;
    for (;;) {
        struct queue_key key = message_key(queue->tid, queue->state.first);
        struct bytes found, row;
        struct message message;
        enum err err = queue_ceil(queue->rows, TABLE_MESSAGE, &key, 8, &found, &row);
        if (err == ERR_NOT_FOUND) {
            return must(queue_retain_at(queue, 0));
        }
        TRY(err);
        TRY(message_read(row, &message));
        uint64_t number = key_read_u64(found.ptr + 8);
        int64_t end = message.available_at + queue->topic.retention_ms;
        if (end > now) {
            return must(queue_retain_at(queue, end));
        }
        if (is_over(ring)) {
            return OK;
        }
        TRY(must(queue_drop(queue, number)));
        queue->state.first = number + 1;
    }
}

static enum err dedup_ends(struct ring *ring)
{
    struct queue *queue = &ring->queue;
    int64_t now = ring->turn->now_ms;
    for (;;) {
        struct queue_key key = queue_key(queue->tid, ROW_DEDUP_TIME), row = queue_key(queue->tid, ROW_DEDUP);
        struct bytes found, value;
        enum err err = queue_ceil(queue->rows, TABLE_QUEUE, &key, key.len, &found, &value);
        if (err == ERR_NOT_FOUND) {
            return must(queue_dedup_at(queue, 0));
        }
        TRY(err);
        int64_t end = (int64_t)key_read_u64(found.ptr + key.len) + queue->topic.dedup_window_ms;
        if (end > now) {
            return must(queue_dedup_at(queue, end));
        }
        if (is_over(ring)) {
            return OK;
        }
        key_bytes_add(&row, bytes_of(found.ptr + key.len + 8, found.len - key.len - 8));
        key_bytes_add(&key, bytes_of(found.ptr + key.len, found.len - key.len));
        TRY(must(rows_del(queue->rows, TABLE_QUEUE, key_of(&key))));
        TRY(must(rows_del(queue->rows, TABLE_QUEUE, key_of(&row))));
        queue->state.dedups--;
        queue->changed = true;
        queue->moves++;
    }
}

static enum err due_of_topic(struct ring *ring, struct bytes time)
{
    struct bytes rest = bytes_of(time.ptr + TIME_HEAD, time.len - TIME_HEAD);
    TRY(open_topic(ring, key_read_u64(time.ptr + 9)));
    switch ((enum queue_time)time.ptr[8]) {
    case TIME_LEASE: return lease_ends(ring, (int64_t)key_read_u64(time.ptr), rest);
    case TIME_WAIT: return wait_ends(ring, rest);
    case TIME_DELAYED: return queue_undelay(&ring->queue, key_read_u64(rest.ptr));
    case TIME_RETAIN: return retention_ends(ring);
    case TIME_DEDUP: return dedup_ends(ring);
    case TIME_RESUME: return pause_ends(ring, rest);
    case TIME_SWEEP: break;
    }
    return ERR_CORRUPT;
}

/* ---- sweeping ---- */

static enum err erase_time(struct ring *ring, const struct queue_key *time)
{
    enum err err = rows_del(ring->turn->rows, TABLE_QUEUE_TIME, key_of(time));
    return err == ERR_NOT_FOUND ? OK : err; /* it has come */
}

/* What is swept takes its time with it: that may be a year away. */
static enum err erase_time_of_group_row(struct ring *ring, uint64_t tid, struct bytes rest, struct bytes value)
{
    uint32_t gid = key_read_u32(rest.ptr);
    struct pending pending;
    struct queue_key time;
    if (rest.ptr[4] == ROW_DELIVERY) {
        time = time_key(delivery_next(value), TIME_LEASE, tid);
    } else if (rest.ptr[4] == ROW_PENDING && value.len == sizeof pending) {
        memcpy(&pending, value.ptr, sizeof pending);
        time = time_key(pending.until, TIME_WAIT, tid);
    } else if (rest.ptr[4] == ROW_GROUP) {
        time = time_key(group_paused_until(value), TIME_RESUME, tid);
    } else {
        return OK;
    }
    key_u32(&time, gid);
    key_bytes_add(&time, bytes_of(rest.ptr + 5, rest.ptr[4] == ROW_GROUP ? 0 : rest.len - 5));
    return erase_time(ring, &time);
}

static enum err erase_time_of_row(struct ring *ring, uint8_t table, struct bytes key, struct bytes value)
{
    uint64_t tid = key_read_u64(key.ptr);
    struct bytes rest = bytes_of(key.ptr + 8, key.len - 8);
    struct message message;
    if (table == TABLE_GROUP) {
        return erase_time_of_group_row(ring, tid, rest, value);
    }
    if (table != TABLE_QUEUE || rest.ptr[0] != ROW_DELAYED) {
        return OK;
    }
    TRY(message_read(value, &message));
    struct queue_key time = time_key(message.available_at, TIME_DELAYED, tid);
    key_bytes_add(&time, bytes_of(rest.ptr + 1, rest.len - 1));
    return erase_time(ring, &time);
}

static enum err sweep_table(struct ring *ring, uint8_t table, struct bytes prefix)
{
    while (!is_over(ring)) {
        struct bytes key, value;
        enum err err = rows_ceil(ring->turn->rows, table, prefix, &key, &value);
        if (err == ERR_NOT_FOUND || (err == OK && !bytes_start_with(key, prefix))) {
            return OK;
        }
        TRY(err);
        struct queue_key copy = {.len = 0};
        key_bytes_add(&copy, key);
        TRY(erase_time_of_row(ring, table, key_of(&copy), value));
        TRY(must(rows_del(ring->turn->rows, table, key_of(&copy))));
        moved(ring, 1);
    }
    return OK;
}

/* What is left of a topic, or of one group of it. */
static enum err sweep(struct ring *ring, struct bytes time)
{
    static const uint8_t tables[] = {TABLE_GROUP, TABLE_QUEUE, TABLE_MESSAGE};
    struct bytes prefix = bytes_of(time.ptr + 9, time.len - 9);
    bool whole = prefix.len == 8;
    TRY(close_topic(ring));
    for (size_t i = 0; i < (whole ? ARRAY_LEN(tables) : 1); i++) {
        TRY(sweep_table(ring, tables[i], prefix));
    }
    return is_over(ring) ? OK : must(rows_del(ring->turn->rows, TABLE_QUEUE_TIME, time));
}

/* Of what was deleted, times are left: they say nothing any more. */
static enum err due(struct ring *ring, struct bytes time)
{
    ring->at_work = crowd_of(ring, crowd_id(time.ptr[8], key_read_u64(time.ptr + 9)));
    if (time.ptr[8] == TIME_SWEEP) {
        return sweep(ring, time);
    }
    enum err err = due_of_topic(ring, time);
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    return must(rows_del(ring->turn->rows, TABLE_QUEUE_TIME, time));
}

/* The first row at or behind from that is due and may be carried out now. Errors: ERR_NOT_FOUND. */
static enum err next_due(struct ring *ring, struct queue_key *from, unsigned *looks)
{
    count(ring);
    while (ring->moves < ring->most && (*looks)++ < LOOKS * ring->most) {
        struct bytes key, value;
        TRY(rows_ceil(ring->turn->rows, TABLE_QUEUE_TIME, key_of(from), &key, &value));
        if ((int64_t)key_read_u64(key.ptr) > ring->turn->now_ms) {
            return ERR_NOT_FOUND;
        }
        TRY(key.len >= TIME_HEAD ? OK : ERR_CORRUPT);
        uint64_t tid = key_read_u64(key.ptr + 9);
        from->len = 0;
        if (!has_had_its_share(ring, crowd_of(ring, crowd_id(key.ptr[8], tid)))) {
            key_bytes_add(from, key);
            return OK;
        }
        key_bytes_add(from, bytes_of(key.ptr, TIME_HEAD - 8));
        key_u64_add(from, tid + 1); /* of that moment there may be very many */
    }
    return ERR_NOT_FOUND;
}

static enum err end(struct ring *ring, struct reply *reply)
{
    struct ring_done done = {0};
    TRY(close_topic(ring));
    FIELD_SET(ring_done_fields, &done, struct ring_done, more, ring_due(ring->turn->rows) <= ring->turn->now_ms);
    field_pack(&reply->body, ring_done_fields, &done);
    return OK;
}

enum err ring_reduce(struct turn *turn, const void *in, struct reply *reply)
{
    const struct ring_ask *ask = in;
    unsigned most = (unsigned)ask->max, looks = 0;
    struct ring ring = {.turn = turn, .most = most};
    struct queue_key at = {.len = 0};
    for (;;) {
        enum err err = next_due(&ring, &at, &looks);
        if (err == ERR_NOT_FOUND) {
            return end(&ring, reply);
        }
        TRY(err);
        TRY(due(&ring, key_of(&at)));
    }
}
