/* Structs to msgpack and back, and msgpack straight to JSON. Framing is by msgpack-c. */
#include <msgpack.h>

#include "node/base/json_text.h"
#include "node/base/when.h"
#include "node/codec/field.h"

enum { ZONE_BYTES = 960 }; /* one small malloc for the object tree of a usual record */

static int write_to_buf(void *data, const char *ptr, size_t len)
{
    buf_add(data, ptr, len);
    return 0;
}

static const void *member(const void *in, const struct field *field)
{
    return (const char *)in + field->offset;
}

static void pack_str(msgpack_packer *packer, struct bytes text)
{
    (void)msgpack_pack_str(packer, text.len);
    (void)msgpack_pack_str_body(packer, text.ptr, text.len);
}

static void pack_bin(msgpack_packer *packer, struct bytes raw)
{
    (void)msgpack_pack_bin(packer, raw.len);
    (void)msgpack_pack_bin_body(packer, raw.ptr, raw.len);
}

static void pack_object(msgpack_packer *packer, const struct field *fields, const void *in);

static void pack_value(msgpack_packer *packer, const struct field *field, const void *value)
{
    switch ((enum field_type)field->type) {
    case TYPE_STRING: pack_str(packer, *(const struct bytes *)value); return;
    case TYPE_STRINGS: {
        const struct bytes *packed = value;
        buf_add_bytes(packer->data, *packed);
        return;
    }
    case TYPE_BYTES: pack_bin(packer, *(const struct bytes *)value); return;
    case TYPE_BOOL: (void)(*(const bool *)value ? msgpack_pack_true(packer) : msgpack_pack_false(packer)); return;
    case TYPE_INT:
    case TYPE_TIME: (void)msgpack_pack_int64(packer, *(const int64_t *)value); return;
    case TYPE_ID: pack_bin(packer, id_bytes(value)); return;
    case TYPE_ENUM: (void)msgpack_pack_int(packer, *(const int *)value); return;
    case TYPE_OBJECT: pack_object(packer, field->sub, value); return;
    }
}

static void pack_object(msgpack_packer *packer, const struct field *fields, const void *in)
{
    const struct fieldset *set = in;
    size_t count = 0;
    for (size_t i = 0; fields[i].name != NULL; i++) {
        count += ((set->has | set->null) & field_bit(i)) != 0;
    }
    (void)msgpack_pack_map(packer, count);
    for (size_t i = 0; fields[i].name != NULL; i++) {
        if ((set->has & field_bit(i)) != 0) {
            (void)msgpack_pack_uint16(packer, fields[i].tag);
            pack_value(packer, &fields[i], member(in, &fields[i]));
        } else if ((set->null & field_bit(i)) != 0) {
            (void)msgpack_pack_uint16(packer, fields[i].tag);
            (void)msgpack_pack_nil(packer);
        }
    }
}

void field_pack(struct buf *out, const struct field *fields, const void *in)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, write_to_buf);
    pack_object(&packer, fields, in);
}

static bool unpack_object(const struct field *fields, const msgpack_object *object, void *out);

static bool unpack_int(const msgpack_object *object, int64_t *out)
{
    if (object->type == MSGPACK_OBJECT_NEGATIVE_INTEGER ||
        (object->type == MSGPACK_OBJECT_POSITIVE_INTEGER && object->via.u64 <= INT64_MAX)) {
        *out = object->via.i64;
        return true;
    }
    return false;
}

static int choice_count(const struct field *field)
{
    int count = 0;
    while (field->choices[count] != NULL) {
        count++;
    }
    return count;
}

static bool unpack_bytes(const msgpack_object *object, msgpack_object_type type, struct bytes *out)
{
    *out = bytes_of(object->via.bin.ptr, object->via.bin.size);
    return object->type == type;
}

static bool unpack_value(const struct field *field, const msgpack_object *object, void *to)
{
    struct bytes raw;
    int64_t number;
    switch ((enum field_type)field->type) {
    case TYPE_STRING: return unpack_bytes(object, MSGPACK_OBJECT_STR, to);
    case TYPE_BYTES: return unpack_bytes(object, MSGPACK_OBJECT_BIN, to);
    case TYPE_BOOL:
        *(bool *)to = object->type == MSGPACK_OBJECT_BOOLEAN && object->via.boolean;
        return object->type == MSGPACK_OBJECT_BOOLEAN;
    case TYPE_INT:
    case TYPE_TIME: return unpack_int(object, to);
    case TYPE_ID:
        if (!unpack_bytes(object, MSGPACK_OBJECT_BIN, &raw) || raw.len != sizeof(struct id)) {
            return false;
        }
        memcpy(to, raw.ptr, raw.len);
        return true;
    case TYPE_ENUM:
        if (!unpack_int(object, &number) || number < 0 || number >= choice_count(field)) {
            return false;
        }
        *(int *)to = (int)number;
        return true;
    case TYPE_OBJECT: return unpack_object(field->sub, object, to);
    case TYPE_STRINGS: break; /* write-only in replies */
    }
    return false;
}

