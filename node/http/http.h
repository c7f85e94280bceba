/* HTTP/1.1 and 1.0 (RFC 9110, 9112) as data: one request that has been parsed. Everything in it
 * points into the connection's buffer and is good until the request is answered. */
#ifndef BELFRY_HTTP_HTTP_H
#define BELFRY_HTTP_HTTP_H

#include "actors/kind.h"
#include "node/limits.h"

/* Places in the head: a quarter of what pointers take, of which a connection would have a hundred. */
struct http_header {
    uint16_t name, name_len, value, value_len;
};

struct http_request {
    enum method method;
    struct bytes target, path, query; /* as sent, not decoded */
    struct bytes body;
    const uint8_t *head; /* where the message stands */
    struct http_header headers[LIMIT_HEADERS];
    size_t headers_len;
    bool http10, keep_alive, expects_continue, has_body;
};

/* The first header of this name, without regard to case; NULL-pointer bytes when absent. */
struct bytes http_header(const struct http_request *request, const char *name);
const char *http_method_name(enum method method);
const char *http_status_text(int status);

/* ---- parser: bytes in, requests out; no I/O ---- */

enum http_parse {
    HTTP_MORE,     /* feed again with more bytes behind the same ones */
    HTTP_LIMIT,    /* the head is whole, a body comes whose limit is wanted: http_parser_limit, then feed again */
    HTTP_CONTINUE, /* the body is wanted, and the head asks for 100 (Continue); feed again */
    HTTP_DONE,     /* a request; *out_used bytes belong to it */
    HTTP_BAD       /* answer parser->err and close */
};

struct http_parser; /* opaque; one a connection */

struct http_parser *http_parser_new(void);
void http_parser_free(struct http_parser *parser);
/* Looks at data, which starts where the message starts and grows from call to call. The request's
 * parts point into data (a chunked body into the parser). */
enum http_parse http_parser_feed(struct http_parser *parser, struct bytes data, struct http_request *request,
                                 size_t *out_used);
/* The longest body of this message, between LIMIT_BODY_BYTES_MIN and LIMIT_BODY_BYTES_MAX; LIMIT_BODY_BYTES if not
 * called.
 */
void http_parser_limit(struct http_parser *parser, size_t most);
/* Forgets the message: the next feed starts another one. Frees what the body took. */
void http_parser_reset(struct http_parser *parser);
enum err http_parser_err(const struct http_parser *parser);
/* Bytes of memory that its buffers take. */
size_t http_parser_held(const struct http_parser *parser);
/* The head is whole, the body is not. */
bool http_parser_in_body(const struct http_parser *parser);

#endif
