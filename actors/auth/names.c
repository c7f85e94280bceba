/* Names are unique in the whole cluster although accounts live in many partitions: a name is an
 * actor of its own, reserved before the account is made and confirmed after. A reservation is freed
 * only by the saga that made it, or after the account's partition has durably refused the account. */
#include "actors/auth/auth.h"
#include "node/base/text.h"
#include "node/limits.h"

const struct field name_fields[] = {FIELD_ID(1, name, account, 0), FIELD_TIME(2, name, reserved_at, 0),
                                    FIELD_BOOL(3, name, confirmed, 0), FIELDS_END};
const struct field name_in_fields[] = {FIELD_ID(1, name_in, account, FIELD_REQUIRED), FIELDS_END};
const struct field settle_name_fields[] = {FIELD_ID(1, settle_name, account, 0),
                                           FIELD_STRING(2, settle_name, name, 0, 0, 0), FIELDS_END};

bool username_is_good(struct bytes username)
{
    return username.len > 0 && memchr(username.ptr, '@', username.len) == NULL &&
           memchr(username.ptr, '/', username.len) == NULL && username.ptr[0] != ' ' &&
           username.ptr[username.len - 1] != ' ';
}

bool email_is_good(struct bytes email)
{
    const uint8_t *at = email.len == 0 ? NULL : memchr(email.ptr, '@', email.len);
    if (at == NULL || at == email.ptr || at + 1 == email.ptr + email.len) {
        return false;
    }
    for (size_t i = 0; i < email.len; i++) {
        if (email.ptr[i] <= ' ' || (email.ptr[i] == '@' && email.ptr + i != at)) {
            return false;
        }
    }
    return true;
}

struct bytes name_key(enum name_type type, struct bytes text, struct arena *arena)
{
    struct buf key = {0};
    struct bytes out = BYTES_NONE;
    buf_add_char(&key, (char)type);
    if (text_fold(text, &key) && key.len > 1 && key.len <= LIMIT_ACTOR_KEY_BYTES) {
        out = arena_copy(arena, buf_bytes(&key));
    }
    buf_free(&key);
    return out;
}

struct address address_of_name(struct bytes key, unsigned partitions)
{
    return (struct address){partition_of_name(key, partitions), key};
}

static enum err load(struct rows *rows, struct bytes key, struct name *out)
{
    struct bytes value;
    TRY(rows_get(rows, TABLE_NAME, key, &value));
    return field_unpack(name_fields, value, out);
}

enum err name_find(struct rows *rows, struct bytes key, struct id *out)
{
    struct name name = {0};
    TRY(load(rows, key, &name));
    *out = name.account;
    return OK;
}

static enum err store(struct turn *turn, const struct name *name)
{
    struct buf packed = {0};
    field_pack(&packed, name_fields, name);
    enum err err = rows_put(turn->rows, TABLE_NAME, turn->key, buf_bytes(&packed));
    buf_free(&packed);
    return err;
}

/* TABLE_PENDING: reserved_at (8) | name key: what is not settled, oldest first. */
static struct bytes pending_key(struct turn *turn, const struct name *name)
{
    struct buf key = {0};
    key_add_u64(&key, (uint64_t)name->reserved_at);
    buf_add_bytes(&key, turn->key);
    struct bytes out = arena_copy(turn->arena, buf_bytes(&key));
    buf_free(&key);
    return out;
}

enum err name_reserve(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct name_in *in = raw;
    struct name name = {0};
    (void)reply;
    enum err err = load(turn->rows, turn->key, &name);
    if (err == OK) {
        return turn->key.ptr[0] == NAME_EMAIL ? ERR_EMAIL_TAKEN : ERR_USERNAME_TAKEN;
    }
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    FIELD_SET(name_fields, &name, struct name, account, in->account);
    FIELD_SET(name_fields, &name, struct name, reserved_at, turn->now_ms);
    TRY(store(turn, &name));
    return rows_put(turn->rows, TABLE_PENDING, pending_key(turn, &name), BYTES_NONE);
}

enum err name_put(struct turn *turn, struct bytes key, struct id account)
{
    struct name name = {0};
    struct buf packed = {0};
    enum err err = load(turn->rows, key, &name);
    if (err != ERR_NOT_FOUND) {
        return err == OK ? ERR_USERNAME_TAKEN : err;
    }
    FIELD_SET(name_fields, &name, struct name, account, account);
    FIELD_SET(name_fields, &name, struct name, reserved_at, turn->now_ms);
    FIELD_SET(name_fields, &name, struct name, confirmed, true);
    field_pack(&packed, name_fields, &name);
    err = rows_put(turn->rows, TABLE_NAME, key, buf_bytes(&packed));
    buf_free(&packed);
    return err;
}

