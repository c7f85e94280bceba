#include "node/decode.h"

#include "node/base/text.h"
#include "node/codec/field_map.h"

bool decode_is_media_type(struct bytes header, const char *type)
{
    const uint8_t *semicolon = header.len == 0 ? NULL : memchr(header.ptr, ';', header.len);
    size_t len = semicolon == NULL ? header.len : (size_t)(semicolon - header.ptr);
    return bytes_is_nocase(bytes_trim(bytes_of(header.ptr, len)), type);
}

enum err decode_consistency(struct bytes *query, struct arena *arena, bool *out_local, struct field_errors *errors)
{
    static const char key[] = "consistency=";
    struct bytes left = *query;
    struct buf rest = {0};
    enum err err = OK;
    if (left.len == 0 || memmem(left.ptr, left.len, key, sizeof key - 1) == NULL) {
        return OK;
    }
    while (left.len > 0) {
        const uint8_t *amp = memchr(left.ptr, '&', left.len);
        size_t len = amp == NULL ? left.len : (size_t)(amp - left.ptr);
        struct bytes pair = bytes_of(left.ptr, len);
        if (bytes_start_with(pair, bytes_str(key))) {
            struct bytes value = bytes_of(pair.ptr + sizeof key - 1, pair.len - (sizeof key - 1));
            *out_local = bytes_is(value, "local");
            if (!*out_local && !bytes_is(value, "linearizable")) {
                field_errors_add(errors, arena, "?consistency", "not_a_choice", "linearizable or local");
                err = ERR_INVALID_FIELDS;
            }
        } else {
            buf_add_bytes(&rest, pair);
            buf_add_char(&rest, '&');
        }
        left = bytes_of(left.ptr + len + (amp != NULL), left.len - len - (amp != NULL));
    }
    *query = arena_copy(arena, buf_bytes(&rest));
    buf_free(&rest);
    return err;
}

/* ---- raw bodies ---- */

enum { HEADER_SHOWN = 100 };

static const struct field *named(const struct field *fields, struct bytes name)
{
    while (fields->name != NULL && !bytes_is(name, fields->name)) {
        fields++;
    }
    return fields->name == NULL ? NULL : fields;
}

/* What is read of a raw request while its headers are gone through. */
struct raw {
    const struct field *fields;
    void *out;
    struct arena *arena;
    struct field_errors *errors;
    struct field_map_draft map;
};

static void *set_member(const struct raw *raw, const struct field *field)
{
    ((struct fieldset *)raw->out)->has |= field_bit((size_t)(field - raw->fields));
    return (char *)raw->out + field->offset;
}

/* By the name that the client wrote. */
static void refuse_header(const struct raw *raw, struct bytes header, const char *code, const char *detail)
{
    char shown[HEADER_SHOWN + 1] = "";
    memcpy(shown, header.ptr, header.len < HEADER_SHOWN ? header.len : HEADER_SHOWN);
    field_errors_add(raw->errors, raw->arena, shown, code, detail);
}

static bool starts_nocase(struct bytes text, struct bytes prefix, struct bytes *out_rest)
{
    if (text.len < prefix.len || !bytes_is_nocase(bytes_of(text.ptr, prefix.len), (const char *)prefix.ptr)) {
        return false;
    }
    *out_rest = bytes_of(text.ptr + prefix.len, text.len - prefix.len);
    return true;
}

/* In lower case, and with `underscore` as the name of a C member. Arena memory. */
static struct bytes lowered(struct bytes name, bool underscore, struct arena *arena)
{
    uint8_t *to = arena_alloc(arena, name.len);
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        to[i] = c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c == '-' && underscore ? '_' : c;
    }
    return bytes_of(to, name.len);
}

static void take_map_header(struct raw *raw, const struct field *field, struct bytes header, struct bytes name,
                            struct bytes value)
{
    if (text_utf8_prefix(value) < value.len) {
        refuse_header(raw, header, "bad_encoding", "The value is not UTF-8");
        return;
    }
    enum map_fault fault = field_map_add(&raw->map, field, lowered(name, false, raw->arena), value);
    if (fault != MAP_GOOD) {
        refuse_header(raw, header, field_map_fault_code(fault), field_map_fault_detail(fault));
    }
}

