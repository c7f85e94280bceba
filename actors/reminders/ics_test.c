#include "tests/support/test.h"

#include <libical/ical.h>
#include <pthread.h>

#include "actors/reminders/ics.h"
#include "node/base/when.h"

static int64_t ms_of(const char *text)
{
    int64_t ms;
    assert_true(when_parse(bytes_str(text), &ms));
    return ms;
}

static struct reminder reminder_of(const char *title, const char *due)
{
    struct reminder r = {.id = id_make(1000, 1, 7), .title = bytes_str(title), .status = TODO};
    r.created_at = ms_of("2026-01-01T10:00:00.500Z");
    r.updated_at = ms_of("2026-01-02T10:00:00Z");
    if (due != NULL) {
        SET(&r, due_at, ms_of(due));
    }
    return r;
}

static void make_series(struct reminder *r, const char *start, const char *zone, const char *recurrence)
{
    SET(r, starts_at, ms_of(start));
    SET(r, time_zone, bytes_str(zone));
    SET(r, recurrence, bytes_str(recurrence));
}

/* The calendar's text with a zero behind; its lines unfolded when the second is. */
static char *text_of(const struct reminder *list, size_t len, bool unfold)
{
    struct buf out = {0};
    struct ics *ics = ics_new(ms_of("2026-11-21T00:00:00Z"));
    for (size_t i = 0; i < len; i++) {
        ics_add(ics, &list[i]);
    }
    ics_write_free(ics, &out);
    buf_add_char(&out, 0);
    char *text = (char *)out.ptr, *to = text;
    for (char *from = text; unfold && (*to = *from) != 0; from++, to++) {
        if (strncmp(from, "\r\n ", 3) == 0) {
            from += 2;
            to--;
        }
    }
    return text;
}

static void expect_in(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        fail_msg("missing: %s\n in:\n%s", part, text);
    }
}

static void test_a_reminder_is_an_event_in_utc(void **state)
{
    struct reminder r = reminder_of("Buy milk, eggs; and \\ more", "2026-03-08T07:30:00Z");
    (void)state;
    r.content = BYTES_LIT("one\r\ntwo\x07");
    char *text = text_of(&r, 1, true);
    assert_ptr_equal(strstr(text, "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:"), text);
    expect_in(text, "\r\nCALSCALE:GREGORIAN\r\nMETHOD:PUBLISH\r\nX-WR-CALNAME:Reminders\r\nBEGIN:VEVENT\r\n");
    expect_in(text, "\r\nUID:00000000-03e8-8001-8000-000000000007@belfry\r\nDTSTAMP:20260102T100000Z\r\n");
    expect_in(text, "\r\nCREATED:20260101T100000Z\r\nLAST-MODIFIED:20260102T100000Z\r\n");
    expect_in(text,
              "\r\nSUMMARY:Buy milk\\, eggs\\; and \\\\ more\r\nDESCRIPTION:one\\ntwo\r\nDTSTART:20260308T073000Z\r\n");
    expect_in(text, "\r\nSTATUS:CONFIRMED\r\n");
    expect_in(text, "BEGIN:VALARM\r\nACTION:DISPLAY\r\nTRIGGER:PT0S\r\nDESCRIPTION:Buy milk");
    assert_null(strstr(text, "VTIMEZONE"));
    free(text);
}

static void test_what_is_not_due_is_left_out_and_what_is_done_is_silent(void **state)
{
    struct reminder list[2] = {reminder_of("never", NULL), reminder_of("done", "2026-03-08T07:30:00Z")};
    (void)state;
    list[1].status = DONE;
    list[1].completed = true;
    char *text = text_of(list, 2, true);
    assert_null(strstr(text, "never"));
    expect_in(text, "CATEGORIES:done");
    assert_null(strstr(text, "VALARM"));
    free(text);
}

