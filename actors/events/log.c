#include "actors/events/log.h"

#include "actors/auth/auth.h"
#include "node/limits.h"

enum { CURSOR_SHIFT = 20, EXPIRE_STEP = 4 };

const struct field event_fields[] = {FIELD_INT(1, event, type, 1, 255, 0), FIELD_BLOB(2, event, data, LIMIT_BODY_BYTES),
                                     FIELDS_END};
static const struct field head_fields[] = {
    FIELD_INT(1, event_head, newest, 0, INT64_MAX, 0), FIELD_INT(2, event_head, dropped, 0, INT64_MAX, 0),
    FIELD_INT(3, event_head, count, 0, INT64_MAX, 0), FIELD_INT(4, event_head, bytes, 0, INT64_MAX, 0), FIELDS_END};
#define SET(head, member, value) FIELD_SET(head_fields, head, struct event_head, member, value)

/* account | cursor, and the other way round. */
struct event_key {
    uint8_t b[sizeof(struct id) + 8];
};

static struct event_key event_key(struct id account, uint64_t cursor)
{
    struct event_key key;
    memcpy(key.b, account.b, sizeof account.b);
    key_put_u64(key.b + sizeof account.b, cursor);
    return key;
}

static struct event_key age_key(struct id account, uint64_t cursor)
{
    struct event_key key;
    key_put_u64(key.b, cursor);
    memcpy(key.b + 8, account.b, sizeof account.b);
    return key;
}

static struct bytes key_bytes(const struct event_key *key)
{
    return bytes_of(key->b, sizeof key->b);
}

enum err event_head_load(struct rows *rows, struct id account, struct event_head *out)
{
    struct bytes value;
    *out = (struct event_head){0};
    enum err err = rows_get(rows, TABLE_EVENT_HEAD, id_bytes(&account), &value);
    if (err != OK) {
        return err == ERR_NOT_FOUND ? OK : err;
    }
    return field_unpack(head_fields, value, out);
}

static enum err head_store(struct rows *rows, struct id account, const struct event_head *head)
{
    struct buf packed = {0};
    field_pack(&packed, head_fields, head);
    enum err err = rows_put(rows, TABLE_EVENT_HEAD, id_bytes(&account), buf_bytes(&packed));
    buf_free(&packed);
    return err;
}

enum err event_log_next(struct rows *rows, struct id account, uint64_t *at, struct event *out)
{
    struct bytes key, value;
    struct event_key from = event_key(account, *at + 1);
    TRY(rows_ceil(rows, TABLE_EVENT, key_bytes(&from), &key, &value));
    if (!bytes_start_with(key, id_bytes(&account))) {
        return ERR_NOT_FOUND;
    }
    *at = key_u64(bytes_of(key.ptr + sizeof account.b, 8));
    *out = (struct event){0};
    return field_unpack(event_fields, value, out);
}

/* ---- dropping ---- */

static enum err drop(struct rows *rows, struct id account, uint64_t cursor, size_t size, struct event_head *head)
{
    struct event_key key = event_key(account, cursor), age = age_key(account, cursor);
    TRY(rows_del(rows, TABLE_EVENT, key_bytes(&key)));
    TRY(rows_del(rows, TABLE_EVENT_AGE, key_bytes(&age)));
    SET(head, count, head->count - 1);
    SET(head, bytes, head->bytes - (int64_t)size);
    SET(head, dropped, (int64_t)cursor);
    return OK;
}

static enum err drop_oldest(struct rows *rows, struct id account, struct event_head *head)
{
    struct bytes key, value;
    struct event_key from = event_key(account, 0);
    TRY(rows_ceil(rows, TABLE_EVENT, key_bytes(&from), &key, &value));
    if (!bytes_start_with(key, id_bytes(&account))) {
        return ERR_CORRUPT; /* the head counts one */
    }
    return drop(rows, account, key_u64(bytes_of(key.ptr + sizeof account.b, 8)), value.len, head);
}

/* The partition's oldest events, whoever's they are. */
static enum err expire(struct turn *turn)
{
    for (int i = 0; i < EXPIRE_STEP; i++) {
        struct bytes key, value;
        struct id account;
        struct event_head head;
        enum err err = rows_ceil(turn->rows, TABLE_EVENT_AGE, BYTES_NONE, &key, &value);
        if (err != OK) {
            return err == ERR_NOT_FOUND ? OK : err;
        }
        uint64_t cursor = key_u64(key);
        if ((int64_t)(cursor >> CURSOR_SHIFT) > turn->now_ms - LIMIT_EVENTS_MS) {
            return OK;
        }
        memcpy(account.b, key.ptr + 8, sizeof account.b);
        TRY(event_head_load(turn->rows, account, &head));
        TRY(drop_oldest(turn->rows, account, &head));
        TRY(head_store(turn->rows, account, &head));
    }
    return OK;
}

/* ---- adding ---- */

static enum err put(struct turn *turn, struct id account, const struct event *event, struct event_head *head)
{
    struct buf packed = {0};
    uint64_t now = (uint64_t)turn->now_ms << CURSOR_SHIFT, newest = (uint64_t)head->newest;
    uint64_t cursor = now > newest ? now : newest + 1;
    struct event_key key = event_key(account, cursor), age = age_key(account, cursor);
    field_pack(&packed, event_fields, event);
    enum err err = rows_put(turn->rows, TABLE_EVENT, key_bytes(&key), buf_bytes(&packed));
    if (err == OK) {
        err = rows_put(turn->rows, TABLE_EVENT_AGE, key_bytes(&age), BYTES_NONE);
    }
    SET(head, newest, (int64_t)cursor);
    SET(head, count, head->count + 1);
    SET(head, bytes, head->bytes + (int64_t)packed.len);
    buf_free(&packed);
    return err;
}

