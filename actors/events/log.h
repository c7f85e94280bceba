/* The rows of an account's event log, and what bounds it. */
#ifndef BELFRY_ACTORS_EVENTS_LOG_H
#define BELFRY_ACTORS_EVENTS_LOG_H

#include "actors/kind.h"

/* A row: TABLE_EVENT, key = account | cursor. */
struct event {
    struct fieldset set;
    int64_t type;
    struct bytes data;
};
extern const struct field event_fields[];

/* TABLE_EVENT_HEAD, key = account. */
struct event_head {
    struct fieldset set;
    int64_t newest, dropped; /* cursors: of the newest event, and of the newest that was dropped */
    int64_t count, bytes;    /* of what is kept */
};

/* All zero when there is none. */
enum err event_head_load(struct rows *rows, struct id account, struct event_head *out) MUST_USE;
/* Nothing is added for an account that is gone. */
enum err event_log_add(struct turn *turn, struct id account, int64_t type, struct bytes data) MUST_USE;
/* The first event behind *at, which moves there. ERR_NOT_FOUND. */
enum err event_log_next(struct rows *rows, struct id account, uint64_t *at, struct event *out) MUST_USE;

/* See struct kind. */
enum err event_log_forget(struct turn *turn, struct id account, unsigned limit, unsigned *out_erased) MUST_USE;
enum err event_log_check(struct rows *rows, struct arena *arena) MUST_USE;
enum err event_log_mend(struct rows *rows) MUST_USE;

#endif
