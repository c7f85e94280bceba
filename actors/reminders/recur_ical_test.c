/* Recurrence beside libical's own iterator: for random rules both must name the same times. Left out is what libical
 * 3.0.16 gets wrong or never ends: BYSETPOS in daily and weekly rules, negative BYMONTHDAY in daily ones, yearly rules
 * by weekday and month day at once. The iterator needs ICU, so it is taken from the shared library at run time. */
#include <dlfcn.h>
#include <libical/ical.h>
#include <stdio.h>

#include "actors/reminders/recur.h"
#include "tests/support/test.h"

enum { RULES = 1000, TIMES = 25, LAST_YEAR = 2120 /* what is a hundred years ahead is not looked for */ };

static struct {
    struct icalrecurrencetype (*parse)(const char *text);
    icalrecur_iterator *(*open)(struct icalrecurrencetype rule, struct icaltimetype start);
    struct icaltimetype (*next)(icalrecur_iterator *iterator);
    void (*close)(icalrecur_iterator *iterator);
    struct icaltimetype (*time)(const char *text);
} ical;

static void *symbol(void *library, const char *name)
{
    void *found = dlsym(library, name);
    assert_non_null(found);
    return found;
}

static int load_libical(void **state)
{
    (void)state;
    void *library = dlopen("libical.so.3", RTLD_NOW | RTLD_LOCAL);
    assert_non_null(library);
    *(void **)&ical.parse = symbol(library, "icalrecurrencetype_from_string");
    *(void **)&ical.open = symbol(library, "icalrecur_iterator_new");
    *(void **)&ical.next = symbol(library, "icalrecur_iterator_next");
    *(void **)&ical.close = symbol(library, "icalrecur_iterator_free");
    *(void **)&ical.time = symbol(library, "icaltime_from_string");
    return 0;
}

/* ---- random rules ---- */

static const char *const days[] = {"SU", "MO", "TU", "WE", "TH", "FR", "SA"};

struct text {
    char s[256];
    size_t len;
};

static void add(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    text->len += (size_t)vsnprintf(text->s + text->len, sizeof text->s - text->len, format, args);
    va_end(args);
    assert_true(text->len < sizeof text->s);
}

static bool chance(struct random *random, unsigned one_in)
{
    return below(random, one_in) == 0;
}

static void add_days(struct text *text, struct random *random, bool numbered)
{
    unsigned from = (unsigned)below(random, 7), count = 1 + (unsigned)below(random, 3);
    add(text, ";BYDAY=");
    for (unsigned i = 0; i < count; i++) {
        int nth = (int)below(random, 4) + 1;
        add(text, i > 0 ? "," : "");
        if (numbered) {
            add(text, "%d", chance(random, 2) ? nth : -nth);
        }
        add(text, "%s", days[(from + i * 2) % 7]);
    }
}

static void add_months(struct text *text, struct random *random)
{
    unsigned first = 1 + (unsigned)below(random, 12);
    add(text, ";BYMONTH=%u", first);
    if (first < 12 && chance(random, 2)) {
        add(text, ",%u", first + 1 + (unsigned)below(random, 12 - first));
    }
}

static void add_month_day(struct text *text, struct random *random, bool negative)
{
    int day = 1 + (int)below(random, 31);
    add(text, ";BYMONTHDAY=%d", negative && chance(random, 2) ? -day : day);
}

static void make_daily(struct text *text, struct random *random)
{
    if (chance(random, 3)) {
        add_days(text, random, false);
    }
    if (chance(random, 3)) {
        add_months(text, random);
    }
    if (chance(random, 3)) {
        add_month_day(text, random, false);
    }
}

static void make_weekly(struct text *text, struct random *random)
{
    add(text, ";WKST=%s", chance(random, 2) ? "SU" : "MO");
    if (chance(random, 2)) {
        add_days(text, random, false);
    }
}

static void make_monthly(struct text *text, struct random *random)
{
    switch (below(random, 4)) {
    case 0: add_month_day(text, random, true); break;
    case 1: add_days(text, random, true); break;
    case 2:
        add_days(text, random, false);
        add(text, ";BYSETPOS=%d", chance(random, 2) ? 1 + (int)below(random, 3) : -1 - (int)below(random, 3));
        break;
    case 3: break;
    }
    if (chance(random, 4)) {
        add_months(text, random);
    }
}

