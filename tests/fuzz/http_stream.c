#include "tests/fuzz/http_stream.h"

#include <stdlib.h>

#include "node/http/http.h"
#include "tests/fuzz/fuzz.h"

enum { PIECES = 12, SINGLE_BYTES_UP_TO = 600 };

struct reading {
    struct http_parser *parser;
    struct http_request request;
    struct buf seen; /* all that was read, for comparison */
    size_t start;    /* of the message in the stream */
    bool told;       /* 100 (Continue), once a message */
    bool bad;
    size_t limit; /* of the body at hand */
};

static bool inside(struct bytes part, struct bytes whole)
{
    return part.len == 0 || (part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len);
}

static void keep(struct reading *reading, struct bytes part)
{
    buf_printf(&reading->seen, "%zu:", part.len);
    buf_add_bytes(&reading->seen, part);
}

/* The length of a line with its CRLF; a CR or LF alone is in no line. */
static size_t line_bytes(struct bytes text)
{
    for (size_t i = 0; i + 1 < text.len; i++) {
        if (text.ptr[i] == '\r' || text.ptr[i] == '\n') {
            CHECK(text.ptr[i] == '\r' && text.ptr[i + 1] == '\n');
            return i + 2;
        }
    }
    CHECK(false); /* no line ends here */
    return 0;
}

static struct bytes from(struct bytes text, size_t at)
{
    CHECK(at <= text.len);
    return bytes_of(text.ptr + at, text.len - at);
}

/* The bytes of a chunked body that was accepted, read by the letter of RFC 9112 section 7.1. */
static size_t check_chunks(struct bytes left, struct bytes body)
{
    const uint8_t *start = left.ptr;
    size_t size = 0, line = 0;
    do {
        char *end, text[24] = "";
        line = line_bytes(left);
        memcpy(text, left.ptr, line < sizeof text ? line : sizeof text - 1);
        size = strtoul(text, &end, 16);
        CHECK(end > text && strchr("; \t\r", *end) != NULL);
        left = from(left, line);
        if (size > 0) {
            CHECK(left.len >= size + 2 && body.len >= size && bytes_start_with(body, bytes_of(left.ptr, size)));
            CHECK(left.ptr[size] == '\r' && left.ptr[size + 1] == '\n');
            left = from(left, size + 2);
            body = from(body, size);
        }
    } while (size > 0);
    CHECK(body.len == 0);
    do { /* trailers, and the empty line behind them */
        line = line_bytes(left);
        left = from(left, line);
    } while (line > 2);
    return (size_t)(left.ptr - start);
}

/* Where the request ends by RFC 9112 section 6.3, found without the parser. */
static void check_end(const struct http_request *request, struct bytes data, size_t used)
{
    size_t line = 0;
    while (bytes_start_with(bytes_of(data.ptr + line, data.len - line), BYTES_LIT("\r\n"))) {
        line += 2; /* empty lines ahead of the request */
    }
    const uint8_t *end = memmem(data.ptr + line, data.len - line, "\r\n\r\n", 4);
    CHECK(end != NULL);
    size_t head = (size_t)(end - data.ptr) + 4;
    CHECK(head <= LIMIT_HEAD_BYTES);
    if (http_header(request, "transfer-encoding").ptr != NULL) {
        CHECK(used == head + check_chunks(from(data, head), request->body));
    } else {
        CHECK(used == head + request->body.len);
        CHECK(request->has_body == (http_header(request, "content-length").ptr != NULL));
    }
}

static void take_request(struct reading *reading, struct bytes data, size_t used)
{
    const struct http_request *request = &reading->request;
    CHECK(used > 0 && used <= data.len);
    CHECK((unsigned)request->method <= METHOD_OTHER && http_method_name(request->method) != NULL);
    CHECK(request->headers_len <= LIMIT_HEADERS && request->body.len <= reading->limit);
    CHECK(request->target.len > 0 && request->target.len <= LIMIT_TARGET_BYTES);
    CHECK(inside(request->target, data) && inside(request->query, request->target) && request->path.len > 0);
    CHECK(inside(request->path, request->target) || bytes_is(request->path, "/"));
    CHECK((request->query.ptr != NULL) == (memchr(request->target.ptr, '?', request->target.len) != NULL));
    CHECK(request->has_body || request->body.len == 0);
    buf_printf(&reading->seen, "%zu %d %d%d%d%d", used, (int)request->method, request->http10, request->keep_alive,
               request->expects_continue, request->has_body);
    keep(reading, request->target);
    keep(reading, request->path);
    keep(reading, request->query);
    for (size_t i = 0; i < request->headers_len; i++) {
        const struct http_header *header = &request->headers[i];
        struct bytes name = bytes_of(request->head + header->name, header->name_len);
        struct bytes value = bytes_of(request->head + header->value, header->value_len);
        CHECK(name.len > 0 && inside(name, data) && inside(value, data));
        keep(reading, name);
        keep(reading, value);
    }
    check_end(request, data, used);
    keep(reading, request->body);
}

