/* The parser on a table of messages, whole, a byte at a time, and in a buffer that moves; the refused
 * ones are in tests/e2e/http_test.py too, through the socket. */
#include "node/http/http.h"
#include "tests/support/test.h"

struct message {
    const char *text;
    enum err err;     /* OK: parsed */
    const char *body; /* of a parsed one */
};

#define HOST "Host: a\r\n"
#define CHUNKED "POST /p?q=1 HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"

static const struct message messages[] = {
    {"GET / HTTP/1.1\r\n" HOST "\r\n", OK, ""},
    {"\r\nGET / HTTP/1.1\r\n" HOST "\r\n", OK, ""},
    {"GET / HTTP/1.0\r\n\r\n", OK, ""},
    {"POST /p HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello", OK, "hello"},
    {"POST /p HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", OK, ""},
    {CHUNKED "5\r\nhello\r\n0\r\n\r\n", OK, "hello"},
    {CHUNKED "2;x=\"y\"\r\nhe\r\nA\r\nllo world!\r\n0\r\nTrailer: t\r\n\r\n", OK, "hello world!"},
    {CHUNKED "0\r\n\r\n", OK, ""},
    {CHUNKED "5\nhello\r\n0\r\n\r\n", ERR_BAD_REQUEST, NULL},
    {CHUNKED "5\r\nhello\n0\r\n\r\n", ERR_BAD_REQUEST, NULL},
    {CHUNKED "5\r\nhello\r\n0\r\nX: y\n\r\n", ERR_BAD_REQUEST, NULL},
    {CHUNKED "0\r\n\n", ERR_BAD_REQUEST, NULL},
    {CHUNKED "0\r\nX: y\r\n\n", ERR_BAD_REQUEST, NULL},
    {CHUNKED "2\r\nhi..0\r\n\r\n", ERR_BAD_REQUEST, NULL},
    {CHUNKED "2;x=y\r.hi\r\n0\r\n\r\n", ERR_BAD_REQUEST, NULL},
    {CHUNKED "5;a\nb\r\nhello\r\n0\r\n\r\n", ERR_BAD_REQUEST, NULL},
    {CHUNKED "ffffffffffffffffff\r\n", ERR_BAD_REQUEST, NULL},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ERR_BAD_REQUEST,
     NULL},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", ERR_BAD_REQUEST,
     NULL},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", ERR_BAD_REQUEST, NULL},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length : 3\r\n\r\nabc", ERR_BAD_REQUEST, NULL},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n", ERR_NOT_IMPLEMENTED, NULL},
    {"GET / HTTP/1.1\r\n\r\n", ERR_BAD_REQUEST, NULL},
    {"GET / HTTP/1.1\r\n" HOST HOST "\r\n", ERR_BAD_REQUEST, NULL},
    {"GET / HTTP/1.1\r\n" HOST "X: a\r\n b\r\n\r\n", ERR_BAD_REQUEST, NULL},
    {"GET / HTTP/1.1\n" HOST "\n", ERR_BAD_REQUEST, NULL},
    {"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", ERR_BAD_REQUEST, NULL},
    {"GET / HTTP/2.0\r\n" HOST "\r\n", ERR_HTTP_VERSION, NULL},
    {"BREW / HTTP/1.1\r\n" HOST "\r\n", ERR_NOT_IMPLEMENTED, NULL},
    {"CONNECT a:1 HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ERR_NOT_IMPLEMENTED, NULL},
    {"CONNECT ?q HTTP/1.1\r\n" HOST "\r\n", ERR_NOT_IMPLEMENTED, NULL},
    {"get / HTTP/1.1\r\n" HOST "\r\n", ERR_BAD_REQUEST, NULL},
    {"GET / HTTP/1.1\r\n" HOST "Expect: tea\r\n\r\n", ERR_EXPECTATION_FAILED, NULL},
};

