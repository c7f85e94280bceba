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

static enum err del_lane(struct queue *queue, uint32_t priority, uint64_t number)
{
    struct queue_key key = lane_key(queue, priority);
    bool has;
    key_u64_add(&key, number);
    TRY(rows_del(queue->rows, TABLE_QUEUE, key_of(&key)));
    TRY(queue_has_lane(queue, priority, &has));
    queue->state.lanes -= !has;
    queue->state.apart--;
    return OK;
}

static struct queue_key keyed_key(const struct queue *queue, uint64_t key_hash)
{
    struct queue_key key = queue_key(queue->tid, ROW_KEYED);
    key_u64_add(&key, key_hash);
    return key;
}

/* The newest message of the key; 0: none is kept. */
static enum err newest_of_key(struct queue *queue, uint64_t key_hash, uint64_t *out)
{
    struct queue_key key = keyed_key(queue, key_hash);
    struct bytes value;
    enum err err = rows_get(queue->rows, TABLE_QUEUE, key_of(&key), &value);
    *out = 0;
    if (err == OK) {
        TRY(value.len == sizeof *out ? OK : ERR_CORRUPT);
        memcpy(out, value.ptr, sizeof *out);
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

enum err queue_retain_at(struct queue *queue, int64_t at)
{
    struct queue_key old = time_key(queue->state.retain_at, TIME_RETAIN, queue->tid);
    struct queue_key key = time_key(at, TIME_RETAIN, queue->tid);
    if (queue->state.retain_at != 0) {
        TRY(rows_del(queue->rows, TABLE_QUEUE_TIME, key_of(&old)));
    }
    queue->state.retain_at = at;
    queue->changed = true;
    return at == 0 ? OK : rows_put(queue->rows, TABLE_QUEUE_TIME, key_of(&key), BYTES_NONE);
}

static enum err chain_key(struct queue *queue, struct message *message, uint64_t number)
{
    struct queue_key key = keyed_key(queue, message->key_hash);
    TRY(newest_of_key(queue, message->key_hash, &message->before));
    return rows_put(queue->rows, TABLE_QUEUE, key_of(&key), bytes_of(&number, sizeof number));
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
    if (message.key_hash != 0) {
        TRY(chain_key(queue, &message, number));
    }
    if (apart) {
        TRY(add_lane(queue, message.priority, number));
    }
    if (message.id != number) {
        struct queue_key moved = queue_key(queue->tid, ROW_MOVED);
        key_u64_add(&moved, message.id);
        TRY(rows_put(queue->rows, TABLE_QUEUE, key_of(&moved), bytes_of(&number, sizeof number)));
    }
    struct queue_key key = message_key(queue->tid, number);
    message_add(&image, &message);
    enum err err = rows_put(queue->rows, TABLE_MESSAGE, key_of(&key), buf_bytes(&image));
    queue->state.bytes += image.len;
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

static enum err erase(struct queue *queue, uint64_t number, const struct message *message, size_t size)
{
    struct queue_key key = message_key(queue->tid, number);
    uint64_t newest, id = message->id, key_hash = message->key_hash;
    uint32_t priority = message->priority;
    bool apart = (message->flags & MESSAGE_APART) != 0;
    TRY(rows_del(queue->rows, TABLE_MESSAGE, key_of(&key)));
    if (apart) {
        TRY(del_lane(queue, priority, number));
    }
    if (id != number) {
        struct queue_key moved = queue_key(queue->tid, ROW_MOVED);
        key_u64_add(&moved, id);
        TRY(rows_del(queue->rows, TABLE_QUEUE, key_of(&moved)));
    }
    if (key_hash != 0) {
        TRY(newest_of_key(queue, key_hash, &newest));
        struct queue_key keyed = keyed_key(queue, key_hash);
        TRY(newest == number ? rows_del(queue->rows, TABLE_QUEUE, key_of(&keyed)) : OK);
    }
    queue->state.retained--;
    queue->state.bytes -= size;
    queue->changed = true;
    queue->moves++;
    return OK;
}

static size_t image_bytes(const struct message *message)
{
    return MESSAGE_HEAD_BYTES + message->key.len + message->headers.len + message->destinations.len + message->body.len;
}

enum err queue_drop(struct queue *queue, uint64_t number)
{
    struct message message;
    TRY(queue_all_groups(queue));
    TRY(queue_message(queue, number, &message));
    size_t size = image_bytes(&message); /* the row moves when others are written */
    message.key = message.headers = message.destinations = message.body = BYTES_NONE;
    for (struct group *group = queue->groups; group != NULL; group = group->next) {
        TRY(group_lose(queue, group, number, &message));
    }
    queue->state.dropped++;
    return erase(queue, number, &message, size);
}

/* The smallest number that a group is not through with. */
static enum err group_floor(struct queue *queue, struct group *group, uint64_t *out)
{
    struct bytes found, value;
    struct queue_key key = group_key(queue->tid, group->gid, ROW_DELIVERY);
    uint64_t floor = group->state.cursor;
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

/* Of those apart, one that the group has not taken: the floor is not above it. */
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
        TRY(queue_message(queue, number, &message));
        size_t size = image_bytes(&message);
        message.key = message.headers = message.destinations = message.body = BYTES_NONE;
        TRY(erase(queue, number, &message, size));
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

/* The one before it with its key is not taken yet: it stands in another lane. */
static enum err waits_for_untaken(struct queue *queue, struct group *group, const struct message *message, bool *out)
{
    struct message before;
    bool taken = true;
    *out = false;
    if (message->before == 0 || message->before < group->state.start || queue->state.apart == 0) {
        return OK;
    }
    enum err err = queue_message(queue, message->before, &before);
    if (err == OK) {
        err = group_has_taken(queue, group, message->before, &before, &taken);
        *out = !taken;
    }
    return err == ERR_NOT_FOUND ? OK : err;
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
    return *out ? OK : waits_for_untaken(queue, group, message, out);
}

/* ---- pending ---- */

static enum err put_pending(struct queue *queue, struct group *group, uint64_t number, const struct pending *pending)
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
    return put_pending(queue, group, number, &pending);
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
    struct message message;
    struct pending pending;
    bool waits = false;
    TRY(first_parked(queue, group, key_hash, &number));
    if (number == 0) {
        return OK;
    }
    enum err err = queue_message(queue, number, &message);
    if (err == OK) {
        TRY(waits_for_untaken(queue, group, &message, &waits));
    } else if (err != ERR_NOT_FOUND) {
        return err;
    }
    if (waits) {
        return OK;
    }
    TRY(group_pending(queue, group, number, &pending));
    TRY(group_unpend(queue, group, number, &pending));
    pending.place = PENDING_READY;
    TRY(put_pending(queue, group, number, &pending));
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
    if (queue->topic.max_attempts > 0 && taken.attempts >= (uint64_t)queue->topic.max_attempts) {
        return group_bury(queue, group, taken, DEATH_ATTEMPTS);
    }
    struct pending pending = {.place = delay_ms > 0 ? PENDING_WAITING : PENDING_READY,
                              .attempts = taken.attempts,
                              .priority = taken.priority,
                              .until = queue->turn->now_ms + delay_ms,
                              .key_hash = taken.key_hash};
    leave_flight(queue, group);
    return put_pending(queue, group, taken.number, &pending);
}

enum err group_finish(struct queue *queue, struct group *group, struct taken taken)
{
    struct message message;
    leave_flight(queue, group);
    group->state.acked++;
    TRY(group_release(queue, group, taken.number, taken.key_hash));
    if (queue->topic.retain_acked) {
        return OK;
    }
    enum err err = queue_message(queue, taken.number, &message);
    if (err != OK) {
        return err == ERR_NOT_FOUND ? OK : err;
    }
    size_t size = image_bytes(&message);
    message.key = message.headers = message.destinations = message.body = BYTES_NONE;
    return erase(queue, taken.number, &message, size);
}

enum err group_revive(struct queue *queue, struct group *group, uint64_t number)
{
    struct queue_key key = number_key(queue, group, ROW_DEAD, number);
    struct bytes value;
    struct dead dead;
    struct message message;
    uint64_t holder = 0;
    TRY(rows_get(queue->rows, TABLE_GROUP, key_of(&key), &value));
    if (value.len != sizeof dead) {
        return ERR_CORRUPT;
    }
    memcpy(&dead, value.ptr, sizeof dead);
    TRY(rows_del(queue->rows, TABLE_GROUP, key_of(&key)));
    group->state.dead--;
    group->changed = true;
    queue->moves++;
    enum err err = queue_message(queue, number, &message);
    if (err != OK) {
        return err == ERR_NOT_FOUND ? OK : err;
    }
    struct pending pending = {.place = PENDING_READY, .priority = dead.priority, .key_hash = message.key_hash};
    if (pending.key_hash != 0) {
        TRY(held_by(queue, group, pending.key_hash, &holder));
        pending.place = holder != 0 ? PENDING_PARKED : PENDING_READY;
        TRY(holder == 0 ? group_hold(queue, group, number, pending.key_hash) : OK);
    }
    return put_pending(queue, group, number, &pending);
}

enum err group_wake(struct queue *queue, struct group *group, uint64_t number)
{
    struct pending pending;
    TRY(group_pending(queue, group, number, &pending));
    TRY(group_unpend(queue, group, number, &pending));
    pending.place = PENDING_READY;
    queue->moves++;
    return put_pending(queue, group, number, &pending);
}
