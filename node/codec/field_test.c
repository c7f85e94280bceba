/* One table, all its uses: what goes in by JSON comes out of msgpack, and as the same JSON. */
#include "node/codec/field.h"

#include <jansson.h>

#include "node/codec/field_map.h"
#include "node/limits.h"
#include "tests/support/test.h"

static const char *const colours[] = {"red", "green", NULL};

struct inner {
    struct fieldset set;
    int64_t depth;
};
static const struct field inner_fields[] = {FIELD_INT(1, inner, depth, -5, 5, FIELD_REQUIRED), FIELDS_END};

struct thing {
    struct fieldset set;
    struct bytes name, note, secret;
    bool flag;
    int64_t count, when;
    struct id id;
    int colour;
    struct inner inner;
    int64_t limit;
};
static const struct field thing_fields[] = {
    FIELD_STRING(1, thing, name, 1, 5, FIELD_REQUIRED),
    FIELD_STRING(2, thing, note, 0, 20, FIELD_NULLABLE | FIELD_TEXT | FIELD_IN_BYTES),
    FIELD_STRING(3, thing, secret, 0, 0, FIELD_HIDDEN),
    FIELD_BOOL(4, thing, flag, 0),
    FIELD_INT(5, thing, count, -10, 10, 0),
    FIELD_TIME(6, thing, when, FIELD_NULLABLE),
    FIELD_ID(7, thing, id, 0),
    FIELD_ENUM(8, thing, colour, colours, 0),
    FIELD_OBJECT(9, thing, inner, inner_fields, 0),
    FIELD_INT(10, thing, limit, 1, 9, FIELD_QUERY),
    FIELDS_END};

struct leaf {
    struct fieldset set;
    int64_t n;
};
static const struct field leaf_fields[] = {FIELD_INT(1, leaf, n, 0, 9, FIELD_REQUIRED), FIELDS_END};

struct message {
    struct fieldset set;
    struct bytes key, body, headers, leaves;
    struct inner inner;
};
static const struct field message_fields[] = {FIELD_STRING(1, message, key, 1, 8, 0),
                                              FIELD_STRING(2, message, body, 0, 0, FIELD_REQUIRED | FIELD_TEXT),
                                              FIELD_MAP(3, message, headers, 3, 0),
                                              FIELD_OBJECT(4, message, inner, inner_fields, 0),
                                              FIELD_OBJECTS(5, message, leaves, leaf_fields, struct leaf, 0, 2, 0),
                                              FIELDS_END};

struct batch {
    struct fieldset set;
    struct bytes topic, messages, labels, names;
    int64_t max_wait;
};
static const struct field batch_fields[] = {
    FIELD_STRING(1, batch, topic, 1, 9, FIELD_QUERY),
    FIELD_OBJECTS(2, batch, messages, message_fields, struct message, 1, 4, FIELD_REQUIRED),
    FIELD_MAP(3, batch, labels, 0, FIELD_TEXT | FIELD_NULLABLE),
    FIELD_INT(4, batch, max_wait, 0, 100, FIELD_HEADER | FIELD_REQUIRED),
    FIELD_STRINGS(5, batch, names, 0),
    FIELDS_END};

static enum err decode_batch(struct arena *arena, struct bytes json, struct batch *out, struct field_errors *errors)
{
    *out = (struct batch){0};
    *errors = (struct field_errors){0};
    return field_decode_json(batch_fields, json, arena, out, errors);
}

static enum err decode(struct arena *arena, const char *json, struct thing *out, struct field_errors *errors)
{
    *out = (struct thing){0};
    *errors = (struct field_errors){0};
    return field_decode_json(thing_fields, bytes_str(json), arena, out, errors);
}

