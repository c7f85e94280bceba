/* A time zone of the system's tz database (/usr/share/zoneinfo), read from its TZif file (RFC 8536) anew each time: no
 * state is shared, any thread may use its own. Seconds: UTC since 1970, or local: the wall clock read as if it were
 * UTC.
 *
 * Not by libical: its 3.0.16 takes the minutes of a negative offset with the wrong sign (America/St_Johns) and differs
 * from the C library in a dozen other zones, future years included. */
#ifndef BELFRY_ACTORS_REMINDERS_ZONE_H
#define BELFRY_ACTORS_REMINDERS_ZONE_H

#include "node/base/bytes.h"

struct zone; /* opaque */
struct zone_rule;

/* A stretch of time with one offset: from <= t < until. INT64_MIN and INT64_MAX: without an end. */
struct zone_span {
    int64_t from, until;
    int offset; /* local - UTC */
    bool daylight;
    struct bytes name; /* "CET"; belongs to the zone */
};

/* NULL: there is no such zone. Empty: UTC. */
struct zone *zone_open(struct bytes name) MUST_USE;
void zone_free(struct zone *zone);

struct zone_span zone_span(const struct zone *zone, int64_t utc);
/* The rule by which it goes on, and from which of its changes on it does; NULL: with one offset, or by a rule that goes
 * beyond weekdays and times of day. */
const struct zone_rule *zone_tail(const struct zone *zone, int64_t *out_from);
int64_t zone_local(const struct zone *zone, int64_t utc);
/* A local time that a change skips is taken with the offset before the change (RFC 5545 section 3.3.5); one that occurs
 * twice is the first. */
int64_t zone_utc(const struct zone *zone, int64_t local);

#endif