static bool unpack_object(const struct field *fields, const msgpack_object *object, void *out)
{
    struct fieldset *set = out;
    if (object->type != MSGPACK_OBJECT_MAP) {
        return false;
    }
    size_t i = 0;
    for (uint32_t pair = 0; pair < object->via.map.size; pair++) {
        const msgpack_object_kv *kv = &object->via.map.ptr[pair];
        if (kv->key.type != MSGPACK_OBJECT_POSITIVE_INTEGER) {
            return false;
        }
        /* Written in table order: the next field is nearly always the one. */
        if (fields[i].name == NULL || fields[i].tag != kv->key.via.u64) {
            for (i = 0; fields[i].name != NULL && fields[i].tag != kv->key.via.u64; i++) {
            }
            if (fields[i].name == NULL) {
                continue;
            }
        }
        if (kv->val.type == MSGPACK_OBJECT_NIL) {
            set->null |= field_bit(i);
        } else if (unpack_value(&fields[i], &kv->val, (char *)out + fields[i].offset)) {
            set->has |= field_bit(i);
        } else {
            return false;
        }
        i++;
    }
    return true;
}

/* Big-endian number of `size` bytes at ptr. */
static uint64_t be(const uint8_t *ptr, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++) {
        value = value << 8 | ptr[i];
    }
    return value;
}

/* How an object starts: bytes of its head, bytes of data behind it, objects inside it. */
struct head {
    size_t head;
    uint64_t data, items;
};

static struct head head_of(struct bytes left)
{
    uint8_t c = left.ptr[0];
    if (c < 0x80 || c >= 0xe0) {
        return (struct head){1, 0, 0};
    }
    if (c < 0xa0) {
        return (struct head){1, 0, c < 0x90 ? 2ULL * (c & 15U) : c & 15U};
    }
    if (c < 0xc0) {
        return (struct head){1, c & 31U, 0};
    }
    static const struct {
        uint8_t length, data, per_item;
    } kinds[] = {{0, 0, 0}, {0, 0, 0}, {0, 0, 0}, {0, 0, 0},             /* nil, unused, false, true */
                 {1, 0, 0}, {2, 0, 0}, {4, 0, 0},                        /* bin */
                 {1, 1, 0}, {2, 1, 0}, {4, 1, 0},                        /* ext: a type byte too */
                 {0, 4, 0}, {0, 8, 0},                                   /* float */
                 {0, 1, 0}, {0, 2, 0}, {0, 4, 0}, {0, 8, 0},             /* uint */
                 {0, 1, 0}, {0, 2, 0}, {0, 4, 0}, {0, 8, 0},             /* int */
                 {0, 2, 0}, {0, 3, 0}, {0, 5, 0}, {0, 9, 0}, {0, 17, 0}, /* fixext */
                 {1, 0, 0}, {2, 0, 0}, {4, 0, 0},                        /* str */
                 {2, 0, 1}, {4, 0, 1}, {2, 0, 2}, {4, 0, 2}};            /* array, map */
    size_t length = kinds[c - 0xc0].length;
    uint64_t count = left.len > length ? be(left.ptr + 1, length) : UINT32_MAX;
    uint64_t per_item = kinds[c - 0xc0].per_item;
    return (struct head){1 + length, kinds[c - 0xc0].data + (per_item == 0 ? count : 0), count * per_item};
}

/* Each object takes a byte at least: a count that promises more than there are bytes is a lie, found
 * here before memory is set aside for it. */
static bool is_bounded(struct bytes left)
{
    uint64_t wanted = 1;
    while (wanted > 0) {
        if (left.len == 0 || wanted > left.len) {
            return false;
        }
        struct head head = head_of(left);
        if (head.head > left.len || head.data > left.len - head.head) {
            return false;
        }
        size_t size = head.head + (size_t)head.data;
        left = bytes_of(left.ptr + size, left.len - size);
        wanted += head.items - 1;
    }
    return true;
}

/* Parses one msgpack object; the zone holds its tree and must be destroyed. */
static bool parse(struct bytes packed, msgpack_zone *zone, msgpack_object *out)
{
    size_t off = 0;
    return is_bounded(packed) &&
           msgpack_unpack((const char *)packed.ptr, packed.len, &off, zone, out) == MSGPACK_UNPACK_SUCCESS &&
           off == packed.len;
}

enum err field_unpack(const struct field *fields, struct bytes packed, void *out)
{
    msgpack_zone zone;
    msgpack_object object;
    CHECK(msgpack_zone_init(&zone, ZONE_BYTES));
    bool good = parse(packed, &zone, &object) && unpack_object(fields, &object, out);
    msgpack_zone_destroy(&zone);
    return good ? OK : ERR_CORRUPT;
}