static void make_yearly(struct text *text, struct random *random)
{
    add_months(text, random);
    if (chance(random, 2)) {
        add_month_day(text, random, true);
    } else {
        add_days(text, random, chance(random, 2));
    }
}

static void make_rule(struct text *text, struct random *random)
{
    static const char *const names[] = {"DAILY", "WEEKLY", "MONTHLY", "YEARLY"};
    static void (*const make[])(struct text *, struct random *) = {make_daily, make_weekly, make_monthly, make_yearly};
    size_t freq = below(random, ARRAY_LEN(names));
    *text = (struct text){.len = 0};
    add(text, "FREQ=%s", names[freq]);
    if (chance(random, 2)) {
        add(text, ";INTERVAL=%u", 1 + (unsigned)below(random, 4));
    }
    make[freq](text, random);
    if (chance(random, 3)) {
        add(text, ";COUNT=%u", 1 + (unsigned)below(random, TIMES));
    } else if (chance(random, 3)) {
        add(text, ";UNTIL=20%02u%02u%02uT%02u3000Z", 20 + (unsigned)below(random, 20), 1 + (unsigned)below(random, 12),
            1 + (unsigned)below(random, 28), (unsigned)below(random, 24));
    }
}

/* ---- both beside each other ---- */

static int64_t millis(struct icaltimetype t)
{
    struct tm tm = {.tm_year = t.year - 1900,
                    .tm_mon = t.month - 1,
                    .tm_mday = t.day,
                    .tm_hour = t.hour,
                    .tm_min = t.minute,
                    .tm_sec = t.second};
    return (int64_t)timegm(&tm) * 1000;
}

/* The first time at or after a random one that the rule itself names: there the two agree on what begins. */
static bool first_named(const struct text *rule, struct random *random, struct icaltimetype *out)
{
    char start[32];
    (void)snprintf(start, sizeof start, "20%02u%02u%02uT%02u3000Z", 20 + (unsigned)below(random, 10),
                   1 + (unsigned)below(random, 12), 1 + (unsigned)below(random, 28), (unsigned)below(random, 24));
    icalrecur_iterator *iterator = ical.open(ical.parse(rule->s), ical.time(start));
    if (iterator == NULL) {
        return false; /* it sees at once that the rule names nothing: 30 February */
    }
    *out = ical.next(iterator);
    ical.close(iterator);
    return out->year != 0;
}

static unsigned compare(const struct text *rule, struct icaltimetype start)
{
    icalrecur_iterator *iterator = ical.open(ical.parse(rule->s), start);
    struct bytes text = bytes_of(rule->s, rule->len);
    int64_t begin = millis(start), at = begin - 1;
    unsigned times = 0;
    for (; times < TIMES; times++) {
        struct icaltimetype theirs = ical.next(iterator);
        bool any = recur_next(text, BYTES_NONE, begin, at, &at);
        if (theirs.year == 0 || theirs.year > LAST_YEAR) {
            assert_true(!any || theirs.year > LAST_YEAR);
            break;
        }
        if (!any || at != millis(theirs)) {
            print_error("%s from %lld: the %u. is %lld here and %lld there\n", rule->s, (long long)begin, times + 1,
                        any ? (long long)at : -1, (long long)millis(theirs));
        }
        assert_true(any);
        assert_int_equal(at, millis(theirs));
    }
    ical.close(iterator);
    return times;
}

static void test_random_rules_agree_with_libical(void **state)
{
    (void)state;
    struct random random;
    unsigned compared = 0;
    random_init_seed(&random, test_seed(__func__));
    for (int i = 0; i < RULES; i++) {
        struct text rule;
        struct icaltimetype start;
        make_rule(&rule, &random);
        assert_null(recur_refusal(bytes_of(rule.s, rule.len)));
        if (first_named(&rule, &random, &start)) {
            compared += compare(&rule, start);
        }
    }
    assert_true(compared > RULES * 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_rules_agree_with_libical)};
    return cmocka_run_group_tests(tests, load_libical, NULL);
}
