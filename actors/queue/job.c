#include "actors/queue/job.h"

#include <stdlib.h>

#include "actors/queue/walk.h"
#include "node/limits.h"

const struct field job_ask_fields[] = {
    FIELD_STRING(1, job_ask, group, 1, LIMIT_TOPIC_BYTES, 0), FIELD_INT(2, job_ask, verb, JOB_DELETE, JOB_RESERVE, 0),
    FIELD_INT(3, job_ask, message, 0, INT64_MAX, 0), FIELD_INT(4, job_ask, max, 0, LIMIT_RING_MOVES, 0), FIELDS_END};
const struct field job_done_fields[] = {
    FIELD_INT(1, job_done, count, 0, INT64_MAX, 0),    FIELD_BOOL(2, job_done, more, 0),
    FIELD_INT(3, job_done, smallest, 0, INT64_MAX, 0), FIELD_INT(4, job_done, id, 0, INT64_MAX, 0),
    FIELD_INT(5, job_done, gid, 0, UINT32_MAX, 0),     FIELDS_END};

/* ---- ids: message | ordinal, in four-bit digits | how many digits, less one, in three bits; times partitions ---- */

enum { DIGIT_BITS = 4, DIGITS_BITS = 3, DIGITS_MAX = 8 };

uint64_t job_id(struct job_name name, unsigned partitions)
{
    unsigned digits = 1;
    while (digits < DIGITS_MAX && name.ordinal >> (digits * DIGIT_BITS) != 0) {
        digits++;
    }
    unsigned bits = digits * DIGIT_BITS + DIGITS_BITS;
    uint64_t most = ((uint64_t)INT64_MAX / partitions - 1) >> bits;
    if (name.ordinal >> (digits * DIGIT_BITS) != 0 || name.message > most) {
        return 0;
    }
    uint64_t text = (name.message << digits * DIGIT_BITS | name.ordinal) << DIGITS_BITS | (digits - 1);
    return text * partitions + (name.partition - 1);
}

bool job_id_parse(uint64_t id, unsigned partitions, struct job_name *out)
{
    uint64_t text = id / partitions;
    unsigned bits = ((unsigned)(text & ((1U << DIGITS_BITS) - 1)) + 1) * DIGIT_BITS;
    text >>= DIGITS_BITS;
    out->partition = (unsigned)(id % partitions) + 1;
    out->ordinal = text & ((1ULL << bits) - 1);
    out->message = text >> bits;
    return id <= INT64_MAX && out->ordinal > 0 && out->message > 0;
}

/* ---- where it is ---- */

static enum err find_delayed(struct queue *queue, uint64_t id, struct job_found *out)
{
    struct queue_key key = queue_key(queue->tid, ROW_DELAYED);
    struct bytes row;
    key_u64_add(&key, id);
    TRY(rows_get(queue->rows, TABLE_QUEUE, key_of(&key), &row));
    *out = (struct job_found){.place = JOB_DELAYED};
    return message_read(row, &out->message);
}

/* Of those that the group has taken. */
static enum err find_taken(struct queue *queue, struct group *group, struct job_found *out)
{
    static const enum job_place places[] = {
        [PENDING_READY] = JOB_READY, [PENDING_PARKED] = JOB_PARKED, [PENDING_WAITING] = JOB_WAITING};
    enum err err = group_pending(queue, group, out->number, &out->pending);
    if (err == OK) {
        TRY(out->pending.place < ARRAY_LEN(places) ? OK : ERR_CORRUPT);
        out->place = places[out->pending.place];
        return OK;
    }
    TRY(err == ERR_NOT_FOUND ? OK : err);
    err = group_dead(queue, group, out->number, &out->dead);
    out->place = err == OK ? JOB_DEAD : JOB_AWAY;
    return err == ERR_NOT_FOUND ? OK : err;
}

enum err job_find(struct queue *queue, struct group *group, uint64_t message, struct job_found *out)
{
    bool taken = false;
    enum err err = find_delayed(queue, message, out);
    if (err == ERR_NOT_FOUND) {
        *out = (struct job_found){.place = JOB_UNTAKEN};
        TRY(queue_number_of(queue->rows, queue->tid, message, &out->number));
        err = queue_message(queue, out->number, &out->message);
    }
    TRY(err);
    TRY(out->message.id == message ? OK : ERR_NOT_FOUND);
    out->lease_s = out->message.lease_s;
    if (out->place == JOB_DELAYED || group == NULL) {
        return OK;
    }
    TRY(group_has_taken(queue, group, out->number, &out->message, &taken));
    return taken ? find_taken(queue, group, out) : OK;
}