static void test_json_in_msgpack_json_out(void **state)
{
    (void)state;
    static const char json[] =
        "{\"name\":\"n\xc3\xa4m\",\"note\":\"a\\nb\",\"flag\":true,\"count\":-7,\"when\":\"2026-11-21T07:06:00.000Z\","
        "\"id\":\"01234567-89ab-8fff-bfff-ffffffffffff\",\"colour\":\"green\",\"inner\":{\"depth\":3}}";
    struct arena arena = {0};
    struct thing in, out = {0};
    struct field_errors errors;
    struct buf packed = {0}, text = {0};
    assert_int_equal(decode(&arena, json, &in, &errors), OK);
    in.secret = BYTES_LIT("hidden");
    in.set.has |= field_bit(2);
    field_pack(&packed, thing_fields, &in);
    assert_int_equal(field_unpack(thing_fields, buf_bytes(&packed), &out), OK);
    assert_int_equal(out.set.has, in.set.has);
    assert_true(out.flag && out.count == -7 && out.colour == 1 && out.inner.depth == 3 &&
                bytes_is(out.secret, "hidden"));
    assert_int_equal(field_json_from_pack(&text, thing_fields, buf_bytes(&packed)), OK);
    assert_true(bytes_is(buf_bytes(&text), json));  /* the hidden field stays inside */
    for (size_t cut = 0; cut < packed.len; cut++) { /* every truncation and many flips are refused or harmless */
        struct thing broken = {0};
        assert_int_equal(field_unpack(thing_fields, bytes_of(packed.ptr, cut), &broken), ERR_CORRUPT);
    }
    struct random random;
    random_init_seed(&random, test_seed(__func__));
    for (int i = 0; i < 20000; i++) {
        struct thing broken = {0};
        uint8_t *copy = mem_copy(packed.ptr, packed.len);
        copy[below(&random, packed.len)] = (uint8_t)random_u64(&random);
        text.len = 0;
        (void)(field_unpack(thing_fields, bytes_of(copy, packed.len), &broken) == OK);
        (void)(field_json_from_pack(&text, thing_fields, bytes_of(copy, packed.len)) == OK);
        free(copy);
    }
    buf_free(&packed);
    buf_free(&text);
    arena_close(&arena);
}

static void test_unknown_tags_are_skipped(void **state)
{
    (void)state;
    struct thing in = {.set.has = field_bit(0) | field_bit(4), .name = BYTES_LIT("n"), .count = 4}, out = {0};
    static const struct field older[] = {FIELD_INT(5, thing, count, -10, 10, 0), FIELDS_END};
    struct buf packed = {0};
    field_pack(&packed, thing_fields, &in);
    assert_int_equal(field_unpack(older, buf_bytes(&packed), &out), OK);
    assert_int_equal(out.count, 4);
    buf_free(&packed);
}

