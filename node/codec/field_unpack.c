/* From msgpack to structs and straight to JSON. This is on the path of every read, so it walks the
 * bytes once and allocates nothing, where msgpack-c would first build a tree of objects: a GET of one
 * reminder costs 6 % less CPU (bench/README.md). Nothing that a count or length in the input promises is
 * believed before the bytes are there. */
#include "node/base/json_text.h"
#include "node/base/when.h"
#include "node/codec/field.h"
#include "node/codec/field_map.h"

enum value_type { VALUE_NIL, VALUE_BOOL, VALUE_INT, VALUE_STR, VALUE_BIN, VALUE_ARRAY, VALUE_MAP, VALUE_OTHER };

struct value {
    enum value_type type;
    int64_t number;     /* of an int; 0 or 1 of a bool */
    struct bytes bytes; /* of a str or bin */
    uint64_t items;     /* objects inside an array or map; a pair is two */
    const uint8_t *at;  /* of a field: where its msgpack starts */
};

/* Sticky: after the first thing that is wrong nothing is read any more. */
struct reader {
    struct bytes left;
    bool bad;
};

static struct bytes take(struct reader *reader, uint64_t len)
{
    if (reader->bad || len > reader->left.len) {
        reader->bad = true;
        return BYTES_NONE;
    }
    struct bytes taken = bytes_of(reader->left.ptr, (size_t)len);
    reader->left = bytes_of(reader->left.ptr + len, reader->left.len - (size_t)len);
    return taken;
}

static uint64_t take_be(struct reader *reader, size_t size)
{
    struct bytes raw = take(reader, size);
    uint64_t value = 0;
    for (size_t i = 0; i < raw.len; i++) {
        value = value << 8 | raw.ptr[i];
    }
    return value;
}

static int64_t sign_extend(uint64_t value, size_t size)
{
    unsigned shift = 64 - 8 * (unsigned)size;
    return (int64_t)(value << shift) >> shift;
}

static struct value container(struct reader *reader, enum value_type type, uint64_t items)
{
    if (items > reader->left.len) { /* each object takes a byte at least */
        reader->bad = true;
    }
    return (struct value){.type = type, .items = items};
}

static struct value text(struct reader *reader, enum value_type type, uint64_t len)
{
    return (struct value){.type = type, .bytes = take(reader, len)};
}

static struct value number(struct reader *reader, size_t size, bool is_signed)
{
    uint64_t raw = take_be(reader, size);
    bool fits = is_signed || raw <= INT64_MAX;
    return (struct value){.type = fits ? VALUE_INT : VALUE_OTHER,
                          .number = is_signed ? sign_extend(raw, size) : (int64_t)raw};
}

/* The formats from 0xc0 on (the msgpack specification's table): what they are, and the size of the
 * length or number that follows. */
static struct value next_long(struct reader *reader, uint8_t c)
{
    static const uint8_t skips[] = {4, 8}, fixext[] = {2, 3, 5, 9, 17};
    if (c == 0xc0) {
        return (struct value){.type = VALUE_NIL};
    }
    if (c == 0xc2 || c == 0xc3) {
        return (struct value){.type = VALUE_BOOL, .number = c == 0xc3};
    }
    if (c >= 0xc4 && c <= 0xc6) {
        return text(reader, VALUE_BIN, take_be(reader, (size_t)1 << (c - 0xc4)));
    }
    if (c >= 0xc7 && c <= 0xc9) {
        return text(reader, VALUE_OTHER, take_be(reader, (size_t)1 << (c - 0xc7)) + 1);
    }
    if (c == 0xca || c == 0xcb) {
        return text(reader, VALUE_OTHER, skips[c - 0xca]);
    }
    if (c >= 0xcc && c <= 0xd3) {
        return number(reader, (size_t)1 << ((c - 0xcc) & 3), c >= 0xd0);
    }
    if (c >= 0xd4 && c <= 0xd8) {
        return text(reader, VALUE_OTHER, fixext[c - 0xd4]);
    }
    if (c >= 0xd9 && c <= 0xdb) {
        return text(reader, VALUE_STR, take_be(reader, (size_t)1 << (c - 0xd9)));
    }
    if (c >= 0xdc) {
        uint64_t count = take_be(reader, (c & 1) == 0 ? 2 : 4);
        return c <= 0xdd ? container(reader, VALUE_ARRAY, count) : container(reader, VALUE_MAP, 2 * count);
    }
    reader->bad = true;
    return (struct value){.type = VALUE_OTHER};
}

