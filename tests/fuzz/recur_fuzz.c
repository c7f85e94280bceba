/* A byte for the zone, 6 bytes each for the beginning and for the time asked about (seconds from 1920 on, signed hours
 * apart), then the text of a recurrence. Any text may be refused; what is taken has a next occurrence behind the time
 * asked about that is not excluded, or none, found within the days that may be looked at; libical, which writes it into
 * the feed, reads it as well; and the feed's text can be read again. */
#include <libical/ical.h>

#include "actors/reminders/ics.h"
#include "actors/reminders/recur.h"
#include "actors/reminders/recurrence.h"
#include "actors/reminders/series.h"
#include "tests/fuzz/fuzz.h"

static const char *const zones[] = {"",
                                    "Europe/Paris",
                                    "America/New_York",
                                    "America/St_Johns",
                                    "Australia/Lord_Howe",
                                    "Pacific/Apia",
                                    "Africa/Casablanca",
                                    "Asia/Gaza"};

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* By the parts of the text, not by what recur_next asked. */
static void check_not_excluded(struct bytes text, const struct zone *zone, int64_t ms)
{
    struct recurrence r;
    int64_t second = floor_div(ms, 1000);
    CHECK(recurrence_parse(text, zone, &r) == NULL);
    for (unsigned i = 0; i < r.times_len; i++) {
        CHECK(r.times[i] != second);
    }
    for (unsigned i = 0; i < r.days_len; i++) {
        CHECK(r.days[i] != floor_div(zone_local(zone, second), 86400));
    }
}

static void check_series(struct bytes text, const struct zone *zone, int64_t start, int64_t from)
{
    struct recurrence r;
    struct series series;
    int64_t local, before = INT64_MIN;
    CHECK(recurrence_parse(text, zone, &r) == NULL);
    series_open(&series, &r.rule, start, from);
    for (int i = 0; i < 200 && series_next(&series, &local); i++) {
        CHECK(local > before && local > start && local >= from);
        CHECK(r.rule.count == 0 || series.ordinal <= r.rule.count);
        before = local;
    }
    CHECK(series.days_looked <= SERIES_DAYS_MAX + SERIES_UNIT_DAYS_MAX);
}

/* What comes first behind `after` comes first behind any time between the two. */
static void check_next(struct bytes text, struct bytes name, const struct zone *zone, int64_t start, int64_t after)
{
    int64_t next, again;
    for (int i = 0; i < 4 && recur_next(text, name, start, after, &next) == RECUR_FOUND; i++) {
        CHECK(next > after && next >= start);
        CHECK(floor_div(next - start, 1000) * 1000 == next - start);
        check_not_excluded(text, zone, next);
        CHECK(recur_next(text, name, start, after + (next - 1 - after) / 2, &again) == RECUR_FOUND && again == next);
        after = next;
    }
}

static void check_feed(struct bytes text, struct bytes name, int64_t start)
{
    struct reminder r = {.title = text};
    struct buf out = {0};
    SET(&r, due_at, start);
    SET(&r, starts_at, start);
    SET(&r, recurrence, text);
    SET(&r, time_zone, name);
    struct ics *ics = ics_new(start);
    ics_add(ics, &r);
    ics_write_free(ics, &out);
    buf_add_char(&out, 0);
    icalcomponent *read = icalparser_parse_string((const char *)out.ptr);
    CHECK(read != NULL && icalcomponent_count_errors(read) == 0);
    icalcomponent *event = icalcomponent_get_first_component(read, ICAL_VEVENT_COMPONENT);
    CHECK(event == NULL || icalcomponent_count_properties(event, ICAL_RRULE_PROPERTY) == 1);
    icalcomponent_free(read);
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes input = bytes_of(data, len);
    struct bytes name = bytes_str(zones[fuzz_take(&input, 1) % ARRAY_LEN(zones)]);
    int64_t start = (int64_t)(fuzz_take(&input, 6) % (400LL * 366 * 86400 * 1000)) - 50LL * 366 * 86400 * 1000;
    int64_t after = start + ((int64_t)(fuzz_take(&input, 6) % (200 * 366 * 24)) - 24) * 3600000;
    if (recur_refusal(input) != NULL) {
        int64_t unused;
        CHECK(recur_next(input, name, start, start - 1, &unused) != RECUR_FOUND);
        return 0;
    }
    struct zone *zone = zone_open(name);
    CHECK(zone != NULL && input.len <= LIMIT_RECURRENCE_BYTES);
    check_next(input, name, zone, start, after);
    check_series(input, zone, zone_local(zone, floor_div(start, 1000)), zone_local(zone, floor_div(after, 1000)));
    check_feed(input, name, start);
    zone_free(zone);
    return 0;
}
