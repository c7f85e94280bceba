/* A topic opened in a reducer (kept.c: its messages; place.c: where they are in a group). */
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
    state_row_add(&value, &group->state, sizeof group->state, group->name);
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
    return state_row_read(value, out, sizeof *out, out_name) ? OK : ERR_CORRUPT;
}

int64_t group_paused_until(struct bytes row)
{
    struct group_state state;
    struct bytes name;
    return state_row_read(row, &state, sizeof state, &name) ? state.paused_until : 0;
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
