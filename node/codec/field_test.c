/* One table, all its uses: what goes in by JSON comes out of msgpack, and as the same JSON. */
#include "node/codec/field.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_json_in_msgpack_json_out),
                                       cmocka_unit_test(test_unknown_tags_are_skipped),
                                       cmocka_unit_test(test_bad_json_is_named), cmocka_unit_test(test_queries)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
