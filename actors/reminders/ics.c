#include "actors/reminders/ics.h"

#include <libical/ical.h>
#include <pthread.h>
#include <stdlib.h>

#include "actors/reminders/ics_zone.h"
#include "actors/reminders/recurrence.h"
#include "node/base/text.h"

enum { DAY_S = 86400 };

struct used_zone {
    struct zone *zone;
    char name[LIMIT_ZONE_BYTES + 1];
    int64_t from; /* of the first event in it */
};

struct ics {
    int64_t now;
    struct buf events; /* their text: a tree of two thousand takes many times the memory */
    size_t events_len;
    struct used_zone *zones;
    size_t zones_len;
};

static int64_t seconds_of(int64_t ms)
{
    return ms / 1000 - (ms % 1000 < 0);
}

/* As libical takes texts: without control characters but line feeds and tabs, with a zero behind. Cut at a character.
 */
static char *clean(struct bytes text, size_t most)
{
    char *out = mem_alloc(most + 1);
    size_t len = text.len <= most ? text.len : text_utf8_prefix(bytes_of(text.ptr, most)), at = 0;
    for (size_t i = 0; i < len; i++) {
        char c = (char)text.ptr[i];
        bool control = (text.ptr[i] < ' ' && c != '\n' && c != '\t') || c == 0x7f;
        if (!control) {
            out[at++] = c;
        }
    }
    out[at] = 0;
    return out;
}

/* libical's own state that all threads share: set up once, before any of them uses it. What else it keeps is a thread's
 * own (the last error, the ring of temporary texts). */
static void set_up_library(void)
{
    icalerror_set_errors_are_fatal(false); /* the default may be to abort */
    (void)icaltimezone_get_utc_timezone();
}

struct ics *ics_new(int64_t now_ms)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct ics *ics = mem_zalloc(sizeof *ics);
    CHECK(pthread_once(&once, set_up_library) == 0);
    ics->now = seconds_of(now_ms);
    return ics;
}

/* Appends the text of a component and frees it. */
static void write_free(icalcomponent *comp, struct buf *out)
{
    char *text = icalcomponent_as_ical_string_r(comp);
    CHECK(text != NULL);
    buf_add_str(out, text);
    free(text);
    icalcomponent_free(comp);
}

/* ---- an event ---- */

/* NULL: UTC, because there is no zone or this machine does not know it. */
static struct used_zone *use_zone(struct ics *ics, struct bytes name, int64_t from)
{
    for (size_t i = 0; i < ics->zones_len; i++) {
        struct used_zone *used = &ics->zones[i];
        if (bytes_is(name, used->name)) {
            used->from = from < used->from ? from : used->from;
            return used;
        }
    }
    struct zone *zone = name.len > 0 ? zone_open(name) : NULL;
    if (zone == NULL) {
        return NULL;
    }
    ics->zones = mem_realloc(ics->zones, (ics->zones_len + 1) * sizeof *ics->zones);
    struct used_zone *used = &ics->zones[ics->zones_len++];
    *used = (struct used_zone){.zone = zone, .from = from};
    memcpy(used->name, name.ptr, name.len);
    return used;
}

static void add_text(icalcomponent *event, icalproperty *(*make)(const char *), struct bytes text, size_t most)
{
    char *copy = clean(text, most);
    icalcomponent_add_property(event, make(copy));
    free(copy);
}

/* A time by the zone's clock. */
static icalproperty *zoned(icalproperty *(*make)(struct icaltimetype), const struct used_zone *zone, int64_t utc)
{
    if (zone == NULL) {
        return make(ics_time(utc, true));
    }
    icalproperty *property = make(ics_time(zone_local(zone->zone, utc), false));
    icalproperty_add_parameter(property, icalparameter_new_tzid(zone->name));
    return property;
}

/* The rule as it is, in capitals, and but for UNTIL: where DTSTART has a zone or UTC it must be UTC (RFC 5545
 * section 3.3.10). */
static void add_rule(icalcomponent *event, const struct recurrence *recurrence, const struct zone *zone)
{
    const struct rule *rule = &recurrence->rule;
    char text[LIMIT_RECURRENCE_BYTES + 1] = "";
    for (size_t i = 0; i < recurrence->rule_text.len; i++) {
        uint8_t c = recurrence->rule_text.ptr[i];
        text[i] = (char)(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c); /* libical takes no "z" for the end of a time */
    }
    struct icalrecurrencetype parsed = icalrecurrencetype_from_string(text);
    if (parsed.freq == ICAL_NO_RECURRENCE) {
        return;
    }
    if (rule->until_is != UNTIL_NEVER) {
        int64_t until = rule->until_is == UNTIL_UTC ? rule->until : zone_utc(zone, rule->until);
        parsed.until = ics_has_time(until) ? ics_time(until, true) : icaltime_null_time();
    }
    icalcomponent_add_property(event, icalproperty_new_rrule(parsed));
}

static void add_exdate(icalcomponent *event, const struct used_zone *used, int64_t utc)
{
    if (ics_has_time(utc)) {
        icalcomponent_add_property(event, zoned(icalproperty_new_exdate, used, utc));
    }
}

/* A day is excluded by the time of day that the series has, as calendar programs compare whole times. */
static void add_excluded(icalcomponent *event, const struct recurrence *r, const struct used_zone *used,
                         const struct zone *zone, int64_t start)
{
    int64_t local = zone_local(zone, start), in_day = (local % DAY_S + DAY_S) % DAY_S;
    for (unsigned i = 0; i < r->times_len; i++) {
        add_exdate(event, used, r->times[i]);
    }
    for (unsigned i = 0; i < r->days_len; i++) {
        add_exdate(event, used, zone_utc(zone, r->days[i] * DAY_S + in_day));
    }
}

