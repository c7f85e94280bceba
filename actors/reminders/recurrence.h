/* A recurrence's text taken apart: the rule, and what EXDATE excludes. */
#ifndef BELFRY_ACTORS_REMINDERS_RECURRENCE_H
#define BELFRY_ACTORS_REMINDERS_RECURRENCE_H

#include "actors/reminders/rule.h"
#include "actors/reminders/zone.h"
#include "node/limits.h"

/* The dates of LIMIT_RECURRENCE_BYTES: 8 digits and a separator each. */
enum { RECURRENCE_EXCLUDED_MAX = LIMIT_RECURRENCE_BYTES / 9 + 1 };

struct recurrence {
    struct rule rule;
    struct bytes rule_text;                 /* FREQ=...; borrowed */
    int64_t times[RECURRENCE_EXCLUDED_MAX]; /* EXDATE, UTC seconds */
    int64_t days[RECURRENCE_EXCLUDED_MAX];  /* EXDATE;VALUE=DATE, local days since 1970 */
    unsigned times_len, days_len;
};

/* Why not, as static text; NULL: it is good. */
const char *recurrence_parse(struct bytes text, const struct zone *zone, struct recurrence *out) MUST_USE;

#endif