enum err event_log_add(struct turn *turn, struct id account, int64_t type, struct bytes data)
{
    struct account owner = {0};
    struct event event = {0};
    struct event_head head;
    enum err err = account_find(turn->rows, account, &owner);
    if (err != OK) {
        return err == ERR_NOT_FOUND ? OK : err;
    }
    TRY(expire(turn));
    TRY(event_head_load(turn->rows, account, &head));
    FIELD_SET(event_fields, &event, struct event, type, type);
    FIELD_SET(event_fields, &event, struct event, data, data);
    TRY(put(turn, account, &event, &head));
    while (head.count > LIMIT_EVENTS || (head.count > 1 && head.bytes > LIMIT_EVENTS_BYTES)) {
        TRY(drop_oldest(turn->rows, account, &head));
    }
    turn_touch(turn, account);
    return head_store(turn->rows, account, &head);
}

/* ---- the whole log ---- */

enum err event_log_forget(struct turn *turn, struct id account, unsigned limit, unsigned *out_erased)
{
    struct event_head head;
    TRY(event_head_load(turn->rows, account, &head));
    if (head.newest == 0 || *out_erased >= limit) {
        return OK;
    }
    while (head.count > 0 && *out_erased < limit) {
        TRY(drop_oldest(turn->rows, account, &head));
        (*out_erased)++;
    }
    if (head.count > 0) {
        return head_store(turn->rows, account, &head);
    }
    return rows_del(turn->rows, TABLE_EVENT_HEAD, id_bytes(&account));
}

static enum err check_log(struct rows *rows, struct id account, const struct event_head *head)
{
    struct event event;
    uint64_t at = 0;
    int64_t count = 0;
    enum err err;
    while ((err = event_log_next(rows, account, &at, &event)) == OK) {
        struct bytes value;
        struct event_key age = age_key(account, at);
        TRY(rows_get(rows, TABLE_EVENT_AGE, key_bytes(&age), &value) == OK ? OK : ERR_CORRUPT);
        count++;
    }
    TRY(err == ERR_NOT_FOUND ? OK : err);
    bool newest = count == 0 || at == (uint64_t)head->newest;
    return count == head->count && newest && head->dropped <= head->newest ? OK : ERR_CORRUPT;
}

static enum err count_table(struct rows *rows, uint8_t table, int64_t *out)
{
    struct {
        struct event_key key;
        uint8_t next; /* zero: right behind the key */
    } at = {0};
    struct bytes key, value, from = BYTES_NONE;
    enum err err;
    *out = 0;
    while ((err = rows_ceil(rows, table, from, &key, &value)) == OK) {
        if (key.len != sizeof at.key.b) {
            return ERR_CORRUPT;
        }
        memcpy(at.key.b, key.ptr, key.len);
        from = bytes_of(&at, sizeof at);
        (*out)++;
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

enum err event_log_check(struct rows *rows, struct arena *arena)
{
    struct bytes key, value, from = BYTES_NONE;
    int64_t events, ages, counted = 0;
    enum err err;
    while ((err = rows_ceil(rows, TABLE_EVENT_HEAD, from, &key, &value)) == OK) {
        struct id account;
        struct event_head head = {0};
        memcpy(account.b, key.ptr, sizeof account.b);
        from = bytes_of(arena_copy(arena, key).ptr, key.len + 1);
        TRY(field_unpack(head_fields, value, &head));
        TRY(check_log(rows, account, &head));
        counted += head.count;
    }
    TRY(err == ERR_NOT_FOUND ? OK : err);
    TRY(count_table(rows, TABLE_EVENT, &events));
    TRY(count_table(rows, TABLE_EVENT_AGE, &ages));
    return events == counted && ages == counted ? OK : ERR_CORRUPT;
}

/* ---- mending: heads and ages are made anew from the events ---- */

/* What was lost may have been anywhere: whoever resumes before the oldest that is left is told of a gap. */
static enum err count_in(struct rows *rows, struct id account, uint64_t cursor, size_t size)
{
    struct event_head head;
    struct event_key age = age_key(account, cursor);
    TRY(event_head_load(rows, account, &head));
    if (head.count == 0) {
        SET(&head, dropped, (int64_t)cursor - 1);
    }
    SET(&head, newest, (int64_t)cursor);
    SET(&head, count, head.count + 1);
    SET(&head, bytes, head.bytes + (int64_t)size);
    TRY(rows_put(rows, TABLE_EVENT_AGE, key_bytes(&age), BYTES_NONE));
    return head_store(rows, account, &head);
}

enum err event_log_mend(struct rows *rows)
{
    struct bytes key, value, from = BYTES_NONE;
    struct {
        struct event_key key;
        uint8_t next;
    } at = {0};
    enum err err;
    TRY(table_erase(rows, TABLE_EVENT_HEAD));
    TRY(table_erase(rows, TABLE_EVENT_AGE));
    while ((err = rows_ceil(rows, TABLE_EVENT, from, &key, &value)) == OK) {
        struct id account;
        size_t size = value.len;
        memcpy(at.key.b, key.ptr, sizeof at.key.b);
        from = bytes_of(&at, sizeof at);
        memcpy(account.b, at.key.b, sizeof account.b);
        TRY(count_in(rows, account, key_u64(bytes_of(at.key.b + sizeof account.b, 8)), size));
    }
    return err == ERR_NOT_FOUND ? OK : err;
}
