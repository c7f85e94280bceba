#include "actors/queue/topic.h"

#include "node/base/digest.h"
#include "node/limits.h"

const char *const topic_overflows[] = {"reject", "drop_oldest", NULL};

const struct field topic_fields[] = {FIELD_STRING(1, topic, name, 1, LIMIT_TOPIC_BYTES, 0),
                                     FIELD_INT(2, topic, visibility_ms, 0, LIMIT_VISIBILITY_MS, 0),
                                     FIELD_INT(3, topic, max_attempts, 0, LIMIT_ATTEMPTS, 0),
                                     FIELD_INT(4, topic, retention_ms, 1000, LIMIT_RETENTION_MS, 0),
                                     FIELD_INT(5, topic, max_messages, 1, LIMIT_TOPIC_MESSAGES, 0),
                                     FIELD_ENUM(6, topic, overflow, topic_overflows, 0),
                                     FIELD_INT(7, topic, dedup_window_ms, 0, LIMIT_DEDUP_MS, 0),
                                     FIELD_BOOL(8, topic, retain_acked, 0),
                                     FIELD_INT(9, topic, partitions, 1, ID_PARTITION_MAX, 0),
                                     FIELD_STRINGS(10, topic, publish, 0),
                                     FIELD_STRINGS(11, topic, consume, 0),
                                     FIELD_TIME(12, topic, created_at, 0),
                                     FIELD_TIME(13, topic, updated_at, 0),
                                     FIELD_ID(14, topic, owner, 0),
                                     FIELD_BLOB(15, topic, publish_ids, 0),
                                     FIELD_BLOB(16, topic, consume_ids, 0),
                                     {FIELD_AT(TYPE_BOOL, 17, topic, publish_all, FIELD_HIDDEN)},
                                     {FIELD_AT(TYPE_BOOL, 18, topic, consume_all, FIELD_HIDDEN)},
                                     {FIELD_AT(TYPE_INT, 19, topic, tid, FIELD_HIDDEN), .min = 0, .max = INT64_MAX},
                                     FIELDS_END};

static bool holds(struct bytes ids, struct id account)
{
    for (size_t at = 0; at + sizeof account <= ids.len; at += sizeof account) {
        if (memcmp(ids.ptr + at, account.b, sizeof account.b) == 0) {
            return true;
        }
    }
    return false;
}

bool topic_allows(const struct topic *topic, const struct caller *caller, enum topic_use use)
{
    bool account = !id_is_none(caller->account);
    if (caller->role == ROLE_ADMIN || (account && id_eq(caller->account, topic->owner))) {
        return true;
    }
    switch (use) {
    case USE_PUBLISH: return account && (topic->publish_all || holds(topic->publish_ids, caller->account));
    case USE_CONSUME: return account && (topic->consume_all || holds(topic->consume_ids, caller->account));
    case USE_MANAGE: break;
    }
    return false;
}

bool topic_name_is_good(struct bytes name)
{
    static const char others[] = "-+/;.$_()";
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && (c == 0 || strchr(others, c) == NULL)) {
            return false;
        }
    }
    return name.len > 0 && name.len <= LIMIT_TOPIC_BYTES && name.ptr[0] != '-';
}

struct address topic_address(struct bytes name, unsigned partitions)
{
    return (struct address){partition_of_name(name, partitions), name};
}

struct id topic_watch_id(struct bytes name)
{
    struct id id;
    struct digest digest = digest_of(BYTES_LIT("topic"), name);
    memcpy(id.b, digest.b, sizeof id.b);
    return id;
}

/* ---- keys ---- */

void key_u32(struct queue_key *key, uint32_t value)
{
    const uint8_t b[] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
    key_bytes_add(key, bytes_of(b, sizeof b));
}

void key_u64_add(struct queue_key *key, uint64_t value)
{
    CHECK(key->len + 8 <= sizeof key->b);
    key_put_u64(key->b + key->len, value);
    key->len += 8;
}

void key_bytes_add(struct queue_key *key, struct bytes bytes)
{
    CHECK(key->len + bytes.len <= sizeof key->b);
    if (bytes.len > 0) {
        memcpy(key->b + key->len, bytes.ptr, bytes.len);
    }
    key->len += bytes.len;
}

struct queue_key queue_key(uint64_t tid, enum queue_row row)
{
    struct queue_key key;
    key.len = 9;
    key_put_u64(key.b, tid);
    key.b[8] = (uint8_t)row;
    return key;
}

struct queue_key group_key(uint64_t tid, uint32_t gid, enum group_row row)
{
    struct queue_key key;
    key.len = 8;
    key_put_u64(key.b, tid);
    key_u32(&key, gid);
    key.b[key.len++] = (uint8_t)row;
    return key;
}

struct queue_key message_key(uint64_t tid, uint64_t number)
{
    struct queue_key key;
    key.len = 16;
    key_put_u64(key.b, tid);
    key_put_u64(key.b + 8, number);
    return key;
}

