#include "tests/support/test.h"

#include <time.h>

#include "actors/reminders/recur.h"
#include "actors/reminders/series.h"
#include "actors/reminders/zone.h"
#include "node/base/when.h"
#include "node/limits.h"

static int64_t ms_of(const char *text)
{
    char full[40];
    int64_t ms;
    snprintf(full, sizeof full, "%s:00Z", text);
    assert_true(when_parse(bytes_str(full), &ms));
    return ms;
}

/* What comes from just before the beginning on, as "2026-01-30T09:00 ..."; UTC. */
static void expect_series(const char *rule, const char *zone, const char *start, const char *want)
{
    char got[600] = "";
    int64_t start_ms = ms_of(start), after = start_ms - 1;
    size_t words = 1;
    assert_null(recur_refusal(bytes_str(rule)));
    for (const char *p = want; *p != 0; p++) {
        words += *p == ' ';
    }
    for (size_t i = 0; i < words; i++) {
        char text[WHEN_TEXT_BYTES];
        if (!recur_next(bytes_str(rule), bytes_str(zone), start_ms, after, &after)) {
            strcat(got, i > 0 ? " end" : "end");
            break;
        }
        when_format(after, text);
        sprintf(got + strlen(got), "%s%.16s", i > 0 ? " " : "", text);
    }
    if (strcmp(got, want) != 0) {
        fail_msg("%s in %s from %s\n got  %s\n want %s", rule, zone, start, got, want);
    }
}

static const char NEW_YORK[] = "America/New_York", PARIS[] = "Europe/Paris", LORD_HOWE[] = "Australia/Lord_Howe";

