#include "actors/queue/past.h"

#include "actors/queue/group.h"

static struct queue_key past_key(uint64_t tid, uint32_t gid, uint64_t number)
{
    struct queue_key key = group_key(tid, gid, ROW_PAST);
    key_u64_add(&key, number);
    return key;
}

enum err past_find(struct rows *rows, uint64_t tid, uint32_t gid, uint64_t number, struct past *out)
{
    struct queue_key key = past_key(tid, gid, number);
    struct bytes value;
    *out = (struct past){0};
    enum err err = rows_get(rows, TABLE_GROUP, key_of(&key), &value);
    if (err == OK) {
        TRY(value.len == sizeof *out ? OK : ERR_CORRUPT);
        memcpy(out, value.ptr, sizeof *out);
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static void note(struct past *past, enum past_event event, int64_t much)
{
    switch (event) {
    case PAST_NOTHING: return;
    case PAST_TIMEOUT: past->timeouts++; return;
    case PAST_BURY: past->buries++; return;
    case PAST_RELEASE:
        past->releases++;
        past->delay_s = (uint32_t)(much / 1000);
        return;
    case PAST_CUT: past->delay_s = (uint32_t)(much / 1000); return;
    case PAST_HURRY:
        past->kicks++;
        past->delay_s = (uint32_t)(much / 1000);
        return;
    case PAST_KICK:
        past->kicks++;
        past->reserves += (uint32_t)much;
        return;
    }
}

enum err past_note(struct queue *queue, const struct group *group, uint64_t number, const struct message *message,
                   enum past_event event, int64_t much)
{
    struct queue_key key = past_key(queue->tid, group->gid, number);
    struct past past;
    if (message->lease_s == 0 || event == PAST_NOTHING) {
        return OK;
    }
    TRY(past_find(queue->rows, queue->tid, group->gid, number, &past));
    note(&past, event, much);
    return rows_put(queue->rows, TABLE_GROUP, key_of(&key), bytes_of(&past, sizeof past));
}

enum err past_forget(struct queue *queue, uint64_t number)
{
    for (const struct group *group = queue->groups; group != NULL; group = group->next) {
        struct queue_key key = past_key(queue->tid, group->gid, number);
        enum err err = rows_del(queue->rows, TABLE_GROUP, key_of(&key));
        TRY(err == ERR_NOT_FOUND ? OK : err);
    }
    return OK;
}
