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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_members_become_text), cmocka_unit_test(test_json_broken_says_why),
        cmocka_unit_test(test_urlencoded_takes_anything), cmocka_unit_test(test_members_are_bounded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
