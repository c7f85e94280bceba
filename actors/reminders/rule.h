/* A recurrence rule (RFC 5545 section 3.3.10): its text checked and taken apart, and which days and moments of a day it
 * names. What it names in which order, and from where on, is the series' (series.h).
 *
 * Not by libical: the only bound of its 3.0.16's iterator is the year 2582, which takes seconds for a rule that names
 * few days or none; it gives times out of order when a BY list is not sorted; it ignores BYSETPOS in weekly and daily
 * rules, and negative BYMONTHDAY and BYYEARDAY below a month; and it needs 30 MB of ICU. */
#ifndef BELFRY_ACTORS_REMINDERS_RULE_H
#define BELFRY_ACTORS_REMINDERS_RULE_H

#include "node/base/bytes.h"

enum freq { FREQ_NONE, HOURLY, DAILY, WEEKLY, MONTHLY, YEARLY };
enum { RULE_POSITIONS_MAX = 16, RULE_INTERVAL_MAX = 32767, RULE_COUNT_MAX = 1000000000 };
/* Moments of an hour: what rings more often is a frequency below an hour. */
enum { RULE_HOURLY_MAX = 4, RULE_MOMENTS_MAX = 24 * RULE_HOURLY_MAX };

/* Numbers 1 and up, counted from the front and, as -1 and down, from the back. A bit a number. */
struct number_set {
    uint64_t front[6], back[6];
};

enum until { UNTIL_NEVER, UNTIL_UTC, UNTIL_LOCAL };

struct rule {
    enum freq freq;
    int interval, week_start; /* 0: Monday */
    int64_t count;            /* 0: no end */
    enum until until_is;
    int64_t until; /* seconds, inclusive */
    uint32_t months, weekdays, hours;
    uint64_t minutes, seconds;
    bool has_nth; /* of nth[weekday] */
    struct number_set month_days, year_days, weeks, nth[7];
    bool has_month_days, has_year_days, has_weeks;
    int16_t positions[RULE_POSITIONS_MAX];
    unsigned positions_len;
};

/* Takes `FREQ=...`. The answer says why not, as static text; NULL: it is good. */
const char *rule_parse(struct bytes text, struct rule *out) MUST_USE;
/* What the text leaves open is taken from the beginning of the series. */
void rule_complete(struct rule *rule, int64_t start_local);

/* A date (`20260321`), or a date and time (`20260321T023000`, with `Z` behind it in UTC), as seconds. */
enum rule_time { RULE_TIME_BAD, RULE_TIME_DATE, RULE_TIME_LOCAL, RULE_TIME_UTC };
enum rule_time rule_time(struct bytes text, int64_t *out);

/* A rule goes on in units: days, weeks, months, or years (by BYWEEKNO the years of weeks). Days count from 1970. */
int64_t rule_unit(const struct rule *rule, int64_t day);
int64_t rule_unit_first(const struct rule *rule, int64_t unit);
/* Whether the rule names this day, intervals and positions aside. */
bool rule_has_day(const struct rule *rule, int64_t day);

#endif
