/* Clocks beside each other: who is off, and who is only slow to be heard. */
#include "node/skew.h"
#include "tests/support/test.h"

enum { HOUR_MS = 3600 * 1000 };

/* Two seconds of reports: offset of each node's clock, and how long each message is under way. */
static void hear(struct skew *skew, const int64_t *offsets, size_t len, struct random *random, int64_t *now_ms)
{
    for (int64_t until = *now_ms + 2500; *now_ms < until; *now_ms += 100) {
        for (size_t i = 0; i < len; i++) {
            int64_t delay = (int64_t)below(random, 5) == 0 ? (int64_t)below(random, 900) : 1;
            skew_note(skew, i + 1, *now_ms + offsets[i] - delay, *now_ms, *now_ms);
        }
    }
}

static void test_who_is_off(void **state)
{
    (void)state;
    static const struct {
        int64_t offsets[4];
        size_t len;
        bool off, first_off;
    } table[] = {
        {{0, 0}, 2, false, false},
        {{200, -200}, 2, false, false},
        {{HOUR_MS, HOUR_MS}, 2, true, false},
        {{-HOUR_MS, -HOUR_MS}, 2, true, false},
        {{-400, -400}, 2, true, false},
        {{HOUR_MS, 0}, 2, false, true},
        {{-HOUR_MS, 3}, 2, false, true},
        {{HOUR_MS}, 1, false, false},            /* two clocks: nobody can say */
        {{HOUR_MS, HOUR_MS, 0}, 3, false, true}, /* two against two */
        {{HOUR_MS, HOUR_MS, HOUR_MS, 0}, 4, true, false},
        {{HOUR_MS, 0, 10, 0}, 4, false, true},
    };
    struct random random;
    random_init_seed(&random, test_seed(__func__));
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct skew *skew = skew_new();
        int64_t now_ms = 1000000;
        hear(skew, table[i].offsets, table[i].len, &random, &now_ms);
        assert_int_equal(skew_is_off(skew, now_ms), table[i].off);
        assert_int_equal(skew_is_peer_right(skew, 1, now_ms), !table[i].first_off);
        assert_false(skew_is_peer_right(skew, 99, now_ms)); /* never heard of */
        assert_false(skew_is_off(skew, now_ms + 4000));     /* nobody is heard any more */
        skew_free(skew);
    }
}

/* A node that stood still hears old messages in a heap. */
static void test_late_messages_do_not_count(void **state)
{
    (void)state;
    static const int64_t right[] = {0, 0};
    struct random random;
    struct skew *skew = skew_new();
    int64_t now_ms = 1000000;
    random_init_seed(&random, test_seed(__func__));
    hear(skew, right, 2, &random, &now_ms);
    now_ms += 2900; /* stood still */
    for (int64_t sent = now_ms - 2900; sent < now_ms; sent += 100) {
        skew_note(skew, 1, sent, now_ms, now_ms);
        skew_note(skew, 2, sent, now_ms, now_ms);
        assert_false(skew_is_off(skew, now_ms));
    }
    hear(skew, right, 2, &random, &now_ms);
    assert_false(skew_is_off(skew, now_ms));
    skew_free(skew);
}

/* A node that has just started knows at once that its clock is right, but not that it is wrong. */
static void test_agrees_with_the_first_message(void **state)
{
    (void)state;
    struct skew *skew = skew_new();
    assert_false(skew_agrees(skew, 1000));
    skew_note(skew, 1, 5000000 - HOUR_MS, 5000000, 1000);
    assert_false(skew_agrees(skew, 1000));
    skew_note(skew, 2, 5000000 - 400, 5000000, 1000); /* it was under way for so long */
    assert_false(skew_agrees(skew, 1000));
    skew_note(skew, 2, 5000100 - 20, 5000100, 1100);
    assert_true(skew_agrees(skew, 1100));
    assert_false(skew_agrees(skew, 1100 + 4000));
    skew_free(skew);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_who_is_off),
                                       cmocka_unit_test(test_late_messages_do_not_count),
                                       cmocka_unit_test(test_agrees_with_the_first_message)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