static struct value next(struct reader *reader)
{
    struct bytes first = take(reader, 1);
    uint8_t c = first.len == 1 ? first.ptr[0] : 0xc1;
    if (c < 0x80) {
        return (struct value){.type = VALUE_INT, .number = c};
    }
    if (c >= 0xe0) {
        return (struct value){.type = VALUE_INT, .number = (int8_t)c};
    }
    if (c >= 0xa0 && c < 0xc0) {
        return text(reader, VALUE_STR, c & 31U);
    }
    if (c >= 0x90 && c < 0xa0) {
        return container(reader, VALUE_ARRAY, c & 15U);
    }
    return c < 0x90 ? container(reader, VALUE_MAP, 2ULL * (c & 15U)) : next_long(reader, c);
}

/* Reads over what is inside a container, however deep. */
static void skip(struct reader *reader, struct value value)
{
    for (uint64_t wanted = value.items; wanted > 0 && !reader->bad; wanted--) {
        uint64_t items = next(reader).items;
        if (items > reader->left.len) {
            reader->bad = true;
        }
        wanted += items;
    }
}

/* The field of a tag; written in table order, so the one after the last is nearly always it. */
static const struct field *field_of(const struct field *fields, const struct field *guess, int64_t tag)
{
    if (guess->name != NULL && guess->tag == tag) {
        return guess;
    }
    while (fields->name != NULL && fields->tag != tag) {
        fields++;
    }
    return fields;
}

/* The next pair of a map: its field (NULL name: unknown) and value. */
static const struct field *next_pair(struct reader *reader, const struct field *fields, const struct field *guess,
                                     struct value *out)
{
    struct value tag = next(reader);
    reader->bad = reader->bad || tag.type != VALUE_INT;
    const uint8_t *at = reader->left.ptr;
    *out = next(reader);
    out->at = at;
    return field_of(fields, guess, tag.number);
}

static bool is_choice(const struct field *field, int64_t number_)
{
    for (int64_t i = 0; field->choices[i] != NULL; i++) {
        if (i == number_) {
            return true;
        }
    }
    return false;
}

static const enum value_type wanted_type[] = {
    [TYPE_STRING] = VALUE_STR,    [TYPE_BOOL] = VALUE_BOOL,   [TYPE_INT] = VALUE_INT,   [TYPE_TIME] = VALUE_INT,
    [TYPE_ID] = VALUE_BIN,        [TYPE_ENUM] = VALUE_INT,    [TYPE_BYTES] = VALUE_BIN, [TYPE_OBJECT] = VALUE_MAP,
    [TYPE_STRINGS] = VALUE_ARRAY, [TYPE_OBJECTS] = VALUE_BIN, [TYPE_MAP] = VALUE_MAP};

/* Nothing stands behind the last item. What is in the items is looked at when they are unpacked. */
static bool are_objects(struct bytes left)
{
    struct bytes item;
    while (field_objects_next(&left, &item)) {
    }
    return left.len == 0;
}

static bool fits(const struct field *field, const struct value *value)
{
    return value->type == wanted_type[field->type] &&
           (field->type != TYPE_ID || value->bytes.len == sizeof(struct id)) &&
           (field->type != TYPE_ENUM || is_choice(field, value->number)) &&
           (field->type != TYPE_OBJECTS || are_objects(value->bytes));
}

/* ---- to structs ---- */

static void unpack_map(struct reader *reader, const struct field *fields, struct value map, void *out);

/* It stays as it is, once it is sure that there are strings alone. */
static struct bytes unpack_strings(struct reader *reader, struct value map)
{
    for (uint64_t i = 0; i < map.items && !reader->bad; i++) {
        reader->bad = next(reader).type != VALUE_STR || reader->bad;
    }
    return bytes_of(map.at, (size_t)(reader->left.ptr - map.at));
}

