/* The record of a reminder and the rows that lead to it. */
#ifndef BELFRY_ACTORS_REMINDERS_RECORD_H
#define BELFRY_ACTORS_REMINDERS_RECORD_H

#include "actors/kind.h"

enum { TODO, DOING, DONE };
extern const char *const reminder_statuses[];

/* A record: TABLE_REMINDER, key = id. */
struct reminder {
    struct fieldset set;
    struct id id;
    struct bytes title, content;
    int64_t due_at;
    bool public, completed;
    int status;
    struct bytes assignee, created_by;
    int64_t created_at, updated_at;
    struct id owner, assignee_id;
    int64_t version;
    struct bytes time_zone, recurrence;
    int64_t starts_at;     /* of a series: its first occurrence; due_at moves from one to the next */
    int64_t snoozed_until; /* this occurrence rings then */
    int64_t armed_at;      /* when it fires next; absent: it does not. It has a row in TABLE_DUE then */
    int64_t fired_at;      /* when it last did */
    bool of_tasks;         /* made through the tasks facade: whoever comes through it may change it */
};

extern const struct field reminder_fields[];

#define SET(r, member, value) FIELD_SET(reminder_fields, r, struct reminder, member, value)
#define CLEAR(r, member) FIELD_CLEAR(reminder_fields, r, struct reminder, member)
#define REMINDER_HAS(r, member) FIELD_HAS(reminder_fields, r, struct reminder, member)

/* Its present time has rung. */
bool reminder_has_rung(const struct reminder *r);

/* A key of TABLE_DUE: armed_at, so that byte order is time order | id; the last byte is for keys right behind. */
struct due_key {
    uint8_t b[8 + sizeof(struct id) + 1];
};
struct due_key due_key(int64_t armed_at, struct id id);
static inline struct bytes due_key_bytes(const struct due_key *key)
{
    return bytes_of(key->b, sizeof key->b - 1);
}
int64_t due_key_time(struct bytes key);
struct id due_key_id(struct bytes key);

enum err reminder_load(struct rows *rows, struct id id, struct reminder *out, struct bytes *out_packed) MUST_USE;
/* The indexes: written and erased in one place each. */
enum err reminder_index(struct rows *rows, const struct reminder *r) MUST_USE;
enum err reminder_unindex(struct rows *rows, const struct reminder *r) MUST_USE;

/* See struct kind. */
enum err reminders_check(struct rows *rows, struct arena *arena) MUST_USE;
enum err reminders_mend(struct rows *rows) MUST_USE;

#endif
