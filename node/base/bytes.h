/* Borrowed bytes and a growing buffer.
 * struct bytes never owns; struct buf owns its memory and is bounded by whoever fills it. */
#ifndef BELFRY_BASE_BYTES_H
#define BELFRY_BASE_BYTES_H

#include <stdarg.h>
#include <string.h>

#include "node/base/check.h"

struct bytes {
    const uint8_t *ptr;
    size_t len;
};

struct buf {
    uint8_t *ptr;
    size_t len, cap;
};

#define BYTES_LIT(s) ((struct bytes){(const uint8_t *)(s), sizeof(s) - 1})
#define BYTES_NONE ((struct bytes){NULL, 0})

static inline struct bytes bytes_of(const void *ptr, size_t len)
{
    return (struct bytes){ptr, len};
}

static inline struct bytes bytes_str(const char *s)
{
    return (struct bytes){(const uint8_t *)s, s == NULL ? 0 : strlen(s)};
}

static inline bool bytes_eq(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool bytes_is(struct bytes a, const char *s)
{
    return bytes_eq(a, bytes_str(s));
}

static inline bool bytes_start_with(struct bytes text, struct bytes prefix)
{
    return text.len >= prefix.len && (prefix.len == 0 || memcmp(text.ptr, prefix.ptr, prefix.len) == 0);
}

/* Orders as memcmp does, a prefix first. */
int bytes_cmp(struct bytes a, struct bytes b);
/* Equal when ASCII letters are compared without case. */
bool bytes_is_nocase(struct bytes a, const char *s);
/* Strips spaces and tabs from both ends (RFC 9110 OWS). */
struct bytes bytes_trim(struct bytes a);

/* Makes room for more bytes behind the content and returns where they go. */
uint8_t *buf_room(struct buf *buf, size_t more);
void buf_free(struct buf *buf);
void buf_add_slow(struct buf *buf, const void *ptr, size_t len);
void buf_printf(struct buf *buf, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Appends the decimal digits of a number; faster than printf. */
void buf_add_u64(struct buf *buf, uint64_t value);
void buf_add_i64(struct buf *buf, int64_t value);

static inline void buf_add(struct buf *buf, const void *ptr, size_t len)
{
    if (LIKELY(buf->cap - buf->len >= len) && buf->ptr != NULL) {
        if (len > 0) {
            memcpy(buf->ptr + buf->len, ptr, len);
        }
        buf->len += len;
        return;
    }
    buf_add_slow(buf, ptr, len);
}

static inline void buf_add_bytes(struct buf *buf, struct bytes bytes)
{
    buf_add(buf, bytes.ptr, bytes.len);
}

static inline void buf_add_str(struct buf *buf, const char *s)
{
    buf_add(buf, s, strlen(s));
}

#define buf_add_lit(buf, s) buf_add(buf, s, sizeof(s) - 1)

static inline void buf_add_char(struct buf *buf, char c)
{
    buf_add(buf, &c, 1);
}

static inline struct bytes buf_bytes(const struct buf *buf)
{
    return (struct bytes){buf->ptr, buf->len};
}

#endif
