/* Raw requests: what of their heads gets into which field, and what is refused by which name. */
#include "node/codec/field_map.h"
#include "node/decode.h"
#include "tests/support/test.h"

struct message {
    struct fieldset set;
    struct bytes topic, body, content_type, headers, ordering_key;
    int64_t delay_ms;
};
static const struct field fields[] = {FIELD_STRING(1, message, topic, 1, 9, FIELD_QUERY),
                                      FIELD_BLOB(2, message, body, 8192),
                                      FIELD_STRING(3, message, content_type, 0, 50, 0),
                                      FIELD_MAP(4, message, headers, 2, 0),
                                      FIELD_STRING(5, message, ordering_key, 1, 4, FIELD_HEADER),
                                      FIELD_INT(6, message, delay_ms, 0, 1000, FIELD_HEADER),
                                      FIELDS_END};

/* The head's further lines and the body, as a connection would have them. */
static enum err decode(const char *lines, struct bytes body, struct arena *arena, struct message *out,
                       struct field_errors *errors)
{
    struct http_parser *parser = http_parser_new();
    struct http_request *request = arena_zalloc(arena, sizeof *request);
    struct buf text = {0};
    size_t used;
    buf_printf(&text, "POST /t HTTP/1.1\r\nHost: a\r\nX-Other: b\r\nContent-Length: %zu\r\n%s\r\n", body.len, lines);
    buf_add_bytes(&text, body);
    enum http_parse parsed = http_parser_feed(parser, arena_copy(arena, buf_bytes(&text)), request, &used);
    if (parsed == HTTP_LIMIT) {
        parsed = http_parser_feed(parser, bytes_of(request->head, text.len), request, &used);
    }
    assert_int_equal(parsed, HTTP_DONE);
    *out = (struct message){0};
    *errors = (struct field_errors){0};
    buf_free(&text);
    http_parser_free(parser);
    return decode_raw(fields, request, arena, out, errors);
}

static void test_a_raw_request(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct message out;
    struct field_errors errors;
    struct bytes body = BYTES_LIT("\0\xff{\r\n"), key, value;
    assert_int_equal(decode("content-TYPE:  image/png; x=y \r\nBELFRY-delay-Ms: 7\r\nBelfry-Ordering-Key: \xc3\xa4\r\n"
                            "Belfry-Header-Trace-ID: a b\t\r\nbelfry-header-x: \r\n",
                            body, &arena, &out, &errors),
                     OK);
    assert_true(bytes_eq(out.body, body) && bytes_is(out.content_type, "image/png; x=y"));
    assert_true(out.delay_ms == 7 && bytes_is(out.ordering_key, "\xc3\xa4"));
    assert_int_equal(out.set.has, 0x3e); /* the topic is the path's */
    struct field_map map = field_map_of(out.headers);
    assert_true(field_map_next(&map, &key, &value) && bytes_is(key, "trace-id") && bytes_is(value, "a b"));
    assert_true(field_map_next(&map, &key, &value) && bytes_is(key, "x") && value.len == 0);
    assert_false(field_map_next(&map, &key, &value));

    struct digest digest = {{0}}, first = decode_raw_digest(fields, &out, &digest);
    out.delay_ms++;
    struct digest second = decode_raw_digest(fields, &out, &digest);
    assert_memory_not_equal(first.b, second.b, sizeof first.b);
    assert_int_equal(out.set.has, 0x3e);

    assert_int_equal(decode("", BYTES_NONE, &arena, &out, &errors), OK);
    assert_true(out.set.has == 2 && out.body.len == 0);
    uint8_t *large = arena_zalloc(&arena, 8193);
    assert_int_equal(decode("", bytes_of(large, 8192), &arena, &out, &errors), OK);
    assert_int_equal(decode("", bytes_of(large, 8193), &arena, &out, &errors), ERR_TOO_LARGE);
    arena_close(&arena);
}

static void test_refused_headers_are_named(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"Belfry-Xyz: 1\r\n", "Belfry-Xyz", "unknown"},
        {"belfry-: 1\r\n", "belfry-", "unknown"},
        {"Belfry-Topic: t\r\n", "Belfry-Topic", "unknown"},
        {"Belfry-Body: t\r\n", "Belfry-Body", "unknown"},
        {"Belfry-Headers: t\r\n", "Belfry-Headers", "unknown"},
        {"Belfry-Content-Type: t\r\n", "Belfry-Content-Type", "unknown"},
        {"Belfry-Delay_ms: 1\r\n", "Belfry-Delay_ms", "unknown"},
        {"Belfry-Delay-Ms: 1\r\nBelfry-delay-ms: 1\r\n", "Belfry-Delay-Ms", "repeated"},
        {"Belfry-Delay-Ms: 1001\r\n", "Belfry-Delay-Ms", "out_of_range"},
        {"Belfry-Delay-Ms: \r\n", "Belfry-Delay-Ms", "wrong_type"},
        {"Belfry-Ordering-Key: 12345\r\n", "Belfry-Ordering-Key", "too_long"},
        {"Belfry-Ordering-Key: \xff\r\n", "Belfry-Ordering-Key", "bad_encoding"},
        {"Belfry-Header-A: \xc3\r\n", "Belfry-Header-A", "bad_encoding"},
        {"Belfry-Header-A: a\tb\r\n", "Belfry-Header-A", "control_characters"},
        {"Belfry-Header-: a\r\n", "Belfry-Header-", "bad_key"},
        {"Belfry-Header-A: 1\r\nBELFRY-HEADER-a: 2\r\n", "BELFRY-HEADER-a", "repeated"},
        {"Belfry-Header-A: 1\r\nBelfry-Header-B: 2\r\nBelfry-Header-C: 3\r\n", "Belfry-Header-C", "too_many"},
        {"Content-Type: a/b\r\nContent-type: a/b\r\n", "Content-type", "repeated"},
        {"Content-Type: \xff\r\n", "Content-Type", "bad_encoding"},
        {"Content-Type: 123456789012345678901234567890123456789012345678901\r\n", "Content-Type", "too_long"}};
    struct arena arena = {0};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct message out;
        struct field_errors errors;
        assert_int_equal(decode(cases[i][0], BYTES_LIT("b"), &arena, &out, &errors), ERR_INVALID_FIELDS);
        assert_int_equal(errors.len, 1);
        assert_string_equal(errors.rows[0].pointer, cases[i][1]);
        assert_string_equal(errors.rows[0].code, cases[i][2]);
    }
    arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_raw_request),
                                       cmocka_unit_test(test_refused_headers_are_named)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