static void test_a_series_has_its_zone_rule_and_exceptions(void **state)
{
    struct reminder list[3];
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        list[i] = reminder_of("stand-up", "2026-06-01T07:00:00Z");
    }
    make_series(&list[0], "2026-01-05T08:00:00Z", "Europe/Paris",
                "RRULE:FREQ=WEEKLY;UNTIL=20270101;BYDAY=MO,WE\nEXDATE:20260107T090000\nEXDATE;VALUE=DATE:20260713");
    make_series(&list[1], "2026-01-05T12:30:00Z", "America/St_Johns", "FREQ=DAILY;COUNT=3");
    make_series(&list[2], "2026-01-05T12:30:00Z", "", "FREQ=MONTHLY;BYDAY=-1FR;UNTIL=20300101T000000Z");
    char *text = text_of(list, 3, true);
    expect_in(text, "\r\nDTSTART;TZID=Europe/Paris:20260105T090000\r\n");
    expect_in(text, "\r\nRRULE:FREQ=WEEKLY;UNTIL=20270101T225959Z;BYDAY=MO,WE\r\n");
    expect_in(text, "\r\nEXDATE;TZID=Europe/Paris:20260107T090000\r\nEXDATE;TZID=Europe/Paris:20260713T090000\r\n");
    expect_in(text,
              "\r\nBEGIN:VTIMEZONE\r\nTZID:Europe/Paris\r\nBEGIN:STANDARD\r\nDTSTART:20251026T030000\r\n"
              "TZOFFSETFROM:+0200\r\nTZOFFSETTO:+0100\r\nTZNAME:CET\r\n"
              "RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10\r\nEND:STANDARD\r\nBEGIN:DAYLIGHT\r\nDTSTART:20260329T020000\r\n"
              "TZOFFSETFROM:+0100\r\nTZOFFSETTO:+0200\r\nTZNAME:CEST\r\n"
              "RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=3\r\nEND:DAYLIGHT\r\nEND:VTIMEZONE\r\n");
    expect_in(text, "\r\nDTSTART;TZID=America/St_Johns:20260105T090000\r\nRRULE:FREQ=DAILY;COUNT=3\r\n");
    expect_in(text, "TZOFFSETFROM:-0230\r\nTZOFFSETTO:-0330\r\n");
    expect_in(text, "\r\nDTSTART:20260105T123000Z\r\nRRULE:FREQ=MONTHLY;UNTIL=20300101T000000Z;BYDAY=-1FR\r\n");
    free(text);
}

static void test_a_zone_comes_once_and_covers_the_first_event(void **state)
{
    struct reminder list[3];
    (void)state;
    list[0] = reminder_of("new", "2026-06-01T07:00:00Z");
    list[1] = reminder_of("old", "1999-07-01T07:00:00Z");
    list[2] = reminder_of("without changes", "2026-06-01T07:00:00Z");
    SET(&list[0], time_zone, BYTES_LIT("America/New_York"));
    SET(&list[1], time_zone, BYTES_LIT("America/New_York"));
    SET(&list[2], time_zone, BYTES_LIT("Asia/Kolkata"));
    char *text = text_of(list, 3, true);
    char *zone = strstr(text, "TZID:America/New_York");
    assert_non_null(zone);
    assert_null(strstr(zone + 1, "TZID:America/New_York"));
    expect_in(text, "DTSTART:19990404T020000\r\nTZOFFSETFROM:-0500\r\nTZOFFSETTO:-0400\r\nTZNAME:EDT\r\nEND:");
    expect_in(text, "DTSTART:20070311T020000\r\nTZOFFSETFROM:-0500\r\nTZOFFSETTO:-0400\r\nTZNAME:EDT\r\n"
                    "RRULE:FREQ=YEARLY;BYDAY=2SU;BYMONTH=3\r\n");
    expect_in(text, "DTSTART;TZID=America/New_York:19990701T030000");
    expect_in(text, "DTSTART;TZID=Asia/Kolkata:20260601T123000");
    expect_in(text, "TZOFFSETTO:+0530");
    free(text);
}

static void test_lines_are_folded_between_characters(void **state)
{
    struct reminder r;
    char content[4001];
    (void)state;
    for (unsigned i = 0; i < 2000; i++) {
        memcpy(content + 2 * i, "\xc3\xa9", 3); /* e with an accent: no place to break but between */
    }
    r = reminder_of("long", "2026-03-08T07:30:00Z");
    r.content = bytes_str(content);
    char *text = text_of(&r, 1, false), *line = text;
    while (*line != 0) {
        char *end = strstr(line, "\r\n");
        assert_non_null(end);
        assert_true(end - line <= 75);
        assert_null(memchr(line, '\n', (size_t)(end - line)));
        assert_int_not_equal((uint8_t)line[*line == ' '] & 0xc0, 0x80);
        line = end + 2;
    }
    free(text);
}

