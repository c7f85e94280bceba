#include "node/base/json_text.h"

#include "node/base/text.h"

static void add_escape(struct buf *buf, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";
    char text[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    switch (c) {
    case '"': buf_add_lit(buf, "\\\""); return;
    case '\\': buf_add_lit(buf, "\\\\"); return;
    case '\n': buf_add_lit(buf, "\\n"); return;
    case '\r': buf_add_lit(buf, "\\r"); return;
    case '\t': buf_add_lit(buf, "\\t"); return;
    default: buf_add(buf, text, sizeof text);
    }
}

/* Bytes that must be escaped: controls, quote, backslash, DEL. */
static const bool escapes[256] = {
    [0x00] = true, [0x01] = true, [0x02] = true, [0x03] = true, [0x04] = true, [0x05] = true, [0x06] = true,
    [0x07] = true, [0x08] = true, [0x09] = true, [0x0a] = true, [0x0b] = true, [0x0c] = true, [0x0d] = true,
    [0x0e] = true, [0x0f] = true, [0x10] = true, [0x11] = true, [0x12] = true, [0x13] = true, [0x14] = true,
    [0x15] = true, [0x16] = true, [0x17] = true, [0x18] = true, [0x19] = true, [0x1a] = true, [0x1b] = true,
    [0x1c] = true, [0x1d] = true, [0x1e] = true, [0x1f] = true, ['"'] = true,  ['\\'] = true, [0x7f] = true};

/* Length of the longest prefix that needs no escape; eight bytes at a time (Hacker's Delight, 6-1:
 * a zero byte of x shows in (x - 0x01…) & ~x & 0x80…). */
static size_t plain_prefix(struct bytes text)
{
    const uint64_t ones = 0x0101010101010101ULL, highs = 0x8080808080808080ULL;
    size_t at = 0;
    while (text.len - at >= 8) {
        uint64_t word, found;
        memcpy(&word, text.ptr + at, 8);
        uint64_t quote = word ^ ones * '"', slash = word ^ ones * '\\', del = word ^ ones * 0x7f;
        found = ((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((del - ones) & ~del) |
                ((word - ones * 0x20) & ~word);
        if ((found & highs) != 0) {
            break;
        }
        at += 8;
    }
    while (at < text.len && !escapes[text.ptr[at]]) {
        at++;
    }
    return at;
}

static void add_body(struct buf *buf, struct bytes text)
{
    for (;;) {
        size_t plain = plain_prefix(text);
        buf_add(buf, text.ptr, plain);
        if (plain == text.len) {
            return;
        }
        add_escape(buf, text.ptr[plain]);
        text = bytes_of(text.ptr + plain + 1, text.len - plain - 1);
    }
}

void json_text_add(struct buf *buf, struct bytes text)
{
    buf_add_char(buf, '"');
    add_body(buf, text);
    buf_add_char(buf, '"');
}

void json_text_add_safe(struct buf *buf, struct bytes text)
{
    buf_add_char(buf, '"');
    while (text.len > 0) {
        size_t valid = text_utf8_prefix(text);
        add_body(buf, bytes_of(text.ptr, valid));
        text.ptr += valid;
        text.len -= valid;
        if (text.len > 0) {
            buf_add_lit(buf, "\xef\xbf\xbd");
            text.ptr++;
            text.len--;
        }
    }
    buf_add_char(buf, '"');
}
