#include "actors/queue/group.h"

#include "node/limits.h"

const char *const death_names[] = {"", "attempts", "buried", "undeliverable", NULL};

/* ---- opening and saving ---- */

static enum err open_state(struct queue *queue, struct turn *turn, uint64_t tid)
{
    struct bytes name;
    queue->turn = turn;
    queue->rows = turn->rows;
    queue->tid = tid;
    TRY(topic_state_find(turn->rows, tid, &queue->state, &name));
    queue->name = arena_copy(turn->arena, name);
    return OK;
}

enum err queue_open(struct queue *queue, struct turn *turn, struct bytes name)
{
    struct bytes packed;
    *queue = (struct queue){0};
    TRY(rows_get(turn->rows, TABLE_TOPIC, name, &packed));
    TRY(field_unpack(topic_fields, arena_copy(turn->arena, packed), &queue->topic));
    return open_state(queue, turn, (uint64_t)queue->topic.tid) == OK ? OK : ERR_CORRUPT;
}

enum err queue_open_tid(struct queue *queue, struct turn *turn, uint64_t tid)
{
    struct bytes packed;
    *queue = (struct queue){0};
    TRY(open_state(queue, turn, tid));
    TRY(rows_get(turn->rows, TABLE_TOPIC, queue->name, &packed));
    return field_unpack(topic_fields, arena_copy(turn->arena, packed), &queue->topic);
}

static enum err put_group(struct queue *queue, const struct group *group)
{
    struct queue_key key = group_key(queue->tid, group->gid, ROW_GROUP);
    struct buf value = {0};
    buf_add(&value, &group->state, sizeof group->state);
    buf_add_bytes(&value, group->name);
    enum err err = rows_put(queue->rows, TABLE_GROUP, key_of(&key), buf_bytes(&value));
    buf_free(&value);
    return err;
}

enum err queue_save(struct queue *queue)
{
    for (struct group *group = queue->groups; group != NULL; group = group->next) {
        if (group->changed) {
            TRY(put_group(queue, group));
            group->changed = false;
        }
    }
    if (queue->changed) {
        TRY(topic_state_put(queue->rows, queue->tid, &queue->state, queue->name));
        queue->changed = false;
    }
    if (queue->touched) {
        turn_touch(queue->turn, topic_watch_id(queue->name));
        queue->touched = false;
    }
    return OK;
}

/* ---- groups ---- */

enum err group_find(struct rows *rows, uint64_t tid, uint32_t gid, struct group_state *out, struct bytes *out_name)
{
    struct queue_key key = group_key(tid, gid, ROW_GROUP);
    struct bytes value;
    TRY(rows_get(rows, TABLE_GROUP, key_of(&key), &value));
    if (value.len < sizeof *out) {
        return ERR_CORRUPT;
    }
    memcpy(out, value.ptr, sizeof *out);
    *out_name = bytes_of(value.ptr + sizeof *out, value.len - sizeof *out);
    return OK;
}

int64_t group_paused_until(struct bytes row)
{
    struct group_state state = {0};
    memcpy(&state, row.ptr, row.len < sizeof state ? 0 : sizeof state);
    return state.paused_until;
}

enum err group_find_gid(struct rows *rows, uint64_t tid, struct bytes name, uint32_t *out)
{
    struct queue_key key = queue_key(tid, ROW_GROUP_NAME);
    struct bytes value;
    key_bytes_add(&key, name);
    TRY(rows_get(rows, TABLE_QUEUE, key_of(&key), &value));
    if (value.len != sizeof *out) {
        return ERR_CORRUPT;
    }
    memcpy(out, value.ptr, sizeof *out);
    return OK;
}

static struct group *add_group(struct queue *queue, uint32_t gid, struct bytes name)
{
    struct group *group = arena_zalloc(queue->turn->arena, sizeof *group);
    group->gid = gid;
    group->name = arena_copy(queue->turn->arena, name);
    group->next = queue->groups;
    queue->groups = group;
    return group;
}

enum err queue_group(struct queue *queue, uint32_t gid, struct group **out)
{
    struct group_state state;
    struct bytes name;
    for (struct group *group = queue->groups; group != NULL; group = group->next) {
        if (group->gid == gid) {
            *out = group;
            return OK;
        }
    }
    TRY(group_find(queue->rows, queue->tid, gid, &state, &name));
    *out = add_group(queue, gid, name);
    (*out)->state = state;
    return OK;
}

enum err queue_group_named(struct queue *queue, struct bytes name, struct group **out)
{
    uint32_t gid;
    for (struct group *group = queue->groups; group != NULL; group = group->next) {
        if (bytes_eq(group->name, name)) {
            *out = group;
            return OK;
        }
    }
    TRY(group_find_gid(queue->rows, queue->tid, name, &gid));
    return queue_group(queue, gid, out);
}

enum err queue_group_new(struct queue *queue, struct bytes name, struct group **out)
{
    struct queue_key key = queue_key(queue->tid, ROW_GROUP_NAME);
    uint32_t gid = ++queue->state.next_gid;
    key_bytes_add(&key, name);
    TRY(rows_put(queue->rows, TABLE_QUEUE, key_of(&key), bytes_of(&gid, sizeof gid)));
    struct group *group = add_group(queue, gid, name);
    group->state = (struct group_state){.start = queue->state.first,
                                        .cursor = queue->state.first,
                                        .passed = queue->state.available - queue->state.retained,
                                        .created_at = queue->turn->now_ms,
                                        .active_at = queue->turn->now_ms};
    group->changed = true;
    queue->state.groups++;
    queue->changed = true;
    *out = group;
    return OK;
}

