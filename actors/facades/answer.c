#include "actors/facades/answer.h"

#include "node/base/json_text.h"
#include "node/base/when.h"

void answer_key(struct buf *out, const char *name)
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

void answer_open(struct buf *out, const char *name, char bracket)
{
    answer_key(out, name);
    buf_add_char(out, bracket);
}

void answer_text(struct buf *out, const char *name, struct bytes text)
{
    answer_key(out, name);
    json_text_add_safe(out, text);
}

void answer_bool(struct buf *out, const char *name, bool value)
{
    answer_key(out, name);
    buf_add_str(out, value ? "true" : "false");
}

void answer_int(struct buf *out, const char *name, int64_t value)
{
    answer_key(out, name);
    buf_add_i64(out, value);
}

void answer_null(struct buf *out, const char *name)
{
    answer_key(out, name);
    buf_add_lit(out, "null");
}

void answer_time(struct buf *out, const char *name, int64_t ms)
{
    char text[WHEN_TEXT_BYTES];
    when_format(ms, text);
    answer_text(out, name, bytes_of(text, sizeof text));
}

void answer_raw(struct buf *out, const char *name, struct bytes json)
{
    answer_key(out, name);
    buf_add_bytes(out, json);
}
