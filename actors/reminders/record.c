#include "actors/reminders/record.h"
#include "actors/reminders/feed.h"

#include "node/limits.h"

const char *const reminder_statuses[] = {"todo", "doing", "done", NULL};

const struct field reminder_fields[] = {FIELD_ID(1, reminder, id, FIELD_REQUIRED),
                                        FIELD_STRING(2, reminder, title, 1, LIMIT_TITLE_CHARS, FIELD_REQUIRED),
                                        FIELD_STRING(3, reminder, content, 0, LIMIT_CONTENT_BYTES, FIELD_REQUIRED),
                                        FIELD_TIME(4, reminder, due_at, 0),
                                        FIELD_BOOL(5, reminder, public, FIELD_REQUIRED),
                                        FIELD_ENUM(6, reminder, status, reminder_statuses, FIELD_REQUIRED),
                                        FIELD_BOOL(7, reminder, completed, FIELD_REQUIRED),
                                        FIELD_STRING(8, reminder, assignee, 0, LIMIT_USERNAME_CHARS, 0),
                                        FIELD_STRING(9, reminder, created_by, 0, LIMIT_USERNAME_CHARS, FIELD_REQUIRED),
                                        FIELD_TIME(10, reminder, created_at, FIELD_REQUIRED),
                                        FIELD_TIME(11, reminder, updated_at, FIELD_REQUIRED),
                                        FIELD_ID(12, reminder, owner, FIELD_HIDDEN),
                                        FIELD_ID(13, reminder, assignee_id, FIELD_HIDDEN),
                                        FIELD_INT(14, reminder, version, 0, INT64_MAX, FIELD_HIDDEN),
                                        FIELD_STRING(15, reminder, time_zone, 0, LIMIT_ZONE_BYTES, 0),
                                        FIELD_STRING(16, reminder, recurrence, 0, LIMIT_RECURRENCE_BYTES, FIELD_TEXT),
                                        FIELD_TIME(17, reminder, snoozed_until, 0),
                                        FIELD_TIME(18, reminder, fired_at, 0),
                                        FIELD_TIME(19, reminder, starts_at, FIELD_HIDDEN),
                                        FIELD_TIME(20, reminder, armed_at, FIELD_HIDDEN),
                                        FIELD_BOOL(40, reminder, of_tasks, FIELD_HIDDEN),
                                        FIELDS_END};

enum err reminder_load(struct rows *rows, struct id id, struct reminder *out, struct bytes *out_packed)
{
    TRY(rows_get(rows, TABLE_REMINDER, id_bytes(&id), out_packed));
    return field_unpack(reminder_fields, *out_packed, out);
}

bool reminder_has_rung(const struct reminder *r)
{
    return REMINDER_HAS(r, due_at) && REMINDER_HAS(r, fired_at) && r->fired_at >= r->due_at;
}

struct due_key due_key(int64_t armed_at, struct id id)
{
    struct due_key key = {{0}};
    uint64_t biased = (uint64_t)armed_at ^ 1ULL << 63; /* before 1970 comes first */
    key_put_u64(key.b, biased);
    memcpy(key.b + 8, id.b, sizeof id.b);
    return key;
}

int64_t due_key_time(struct bytes key)
{
    return (int64_t)(key_u64(key) ^ 1ULL << 63);
}

struct id due_key_id(struct bytes key)
{
    struct id id;
    CHECK(key.len >= 8 + sizeof id.b);
    memcpy(id.b, key.ptr + 8, sizeof id.b);
    return id;
}

enum err reminder_index(struct rows *rows, const struct reminder *r)
{
    struct due_key due = due_key(r->armed_at, r->id);
    struct id_pair mine = id_pair(r->owner, r->id), assigned = id_pair(r->assignee_id, r->id);
    TRY(rows_put(rows, TABLE_MINE, id_pair_bytes(&mine), BYTES_NONE));
    if (r->public) {
        TRY(rows_put(rows, TABLE_PUBLIC, id_bytes(&r->id), BYTES_NONE));
    }
    if (!id_is_none(r->assignee_id)) {
        TRY(rows_put(rows, TABLE_ASSIGNED, id_pair_bytes(&assigned), BYTES_NONE));
    }
    if (REMINDER_HAS(r, armed_at)) {
        TRY(rows_put(rows, TABLE_DUE, due_key_bytes(&due), BYTES_NONE));
    }
    return OK;
}

