#include "actors/facades/json_out.h"

#include "node/base/json_text.h"
#include "node/base/when.h"

void json_out_key(struct buf *out, const char *name)
{
    char last = out->len == 0 ? '[' : (char)out->ptr[out->len - 1];
    if (last != '{' && last != '[') {
        buf_add_char(out, ',');
    }
    if (name != NULL) {
        buf_add_char(out, '"');
        buf_add_str(out, name);
        buf_add_lit(out, "\":");
    }
}

void json_out_open(struct buf *out, const char *name, char bracket)
{
    json_out_key(out, name);
    buf_add_char(out, bracket);
}

void json_out_text(struct buf *out, const char *name, struct bytes text)
{
    json_out_key(out, name);
    json_text_add_safe(out, text);
}

void json_out_bool(struct buf *out, const char *name, bool value)
{
    json_out_key(out, name);
    buf_add_str(out, value ? "true" : "false");
}

void json_out_int(struct buf *out, const char *name, int64_t value)
{
    json_out_key(out, name);
    buf_add_i64(out, value);
}

void json_out_null(struct buf *out, const char *name)
{
    json_out_key(out, name);
    buf_add_lit(out, "null");
}

void json_out_time(struct buf *out, const char *name, int64_t ms)
{
    char text[WHEN_TEXT_BYTES];
    when_format(ms, text);
    json_out_text(out, name, bytes_of(text, sizeof text));
}

void json_out_raw(struct buf *out, const char *name, struct bytes json)
{
    json_out_key(out, name);
    buf_add_bytes(out, json);
}
