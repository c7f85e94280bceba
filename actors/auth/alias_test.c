/* Aliases: the oldest account of a text, among texts that begin alike. */
#include "actors/auth/alias.h"
#include "tests/support/model_rows.h"
#include "tests/support/test.h"

static struct arena arena;

static struct bytes key(enum alias_type type, const char *text)
{
    return alias_key(type, bytes_str(text), &arena);
}

static void test_oldest_first_and_no_neighbours(void **state)
{
    (void)state;
    static const char *const texts[] = {"a", "ab", "a b", "A\xc3\xa4", "b"};
    struct model_rows model;
    struct id found;
    model_rows_init(&model);
    for (unsigned i = 0; i < 50; i++) {
        struct id id = id_make(1000 + (int64_t)(i * 7 % 50), 1, i); /* in another order than by age */
        assert_int_equal(alias_put(&model.rows, key(ALIAS_USERNAME, texts[i % ARRAY_LEN(texts)]), id), OK);
    }
    for (size_t t = 0; t < ARRAY_LEN(texts); t++) {
        struct id at = {{0}};
        unsigned count = 0;
        while (alias_find(&model.rows, key(ALIAS_USERNAME, texts[t]), at, &found) == OK) {
            assert_true(memcmp(at.b, found.b, sizeof at.b) < 0);
            at = found;
            count++;
        }
        assert_int_equal(count, 50 / ARRAY_LEN(texts));
        assert_int_equal(alias_find(&model.rows, key(ALIAS_EMAIL, texts[t]), (struct id){{0}}, &found), ERR_NOT_FOUND);
    }
    assert_int_equal(aliases_check(&model.rows, &arena), OK);
    assert_int_equal(alias_find(&model.rows, key(ALIAS_USERNAME, "AB"), (struct id){{0}}, &found), OK); /* folded */
    model_rows_close(&model);
    arena_close(&arena);
}

static void test_what_cannot_be_an_alias(void **state)
{
    (void)state;
    char long_text[300] = "";
    memset(long_text, 'x', sizeof long_text - 1);
    assert_int_equal(key(ALIAS_EMAIL, "").len, 0);
    assert_int_equal(key(ALIAS_EMAIL, long_text).len, 0);
    assert_int_equal(alias_key(ALIAS_EMAIL, BYTES_LIT("a\0b"), &arena).len, 0);
    assert_int_equal(key(ALIAS_EMAIL, "\xff").len, 0);
    struct bytes a = key(ALIAS_EMAIL, "Same"), b = key(ALIAS_USERNAME, "sAME");
    assert_int_equal(alias_partition(a, 16), alias_partition(b, 16));
    arena_close(&arena);
}

static void test_put_and_drop_repeat(void **state)
{
    (void)state;
    struct model_rows model;
    struct turn turn = {.rows = &model.rows, .arena = &arena};
    struct reply reply = {0};
    struct alias_in in = {
        .account = id_make(5, 1, 1), .username = key(ALIAS_USERNAME, "n"), .email = key(ALIAS_EMAIL, "m")};
    model_rows_init(&model);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(aliases_put(&turn, &in, &reply), OK);
        assert_int_equal(model.len, 2);
    }
    in.email = BYTES_NONE;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(aliases_drop(&turn, &in, &reply), OK);
        assert_int_equal(model.len, 1);
    }
    assert_true(alias_is_dead(in.account, 1000000) && !alias_is_dead(in.account, 1000));
    model_rows_close(&model);
    arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_oldest_first_and_no_neighbours),
                                       cmocka_unit_test(test_what_cannot_be_an_alias),
                                       cmocka_unit_test(test_put_and_drop_repeat)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