/* Feeds again when the parser asks for the limit, as a server does. */
static enum http_parse feed(struct http_parser *parser, struct bytes data, struct http_request *request,
                            size_t *out_used, size_t limit)
{
    enum http_parse parsed = http_parser_feed(parser, data, request, out_used);
    if (parsed == HTTP_LIMIT) {
        assert_true(bytes_start_with(request->path, BYTES_LIT("/")) && request->has_body);
        http_parser_limit(parser, limit);
        parsed = http_parser_feed(parser, data, request, out_used);
        assert_int_not_equal(parsed, HTTP_LIMIT);
    }
    return parsed;
}

static void check(const struct message *message, enum http_parse parsed, const struct http_parser *parser,
                  const struct http_request *request, size_t used)
{
    if (message->err != OK) {
        assert_int_equal(parsed, HTTP_BAD);
        assert_int_equal(http_parser_err(parser), message->err);
        return;
    }
    assert_int_equal(parsed, HTTP_DONE);
    assert_int_equal(used, strlen(message->text));
    assert_true(bytes_is(request->body, message->body));
    assert_true(bytes_start_with(request->path, BYTES_LIT("/")));
    if (!request->http10) {
        assert_true(bytes_is(http_header(request, "HOST"), "a"));
    }
}

/* Feeds ever longer prefixes, each from a place of its own. */
static void feed_in_parts(const struct message *message, size_t part)
{
    struct http_parser *parser = http_parser_new();
    struct http_request *request = mem_zalloc(sizeof *request);
    enum http_parse parsed = HTTP_MORE;
    size_t used = 0, len = strlen(message->text);
    uint8_t *place = NULL;
    for (size_t at = 0; at < len && (parsed == HTTP_MORE || parsed == HTTP_CONTINUE);) {
        at = at + part < len ? at + part : len;
        uint8_t *next = mem_copy(message->text, at);
        free(place);
        place = next;
        parsed = feed(parser, bytes_of(place, at), request, &used, LIMIT_BODY_BYTES_MIN);
    }
    check(message, parsed, parser, request, used);
    free(place);
    free(request);
    http_parser_free(parser);
}

static void test_messages_are_read_the_same_however_they_come(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        feed_in_parts(&messages[i], strlen(messages[i].text));
        feed_in_parts(&messages[i], 1);
        feed_in_parts(&messages[i], 7);
    }
}

static void test_random_bytes_never_pass_for_more_than_they_are(void **state)
{
    (void)state;
    struct random random;
    random_init_seed(&random, test_seed(__func__));
    struct http_request *request = mem_zalloc(sizeof *request);
    for (int i = 0; i < 20000; i++) {
        struct http_parser *parser = http_parser_new();
        const char *text = messages[below(&random, ARRAY_LEN(messages))].text;
        size_t len = strlen(text), used = 0;
        uint8_t *copy = mem_copy(text, len);
        for (uint64_t flips = below(&random, 4); flips > 0; flips--) {
            copy[below(&random, len)] = (uint8_t)random_u64(&random);
        }
        enum http_parse parsed = http_parser_feed(parser, bytes_of(copy, len), request, &used);
        if (parsed == HTTP_LIMIT) {
            parsed = http_parser_feed(parser, bytes_of(copy, len), request, &used);
        }
        if (parsed == HTTP_DONE) {
            assert_true(used <= len && request->body.len <= len);
        }
        free(copy);
        http_parser_free(parser);
    }
    free(request);
}

