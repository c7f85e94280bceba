/* The rule at the end of a TZif file: a POSIX TZ string with the extensions of RFC 8536 section 3.3.1, such as
 * `CET-1CEST,M3.5.0,M10.5.0/3`. It holds for all times behind the file's last change. */
#ifndef BELFRY_ACTORS_REMINDERS_ZONE_RULE_H
#define BELFRY_ACTORS_REMINDERS_ZONE_RULE_H

#include "node/base/bytes.h"

/* When in a year: a weekday of a week of a month (Mm.w.d), a day without 29 February (Jn), or a day from 0 on (n). */
struct zone_when {
    char form; /* 'M', 'J' or '0' */
    int month, week, weekday, day;
    int time; /* seconds of the local day; may be negative or beyond the day */
};

struct zone_rule {
    struct bytes standard, daylight; /* names; daylight is empty: one offset for ever */
    int offset[2];                   /* standard, daylight: local - UTC */
    struct zone_when begin, end;     /* of daylight time, each by the clock before it */
};

/* Borrows the text. */
bool zone_rule_parse(struct bytes text, struct zone_rule *out) MUST_USE;
/* The changes of a year in UTC seconds: to daylight time, and back. */
int64_t zone_rule_begin(const struct zone_rule *rule, int64_t year);
int64_t zone_rule_end(const struct zone_rule *rule, int64_t year);

#endif
