/* From JSON bodies, query strings and headers to structs. JSON is parsed by libjansson, whose tree is walked. */
#include <jansson.h>
#include <stdio.h>

#include "node/base/text.h"
#include "node/base/when.h"
#include "node/codec/field.h"
#include "node/codec/field_map.h"
#include "node/limits.h"

enum { POINTER_BYTES = 256, NAME_SHOWN = 100 };

/* How one came to a value, for JSON pointers: written only when there is something to complain of. */
struct place {
    const struct place *outer;
    const char *name; /* NULL: an item */
    uint64_t item;
};

struct decoder {
    struct arena *arena; /* for values; errors have their own, for items are forgotten once they are packed */
    struct arena *errors_arena;
    struct field_errors *errors;
    const struct place *place; /* NULL: the body itself */
    const char *header;        /* whose value it is, as clients write it; NULL: no header */
};

static void *member(void *out, const struct field *field)
{
    return (char *)out + field->offset;
}

/* ---- what is wrong ---- */

static void add_error(struct decoder *d, const char *pointer, const char *code, const char *detail)
{
    field_errors_add(d->errors, d->errors_arena, pointer, code, detail);
}

/* A body may have very many faults; rows for which there is no room are not even written. */
static bool is_full(const struct decoder *d)
{
    return d->errors->len == FIELD_ERRORS_MAX;
}

static void write_place(const struct place *place, char out[POINTER_BYTES])
{
    out[0] = 0;
    if (place != NULL) {
        write_place(place->outer, out);
        size_t end = strlen(out);
        if (place->name != NULL) {
            (void)snprintf(out + end, POINTER_BYTES - end, "/%s", place->name);
        } else {
            (void)snprintf(out + end, POINTER_BYTES - end, "/%llu", (unsigned long long)place->item);
        }
    }
}

/* Here: the item or the body itself. */
static void complain_here(struct decoder *d, const char *code, const char *detail)
{
    char pointer[POINTER_BYTES];
    if (!is_full(d)) {
        write_place(d->place, pointer);
        add_error(d, pointer, code, detail);
    }
}

static void complain(struct decoder *d, const struct field *field, const char *code, const char *detail)
{
    struct place place = {d->place, field->name, 0};
    char pointer[POINTER_BYTES];
    if (!is_full(d)) {
        write_place(&place, pointer);
        add_error(d, d->header != NULL ? d->header : pointer, code, detail);
    }
}

static void wrong_type(struct decoder *d, const struct field *field)
{
    complain(d, field, "wrong_type", "The value has the wrong type");
}

/* A name of the client's, which may be long and hold anything; in pointers ~ and / are escaped (RFC 6901). */
static void complain_named(struct decoder *d, const char *prefix, struct bytes name, const char *code,
                           const char *detail)
{
    if (is_full(d)) {
        return;
    }
    char place[POINTER_BYTES];
    struct buf pointer = {0};
    write_place(d->place, place);
    buf_printf(&pointer, "%s%s", place, prefix);
    size_t shown = text_utf8_prefix(bytes_of(name.ptr, name.len < NAME_SHOWN ? name.len : NAME_SHOWN));
    for (size_t i = 0; i < shown; i++) {
        bool escapes = prefix[0] == '/' && (name.ptr[i] == '~' || name.ptr[i] == '/');
        buf_add_str(&pointer, !escapes ? "" : name.ptr[i] == '~' ? "~0" : "~1");
        buf_add(&pointer, name.ptr + i, !escapes);
    }
    buf_add_char(&pointer, 0);
    add_error(d, (const char *)pointer.ptr, code, detail);
    buf_free(&pointer);
}

static void unknown(struct decoder *d, struct bytes name, const char *prefix)
{
    complain_named(d, prefix, name, "unknown_field", "There is no such field");
}

/* ---- values ---- */

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
    case TYPE_STRINGS:
    case TYPE_OBJECTS:
    case TYPE_MAP: break;
    }
    wrong_type(d, field);
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

/* FIELD_QUERY, FIELD_HEADER or 0 (the body): where the value comes from. */
static const struct field *find(const struct field *fields, struct bytes name, uint8_t source)
{
    for (; fields->name != NULL; fields++) {
        if ((fields->flags & (FIELD_QUERY | FIELD_HEADER | FIELD_HIDDEN)) == source && bytes_is(name, fields->name)) {
            return fields;
        }
    }
    return NULL;
}

