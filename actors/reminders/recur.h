/* Recurrence (RFC 5545): the RRULE of a reminder, as `FREQ=...` or as lines `RRULE:...` and `EXDATE...:...`, evaluated
 * by the wall clock of an IANA time zone. Pure, but for the machine's time zone data: so it runs where a command is
 * made, never in a reducer. Safe on any thread.
 *
 * A local time that a change to daylight-saving time skips is taken with the offset before the change (RFC 5545
 * section 3.3.5): 02:30 rings at 03:30. One that occurs twice is the first. So an hourly rule, too, goes by the wall
 * clock: it leaves out the hour that comes a second time in autumn.
 *
 * EXDATE takes local times in the zone (or in the one that ;TZID= names), UTC times with Z, and with ;VALUE=DATE whole
 * local days. UNTIL is inclusive; a local time or a date (its whole day) is the zone's. Occurrences keep the
 * milliseconds of the first one; EXDATE and UNTIL compare whole seconds. */
#ifndef BELFRY_ACTORS_REMINDERS_RECUR_H
#define BELFRY_ACTORS_REMINDERS_RECUR_H

#include "node/base/bytes.h"

/* Why the text cannot be a recurrence, as static text; NULL: it can. Frequencies below an hour, and rules that cost
 * too much to evaluate, are refused. */
const char *recur_refusal(struct bytes recurrence);
bool zone_is_known(struct bytes zone);

/* The first occurrence after after_ms of the series that begins at start_ms, in a zone (empty: UTC). RECUR_OVER: there
 * is none; RECUR_UNKNOWN: this machine does not know the zone, or the rule. start_ms itself is the first occurrence,
 * whether the rule names it or not (it counts for COUNT, UNTIL does not end it), unless it is excluded. Bounded in time
 * whatever the rule is (series.h): what comes only after some 200 years, or not before the year 9999, does not come. */
enum recur { RECUR_OVER, RECUR_FOUND, RECUR_UNKNOWN };
enum recur recur_next(struct bytes recurrence, struct bytes zone, int64_t start_ms, int64_t after_ms, int64_t *out_ms);

#endif