static void add_series(icalcomponent *event, const struct reminder *r, const struct used_zone *used, int64_t start)
{
    struct recurrence recurrence;
    struct zone *utc = used == NULL ? zone_open(BYTES_NONE) : NULL;
    const struct zone *zone = used != NULL ? used->zone : utc;
    /* A zone that this machine does not know: the next time alone, which is known. */
    if ((used != NULL || r->time_zone.len == 0) && recurrence_parse(r->recurrence, zone, &recurrence) == NULL) {
        add_rule(event, &recurrence, zone);
        add_excluded(event, &recurrence, used, zone, start);
    }
    zone_free(utc);
}

/* Rings at the event's beginning. */
static icalcomponent *alarm_of(struct bytes title)
{
    icalcomponent *alarm = icalcomponent_new(ICAL_VALARM_COMPONENT);
    struct icaltriggertype trigger = {.time = icaltime_null_time(), .duration = icaldurationtype_from_int(0)};
    icalcomponent_add_property(alarm, icalproperty_new_action(ICAL_ACTION_DISPLAY));
    icalcomponent_add_property(alarm, icalproperty_new_trigger(trigger));
    add_text(alarm, icalproperty_new_description, title, LIMIT_TITLE_CHARS * 4);
    return alarm;
}

static void add_head(icalcomponent *event, const struct reminder *r)
{
    char uid[ID_TEXT_BYTES + sizeof "@belfry"];
    id_format(r->id, uid);
    memcpy(uid + ID_TEXT_BYTES, "@belfry", sizeof "@belfry");
    struct icaltimetype updated = ics_time(seconds_of(r->updated_at), true);
    icalcomponent_add_property(event, icalproperty_new_uid(uid));
    icalcomponent_add_property(event, icalproperty_new_dtstamp(updated));
    icalcomponent_add_property(event, icalproperty_new_created(ics_time(seconds_of(r->created_at), true)));
    icalcomponent_add_property(event, icalproperty_new_lastmodified(updated));
    add_text(event, icalproperty_new_summary, r->title, LIMIT_TITLE_CHARS * 4);
    if (r->content.len > 0) {
        add_text(event, icalproperty_new_description, r->content, LIMIT_FEED_DESCRIPTION_BYTES);
    }
}

/* An event knows no "done": it is confirmed, as all are, and says more in CATEGORIES. It takes up no time. */
static void add_status(icalcomponent *event, const struct reminder *r)
{
    icalcomponent_add_property(event, icalproperty_new_status(ICAL_STATUS_CONFIRMED));
    icalcomponent_add_property(event, icalproperty_new_categories(reminder_statuses[r->status]));
    icalcomponent_add_property(event, icalproperty_new_transp(ICAL_TRANSP_TRANSPARENT));
    if (!r->completed) {
        icalcomponent_add_component(event, alarm_of(r->title));
    }
}

void ics_add(struct ics *ics, const struct reminder *r)
{
    bool due = FIELD_HAS(reminder_fields, r, struct reminder, due_at);
    bool series = r->recurrence.len > 0 && FIELD_HAS(reminder_fields, r, struct reminder, starts_at);
    int64_t next = seconds_of(r->due_at), start = series ? seconds_of(r->starts_at) : next;
    if (!due || !ics_has_time(start) || !ics_has_time(next) || ics->events_len == LIMIT_FEED_EVENTS) {
        return;
    }
    icalcomponent *event = icalcomponent_new(ICAL_VEVENT_COMPONENT);
    struct used_zone *zone = use_zone(ics, r->time_zone, start);
    add_head(event, r);
    if (series && zone == NULL && r->time_zone.len > 0) {
        start = next;
    }
    icalcomponent_add_property(event, zoned(icalproperty_new_dtstart, zone, start));
    if (series) {
        add_series(event, r, zone, start);
    }
    add_status(event, r);
    write_free(event, &ics->events);
    ics->events_len++;
}

/* ---- the whole ---- */

static icalcomponent *calendar(void)
{
    icalcomponent *comp = icalcomponent_new(ICAL_VCALENDAR_COMPONENT);
    icalproperty *name = icalproperty_new_x("Reminders");
    icalproperty_set_x_name(name, "X-WR-CALNAME");
    icalcomponent_add_property(comp, icalproperty_new_version("2.0"));
    icalcomponent_add_property(comp, icalproperty_new_prodid("-//belfry//reminders//EN"));
    icalcomponent_add_property(comp, icalproperty_new_calscale("GREGORIAN"));
    icalcomponent_add_property(comp, icalproperty_new_method(ICAL_METHOD_PUBLISH));
    icalcomponent_add_property(comp, name);
    return comp;
}

void ics_write_free(struct ics *ics, struct buf *out)
{
    icalcomponent *comp = calendar();
    for (size_t i = 0; i < ics->zones_len; i++) {
        struct used_zone *used = &ics->zones[i];
        icalcomponent_add_component(comp, ics_zone(used->zone, used->name, used->from, ics->now));
        zone_free(used->zone);
    }
    size_t before = out->len, end = sizeof "END:VCALENDAR\r\n" - 1;
    write_free(comp, out);
    CHECK(out->len - before > end && memcmp(out->ptr + out->len - end, "END:VCALENDAR\r\n", end) == 0);
    out->len -= end;
    buf_add_bytes(out, buf_bytes(&ics->events));
    buf_add_lit(out, "END:VCALENDAR\r\n");
    buf_free(&ics->events);
    free(ics->zones);
    free(ics);
}
