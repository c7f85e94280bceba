/* Reminders as an iCalendar object (RFC 5545), by libical. */
#ifndef BELFRY_ACTORS_REMINDERS_ICS_H
#define BELFRY_ACTORS_REMINDERS_ICS_H

#include "actors/reminders/record.h"

struct ics; /* opaque */

struct ics *ics_new(int64_t now_ms);
/* A VEVENT with an alarm; what has no due time, or one behind the year 2999, is left out. */
void ics_add(struct ics *ics, const struct reminder *r);
/* Appends the text and frees it. */
void ics_write_free(struct ics *ics, struct buf *out);

#endif
