#include "node/headers.h"

void headers_add_allow(struct buf *out, unsigned allowed)
{
    static const enum method methods[] = {METHOD_GET,   METHOD_HEAD,   METHOD_POST,   METHOD_PUT,
                                          METHOD_PATCH, METHOD_DELETE, METHOD_OPTIONS};
    allowed |= 1U << METHOD_OPTIONS;
    allowed |= (allowed & 1U << METHOD_GET) != 0 ? 1U << METHOD_HEAD : 0;
    bool first = true;
    buf_add_lit(out, "Allow: ");
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if ((allowed & 1U << methods[i]) != 0) {
            buf_printf(out, "%s%s", first ? "" : ", ", http_method_name(methods[i]));
            first = false;
        }
    }
    buf_add_lit(out, "\r\n");
}

void headers_add_link(struct buf *out, const struct http_request *http, struct bytes cursor)
{
    struct bytes query = http->query;
    buf_add_lit(out, "Link: <");
    buf_add_bytes(out, http->path);
    buf_add_char(out, '?');
    while (query.len > 0) {
        const uint8_t *amp = memchr(query.ptr, '&', query.len);
        size_t len = amp == NULL ? query.len : (size_t)(amp - query.ptr);
        if (len > 0 && !bytes_start_with(query, BYTES_LIT("cursor="))) {
            buf_add(out, query.ptr, len);
            buf_add_char(out, '&');
        }
        query = bytes_of(query.ptr + len + (amp != NULL), query.len - len - (amp != NULL));
    }
    buf_add_lit(out, "cursor=");
    buf_add_bytes(out, cursor);
    buf_add_lit(out, ">; rel=\"next\"\r\n");
}

void headers_add_location(struct buf *out, const struct http_request *http, struct id id)
{
    char text[ID_TEXT_BYTES];
    id_format(id, text);
    buf_add_lit(out, "Location: ");
    buf_add_bytes(out, http->path);
    buf_add_char(out, '/');
    buf_add(out, text, sizeof text);
    buf_add_lit(out, "\r\n");
}

static bool etag_matches(const struct http_request *http, struct bytes tag)
{
    struct bytes sent = http_header(http, "if-none-match");
    return sent.len > 0 && (bytes_is(sent, "*") || memmem(sent.ptr, sent.len, tag.ptr, tag.len) != NULL);
}

bool headers_add_etag(struct buf *out, const struct http_request *http, uint64_t version)
{
    static const char hex[] = "0123456789abcdef";
    char text[18];
    size_t at = sizeof text;
    text[--at] = '"';
    do {
        text[--at] = hex[version & 15];
        version >>= 4;
    } while (version > 0);
    text[--at] = '"';
    struct bytes tag = bytes_of(text + at, sizeof text - at);
    buf_add_lit(out, "ETag: ");
    buf_add_bytes(out, tag);
    buf_add_lit(out, "\r\n");
    return (http->method == METHOD_GET || http->method == METHOD_HEAD) && etag_matches(http, tag);
}
