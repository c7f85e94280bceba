/* Small parts: each against a naive model or a table of known answers. */
#include "node/base/crc32c.h"
#include "node/base/id.h"
#include "node/base/json_text.h"
#include "node/base/map.h"
#include "node/base/text.h"
#include "node/base/timers.h"
#include "node/base/when.h"
#include "tests/support/test.h"

static void test_crc32c_known_answers_and_both_ways_agree(void **state)
{
    (void)state;
    uint8_t data[1000];
    struct random random;
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283U); /* RFC 3720's check value */
    random_init_seed(&random, test_seed(__func__));
    random_fill(&random, data, sizeof data);
    for (size_t i = 0; i < 500; i++) {
        size_t from = below(&random, 100), len = below(&random, 900), cut = below(&random, len + 1);
        uint32_t whole = crc32c_table(0, data + from, len);
        assert_int_equal(crc32c(0, data + from, len), whole);
        assert_int_equal(crc32c(crc32c(0, data + from, cut), data + from + cut, len - cut), whole);
    }
}

static void test_id_holds_its_parts_and_sorts_by_time(void **state)
{
    (void)state;
    char text[ID_TEXT_BYTES];
    struct id id = id_make(0x0123456789ab, 4095, UINT64_MAX), back;
    id_format(id, text);
    assert_memory_equal(text, "01234567-89ab-8fff-bfff-ffffffffffff", sizeof text);
    assert_true(id_parse(bytes_of(text, sizeof text), &back) && id_eq(id, back));
    assert_int_equal(id_ms(id), 0x0123456789ab);
    assert_int_equal(id_partition(id), 4095);
    struct id later = id_make(0x0123456789ac, 0, 0);
    assert_true(memcmp(id.b, later.b, sizeof id.b) < 0);
    static const char *const bad[] = {"",
                                      "01234567-89ab-8fff-bfff-fffffffffff",
                                      "01234567-89ab-7fff-bfff-ffffffffffff",
                                      "01234567-89ab-8fff-ffff-ffffffffffff",
                                      "0123456789ab-8fff-bfff-ffffffffffff-",
                                      "01234567-89ab-8fff-bfff-fffffffffffg"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(id_parse(bytes_str(bad[i]), &back));
    }
}

static void test_when_round_trips_and_knows_rfc3339(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"1970-01-01T00:00:00Z", 0},
                {"1970-01-01T00:00:00.001Z", 1},
                {"2000-02-29T12:00:00+01:30", 951820200000},
                {"1969-12-31T23:59:59.999Z", -1},
                {"9999-12-31T23:59:59.999Z", 253402300799999},
                {"2016-12-31T23:59:60Z", 1483228799999},
                {"2026-11-21t07:06:00.123456789z", 1795244760123}};
    static const char *const bad[] = {"",
                                      "2026-11-21",
                                      "2026-11-21T07:06:00",
                                      "2026-13-01T00:00:00Z",
                                      "2026-02-29T00:00:00Z",
                                      "2026-11-21T24:00:00Z",
                                      "2026-11-21T07:06:00+25:00",
                                      "2026-11-21T07:06:00.Z",
                                      "2026-11-21T07:06:00Zx",
                                      "+026-11-21T07:06:00Z",
                                      "2026-11-21 07:06:00Z",
                                      "0000-01-01T00:00:00+23:59"};
    int64_t ms;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(when_parse(bytes_str(good[i].text), &ms));
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(when_parse(bytes_str(bad[i]), &ms));
    }
    struct random random;
    random_init_seed(&random, test_seed(__func__));
    for (int i = 0; i < 10000; i++) {
        char text[WHEN_TEXT_BYTES];
        int64_t want = (int64_t)below(&random, 315569519999999) - 62167219200000;
        when_format(want, text);
        assert_true(when_parse(bytes_of(text, sizeof text), &ms));
        assert_int_equal(ms, want);
    }
    char http[WHEN_HTTP_BYTES];
    when_format_http(784111777000, http);
    assert_memory_equal(http, "Sun, 06 Nov 1994 08:49:37 GMT", sizeof http);
}

struct item {
    uint64_t key;
    bool in;
    struct timer timer;
    int64_t due;
};

static bool item_eq(const void *item, const void *key)
{
    return ((const struct item *)item)->key == *(const uint64_t *)key;
}

