#include "node/codec/field_map.h"

#include "node/base/crc32c.h"
#include "node/base/text.h"

enum { HEAD_BYTES = 3 };

int64_t field_map_max(const struct field *field)
{
    CHECK(field->max >= 0 && field->max <= LIMIT_MAP_ENTRIES);
    return field->max > 0 ? field->max : LIMIT_MAP_ENTRIES;
}

/* The hashes spare all but one look at the keys: a body may hold thousands of maps. */
static bool has_key(const struct field_map_draft *draft, struct bytes key, uint32_t hash)
{
    bool seen = false;
    for (size_t i = 0; i < draft->entries; i++) {
        seen = seen || draft->hashes[i] == hash;
    }
    struct field_map map = {buf_bytes(&draft->packed), seen ? draft->entries : 0};
    struct bytes other, value;
    while (field_map_next(&map, &other, &value)) {
        if (bytes_eq(key, other)) {
            return true;
        }
    }
    return false;
}

/* msgpack: fixstr, str 8 or str 16, the shortest that fits. */
static void add_str(struct buf *out, struct bytes text)
{
    uint8_t head[HEAD_BYTES] = {0xda, (uint8_t)(text.len >> 8), (uint8_t)text.len};
    if (text.len < 32) {
        buf_add_char(out, (char)(0xa0 | text.len));
    } else if (text.len < 256) {
        buf_add(out, (uint8_t[]){0xd9, (uint8_t)text.len}, 2);
    } else {
        buf_add(out, head, sizeof head);
    }
    buf_add_bytes(out, text);
}

enum map_fault field_map_add(struct field_map_draft *draft, const struct field *field, struct bytes key,
                             struct bytes value)
{
    if (key.len == 0 || key.len > LIMIT_MAP_KEY_BYTES || text_has_controls(key)) {
        return MAP_KEY;
    }
    uint32_t hash = crc32c(0, key.ptr, key.len);
    if (has_key(draft, key, hash)) {
        return MAP_REPEATED;
    }
    if (draft->entries == (size_t)field_map_max(field)) {
        return MAP_FULL;
    }
    if (value.len > LIMIT_MAP_VALUE_BYTES) {
        return MAP_TOO_LONG;
    }
    if ((field->flags & FIELD_TEXT) == 0 && text_has_controls(value)) {
        return MAP_CONTROLS;
    }
    add_str(&draft->packed, key);
    add_str(&draft->packed, value);
    draft->hashes[draft->entries++] = hash;
    return MAP_GOOD;
}

const char *field_map_fault_code(enum map_fault fault)
{
    static const char *const codes[] = {
        [MAP_FULL] = "too_many",
        [MAP_KEY] = "bad_key",
        [MAP_REPEATED] = "repeated",
        [MAP_TOO_LONG] = "too_long",
        [MAP_CONTROLS] = "control_characters",
    };
    return codes[fault];
}

const char *field_map_fault_detail(enum map_fault fault)
{
    static const char *const details[] = {
        [MAP_FULL] = "There are too many entries",
        [MAP_KEY] = "A key must have 1 to 128 bytes without control characters",
        [MAP_REPEATED] = "The key is given twice",
        [MAP_TOO_LONG] = "The text is too long",
        [MAP_CONTROLS] = "Control characters are not allowed",
    };
    return details[fault];
}

struct bytes field_map_end(struct field_map_draft *draft, struct arena *arena)
{
    size_t n = draft->entries;
    const uint8_t head[HEAD_BYTES] = {0xde, (uint8_t)(n >> 8), (uint8_t)n}, small = (uint8_t)(0x80 | n);
    struct bytes first = n < 16 ? bytes_of(&small, 1) : bytes_of(head, sizeof head);
    uint8_t *to = arena_alloc(arena, first.len + draft->packed.len);
    memcpy(to, first.ptr, first.len);
    if (n > 0) {
        memcpy(to + first.len, draft->packed.ptr, draft->packed.len);
    }
    struct bytes packed = bytes_of(to, first.len + draft->packed.len);
    buf_free(&draft->packed);
    return packed;
}
