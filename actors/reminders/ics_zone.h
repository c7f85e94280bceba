/* The VTIMEZONE of a zone, from the tz database. */
#ifndef BELFRY_ACTORS_REMINDERS_ICS_ZONE_H
#define BELFRY_ACTORS_REMINDERS_ICS_ZONE_H

#include <libical/ical.h>

#include "actors/reminders/zone.h"

/* Holds from `from` on; where the zone has no rule for the future that iCalendar can say, up to 30 years behind now. */
icalcomponent *ics_zone(const struct zone *zone, const char *name, int64_t from, int64_t now);

/* libical writes zeros for what is not in the years 0 to 3000. */
static inline bool ics_has_time(int64_t seconds)
{
    return seconds > -62135596800 + 86400 && seconds < 32503680000 - 86400;
}

/* A local time without zone, or with utc in UTC. */
struct icaltimetype ics_time(int64_t seconds, bool utc);

#endif
