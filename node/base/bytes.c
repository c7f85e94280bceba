#include "node/base/bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

int bytes_cmp(struct bytes a, struct bytes b)
{
    size_t shared = a.len < b.len ? a.len : b.len;
    int order = shared == 0 ? 0 : memcmp(a.ptr, b.ptr, shared);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

bool bytes_is_nocase(struct bytes a, const char *s)
{
    return a.len == strlen(s) && strncasecmp((const char *)a.ptr, s, a.len) == 0;
}

struct bytes bytes_trim(struct bytes a)
{
    while (a.len > 0 && (a.ptr[0] == ' ' || a.ptr[0] == '\t')) {
        a.ptr++;
        a.len--;
    }
    while (a.len > 0 && (a.ptr[a.len - 1] == ' ' || a.ptr[a.len - 1] == '\t')) {
        a.len--;
    }
    return a;
}

uint8_t *buf_room(struct buf *buf, size_t more)
{
    if (buf->ptr == NULL || buf->cap - buf->len < more) {
        size_t cap = buf->cap < 256 ? 256 : buf->cap;
        while (cap - buf->len < more) {
            CHECK(cap <= SIZE_MAX / 2);
            cap *= 2;
        }
        buf->ptr = mem_realloc(buf->ptr, cap);
        buf->cap = cap;
    }
    return buf->ptr + buf->len;
}

void buf_free(struct buf *buf)
{
    free(buf->ptr);
    *buf = (struct buf){0};
}

void buf_add_slow(struct buf *buf, const void *ptr, size_t len)
{
    uint8_t *to = buf_room(buf, len);
    if (len > 0) {
        memcpy(to, ptr, len);
    }
    buf->len += len;
}

void buf_printf(struct buf *buf, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    CHECK(len >= 0);
    (void)vsnprintf((char *)buf_room(buf, (size_t)len + 1), (size_t)len + 1, fmt, again);
    va_end(again);
    buf->len += (size_t)len;
}

void buf_add_u64(struct buf *buf, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    buf_add(buf, digits + at, sizeof digits - at);
}

void buf_add_i64(struct buf *buf, int64_t value)
{
    if (value < 0) {
        buf_add_char(buf, '-');
    }
    buf_add_u64(buf, value < 0 ? 0U - (uint64_t)value : (uint64_t)value);
}
