/* Ids of other products: there and back over random ids, also when neighbours share all but the tail. */
#include "actors/facades/foreign_id.h"
#include "actors/kind.h"
#include "tests/support/model_rows.h"
#include "tests/support/test.h"

enum { TABLE = TABLE_REMINDER };

static struct id put(struct model_rows *model, struct id id)
{
    assert_int_equal(rows_put(&model->rows, TABLE, id_bytes(&id), BYTES_NONE), OK);
    return id;
}

static struct id made_by_a_reducer(struct random *random, int64_t ms, uint64_t sequence)
{
    struct turn turn = {
        .partition = 1 + (unsigned)below(random, 16), .now_ms = ms, .seed = random_u64(random), .sequence = sequence};
    return turn_new_id(&turn);
}

static void test_hex_there_and_back(void **state)
{
    (void)state;
    struct random random;
    struct model_rows model;
    struct id ids[500];
    char text[FOREIGN_HEX_BYTES], before[FOREIGN_HEX_BYTES] = "";
    random_init_seed(&random, test_seed(__func__));
    model_rows_init(&model);
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        int64_t ms = 1767225600000 + (int64_t)(i / 50);
        ids[i] = put(&model, i % 2 == 0 ? made_by_a_reducer(&random, ms, i)
                                        : id_make(ms, 1 + (unsigned)below(&random, 256), random_u64(&random)));
    }
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        struct id least, found;
        foreign_hex(ids[i], text);
        assert_true(foreign_hex_parse(bytes_of(text, sizeof text), &least));
        assert_int_equal(foreign_hex_find(&model.rows, TABLE, least, &found), OK);
        assert_true(id_eq(found, ids[i]));
        assert_int_equal(id_partition(least), id_partition(ids[i]));
        assert_int_equal(rows_del(&model.rows, TABLE, id_bytes(&ids[i])), OK);
        assert_int_equal(foreign_hex_find(&model.rows, TABLE, least, &found), ERR_NOT_FOUND);
        (void)put(&model, ids[i]);
    }
    for (size_t i = 0; i + 1 < ARRAY_LEN(ids); i++) { /* text sorts as ids do */
        foreign_hex(ids[i], before);
        foreign_hex(ids[i + 1], text);
        int ours = memcmp(ids[i].b, ids[i + 1].b, 12), theirs = memcmp(before, text, sizeof text);
        assert_true((ours < 0) == (theirs < 0) || theirs == 0);
    }
    model_rows_close(&model);
}

static void test_hex_malformed_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "0",
                                      "00000000000000000000000",
                                      "0000000000000000000000000",
                                      "00000000000000000000000g",
                                      "0000000000000000000000 0",
                                      "-00000000000000000000000"};
    struct id id;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(foreign_hex_parse(bytes_str(bad[i]), &id));
    }
    assert_true(foreign_hex_parse(BYTES_LIT("FFFFFFFFFFFFffffffffffff"), &id));
    char text[FOREIGN_HEX_BYTES];
    foreign_hex(id, text);
    assert_memory_equal(text, "ffffffffffffffffffffffff", sizeof text);
}

static void test_integers_there_and_back(void **state)
{
    (void)state;
    struct random random;
    struct model_rows model;
    struct id ids[600];
    size_t without = 0;
    random_init_seed(&random, test_seed(__func__));
    model_rows_init(&model);
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        ids[i] = put(&model, made_by_a_reducer(&random, 1767225600000 + (int64_t)(i / 150), i % 150));
    }
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        struct id least, found;
        char text[32];
        uint64_t number = foreign_int(ids[i]);
        assert_true(number < 1ULL << 53);
        assert_true((number == 0) == (i % 150 >= 128));
        without += number == 0;
        if (number == 0) {
            continue;
        }
        int len = snprintf(text, sizeof text, "%llu", (unsigned long long)number);
        assert_true(foreign_int_parse(bytes_of(text, (size_t)len), &least));
        assert_int_equal(foreign_int_find(&model.rows, TABLE, least, &found), OK);
        assert_true(id_eq(found, ids[i]));
        if (i >= 150) {
            assert_true(number > foreign_int(ids[i - 150])); /* a later millisecond, whatever the partition */
        }
    }
    assert_int_equal(without, 4 * 22);
    model_rows_close(&model);
}

static void test_integers_out_of_range(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "-1", "1.5", "9007199254740992", "18446744073709551616", "abc", " 1"};
    struct id id;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(foreign_int_parse(bytes_str(bad[i]), &id));
    }
    assert_true(foreign_int_parse(BYTES_LIT("9007199254740991"), &id));
    assert_int_equal(foreign_int(id_make(1767225600000, 32, 0)), 0);
    assert_int_equal(foreign_int(id_make(1, 1, 0)), 0);
    assert_true(foreign_int(id_make(1767225600000, 31, 0)) != 0);
    assert_true(foreign_int_unordered(id_make(1767225600000, 16, UINT64_MAX)) < 1ULL << 53);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hex_there_and_back), cmocka_unit_test(test_hex_malformed_is_refused),
        cmocka_unit_test(test_integers_there_and_back), cmocka_unit_test(test_integers_out_of_range)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