static void test_bad_json_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        enum err err;
        const char *pointer, *code;
    } cases[] = {{"{\"name\":\"toolong\"}", ERR_INVALID_FIELDS, "/name", "too_long"},
                 {"{\"name\":\"\"}", ERR_INVALID_FIELDS, "/name", "too_short"},
                 {"{\"name\":\"a\\u0001\"}", ERR_INVALID_FIELDS, "/name", "control_characters"},
                 {"{\"name\":null}", ERR_INVALID_FIELDS, "/name", "wrong_type"},
                 {"{\"count\":11}", ERR_INVALID_FIELDS, "/count", "out_of_range"},
                 {"{\"count\":1.5}", ERR_INVALID_FIELDS, "/count", "wrong_type"},
                 {"{\"when\":\"soon\"}", ERR_INVALID_FIELDS, "/when", "not_a_time"},
                 {"{\"id\":\"x\"}", ERR_INVALID_FIELDS, "/id", "not_an_id"},
                 {"{\"colour\":\"blue\"}", ERR_INVALID_FIELDS, "/colour", "not_a_choice"},
                 {"{\"inner\":{\"depth\":9}}", ERR_INVALID_FIELDS, "/inner/depth", "out_of_range"},
                 {"{\"inner\":{\"width\":9}}", ERR_INVALID_FIELDS, "/inner/width", "unknown_field"},
                 {"{\"secret\":\"x\"}", ERR_INVALID_FIELDS, "/secret", "unknown_field"},
                 {"{\"limit\":3}", ERR_INVALID_FIELDS, "/limit", "unknown_field"},
                 {"[]", ERR_INVALID_FIELDS, "", "wrong_type"},
                 {"{", ERR_INVALID_JSON, NULL, NULL},
                 {"", ERR_INVALID_JSON, NULL, NULL},
                 {"{} x", ERR_INVALID_JSON, NULL, NULL},
                 {"{\"flag\":true,\"flag\":true}", ERR_INVALID_JSON, NULL, NULL},
                 {"{\"inner\":{\"depth\":1,\"depth\":1}}", ERR_INVALID_JSON, NULL, NULL},
                 {"{\"x\":1,\"x\":1}", ERR_INVALID_JSON, NULL, NULL},
                 {"{\"name\":5,\"x\":{\"y\":1,\"y\":1}}", ERR_INVALID_JSON, NULL, NULL},
                 {"{\"a\\u0000\":1}", ERR_INVALID_JSON, NULL, NULL},
                 {"{\"count\":1e999}", ERR_INVALID_JSON, NULL, NULL},
                 {"{\"count\":9223372036854775808}", ERR_INVALID_JSON, NULL, NULL},
                 {"{\"count\":9223372036854775807}", ERR_INVALID_FIELDS, "/count", "out_of_range"},
                 {"{\"name\":\"\\ud800\"}", ERR_INVALID_JSON, NULL, NULL},
                 {"{\"name\":\"\xff\"}", ERR_INVALID_JSON, NULL, NULL},
                 {"{\"name\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}", ERR_INVALID_JSON,
                  NULL, NULL}};
    struct arena arena = {0};
    struct thing out;
    struct field_errors errors;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(decode(&arena, cases[i].json, &out, &errors), cases[i].err);
        if (cases[i].pointer != NULL) {
            assert_string_equal(errors.rows[0].pointer, cases[i].pointer);
            assert_string_equal(errors.rows[0].code, cases[i].code);
        } else {
            assert_non_null(errors.json_detail);
            assert_int_equal(errors.len, 0);
        }
    }
    assert_int_equal(decode(&arena, "{\"note\":null,\"flag\":false}", &out, &errors), OK);
    assert_true((out.set.null & field_bit(1)) != 0 && (out.set.has & field_bit(3)) != 0);
    assert_int_equal(field_check_required(thing_fields, &out, &arena, &errors), ERR_INVALID_FIELDS);
    arena_close(&arena);
}

static void test_queries(void **state)
{
    (void)state;
    struct arena arena = {0};
    static const struct {
        const char *query;
        enum err err;
        int64_t limit;
    } cases[] = {{"", OK, 0},
                 {"limit=7", OK, 7},
                 {"&limit=%37&", OK, 7},
                 {"limit=0", ERR_INVALID_FIELDS, 0},
                 {"limit=x", ERR_INVALID_FIELDS, 0},
                 {"limit=1&limit=2", ERR_INVALID_FIELDS, 0},
                 {"name=x", ERR_INVALID_FIELDS, 0},
                 {"limit=%3", ERR_INVALID_FIELDS, 0},
                 {"limit=%zz", ERR_INVALID_FIELDS, 0},
                 {"limit", ERR_INVALID_FIELDS, 0},
                 {"limit=%ff", ERR_INVALID_FIELDS, 0}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct thing out = {0};
        struct field_errors errors = {0};
        assert_int_equal(field_decode_query(thing_fields, bytes_str(cases[i].query), &arena, &out, &errors),
                         cases[i].err);
        assert_true(cases[i].err != OK || out.limit == cases[i].limit);
    }
    arena_close(&arena);
}

