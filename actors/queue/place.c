/* Where a message is in a group, and its moves from place to place (queue.md). */
#include "actors/queue/group.h"
#include "node/limits.h"

bool group_takes_apart(const struct message *message)
{
    return (message->flags & MESSAGE_APART) != 0;
}

static enum err lane_at(struct queue *queue, const struct group *group, uint32_t priority, uint64_t *out)
{
    struct queue_key key = group_key(queue->tid, group->gid, ROW_LANE_AT);
    struct bytes value;
    key_u32(&key, priority);
    enum err err = rows_get(queue->rows, TABLE_GROUP, key_of(&key), &value);
    *out = group->state.start - 1;
    if (err == OK) {
        TRY(value.len == sizeof *out ? OK : ERR_CORRUPT);
        memcpy(out, value.ptr, sizeof *out);
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

enum err group_come_to_lane(struct queue *queue, struct group *group, uint32_t priority, uint64_t number)
{
    struct queue_key key = group_key(queue->tid, group->gid, ROW_LANE_AT);
    key_u32(&key, priority);
    return rows_put(queue->rows, TABLE_GROUP, key_of(&key), bytes_of(&number, sizeof number));
}

enum err group_has_taken(struct queue *queue, struct group *group, uint64_t number, const struct message *message,
                         bool *out)
{
    uint64_t at;
    *out = number < group->state.cursor;
    if (group_takes_apart(message)) {
        TRY(lane_at(queue, group, message->priority, &at));
        *out = number <= at;
    }
    return OK;
}

static struct queue_key number_key(const struct queue *queue, const struct group *group, enum group_row row,
                                   uint64_t number)
{
    struct queue_key key = group_key(queue->tid, group->gid, row);
    key_u64_add(&key, number);
    return key;
}

static struct queue_key ready_key(const struct queue *queue, const struct group *group, uint32_t priority,
                                  uint64_t number)
{
    struct queue_key key = group_key(queue->tid, group->gid, ROW_READY);
    key_u32(&key, priority);
    key_u64_add(&key, number);
    return key;
}

static struct queue_key parked_key(const struct queue *queue, const struct group *group, uint64_t key_hash,
                                   uint64_t number)
{
    struct queue_key key = group_key(queue->tid, group->gid, ROW_PARKED);
    key_u64_add(&key, key_hash);
    key_u64_add(&key, number);
    return key;
}

static struct queue_key wait_key(const struct queue *queue, const struct group *group, int64_t until, uint64_t number)
{
    struct queue_key key = time_key(until, TIME_WAIT, queue->tid);
    key_u32(&key, group->gid);
    key_u64_add(&key, number);
    return key;
}

static enum err held_by(struct queue *queue, const struct group *group, uint64_t key_hash, uint64_t *out)
{
    struct queue_key key = number_key(queue, group, ROW_HOLD, key_hash);
    struct bytes value;
    enum err err = rows_get(queue->rows, TABLE_GROUP, key_of(&key), &value);
    *out = 0;
    if (err == OK) {
        TRY(value.len == sizeof *out ? OK : ERR_CORRUPT);
        memcpy(out, value.ptr, sizeof *out);
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

/* The first that is parked with that key; 0: none. */
static enum err first_parked(struct queue *queue, const struct group *group, uint64_t key_hash, uint64_t *out)
{
    struct queue_key key = parked_key(queue, group, key_hash, 0);
    struct bytes found, value;
    *out = 0;
    if (group->state.parked == 0) {
        return OK;
    }
    enum err err = queue_ceil(queue->rows, TABLE_GROUP, &key, key.len - 8, &found, &value);
    if (err == OK) {
        *out = key_read_u64(found.ptr + key.len - 8);
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

/* The one before it with its key is not taken yet: it stands in another lane. (What is taken and waits itself is
 * parked: then all before it that are not taken are ahead of that.) */
static enum err waits_for_untaken(struct queue *queue, struct group *group, uint64_t number, uint64_t key_hash,
                                  bool *out)
{
    struct message message;
    uint64_t before;
    bool taken;
    *out = false;
    if (queue->state.apart == 0) {
        return OK;
    }
    TRY(queue_before_in_key(queue, key_hash, number, &before));
    if (before == 0 || before < group->state.start) {
        return OK;
    }
    TRY(queue_message(queue, before, &message));
    TRY(group_has_taken(queue, group, before, &message, &taken));
    *out = !taken;
    return OK;
}

enum err group_must_wait(struct queue *queue, struct group *group, uint64_t number, const struct message *message,
                         bool *out)
{
    uint64_t holder, parked;
    *out = false;
    if (message->key_hash == 0) {
        return OK;
    }
    TRY(held_by(queue, group, message->key_hash, &holder));
    TRY(first_parked(queue, group, message->key_hash, &parked));
    *out = holder != 0 || (parked != 0 && parked < number);
    return *out ? OK : waits_for_untaken(queue, group, number, message->key_hash, out);
}

/* ---- pending ---- */

enum err group_pend(struct queue *queue, struct group *group, uint64_t number, const struct pending *pending)
{
    struct queue_key key = number_key(queue, group, ROW_PENDING, number);
    TRY(rows_put(queue->rows, TABLE_GROUP, key_of(&key), bytes_of(pending, sizeof *pending)));
    group->changed = true;
    switch ((enum pending_place)pending->place) {
    case PENDING_READY:
        group->state.ready++;
        queue->touched = true;
        key = ready_key(queue, group, pending->priority, number);
        return rows_put(queue->rows, TABLE_GROUP, key_of(&key), BYTES_NONE);
    case PENDING_PARKED:
        group->state.parked++;
        key = parked_key(queue, group, pending->key_hash, number);
        return rows_put(queue->rows, TABLE_GROUP, key_of(&key), BYTES_NONE);
    case PENDING_WAITING: break;
    }
    group->state.waiting++;
    key = wait_key(queue, group, pending->until, number);
    return rows_put(queue->rows, TABLE_QUEUE_TIME, key_of(&key), BYTES_NONE);
}

enum err group_pending(struct queue *queue, struct group *group, uint64_t number, struct pending *out)
{
    struct queue_key key = number_key(queue, group, ROW_PENDING, number);
    struct bytes value;
    TRY(rows_get(queue->rows, TABLE_GROUP, key_of(&key), &value));
    if (value.len != sizeof *out) {
        return ERR_CORRUPT;
    }
    memcpy(out, value.ptr, sizeof *out);
    return OK;
}

enum err group_unpend(struct queue *queue, struct group *group, uint64_t number, const struct pending *pending)
{
    struct queue_key key = number_key(queue, group, ROW_PENDING, number);
    TRY(rows_del(queue->rows, TABLE_GROUP, key_of(&key)));
    group->changed = true;
    switch ((enum pending_place)pending->place) {
    case PENDING_READY:
        group->state.ready--;
        key = ready_key(queue, group, pending->priority, number);
        return rows_del(queue->rows, TABLE_GROUP, key_of(&key));
    case PENDING_PARKED:
        group->state.parked--;
        key = parked_key(queue, group, pending->key_hash, number);
        return rows_del(queue->rows, TABLE_GROUP, key_of(&key));
    case PENDING_WAITING: break;
    }
    group->state.waiting--;
    key = wait_key(queue, group, pending->until, number);
    return rows_del(queue->rows, TABLE_QUEUE_TIME, key_of(&key));
}

enum err group_park(struct queue *queue, struct group *group, uint64_t number, const struct message *message)
{
    struct pending pending = {.place = PENDING_PARKED, .priority = message->priority, .key_hash = message->key_hash};
    return group_pend(queue, group, number, &pending);
}

enum err group_hold(struct queue *queue, struct group *group, uint64_t number, uint64_t key_hash)
{
    struct queue_key key = number_key(queue, group, ROW_HOLD, key_hash);
    return key_hash == 0 ? OK : rows_put(queue->rows, TABLE_GROUP, key_of(&key), bytes_of(&number, sizeof number));
}

/* If its key is free, the first that is parked becomes ready, unless what it waits for is not even taken. */
static enum err advance_key(struct queue *queue, struct group *group, uint64_t key_hash)
{
    uint64_t number;
    struct pending pending;
    bool waits;
    TRY(first_parked(queue, group, key_hash, &number));
    if (number == 0) {
        return OK;
    }
    TRY(waits_for_untaken(queue, group, number, key_hash, &waits));
    if (waits) {
        return OK;
    }
    TRY(group_pending(queue, group, number, &pending));
    TRY(group_unpend(queue, group, number, &pending));
    pending.place = PENDING_READY;
    TRY(group_pend(queue, group, number, &pending));
    return group_hold(queue, group, number, key_hash);
}

enum err group_release(struct queue *queue, struct group *group, uint64_t number, uint64_t key_hash)
{
    uint64_t holder;
    if (key_hash == 0) {
        return OK;
    }
    TRY(held_by(queue, group, key_hash, &holder));
    if (holder == number) {
        struct queue_key key = number_key(queue, group, ROW_HOLD, key_hash);
        TRY(rows_del(queue->rows, TABLE_GROUP, key_of(&key)));
        holder = 0;
    }
    return holder == 0 ? advance_key(queue, group, key_hash) : OK;
}

static void leave_flight(struct queue *queue, struct group *group)
{
    group->state.in_flight--;
    group->changed = true;
    queue->moves++;
}

struct queue_key buried_key(const struct queue *queue, const struct group *group, uint64_t order, uint64_t number)
{
    struct queue_key key = group_key(queue->tid, group->gid, ROW_BURIED);
    key_u64_add(&key, order);
    key_u64_add(&key, number);
    return key;
}

enum err group_bury(struct queue *queue, struct group *group, struct taken taken, enum death reason)
{
    struct queue_key key = number_key(queue, group, ROW_DEAD, taken.number);
    struct dead dead = {
        .attempts = taken.attempts, .priority = taken.priority, .at = queue->turn->now_ms, .reason = (uint32_t)reason};
    dead.order = reason == DEATH_BURIED ? queue->turn->version : 0;
    struct queue_key buried = buried_key(queue, group, dead.order, taken.number);
    struct message message;
    leave_flight(queue, group);
    enum err err = queue_message(queue, taken.number, &message);
    if (err == OK) {
        group->state.dead++;
        group->state.died++;
        TRY(reason == DEATH_BURIED ? past_note(queue, group, taken.number, &message, PAST_BURY, 0) : OK);
        TRY(rows_put(queue->rows, TABLE_GROUP, key_of(&key), bytes_of(&dead, sizeof dead)));
        TRY(dead.order != 0 ? rows_put(queue->rows, TABLE_GROUP, key_of(&buried), BYTES_NONE) : OK);
    } else if (err == ERR_NOT_FOUND) {
        group->state.dropped++; /* retention took it while it was in flight */
    } else {
        return err;
    }
    return group_release(queue, group, taken.number, taken.key_hash);
}

enum err group_retry(struct queue *queue, struct group *group, struct taken taken, int64_t delay_ms,
                     enum past_event why)
{
    struct message message;
    enum err err = queue_message(queue, taken.number, &message);
    TRY(err == ERR_NOT_FOUND ? OK : err);
    bool used_up = queue->topic.max_attempts > 0 && taken.attempts >= (uint64_t)queue->topic.max_attempts;
    if (used_up || err == ERR_NOT_FOUND) {
        return group_bury(queue, group, taken, DEATH_ATTEMPTS);
    }
    struct pending pending = {.place = delay_ms > 0 ? PENDING_WAITING : PENDING_READY,
                              .attempts = taken.attempts,
                              .priority = taken.priority,
                              .until = queue->turn->now_ms + delay_ms,
                              .key_hash = taken.key_hash};
    leave_flight(queue, group);
    group->state.timeouts += why == PAST_TIMEOUT;
    TRY(past_note(queue, group, taken.number, &message, why, delay_ms));
    return group_pend(queue, group, taken.number, &pending);
}

enum err group_finish(struct queue *queue, struct group *group, struct taken taken)
{
    leave_flight(queue, group);
    group->state.acked++;
    TRY(group_release(queue, group, taken.number, taken.key_hash));
    if (queue->topic.retain_acked) {
        return OK;
    }
    enum err err = queue_erase(queue, taken.number);
    return err == ERR_NOT_FOUND ? OK : err; /* retention was faster */
}

enum err group_dead(struct queue *queue, struct group *group, uint64_t number, struct dead *out)
{
    struct queue_key key = number_key(queue, group, ROW_DEAD, number);
    struct bytes value;
    TRY(rows_get(queue->rows, TABLE_GROUP, key_of(&key), &value));
    if (value.len != sizeof *out) {
        return ERR_CORRUPT;
    }
    memcpy(out, value.ptr, sizeof *out);
    return OK;
}

enum err group_undead(struct queue *queue, struct group *group, uint64_t number, struct dead *out)
{
    struct queue_key key = number_key(queue, group, ROW_DEAD, number);
    TRY(group_dead(queue, group, number, out));
    struct queue_key buried = buried_key(queue, group, out->order, number);
    TRY(rows_del(queue->rows, TABLE_GROUP, key_of(&key)));
    group->state.dead--;
    group->changed = true;
    enum err err = out->order != 0 ? rows_del(queue->rows, TABLE_GROUP, key_of(&buried)) : OK;
    return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
}

enum err group_revive(struct queue *queue, struct group *group, uint64_t number)
{
    struct dead dead;
    struct message message;
    uint64_t holder = 0;
    TRY(group_undead(queue, group, number, &dead));
    queue->moves++;
    TRY(queue_message(queue, number, &message)); /* dead letters go when their messages go */
    uint64_t key_hash = message.key_hash;
    TRY(past_note(queue, group, number, &message, PAST_KICK, dead.attempts));
    struct pending pending = {.place = PENDING_READY, .priority = dead.priority, .key_hash = key_hash};
    if (pending.key_hash != 0) {
        TRY(held_by(queue, group, pending.key_hash, &holder));
        pending.place = holder != 0 ? PENDING_PARKED : PENDING_READY;
        TRY(holder == 0 ? group_hold(queue, group, number, pending.key_hash) : OK);
    }
    return group_pend(queue, group, number, &pending);
}

enum err group_wake(struct queue *queue, struct group *group, uint64_t number)
{
    struct pending pending;
    TRY(group_pending(queue, group, number, &pending));
    TRY(group_unpend(queue, group, number, &pending));
    pending.place = PENDING_READY;
    queue->moves++;
    return group_pend(queue, group, number, &pending);
}
