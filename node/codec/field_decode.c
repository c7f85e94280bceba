/* From JSON bodies and query strings to structs. JSON is parsed by libjansson. */
#include <jansson.h>
#include <stdio.h>

#include "node/base/text.h"
#include "node/base/when.h"
#include "node/codec/field.h"
#include "node/limits.h"

struct decoder {
    struct arena *arena;
    struct field_errors *errors;
    char pointer[128];
};

static void *member(void *out, const struct field *field)
{
    return (char *)out + field->offset;
}

static void complain(struct decoder *d, const struct field *field, const char *code, const char *detail)
{
    char pointer[256];
    (void)snprintf(pointer, sizeof pointer, "%s/%s", d->pointer, field->name);
    field_errors_add(d->errors, d->arena, pointer, code, detail);
}

static bool decode_string(struct decoder *d, const struct field *field, struct bytes text, struct bytes *out)
{
    size_t size = (field->flags & FIELD_IN_BYTES) != 0 ? text.len : text_chars(text);
    if (size < (size_t)field->min) {
        complain(d, field, "too_short", "The text is too short");
        return false;
    }
    if (field->max > 0 && size > (size_t)field->max) {
        complain(d, field, "too_long", "The text is too long");
        return false;
    }
    if ((field->flags & (FIELD_TEXT | FIELD_SECRET)) == 0 && text_has_controls(text)) {
        complain(d, field, "control_characters", "Control characters are not allowed");
        return false;
    }
    *out = arena_copy(d->arena, text);
    return true;
}

static bool decode_choice(struct decoder *d, const struct field *field, struct bytes text, int *out)
{
    for (int i = 0; field->choices[i] != NULL; i++) {
        if (bytes_is(text, field->choices[i])) {
            *out = i;
            return true;
        }
    }
    complain(d, field, "not_a_choice", "The value is not one of those allowed");
    return false;
}

/* A value that stands as text, in JSON or in a query string. */
static bool decode_text(struct decoder *d, const struct field *field, struct bytes text, void *to)
{
    switch ((enum field_type)field->type) {
    case TYPE_STRING: return decode_string(d, field, text, to);
    case TYPE_ENUM: return decode_choice(d, field, text, to);
    case TYPE_TIME:
        if (when_parse(text, to)) {
            return true;
        }
        complain(d, field, "not_a_time", "A time must be RFC 3339, like 2026-01-31T09:30:00Z");
        return false;
    case TYPE_ID:
        if (id_parse(text, to)) {
            return true;
        }
        complain(d, field, "not_an_id", "An id must be a UUID of version 8");
        return false;
    case TYPE_BOOL:
    case TYPE_INT:
    case TYPE_BYTES:
    case TYPE_OBJECT:
    case TYPE_STRINGS: break;
    }
    complain(d, field, "wrong_type", "The value has the wrong type");
    return false;
}

static bool decode_int(struct decoder *d, const struct field *field, int64_t value, int64_t *out)
{
    if (value < field->min || value > field->max) {
        complain(d, field, "out_of_range", "The number is out of range");
        return false;
    }
    *out = value;
    return true;
}

static void decode_object(struct decoder *d, const struct field *fields, json_t *json, void *out);

static bool decode_value(struct decoder *d, const struct field *field, json_t *json, void *to)
{
    if (json_is_string(json)) {
        return decode_text(d, field, bytes_of(json_string_value(json), json_string_length(json)), to);
    }
    if (json_is_boolean(json) && field->type == TYPE_BOOL) {
        *(bool *)to = json_is_true(json);
        return true;
    }
    if (json_is_integer(json) && field->type == TYPE_INT) {
        return decode_int(d, field, json_integer_value(json), to);
    }
    if (json_is_object(json) && field->type == TYPE_OBJECT) {
        size_t errors = d->errors->len, end = strlen(d->pointer);
        (void)snprintf(d->pointer + end, sizeof d->pointer - end, "/%s", field->name);
        decode_object(d, field->sub, json, to);
        d->pointer[end] = 0;
        return d->errors->len == errors;
    }
    complain(d, field, "wrong_type", "The value has the wrong type");
    return false;
}

static const struct field *find(const struct field *fields, struct bytes name, bool query)
{
    for (; fields->name != NULL; fields++) {
        if (((fields->flags & FIELD_QUERY) != 0) == query && (fields->flags & FIELD_HIDDEN) == 0 &&
            bytes_is(name, fields->name)) {
            return fields;
        }
    }
    return NULL;
}

static void unknown(struct decoder *d, struct bytes name, const char *prefix)
{
    char pointer[256];
    (void)snprintf(pointer, sizeof pointer, "%s%s%.*s", d->pointer, prefix, (int)(name.len > 100 ? 100 : name.len),
                   (const char *)name.ptr);
    field_errors_add(d->errors, d->arena, pointer, "unknown_field", "There is no such field");
}

static void decode_object(struct decoder *d, const struct field *fields, json_t *json, void *out)
{
    struct fieldset *set = out;
    for (void *at = json_object_iter(json); at != NULL; at = json_object_iter_next(json, at)) {
        struct bytes name = bytes_of(json_object_iter_key(at), json_object_iter_key_len(at));
        json_t *value = json_object_iter_value(at);
        const struct field *field = find(fields, name, false);
        if (field == NULL) {
            unknown(d, name, "/");
            continue;
        }
        uint64_t bit = field_bit((size_t)(field - fields));
        if (json_is_null(value) && (field->flags & FIELD_NULLABLE) != 0) {
            set->null |= bit;
        } else if (decode_value(d, field, value, member(out, field))) {
            set->has |= bit;
        }
    }
}

