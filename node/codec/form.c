#include "node/codec/form.h"

#include <jansson.h>
#include <stdio.h>

#include "node/base/text.h"

static void add(struct form *form, struct arena *arena, struct form_member member)
{
    if (form->members == NULL) {
        form->members = arena_alloc(arena, FORM_MEMBERS * sizeof *form->members);
    }
    if (form->len < FORM_MEMBERS) {
        form->members[form->len++] = member;
    }
}

/* ---- JSON ---- */

static struct form_member member_of(json_t *value, struct bytes name, struct arena *arena)
{
    char digits[64];
    struct form_member member = {.name = name, .type = FORM_OTHER};
    if (json_is_string(value)) {
        member.type = FORM_TEXT;
        member.text = arena_copy(arena, bytes_of(json_string_value(value), json_string_length(value)));
    } else if (json_is_null(value)) {
        member.type = FORM_NULL;
    } else if (json_is_boolean(value)) {
        member.type = FORM_BOOL;
        member.text = json_is_true(value) ? BYTES_LIT("true") : BYTES_LIT("false");
    } else if (json_is_integer(value)) {
        member.type = FORM_NUMBER;
        (void)snprintf(digits, sizeof digits, "%lld", (long long)json_integer_value(value));
        member.text = arena_copy(arena, bytes_str(digits));
    } else if (json_is_real(value)) {
        member.type = FORM_NUMBER;
        (void)snprintf(digits, sizeof digits, "%.15g", json_real_value(value));
        member.text = arena_copy(arena, bytes_str(digits));
    }
    return member;
}

static struct bytes joined(struct bytes outer, struct bytes inner, struct arena *arena)
{
    uint8_t *to = arena_alloc(arena, outer.len + 1 + inner.len);
    memcpy(to, outer.ptr, outer.len);
    to[outer.len] = '.';
    memcpy(to + outer.len + 1, inner.ptr, inner.len);
    return bytes_of(to, outer.len + 1 + inner.len);
}

static void add_object(struct form *form, struct arena *arena, json_t *object, struct bytes outer, bool nested)
{
    for (void *at = json_object_iter(object); at != NULL && form->len < FORM_MEMBERS;
         at = json_object_iter_next(object, at)) {
        struct bytes key = bytes_of(json_object_iter_key(at), json_object_iter_key_len(at));
        if ((nested ? outer.len + 1 : 0) + key.len > FORM_NAME_BYTES) {
            continue; /* before it is copied: the outer name comes with every member */
        }
        struct bytes name = nested ? joined(outer, key, arena) : arena_copy(arena, key);
        json_t *value = json_object_iter_value(at);
        add(form, arena, member_of(value, name, arena));
        if (!nested && json_is_object(value)) {
            add_object(form, arena, value, name, true);
        }
    }
}

enum err form_decode_json(struct bytes body, struct arena *arena, struct form *out, const char **out_why)
{
    json_error_t why;
    json_t *json = json_loadb((const char *)body.ptr, body.len, JSON_ALLOW_NUL, &why);
    *out = (struct form){0};
    if (json == NULL) {
        char text[256];
        (void)snprintf(text, sizeof text, "%s: line %d column %d", why.text, why.line, why.column);
        *out_why = (const char *)arena_copy(arena, bytes_of(text, text_utf8_prefix(bytes_str(text)))).ptr;
        return ERR_INVALID_JSON;
    }
    if (json_is_object(json)) {
        add_object(out, arena, json, BYTES_NONE, false);
    }
    json_decref(json);
    return OK;
}

/* ---- forms ---- */

static int hex_digit(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

static struct bytes as_utf8(struct bytes text, struct arena *arena)
{
    if (text_utf8_prefix(text) == text.len) {
        return text;
    }
    struct buf fixed = {0};
    while (text.len > 0) {
        size_t valid = text_utf8_prefix(text);
        buf_add(&fixed, text.ptr, valid);
        if (valid < text.len) {
            buf_add_lit(&fixed, "\xef\xbf\xbd");
            valid++;
        }
        text = bytes_of(text.ptr + valid, text.len - valid);
    }
    struct bytes out = arena_copy(arena, buf_bytes(&fixed));
    buf_free(&fixed);
    return out;
}

struct bytes form_percent_decode(struct bytes text, bool plus, struct arena *arena)
{
    uint8_t *to = arena_alloc(arena, text.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        int high = c == '%' && text.len - i > 2 ? hex_digit(text.ptr[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(text.ptr[i + 2]) : -1;
        if (low >= 0) {
            c = (uint8_t)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        to[len++] = c;
    }
    to[len] = 0;
    return as_utf8(bytes_of(to, len), arena);
}

static void add_pair(struct form *form, struct arena *arena, struct bytes pair)
{
    const uint8_t *equals = memchr(pair.ptr, '=', pair.len);
    size_t name_len = equals == NULL ? pair.len : (size_t)(equals - pair.ptr);
    struct bytes raw = equals == NULL ? BYTES_NONE : bytes_of(equals + 1, pair.len - name_len - 1);
    struct bytes name = form_percent_decode(bytes_of(pair.ptr, name_len), true, arena);
    if (name.len <= FORM_NAME_BYTES) {
        struct bytes text = form_percent_decode(raw, true, arena);
        add(form, arena, (struct form_member){.name = name, .text = text, .type = FORM_TEXT});
    }
}

void form_decode_urlencoded(struct bytes body, struct arena *arena, struct form *out)
{
    *out = (struct form){0};
    while (body.len > 0 && out->len < FORM_MEMBERS) {
        const uint8_t *amp = memchr(body.ptr, '&', body.len);
        size_t len = amp == NULL ? body.len : (size_t)(amp - body.ptr);
        if (len > 0) {
            add_pair(out, arena, bytes_of(body.ptr, len));
        }
        size_t skip = len + (amp != NULL);
        body = bytes_of(body.ptr + skip, body.len - skip);
    }
}

/* ---- reading ---- */

const struct form_member *form_find(const struct form *form, const char *name)
{
    for (size_t i = form->len; i > 0; i--) {
        if (bytes_is(form->members[i - 1].name, name)) {
            return &form->members[i - 1];
        }
    }
    return NULL;
}

struct bytes form_text(const struct form *form, const char *name)
{
    const struct form_member *member = form_find(form, name);
    return member == NULL ? BYTES_NONE : member->text;
}