static void test_targets(void **state)
{
    (void)state;
    static const char *const cases[][3] = {{"/a?b=c?d", "/a", "b=c?d"},
                                           {"/a", "/a", NULL},
                                           {"*", "*", NULL},
                                           {"http://h/a?http://x", "/a", "http://x"},
                                           {"https://h", "/", NULL},
                                           {"http://h?b=/c", "/", "b=/c"}};
    struct http_request *request = mem_zalloc(sizeof *request);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct http_parser *parser = http_parser_new();
        struct buf text = {0};
        size_t used;
        buf_printf(&text, "OPTIONS %s HTTP/1.1\r\nHost: h\r\n\r\n", cases[i][0]);
        assert_int_equal(http_parser_feed(parser, buf_bytes(&text), request, &used), HTTP_DONE);
        assert_true(bytes_is(request->path, cases[i][1]) && bytes_is(request->query, cases[i][2]));
        buf_free(&text);
        http_parser_free(parser);
    }
    free(request);
}

static void test_limits(void **state)
{
    (void)state;
    struct http_request *request = mem_zalloc(sizeof *request);
    static const struct {
        size_t spaces, target, headers, value;
        enum err err;
    } cases[] = {{1, 8000, 10, 10, OK}, {1, 9000, 1, 1, ERR_URI_TOO_LONG},     {9000, 1, 1, 1, ERR_URI_TOO_LONG},
                 {1, 1, 99, 1, OK},     {1, 1, 100, 1, ERR_HEADERS_TOO_LARGE}, {1, 1, 1, 17000, ERR_HEADERS_TOO_LARGE}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct http_parser *parser = http_parser_new();
        struct buf text = {0};
        size_t used;
        buf_printf(&text, "GET%*s/%0*d HTTP/1.1\r\nHost: a\r\n", (int)cases[i].spaces, " ", (int)cases[i].target, 0);
        for (size_t h = 0; h < cases[i].headers; h++) {
            buf_printf(&text, "X: %0*d\r\n", (int)cases[i].value, 0);
        }
        buf_add_str(&text, "\r\n");
        for (size_t cut = 0; cut <= text.len; cut += text.len / 7) { /* the same answer, wherever it is cut */
            http_parser_reset(parser);
            enum http_parse parsed = http_parser_feed(parser, bytes_of(text.ptr, cut), request, &used);
            if (parsed != HTTP_BAD) {
                parsed = http_parser_feed(parser, buf_bytes(&text), request, &used);
            }
            assert_int_equal(http_parser_err(parser), cases[i].err);
            assert_int_equal(parsed, cases[i].err == OK ? HTTP_DONE : HTTP_BAD);
        }
        buf_free(&text);
        http_parser_free(parser);
    }
    free(request);
}

/* The head with its framing, then that many bytes of body in chunks of 16 KiB, or as they are. */
static void write_message(struct buf *text, bool chunked, bool expect, size_t len)
{
    static const char chunk[16384];
    buf_add_lit(text, "POST /p HTTP/1.1\r\n" HOST);
    buf_add_str(text, expect ? "Expect: 100-continue\r\n" : "");
    if (!chunked) {
        buf_printf(text, "Content-Length: %zu\r\n\r\n", len);
    } else {
        buf_add_lit(text, "Transfer-Encoding: chunked\r\n\r\n");
    }
    while (len > 0) {
        size_t part = len < sizeof chunk ? len : sizeof chunk;
        if (chunked) {
            buf_printf(text, "%zx\r\n", part);
        }
        buf_add(text, chunk, part);
        buf_add_str(text, chunked ? "\r\n" : "");
        len -= part;
    }
    buf_add_str(text, chunked ? "0\r\n\r\n" : "");
}

