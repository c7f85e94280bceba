/* Recurrence (RFC 5545, by libical): the RRULE of a reminder, as `FREQ=...` or as lines `RRULE:...` and
 * `EXDATE...:...`, evaluated by the wall clock of an IANA time zone. Pure, but for the machine's time zone data: so it
 * runs where a command is made, never in a reducer. Safe on any thread.
 *
 * A local time that a change to daylight-saving time skips is taken with the offset before the change (RFC 5545
 * section 3.3.5): 02:30 rings at 03:30. One that occurs twice is the first. */
#ifndef BELFRY_ACTORS_REMINDERS_RECUR_H
#define BELFRY_ACTORS_REMINDERS_RECUR_H

#include "node/base/bytes.h"

/* Why the text cannot be a recurrence, as static text; NULL: it can. Frequencies below an hour, and rules that cost
 * too much to evaluate, are refused. */
const char *recur_refusal(struct bytes recurrence);
bool zone_is_known(struct bytes zone);

/* The first occurrence after after_ms of the series that begins at start_ms, in a zone (empty: UTC); false: there is
 * none. start_ms itself is the first occurrence (it counts for COUNT), unless it is excluded. Bounded in time
 * whatever the rule is. */
bool recur_next(struct bytes recurrence, struct bytes zone, int64_t start_ms, int64_t after_ms, int64_t *out_ms);

#endif