static void test_objects_and_maps_there_and_back(void **state)
{
    (void)state;
    static const char json[] =
        "{\"messages\":[{\"key\":\"k\",\"body\":\"a\\n\\u0000\xc3\xa4\",\"headers\":{\"x\":\"1\",\"\xc3\xa4/~\":\"\"},"
        "\"inner\":{\"depth\":-5},\"leaves\":[{\"n\":1},{\"n\":2}]},{\"body\":\"\",\"headers\":{},\"leaves\":[]}],"
        "\"labels\":{\"long\":\"line\\nline, and much more than the thirty-one bytes of a short string\"},"
        "\"names\":[\"\",\"\xc3\xa4\\u0000\\n\"]}";
    struct arena arena = {0};
    struct batch in, out = {0};
    struct field_errors errors;
    struct buf packed = {0}, text = {0};
    assert_int_equal(decode_batch(&arena, BYTES_LIT(json), &in, &errors), OK);
    field_pack(&packed, batch_fields, &in);
    assert_int_equal(field_unpack(batch_fields, buf_bytes(&packed), &out), OK);
    assert_true(bytes_eq(in.messages, out.messages) && bytes_eq(in.labels, out.labels) &&
                bytes_eq(in.names, out.names));
    assert_int_equal(field_json_from_pack(&text, batch_fields, buf_bytes(&packed)), OK);
    assert_true(bytes_is(buf_bytes(&text), json));

    struct bytes left = out.messages, item, key, value;
    struct message first = {0}, second = {0};
    assert_true(field_objects_next(&left, &item));
    assert_int_equal(field_unpack(message_fields, item, &first), OK);
    assert_true(bytes_eq(first.body, BYTES_LIT("a\n\0\xc3\xa4")) && first.inner.depth == -5);
    struct field_map map = field_map_of(first.headers);
    assert_true(field_map_next(&map, &key, &value) && bytes_is(key, "x") && bytes_is(value, "1"));
    assert_true(field_map_next(&map, &key, &value) && bytes_is(key, "\xc3\xa4/~") && value.len == 0);
    assert_false(field_map_next(&map, &key, &value));
    assert_true(field_objects_next(&left, &item));
    assert_int_equal(field_unpack(message_fields, item, &second), OK);
    assert_true((second.set.has & field_bit(0)) == 0 && second.headers.len == 1);
    assert_false(field_objects_next(&left, &item));

    struct random random; /* what is broken is refused, or harmless */
    random_init_seed(&random, test_seed(__func__));
    for (int i = 0; i < 20000; i++) {
        struct batch broken = {0};
        size_t len = i < (int)packed.len ? (size_t)i : packed.len;
        uint8_t *copy = mem_copy(packed.ptr, len > 0 ? len : 1);
        if (i >= (int)packed.len) {
            copy[below(&random, len)] = (uint8_t)random_u64(&random);
        }
        text.len = 0;
        (void)(field_json_from_pack(&text, batch_fields, bytes_of(copy, len)) == OK);
        enum err err = field_unpack(batch_fields, bytes_of(copy, len), &broken);
        assert_true(len == packed.len || err == ERR_CORRUPT);
        for (left = broken.messages; err == OK && field_objects_next(&left, &item);) {
            struct message message = {0};
            (void)(field_unpack(message_fields, item, &message) == OK);
        }
        assert_true(err != OK || left.len == 0);
        for (map = field_map_of(broken.labels); field_map_next(&map, &key, &value);) {
        }
        free(copy);
    }
    buf_free(&packed);
    buf_free(&text);
    arena_close(&arena);
}

