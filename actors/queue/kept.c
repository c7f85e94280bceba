/* The messages of a topic: becoming available, and being erased. */
#include "actors/queue/group.h"
#include "node/limits.h"

/* Large messages count for more: a command moves some megabytes at most. */
enum { MOVE_BYTES = 16 * 1024 };

enum err queue_message(struct queue *queue, uint64_t number, struct message *out)
{
    struct queue_key key = message_key(queue->tid, number);
    struct bytes row;
    TRY(rows_get(queue->rows, TABLE_MESSAGE, key_of(&key), &row));
    return message_read(row, out);
}

enum err queue_number_of(struct rows *rows, uint64_t tid, uint64_t id, uint64_t *out)
{
    struct queue_key key = queue_key(tid, ROW_MOVED);
    struct bytes value;
    key_u64_add(&key, id);
    enum err err = rows_get(rows, TABLE_QUEUE, key_of(&key), &value);
    *out = id;
    if (err == OK) {
        TRY(value.len == sizeof *out ? OK : ERR_CORRUPT);
        memcpy(out, value.ptr, sizeof *out);
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static struct queue_key lane_key(const struct queue *queue, uint32_t priority)
{
    struct queue_key key = queue_key(queue->tid, ROW_LANE);
    key_u32(&key, priority);
    return key;
}

enum err queue_has_lane(struct queue *queue, uint32_t priority, bool *out)
{
    struct queue_key key = lane_key(queue, priority);
    struct bytes found, value;
    enum err err = queue_ceil(queue->rows, TABLE_QUEUE, &key, key.len, &found, &value);
    *out = err == OK;
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err add_lane(struct queue *queue, uint32_t priority, uint64_t number)
{
    struct queue_key key = lane_key(queue, priority);
    bool has;
    TRY(queue_has_lane(queue, priority, &has));
    queue->state.lanes += !has;
    queue->state.apart++;
    key_u64_add(&key, number);
    return rows_put(queue->rows, TABLE_QUEUE, key_of(&key), BYTES_NONE);
}

/* How far groups came in a lane says nothing when it is empty: what comes there later has a greater number. */
static enum err forget_lane(struct queue *queue, uint32_t priority)
{
    TRY(queue_all_groups(queue));
    for (struct group *group = queue->groups; group != NULL; group = group->next) {
        struct queue_key key = group_key(queue->tid, group->gid, ROW_LANE_AT);
        key_u32(&key, priority);
        enum err err = rows_del(queue->rows, TABLE_GROUP, key_of(&key));
        TRY(err == ERR_NOT_FOUND ? OK : err);
    }
    queue->state.lanes--;
    return OK;
}

static enum err del_lane(struct queue *queue, uint32_t priority, uint64_t number)
{
    struct queue_key key = lane_key(queue, priority);
    bool has;
    key_u64_add(&key, number);
    TRY(rows_del(queue->rows, TABLE_QUEUE, key_of(&key)));
    TRY(queue_has_lane(queue, priority, &has));
    queue->state.apart--;
    return has ? OK : forget_lane(queue, priority);
}

/* When there are as many lanes as there may be, what comes late, its delay being over, goes to the next one that is
 * less urgent, or to the last. */
static enum err find_lane(struct queue *queue, uint32_t *priority)
{
    struct queue_key key = lane_key(queue, *priority), end = queue_key(queue->tid, ROW_LANE + 1);
    const size_t prefix = key.len - sizeof *priority;
    struct bytes found, value;
    if (queue->state.lanes < LIMIT_PRIORITIES) {
        return OK;
    }
    enum err err = queue_ceil(queue->rows, TABLE_QUEUE, &key, prefix, &found, &value);
    if (err == ERR_NOT_FOUND) {
        err = rows_below(queue->rows, TABLE_QUEUE, key_of(&end), &found, &value);
    }
    TRY(err == ERR_NOT_FOUND ? ERR_CORRUPT : err);
    *priority = key_read_u32(found.ptr + prefix);
    return OK;
}

static struct queue_key keyed_key(const struct queue *queue, uint64_t key_hash, uint64_t number)
{
    struct queue_key key = queue_key(queue->tid, ROW_KEYED);
    key_u64_add(&key, key_hash);
    key_u64_add(&key, number);
    return key;
}

enum err queue_before_in_key(struct queue *queue, uint64_t key_hash, uint64_t number, uint64_t *out)
{
    struct queue_key key = keyed_key(queue, key_hash, number);
    struct bytes found, value, prefix = bytes_of(key.b, key.len - sizeof number);
    enum err err = rows_below(queue->rows, TABLE_QUEUE, key_of(&key), &found, &value);
    *out = err == OK && bytes_start_with(found, prefix) ? key_read_u64(found.ptr + prefix.len) : 0;
    return err == ERR_NOT_FOUND ? OK : err;
}

/* The one time of its type that a topic has. */
static enum err move_time(struct queue *queue, enum queue_time type, int64_t *at, int64_t to)
{
    struct queue_key old = time_key(*at, type, queue->tid), key = time_key(to, type, queue->tid);
    if (*at != 0) {
        TRY(rows_del(queue->rows, TABLE_QUEUE_TIME, key_of(&old)));
    }
    *at = to;
    queue->changed = true;
    return to == 0 ? OK : rows_put(queue->rows, TABLE_QUEUE_TIME, key_of(&key), BYTES_NONE);
}

enum err queue_retain_at(struct queue *queue, int64_t at)
{
    return move_time(queue, TIME_RETAIN, &queue->state.retain_at, at);
}

enum err queue_dedup_at(struct queue *queue, int64_t at)
{
    return move_time(queue, TIME_DEDUP, &queue->state.dedup_at, at);
}

enum err queue_index(struct queue *queue, uint64_t number, const struct message *message)
{
    struct queue_key keyed = keyed_key(queue, message->key_hash, number), moved = queue_key(queue->tid, ROW_MOVED);
    key_u64_add(&moved, message->id);
    TRY(message->key_hash != 0 ? rows_put(queue->rows, TABLE_QUEUE, key_of(&keyed), BYTES_NONE) : OK);
    TRY((message->flags & MESSAGE_APART) != 0 ? add_lane(queue, message->priority, number) : OK);
    return message->id == number ? OK
                                 : rows_put(queue->rows, TABLE_QUEUE, key_of(&moved), bytes_of(&number, sizeof number));
}

enum err queue_append(struct queue *queue, struct message message)
{
    struct buf image = {0};
    uint64_t number = queue->state.next++;
    message.id = message.id == 0 ? number : message.id;
    message.available_at = queue->turn->now_ms;
    message.ordinal = queue->state.available;
    bool apart = message.id != number || message.priority != PRIORITY_USUAL;
    message.flags = (uint8_t)((message.flags & ~MESSAGE_APART) | (apart ? MESSAGE_APART : 0));
    TRY(apart ? find_lane(queue, &message.priority) : OK);
    TRY(queue_index(queue, number, &message));
    struct queue_key key = message_key(queue->tid, number);
    message_add(&image, &message);
    enum err err = rows_put(queue->rows, TABLE_MESSAGE, key_of(&key), buf_bytes(&image));
    queue->state.bytes += image.len;
    queue->state.slips += message.destinations.len > 0;
    buf_free(&image);
    queue->state.retained++;
    queue->state.available++;
    queue->changed = queue->touched = true;
    TRY(err);
    return queue->state.retain_at == 0 ? queue_retain_at(queue, message.available_at + queue->topic.retention_ms) : OK;
}

enum err queue_undelay(struct queue *queue, uint64_t id)
{
    struct queue_key key = queue_key(queue->tid, ROW_DELAYED);
    struct bytes row;
    struct buf copy = {0};
    struct message message;
    key_u64_add(&key, id);
    TRY(rows_get(queue->rows, TABLE_QUEUE, key_of(&key), &row));
    buf_add_bytes(&copy, row);
    enum err err = message_read(buf_bytes(&copy), &message);
    struct queue_key time = time_key(err == OK ? message.available_at : 0, TIME_DELAYED, queue->tid);
    key_u64_add(&time, id);
    err = err == OK ? rows_del(queue->rows, TABLE_QUEUE, key_of(&key)) : err;
    err = err == OK ? rows_del(queue->rows, TABLE_QUEUE_TIME, key_of(&time)) : err;
    queue->state.delayed--;
    queue->moves += 1 + (unsigned)(copy.len / MOVE_BYTES);
    err = err == OK ? queue_append(queue, message) : err;
    buf_free(&copy);
    return err == ERR_NOT_FOUND ? ERR_CORRUPT : err; /* half of it is written */
}

/* What a group still had to do with it ends. */
static enum err group_lose(struct queue *queue, struct group *group, uint64_t number, const struct message *message)
{
    bool taken;
    struct pending pending;
    TRY(group_has_taken(queue, group, number, message, &taken));
    if (!taken) {
        group->state.passed++;
        group->state.dropped++;
        group->changed = true;
        return group_release(queue, group, number, message->key_hash);
    }
    if (group->state.ready + group->state.parked + group->state.waiting > 0) {
        enum err err = group_pending(queue, group, number, &pending);
        if (err == OK) {
            TRY(group_unpend(queue, group, number, &pending));
            group->state.dropped++;
            return group_release(queue, group, number, pending.key_hash);
        }
        TRY(err == ERR_NOT_FOUND ? OK : err);
    }
    if (group->state.dead > 0) {
        struct dead dead;
        enum err err = group_undead(queue, group, number, &dead);
        group->state.dropped += err == OK;
        return err == ERR_NOT_FOUND ? OK : err;
    }
    return OK;
}

/* What an erased message leaves behind. */
struct leaving {
    uint64_t number, id, key_hash;
    uint32_t priority;
    bool apart, job;
    size_t size;
};

static struct leaving leaving_of(uint64_t number, const struct message *message)
{
    return (struct leaving){.number = number,
                            .id = message->id,
                            .key_hash = message->key_hash,
                            .priority = message->priority,
                            .apart = (message->flags & MESSAGE_APART) != 0,
                            .job = message->lease_s > 0,
                            .size = MESSAGE_HEAD_BYTES + message->key.len + message->headers.len +
                                    message->destinations.len + message->body.len};
}

/* The message, and what leads to it. */
static enum err erase_row(struct queue *queue, const struct leaving *leaving)
{
    struct queue_key key = message_key(queue->tid, leaving->number), moved = queue_key(queue->tid, ROW_MOVED);
    struct queue_key keyed = keyed_key(queue, leaving->key_hash, leaving->number);
    queue->state.retained--;
    queue->state.bytes -= leaving->size;
    queue->changed = true;
    queue->moves++;
    TRY(rows_del(queue->rows, TABLE_MESSAGE, key_of(&key)));
    TRY(leaving->job ? past_forget(queue, leaving->number) : OK);
    key_u64_add(&moved, leaving->id);
    TRY(leaving->id != leaving->number ? rows_del(queue->rows, TABLE_QUEUE, key_of(&moved)) : OK);
    return leaving->key_hash != 0 ? rows_del(queue->rows, TABLE_QUEUE, key_of(&keyed)) : OK;
}

static enum err leave_lane(struct queue *queue, const struct leaving *leaving)
{
    return leaving->apart ? del_lane(queue, leaving->priority, leaving->number) : OK;
}

static enum err erase(struct queue *queue, const struct leaving *leaving)
{
    TRY(erase_row(queue, leaving));
    return leave_lane(queue, leaving);
}

enum err queue_erase(struct queue *queue, uint64_t number)
{
    struct message message;
    TRY(queue_message(queue, number, &message));
    struct leaving leaving = leaving_of(number, &message);
    queue->state.holes = number + 1 > queue->state.holes ? number + 1 : queue->state.holes;
    return erase(queue, &leaving);
}

/* The row goes first: what waits for it in a group goes on when it is not there any more. Its lane goes last: it says
 * whether a group had taken it. */
enum err queue_drop(struct queue *queue, uint64_t number)
{
    struct message message;
    TRY(queue_all_groups(queue));
    TRY(queue_message(queue, number, &message));
    struct leaving leaving = leaving_of(number, &message);
    message.key = message.headers = message.destinations = message.body = BYTES_NONE; /* they are the row's */
    TRY(erase_row(queue, &leaving));
    for (struct group *group = queue->groups; group != NULL; group = group->next) {
        TRY(group_lose(queue, group, number, &message));
    }
    queue->state.dropped++;
    return leave_lane(queue, &leaving);
}

/* The smallest number that a group has taken and is not through with; a delivery is kept until all of it is done. */
static enum err group_floor(struct queue *queue, struct group *group, uint64_t *out)
{
    struct bytes found, value;
    struct queue_key key = group_key(queue->tid, group->gid, ROW_DELIVERY);
    uint64_t floor = UINT64_MAX;
    enum err err = queue_ceil(queue->rows, TABLE_GROUP, &key, key.len, &found, &value);
    if (err == OK && key_read_u64(found.ptr + key.len) < floor) {
        floor = key_read_u64(found.ptr + key.len);
    }
    TRY(err == ERR_NOT_FOUND ? OK : err);
    const enum group_row rows[] = {ROW_PENDING, ROW_DEAD};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        key = group_key(queue->tid, group->gid, rows[i]);
        err = queue_ceil(queue->rows, TABLE_GROUP, &key, key.len, &found, &value);
        if (err == OK && key_read_u64(found.ptr + key.len) < floor) {
            floor = key_read_u64(found.ptr + key.len);
        }
        TRY(err == ERR_NOT_FOUND ? OK : err);
    }
    *out = floor;
    return OK;
}

static enum err all_have_taken(struct queue *queue, uint64_t number, const struct message *message, bool *out)
{
    *out = true;
    for (struct group *group = queue->groups; group != NULL && *out; group = group->next) {
        TRY(group_has_taken(queue, group, number, message, out));
    }
    return OK;
}

enum err queue_reclaim(struct queue *queue, uint64_t most)
{
    uint64_t floor = UINT64_MAX, of_group;
    TRY(queue_all_groups(queue));
    for (struct group *group = queue->groups; group != NULL; group = group->next) {
        TRY(group_floor(queue, group, &of_group));
        floor = of_group < floor ? of_group : floor;
    }
    if (queue->groups == NULL) {
        return OK;
    }
    for (uint64_t n = 0; n < most; n++) {
        struct queue_key key = message_key(queue->tid, queue->state.first);
        struct bytes found, row;
        struct message message;
        bool done;
        enum err err = queue_ceil(queue->rows, TABLE_MESSAGE, &key, 8, &found, &row);
        if (err != OK) {
            return err == ERR_NOT_FOUND ? OK : err;
        }
        uint64_t number = key_read_u64(found.ptr + 8);
        if (number >= floor) {
            return OK;
        }
        TRY(message_read(row, &message));
        TRY(all_have_taken(queue, number, &message, &done));
        if (!done) {
            return OK;
        }
        struct leaving leaving = leaving_of(number, &message);
        TRY(erase(queue, &leaving));
        queue->state.first = number + 1;
    }
    return OK;
}
