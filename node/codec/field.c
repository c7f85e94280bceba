#include "node/codec/field.h"

#include "node/base/json_text.h"
#include "node/base/when.h"

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

enum err field_check_required(const struct field *fields, const void *in, struct arena *arena,
                              struct field_errors *errors)
{
    const struct fieldset *set = in;
    for (size_t i = 0; fields[i].name != NULL; i++) {
        if ((fields[i].flags & FIELD_REQUIRED) != 0 && (set->has & field_bit(i)) == 0) {
            struct buf pointer = {0};
            buf_printf(&pointer, "/%s%c", fields[i].name, 0);
            field_errors_add(errors, arena, (const char *)pointer.ptr, "required", "This field is required");
            buf_free(&pointer);
        }
    }
    return errors->len > 0 ? ERR_INVALID_FIELDS : OK;
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
    case TYPE_BYTES: CHECK(false);
    }
}

static bool in_schema(const struct field *field, bool reply)
{
    return (field->flags & FIELD_HIDDEN) == 0 && (reply || (field->flags & FIELD_QUERY) == 0);
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