static void test_days_of_the_month_and_year(void **state)
{
    (void)state;
    expect_series("FREQ=MONTHLY;BYDAY=-1FR", "", "2026-01-30T09:00",
                  "2026-01-30T09:00 2026-02-27T09:00 2026-03-27T09:00 2026-04-24T09:00");
    expect_series("FREQ=YEARLY", "", "2024-02-29T12:00", "2024-02-29T12:00 2028-02-29T12:00 2032-02-29T12:00");
    expect_series("FREQ=YEARLY", "", "2096-02-29T12:00", "2096-02-29T12:00 2104-02-29T12:00"); /* 2100 has none */
    expect_series("FREQ=MONTHLY", "", "2026-01-31T08:00",
                  "2026-01-31T08:00 2026-03-31T08:00 2026-05-31T08:00 2026-07-31T08:00 2026-08-31T08:00");
    expect_series("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", "", "2026-01-30T17:00",
                  "2026-01-30T17:00 2026-02-27T17:00 2026-03-31T17:00 2026-04-30T17:00 2026-05-29T17:00");
    expect_series("FREQ=DAILY;BYMONTHDAY=-1", "", "2026-01-31T08:00",
                  "2026-01-31T08:00 2026-02-28T08:00 2026-03-31T08:00");
    expect_series("FREQ=YEARLY;BYYEARDAY=-1,100", "", "2024-04-09T08:00",
                  "2024-04-09T08:00 2024-12-31T08:00 2025-04-10T08:00 2025-12-31T08:00");
    expect_series("FREQ=YEARLY;BYDAY=20MO", "", "1997-05-19T13:00",
                  "1997-05-19T13:00 1998-05-18T13:00 1999-05-17T13:00");
    expect_series("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "", "2026-01-01T00:00", "2026-01-01T00:00 end");
}

/* Examples of RFC 5545 section 3.8.5.3; 09:00 in New York. */
static void test_examples_of_the_rfc(void **state)
{
    (void)state;
    expect_series("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO", NEW_YORK, "1997-08-05T13:00",
                  "1997-08-05T13:00 1997-08-10T13:00 1997-08-19T13:00 1997-08-24T13:00 end");
    expect_series("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU", NEW_YORK, "1997-08-05T13:00",
                  "1997-08-05T13:00 1997-08-17T13:00 1997-08-19T13:00 1997-08-31T13:00 end");
    expect_series("FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO", NEW_YORK, "1997-05-12T13:00",
                  "1997-05-12T13:00 1998-05-11T13:00 1999-05-17T13:00");
    expect_series("FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8", NEW_YORK, "1996-11-05T14:00",
                  "1996-11-05T14:00 2000-11-07T14:00 2004-11-02T14:00");
    expect_series("FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", NEW_YORK, "1997-09-04T13:00",
                  "1997-09-04T13:00 1997-10-07T13:00 1997-11-06T14:00 end");
    expect_series("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13\nEXDATE;TZID=America/New_York:19970902T090000", NEW_YORK,
                  "1997-09-02T13:00", "1998-02-13T14:00 1998-03-13T14:00 1998-11-13T14:00 1999-08-13T13:00");
    expect_series("FREQ=MONTHLY;INTERVAL=18;COUNT=5;BYMONTHDAY=10,11,12", NEW_YORK, "1997-09-10T13:00",
                  "1997-09-10T13:00 1997-09-11T13:00 1997-09-12T13:00 1999-03-10T14:00 1999-03-11T14:00 end");
}

static void test_a_skipped_time_is_taken_with_the_offset_before(void **state)
{
    (void)state;
    expect_series("FREQ=DAILY", NEW_YORK, "2026-03-07T07:30", "2026-03-07T07:30 2026-03-08T07:30 2026-03-09T06:30");
    expect_series("FREQ=DAILY", PARIS, "2026-03-28T01:30", "2026-03-28T01:30 2026-03-29T01:30 2026-03-30T00:30");
    /* Half an hour: 02:15 rings at 02:45, and so behind 02:35. */
    expect_series("FREQ=DAILY", LORD_HOWE, "2026-10-02T15:45", "2026-10-02T15:45 2026-10-03T15:45 2026-10-04T15:15");
    expect_series("FREQ=DAILY;BYHOUR=2;BYMINUTE=15,35", LORD_HOWE, "2026-10-02T15:45",
                  "2026-10-02T15:45 2026-10-02T16:05 2026-10-03T15:35 2026-10-03T15:45 2026-10-04T15:15");
    /* A whole day: Apia went over the date line and had no 30 December 2011. */
    expect_series("FREQ=DAILY", "Pacific/Apia", "2011-12-28T20:00",
                  "2011-12-28T20:00 2011-12-29T20:00 2011-12-30T20:00 2011-12-31T20:00");
}

static void test_a_time_that_comes_twice_is_the_first(void **state)
{
    (void)state;
    expect_series("FREQ=DAILY", NEW_YORK, "2026-10-31T05:30", "2026-10-31T05:30 2026-11-01T05:30 2026-11-02T06:30");
    expect_series("FREQ=DAILY", LORD_HOWE, "2026-04-03T14:45", "2026-04-03T14:45 2026-04-04T14:45 2026-04-05T15:15");
    /* A series that begins in the second one. */
    expect_series("FREQ=DAILY", NEW_YORK, "2026-11-01T06:30", "2026-11-01T06:30 2026-11-02T06:30");
}

static void test_hours_go_by_the_wall_clock(void **state)
{
    (void)state;
    expect_series("FREQ=HOURLY", NEW_YORK, "2026-03-08T05:30",
                  "2026-03-08T05:30 2026-03-08T06:30 2026-03-08T07:30 2026-03-08T08:30");
    expect_series("FREQ=HOURLY", NEW_YORK, "2026-11-01T04:30",
                  "2026-11-01T04:30 2026-11-01T05:30 2026-11-01T07:30 2026-11-01T08:30");
    expect_series("FREQ=HOURLY;INTERVAL=7", "", "2026-01-01T20:00",
                  "2026-01-01T20:00 2026-01-02T03:00 2026-01-02T10:00 2026-01-02T17:00 2026-01-03T00:00");
    expect_series("FREQ=HOURLY;INTERVAL=50", "", "2026-01-01T20:00",
                  "2026-01-01T20:00 2026-01-03T22:00 2026-01-06T00:00");
}

static void test_zones_without_a_change_and_far_years(void **state)
{
    (void)state;
    expect_series("FREQ=WEEKLY", "Asia/Kolkata", "2026-03-25T03:30", "2026-03-25T03:30 2026-04-01T03:30");
    expect_series("FREQ=MONTHLY;INTERVAL=6", PARIS, "2500-01-01T11:00", "2500-01-01T11:00 2500-07-01T10:00");
    expect_series("FREQ=MONTHLY;INTERVAL=6", "America/St_Johns", "2090-01-01T15:30",
                  "2090-01-01T15:30 2090-07-01T14:30");
    expect_series("FREQ=YEARLY;INTERVAL=100", PARIS, "1850-06-01T12:00", "1850-06-01T12:00 1950-06-01T11:09");
    expect_series("FREQ=YEARLY", "", "9998-06-01T12:00", "9998-06-01T12:00 9999-06-01T12:00 end");
}

static void test_until_is_inclusive(void **state)
{
    (void)state;
    const char *two = "2026-03-07T14:00 2026-03-08T13:00 end", *one = "2026-03-07T14:00 end";
    expect_series("FREQ=DAILY;UNTIL=20260308T130000Z", NEW_YORK, "2026-03-07T14:00", two);
    expect_series("FREQ=DAILY;UNTIL=20260308T125959Z", NEW_YORK, "2026-03-07T14:00", one);
    expect_series("FREQ=DAILY;UNTIL=20260308T090000", NEW_YORK, "2026-03-07T14:00", two);
    expect_series("FREQ=DAILY;UNTIL=20260308T085959", NEW_YORK, "2026-03-07T14:00", one);
    expect_series("FREQ=DAILY;UNTIL=20260308", NEW_YORK, "2026-03-07T14:00", two);
    expect_series("FREQ=DAILY;UNTIL=20260307", NEW_YORK, "2026-03-07T14:00", one);
    expect_series("FREQ=DAILY;UNTIL=20200101", NEW_YORK, "2026-03-07T14:00", one); /* the first comes all the same */
}

static void test_count_has_the_first_in_it(void **state)
{
    (void)state;
    expect_series("FREQ=DAILY;COUNT=3", "", "2026-01-01T09:00",
                  "2026-01-01T09:00 2026-01-02T09:00 2026-01-03T09:00 end");
    expect_series("FREQ=DAILY;COUNT=1", "", "2026-01-01T09:00", "2026-01-01T09:00 end");
    /* A beginning on a Wednesday, in a rule of Mondays. */
    expect_series("FREQ=WEEKLY;BYDAY=MO;COUNT=3", "", "2026-01-07T10:00",
                  "2026-01-07T10:00 2026-01-12T10:00 2026-01-19T10:00 end");
    expect_series("FREQ=WEEKLY;BYDAY=MO", "", "2026-01-07T10:00", "2026-01-07T10:00 2026-01-12T10:00");
}

static void test_excluded_times_and_days(void **state)
{
    (void)state;
    const char *want = "2026-03-07T14:00 2026-03-09T13:00";
    expect_series("RRULE:FREQ=DAILY\r\nEXDATE:20260308T090000\r\n", NEW_YORK, "2026-03-07T14:00", want);
    expect_series("EXDATE:20260308T130000Z\nRRULE:FREQ=DAILY", NEW_YORK, "2026-03-07T14:00", want);
    expect_series("FREQ=DAILY\nEXDATE;VALUE=DATE:20260308", NEW_YORK, "2026-03-07T14:00", want);
    expect_series("FREQ=DAILY\nEXDATE;TZID=Europe/Paris:20260308T140000", NEW_YORK, "2026-03-07T14:00", want);
    /* The local day, not UTC's: 22:00 on the 7th in New York is the 8th in UTC. */
    expect_series("FREQ=DAILY\nEXDATE;VALUE=DATE:20260307", NEW_YORK, "2026-03-07T03:00",
                  "2026-03-07T03:00 2026-03-09T02:00");
    /* What is excluded counts for COUNT; the first may be excluded too. */
    expect_series("FREQ=DAILY;COUNT=3\nEXDATE:20260101T090000Z,20260102T090000Z", "", "2026-01-01T09:00",
                  "2026-01-03T09:00 end");
}

static void test_milliseconds_and_what_is_behind(void **state)
{
    int64_t out, start = ms_of("2026-01-01T09:00") + 250;
    struct bytes daily = BYTES_LIT("FREQ=DAILY");
    (void)state;
    assert_true(recur_next(daily, BYTES_NONE, start, start, &out));
    assert_int_equal(out, start + 86400000);
    assert_true(recur_next(daily, BYTES_NONE, start, start + 86399999, &out));
    assert_int_equal(out, start + 86400000);
    assert_true(recur_next(daily, BYTES_NONE, start, start + 86400000, &out));
    assert_int_equal(out, start + 2 * 86400000);
}

static void test_times_out_of_range_have_no_occurrence(void **state)
{
    int64_t out, now = ms_of("2026-01-01T09:00");
    static const int64_t far[] = {INT64_MIN, INT64_MIN + 1, -62135596800000, 253402300799999, INT64_MAX};
    static const char *const zones[] = {"", "Europe/Paris", "Pacific/Apia"};
    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(far); i++) {
        for (unsigned j = 0; j < ARRAY_LEN(zones); j++) {
            struct bytes rule = BYTES_LIT("FREQ=HOURLY"), zone = bytes_str(zones[j]);
            assert_false(recur_next(rule, zone, far[i], now, &out));
            assert_int_equal(recur_next(rule, zone, now, far[i], &out), far[i] < now);
        }
    }
    assert_true(recur_next(BYTES_LIT("FREQ=YEARLY"), BYTES_NONE, ms_of("1066-10-14T09:00"), now, &out));
    assert_int_equal(out, ms_of("2026-10-14T09:00"));
    assert_int_equal(recur_next(BYTES_LIT("FREQ=DAILY"), BYTES_LIT("Mars/Olympus"), now, now - 1, &out), RECUR_UNKNOWN);
}

