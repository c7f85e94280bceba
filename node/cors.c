#include "node/cors.h"

/* Of the headers of raw requests: so many are allowed at once, so long ones. */
enum { OURS = LIMIT_MAP_ENTRIES + 14, OURS_BYTES = sizeof "belfry-header-" - 1 + LIMIT_MAP_KEY_BYTES };

static bool is_allowed(const char *origins, struct bytes origin)
{
    if (strcmp(origins, "*") == 0) {
        return true;
    }
    while (*origins != 0) {
        size_t len = strcspn(origins, " ");
        if (bytes_eq(bytes_of(origins, len), origin)) {
            return true;
        }
        origins += len + strspn(origins + len, " ");
    }
    return false;
}

static bool is_token(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i], low = c | 0x20;
        bool plain = (c >= '0' && c <= '9') || (low >= 'a' && low <= 'z');
        if (!plain && (c == 0 || strchr("!#$%&'*+-.^_`|~", c) == NULL)) {
            return false;
        }
    }
    return true;
}

static bool is_ours(struct bytes name)
{
    static const char prefix[] = "belfry-";
    size_t len = sizeof prefix - 1;
    return name.len > len && name.len <= OURS_BYTES && bytes_is_nocase(bytes_of(name.ptr, len), prefix) &&
           is_token(name);
}

/* Of the headers asked for, those that raw requests may have: their names are partly the client's own. */
static void add_ours(const struct http_request *http, struct buf *headers)
{
    struct bytes left = http_header(http, "access-control-request-headers");
    for (unsigned found = 0; left.len > 0 && found < OURS;) {
        const uint8_t *comma = memchr(left.ptr, ',', left.len);
        size_t len = comma == NULL ? left.len : (size_t)(comma - left.ptr), skip = len + (comma != NULL);
        struct bytes name = bytes_trim(bytes_of(left.ptr, len));
        if (is_ours(name)) {
            buf_add_lit(headers, ", ");
            buf_add_bytes(headers, name);
            found++;
        }
        left = bytes_of(left.ptr + skip, left.len - skip);
    }
}

void cors_add(const char *origins, const struct http_request *http, struct buf *headers)
{
    struct bytes origin = origins[0] == 0 ? BYTES_NONE : http_header(http, "origin");
    if (origin.len == 0 || !is_allowed(origins, origin)) {
        return;
    }
    buf_add_lit(headers, "Access-Control-Allow-Origin: ");
    buf_add_bytes(headers, origin);
    buf_add_lit(headers, "\r\nVary: Origin\r\nAccess-Control-Expose-Headers: ETag, Location, Link, "
                         "X-Request-Id, X-Belfry-Node, Idempotency-Replayed, Retry-After\r\n");
    if (http->method == METHOD_OPTIONS && http_header(http, "access-control-request-method").len > 0) {
        buf_add_lit(headers, "Access-Control-Allow-Methods: GET, HEAD, POST, PUT, PATCH, DELETE\r\n"
                             "Access-Control-Allow-Headers: Authorization, Content-Type, If-Match, "
                             "If-None-Match, Idempotency-Key, Last-Event-ID, X-Request-Id");
        add_ours(http, headers);
        buf_add_lit(headers, "\r\nAccess-Control-Max-Age: 86400\r\n");
    }
}