static void test_bad_objects_and_maps_are_named(void **state)
{
    (void)state;
#define M(s) "{\"messages\":" s "}"
#define B "{\"body\":\"b\"}"
    static const struct {
        const char *json, *pointer, *code; /* code NULL: it is not JSON */
    } cases[] = {{M("[]"), "/messages", "too_few"},
                 {M("[" B "," B "," B "," B "," B "]"), "/messages", "too_many"},
                 {M("{}"), "/messages", "wrong_type"},
                 {M("\"x\""), "/messages", "wrong_type"},
                 {M("[" B ",3]"), "/messages/1", "wrong_type"},
                 {M("[" B ",[[]]]"), "/messages/1", "wrong_type"},
                 {M("[" B "," B "," B ",{\"key\":\"k\"}]"), "/messages/3/body", "required"},
                 {M("[{\"body\":5}]"), "/messages/0/body", "wrong_type"},
                 {M("[{\"body\":null}]"), "/messages/0/body", "wrong_type"},
                 {M("[{\"body\":\"\",\"key\":\"\\u0000\"}]"), "/messages/0/key", "control_characters"},
                 {M("[{\"body\":\"\",\"colour\":[{}]}]"), "/messages/0/colour", "unknown_field"},
                 {M("[{\"body\":\"\",\"inner\":{\"depth\":6}}]"), "/messages/0/inner/depth", "out_of_range"},
                 {M("[{\"body\":\"\",\"leaves\":[{\"n\":1},{}]}]"), "/messages/0/leaves/1/n", "required"},
                 {M("[{\"body\":\"\",\"headers\":[]}]"), "/messages/0/headers", "wrong_type"},
                 {M("[{\"body\":\"\",\"headers\":{\"a/b~\":1}}]"), "/messages/0/headers/a~1b~0", "wrong_type"},
                 {M("[{\"body\":\"\",\"headers\":{\"\":\"\"}}]"), "/messages/0/headers/", "bad_key"},
                 {M("[{\"body\":\"\",\"headers\":{\"a\":\"\\n\"}}]"), "/messages/0/headers/a", "control_characters"},
                 {M("[{\"body\":\"\",\"headers\":{\"a\":\"\",\"b\":\"\",\"c\":\"\",\"d\":\"\"}}]"),
                  "/messages/0/headers/d", "too_many"},
                 {"{\"labels\":{\"a\\tb\":\"\"}}", "/labels/a\tb", "bad_key"},
                 {"{\"names\":[\"n\",null]}", "/names", "wrong_type"},
                 {"{\"names\":{}}", "/names", "wrong_type"},
                 {"{\"topic\":\"t\"}", "/topic", "unknown_field"},
                 {"{\"max_wait\":1}", "/max_wait", "unknown_field"},
                 {M("[{\"body\":\"\",\"body\":\"\"}]"), NULL, NULL},
                 {M("[{\"body\":\"\",\"headers\":{\"a\":\"\",\"a\":\"\"}}]"), NULL, NULL},
                 {M("[" B ",]"), NULL, NULL},
                 {M("[" B " " B "]"), NULL, NULL},
                 {M("[3," B), NULL, NULL},
                 {M("[{\"body\":5},{\"body\":\"\\ud800\"}]"), NULL, NULL}};
    struct arena arena = {0};
    struct batch out;
    struct field_errors errors;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        enum err err = decode_batch(&arena, bytes_str(cases[i].json), &out, &errors);
        assert_int_equal(err, cases[i].code == NULL ? ERR_INVALID_JSON : ERR_INVALID_FIELDS);
        if (cases[i].code != NULL) {
            assert_int_equal(errors.len, 1);
            assert_string_equal(errors.rows[0].pointer, cases[i].pointer);
            assert_string_equal(errors.rows[0].code, cases[i].code);
        }
    }
    arena_close(&arena);
}

static void test_maps_have_bounds(void **state)
{
    (void)state;
    static const struct {
        int entries, key, value;
        const char *code;
    } cases[] = {{50, 128, 40, NULL},
                 {51, 10, 1, "too_many"},
                 {1, 129, 1, "bad_key"},
                 {1, 1, LIMIT_MAP_VALUE_BYTES, NULL},
                 {1, 1, LIMIT_MAP_VALUE_BYTES + 1, "too_long"}};
    struct arena arena = {0};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct batch out;
        struct field_errors errors;
        struct buf json = {0};
        buf_add_lit(&json, "{\"labels\":{");
        for (int n = 0; n < cases[i].entries; n++) {
            buf_printf(&json, "%s\"%0*d\":\"%0*d\"", n > 0 ? "," : "", cases[i].key, n, cases[i].value, 0);
        }
        buf_add_lit(&json, "}}");
        enum err err = decode_batch(&arena, buf_bytes(&json), &out, &errors);
        assert_int_equal(err, cases[i].code == NULL ? OK : ERR_INVALID_FIELDS);
        if (err == OK) {
            assert_int_equal(field_map_of(out.labels).entries, cases[i].entries);
        } else {
            assert_string_equal(errors.rows[0].code, cases[i].code);
        }
        buf_free(&json);
    }
    arena_close(&arena);
}

