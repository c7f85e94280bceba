#include "actors/reminders/series.h"

#include "node/base/when.h"

enum { DAY_S = 86400 };

static const int64_t last_day = 2932896; /* 9999-12-31 */

/* ---- what is in a unit ---- */

/* Hours count through from the beginning, whatever the day. */
static uint32_t hours_of(const struct series *s, int64_t day)
{
    uint32_t named = s->rule.hours, hours = 0;
    if (s->rule.freq != HOURLY) {
        return named;
    }
    int64_t since = day * 24 - floor_div(s->start, 3600), interval = s->rule.interval;
    int64_t first = since < 0 ? -since : (interval - since % interval) % interval;
    for (int64_t hour = first; hour < 24; hour += interval) {
        hours |= 1U << hour;
    }
    return named == 0 ? hours : hours & named;
}

static void fill_in_hour(struct series *s)
{
    for (int second = 0; second < 3600; second++) {
        if ((s->rule.minutes >> second / 60 & 1) != 0 && (s->rule.seconds >> second % 60 & 1) != 0) {
            CHECK(s->in_hour_len < RULE_HOURLY_MAX);
            s->in_hour[s->in_hour_len++] = second;
        }
    }
}

static void fill_moments(struct series *s, int64_t day)
{
    uint32_t hours = hours_of(s, day);
    s->moments_len = 0;
    for (int hour = 0; hour < 24; hour++) {
        for (unsigned i = 0; (hours >> hour & 1) != 0 && i < s->in_hour_len; i++) {
            s->moments[s->moments_len++] = hour * 3600 + s->in_hour[i];
        }
    }
}

static void fill_days(struct series *s)
{
    int64_t behind = rule_unit_first(&s->rule, s->unit + 1);
    s->days_len = 0;
    for (int64_t day = rule_unit_first(&s->rule, s->unit); day < behind; day++) {
        s->days_looked++;
        if (rule_has_day(&s->rule, day)) {
            CHECK(s->days_len < SERIES_UNIT_DAYS_MAX);
            s->days[s->days_len++] = day;
        }
    }
}

static void pick(struct series *s, unsigned index)
{
    unsigned at = s->len;
    while (at > 0 && s->picked[at - 1] > index) {
        at--;
    }
    if (at > 0 && s->picked[at - 1] == index) {
        return; /* 1 and -1 may be the same */
    }
    memmove(s->picked + at + 1, s->picked + at, (s->len - at) * sizeof s->picked[0]);
    s->picked[at] = index;
    s->len++;
}

static void fill_picked(struct series *s, unsigned count)
{
    for (unsigned i = 0; i < s->rule.positions_len; i++) {
        int64_t position = s->rule.positions[i];
        int64_t index = position > 0 ? position - 1 : (int64_t)count + position;
        if (index >= 0 && index < count) {
            pick(s, (unsigned)index);
        }
    }
}

static void fill_unit(struct series *s)
{
    fill_days(s);
    if (s->rule.freq == HOURLY && s->days_len > 0) {
        fill_moments(s, s->days[0]);
    }
    s->at = 0;
    s->len = 0;
    if (s->rule.positions_len > 0) {
        fill_picked(s, s->days_len * s->moments_len);
    } else {
        s->len = s->days_len * s->moments_len;
    }
}

static int64_t time_of(const struct series *s, unsigned i)
{
    unsigned index = s->rule.positions_len > 0 ? s->picked[i] : i;
    return s->days[index / s->moments_len] * DAY_S + s->moments[index % s->moments_len];
}

/* ---- from unit to unit ---- */

/* Hours are counted within days: no day is passed over. */
static int64_t step_of(const struct series *s)
{
    return s->rule.freq == HOURLY ? 1 : s->rule.interval;
}

void series_open(struct series *s, const struct rule *rule, int64_t start, int64_t from)
{
    *s = (struct series){.rule = *rule, .start = start, .from = from, .ordinal = 1};
    rule_complete(&s->rule, start);
    s->start_unit = s->unit = rule_unit(&s->rule, floor_div(start, DAY_S));
    int64_t ahead = rule_unit(&s->rule, floor_div(from, DAY_S)) - s->unit;
    if (rule->count == 0 && ahead > 0) {
        s->unit += ahead / step_of(s) * step_of(s);
    }
    fill_in_hour(s);
    if (rule->freq != HOURLY) {
        fill_moments(s, 0);
    }
    fill_unit(s);
}

/* To the next unit; what is left of this one is counted. */
static bool next_unit(struct series *s)
{
    s->unit += step_of(s);
    if (s->days_looked >= SERIES_DAYS_MAX || rule_unit_first(&s->rule, s->unit) > last_day ||
        (s->rule.count > 0 && s->ordinal >= s->rule.count)) {
        return false;
    }
    fill_unit(s);
    return true;
}

/* A unit all before from, as most are when many years are counted, is counted in one step. */
static bool skip_unit(struct series *s)
{
    if (s->unit == s->start_unit || s->at > 0 || s->len == 0 || time_of(s, s->len - 1) >= s->from) {
        return false;
    }
    s->ordinal += s->len;
    s->at = s->len;
    return true;
}

bool series_next(struct series *s, int64_t *out_local)
{
    for (;;) {
        if (s->at == s->len || skip_unit(s)) {
            if (!next_unit(s)) {
                return false;
            }
            continue;
        }
        int64_t local = time_of(s, s->at++);
        s->ordinal += local > s->start;
        if (s->rule.count > 0 && s->ordinal > s->rule.count) {
            return false;
        }
        if (local > s->start && local >= s->from) {
            *out_local = local;
            return true;
        }
    }
}