static void test_what_is_no_recurrence_is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "\n",
                                      "DAILY",
                                      "FREQ",
                                      "FREQ=",
                                      "FREQ=DAILY;",
                                      ";FREQ=DAILY",
                                      "FREQ=DAILY;;COUNT=1",
                                      "FREQ=FORTNIGHTLY",
                                      "FREQ=MINUTELY",
                                      "FREQ=SECONDLY",
                                      "INTERVAL=2",
                                      "FREQ=DAILY;FREQ=DAILY",
                                      "FREQ=DAILY;INTERVAL=0",
                                      "FREQ=DAILY;INTERVAL=-1",
                                      "FREQ=DAILY;INTERVAL=32768",
                                      "FREQ=DAILY;INTERVAL=99999999999999999999",
                                      "FREQ=DAILY;COUNT=0",
                                      "FREQ=DAILY;COUNT=3x",
                                      "FREQ=DAILY;COUNT=2;UNTIL=20260101",
                                      "FREQ=DAILY;UNTIL=2026",
                                      "FREQ=DAILY;UNTIL=20260230",
                                      "FREQ=DAILY;UNTIL=20260101T250000Z",
                                      "FREQ=DAILY;UNTIL=20260101T0000000",
                                      "FREQ=DAILY;UNTIL=00000101",
                                      "FREQ=WEEKLY;BYDAY=",
                                      "FREQ=WEEKLY;BYDAY=XX",
                                      "FREQ=WEEKLY;BYDAY=MO,",
                                      "FREQ=WEEKLY;BYDAY=1MO",
                                      "FREQ=MONTHLY;BYDAY=0MO",
                                      "FREQ=YEARLY;BYDAY=54MO",
                                      "FREQ=YEARLY;BYWEEKNO=1;BYDAY=1MO",
                                      "FREQ=YEARLY;BYMONTH=13",
                                      "FREQ=YEARLY;BYMONTH=0",
                                      "FREQ=YEARLY;BYMONTH=5L",
                                      "FREQ=DAILY;BYHOUR=24",
                                      "FREQ=DAILY;BYHOUR=-1",
                                      "FREQ=DAILY;BYSECOND=60",
                                      "FREQ=MONTHLY;BYMONTHDAY=32",
                                      "FREQ=MONTHLY;BYMONTHDAY=0",
                                      "FREQ=WEEKLY;BYMONTHDAY=1",
                                      "FREQ=MONTHLY;BYYEARDAY=1",
                                      "FREQ=MONTHLY;BYWEEKNO=1",
                                      "FREQ=YEARLY;BYYEARDAY=367",
                                      "FREQ=YEARLY;BYWEEKNO=54",
                                      "FREQ=DAILY;BYSETPOS=1",
                                      "FREQ=HOURLY;BYMINUTE=1,2;BYSETPOS=1",
                                      "FREQ=YEARLY;BYMONTH=1;BYSETPOS=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17",
                                      "FREQ=HOURLY;BYMINUTE=1,2,3,4,5",
                                      "FREQ=DAILY;BYMINUTE=1,2;BYSECOND=1,2,3",
                                      "RSCALE=GREGORIAN;FREQ=DAILY",
                                      "FREQ=DAILY;SKIP=OMIT",
                                      "FREQ=DAILY;X-SPECIAL=1",
                                      "RRULE:FREQ=DAILY\nRRULE:FREQ=DAILY",
                                      "EXDATE:20260101T090000",
                                      "RDATE:20260101T090000",
                                      "RRULE;X=1:FREQ=DAILY",
                                      "FREQ=DAILY\n\nEXDATE:20260101T090000",
                                      "FREQ=DAILY\nEXDATE:20260101",
                                      "FREQ=DAILY\nEXDATE;VALUE=DATE:20260101T090000",
                                      "FREQ=DAILY\nEXDATE;TZID=No/Where:20260101T090000",
                                      "FREQ=DAILY\nEXDATE;TZID=../../etc/passwd:20260101T090000",
                                      "FREQ=DAILY\nEXDATE:",
                                      "FREQ=DAILY\nEXDATE",
                                      "FREQ=DAILY\nEXDATE;FOO=1:20260101T090000",
                                      "FREQ=DA\xc3\xa4LY",
                                      "FREQ=DAILY\t",
                                      "freq =DAILY"};
    char *big = mem_alloc(LIMIT_RECURRENCE_BYTES + 1);
    struct bytes zero = BYTES_LIT("FREQ=DAILY\0");
    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        if (recur_refusal(bytes_str(bad[i])) == NULL) {
            fail_msg("taken: %s", bad[i]);
        }
    }
    assert_non_null(recur_refusal(zero));
    memset(big, '0', LIMIT_RECURRENCE_BYTES + 1);
    memcpy(big, "FREQ=DAILY;COUNT=", 17);
    big[LIMIT_RECURRENCE_BYTES] = '1';
    assert_non_null(recur_refusal(bytes_of(big, LIMIT_RECURRENCE_BYTES + 1)));
    big[LIMIT_RECURRENCE_BYTES - 1] = '1';
    assert_null(recur_refusal(bytes_of(big, LIMIT_RECURRENCE_BYTES)));
    assert_null(recur_refusal(BYTES_LIT("freq=weekly;byday=mo,we;until=20260101t000000z")));
    free(big);
}

