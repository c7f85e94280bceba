/* The tables of the state. */
#ifndef BELFRY_ACTORS_TABLES_H
#define BELFRY_ACTORS_TABLES_H

/* Never reused. 1 to 9 are the node's own (node/apply.h). */
enum {
    TABLE_REVOKED = 10,
    TABLE_REVOKED_TIME = 11,
    TABLE_KEYS = 12,
    TABLE_RETIRED = 13,
    TABLE_ACCOUNT = 20,
    TABLE_SESSION = 21,
    TABLE_ABORTED = 22,
    TABLE_NAME = 23,
    TABLE_PENDING = 24,
    TABLE_DELETING = 25,
    TABLE_ALIAS = 26,
    TABLE_REMINDER = 40,
    TABLE_MINE = 41,
    TABLE_PUBLIC = 42,
    TABLE_ASSIGNED = 43,
    TABLE_DUE = 44,
    TABLE_FEED = 45,
    TABLE_EVENT = 50,
    TABLE_EVENT_HEAD = 51,
    TABLE_EVENT_AGE = 52,
    TABLE_OUTBOX = 53,
    TABLE_INBOX = 54
};

#endif
