#include "node/cors.h"

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
                             "If-None-Match, Idempotency-Key, Last-Event-ID, X-Request-Id\r\n"
                             "Access-Control-Max-Age: 86400\r\n");
    }
}