/* Underscores are for names of ours alone: Belfry-Other_Name would be a second way to say Belfry-Other-Name. */
static void take_field_header(struct raw *raw, struct bytes header, struct bytes name, struct bytes value)
{
    bool plain = name.len > 0 && memchr(name.ptr, '_', name.len) == NULL;
    struct bytes member = plain ? lowered(name, true, raw->arena) : BYTES_NONE;
    const struct field *field = plain ? named(raw->fields, member) : NULL;
    if (field == NULL || (field->flags & FIELD_HEADER) == 0) {
        refuse_header(raw, header, "unknown", "There is no such header");
        return;
    }
    (void)(field_decode_header(raw->fields, member, value, raw->arena, raw->out, raw->errors) == OK);
}

static void take_type(const struct raw *raw, const struct field *field, struct bytes header, struct bytes value)
{
    const struct fieldset *set = raw->out;
    CHECK(field->type == TYPE_STRING);
    if ((set->has & field_bit((size_t)(field - raw->fields))) != 0) {
        refuse_header(raw, header, "repeated", "The header is given twice");
    } else if (text_utf8_prefix(value) < value.len || text_has_controls(value)) {
        refuse_header(raw, header, "bad_encoding", "The value is not UTF-8 without control characters");
    } else if (field->max > 0 && value.len > (size_t)field->max) {
        refuse_header(raw, header, "too_long", "The text is too long");
    } else {
        *(struct bytes *)set_member(raw, field) = value;
    }
}

static void take_headers(struct raw *raw, const struct http_request *http)
{
    const struct field *type = named(raw->fields, BYTES_LIT("content_type"));
    const struct field *map = named(raw->fields, BYTES_LIT("headers"));
    for (size_t i = 0; i < http->headers_len; i++) {
        const struct http_header *at = &http->headers[i];
        struct bytes header = bytes_of(http->head + at->name, at->name_len), rest;
        struct bytes value = bytes_trim(bytes_of(http->head + at->value, at->value_len));
        if (type != NULL && bytes_is_nocase(header, "content-type")) {
            take_type(raw, type, header, value);
        } else if (map != NULL && starts_nocase(header, BYTES_LIT("belfry-header-"), &rest)) {
            take_map_header(raw, map, header, rest, value);
        } else if (starts_nocase(header, BYTES_LIT("belfry-"), &rest)) {
            take_field_header(raw, header, rest, value);
        }
    }
    bool any = raw->map.entries > 0;
    struct bytes packed = field_map_end(&raw->map, raw->arena);
    if (any) {
        *(struct bytes *)set_member(raw, map) = packed;
    }
}

enum err decode_raw(const struct field *fields, const struct http_request *http, struct arena *arena, void *out,
                    struct field_errors *errors)
{
    struct raw raw = {fields, out, arena, errors, {{0}}};
    const struct field *body = named(fields, BYTES_LIT("body"));
    CHECK(body != NULL && body->type == TYPE_BYTES);
    if (body->max > 0 && http->body.len > (size_t)body->max) {
        return ERR_TOO_LARGE;
    }
    take_headers(&raw, http);
    *(struct bytes *)set_member(&raw, body) = http->body;
    return errors->len > 0 ? ERR_INVALID_FIELDS : OK;
}

struct digest decode_raw_digest(const struct field *fields, void *in, const struct digest *body)
{
    struct fieldset *set = in;
    uint64_t bit = field_bit((size_t)(named(fields, BYTES_LIT("body")) - fields));
    struct buf rest = {0};
    set->has &= ~bit;
    field_pack(&rest, fields, in);
    set->has |= bit;
    struct digest whole = digest_of(digest_bytes(body), buf_bytes(&rest));
    buf_free(&rest);
    return whole;
}