static void test_zones_are_those_of_the_database(void **state)
{
    static const char *const bad[] = {"",
                                      "/",
                                      "Europe",
                                      "Europe/",
                                      "/etc/passwd",
                                      "../zoneinfo/Europe/Paris",
                                      "Europe//Paris",
                                      "Europe/../Europe/Paris",
                                      "Europe/Paris ",
                                      "tzdata.zi",
                                      "zone.tab",
                                      "leapseconds",
                                      "localtime",
                                      "posixrules",
                                      "right/Europe/Paris",
                                      "posix/Europe/Paris",
                                      "Mars/Olympus"};
    static const char *const good[] = {
        "Europe/Paris", "UTC", "Etc/GMT+5", "America/Argentina/Buenos_Aires", "EST5EDT", "America/Port-au-Prince"};
    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(zone_is_known(bytes_str(bad[i])));
    }
    for (unsigned i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(zone_is_known(bytes_str(good[i])));
    }
    assert_false(zone_is_known(BYTES_LIT("Europe/Paris\0")));
}

/* The C library reads the same files by code of its own. */
static void test_zones_agree_with_the_c_library(void **state)
{
    static const char *const zones[] = {"Europe/Paris",        "Europe/Dublin",     "America/St_Johns",
                                        "Australia/Lord_Howe", "Africa/Casablanca", "Africa/Cairo",
                                        "America/Nuuk",        "Asia/Gaza",         "Pacific/Apia",
                                        "America/Asuncion",    "Antarctica/Troll",  "Asia/Kathmandu"};
    struct random random;
    random_init_seed(&random, test_seed("zones"));
    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(zones); i++) {
        struct zone *zone = zone_open(bytes_str(zones[i]));
        assert_non_null(zone);
        setenv("TZ", zones[i], 1);
        tzset();
        for (int n = 0; n < 2000; n++) {
            time_t utc = (time_t)below(&random, 16725225600) - 1000000000; /* 1938 to 2468 */
            struct tm tm;
            localtime_r(&utc, &tm);
            struct zone_span span = zone_span(zone, utc);
            assert_int_equal(span.offset, tm.tm_gmtoff);
            assert_true(span.from <= utc && utc < span.until);
            assert_true(utc >= zone_utc(zone, zone_local(zone, utc))); /* the first of two */
        }
        zone_free(zone);
    }
    unsetenv("TZ");
    tzset();
}