static void *write_some(void *arg)
{
    struct reminder r = reminder_of("stand-up", "2026-06-01T07:00:00Z");
    make_series(&r, "2026-01-05T08:00:00Z", "Europe/Paris", "FREQ=WEEKLY;UNTIL=20270101;BYDAY=MO,WE");
    char *first = text_of(&r, 1, false);
    for (int i = 0; i < 100; i++) {
        char *again = text_of(&r, 1, false);
        assert_string_equal(again, first);
        free(again);
    }
    *(char **)arg = first;
    return NULL;
}

static void test_threads_write_at_the_same_time(void **state)
{
    pthread_t threads[4];
    char *texts[4];
    (void)state;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, write_some, &texts[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_string_equal(texts[i], texts[0]);
    }
    for (int i = 0; i < 4; i++) {
        free(texts[i]);
    }
}

/* libical would write zeros. */
static void test_times_behind_the_year_2999_are_left_out(void **state)
{
    struct reminder list[2] = {reminder_of("far", "3000-01-01T00:00:00Z"), reminder_of("near", "2026-03-08T07:30:00Z")};
    (void)state;
    make_series(&list[1], "2026-03-08T07:30:00Z", "", "FREQ=DAILY;UNTIL=90000101T000000Z\nEXDATE;VALUE=DATE:30010131");
    char *text = text_of(list, 2, true);
    assert_null(strstr(text, "far"));
    assert_null(strstr(text, "EXDATE"));
    expect_in(text, "\r\nRRULE:FREQ=DAILY\r\n");
    free(text);
}

/* Every kind of reminder, read again by the library that calendar programs use. */
static void test_what_is_written_can_be_read(void **state)
{
    static const char *const zones[] = {"",          "Europe/Paris", "Africa/Casablanca",   "America/Nuuk",
                                        "Asia/Gaza", "Mars/Olympus", "Australia/Lord_Howe", "Pacific/Apia"};
    struct reminder list[8];
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        list[i] = reminder_of("\xe2\x82\xac; \"quoted\": \\n, end", "2026-06-01T07:00:00Z");
        list[i].content = bytes_str("line one\nBEGIN:VEVENT\r\nEND:VCALENDAR\n");
        make_series(&list[i], "1975-01-05T12:30:00Z", zones[i], "FREQ=DAILY;BYHOUR=9,17\nEXDATE;VALUE=DATE:20260102");
    }
    char *text = text_of(list, 8, false);
    icalcomponent *comp = icalparser_parse_string(text);
    assert_non_null(comp);
    assert_int_equal(icalcomponent_count_errors(comp), 0);
    assert_int_equal(icalcomponent_count_components(comp, ICAL_VEVENT_COMPONENT), 8);
    assert_int_equal(icalcomponent_count_components(comp, ICAL_VTIMEZONE_COMPONENT), 6);
    icalcomponent *event = icalcomponent_get_first_component(comp, ICAL_VEVENT_COMPONENT);
    assert_string_equal(icalcomponent_get_summary(event), "\xe2\x82\xac; \"quoted\": \\n, end");
    assert_string_equal(icalcomponent_get_description(event), "line one\nBEGIN:VEVENT\nEND:VCALENDAR\n");
    icalcomponent_free(comp);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_write_at_the_same_time), /* the first to use the library */
        cmocka_unit_test(test_a_reminder_is_an_event_in_utc),
        cmocka_unit_test(test_what_is_not_due_is_left_out_and_what_is_done_is_silent),
        cmocka_unit_test(test_a_series_has_its_zone_rule_and_exceptions),
        cmocka_unit_test(test_a_zone_comes_once_and_covers_the_first_event),
        cmocka_unit_test(test_lines_are_folded_between_characters),
        cmocka_unit_test(test_times_behind_the_year_2999_are_left_out),
        cmocka_unit_test(test_what_is_written_can_be_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
