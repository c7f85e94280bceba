#include "node/base/text.h"

#include <sodium.h>
#include <stdlib.h>
#include <utf8proc.h>

/* Bytes of the code point at text.ptr, 0 when it is not valid. */
static size_t utf8_length(struct bytes text)
{
    const uint8_t *p = text.ptr;
    if (p[0] < 0x80) {
        return 1;
    }
    size_t len = p[0] >= 0xc2 && p[0] < 0xe0   ? 2
                 : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
                 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                               : 0;
    if (len == 0 || text.len < len) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool bad = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
               (p[0] == 0xf4 && p[1] > 0x8f);
    return bad ? 0 : len;
}

size_t text_utf8_prefix(struct bytes text)
{
    size_t at = 0;
    while (at < text.len) {
        uint64_t word;
        if (text.len - at >= 8 && (memcpy(&word, text.ptr + at, 8), (word & 0x8080808080808080ULL) == 0)) {
            at += 8;
            continue;
        }
        size_t len = utf8_length(bytes_of(text.ptr + at, text.len - at));
        if (len == 0) {
            break;
        }
        at += len;
    }
    return at;
}

size_t text_chars(struct bytes text)
{
    size_t chars = 0;
    for (size_t i = 0; i < text.len; i++) {
        chars += (text.ptr[i] & 0xc0) != 0x80;
    }
    return chars;
}

/* Eight printable ASCII characters: no byte is above 7E, none below 20 (Hacker's Delight, 6-1). */
static bool is_plain(uint64_t word)
{
    const uint64_t ones = 0x0101010101010101ULL, highs = 0x8080808080808080ULL;
    return ((word | (word + ones) | (word - ones * 0x20)) & highs) == 0;
}

bool text_has_controls(struct bytes text)
{
    for (size_t at = 0; at < text.len;) {
        uint64_t word;
        if (text.len - at >= 8 && (memcpy(&word, text.ptr + at, 8), is_plain(word))) {
            at += 8;
            continue;
        }
        utf8proc_int32_t code;
        utf8proc_ssize_t len = utf8proc_iterate(text.ptr + at, (utf8proc_ssize_t)(text.len - at), &code);
        if (len <= 0 || code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x202a && code <= 0x202e) ||
            (code >= 0x2066 && code <= 0x2069)) {
            return true;
        }
        at += (size_t)len;
    }
    return false;
}

bool text_fold(struct bytes text, struct buf *out)
{
    utf8proc_uint8_t *folded = NULL;
    utf8proc_ssize_t len =
        utf8proc_map(text.ptr, (utf8proc_ssize_t)text.len, &folded,
                     UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE);
    if (len < 0) {
        return false;
    }
    buf_add(out, folded, (size_t)len);
    free(folded);
    return true;
}

static void base64_add(struct buf *out, struct bytes raw, int variant)
{
    size_t room = sodium_base64_encoded_len(raw.len, variant);
    char *to = (char *)buf_room(out, room);
    sodium_bin2base64(to, room, raw.ptr, raw.len, variant);
    out->len += room - 1; /* without the NUL */
}

static bool base64_decode(struct bytes text, uint8_t *out, size_t cap, size_t *out_len, int variant)
{
    const char *end = NULL;
    return sodium_base642bin(out, cap, (const char *)text.ptr, text.len, NULL, out_len, &end, variant) == 0 &&
           end == (const char *)text.ptr + text.len;
}

void text_base64url_add(struct buf *out, struct bytes raw)
{
    base64_add(out, raw, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

bool text_base64url_decode(struct bytes text, uint8_t *out, size_t cap, size_t *out_len)
{
    return base64_decode(text, out, cap, out_len, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

void text_base64_add(struct buf *out, struct bytes raw)
{
    base64_add(out, raw, sodium_base64_VARIANT_ORIGINAL);
}

bool text_base64_decode(struct bytes text, uint8_t *out, size_t cap, size_t *out_len)
{
    return base64_decode(text, out, cap, out_len, sodium_base64_VARIANT_ORIGINAL);
}

bool text_parse_u64(struct bytes text, uint64_t *out)
{
    uint64_t value = 0;
    if (text.len == 0) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        unsigned digit = (unsigned)text.ptr[i] - '0';
        if (digit > 9 || value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}