/* Items of a list mostly have the same members in the same order: the one after the last is tried first. */
static const struct field *find_next(const struct field *fields, const struct field *guess, struct bytes name)
{
    bool plain = guess->name != NULL && (guess->flags & (FIELD_QUERY | FIELD_HEADER | FIELD_HIDDEN)) == 0;
    return plain && bytes_is(name, guess->name) ? guess : find(fields, name, 0);
}

/* ---- JSON ---- */

static struct bytes text_of(const json_t *json)
{
    return bytes_of(json_string_value(json), json_string_length(json));
}

static struct bytes name_at(void *at)
{
    return bytes_of(json_object_iter_key(at), json_object_iter_key_len(at));
}

static bool decode_value(struct decoder *d, const struct field *field, json_t *json, void *to);

static void decode_object(struct decoder *d, const struct field *fields, json_t *json, void *out)
{
    struct fieldset *set = out;
    const struct field *guess = fields;
    for (void *at = json_object_iter(json); at != NULL; at = json_object_iter_next(json, at)) {
        json_t *value = json_object_iter_value(at);
        const struct field *field = find_next(fields, guess, name_at(at));
        if (field == NULL) {
            unknown(d, name_at(at), "/");
            continue;
        }
        uint64_t bit = field_bit((size_t)(field - fields));
        if (json_is_null(value) && (field->flags & FIELD_NULLABLE) != 0) {
            set->null |= bit;
        } else if (decode_value(d, field, value, member(out, field))) {
            set->has |= bit;
        }
        guess = field + 1;
    }
}

static bool decode_sub(struct decoder *d, const struct field *field, json_t *json, void *to)
{
    struct place place = {d->place, field->name, 0};
    size_t errors = d->errors->len;
    d->place = &place;
    decode_object(d, field->sub, json, to);
    d->place = place.outer;
    return d->errors->len == errors;
}

static bool decode_map(struct decoder *d, const struct field *field, json_t *json, struct bytes *out)
{
    struct place place = {d->place, field->name, 0};
    struct field_map_draft draft = {0};
    size_t errors = d->errors->len;
    d->place = &place;
    for (void *at = json_object_iter(json); at != NULL; at = json_object_iter_next(json, at)) {
        const json_t *value = json_object_iter_value(at);
        if (!json_is_string(value)) {
            complain_named(d, "/", name_at(at), "wrong_type", "The value must be a text");
            continue;
        }
        enum map_fault fault = field_map_add(&draft, field, name_at(at), text_of(value));
        if (fault != MAP_GOOD) {
            complain_named(d, "/", name_at(at), field_map_fault_code(fault), field_map_fault_detail(fault));
        }
    }
    d->place = place.outer;
    *out = field_map_end(&draft, d->arena);
    return d->errors->len == errors;
}

/* One item: decoded into a struct that the next one overwrites, and packed. */
static void decode_item(struct decoder *d, const struct field *field, json_t *json, struct buf *packed)
{
    if (!json_is_object(json)) {
        complain_here(d, "wrong_type", "The item must be an object");
        return;
    }
    size_t errors = d->errors->len;
    arena_reset(d->arena);
    void *item = arena_zalloc(d->arena, field->sub_size);
    decode_object(d, field->sub, json, item);
    for (size_t i = 0; d->errors->len == errors && field->sub[i].name != NULL; i++) {
        bool has = (((struct fieldset *)item)->has & field_bit(i)) != 0;
        if ((field->sub[i].flags & FIELD_REQUIRED) != 0 && !has) {
            complain(d, &field->sub[i], "required", "This field is required");
        }
    }
    if (d->errors->len == 0) {
        field_objects_add(packed, field->sub, item);
    }
}

static bool decode_objects(struct decoder *d, const struct field *field, json_t *json, struct bytes *out)
{
    struct place list = {d->place, field->name, 0}, item = {&list, NULL, 0};
    struct arena *outer = d->arena, scratch = {0};
    struct buf packed = {0};
    size_t errors = d->errors->len;
    uint64_t items = json_array_size(json);
    d->arena = &scratch;
    d->place = &item;
    for (; item.item < items && item.item < (uint64_t)field->max; item.item++) {
        decode_item(d, field, json_array_get(json, item.item), &packed);
    }
    d->arena = outer;
    d->place = list.outer;
    if (items < (uint64_t)field->min) {
        complain(d, field, "too_few", "There are too few items");
    } else if (items > (uint64_t)field->max) {
        complain(d, field, "too_many", "There are too many items");
    }
    *out = arena_copy(outer, buf_bytes(&packed));
    buf_free(&packed);
    arena_close(&scratch);
    return d->errors->len == errors;
}