uint32_t key_read_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

uint64_t key_read_u64(const uint8_t *at)
{
    return key_u64(bytes_of(at, 8));
}

enum err queue_ceil(struct rows *rows, uint8_t table, const struct queue_key *from, size_t prefix_len,
                    struct bytes *out_key, struct bytes *out_value)
{
    TRY(rows_ceil(rows, table, key_of(from), out_key, out_value));
    return bytes_start_with(*out_key, bytes_of(from->b, prefix_len)) ? OK : ERR_NOT_FOUND;
}

struct queue_key time_key(int64_t at, enum queue_time type, uint64_t tid)
{
    struct queue_key key;
    key.len = 9;
    key_put_u64(key.b, (uint64_t)at);
    key.b[8] = (uint8_t)type;
    key_u64_add(&key, tid);
    return key;
}

/* ---- loading ---- */

enum err topic_find(struct rows *rows, struct bytes name, struct topic *out)
{
    struct bytes packed;
    TRY(rows_get(rows, TABLE_TOPIC, name, &packed));
    *out = (struct topic){0};
    return field_unpack(topic_fields, packed, out);
}

void state_row_add(struct buf *row, const void *state, size_t size, struct bytes name)
{
    uint32_t len = (uint32_t)size;
    buf_add(row, &len, sizeof len);
    buf_add(row, state, size);
    buf_add_bytes(row, name);
}

bool state_row_read(struct bytes row, void *out, size_t size, struct bytes *out_name)
{
    uint32_t len;
    memset(out, 0, size);
    if (row.len < sizeof len) {
        return false;
    }
    memcpy(&len, row.ptr, sizeof len);
    if (len > row.len - sizeof len) {
        return false;
    }
    memcpy(out, row.ptr + sizeof len, len < size ? len : size);
    *out_name = bytes_of(row.ptr + sizeof len + len, row.len - sizeof len - len);
    return true;
}

enum err topic_state_find(struct rows *rows, uint64_t tid, struct topic_state *out, struct bytes *out_name)
{
    struct queue_key key = queue_key(tid, ROW_STATE);
    struct bytes value;
    TRY(rows_get(rows, TABLE_QUEUE, key_of(&key), &value));
    return state_row_read(value, out, sizeof *out, out_name) ? OK : ERR_CORRUPT;
}

enum err topic_state_put(struct rows *rows, uint64_t tid, const struct topic_state *state, struct bytes name)
{
    struct queue_key key = queue_key(tid, ROW_STATE);
    struct buf value = {0};
    state_row_add(&value, state, sizeof *state, name);
    enum err err = rows_put(rows, TABLE_QUEUE, key_of(&key), buf_bytes(&value));
    buf_free(&value);
    return err;
}

/* ---- ordinals ---- */

static enum err u64_row(struct rows *rows, const struct queue_key *key, uint64_t *out)
{
    struct bytes value;
    TRY(rows_get(rows, TABLE_QUEUE, key_of(key), &value));
    TRY(value.len == sizeof *out ? OK : ERR_CORRUPT);
    memcpy(out, value.ptr, sizeof *out);
    return OK;
}

static struct queue_key ordinal_key(uint64_t ordinal)
{
    struct queue_key key = queue_key(0, ROW_ORDINAL);
    key_u64_add(&key, ordinal);
    return key;
}

enum err ordinal_find(struct rows *rows, uint64_t ordinal, uint64_t *out_tid)
{
    struct queue_key key = ordinal_key(ordinal);
    return u64_row(rows, &key, out_tid);
}

enum err ordinal_put(struct rows *rows, uint64_t ordinal, uint64_t tid)
{
    struct queue_key key = ordinal_key(ordinal), last_key = queue_key(0, ROW_ORDINALS);
    uint64_t last = 0;
    enum err err = u64_row(rows, &last_key, &last);
    TRY(err == ERR_NOT_FOUND ? OK : err);
    last = ordinal > last ? ordinal : last;
    TRY(rows_put(rows, TABLE_QUEUE, key_of(&last_key), bytes_of(&last, sizeof last)));
    return rows_put(rows, TABLE_QUEUE, key_of(&key), bytes_of(&tid, sizeof tid));
}

enum err ordinal_give(struct rows *rows, uint64_t tid, uint64_t *out)
{
    struct queue_key key = queue_key(0, ROW_ORDINALS);
    uint64_t last = 0;
    enum err err = u64_row(rows, &key, &last);
    TRY(err == ERR_NOT_FOUND ? OK : err);
    *out = last + 1;
    return ordinal_put(rows, *out, tid);
}

enum err ordinal_forget(struct rows *rows, uint64_t ordinal)
{
    struct queue_key key = ordinal_key(ordinal);
    enum err err = rows_del(rows, TABLE_QUEUE, key_of(&key));
    return err == ERR_NOT_FOUND ? OK : err; /* of a topic that damage has taken it from */
}
