#include "node/codec/field.h"

#include <stdio.h>

#include "node/base/json_text.h"
#include "node/base/when.h"
#include "node/codec/field_map.h"
#include "node/limits.h"

size_t field_index(const struct field *fields, size_t offset)
{
    size_t i = 0;
    while (fields[i].offset != offset) {
        CHECK(fields[i].name != NULL);
        i++;
    }
    return i;
}

void field_errors_add(struct field_errors *errors, struct arena *arena, const char *pointer, const char *code,
                      const char *detail)
{
    if (errors->len < FIELD_ERRORS_MAX) {
        const char *copy = (const char *)arena_copy(arena, bytes_str(pointer)).ptr;
        errors->rows[errors->len++] = (struct field_error){copy, code, detail};
    }
}

void field_header_name(const struct field *field, char out[FIELD_HEADER_BYTES])
{
    (void)snprintf(out, FIELD_HEADER_BYTES, "Belfry-%s", field->name);
    for (size_t i = 0; out[i] != 0; i++) {
        bool begins = i > 0 && out[i - 1] == '-';
        out[i] = out[i] == '_' ? '-' : out[i];
        out[i] = begins && out[i] >= 'a' && out[i] <= 'z' ? (char)(out[i] - 'a' + 'A') : out[i];
    }
}

bool field_objects_next(struct bytes *objects, struct bytes *out_item)
{
    uint32_t len;
    if (objects->len < sizeof len) {
        return false;
    }
    memcpy(&len, objects->ptr, sizeof len);
    if (objects->len - sizeof len < len) {
        return false;
    }
    *out_item = bytes_of(objects->ptr + sizeof len, len);
    *objects = bytes_of(objects->ptr + sizeof len + len, objects->len - sizeof len - len);
    return true;
}

void field_objects_add(struct buf *objects, const struct field *sub, const void *item)
{
    uint32_t len = 0;
    size_t at = objects->len;
    buf_add(objects, &len, sizeof len);
    field_pack(objects, sub, item);
    len = (uint32_t)(objects->len - at - sizeof len);
    memcpy(objects->ptr + at, &len, sizeof len);
}

enum err field_check_required(const struct field *fields, const void *in, struct arena *arena,
                              struct field_errors *errors)
{
    const struct fieldset *set = in;
    for (size_t i = 0; fields[i].name != NULL; i++) {
        if ((fields[i].flags & FIELD_REQUIRED) != 0 && (set->has & field_bit(i)) == 0) {
            char header[FIELD_HEADER_BYTES];
            struct buf pointer = {0};
            field_header_name(&fields[i], header);
            bool is_header = (fields[i].flags & FIELD_HEADER) != 0;
            buf_printf(&pointer, "%s%s%c", is_header ? "" : "/", is_header ? header : fields[i].name, 0);
            field_errors_add(errors, arena, (const char *)pointer.ptr, "required", "This field is required");
            buf_free(&pointer);
        }
    }
    return errors->len > 0 ? ERR_INVALID_FIELDS : OK;
}

static void schema_objects(struct buf *out, const struct field *field, bool reply)
{
    buf_printf(out, "{\"type\":\"array\",\"minItems\":%lld,\"maxItems\":%lld,\"items\":", (long long)field->min,
               (long long)field->max);
    field_schema(out, field->sub, reply);
    buf_add_char(out, '}');
}

static void schema_map(struct buf *out, const struct field *field)
{
    buf_printf(out,
               "{\"type\":\"object\",\"maxProperties\":%lld,\"propertyNames\":{\"minLength\":1,\"maxLength\":%d},"
               "\"additionalProperties\":{\"type\":\"string\",\"maxLength\":%d}}",
               (long long)field_map_max(field), LIMIT_MAP_KEY_BYTES, LIMIT_MAP_VALUE_BYTES);
}

static void schema_value(struct buf *out, const struct field *field, bool reply)
{
    switch ((enum field_type)field->type) {
    case TYPE_STRING:
        buf_add_lit(out, "{\"type\":\"string\"");
        if (field->min > 0) {
            buf_printf(out, ",\"minLength\":%lld", (long long)field->min);
        }
        if (field->max > 0) {
            buf_printf(out, ",\"maxLength\":%lld", (long long)field->max);
        }
        if ((field->flags & FIELD_SECRET) != 0 && !reply) {
            buf_add_lit(out, ",\"format\":\"password\",\"writeOnly\":true");
        }
        buf_add_char(out, '}');
        return;
    case TYPE_BOOL: buf_add_lit(out, "{\"type\":\"boolean\"}"); return;
    case TYPE_INT:
        buf_printf(out, "{\"type\":\"integer\",\"minimum\":%lld,\"maximum\":%lld}", (long long)field->min,
                   (long long)field->max);
        return;
    case TYPE_TIME: buf_add_lit(out, "{\"type\":\"string\",\"format\":\"date-time\"}"); return;
    case TYPE_ID: buf_add_lit(out, "{\"type\":\"string\",\"format\":\"uuid\"}"); return;
    case TYPE_ENUM:
        buf_add_lit(out, "{\"type\":\"string\",\"enum\":[");
        for (size_t i = 0; field->choices[i] != NULL; i++) {
            buf_printf(out, "%s\"%s\"", i > 0 ? "," : "", field->choices[i]);
        }
        buf_add_lit(out, "]}");
        return;
    case TYPE_OBJECT: field_schema(out, field->sub, reply); return;
    case TYPE_STRINGS: buf_add_lit(out, "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}"); return;
    case TYPE_OBJECTS: schema_objects(out, field, reply); return;
    case TYPE_MAP: schema_map(out, field); return;
    case TYPE_BYTES: CHECK(false);
    }
}

static bool in_schema(const struct field *field, bool reply)
{
    return (field->flags & FIELD_HIDDEN) == 0 && (reply || (field->flags & (FIELD_QUERY | FIELD_HEADER)) == 0);
}

void field_schema(struct buf *out, const struct field *fields, bool reply)
{
    buf_add_lit(out, "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{");
    bool first = true;
    for (const struct field *field = fields; field->name != NULL; field++) {
        if (in_schema(field, reply)) {
            buf_printf(out, "%s\"%s\":", first ? "" : ",", field->name);
            first = false;
            schema_value(out, field, reply);
        }
    }
    buf_add_lit(out, "},\"required\":[");
    first = true;
    for (const struct field *field = fields; field->name != NULL; field++) {
        if (in_schema(field, reply) && (field->flags & FIELD_REQUIRED) != 0) {
            buf_printf(out, "%s\"%s\"", first ? "" : ",", field->name);
            first = false;
        }
    }
    buf_add_lit(out, "]}");
}
