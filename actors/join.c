#include "actors/join.h"

enum { ITEM_HEAD_BYTES = 21, PART_HEAD_BYTES = 8 };

const struct field joined_fields[] = {FIELD_BLOB(1, joined, items, 0), FIELDS_END};

static void add_u32(struct buf *out, uint32_t value)
{
    uint8_t raw[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16), (uint8_t)(value >> 24)};
    buf_add(out, raw, sizeof raw);
}

static uint32_t u32_at(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

static struct bytes behind(struct bytes bytes, size_t len)
{
    return bytes_of(bytes.ptr + len, bytes.len - len);
}

size_t joined_size(struct bytes item)
{
    return ITEM_HEAD_BYTES + item.len;
}

void joined_add(struct buf *items, const struct caller *caller, struct bytes item)
{
    CHECK(item.len <= UINT32_MAX);
    buf_add_bytes(items, id_bytes(&caller->account));
    buf_add_char(items, (char)caller->role);
    add_u32(items, (uint32_t)item.len);
    buf_add_bytes(items, item);
}

bool joined_next(struct bytes *rest, struct caller *out_caller, struct bytes *out_item)
{
    if (rest->len < ITEM_HEAD_BYTES) {
        return false;
    }
    uint32_t len = u32_at(rest->ptr + ITEM_HEAD_BYTES - 4);
    uint8_t role = rest->ptr[sizeof(struct id)];
    if (len > rest->len - ITEM_HEAD_BYTES || role > ROLE_ADMIN) {
        return false;
    }
    *out_caller = (struct caller){.role = (enum role)role};
    memcpy(out_caller->account.b, rest->ptr, sizeof out_caller->account.b);
    *out_item = bytes_of(rest->ptr + ITEM_HEAD_BYTES, len);
    *rest = behind(*rest, ITEM_HEAD_BYTES + (size_t)len);
    return true;
}

enum err joined_check(struct bytes items)
{
    struct caller caller;
    struct bytes item;
    bool any = false;
    while (joined_next(&items, &caller, &item)) {
        any = true;
    }
    return any && items.len == 0 ? OK : ERR_CORRUPT;
}

void joined_answer(struct reply *reply, enum err err, struct bytes part)
{
    CHECK(part.len <= UINT32_MAX);
    add_u32(&reply->body, (uint32_t)err);
    add_u32(&reply->body, (uint32_t)part.len);
    buf_add_bytes(&reply->body, part);
}

bool joined_part(struct bytes *rest, enum err *out_err, struct bytes *out_part)
{
    if (rest->len < PART_HEAD_BYTES) {
        return false;
    }
    uint32_t err = u32_at(rest->ptr), len = u32_at(rest->ptr + 4);
    if (err >= ERR_COUNT || len > rest->len - PART_HEAD_BYTES) {
        return false;
    }
    *out_err = (enum err)err;
    *out_part = bytes_of(rest->ptr + PART_HEAD_BYTES, len);
    *rest = behind(*rest, PART_HEAD_BYTES + (size_t)len);
    return true;
}
