#include "actors/reminders/ics_zone.h"

#include "actors/reminders/zone_rule.h"
#include "node/base/when.h"

enum { DAY_S = 86400, AHEAD_S = 30 * 366 * DAY_S, SPANS_MAX = 400, NAME_MAX_BYTES = 16 };

struct icaltimetype ics_time(int64_t seconds, bool utc)
{
    int64_t day = seconds / DAY_S - (seconds % DAY_S < 0), in_day = seconds - day * DAY_S;
    struct civil date = civil_of(day);
    struct icaltimetype time = icaltime_null_time();
    time.year = (int)date.year;
    time.month = date.month;
    time.day = date.day;
    time.hour = (int)(in_day / 3600);
    time.minute = (int)(in_day / 60 % 60);
    time.second = (int)(in_day % 60);
    time.zone = utc ? icaltimezone_get_utc_timezone() : NULL;
    return time;
}

/* A STANDARD or DAYLIGHT part: its DTSTART is the change by the clock before it. */
static icalcomponent *part(const struct zone_span *span, int offset_before)
{
    char name[NAME_MAX_BYTES + 1] = "";
    icalcomponent *comp = icalcomponent_new(span->daylight ? ICAL_XDAYLIGHT_COMPONENT : ICAL_XSTANDARD_COMPONENT);
    size_t len = span->name.len < NAME_MAX_BYTES ? span->name.len : NAME_MAX_BYTES;
    memcpy(name, span->name.ptr, len);
    bool ever = span->from < -62135596800 + DAY_S; /* the year 1 */
    struct icaltimetype begin = ics_time(ever ? -11644473600 /* 1601 */ : span->from + offset_before, false);
    icalcomponent_add_property(comp, icalproperty_new_dtstart(begin));
    icalcomponent_add_property(comp, icalproperty_new_tzoffsetfrom(offset_before));
    icalcomponent_add_property(comp, icalproperty_new_tzoffsetto(span->offset));
    icalcomponent_add_property(comp, icalproperty_new_tzname(name));
    return comp;
}

static void add_rule(icalcomponent *comp, const struct zone_when *when)
{
    struct icalrecurrencetype rule;
    icalrecurrencetype_clear(&rule);
    rule.freq = ICAL_YEARLY_RECURRENCE;
    rule.by_month[0] = (short)when->month;
    int day = ICAL_SUNDAY_WEEKDAY + when->weekday; /* libical's code: weekday + 8 * week, negative from the back */
    rule.by_day[0] = (short)(when->week == 5 ? -(day + 8) : day + 8 * when->week);
    icalcomponent_add_property(comp, icalproperty_new_rrule(rule));
}

icalcomponent *ics_zone(const struct zone *zone, const char *name, int64_t from, int64_t now)
{
    icalcomponent *comp = icalcomponent_new(ICAL_VTIMEZONE_COMPONENT);
    int64_t tail_from = INT64_MAX;
    const struct zone_rule *tail = zone_tail(zone, &tail_from);
    struct zone_span span = zone_span(zone, from);
    int before = span.from == INT64_MIN ? span.offset : zone_span(zone, span.from - 1).offset;
    icalcomponent_add_property(comp, icalproperty_new_tzid(name));
    for (int parts = 0, ruled = 0; parts < SPANS_MAX && ruled < 2; parts++) {
        icalcomponent *one = part(&span, before);
        if (tail != NULL && span.from >= tail_from) {
            bool begins = span.from == zone_rule_begin(tail, civil_of((span.from + before) / DAY_S).year);
            add_rule(one, begins ? &tail->begin : &tail->end);
            ruled++;
        }
        icalcomponent_add_component(comp, one);
        if (span.until == INT64_MAX || (tail == NULL && span.until > now + AHEAD_S)) {
            break;
        }
        before = span.offset;
        span = zone_span(zone, span.until);
    }
    return comp;
}
