#include "node/foreign.h"

#include "node/decode.h"

/* ---- routes ---- */

static struct bytes without_slash(const struct facade *facade, struct bytes path)
{
    bool cut = facade->slash_free && path.len > 1 && path.ptr[path.len - 1] == '/';
    return bytes_of(path.ptr, path.len - cut);
}

void foreign_match(const struct router *router, const struct facade *facade, const struct http_request *http,
                   struct route_match *out)
{
    router_match(router, facade, http->method, without_slash(facade, http->path), out);
}

bool foreign_redirects(const struct router *router, const struct facade *facade, const struct http_request *http,
                       struct buf *headers)
{
    struct route_match match = {0};
    struct buf path = {0};
    bool reads = http->method == METHOD_GET || http->method == METHOD_HEAD;
    /* "//host" would lead to another host. */
    bool plain = http->path.len > 1 && http->path.ptr[0] == '/' && http->path.ptr[1] != '/';
    if (facade->slash_free || !reads || !plain || http->path.ptr[http->path.len - 1] == '/') {
        return false;
    }
    buf_add_bytes(&path, http->path);
    buf_add_char(&path, '/');
    router_match(router, facade, http->method, buf_bytes(&path), &match);
    if (match.allowed != 0) {
        buf_add_lit(headers, "Location: ");
        buf_add_bytes(headers, buf_bytes(&path));
        if (http->query.len > 0) {
            buf_add_char(headers, '?');
            buf_add_bytes(headers, http->query);
        }
        buf_add_lit(headers, "\r\n");
    }
    buf_free(&path);
    return match.allowed != 0;
}

/* ---- tokens ---- */

static struct bytes bearer(struct bytes header)
{
    bool named = header.len > 7 && bytes_is_nocase(bytes_of(header.ptr, 7), "bearer ");
    return named ? bytes_trim(bytes_of(header.ptr + 7, header.len - 7)) : BYTES_NONE;
}

/* Pairs separated by semicolons (RFC 6265 section 4.2); quotes around a value are not part of it. */
static struct bytes cookie(struct bytes header, const char *name)
{
    while (header.len > 0) {
        const uint8_t *semicolon = memchr(header.ptr, ';', header.len);
        size_t len = semicolon == NULL ? header.len : (size_t)(semicolon - header.ptr);
        struct bytes pair = bytes_trim(bytes_of(header.ptr, len));
        const uint8_t *equals = pair.len == 0 ? NULL : memchr(pair.ptr, '=', pair.len);
        if (equals != NULL && bytes_is(bytes_of(pair.ptr, (size_t)(equals - pair.ptr)), name)) {
            struct bytes value = bytes_of(equals + 1, pair.len - (size_t)(equals + 1 - pair.ptr));
            bool quoted = value.len >= 2 && value.ptr[0] == '"' && value.ptr[value.len - 1] == '"';
            return quoted ? bytes_of(value.ptr + 1, value.len - 2) : value;
        }
        size_t skip = len + (semicolon != NULL);
        header = bytes_of(header.ptr + skip, header.len - skip);
    }
    return BYTES_NONE;
}

struct bytes foreign_token(const struct facade *facade, const struct http_request *http)
{
    return facade != NULL && facade->cookie != NULL ? cookie(http_header(http, "cookie"), facade->cookie)
                                                    : bearer(http_header(http, "authorization"));
}

/* ---- bodies ---- */

static enum err decode_body(const struct facade *facade, const struct http_request *http, struct arena *arena,
                            struct form *out, const char **out_why)
{
    struct bytes type = http_header(http, "content-type");
    if (http->body.len > facade->body_max) {
        return ERR_TOO_LARGE;
    }
    if (http->body.len == 0) {
        return OK;
    }
    if (decode_is_media_type(type, "application/json")) {
        return form_decode_json(http->body, arena, out, out_why);
    }
    if (decode_is_media_type(type, "application/x-www-form-urlencoded")) {
        form_decode_urlencoded(http->body, arena, out);
        return OK;
    }
    return facade->typed ? ERR_UNSUPPORTED_MEDIA_TYPE : OK;
}

enum err foreign_decode(const struct facade *facade, const struct route_match *match, const struct http_request *http,
                        struct arena *arena, void **out_in, const char **out_why)
{
    struct facade_in *in = arena_zalloc(arena, sizeof *in);
    _Static_assert((int)FACADE_PARAMS >= (int)ROUTE_PARAMS, "every parameter has its place");
    in->route = facade_route_of(match->route->op);
    for (unsigned i = 0; i < ROUTE_PARAMS && match->params[i].ptr != NULL; i++) {
        in->params[i] = form_percent_decode(match->params[i], false, arena);
    }
    *out_in = in;
    return decode_body(facade, http, arena, &in->form, out_why);
}