/* ---- deleting ---- */

static enum err delete_delayed(struct queue *queue, uint64_t id, int64_t available_at)
{
    struct queue_key key = queue_key(queue->tid, ROW_DELAYED), time = time_key(available_at, TIME_DELAYED, queue->tid);
    key_u64_add(&key, id);
    key_u64_add(&time, id);
    queue->state.delayed--;
    queue->changed = true;
    TRY(rows_del(queue->rows, TABLE_QUEUE, key_of(&key)));
    return rows_del(queue->rows, TABLE_QUEUE_TIME, key_of(&time));
}

/* Out of its turn. */
static enum err delete_untaken(struct queue *queue, struct group *group, uint64_t number)
{
    TRY(queue_drop(queue, number));
    queue->state.holes = number + 1 > queue->state.holes ? number + 1 : queue->state.holes;
    queue->state.dropped--; /* it was not: somebody has seen to it */
    group->state.dropped--;
    group->state.acked++;
    return OK;
}

static enum err delete_pending(struct queue *queue, struct group *group, const struct job_found *job)
{
    TRY(group_unpend(queue, group, job->number, &job->pending));
    group->state.acked++;
    queue->moves++;
    /* First: later ones of its key look for one before them. */
    TRY(queue->topic.retain_acked ? OK : queue_erase(queue, job->number));
    return group_release(queue, group, job->number, job->pending.key_hash);
}

static enum err delete_job(struct queue *queue, struct group *group, uint64_t message, const struct job_found *job)
{
    group->state.deleted += job->place == JOB_DELAYED || job->place == JOB_DEAD; /* which are not acknowledged */
    group->changed = true;
    switch (job->place) {
    case JOB_DELAYED: return delete_delayed(queue, message, job->message.available_at);
    case JOB_UNTAKEN: return delete_untaken(queue, group, job->number);
    case JOB_READY:
    case JOB_PARKED:
    case JOB_WAITING: return delete_pending(queue, group, job);
    case JOB_DEAD: return queue_settle_dead(queue, group, DEAD_PURGE, job->number);
    case JOB_AWAY: break;
    }
    return ERR_CORRUPT;
}

/* ---- kicking ---- */

static int64_t delay_of(const struct message *message)
{
    return message->available_at - message->published_at;
}

/* A put one, before its time. */
static enum err hurry_delayed(struct queue *queue, struct group *group, uint64_t message, int64_t delay_ms,
                              enum past_event why)
{
    struct message kicked;
    TRY(queue_undelay(queue, message));
    uint64_t number = queue->state.next - 1;
    TRY(queue_message(queue, number, &kicked));
    return past_note(queue, group, number, &kicked, why, delay_ms);
}

/* It was released with a delay. */
static enum err kick_waiting(struct queue *queue, struct group *group, uint64_t number)
{
    struct message message;
    struct past past;
    TRY(queue_message(queue, number, &message));
    const struct message job = {.lease_s = message.lease_s};
    TRY(past_find(queue->rows, queue->tid, group->gid, number, &past));
    TRY(group_wake(queue, group, number));
    return past_note(queue, group, number, &job, PAST_HURRY, (int64_t)past.delay_s * 1000);
}

static enum err kick_job(struct queue *queue, struct group *group, uint64_t message, const struct job_found *job)
{
    switch (job->place) {
    case JOB_DELAYED: return hurry_delayed(queue, group, message, delay_of(&job->message), PAST_HURRY);
    case JOB_WAITING: return kick_waiting(queue, group, job->number);
    case JOB_DEAD: return queue_settle_dead(queue, group, DEAD_REDRIVE, job->number);
    case JOB_UNTAKEN:
    case JOB_READY:
    case JOB_PARKED:
    case JOB_AWAY: break;
    }
    return ERR_CORRUPT;
}

enum { LOOK_BYTES = 4 * 1024 * 1024 }; /* of messages that are looked at for their times */

static int by_time(const void *a, const void *b)
{
    const struct job_delayed *x = a, *y = b;
    const uint64_t xs[] = {(uint64_t)x->until, x->message, x->number},
                   ys[] = {(uint64_t)y->until, y->message, y->number};
    for (size_t i = 0; i < ARRAY_LEN(xs); i++) {
        if (xs[i] != ys[i]) {
            return xs[i] < ys[i] ? -1 : 1;
        }
    }
    return 0;
}