/* As packed msgpack. */
static bool decode_strings(struct decoder *d, const struct field *field, json_t *json, struct bytes *out)
{
    struct buf texts = {0};
    size_t errors = d->errors->len, count = json_array_size(json);
    field_strings_begin(&texts, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        const json_t *text = json_array_get(json, i);
        if (json_is_string(text)) {
            field_strings_add(&texts, text_of(text));
        } else {
            wrong_type(d, field);
        }
    }
    *out = arena_copy(d->arena, buf_bytes(&texts));
    buf_free(&texts);
    return d->errors->len == errors;
}

static bool decode_value(struct decoder *d, const struct field *field, json_t *json, void *to)
{
    if (json_is_string(json)) {
        return decode_text(d, field, text_of(json), to);
    }
    if (json_is_boolean(json) && field->type == TYPE_BOOL) {
        *(bool *)to = json_is_true(json);
        return true;
    }
    if (json_is_integer(json) && field->type == TYPE_INT) {
        return decode_int(d, field, json_integer_value(json), to);
    }
    if (json_is_object(json) && field->type == TYPE_OBJECT) {
        return decode_sub(d, field, json, to);
    }
    if (json_is_object(json) && field->type == TYPE_MAP) {
        return decode_map(d, field, json, to);
    }
    if (json_is_array(json) && field->type == TYPE_OBJECTS) {
        return decode_objects(d, field, json, to);
    }
    if (json_is_array(json) && field->type == TYPE_STRINGS) {
        return decode_strings(d, field, json, to);
    }
    wrong_type(d, field);
    return false;
}

static bool too_deep(json_t *json, int left)
{
    if (left == 0) {
        return json_is_object(json) || json_is_array(json);
    }
    for (size_t i = 0, items = json_array_size(json); i < items; i++) {
        if (too_deep(json_array_get(json, i), left - 1)) {
            return true;
        }
    }
    for (void *at = json_object_iter(json); at != NULL; at = json_object_iter_next(json, at)) {
        if (too_deep(json_object_iter_value(at), left - 1)) {
            return true;
        }
    }
    return false;
}

enum err field_decode_json(const struct field *fields, struct bytes body, struct arena *arena, void *out,
                           struct field_errors *errors)
{
    struct decoder d = {.arena = arena, .errors_arena = arena, .errors = errors};
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
        add_error(&d, "", "wrong_type", "The body must be an object");
    }
    json_decref(json);
    return errors->len > 0 ? ERR_INVALID_FIELDS : OK;
}

/* ---- parameters ---- */

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
        add_error(d, "", "bad_encoding", "The query string is badly encoded");
        return;
    }
    const struct field *field = find(fields, name, FIELD_QUERY);
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
    struct decoder d = {.arena = arena, .errors_arena = arena, .errors = errors};
    struct fieldset *set = out;
    const struct field *field = find(fields, name, FIELD_QUERY);
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
    struct decoder d = {.arena = arena, .errors_arena = arena, .errors = errors};
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

enum err field_decode_header(const struct field *fields, struct bytes name, struct bytes text, struct arena *arena,
                             void *out, struct field_errors *errors)
{
    struct fieldset *set = out;
    const struct field *field = find(fields, name, FIELD_HEADER);
    char header[FIELD_HEADER_BYTES];
    CHECK(field != NULL);
    field_header_name(field, header);
    struct decoder d = {.arena = arena, .errors_arena = arena, .errors = errors, .header = header};
    uint64_t bit = field_bit((size_t)(field - fields));
    if ((set->has & bit) != 0) {
        complain(&d, field, "repeated", "The header is given twice");
    } else if (text_utf8_prefix(text) < text.len) {
        complain(&d, field, "bad_encoding", "The value is not UTF-8");
    } else if (decode_parameter(&d, field, text, member(out, field))) {
        set->has |= bit;
        return OK;
    }
    return ERR_INVALID_FIELDS;
}
