/* Structs to msgpack. Framing is by msgpack-c; the way back is field_unpack.c. */
#include <msgpack.h>

#include "node/codec/field.h"

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
        static const uint8_t nothing = 0x90; /* an array without items */
        const struct bytes *packed = value;
        buf_add_bytes(packer->data, packed->len > 0 ? *packed : bytes_of(&nothing, 1));
        return;
    }
    case TYPE_MAP: {
        static const uint8_t none = 0x80; /* a map without entries */
        const struct bytes *packed = value;
        buf_add_bytes(packer->data, packed->len > 0 ? *packed : bytes_of(&none, 1));
        return;
    }
    case TYPE_OBJECTS:
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

void field_strings_begin(struct buf *strings, uint32_t count)
{
    const uint8_t head[] = {0xdd, (uint8_t)(count >> 24), (uint8_t)(count >> 16), (uint8_t)(count >> 8),
                            (uint8_t)count};
    buf_add(strings, head, sizeof head); /* array 32 */
}

void field_strings_add(struct buf *strings, struct bytes text)
{
    uint32_t len = (uint32_t)text.len;
    const uint8_t head[] = {0xdb, (uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len};
    buf_add(strings, head, sizeof head); /* str 32 */
    buf_add_bytes(strings, text);
}