/* Both are conditional on the account, and repeat harmlessly. */
enum err name_confirm(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct name_in *in = raw;
    struct name name = {0};
    (void)reply;
    TRY(load(turn->rows, turn->key, &name));
    if (!id_eq(name.account, in->account)) {
        return ERR_CONFLICT;
    }
    if (name.confirmed) {
        return OK;
    }
    FIELD_SET(name_fields, &name, struct name, confirmed, true);
    TRY(store(turn, &name));
    return rows_del(turn->rows, TABLE_PENDING, pending_key(turn, &name));
}

enum err name_free(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct name_in *in = raw;
    struct name name = {0};
    (void)reply;
    enum err err = load(turn->rows, turn->key, &name);
    if (err == ERR_NOT_FOUND || (err == OK && !id_eq(name.account, in->account))) {
        return OK;
    }
    TRY(err);
    if (!name.confirmed) {
        TRY(rows_del(turn->rows, TABLE_PENDING, pending_key(turn, &name)));
    }
    return rows_del(turn->rows, TABLE_NAME, turn->key);
}

/* A reservation without its pending row, or the other way round, is dropped: its sign-up begins again. */
static enum err mend_pending(struct rows *rows, struct arena *arena)
{
    struct bytes key = BYTES_NONE, value;
    for (;;) {
        struct name name = {0};
        struct bytes from = arena_copy(arena, key);
        enum err err =
            rows_ceil(rows, TABLE_PENDING, bytes_of(from.ptr, key.len == 0 ? 0 : from.len + 1), &key, &value);
        if (err != OK) {
            return err == ERR_NOT_FOUND ? OK : err;
        }
        struct bytes pending = key = arena_copy(arena, key);
        err = load(rows, bytes_of(pending.ptr + 8, pending.len - 8), &name);
        if (err == ERR_NOT_FOUND || (err == OK && (name.confirmed || name.reserved_at != (int64_t)key_u64(pending)))) {
            err = rows_del(rows, TABLE_PENDING, pending);
        }
        TRY(err);
    }
}

static enum err mend_names(struct rows *rows, struct arena *arena)
{
    struct bytes key = BYTES_NONE, value, found;
    for (;;) {
        struct name name = {0};
        struct bytes from = arena_copy(arena, key);
        enum err err = rows_ceil(rows, TABLE_NAME, bytes_of(from.ptr, key.len == 0 ? 0 : from.len + 1), &key, &value);
        if (err != OK) {
            return err == ERR_NOT_FOUND ? OK : err;
        }
        struct bytes text = key = arena_copy(arena, key);
        TRY(field_unpack(name_fields, value, &name));
        struct buf pending = {0};
        key_add_u64(&pending, (uint64_t)name.reserved_at);
        buf_add_bytes(&pending, text);
        err = name.confirmed ? OK : rows_get(rows, TABLE_PENDING, buf_bytes(&pending), &found);
        if (err == ERR_NOT_FOUND) {
            err = rows_del(rows, TABLE_NAME, text);
        }
        buf_free(&pending);
        TRY(err);
    }
}

enum err names_mend(struct rows *rows)
{
    struct arena arena = {0};
    enum err err = mend_pending(rows, &arena);
    if (err == OK) {
        err = mend_names(rows, &arena);
    }
    arena_close(&arena);
    return err;
}

bool name_find_pending(struct rows *rows, int64_t now_ms, struct arena *arena, void *raw)
{
    struct settle_name *in = raw;
    struct bytes key, value;
    struct name name = {0};
    if (rows_ceil(rows, TABLE_PENDING, BYTES_NONE, &key, &value) != OK ||
        (int64_t)key_u64(key) > now_ms - LIMIT_SAGA_SWEEP_MS) {
        return false;
    }
    struct bytes name_text = arena_copy(arena, bytes_of(key.ptr + 8, key.len - 8));
    if (load(rows, name_text, &name) != OK) {
        return false;
    }
    FIELD_SET(settle_name_fields, in, struct settle_name, account, name.account);
    FIELD_SET(settle_name_fields, in, struct settle_name, name, name_text);
    return true;
}