static void test_map_behaves_as_a_set(void **state)
{
    (void)state;
    struct random random;
    struct map map;
    struct item items[300] = {0};
    random_init_seed(&random, test_seed(__func__));
    map_init(&map, item_eq);
    for (int step = 0; step < 20000; step++) {
        struct item *item = &items[below(&random, ARRAY_LEN(items))];
        item->key = (uint64_t)(item - items);
        uint64_t hash = item->key % 17; /* crowded on purpose */
        assert_ptr_equal(map_find(&map, hash, &item->key), item->in ? item : NULL);
        if (item->in) {
            map_remove(&map, hash, item);
        } else {
            map_add(&map, hash, item);
        }
        item->in = !item->in;
    }
    size_t count = 0, at = 0, want = 0;
    while (map_next(&map, &at) != NULL) {
        count++;
    }
    for (size_t i = 0; i < ARRAY_LEN(items); i++) {
        want += items[i].in;
    }
    assert_int_equal(count, want);
    map_close(&map);
}

static int64_t fired_due;
static void on_fire(struct timer *timer)
{
    struct item *item = container_of(timer, struct item, timer);
    assert_true(item->in && item->due >= fired_due);
    fired_due = item->due;
    item->in = false;
}

static void test_timers_fire_in_order_and_once(void **state)
{
    (void)state;
    struct random random;
    struct timers timers = {0};
    struct item items[200] = {0};
    int64_t now = 0;
    random_init_seed(&random, test_seed(__func__));
    for (int step = 0; step < 5000; step++) {
        struct item *item = &items[below(&random, ARRAY_LEN(items))];
        item->timer.fire = on_fire;
        if (below(&random, 3) == 0) {
            timers_clear(&timers, &item->timer);
            item->in = false;
        } else {
            item->due = now + (int64_t)below(&random, 100);
            timers_set(&timers, &item->timer, item->due);
            item->in = true;
        }
        if (below(&random, 10) == 0) {
            now += (int64_t)below(&random, 50);
            fired_due = 0;
            timers_run(&timers, now);
            for (size_t i = 0; i < ARRAY_LEN(items); i++) {
                assert_true(!items[i].in || items[i].due > now);
            }
        }
    }
    timers_close(&timers);
}

static void test_text(void **state)
{
    (void)state;
    struct buf out = {0};
    assert_int_equal(text_utf8_prefix(BYTES_LIT("ab\xc3\xa4\xff")), 4);
    assert_int_equal(text_utf8_prefix(BYTES_LIT("\xed\xa0\x80")), 0); /* a surrogate */
    assert_int_equal(text_utf8_prefix(BYTES_LIT("\xc0\x80")), 0);     /* overlong */
    assert_int_equal(text_utf8_prefix(BYTES_LIT("\xf4\x90\x80\x80")), 0);
    assert_true(text_fold(BYTES_LIT("Stra\xc3\x9f\x65 \xe2\x84\xab"), &out));
    assert_true(bytes_is(buf_bytes(&out), "strasse \xc3\xa5"));
    out.len = 0;
    json_text_add_safe(&out, BYTES_LIT("a\"\\\n\x01\xff\xc3\xa4"));
    assert_true(bytes_is(buf_bytes(&out), "\"a\\\"\\\\\\n\\u0001\xef\xbf\xbd\xc3\xa4\""));
    uint64_t number;
    assert_true(text_parse_u64(BYTES_LIT("18446744073709551615"), &number) && number == UINT64_MAX);
    assert_false(text_parse_u64(BYTES_LIT("18446744073709551616"), &number));
    assert_false(text_parse_u64(BYTES_LIT("-1"), &number) || text_parse_u64(BYTES_NONE, &number));
    uint8_t raw[8];
    size_t len;
    assert_true(text_base64url_decode(BYTES_LIT("_-8"), raw, sizeof raw, &len) && len == 2 && raw[0] == 0xff);
    assert_false(text_base64url_decode(BYTES_LIT("_-9"), raw, sizeof raw, &len)); /* not canonical */
    assert_false(text_base64url_decode(BYTES_LIT("_-8="), raw, sizeof raw, &len));
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c_known_answers_and_both_ways_agree),
        cmocka_unit_test(test_id_holds_its_parts_and_sorts_by_time),
        cmocka_unit_test(test_when_round_trips_and_knows_rfc3339),
        cmocka_unit_test(test_map_behaves_as_a_set),
        cmocka_unit_test(test_timers_fire_in_order_and_once),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