static void json_time(struct buf *out, int64_t ms)
{
    char *to = (char *)buf_room(out, WHEN_TEXT_BYTES + 2);
    to[0] = '"';
    when_format(ms, to + 1);
    to[WHEN_TEXT_BYTES + 1] = '"';
    out->len += WHEN_TEXT_BYTES + 2;
}

static void json_id(struct buf *out, const uint8_t *raw)
{
    struct id id;
    memcpy(id.b, raw, sizeof id.b);
    char *to = (char *)buf_room(out, ID_TEXT_BYTES + 2);
    to[0] = '"';
    id_format(id, to + 1);
    to[ID_TEXT_BYTES + 1] = '"';
    out->len += ID_TEXT_BYTES + 2;
}

static bool json_object(struct buf *out, const struct field *fields, const msgpack_object *object);

static bool json_strings(struct buf *out, const msgpack_object *object)
{
    if (object->type != MSGPACK_OBJECT_ARRAY) {
        return false;
    }
    buf_add_char(out, '[');
    for (uint32_t i = 0; i < object->via.array.size; i++) {
        const msgpack_object *item = &object->via.array.ptr[i];
        if (item->type != MSGPACK_OBJECT_STR) {
            return false;
        }
        if (i > 0) {
            buf_add_char(out, ',');
        }
        json_text_add(out, bytes_of(item->via.str.ptr, item->via.str.size));
    }
    buf_add_char(out, ']');
    return true;
}

static bool json_value(struct buf *out, const struct field *field, const msgpack_object *object)
{
    struct bytes raw;
    int64_t number;
    switch ((enum field_type)field->type) {
    case TYPE_STRING:
        if (!unpack_bytes(object, MSGPACK_OBJECT_STR, &raw)) {
            return false;
        }
        json_text_add(out, raw);
        return true;
    case TYPE_BOOL:
        if (object->type == MSGPACK_OBJECT_BOOLEAN && object->via.boolean) {
            buf_add_lit(out, "true");
        } else {
            buf_add_lit(out, "false");
        }
        return object->type == MSGPACK_OBJECT_BOOLEAN;
    case TYPE_INT:
        if (!unpack_int(object, &number)) {
            return false;
        }
        buf_add_i64(out, number);
        return true;
    case TYPE_TIME:
        if (!unpack_int(object, &number)) {
            return false;
        }
        json_time(out, number);
        return true;
    case TYPE_ID:
        if (!unpack_bytes(object, MSGPACK_OBJECT_BIN, &raw) || raw.len != sizeof(struct id)) {
            return false;
        }
        json_id(out, raw.ptr);
        return true;
    case TYPE_ENUM:
        if (!unpack_int(object, &number) || number < 0 || number >= choice_count(field)) {
            return false;
        }
        json_text_add(out, bytes_str(field->choices[number]));
        return true;
    case TYPE_OBJECT: return json_object(out, field->sub, object);
    case TYPE_STRINGS: return json_strings(out, object);
    case TYPE_BYTES: break;
    }
    return false;
}

static bool json_object(struct buf *out, const struct field *fields, const msgpack_object *object)
{
    if (object->type != MSGPACK_OBJECT_MAP) {
        return false;
    }
    buf_add_char(out, '{');
    bool first = true;
    const struct field *field = fields;
    for (uint32_t pair = 0; pair < object->via.map.size; pair++) {
        const msgpack_object_kv *kv = &object->via.map.ptr[pair];
        if (kv->key.type != MSGPACK_OBJECT_POSITIVE_INTEGER) {
            return false;
        }
        if (field->name == NULL || field->tag != kv->key.via.u64) {
            for (field = fields; field->name != NULL && field->tag != kv->key.via.u64; field++) {
            }
        }
        if (field->name == NULL) {
            continue;
        }
        if ((field->flags & FIELD_HIDDEN) == 0 && kv->val.type != MSGPACK_OBJECT_NIL) {
            if (!first) {
                buf_add_char(out, ',');
            }
            first = false;
            buf_add_char(out, '"');
            buf_add_str(out, field->name);
            buf_add_lit(out, "\":");
            if (!json_value(out, field, &kv->val)) {
                return false;
            }
        }
        field++;
    }
    buf_add_char(out, '}');
    return true;
}

enum err field_json_from_pack(struct buf *out, const struct field *fields, struct bytes packed)
{
    msgpack_zone zone;
    msgpack_object object;
    CHECK(msgpack_zone_init(&zone, ZONE_BYTES));
    bool good = parse(packed, &zone, &object) && json_object(out, fields, &object);
    msgpack_zone_destroy(&zone);
    return good ? OK : ERR_CORRUPT;
}

void field_json(struct buf *out, const struct field *fields, const void *in)
{
    struct buf packed = {0};
    field_pack(&packed, fields, in);
    CHECK(field_json_from_pack(out, fields, buf_bytes(&packed)) == OK);
    buf_free(&packed);
}
