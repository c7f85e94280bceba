/* Times on the wire: RFC 3339 in UTC with milliseconds; inside: milliseconds since 1970. */
#ifndef BELFRY_BASE_WHEN_H
#define BELFRY_BASE_WHEN_H

#include "node/base/bytes.h"

enum { WHEN_TEXT_BYTES = 24 }; /* 2026-11-21T07:06:00.000Z */

/* Towards the past, also before 1970; b is positive. */
static inline int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* Days since 1970-01-01 of a date in the proleptic Gregorian calendar, and back; any year. */
struct civil {
    int64_t year;
    int month, day;
};
int64_t civil_days(struct civil date);
struct civil civil_of(int64_t days);
int civil_month_days(struct civil month);

/* Years 0000 to 9999; writes 24 characters, no NUL. */
void when_format(int64_t ms, char *out);
/* Takes any RFC 3339 date-time (offsets, fractions; leap seconds count as :59.999). */
bool when_parse(struct bytes text, int64_t *out_ms) MUST_USE;
/* IMF-fixdate for the Date header (RFC 9110 section 5.6.7), 29 characters. */
enum { WHEN_HTTP_BYTES = 29 };
void when_format_http(int64_t ms, char *out);

#endif
