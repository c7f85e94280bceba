/* Event logs: what happened that concerns an account, in the account's partition, in order. Bounded by age, count
 * and size (node/limits.h). See events.md for keys and invariants.
 *
 * A cursor is a position in one account's log: milliseconds since 1970 << 20 | a number that keeps it rising. Zero
 * is before everything. Clients see it in decimal and hand it back. */
#ifndef BELFRY_ACTORS_EVENTS_H
#define BELFRY_ACTORS_EVENTS_H

#include "actors/kind.h"

extern const struct kind events_kind;

/* In logs for ever: never reused. */
enum event_type {
    EVENT_REMINDER_FIRED = 1, /* data: the reminder */
    EVENT_REMINDER_CHANGED,
    EVENT_REMINDER_DELETED,
    EVENT_REMINDER_ASSIGNED, /* to this account */
    EVENT_REMINDER_UNASSIGNED
};

/* In a reducer: adds an event to the account's log, at once if it lives in the turn's partition, else as soon as
 * that partition's leader has it (exactly once, in order). data is a packed record of the type. */
enum err event_add(struct turn *turn, struct id account, enum event_type type, struct bytes data) MUST_USE;

/* The newest event's cursor; 0: none. */
enum err events_newest(struct rows *rows, struct id account, uint64_t *out_cursor) MUST_USE;
/* Appends the events behind the cursor as Server-Sent Events (WHATWG HTML, section 9.2): `id` the cursor, `event` the
 * name, `data` one line of JSON; about room bytes at most, at least one event if there is one; moves the cursor. If
 * events behind it were dropped already, the first is `stream.gap`. */
enum err events_write(struct rows *rows, struct id account, uint64_t *cursor, size_t room, struct buf *out) MUST_USE;

#endif