/* What may be held for a message that is not whole is bounded. */
static void check_waiting(const struct reading *reading, size_t held)
{
    size_t most =
        http_parser_in_body(reading->parser) ? LIMIT_HEAD_BYTES + reading->limit + LIMIT_BODY_BYTES : LIMIT_HEAD_BYTES;
    CHECK(held <= most);
}

static void take_refusal(struct reading *reading, struct bytes data)
{
    size_t used = 0;
    int status = err_status(http_parser_err(reading->parser));
    CHECK(status >= 400 && status != 500);
    CHECK(http_parser_feed(reading->parser, data, &reading->request, &used) == HTTP_BAD);
    reading->bad = true;
    buf_printf(&reading->seen, "refused");
}

/* As a server with operations of three limits would answer; the length of the path says which. */
static void give_limit(struct reading *reading)
{
    static const size_t limits[] = {LIMIT_BODY_BYTES_MAX, LIMIT_BODY_BYTES, LIMIT_BODY_BYTES_MIN};
    const struct http_request *request = &reading->request;
    CHECK(request->has_body && request->path.len > 0);
    reading->limit = limits[request->path.len % ARRAY_LEN(limits)];
    if (reading->limit != LIMIT_BODY_BYTES) {
        http_parser_limit(reading->parser, reading->limit);
    }
}

/* The stream has come up to end: reads the requests that are whole. */
static void read_up_to(struct reading *reading, struct bytes stream, size_t end)
{
    while (!reading->bad && reading->start < end) {
        struct bytes data = bytes_of(mem_copy(stream.ptr + reading->start, end - reading->start), end - reading->start);
        size_t used = 0;
        enum http_parse parsed = http_parser_feed(reading->parser, data, &reading->request, &used);
        if (parsed == HTTP_LIMIT) {
            CHECK(!reading->told && http_parser_in_body(reading->parser));
            give_limit(reading);
            parsed = http_parser_feed(reading->parser, data, &reading->request, &used);
            CHECK(parsed != HTTP_LIMIT);
        }
        if (parsed == HTTP_CONTINUE) {
            CHECK(!reading->told && reading->request.expects_continue);
            reading->told = true;
            parsed = http_parser_feed(reading->parser, data, &reading->request, &used);
            CHECK(parsed == HTTP_MORE);
        }
        if (parsed == HTTP_DONE) {
            take_request(reading, data, used);
            http_parser_reset(reading->parser);
            reading->limit = LIMIT_BODY_BYTES;
            reading->start += used;
            reading->told = false;
        } else if (parsed == HTTP_BAD) {
            take_refusal(reading, data);
        } else {
            check_waiting(reading, data.len);
        }
        free((void *)(uintptr_t)data.ptr);
        if (parsed == HTTP_MORE) {
            return;
        }
    }
}

static struct reading *reading_new(void)
{
    struct reading *reading = mem_zalloc(sizeof *reading);
    reading->parser = http_parser_new();
    reading->limit = LIMIT_BODY_BYTES;
    return reading;
}

static void reading_free(struct reading *reading)
{
    http_parser_free(reading->parser);
    buf_free(&reading->seen);
    free(reading);
}

static void read_in_pieces(struct reading *reading, struct bytes stream, uint64_t seed)
{
    size_t end = 0;
    bool single = seed % 4 == 0 && stream.len <= SINGLE_BYTES_UP_TO;
    for (size_t piece = 1; end < stream.len; piece++) {
        size_t left = stream.len - end;
        end += single ? 1 : piece == PIECES ? left : 1 + (size_t)(fuzz_next(&seed) % left);
        read_up_to(reading, stream, end);
    }
}

void http_stream_check(struct bytes stream, uint64_t seed)
{
    struct reading *whole = reading_new(), *pieces = reading_new();
    read_up_to(whole, stream, stream.len);
    read_in_pieces(pieces, stream, seed);
    CHECK(whole->start == pieces->start && whole->bad == pieces->bad);
    CHECK(bytes_eq(buf_bytes(&whole->seen), buf_bytes(&pieces->seen)));
    reading_free(whole);
    reading_free(pieces);
}