enum err reminder_unindex(struct rows *rows, const struct reminder *r)
{
    struct due_key due = due_key(r->armed_at, r->id);
    struct id_pair mine = id_pair(r->owner, r->id), assigned = id_pair(r->assignee_id, r->id);
    TRY(rows_del(rows, TABLE_MINE, id_pair_bytes(&mine)));
    if (r->public) {
        TRY(rows_del(rows, TABLE_PUBLIC, id_bytes(&r->id)));
    }
    if (!id_is_none(r->assignee_id)) {
        TRY(rows_del(rows, TABLE_ASSIGNED, id_pair_bytes(&assigned)));
    }
    if (REMINDER_HAS(r, armed_at)) {
        TRY(rows_del(rows, TABLE_DUE, due_key_bytes(&due)));
    }
    return OK;
}

/* ---- invariants ---- */

static enum err check_record(struct rows *rows, const struct reminder *r, uint64_t *out_indexes)
{
    struct id_pair mine = id_pair(r->owner, r->id), assigned = id_pair(r->assignee_id, r->id);
    struct due_key due = due_key(r->armed_at, r->id);
    struct bytes value;
    bool armed = REMINDER_HAS(r, armed_at), rings = REMINDER_HAS(r, due_at) && !r->completed;
    bool indexed =
        rows_get(rows, TABLE_MINE, id_pair_bytes(&mine), &value) == OK &&
        (rows_get(rows, TABLE_PUBLIC, id_bytes(&r->id), &value) == OK) == r->public &&
        (rows_get(rows, TABLE_ASSIGNED, id_pair_bytes(&assigned), &value) == OK) == !id_is_none(r->assignee_id) &&
        (rows_get(rows, TABLE_DUE, due_key_bytes(&due), &value) == OK) == armed && (rings || !armed);
    *out_indexes += 1U + r->public + !id_is_none(r->assignee_id) + armed;
    return indexed && r->completed == (r->status == DONE) ? OK : ERR_CORRUPT;
}

static uint64_t count_rows(struct rows *rows, uint8_t table, struct arena *arena)
{
    struct bytes key, value, from = BYTES_NONE;
    uint64_t count = 0;
    while (rows_ceil(rows, table, from, &key, &value) == OK) {
        from = bytes_of(arena_copy(arena, key).ptr, key.len + 1); /* the copy ends with a zero */
        count++;
    }
    return count;
}

enum err reminders_check(struct rows *rows, struct arena *arena)
{
    struct bytes key, value, from = BYTES_NONE;
    uint64_t indexes = 0;
    while (rows_ceil(rows, TABLE_REMINDER, from, &key, &value) == OK) {
        struct reminder r = {0};
        from = bytes_of(arena_copy(arena, key).ptr, key.len + 1);
        TRY(field_unpack(reminder_fields, value, &r));
        TRY(check_record(rows, &r, &indexes));
    }
    uint64_t found = count_rows(rows, TABLE_MINE, arena) + count_rows(rows, TABLE_PUBLIC, arena) +
                     count_rows(rows, TABLE_ASSIGNED, arena) + count_rows(rows, TABLE_DUE, arena);
    return found == indexes ? feed_check(rows, arena) : ERR_CORRUPT;
}

/* ---- mending: the indexes are made anew from the records ---- */

enum err reminders_mend(struct rows *rows)
{
    struct bytes key, value, from = BYTES_NONE;
    struct {
        struct id id;
        uint8_t next; /* zero: the key right behind the id */
    } at = {0};
    enum err err;
    TRY(table_erase(rows, TABLE_MINE));
    TRY(table_erase(rows, TABLE_PUBLIC));
    TRY(table_erase(rows, TABLE_ASSIGNED));
    TRY(table_erase(rows, TABLE_DUE));
    while ((err = rows_ceil(rows, TABLE_REMINDER, from, &key, &value)) == OK) {
        struct reminder r = {0};
        TRY(field_unpack(reminder_fields, value, &r));
        at.id = r.id;
        from = bytes_of(&at, sizeof at.id + sizeof at.next);
        TRY(reminder_index(rows, &r));
    }
    return err == ERR_NOT_FOUND ? OK : err;
}
