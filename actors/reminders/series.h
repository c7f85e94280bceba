/* The local times that a rule names, in order, behind the beginning of a series. Works by units of the rule (a day, a
 * week, a month, a year): the days of a unit that the rule names, times the moments of a day. Without COUNT it begins
 * at the unit of `from`; with COUNT it counts from the beginning, a unit at a time. Bounded by the days looked at. */
#ifndef BELFRY_ACTORS_REMINDERS_SERIES_H
#define BELFRY_ACTORS_REMINDERS_SERIES_H

#include "actors/reminders/rule.h"

/* Some hundred years day by day; a rule that names nothing for so long is taken to be at its end. */
enum { SERIES_DAYS_MAX = 40000, SERIES_UNIT_DAYS_MAX = 371 /* 53 weeks */ };

struct series {
    struct rule rule; /* completed by the beginning */
    int64_t start, from;
    int64_t start_unit, unit;
    int64_t ordinal;      /* of the time given last; the beginning itself is 1 */
    unsigned days_looked; /* at */
    /* Of the unit: the days named, the moments of each in seconds, and which of them BYSETPOS picks. */
    int64_t days[SERIES_UNIT_DAYS_MAX];
    unsigned days_len;
    int in_hour[RULE_HOURLY_MAX], moments[RULE_MOMENTS_MAX];
    unsigned in_hour_len, moments_len;
    unsigned picked[RULE_POSITIONS_MAX];
    unsigned len, at; /* times in the unit, and the next one to give */
};

/* start and from are local seconds of the years 1 to 9999. */
void series_open(struct series *series, const struct rule *rule, int64_t start, int64_t from);
/* The next local time that is behind start and not before from; false: there is none. */
bool series_next(struct series *series, int64_t *out_local);

#endif
