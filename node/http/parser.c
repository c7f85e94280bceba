/* llhttp does the grammar; this file frames the head, bounds everything, and refuses what two
 * parsers could read differently (RFC 9112 sections 2.2, 5.1, 6.3, 11.2). */
#include <llhttp.h>
#include <stdlib.h>

#include "node/http/http.h"

enum stage { STAGE_HEAD, STAGE_LENGTH, STAGE_CHUNKED };
enum { REQUEST_LINE_REST = 64 }; /* bytes of a request line beside its target */

struct http_parser {
    llhttp_t llhttp;
    enum stage stage;
    enum err err;
    size_t scanned;    /* head bytes already looked at */
    size_t line;       /* where the line being scanned starts */
    size_t head;       /* bytes of the head, leading empty lines included */
    size_t consumed;   /* of a chunked message, bytes given to llhttp */
    uint64_t length;   /* of an identity body */
    size_t limit;      /* of the body */
    bool request_line; /* it has been scanned */
    bool asked_limit, told_continue, complete, header_done;
    struct buf body; /* a chunked body, decoded */
    struct http_request *request;
};

static bool is_named(const struct http_request *request, const struct http_header *header, const char *name)
{
    return bytes_is_nocase(bytes_of(request->head + header->name, header->name_len), name);
}

struct bytes http_header(const struct http_request *request, const char *name)
{
    for (size_t i = 0; i < request->headers_len; i++) {
        const struct http_header *header = &request->headers[i];
        if (is_named(request, header, name)) {
            return bytes_trim(bytes_of(request->head + header->value, header->value_len));
        }
    }
    return BYTES_NONE;
}

static const char *const method_names[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "OTHER"};

const char *http_method_name(enum method method)
{
    CHECK((unsigned)method < ARRAY_LEN(method_names));
    return method_names[method];
}

/* ---- llhttp callbacks: a span may come in parts only for a body, since a head is fed whole ---- */

static struct http_parser *self(llhttp_t *llhttp)
{
    return container_of(llhttp, struct http_parser, llhttp);
}

static int refuse(struct http_parser *parser, enum err err)
{
    parser->err = err;
    return -1;
}

static int on_url(llhttp_t *llhttp, const char *at, size_t len)
{
    struct http_parser *parser = self(llhttp);
    if (len > LIMIT_TARGET_BYTES) {
        return refuse(parser, ERR_URI_TOO_LONG);
    }
    for (size_t i = 0; i < len; i++) {
        if ((uint8_t)at[i] <= ' ' || (uint8_t)at[i] >= 0x7f) {
            return refuse(parser, ERR_BAD_REQUEST); /* RFC 3986: a target is ASCII */
        }
    }
    parser->request->target = bytes_of(at, len);
    return 0;
}

_Static_assert(LIMIT_HEAD_BYTES <= UINT16_MAX, "places in a head have 16 bits");

static uint16_t place(const struct http_request *request, const char *at)
{
    return (uint16_t)((const uint8_t *)at - request->head);
}

static int on_header_field(llhttp_t *llhttp, const char *at, size_t len)
{
    struct http_parser *parser = self(llhttp);
    struct http_request *request = parser->request;
    if (parser->header_done || parser->stage != STAGE_HEAD) {
        return 0; /* trailers are read over */
    }
    if (request->headers_len == LIMIT_HEADERS) {
        return refuse(parser, ERR_HEADERS_TOO_LARGE);
    }
    request->headers[request->headers_len++] = (struct http_header){place(request, at), (uint16_t)len, 0, 0};
    return 0;
}

static int on_header_value(llhttp_t *llhttp, const char *at, size_t len)
{
    struct http_parser *parser = self(llhttp);
    struct http_request *request = parser->request;
    if (!parser->header_done && parser->stage == STAGE_HEAD && request->headers_len > 0) {
        struct http_header *header = &request->headers[request->headers_len - 1];
        header->value = place(request, at);
        header->value_len = (uint16_t)len;
    }
    return 0;
}

static enum method method_of(const llhttp_t *llhttp)
{
    switch (llhttp->method) {
    case HTTP_GET: return METHOD_GET;
    case HTTP_HEAD: return METHOD_HEAD;
    case HTTP_POST: return METHOD_POST;
    case HTTP_PUT: return METHOD_PUT;
    case HTTP_PATCH: return METHOD_PATCH;
    case HTTP_DELETE: return METHOD_DELETE;
    case HTTP_OPTIONS: return METHOD_OPTIONS;
    default: return METHOD_OTHER;
    }
}

