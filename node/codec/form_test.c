/* Forms: what clients of other products send, well-formed and not. */
#include "node/codec/form.h"
#include "tests/support/test.h"

static struct arena arena;

static void expect(const struct form *form, const char *name, const char *text, enum form_type type)
{
    const struct form_member *member = form_find(form, name);
    assert_non_null(member);
    assert_int_equal(member->type, type);
    assert_int_equal(member->text.len, strlen(text));
    assert_memory_equal(member->text.ptr == NULL ? (const uint8_t *)"" : member->text.ptr, text, strlen(text));
}

static void test_json_members_become_text(void **state)
{
    (void)state;
    struct form form;
    const char *why = NULL;
    struct bytes body = BYTES_LIT("{\"a\":\"x\\u00e9\",\"n\":-12,\"r\":1.5,\"t\":true,\"z\":null,\"l\":[1],"
                                  "\"o\":{\"_id\":\"5\",\"p\":{\"q\":1}},\"a\":\"last\"}");
    assert_int_equal(form_decode_json(body, &arena, &form, &why), OK);
    expect(&form, "a", "last", FORM_TEXT);
    expect(&form, "n", "-12", FORM_NUMBER);
    expect(&form, "r", "1.5", FORM_NUMBER);
    expect(&form, "t", "true", FORM_BOOL);
    expect(&form, "z", "", FORM_NULL);
    expect(&form, "l", "", FORM_OTHER);
    expect(&form, "o._id", "5", FORM_TEXT);
    expect(&form, "o.p", "", FORM_OTHER);
    assert_null(form_find(&form, "o.p.q"));
    assert_int_equal(form_text(&form, "none").len, 0);
    arena_close(&arena);
}

static void test_json_broken_says_why(void **state)
{
    (void)state;
    static const char *const bad[] = {"{",           "{\"a\"}",          "\"a\"", "1",
                                      "{\"a\":1} x", "{\"a\":\"\xff\"}", "nul",   "{'a':1}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct form form;
        const char *why = NULL;
        assert_int_equal(form_decode_json(bytes_str(bad[i]), &arena, &form, &why), ERR_INVALID_JSON);
        assert_non_null(why);
        assert_int_equal(form.len, 0);
    }
    struct form form;
    const char *why = NULL;
    assert_int_equal(form_decode_json(BYTES_LIT("[{\"a\":1}]"), &arena, &form, &why), OK);
    assert_int_equal(form.len, 0);
    arena_close(&arena);
}

static void test_urlencoded_takes_anything(void **state)
{
    (void)state;
    struct form form;
    struct bytes body = BYTES_LIT("a=1+2&b=%41%e2%82%ac&&c&d=&e=%zz%4&f=%ff&g=h=i&%61=x%2By");
    form_decode_urlencoded(body, &arena, &form);
    expect(&form, "a", "x+y", FORM_TEXT);
    expect(&form, "b", "A\xe2\x82\xac", FORM_TEXT);
    expect(&form, "c", "", FORM_TEXT);
    expect(&form, "d", "", FORM_TEXT);
    expect(&form, "e", "%zz%4", FORM_TEXT);
    expect(&form, "f", "\xef\xbf\xbd", FORM_TEXT);
    expect(&form, "g", "h=i", FORM_TEXT);
    arena_close(&arena);
}

static void test_members_are_bounded(void **state)
{
    (void)state;
    struct form form;
    struct buf body = {0};
    for (int i = 0; i < 3 * FORM_MEMBERS; i++) {
        buf_printf(&body, "&m%d=%d", i, i);
    }
    form_decode_urlencoded(buf_bytes(&body), &arena, &form);
    assert_int_equal(form.len, FORM_MEMBERS);
    expect(&form, "m999", "999", FORM_TEXT);
    buf_free(&body);
    arena_close(&arena);
}

/* {"aa…": {"m0": 0, "m1": 1, …}}, where the outer name has so many bytes. */
static struct buf nested_body(size_t outer, int members)
{
    struct buf body = {0};
    buf_add_lit(&body, "{\"");
    for (size_t i = 0; i < outer; i++) {
        buf_add_char(&body, 'a');
    }
    buf_add_lit(&body, "\":{");
    for (int i = 0; i < members; i++) {
        buf_printf(&body, "%s\"m%d\":%d", i == 0 ? "" : ",", i, i);
    }
    buf_add_lit(&body, "},\"last\":\"x\"}");
    return body;
}

static void test_json_long_names_are_left_out(void **state)
{
    (void)state;
    struct form form;
    const char *why = NULL;
    struct buf fits = nested_body(FORM_NAME_BYTES - 3, 11), longer = nested_body(FORM_NAME_BYTES + 1, 3);
    assert_int_equal(form_decode_json(buf_bytes(&fits), &arena, &form, &why), OK);
    assert_int_equal(form.len, 1 + 10 + 1); /* "….m10" is too long */
    assert_int_equal(form.members[10].name.len, FORM_NAME_BYTES);
    expect(&form, "last", "x", FORM_TEXT);
    assert_int_equal(form_decode_json(buf_bytes(&longer), &arena, &form, &why), OK);
    assert_int_equal(form.len, 1);
    expect(&form, "last", "x", FORM_TEXT);
    buf_free(&fits);
    buf_free(&longer);
    arena_close(&arena);
}

/* One long name over many members: joined to each, this was a gigabyte. */
static void test_json_memory_is_bounded_by_the_body(void **state)
{
    (void)state;
    static const size_t outer[] = {1, FORM_NAME_BYTES - 5, FORM_NAME_BYTES, 1000000};
    for (size_t i = 0; i < ARRAY_LEN(outer); i++) {
        struct form form;
        const char *why = NULL;
        struct buf body = nested_body(outer[i], 2 * FORM_MEMBERS);
        assert_int_equal(form_decode_json(buf_bytes(&body), &arena, &form, &why), OK);
        assert_true(form.len <= FORM_MEMBERS);
        assert_true(arena_held(&arena) < 256 * 1024);
        buf_free(&body);
        arena_close(&arena);
    }
}

static void test_urlencoded_long_names_are_left_out(void **state)
{
    (void)state;
    struct form form;
    struct buf body = {0};
    for (int i = 0; i < FORM_NAME_BYTES; i++) {
        buf_add_lit(&body, "%61");
    }
    struct bytes longest = arena_copy(&arena, buf_bytes(&body));
    buf_printf(&body, "=1&%.*sb=2&c=3", (int)longest.len, (const char *)longest.ptr);
    form_decode_urlencoded(buf_bytes(&body), &arena, &form);
    assert_int_equal(form.len, 2);
    assert_int_equal(form.members[0].name.len, FORM_NAME_BYTES);
    expect(&form, "c", "3", FORM_TEXT);
    buf_free(&body);
    arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_json_members_become_text),
                                       cmocka_unit_test(test_json_broken_says_why),
                                       cmocka_unit_test(test_urlencoded_takes_anything),
                                       cmocka_unit_test(test_members_are_bounded),
                                       cmocka_unit_test(test_json_long_names_are_left_out),
                                       cmocka_unit_test(test_json_memory_is_bounded_by_the_body),
                                       cmocka_unit_test(test_urlencoded_long_names_are_left_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