static enum err find_waiting(struct queue *queue, struct group *group, struct job_delayed *all, size_t *len)
{
    struct walk walk = walk_of(queue->rows, TABLE_GROUP, group_key(queue->tid, group->gid, ROW_PENDING));
    struct bytes rest, value;
    enum err err = OK;
    uint64_t left = group->state.waiting;
    for (unsigned n = 0; n < JOB_LOOKS && left > 0 && (err = walk_next(&walk, &rest, &value)) == OK; n++) {
        struct pending pending;
        TRY(value.len == sizeof pending ? OK : ERR_CORRUPT);
        memcpy(&pending, value.ptr, sizeof pending);
        if (pending.place == PENDING_WAITING) {
            all[(*len)++] = (struct job_delayed){.number = key_read_u64(rest.ptr), .until = pending.until};
            left--;
        }
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

enum err job_all_delayed(struct queue *queue, struct group *group, struct job_delayed **out, size_t *out_len)
{
    struct walk walk = walk_of(queue->rows, TABLE_QUEUE, queue_key(queue->tid, ROW_DELAYED));
    struct job_delayed *all = arena_alloc(queue->turn->arena, 2 * JOB_LOOKS * sizeof *all);
    size_t bytes = 0;
    struct bytes rest, value;
    enum err err = OK;
    *out = all;
    *out_len = 0;
    TRY(find_waiting(queue, group, all, out_len));
    for (unsigned n = 0; n < JOB_LOOKS && bytes < LOOK_BYTES && (err = walk_next(&walk, &rest, &value)) == OK; n++) {
        struct message message;
        TRY(message_read(value, &message));
        bytes += value.len;
        all[(*out_len)++] =
            (struct job_delayed){.message = message.id, .until = message.available_at, .delay_ms = delay_of(&message)};
    }
    TRY(err == ERR_NOT_FOUND ? OK : err);
    qsort(all, *out_len, sizeof *all, by_time);
    return OK;
}

/* The soonest first. */
static enum err kick_all_delayed(struct queue *queue, struct group *group, int64_t most, int64_t *count)
{
    struct job_delayed *all;
    size_t len;
    TRY(job_all_delayed(queue, group, &all, &len));
    for (size_t i = 0; i < len && *count < most && queue->moves < LIMIT_RING_MOVES; i++) {
        TRY(all[i].number != 0 ? kick_waiting(queue, group, all[i].number)
                               : hurry_delayed(queue, group, all[i].message, all[i].delay_ms, PAST_HURRY));
        (*count)++;
    }
    return OK;
}

enum err job_first_dead(struct queue *queue, const struct group *group, uint64_t *out)
{
    struct queue_key key = group_key(queue->tid, group->gid, ROW_BURIED);
    struct bytes found, value;
    enum err err = queue_ceil(queue->rows, TABLE_GROUP, &key, key.len, &found, &value);
    if (err == OK) {
        *out = key_read_u64(found.ptr + key.len + 8);
        return OK;
    }
    TRY(err == ERR_NOT_FOUND ? OK : err);
    key = group_key(queue->tid, group->gid, ROW_DEAD); /* others' attempts were used up */
    TRY(queue_ceil(queue->rows, TABLE_GROUP, &key, key.len, &found, &value));
    *out = key_read_u64(found.ptr + key.len);
    return OK;
}

static enum err kick_dead(struct queue *queue, struct group *group, int64_t most, int64_t *count)
{
    for (; *count < most && group->state.dead > 0; (*count)++) {
        uint64_t number;
        TRY(job_first_dead(queue, group, &number));
        TRY(queue_settle_dead(queue, group, DEAD_REDRIVE, number));
    }
    return OK;
}

static enum err kick_some(struct queue *queue, struct group *group, const struct job_ask *in, struct job_done *done)
{
    int64_t count = 0;
    bool dead = group->state.dead > 0;
    if (in->max == 0) {
        FIELD_SET(job_done_fields, done, struct job_done, count, 0); /* whoever asks so wants the group made */
        return OK;
    }
    if (dead) {
        TRY(kick_dead(queue, group, in->max, &count));
    } else {
        TRY(kick_all_delayed(queue, group, in->max, &count));
    }
    bool left = dead ? group->state.dead > 0 : queue->state.delayed > 0 || group->state.waiting > 0;
    FIELD_SET(job_done_fields, done, struct job_done, count, count);
    FIELD_SET(job_done_fields, done, struct job_done, more, left && count > 0);
    return OK;
}

/* ---- reserving ---- */

#define DONE(member, value) FIELD_SET(job_done_fields, done, struct job_done, member, value)

static enum err reserve_pending(struct queue *queue, struct group *group, uint64_t number, struct job_done *done)
{
    struct received received;
    TRY(receive_this(queue, group, number, &received));
    DONE(smallest, (int64_t)received.smallest);
    DONE(id, (int64_t)received.id);
    DONE(gid, (int64_t)received.gid);
    return OK;
}

/* What stands before it in its line becomes ready with it. */
static enum err reserve_untaken(struct queue *queue, struct group *group, const struct job_found *job,
                                struct job_done *done)
{
    bool more;
    struct pending pending;
    TRY(receive_up_to(queue, group, job->number, &job->message, &more));
    DONE(more, more);
    if (more) {
        return OK;
    }
    TRY(group_pending(queue, group, job->number, &pending));
    return pending.place == PENDING_READY ? reserve_pending(queue, group, job->number, done) : OK;
}

static enum err reserve_dead(struct queue *queue, struct group *group, uint64_t number, struct job_done *done)
{
    struct dead dead;
    TRY(group_undead(queue, group, number, &dead));
    const struct pending pending = {.place = PENDING_READY, .attempts = dead.attempts, .priority = dead.priority};
    TRY(group_pend(queue, group, number, &pending));
    return reserve_pending(queue, group, number, done);
}

static enum err reserve_job(struct queue *queue, struct group *group, uint64_t message, const struct job_found *job,
                            struct job_done *done)
{
    struct job_found again;
    switch (job->place) {
    case JOB_UNTAKEN: return reserve_untaken(queue, group, job, done);
    case JOB_READY:
    case JOB_WAITING: return reserve_pending(queue, group, job->number, done);
    case JOB_DEAD: return reserve_dead(queue, group, job->number, done);
    case JOB_DELAYED:
        TRY(hurry_delayed(queue, group, message, delay_of(&job->message), PAST_CUT));
        TRY(job_find(queue, group, message, &again));
        return reserve_untaken(queue, group, &again, done);
    case JOB_PARKED:
    case JOB_AWAY: break;
    }
    return ERR_CORRUPT;
}

/* ---- the command ---- */

/* Of a topic that keeps what is acknowledged nobody can say of one message out of its turn that it is done: other
 * groups have to do with it, later ones of its key look at it. A dead letter with a key may not be taken while another
 * one of its key is under way. */
static bool may(const struct queue *queue, const struct job_found *job, enum job_verb verb)
{
    bool delayed = job->place == JOB_DELAYED || job->place == JOB_WAITING;
    bool out_of_turn = job->place == JOB_UNTAKEN || job->place == JOB_PARKED;
    switch (verb) {
    case JOB_DELETE: return job->place != JOB_AWAY && (!out_of_turn || !queue->topic.retain_acked);
    case JOB_KICK: return delayed || job->place == JOB_DEAD;
    case JOB_RESERVE:
        return delayed || job->place == JOB_UNTAKEN || job->place == JOB_READY ||
               (job->place == JOB_DEAD && job->message.key_hash == 0);
    case JOB_KICK_SOME: break;
    }
    return false;
}

static enum err carry_out(struct queue *queue, struct group *group, const struct job_ask *in,
                          const struct job_found *job, struct job_done *done)
{
    uint64_t message = (uint64_t)in->message;
    switch ((enum job_verb)in->verb) {
    case JOB_DELETE: return delete_job(queue, group, message, job);
    case JOB_KICK: return kick_job(queue, group, message, job);
    case JOB_RESERVE: return reserve_job(queue, group, message, job, done);
    case JOB_KICK_SOME: break;
    }
    return kick_some(queue, group, in, done);
}

enum err job_reduce(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct job_ask *in = raw;
    struct queue queue;
    struct group *group;
    struct job_found job = {0};
    struct job_done done = {0};
    TRY(queue_open(&queue, turn, turn->key));
    if (!topic_allows(&queue.topic, &turn->caller, USE_CONSUME)) {
        return ERR_FORBIDDEN;
    }
    TRY(topic_name_is_good(in->group) ? queue_group_for(&queue, in->group, &group) : ERR_BAD_REQUEST);
    enum err err = in->verb == JOB_KICK_SOME ? ERR_NOT_FOUND : job_find(&queue, group, (uint64_t)in->message, &job);
    bool can = in->verb == JOB_KICK_SOME || (err == OK && may(&queue, &job, (enum job_verb)in->verb));
    TRY(err == ERR_NOT_FOUND ? OK : err);
    FIELD_SET(job_done_fields, &done, struct job_done, count, can);
    err = can ? carry_out(&queue, group, in, &job, &done) : OK;
    TRY(err == ERR_NOT_FOUND ? ERR_CORRUPT : err); /* half of it may be written */
    reply_struct(reply, job_done_fields, &done);
    return queue_save(&queue);
}
