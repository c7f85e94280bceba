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

static void add_body(struct buf *buf, struct bytes text)
{
    size_t from = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if (UNLIKELY(c < 0x20 || c == '"' || c == '\\' || c == 0x7f)) {
            buf_add(buf, text.ptr + from, i - from);
            add_escape(buf, c);
            from = i + 1;
        }
    }
    if (text.len > from) {
        buf_add(buf, text.ptr + from, text.len - from);
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
