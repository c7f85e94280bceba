#include "actors/events/cursor.h"
#include "tests/support/test.h"

static void test_parse_of_canonical_decimal_gives_its_value(void **state)
{
    static const struct {
        const char *text;
        uint64_t value;
    } good[] = {{"0", 0},
                {"1", 1},
                {"10", 10},
                {"1882500945953161216", 1882500945953161216},
                {"9223372036854775807", INT64_MAX}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        uint64_t value = 77;
        assert_int_equal(cursor_parse(bytes_str(good[i].text), &value), OK);
        assert_true(value == good[i].value);
    }
}

static void test_parse_of_anything_else_refuses(void **state)
{
    static const char *const bad[] = {"",
                                      "00",
                                      "01",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1.",
                                      "0x1",
                                      "a",
                                      "1a",
                                      "9223372036854775808",
                                      "9223372036854775810",
                                      "18446744073709551615",
                                      "100000000000000000000"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        uint64_t value = 77;
        assert_int_equal(cursor_parse(bytes_str(bad[i]), &value), ERR_INVALID_CURSOR);
        assert_true(value == 77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_of_canonical_decimal_gives_its_value),
        cmocka_unit_test(test_parse_of_anything_else_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
