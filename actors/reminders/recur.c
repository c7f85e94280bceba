#include "actors/reminders/recur.h"

#include "actors/reminders/recurrence.h"
#include "actors/reminders/series.h"
#include "node/base/when.h"

enum { DAY_S = 86400, OFFSET_MAX_S = 27 * 3600 };

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

enum recur recur_next(struct bytes recurrence, struct bytes zone_name, int64_t start_ms, int64_t after_ms,
                      int64_t *out_ms)
{
    struct recurrence r;
    struct zone *zone = zone_open(zone_name);
    int64_t start = floor_div(start_ms, 1000), millis = (start_ms % 1000 + 1000) % 1000;
    bool known = zone != NULL && recurrence_parse(recurrence, zone, &r) == NULL, found = false;
    if (known && in_range(start)) {
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
    return !known ? RECUR_UNKNOWN : found ? RECUR_FOUND : RECUR_OVER;
}

const char *recur_refusal(struct bytes recurrence)
{
    struct recurrence r;
    struct zone *utc = zone_open(BYTES_NONE);
    const char *refusal = recurrence_parse(recurrence, utc, &r);
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