static void test_headers(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct batch out = {.set.has = field_bit(1)};
    struct field_errors errors = {0};
    struct bytes name = BYTES_LIT("max_wait");
    char header[FIELD_HEADER_BYTES];
    field_header_name(&batch_fields[3], header);
    assert_string_equal(header, "Belfry-Max-Wait");
    assert_int_equal(field_check_required(batch_fields, &out, &arena, &errors), ERR_INVALID_FIELDS);
    assert_string_equal(errors.rows[0].pointer, "Belfry-Max-Wait");
    errors.len = 0;
    assert_int_equal(field_decode_header(batch_fields, name, BYTES_LIT("101"), &arena, &out, &errors),
                     ERR_INVALID_FIELDS);
    assert_int_equal(field_decode_header(batch_fields, name, BYTES_LIT("\xff"), &arena, &out, &errors),
                     ERR_INVALID_FIELDS);
    assert_int_equal(field_decode_header(batch_fields, name, BYTES_LIT("7"), &arena, &out, &errors), OK);
    assert_int_equal(out.max_wait, 7);
    assert_int_equal(field_decode_header(batch_fields, name, BYTES_LIT("7"), &arena, &out, &errors),
                     ERR_INVALID_FIELDS);
    static const char *const codes[] = {"out_of_range", "bad_encoding", "repeated"};
    assert_int_equal(errors.len, ARRAY_LEN(codes));
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        assert_string_equal(errors.rows[i].pointer, "Belfry-Max-Wait");
        assert_string_equal(errors.rows[i].code, codes[i]);
    }
    arena_close(&arena);
}

static void test_schema(void **state)
{
    (void)state;
    struct buf text = {0};
    json_error_t why;
    field_schema(&text, batch_fields, false);
    json_t *schema = json_loadb((const char *)text.ptr, text.len, 0, &why);
    assert_non_null(schema);
    json_t *properties = json_object_get(schema, "properties");
    json_t *messages = json_object_get(properties, "messages");
    assert_int_equal(json_object_size(properties), 3); /* no query, no headers */
    assert_int_equal(json_integer_value(json_object_get(messages, "maxItems")), 4);
    assert_non_null(json_object_get(json_object_get(json_object_get(messages, "items"), "properties"), "body"));
    json_decref(schema);
    buf_free(&text);
}

static void test_depth(void **state)
{
    (void)state;
    struct arena arena = {0};
    for (int depth = LIMIT_JSON_DEPTH - 1; depth <= LIMIT_JSON_DEPTH + 1; depth++) {
        struct buf json = {0};
        struct batch out;
        struct field_errors errors;
        buf_add_lit(&json, "{\"x\":"); /* itself one of them */
        for (int i = 1; i < depth; i++) {
            buf_add_char(&json, '[');
        }
        for (int i = 1; i < depth; i++) {
            buf_add_char(&json, ']');
        }
        buf_add_char(&json, '}');
        assert_int_equal(decode_batch(&arena, buf_bytes(&json), &out, &errors),
                         depth > LIMIT_JSON_DEPTH ? ERR_INVALID_JSON : ERR_INVALID_FIELDS);
        buf_free(&json);
    }
    arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_json_in_msgpack_json_out),
                                       cmocka_unit_test(test_unknown_tags_are_skipped),
                                       cmocka_unit_test(test_bad_json_is_named),
                                       cmocka_unit_test(test_queries),
                                       cmocka_unit_test(test_objects_and_maps_there_and_back),
                                       cmocka_unit_test(test_bad_objects_and_maps_are_named),
                                       cmocka_unit_test(test_maps_have_bounds),
                                       cmocka_unit_test(test_headers),
                                       cmocka_unit_test(test_schema),
                                       cmocka_unit_test(test_depth)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
