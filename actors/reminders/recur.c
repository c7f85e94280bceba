#include "actors/reminders/recur.h"

#include "actors/reminders/series.h"
#include "actors/reminders/zone.h"
#include "node/limits.h"

/* The date-times of LIMIT_RECURRENCE_BYTES: 8 digits and a separator each. */
enum { EXCLUDED_MAX = LIMIT_RECURRENCE_BYTES / 9 + 1, DAY_S = 86400, OFFSET_MAX_S = 27 * 3600 };

struct recurrence {
    struct rule rule;
    bool has_rule;
    int64_t times[EXCLUDED_MAX]; /* EXDATE, UTC */
    int64_t days[EXCLUDED_MAX];  /* EXDATE;VALUE=DATE, local */
    unsigned times_len, days_len;
};

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* ---- the text ---- */

static const char BAD_EXDATE[] =
    "EXDATE takes dates and times as 20260321T023000, with Z or ;TZID=, or ;VALUE=DATE:20260321";

static struct bytes cut(struct bytes *rest, char separator)
{
    const uint8_t *at = rest->len == 0 ? NULL : memchr(rest->ptr, separator, rest->len);
    struct bytes found = bytes_of(rest->ptr, at == NULL ? rest->len : (size_t)(at - rest->ptr));
    *rest = at == NULL ? BYTES_NONE : bytes_of(at + 1, rest->len - found.len - 1);
    return found;
}

static bool exclude(struct recurrence *r, struct bytes text, bool dates, const struct zone *zone)
{
    int64_t at;
    enum rule_time is = rule_time(text, &at);
    if (is == RULE_TIME_BAD || (is == RULE_TIME_DATE) != dates) {
        return false;
    }
    CHECK(r->times_len < EXCLUDED_MAX && r->days_len < EXCLUDED_MAX);
    if (dates) {
        r->days[r->days_len++] = at / DAY_S;
    } else {
        r->times[r->times_len++] = is == RULE_TIME_UTC ? at : zone_utc(zone, at);
    }
    return true;
}

/* `;TZID=...` and `;VALUE=...`, in front of the colon. */
static bool read_parameters(struct bytes text, bool *dates, struct bytes *zone)
{
    while (text.ptr != NULL) {
        struct bytes value = cut(&text, ';');
        struct bytes name = cut(&value, '=');
        if (bytes_is_nocase(name, "TZID") && value.len > 0) {
            *zone = value;
        } else if (bytes_is_nocase(name, "VALUE") && bytes_is_nocase(value, "DATE")) {
            *dates = true;
        } else if (!bytes_is_nocase(name, "VALUE") || !bytes_is_nocase(value, "DATE-TIME")) {
            return false;
        }
    }
    return true;
}

static const char *take_excluded(struct recurrence *r, struct bytes parameters, struct bytes list,
                                 const struct zone *zone)
{
    bool dates = false, good = true;
    struct bytes name = BYTES_NONE;
    if (!read_parameters(parameters, &dates, &name)) {
        return BAD_EXDATE;
    }
    struct zone *other = name.len > 0 ? zone_open(name) : NULL;
    if (name.len > 0 && other == NULL) {
        return "EXDATE names a time zone that is not known";
    }
    do {
        good = exclude(r, cut(&list, ','), dates, other != NULL ? other : zone);
    } while (good && list.ptr != NULL);
    zone_free(other);
    return good ? NULL : BAD_EXDATE;
}

static const char *take_line(struct recurrence *r, struct bytes line, const struct zone *zone)
{
    struct bytes value = line;
    struct bytes parameters = cut(&value, ':');
    if (value.ptr == NULL) { /* a rule alone */
        value = line;
        parameters = BYTES_LIT("RRULE");
    }
    struct bytes name = cut(&parameters, ';');
    if (bytes_is_nocase(name, "EXDATE")) {
        return take_excluded(r, parameters, value, zone);
    }
    if (!bytes_is_nocase(name, "RRULE") || parameters.ptr != NULL || r->has_rule) {
        return "A recurrence is one rule, FREQ=..., and lines EXDATE:...";
    }
    r->has_rule = true;
    return rule_parse(value, &r->rule);
}