enum err field_strings(struct bytes strings, struct arena *arena, struct bytes **out, size_t *out_len)
{
    struct reader reader = {strings, strings.len == 0};
    struct value array = next(&reader);
    if (strings.len == 0) {
        *out = NULL;
        *out_len = 0;
        return OK;
    }
    if (reader.bad || array.type != VALUE_ARRAY || array.items > strings.len) {
        return ERR_CORRUPT;
    }
    *out = arena_alloc(arena, (size_t)array.items * sizeof **out + 1);
    for (*out_len = 0; *out_len < array.items && !reader.bad; (*out_len)++) {
        struct value item = next(&reader);
        reader.bad = reader.bad || item.type != VALUE_STR;
        (*out)[*out_len] = item.bytes;
    }
    return reader.bad ? ERR_CORRUPT : OK;
}

struct field_map field_map_of(struct bytes packed)
{
    struct reader reader = {packed, packed.len == 0};
    struct value map = next(&reader);
    return (struct field_map){reader.left, reader.bad || map.type != VALUE_MAP ? 0 : map.items / 2};
}

bool field_map_next(struct field_map *map, struct bytes *out_key, struct bytes *out_value)
{
    struct reader reader = {map->left, map->entries == 0};
    struct value key = next(&reader), value = next(&reader);
    if (reader.bad || key.type != VALUE_STR || value.type != VALUE_STR) {
        return false;
    }
    *out_key = key.bytes;
    *out_value = value.bytes;
    *map = (struct field_map){reader.left, map->entries - 1};
    return true;
}

static void unpack_value(struct reader *reader, const struct field *field, struct value value, void *to)
{
    switch ((enum field_type)field->type) {
    case TYPE_STRING:
    case TYPE_OBJECTS:
    case TYPE_BYTES: *(struct bytes *)to = value.bytes; return;
    case TYPE_BOOL: *(bool *)to = value.number != 0; return;
    case TYPE_INT:
    case TYPE_TIME: *(int64_t *)to = value.number; return;
    case TYPE_ID: memcpy(to, value.bytes.ptr, sizeof(struct id)); return;
    case TYPE_ENUM: *(int *)to = (int)value.number; return;
    case TYPE_OBJECT: unpack_map(reader, field->sub, value, to); return;
    case TYPE_MAP:
    case TYPE_STRINGS: *(struct bytes *)to = unpack_strings(reader, value); return;
    }
}

static void unpack_map(struct reader *reader, const struct field *fields, struct value map, void *out)
{
    struct fieldset *set = out;
    const struct field *field = fields;
    reader->bad = reader->bad || map.type != VALUE_MAP;
    for (uint64_t i = 0; i < map.items && !reader->bad; i += 2) {
        struct value value;
        field = next_pair(reader, fields, field, &value);
        if (reader->bad || field->name == NULL) {
            skip(reader, value);
            continue;
        }
        uint64_t bit = field_bit((size_t)(field - fields));
        if (value.type == VALUE_NIL) {
            set->null |= bit;
        } else if (fits(field, &value)) {
            unpack_value(reader, field, value, (char *)out + field->offset);
            set->has |= bit;
        } else {
            reader->bad = true;
        }
        field++;
    }
}

enum err field_unpack(const struct field *fields, struct bytes packed, void *out)
{
    struct reader reader = {packed, false};
    struct value map = next(&reader);
    unpack_map(&reader, fields, map, out);
    return reader.bad || reader.left.len > 0 ? ERR_CORRUPT : OK;
}

/* ---- to JSON ---- */

static void json_map(struct reader *reader, struct buf *out, const struct field *fields, struct value map);

static void json_time(struct buf *out, int64_t ms)
{
    char *to = (char *)buf_room(out, WHEN_TEXT_BYTES + 2);
    to[0] = '"';
    when_format(ms, to + 1);
    to[WHEN_TEXT_BYTES + 1] = '"';
    out->len += WHEN_TEXT_BYTES + 2;
}

