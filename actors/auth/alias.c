#include "actors/auth/alias.h"

#include "node/base/text.h"
#include "node/limits.h"

const struct field alias_in_fields[] = {FIELD_ID(1, alias_in, account, 0), FIELD_BLOB(2, alias_in, username, 0),
                                        FIELD_BLOB(3, alias_in, email, 0), FIELDS_END};

struct bytes alias_key(enum alias_type type, struct bytes text, struct arena *arena)
{
    struct buf key = {0};
    struct bytes out = BYTES_NONE;
    buf_add_char(&key, (char)type);
    /* A zero byte ends the text, so that rows of one text stand together. */
    bool good = text_fold(text, &key) && key.len > 1 && memchr(key.ptr, 0, key.len) == NULL;
    buf_add_char(&key, 0);
    if (good && key.len <= LIMIT_ACTOR_KEY_BYTES) {
        out = arena_copy(arena, buf_bytes(&key));
    }
    buf_free(&key);
    return out;
}

unsigned alias_partition(struct bytes key, unsigned partitions)
{
    CHECK(key.len > 2);
    return partition_of_name(bytes_of(key.ptr + 1, key.len - 2), partitions);
}

static struct buf row_key(struct bytes key, struct id account)
{
    struct buf row = {0};
    buf_add_bytes(&row, key);
    buf_add_bytes(&row, id_bytes(&account));
    return row;
}

enum err alias_find(struct rows *rows, struct bytes key, struct id after, struct id *out)
{
    struct bytes found, value;
    struct buf from = row_key(key, after);
    buf_add_char(&from, 0);
    enum err err = rows_ceil(rows, TABLE_ALIAS, buf_bytes(&from), &found, &value);
    buf_free(&from);
    TRY(err);
    if (!bytes_start_with(found, key)) {
        return ERR_NOT_FOUND;
    }
    if (found.len != key.len + sizeof out->b) {
        return ERR_CORRUPT;
    }
    memcpy(out->b, found.ptr + key.len, sizeof out->b);
    return OK;
}

enum err alias_put(struct rows *rows, struct bytes key, struct id account)
{
    struct buf row = row_key(key, account);
    enum err err = rows_put(rows, TABLE_ALIAS, buf_bytes(&row), BYTES_NONE);
    buf_free(&row);
    return err;
}

static enum err drop(struct rows *rows, struct bytes key, struct id account)
{
    struct buf row = row_key(key, account);
    enum err err = rows_del(rows, TABLE_ALIAS, buf_bytes(&row));
    buf_free(&row);
    return err == ERR_NOT_FOUND ? OK : err;
}

/* Both repeat harmlessly. */
enum err aliases_put(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct alias_in *in = raw;
    (void)reply;
    TRY(in->username.len == 0 ? OK : alias_put(turn->rows, in->username, in->account));
    return in->email.len == 0 ? OK : alias_put(turn->rows, in->email, in->account);
}

enum err aliases_drop(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct alias_in *in = raw;
    (void)reply;
    TRY(in->username.len == 0 ? OK : drop(turn->rows, in->username, in->account));
    return in->email.len == 0 ? OK : drop(turn->rows, in->email, in->account);
}

bool alias_is_dead(struct id account, int64_t now_ms)
{
    return id_ms(account) < now_ms - 4 * LIMIT_REQUEST_WINDOW_MS;
}

enum err aliases_check(struct rows *rows, struct arena *arena)
{
    struct bytes key, value, from = BYTES_NONE;
    while (rows_ceil(rows, TABLE_ALIAS, from, &key, &value) == OK) {
        from = bytes_of(arena_copy(arena, key).ptr, key.len + 1); /* the copy ends with a zero */
        bool good = key.len > 2 + sizeof(struct id) && (key.ptr[0] == ALIAS_EMAIL || key.ptr[0] == ALIAS_USERNAME) &&
                    key.ptr[key.len - sizeof(struct id) - 1] == 0;
        if (!good) {
            return ERR_CORRUPT;
        }
    }
    return OK;
}