static bool is_printable(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if ((c < ' ' && c != '\n' && c != '\r') || c > '~') {
            return false;
        }
    }
    return true;
}

static const char *parse(struct bytes text, const struct zone *zone, struct recurrence *out)
{
    *out = (struct recurrence){0};
    if (text.len > LIMIT_RECURRENCE_BYTES || !is_printable(text)) {
        return "A recurrence is printable ASCII of 512 bytes at most";
    }
    while (text.len > 0) {
        struct bytes line = cut(&text, '\n');
        line.len -= line.len > 0 && line.ptr[line.len - 1] == '\r';
        const char *refusal = take_line(out, line, zone);
        if (refusal != NULL) {
            return refusal;
        }
    }
    return out->has_rule ? NULL : "A recurrence needs a rule, FREQ=...";
}

/* ---- occurrences ---- */

static bool is_excluded(const struct recurrence *r, const struct zone *zone, int64_t utc)
{
    for (unsigned i = 0; i < r->times_len; i++) {
        if (r->times[i] == utc) {
            return true;
        }
    }
    int64_t day = r->days_len > 0 ? floor_div(zone_local(zone, utc), DAY_S) : 0;
    for (unsigned i = 0; i < r->days_len; i++) {
        if (r->days[i] == day) {
            return true;
        }
    }
    return false;
}

static bool is_over(const struct rule *rule, int64_t local, int64_t utc)
{
    return (rule->until_is == UNTIL_LOCAL && local > rule->until) || (rule->until_is == UNTIL_UTC && utc > rule->until);
}

/* The first time behind `after` that the rule names. Local times come in order; the moments they stand for as well,
 * but for those that a change skips: they ring later than what follows them on the clock. So behind one of these the
 * search goes on up to where it rings. */
static bool find_next(const struct recurrence *r, const struct zone *zone, int64_t start, int64_t after, int64_t *out)
{
    struct series series;
    int64_t local, reach = INT64_MAX, best = INT64_MAX;
    series_open(&series, &r->rule, zone_local(zone, start), after - OFFSET_MAX_S);
    while (series_next(&series, &local) && local <= reach) {
        int64_t utc = zone_utc(zone, local);
        if (is_over(&r->rule, local, utc)) {
            if (is_over(&r->rule, local - DAY_S, utc - DAY_S)) {
                break; /* not only skipped past the end */
            }
        } else if (utc > after && utc > start && utc < best && !is_excluded(r, zone, utc)) {
            best = utc;
            reach = reach < INT64_MAX ? reach : zone_local(zone, utc);
        }
    }
    *out = best;
    return best < INT64_MAX;
}

/* Local times must stay within the years 1 to 9999, with a zone's offset to spare. */
static bool in_range(int64_t utc)
{
    return utc > -62135596800 + 2 * DAY_S && utc < 253402300800 - 2 * DAY_S;
}

bool recur_next(struct bytes recurrence, struct bytes zone_name, int64_t start_ms, int64_t after_ms, int64_t *out_ms)
{
    struct recurrence r;
    struct zone *zone = zone_open(zone_name);
    int64_t start = floor_div(start_ms, 1000), millis = (start_ms % 1000 + 1000) % 1000;
    bool found = false;
    if (zone != NULL && in_range(start) && parse(recurrence, zone, &r) == NULL) {
        found = start_ms > after_ms && !is_excluded(&r, zone, start);
        *out_ms = start_ms;
        /* What comes at second t comes at t * 1000 + millis: behind after_ms exactly when t is behind this. */
        int64_t after = after_ms > start_ms ? floor_div(after_ms - millis, 1000) : start;
        if (!found && in_range(after) && find_next(&r, zone, start, after, &after)) {
            *out_ms = after * 1000 + millis;
            found = true;
        }
    }
    zone_free(zone);
    return found;
}

const char *recur_refusal(struct bytes recurrence)
{
    struct recurrence r;
    struct zone *utc = zone_open(BYTES_NONE);
    const char *refusal = parse(recurrence, utc, &r);
    zone_free(utc);
    return refusal;
}

bool zone_is_known(struct bytes name)
{
    struct zone *zone = name.len > 0 ? zone_open(name) : NULL;
    bool known = zone != NULL;
    zone_free(zone);
    return known;
}
