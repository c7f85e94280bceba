/* What clients and scripts say of a reminder, and the operations on it: shared by the kind's files, and by whoever
 * makes its commands for other clients. */
#ifndef BELFRY_ACTORS_REMINDERS_BODY_H
#define BELFRY_ACTORS_REMINDERS_BODY_H

#include "actors/reminders/record.h"

/* In logs for ever: never reused. */
enum reminder_op {
    REMINDER_CREATE = 1,
    REMINDER_GET,
    REMINDER_LIST,
    REMINDER_PUT,
    REMINDER_PATCH,
    REMINDER_DELETE,
    REMINDER_SNOOZE,
    REMINDER_FIRE,
    REMINDER_DO_CREATE = 32,
    REMINDER_DO_PUT,
    REMINDER_DO_PATCH,
    REMINDER_DO_DELETE,
    REMINDER_DO_SNOOZE,
    REMINDER_DO_FIRE
};

/* What a client may send: POST and PUT the whole, PATCH a part. One struct, three tables: the path parameter and what
 * is required differ. What is hidden is the script's addition. */
struct reminder_body {
    struct fieldset set;
    struct id id;
    struct bytes title, content;
    int64_t due_at;
    bool public, completed;
    int status;
    struct bytes assignee;
    struct id assignee_id;
    struct bytes time_zone, recurrence;
    int64_t starts_at; /* of the series, when it is a new one */
    int64_t next_at;   /* the series' next occurrence */
    int64_t based_on;  /* the version both were computed for */
    bool of_tasks;     /* comes through the tasks facade */
};
extern const struct field reminder_create_in[], reminder_put_in[], reminder_patch_in[];
#define BODY_HAS(in, member) FIELD_HAS(reminder_patch_in, in, struct reminder_body, member)
#define BODY_IS_NULL(in, member) FIELD_IS_NULL(reminder_patch_in, in, struct reminder_body, member)
#define BODY_SET(in, member, value) FIELD_SET(reminder_patch_in, in, struct reminder_body, member, value)

struct reminder_id {
    struct fieldset set;
    struct id id;
    bool of_tasks;
};
extern const struct field reminder_id_in[];

struct reminder_snooze {
    struct fieldset set;
    struct id id;
    int64_t until, for_ms;
};
extern const struct field reminder_snooze_in[];

/* A reminder of this version that is due, the time it was armed for, and the series' next occurrence behind it. */
struct due_item {
    struct id id;
    int64_t version, at, next;
    bool has_next;
    uint8_t zero[7];
};
/* Items, one behind another, as they are in memory. */
struct reminder_fire {
    struct fieldset set;
    struct bytes items;
};
extern const struct field reminder_fire_in[];

bool reminder_may_see(const struct reminder *r, const struct caller *caller);

/* change.c */
enum err reminder_create(struct turn *turn, const void *in, struct reply *reply);
enum err reminder_put(struct turn *turn, const void *in, struct reply *reply);
enum err reminder_patch(struct turn *turn, const void *in, struct reply *reply);
enum err reminder_delete(struct turn *turn, const void *in, struct reply *reply);
enum err reminders_forget(struct turn *turn, struct id account, unsigned limit, unsigned *out_erased);
/* Of a record that the caller may see, copied out of the map. */
enum err reminder_load_visible(struct turn *turn, struct id id, struct reminder *out) MUST_USE;
/* Writes the record, of a new version, and answers with it. */
enum err reminder_store(struct turn *turn, struct reminder *r, struct reply *reply) MUST_USE;

/* fire.c */
int64_t reminders_due(struct rows *rows);
enum err reminder_fire(struct turn *turn, const void *in, struct reply *reply);
enum err reminder_snooze(struct turn *turn, const void *in, struct reply *reply);
struct fire_state {
    struct reminder_fire fire;
};
extern const struct step reminder_fire_steps[];

/* scripts.c: they find the assignee's account and the creator's actor, and what recurrence comes to; then the
 * command. */
struct write_state {
    struct reminder_body body;
    struct id actor;
    struct bytes name;
    unsigned tries;
};
/* Adds to the body what recurrence comes to; in is what was sent, before the reminder as it is (NULL: a new one). The
 * command may say ERR_CONFLICT: the reminder was changed in between, look again. */
enum err reminder_schedule(struct script *s, const struct reminder *before, bool whole, const struct reminder_body *in,
                           struct reminder_body *body) MUST_USE;
extern const struct step reminder_create_steps[], reminder_put_steps[], reminder_patch_steps[], reminder_delete_steps[],
    reminder_snooze_steps[];

#endif