static void test_bodies_have_the_limit_they_are_given(void **state)
{
    (void)state;
    static const struct {
        size_t limit, len; /* limit 0: none is given */
        enum err err;
    } cases[] = {{0, LIMIT_BODY_BYTES, OK},
                 {0, LIMIT_BODY_BYTES + 1, ERR_TOO_LARGE},
                 {LIMIT_BODY_BYTES_MAX, LIMIT_BODY_BYTES_MAX, OK},
                 {LIMIT_BODY_BYTES_MAX, LIMIT_BODY_BYTES_MAX + 1, ERR_TOO_LARGE},
                 {LIMIT_BODY_BYTES_MIN, LIMIT_BODY_BYTES_MIN, OK},
                 {LIMIT_BODY_BYTES_MIN, LIMIT_BODY_BYTES_MIN + 1, ERR_TOO_LARGE}};
    struct http_request *request = mem_zalloc(sizeof *request);
    struct http_parser *parser = http_parser_new();
    for (size_t i = 0; i < 4 * ARRAY_LEN(cases); i++) {
        size_t limit = cases[i / 4].limit == 0 ? LIMIT_BODY_BYTES : cases[i / 4].limit;
        bool chunked = i % 2 != 0, expect = i % 4 > 1;
        struct buf text = {0};
        size_t used = 0;
        write_message(&text, chunked, expect, cases[i / 4].len);
        size_t head = (size_t)((const uint8_t *)memmem(text.ptr, text.len, "\r\n\r\n", 4) - text.ptr) + 4;
        http_parser_reset(parser);
        enum http_parse parsed = feed(parser, bytes_of(text.ptr, head), request, &used, limit);
        bool refused_at_once = !chunked && cases[i / 4].err != OK; /* and then nobody is told to send it */
        assert_int_equal(parsed, refused_at_once ? HTTP_BAD : expect ? HTTP_CONTINUE : HTTP_MORE);
        for (size_t at = head; parsed != HTTP_DONE && parsed != HTTP_BAD && at < text.len;) {
            at = text.len - at < 40000 ? text.len : at + 40000;
            parsed = http_parser_feed(parser, bytes_of(text.ptr, at), request, &used);
            assert_true(http_parser_held(parser) <= 2 * limit);
        }
        assert_int_equal(http_parser_err(parser), cases[i / 4].err);
        assert_int_equal(parsed, cases[i / 4].err == OK ? HTTP_DONE : HTTP_BAD);
        assert_true(cases[i / 4].err != OK || (request->body.len == cases[i / 4].len && used == text.len));
        http_parser_reset(parser); /* the next message begins with the usual limit */
        buf_free(&text);
    }
    http_parser_free(parser);
    free(request);
}

/* Of a chunked message, more than 1 MiB beside the body: refused, whether it comes whole or not. */
static void test_overhead_is_bounded(void **state)
{
    (void)state;
    struct http_request *request = mem_zalloc(sizeof *request);
    struct http_parser *parser = http_parser_new();
    struct buf text = {0};
    size_t used;
    buf_add_lit(&text, CHUNKED "0\r\n");
    size_t head = text.len - 3;
    while (text.len - head <= LIMIT_BODY_BYTES + LIMIT_BODY_BYTES_MIN) {
        buf_add_lit(&text, "Trailer: t\r\n");
    }
    buf_add_lit(&text, "\r\n");
    for (size_t piece = text.len / 5; piece <= text.len; piece += text.len - text.len / 5) {
        enum http_parse parsed = HTTP_MORE;
        http_parser_reset(parser);
        for (size_t at = piece; parsed == HTTP_MORE && at <= text.len; at += piece) {
            parsed = feed(parser, bytes_of(text.ptr, at), request, &used, LIMIT_BODY_BYTES_MIN);
        }
        if (parsed == HTTP_MORE) {
            parsed = feed(parser, buf_bytes(&text), request, &used, LIMIT_BODY_BYTES_MIN);
        }
        assert_int_equal(parsed, HTTP_BAD);
        assert_int_equal(http_parser_err(parser), ERR_TOO_LARGE);
    }
    http_parser_free(parser);
    free(request);
    buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_messages_are_read_the_same_however_they_come),
                                       cmocka_unit_test(test_random_bytes_never_pass_for_more_than_they_are),
                                       cmocka_unit_test(test_targets),
                                       cmocka_unit_test(test_limits),
                                       cmocka_unit_test(test_bodies_have_the_limit_they_are_given),
                                       cmocka_unit_test(test_overhead_is_bounded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