enum err queue_all_groups(struct queue *queue)
{
    struct queue_key key = queue_key(queue->tid, ROW_GROUP_NAME);
    size_t prefix = key.len;
    struct bytes found, value;
    enum err err;
    while (!queue->all && (err = queue_ceil(queue->rows, TABLE_QUEUE, &key, prefix, &found, &value)) == OK) {
        struct group *group;
        uint32_t gid;
        if (value.len != sizeof gid) {
            return ERR_CORRUPT;
        }
        memcpy(&gid, value.ptr, sizeof gid);
        key.len = prefix;
        key_bytes_add(&key, bytes_of(found.ptr + prefix, found.len - prefix));
        key_bytes_add(&key, bytes_of("", 1)); /* the next one */
        TRY(queue_group(queue, gid, &group));
    }
    if (!queue->all && err != ERR_NOT_FOUND) {
        return err;
    }
    queue->all = true;
    return OK;
}

static struct queue_key resume_key(const struct queue *queue, const struct group *group)
{
    struct queue_key key = time_key(group->state.paused_until, TIME_RESUME, queue->tid);
    key_u32(&key, group->gid);
    return key;
}

enum err queue_resume_at(struct queue *queue, struct group *group, int64_t at)
{
    struct queue_key key = resume_key(queue, group);
    if (group->state.paused_until != 0) {
        TRY(rows_del(queue->rows, TABLE_QUEUE_TIME, key_of(&key)));
    }
    group->state.paused_until = at;
    group->changed = true;
    key = resume_key(queue, group);
    return at == 0 ? OK : rows_put(queue->rows, TABLE_QUEUE_TIME, key_of(&key), BYTES_NONE);
}

enum err queue_group_end(struct queue *queue, struct group *group)
{
    struct queue_key sweep = time_key(queue->turn->now_ms, TIME_SWEEP, queue->tid),
                     name = queue_key(queue->tid, ROW_GROUP_NAME);
    struct queue_key row = group_key(queue->tid, group->gid, ROW_GROUP);
    key_u32(&sweep, group->gid);
    key_bytes_add(&name, group->name);
    TRY(rows_del(queue->rows, TABLE_QUEUE, key_of(&name)));
    enum err err = rows_del(queue->rows, TABLE_GROUP, key_of(&row));
    TRY(err == ERR_NOT_FOUND ? OK : err); /* made in this turn */
    TRY(queue_resume_at(queue, group, 0));
    for (struct group **link = &queue->groups; *link != NULL; link = &(*link)->next) {
        if (*link == group) {
            *link = group->next;
            break;
        }
    }
    queue->state.groups--;
    queue->changed = true;
    return rows_put(queue->rows, TABLE_QUEUE_TIME, key_of(&sweep), BYTES_NONE);
}

/* ---- messages of the topic ---- */

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

/* The kept message with that key before that one; 0: there is none. */
static enum err before_in_key(struct queue *queue, uint64_t key_hash, uint64_t number, uint64_t *out)
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
        struct queue_key key = group_key(queue->tid, group->gid, ROW_DEAD);
        key_u64_add(&key, number);
        enum err err = rows_del(queue->rows, TABLE_GROUP, key_of(&key));
        group->state.dead -= err == OK;
        group->state.dropped += err == OK;
        group->changed = group->changed || err == OK;
        return err == ERR_NOT_FOUND ? OK : err;
    }
    return OK;
}

/* What an erased message leaves behind. */
struct leaving {
    uint64_t number, id, key_hash;
    uint32_t priority;
    bool apart;
    size_t size;
};

static struct leaving leaving_of(uint64_t number, const struct message *message)
{
    return (struct leaving){.number = number,
                            .id = message->id,
                            .key_hash = message->key_hash,
                            .priority = message->priority,
                            .apart = (message->flags & MESSAGE_APART) != 0,
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

/* ---- a message's place in a group ---- */

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
    TRY(before_in_key(queue, key_hash, number, &before));
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

enum err group_bury(struct queue *queue, struct group *group, struct taken taken, enum death reason)
{
    struct queue_key key = number_key(queue, group, ROW_DEAD, taken.number);
    struct dead dead = {
        .attempts = taken.attempts, .priority = taken.priority, .at = queue->turn->now_ms, .reason = (uint32_t)reason};
    struct message message;
    leave_flight(queue, group);
    enum err err = queue_message(queue, taken.number, &message);
    if (err == OK) {
        group->state.dead++;
        group->state.died++;
        TRY(rows_put(queue->rows, TABLE_GROUP, key_of(&key), bytes_of(&dead, sizeof dead)));
    } else if (err == ERR_NOT_FOUND) {
        group->state.dropped++; /* retention took it while it was in flight */
    } else {
        return err;
    }
    return group_release(queue, group, taken.number, taken.key_hash);
}

enum err group_retry(struct queue *queue, struct group *group, struct taken taken, int64_t delay_ms)
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

enum err group_revive(struct queue *queue, struct group *group, uint64_t number)
{
    struct queue_key key = number_key(queue, group, ROW_DEAD, number);
    struct dead dead;
    struct message message;
    uint64_t holder = 0;
    TRY(group_dead(queue, group, number, &dead));
    TRY(rows_del(queue->rows, TABLE_GROUP, key_of(&key)));
    group->state.dead--;
    group->changed = true;
    queue->moves++;
    TRY(queue_message(queue, number, &message)); /* dead letters go when their messages go */
    struct pending pending = {.place = PENDING_READY, .priority = dead.priority, .key_hash = message.key_hash};
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