/* Host: exactly one in HTTP/1.1, at most one in 1.0 (RFC 9112 section 3.2). */
static bool hosts_are_good(const struct http_request *request)
{
    size_t hosts = 0;
    for (size_t i = 0; i < request->headers_len; i++) {
        hosts += is_named(request, &request->headers[i], "host");
    }
    return hosts == 1 || (hosts == 0 && request->http10);
}

static enum err check_codings(const struct http_parser *parser, const struct http_request *request)
{
    struct bytes coding = http_header(request, "transfer-encoding");
    if (coding.ptr != NULL) {
        if (request->http10 || http_header(request, "content-length").ptr != NULL) {
            return ERR_BAD_REQUEST; /* RFC 9112 section 6.1: a likely attempt to smuggle */
        }
        if (!bytes_is_nocase(coding, "chunked")) {
            return ERR_NOT_IMPLEMENTED;
        }
    }
    return (parser->llhttp.flags & F_CONTENT_LENGTH) != 0 && parser->llhttp.content_length > LIMIT_BODY_BYTES_MAX
               ? ERR_TOO_LARGE
               : OK;
}

static int on_headers_complete(llhttp_t *llhttp)
{
    struct http_parser *parser = self(llhttp);
    struct http_request *request = parser->request;
    parser->header_done = true;
    request->method = method_of(llhttp);
    request->http10 = llhttp->http_minor == 0;
    request->keep_alive = llhttp_should_keep_alive(llhttp) != 0;
    if (llhttp->http_major != 1 || llhttp->http_minor > 1) {
        return refuse(parser, ERR_HTTP_VERSION);
    }
    if (llhttp->method == HTTP_CONNECT) {
        return refuse(parser, ERR_NOT_IMPLEMENTED); /* llhttp would leave its body to the next request */
    }
    if (request->target.len == 0 || !hosts_are_good(request)) {
        return refuse(parser, ERR_BAD_REQUEST);
    }
    enum err err = check_codings(parser, request);
    if (err != OK) {
        return refuse(parser, err);
    }
    struct bytes expect = http_header(request, "expect");
    if (expect.ptr != NULL && !bytes_is_nocase(expect, "100-continue")) {
        return refuse(parser, ERR_EXPECTATION_FAILED);
    }
    request->expects_continue = expect.ptr != NULL && !request->http10;
    request->has_body = (llhttp->flags & (F_CONTENT_LENGTH | F_CHUNKED)) != 0;
    parser->length = (llhttp->flags & F_CONTENT_LENGTH) != 0 ? llhttp->content_length : 0;
    return HPE_OK;
}

static int on_body(llhttp_t *llhttp, const char *at, size_t len)
{
    struct http_parser *parser = self(llhttp);
    if (parser->body.len + len > parser->limit) {
        return refuse(parser, ERR_TOO_LARGE);
    }
    buf_add(&parser->body, at, len);
    return 0;
}