static bool too_deep(json_t *json, int left)
{
    if (left == 0) {
        return json_is_object(json) || json_is_array(json);
    }
    if (json_is_array(json)) {
        for (size_t i = 0; i < json_array_size(json); i++) {
            if (too_deep(json_array_get(json, i), left - 1)) {
                return true;
            }
        }
    }
    for (void *at = json_is_object(json) ? json_object_iter(json) : NULL; at != NULL;
         at = json_object_iter_next(json, at)) {
        if (too_deep(json_object_iter_value(at), left - 1)) {
            return true;
        }
    }
    return false;
}

enum err field_decode_json(const struct field *fields, struct bytes body, struct arena *arena, void *out,
                           struct field_errors *errors)
{
    struct decoder d = {.arena = arena, .errors = errors};
    json_error_t why;
    json_t *json = json_loadb((const char *)body.ptr, body.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (json == NULL) {
        char detail[256];
        (void)snprintf(detail, sizeof detail, "line %d, column %d: %s", why.line, why.column, why.text);
        size_t valid = text_utf8_prefix(bytes_str(detail));
        errors->json_detail = (const char *)arena_copy(arena, bytes_of(detail, valid)).ptr;
        return ERR_INVALID_JSON;
    }
    if (too_deep(json, LIMIT_JSON_DEPTH)) {
        errors->json_detail = "nested too deeply";
        json_decref(json);
        return ERR_INVALID_JSON;
    }
    if (json_is_object(json)) {
        decode_object(&d, fields, json, out);
    } else {
        field_errors_add(errors, arena, "", "wrong_type", "The body must be an object");
    }
    json_decref(json);
    return errors->len > 0 ? ERR_INVALID_FIELDS : OK;
}

static int hex_digit(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

bool field_percent_decode(struct bytes text, bool form, struct arena *arena, struct bytes *out)
{
    uint8_t *to = arena_alloc(arena, text.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if (c == '%') {
            bool whole = text.len - i > 2;
            int high = whole ? hex_digit(text.ptr[i + 1]) : -1;
            int low = whole ? hex_digit(text.ptr[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return false;
            }
            c = (uint8_t)(high << 4 | low);
            i += 2;
        } else if (c == '+' && form) {
            c = ' ';
        }
        to[len++] = c;
    }
    to[len] = 0;
    *out = bytes_of(to, len);
    return text_utf8_prefix(*out) == len;
}

static bool decode_parameter(struct decoder *d, const struct field *field, struct bytes text, void *to)
{
    uint64_t number;
    if (field->type == TYPE_BOOL && (bytes_is(text, "true") || bytes_is(text, "false"))) {
        *(bool *)to = text.len == 4;
        return true;
    }
    if (field->type == TYPE_INT && text_parse_u64(text, &number) && number <= INT64_MAX) {
        return decode_int(d, field, (int64_t)number, to);
    }
    return decode_text(d, field, text, to);
}

static void decode_pair(struct decoder *d, const struct field *fields, struct bytes pair, void *out)
{
    struct fieldset *set = out;
    const uint8_t *equals = pair.len == 0 ? NULL : memchr(pair.ptr, '=', pair.len);
    size_t name_len = equals == NULL ? pair.len : (size_t)(equals - pair.ptr);
    struct bytes raw = equals == NULL ? BYTES_NONE : bytes_of(equals + 1, pair.len - name_len - 1);
    struct bytes name, value;
    if (!field_percent_decode(bytes_of(pair.ptr, name_len), true, d->arena, &name) ||
        !field_percent_decode(raw, true, d->arena, &value)) {
        field_errors_add(d->errors, d->arena, "", "bad_encoding", "The query string is badly encoded");
        return;
    }
    const struct field *field = find(fields, name, true);
    if (field == NULL) {
        unknown(d, name, "?");
        return;
    }
    uint64_t bit = field_bit((size_t)(field - fields));
    if ((set->has & bit) != 0) {
        complain(d, field, "repeated", "The parameter is given twice");
    } else if (decode_parameter(d, field, value, member(out, field))) {
        set->has |= bit;
    }
}

enum err field_decode_param(const struct field *fields, struct bytes name, struct bytes text, struct arena *arena,
                            void *out, struct field_errors *errors)
{
    struct decoder d = {.arena = arena, .errors = errors};
    struct fieldset *set = out;
    const struct field *field = find(fields, name, true);
    CHECK(field != NULL); /* a route's parameters are in its table */
    bool plain = memchr(text.ptr, '%', text.len) == NULL;
    if (!plain && !field_percent_decode(text, false, arena, &text)) {
        return ERR_INVALID_FIELDS;
    }
    if (!decode_parameter(&d, field, text, member(out, field))) {
        return ERR_INVALID_FIELDS;
    }
    set->has |= field_bit((size_t)(field - fields));
    return OK;
}

enum err field_decode_query(const struct field *fields, struct bytes query, struct arena *arena, void *out,
                            struct field_errors *errors)
{
    struct decoder d = {.arena = arena, .errors = errors};
    while (query.len > 0) {
        const uint8_t *amp = memchr(query.ptr, '&', query.len);
        size_t len = amp == NULL ? query.len : (size_t)(amp - query.ptr);
        if (len > 0) {
            decode_pair(&d, fields, bytes_of(query.ptr, len), out);
        }
        size_t skip = amp == NULL ? len : len + 1;
        query.ptr += skip;
        query.len -= skip;
    }
    return errors->len > 0 ? ERR_INVALID_FIELDS : OK;
}