/* ---- against a model: every hour from the beginning on is asked, by other means, whether the rule names it ---- */

struct model {
    enum freq freq;
    int interval, week_start, month, month_day, weekday, nth, position, hour;
    char text[200];
};

static void make_model(struct random *random, struct model *m)
{
    static const char *const freqs[] = {"", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"};
    static const char *const weekdays[] = {"MO", "TU", "WE", "TH", "FR", "SA", "SU"};
    *m = (struct model){.freq = HOURLY + (enum freq)below(random, 5),
                        .interval = 1 + (int)below(random, 5),
                        .hour = -1,
                        .week_start = (int)below(random, 7),
                        .weekday = -1};
    int at = sprintf(m->text, "FREQ=%s;INTERVAL=%d;WKST=%s", freqs[m->freq], m->interval, weekdays[m->week_start]);
    if (below(random, 2) == 0) {
        m->month = 1 + (int)below(random, 12);
        at += sprintf(m->text + at, ";BYMONTH=%d", m->month);
    }
    if (m->freq != WEEKLY && below(random, 2) == 0) {
        m->month_day = (int)below(random, 31) + 1;
        m->month_day = below(random, 2) == 0 ? m->month_day : -m->month_day;
        at += sprintf(m->text + at, ";BYMONTHDAY=%d", m->month_day);
    }
    if (below(random, 2) == 0) {
        m->weekday = (int)below(random, 7);
        m->nth = m->freq >= MONTHLY && below(random, 2) == 0 ? (int)below(random, 5) + 1 : 0;
        m->nth = below(random, 2) == 0 ? m->nth : -m->nth;
        at += m->nth != 0 ? sprintf(m->text + at, ";BYDAY=%d%s", m->nth, weekdays[m->weekday])
                          : sprintf(m->text + at, ";BYDAY=%s", weekdays[m->weekday]);
    }
    if (below(random, 3) == 0) {
        m->hour = (int)below(random, 24);
        sprintf(m->text + at, ";BYHOUR=%d", m->hour);
    }
}

static int model_weekday(int64_t day)
{
    return (int)((day + 719162) % 7); /* 0001-01-01 was a Monday */
}

/* Counts the weekday's days in the month or the year, on this side of the day. */
static bool model_nth(const struct model *m, int64_t day, struct civil date)
{
    int step = m->nth > 0 ? -1 : 1, count = 0;
    for (int64_t d = day;; d += step) {
        struct civil c = civil_of(d);
        if (c.year != date.year || (c.month != date.month && (m->freq == MONTHLY || m->month != 0))) {
            return count == abs(m->nth);
        }
        count += model_weekday(d) == m->weekday;
    }
}

static int64_t model_unit(const struct model *m, int64_t hour)
{
    int64_t day = hour / 24;
    struct civil date = civil_of(day);
    switch (m->freq) {
    case HOURLY: return hour;
    case DAILY: return day;
    case WEEKLY:
        while (model_weekday(day) != m->week_start) {
            day--;
        }
        return (day + 719162) / 7;
    case MONTHLY: return date.year * 12 + date.month;
    default: return date.year;
    }
}

static bool model_has(const struct model *m, int64_t start, int64_t hour)
{
    struct civil date = civil_of(hour / 24), first = civil_of(start / 24);
    bool open = m->month_day == 0 && m->weekday < 0;
    int back = date.day - civil_month_days(date) - 1;
    if ((model_unit(m, hour) - model_unit(m, start)) % m->interval != 0) {
        return false;
    }
    if (m->freq != HOURLY || m->hour >= 0) {
        if (hour % 24 != (m->hour >= 0 ? m->hour : start % 24)) {
            return false;
        }
    }
    if (m->month != 0 ? date.month != m->month : m->freq == YEARLY && open && date.month != first.month) {
        return false;
    }
    if (m->month_day != 0 ? date.day != m->month_day && back != m->month_day
                          : m->freq >= MONTHLY && open && date.day != first.day) {
        return false;
    }
    if (m->weekday < 0) {
        return m->freq != WEEKLY || model_weekday(hour / 24) == model_weekday(start / 24);
    }
    return model_weekday(hour / 24) == m->weekday && (m->nth == 0 || model_nth(m, hour / 24, date));
}

static void test_random_rules_agree_with_a_model(void **state)
{
    struct random random;
    (void)state;
    random_init_seed(&random, test_seed("rules"));
    for (int n = 0; n < 400; n++) {
        struct model m;
        struct rule rule;
        struct series series;
        make_model(&random, &m);
        assert_null(rule_parse(bytes_str(m.text), &rule));
        int64_t start = 20000 * 24 + (int64_t)below(&random, 24 * 2000),
                from = start + (int64_t)below(&random, 24 * 700);
        int64_t want = from, got;
        rule.count = below(&random, 2) == 0 ? 1000000 : 0; /* both ways of getting to from */
        series_open(&series, &rule, start * 3600 + 61, from * 3600);
        for (int hits = 0; hits < 20 && want < from + 24 * 365 * 3; want++) {
            if (want > start && model_has(&m, start, want)) {
                hits++;
                if (!series_next(&series, &got) || got != want * 3600 + 61) {
                    fail_msg("%s from %lld: want %lld, got %lld", m.text, (long long)start, (long long)want,
                             (long long)(got / 3600));
                }
            }
        }
    }
}

/* ---- cost ---- */

/* Days looked at until there is an occurrence behind from, or the answer that there is none. */
static unsigned days_looked(const char *text, const char *start, const char *from)
{
    struct rule rule;
    struct series series;
    int64_t local;
    assert_null(rule_parse(bytes_str(text), &rule));
    series_open(&series, &rule, ms_of(start) / 1000, ms_of(from) / 1000);
    series_next(&series, &local);
    return series.days_looked;
}

static void test_cost_is_bounded(void **state)
{
    static const char *const endless[] = {
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30;BYHOUR=3",
        "FREQ=YEARLY;BYMONTH=4;BYMONTHDAY=31",
        "FREQ=YEARLY;BYWEEKNO=1;BYMONTH=7",
        "FREQ=YEARLY;BYYEARDAY=366;BYMONTH=1",
        "FREQ=MONTHLY;BYDAY=5MO;BYMONTHDAY=1",
        "FREQ=MONTHLY;BYMONTHDAY=1;BYSETPOS=366",
        "FREQ=DAILY;BYHOUR=1;BYSETPOS=1,2,3,4,5,6,7,-8,-9,-10,-11,-12,-13,-14,-15,-16;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=YEARLY;INTERVAL=32767;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=HOURLY;INTERVAL=32767;BYHOUR=1;BYMONTHDAY=31;BYMONTH=2",
        "FREQ=DAILY;COUNT=2;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=HOURLY;COUNT=1000000000;BYMONTH=2;BYMONTHDAY=30"};
    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(endless); i++) {
        assert_in_range(days_looked(endless[i], "2026-01-01T09:00", "2026-01-01T09:00"), 0, SERIES_DAYS_MAX + 371);
        assert_in_range(days_looked(endless[i], "1066-01-01T09:00", "2026-01-01T09:00"), 0, SERIES_DAYS_MAX + 371);
    }
    /* Decades behind the beginning nothing is counted through without COUNT, and days, not hours, with it. */
    assert_in_range(days_looked("FREQ=HOURLY", "1900-01-01T09:00", "2026-01-01T09:00"), 1, 2);
    assert_in_range(days_looked("FREQ=DAILY;INTERVAL=3", "1900-01-01T09:00", "2026-01-01T09:00"), 1, 2);
    assert_in_range(days_looked("FREQ=YEARLY;INTERVAL=2", "1900-01-01T09:00", "2026-01-01T09:00"), 365, 3 * 366);
    assert_in_range(days_looked("FREQ=HOURLY;COUNT=1000000", "2016-01-01T09:00", "2026-01-01T09:00"), 3600, 3700);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_days_of_the_month_and_year),
                                       cmocka_unit_test(test_examples_of_the_rfc),
                                       cmocka_unit_test(test_a_skipped_time_is_taken_with_the_offset_before),
                                       cmocka_unit_test(test_a_time_that_comes_twice_is_the_first),
                                       cmocka_unit_test(test_hours_go_by_the_wall_clock),
                                       cmocka_unit_test(test_zones_without_a_change_and_far_years),
                                       cmocka_unit_test(test_until_is_inclusive),
                                       cmocka_unit_test(test_count_has_the_first_in_it),
                                       cmocka_unit_test(test_excluded_times_and_days),
                                       cmocka_unit_test(test_milliseconds_and_what_is_behind),
                                       cmocka_unit_test(test_times_out_of_range_have_no_occurrence),
                                       cmocka_unit_test(test_what_is_no_recurrence_is_refused),
                                       cmocka_unit_test(test_zones_are_those_of_the_database),
                                       cmocka_unit_test(test_zones_agree_with_the_c_library),
                                       cmocka_unit_test(test_random_rules_agree_with_a_model),
                                       cmocka_unit_test(test_cost_is_bounded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