static int on_message_complete(llhttp_t *llhttp)
{
    self(llhttp)->complete = true;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {.on_url = on_url,
                                           .on_header_field = on_header_field,
                                           .on_header_value = on_header_value,
                                           .on_headers_complete = on_headers_complete,
                                           .on_body = on_body,
                                           .on_message_complete = on_message_complete};

struct http_parser *http_parser_new(void)
{
    struct http_parser *parser = mem_zalloc(sizeof *parser);
    http_parser_reset(parser);
    return parser;
}

void http_parser_free(struct http_parser *parser)
{
    buf_free(&parser->body);
    free(parser);
}

void http_parser_reset(struct http_parser *parser)
{
    buf_free(&parser->body);
    *parser = (struct http_parser){.limit = LIMIT_BODY_BYTES};
    llhttp_init(&parser->llhttp, HTTP_REQUEST, &settings);
}

void http_parser_limit(struct http_parser *parser, size_t most)
{
    CHECK(most >= LIMIT_BODY_BYTES_MIN && most <= LIMIT_BODY_BYTES_MAX);
    parser->limit = most;
}

size_t http_parser_held(const struct http_parser *parser)
{
    return parser->body.cap;
}

enum err http_parser_err(const struct http_parser *parser)
{
    return parser->err;
}

bool http_parser_in_body(const struct http_parser *parser)
{
    return parser->stage != STAGE_HEAD;
}

static enum http_parse bad(struct http_parser *parser, enum err err)
{
    parser->err = err;
    return HTTP_BAD;
}

/* A line of the head ends at data[end], its LF. What two readers could see differently is refused:
 * a bare LF, a bare CR, a line that starts with white space (obsolete folding) or a colon. */
static bool line_is_good(struct bytes data, size_t start, size_t end)
{
    size_t len = end - start;
    if (len == 0 || data.ptr[end - 1] != '\r') {
        return false;
    }
    if (len > 1 && (data.ptr[start] == ' ' || data.ptr[start] == '\t' || data.ptr[start] == ':')) {
        return false;
    }
    return memchr(data.ptr + start, '\r', len - 1) == NULL;
}

/* The line being scanned reaches up to end at least. Asked before anything else about the line, so
 * that the answer is the same however the head comes in pieces. */
static enum err check_length(const struct http_parser *parser, size_t end)
{
    if (!parser->request_line && end - parser->line > LIMIT_TARGET_BYTES + REQUEST_LINE_REST) {
        return ERR_URI_TOO_LONG;
    }
    return end > LIMIT_HEAD_BYTES ? ERR_HEADERS_TOO_LARGE : OK;
}

/* Finds the end of the head: 0 when it is not there yet. */
static enum err find_head(struct http_parser *parser, struct bytes data, size_t *out)
{
    *out = 0;
    for (;;) {
        const uint8_t *lf =
            data.len > parser->scanned ? memchr(data.ptr + parser->scanned, '\n', data.len - parser->scanned) : NULL;
        if (lf == NULL) {
            parser->scanned = data.len;
            return check_length(parser, data.len);
        }
        size_t end = (size_t)(lf - data.ptr);
        TRY(check_length(parser, end + 1));
        if (!line_is_good(data, parser->line, end)) {
            return ERR_BAD_REQUEST;
        }
        bool empty = end - parser->line == 1;
        parser->scanned = end + 1;
        parser->line = end + 1;
        parser->request_line = parser->request_line || !empty;
        if (empty && end > 3) { /* one or two empty lines may stand before the request line */
            *out = end + 1;
            return OK;
        }
    }
}

static enum err err_of_llhttp(const struct http_parser *parser, struct bytes data, llhttp_errno_t code)
{
    if (parser->err != OK) {
        return parser->err;
    }
    switch (code) {
    case HPE_INVALID_METHOD: return data.ptr[0] >= 'A' && data.ptr[0] <= 'Z' ? ERR_NOT_IMPLEMENTED : ERR_BAD_REQUEST;
    case HPE_INVALID_VERSION: return ERR_HTTP_VERSION;
    default: return ERR_BAD_REQUEST;
    }
}

/* The absolute form (RFC 9112 section 3.2.2): what stands before the path names us already. */
static struct bytes without_authority(struct bytes target)
{
    size_t scheme = bytes_start_with(target, BYTES_LIT("http://"))    ? 7
                    : bytes_start_with(target, BYTES_LIT("https://")) ? 8
                                                                      : 0;
    const uint8_t *path = scheme == 0 ? target.ptr : memchr(target.ptr + scheme, '/', target.len - scheme);
    return path == NULL ? BYTES_LIT("/") : bytes_of(path, target.len - (size_t)(path - target.ptr));
}

static void split_target(struct http_request *request)
{
    struct bytes target = request->target;
    const uint8_t *mark = memchr(target.ptr, '?', target.len);
    size_t path = mark == NULL ? target.len : (size_t)(mark - target.ptr);
    request->path = without_authority(bytes_of(target.ptr, path));
    request->query = mark == NULL ? BYTES_NONE : bytes_of(mark + 1, target.len - path - 1);
}

static enum http_parse parse_head(struct http_parser *parser, struct bytes data)
{
    size_t head;
    enum err err = find_head(parser, data, &head);
    if (err != OK) {
        return bad(parser, err);
    }
    if (head == 0) {
        return HTTP_MORE;
    }
    parser->request->headers_len = 0;
    parser->request->head = data.ptr;
    llhttp_errno_t code = llhttp_execute(&parser->llhttp, (const char *)data.ptr, head);
    if (!parser->header_done || (code != HPE_OK && code != HPE_PAUSED)) {
        return bad(parser, err_of_llhttp(parser, data, code));
    }
    split_target(parser->request);
    parser->head = head;
    parser->consumed = head;
    parser->stage = (parser->llhttp.flags & F_CHUNKED) != 0 ? STAGE_CHUNKED : STAGE_LENGTH;
    return HTTP_MORE;
}

static enum http_parse finish_length(struct http_parser *parser, struct bytes data, size_t *out_used)
{
    if (data.len - parser->head < parser->length) {
        return HTTP_MORE;
    }
    parser->request->body = bytes_of(data.ptr + parser->head, (size_t)parser->length);
    *out_used = parser->head + (size_t)parser->length;
    return HTTP_DONE;
}

/* Chunk sizes, extensions and trailers are overhead that a client could send for ever. It counts for what came whole
 * too, so that the answer is the same however the message comes. */
static bool is_mostly_overhead(const struct http_parser *parser, size_t len)
{
    return len - parser->head > parser->limit + LIMIT_BODY_BYTES;
}

static enum http_parse finish_chunked(struct http_parser *parser, struct bytes data, size_t *out_used)
{
    const char *from = (const char *)data.ptr + parser->consumed;
    llhttp_errno_t code = llhttp_execute(&parser->llhttp, from, data.len - parser->consumed);
    if (parser->complete) {
        const char *end = llhttp_get_error_pos(&parser->llhttp);
        if (end[-2] != '\r') { /* the empty line behind the trailers: llhttp takes a bare LF for it */
            return bad(parser, ERR_BAD_REQUEST);
        }
        parser->request->body = buf_bytes(&parser->body);
        *out_used = (size_t)(end - (const char *)data.ptr);
        return is_mostly_overhead(parser, *out_used) ? bad(parser, ERR_TOO_LARGE) : HTTP_DONE;
    }
    if (code != HPE_OK) {
        return bad(parser, err_of_llhttp(parser, data, code));
    }
    parser->consumed = data.len;
    return is_mostly_overhead(parser, data.len) ? bad(parser, ERR_TOO_LARGE) : HTTP_MORE;
}

/* Short bodies fit in any limit. Only the head decides, so that the answer is the same however the message comes. */
static bool wants_limit(const struct http_parser *parser)
{
    return parser->stage == STAGE_CHUNKED || parser->length > LIMIT_BODY_BYTES_MIN;
}

/* The buffer has grown and moved since the head was parsed. */
static void rebase(struct http_request *request, const uint8_t *to)
{
    request->target.ptr = to + (request->target.ptr - request->head);
    request->head = to;
    split_target(request);
}

enum http_parse http_parser_feed(struct http_parser *parser, struct bytes data, struct http_request *request,
                                 size_t *out_used)
{
    parser->request = request;
    if (parser->err != OK) {
        return HTTP_BAD;
    }
    if (parser->stage != STAGE_HEAD && request->head != data.ptr) {
        rebase(request, data.ptr);
    }
    if (parser->stage == STAGE_HEAD) {
        enum http_parse parsed = parse_head(parser, data);
        if (parsed == HTTP_BAD || parser->stage == STAGE_HEAD) {
            return parsed;
        }
    }
    if (!parser->asked_limit && wants_limit(parser)) {
        parser->asked_limit = true;
        return HTTP_LIMIT;
    }
    if (parser->length > parser->limit) {
        return bad(parser, ERR_TOO_LARGE);
    }
    enum http_parse parsed =
        parser->stage == STAGE_LENGTH ? finish_length(parser, data, out_used) : finish_chunked(parser, data, out_used);
    if (parsed == HTTP_MORE && request->expects_continue && !parser->told_continue) {
        parser->told_continue = true;
        return HTTP_CONTINUE;
    }
    return parsed;
}

const char *http_status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {{200, "OK"},
                 {201, "Created"},
                 {204, "No Content"},
                 {301, "Moved Permanently"},
                 {304, "Not Modified"},
                 {400, "Bad Request"},
                 {401, "Unauthorized"},
                 {403, "Forbidden"},
                 {404, "Not Found"},
                 {405, "Method Not Allowed"},
                 {408, "Request Timeout"},
                 {409, "Conflict"},
                 {412, "Precondition Failed"},
                 {413, "Content Too Large"},
                 {414, "URI Too Long"},
                 {415, "Unsupported Media Type"},
                 {417, "Expectation Failed"},
                 {422, "Unprocessable Content"},
                 {429, "Too Many Requests"},
                 {431, "Request Header Fields Too Large"},
                 {500, "Internal Server Error"},
                 {501, "Not Implemented"},
                 {503, "Service Unavailable"},
                 {504, "Gateway Timeout"},
                 {505, "HTTP Version Not Supported"},
                 {507, "Insufficient Storage"}};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (texts[i].status == status) {
            return texts[i].text;
        }
    }
    return "Unknown";
}