static void json_id(struct buf *out, struct bytes raw)
{
    struct id id;
    memcpy(id.b, raw.ptr, sizeof id.b);
    char *to = (char *)buf_room(out, ID_TEXT_BYTES + 2);
    to[0] = '"';
    id_format(id, to + 1);
    to[ID_TEXT_BYTES + 1] = '"';
    out->len += ID_TEXT_BYTES + 2;
}

static void json_strings(struct reader *reader, struct buf *out, struct value array)
{
    buf_add_char(out, '[');
    for (uint64_t i = 0; i < array.items && !reader->bad; i++) {
        struct value item = next(reader);
        reader->bad = reader->bad || item.type != VALUE_STR;
        if (i > 0) {
            buf_add_char(out, ',');
        }
        json_text_add(out, item.bytes);
    }
    buf_add_char(out, ']');
}

/* Every item has a reader of its own: it ends where its length says. */
static void json_objects(struct reader *reader, struct buf *out, const struct field *sub, struct bytes objects)
{
    char separator = '[';
    for (struct bytes item; field_objects_next(&objects, &item);) {
        struct reader inner = {item, false};
        struct value map = next(&inner);
        buf_add_char(out, separator);
        separator = ',';
        json_map(&inner, out, sub, map);
        reader->bad = reader->bad || inner.bad || inner.left.len > 0;
    }
    buf_add_str(out, separator == '[' ? "[]" : "]");
}

static void json_string_map(struct reader *reader, struct buf *out, struct value map)
{
    buf_add_char(out, '{');
    for (uint64_t i = 0; i < map.items && !reader->bad; i++) {
        struct value text = next(reader);
        reader->bad = reader->bad || text.type != VALUE_STR;
        if (i > 0) {
            buf_add_char(out, i % 2 == 0 ? ',' : ':');
        }
        json_text_add(out, text.bytes);
    }
    buf_add_char(out, '}');
}

static void json_value(struct reader *reader, struct buf *out, const struct field *field, struct value value)
{
    switch ((enum field_type)field->type) {
    case TYPE_STRING: json_text_add(out, value.bytes); return;
    case TYPE_BOOL:
        if (value.number != 0) {
            buf_add_lit(out, "true");
        } else {
            buf_add_lit(out, "false");
        }
        return;
    case TYPE_INT: buf_add_i64(out, value.number); return;
    case TYPE_TIME: json_time(out, value.number); return;
    case TYPE_ID: json_id(out, value.bytes); return;
    case TYPE_ENUM: json_text_add(out, bytes_str(field->choices[value.number])); return;
    case TYPE_OBJECT: json_map(reader, out, field->sub, value); return;
    case TYPE_STRINGS: json_strings(reader, out, value); return;
    case TYPE_OBJECTS: json_objects(reader, out, field->sub, value.bytes); return;
    case TYPE_MAP: json_string_map(reader, out, value); return;
    case TYPE_BYTES: reader->bad = true; return;
    }
}

static void json_map(struct reader *reader, struct buf *out, const struct field *fields, struct value map)
{
    const struct field *field = fields;
    char separator = '{';
    reader->bad = reader->bad || map.type != VALUE_MAP;
    for (uint64_t i = 0; i < map.items && !reader->bad; i += 2) {
        struct value value;
        field = next_pair(reader, fields, field, &value);
        if (reader->bad || field->name == NULL) {
            skip(reader, value);
            continue;
        }
        if ((field->flags & FIELD_HIDDEN) != 0 || value.type == VALUE_NIL) {
            skip(reader, value);
        } else if (fits(field, &value)) {
            buf_add_char(out, separator);
            separator = ',';
            buf_add_char(out, '"');
            buf_add_str(out, field->name);
            buf_add_lit(out, "\":");
            json_value(reader, out, field, value);
        } else {
            reader->bad = true;
        }
        field++;
    }
    if (separator == '{') {
        buf_add_char(out, '{');
    }
    buf_add_char(out, '}');
}

enum err field_json_from_pack(struct buf *out, const struct field *fields, struct bytes packed)
{
    struct reader reader = {packed, false};
    struct value map = next(&reader);
    json_map(&reader, out, fields, map);
    return reader.bad || reader.left.len > 0 ? ERR_CORRUPT : OK;
}
