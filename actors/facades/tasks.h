/* The tasks facade's own parts (facades.md, "tasks"): users in tasks_users.c, tasks in tasks.c. */
#ifndef BELFRY_ACTORS_FACADES_TASKS_H
#define BELFRY_ACTORS_FACADES_TASKS_H

#include "actors/auth/entry.h"
#include "actors/facades/facade.h"
#include "actors/reminders/record.h"

/* What one answer shows: users that stand in many tasks are written once. */
struct tasks_user_json {
    struct id id;
    struct bytes json;
};
struct tasks_view {
    struct look *look;
    struct account me;
    unsigned budget; /* rows that may still be looked at: a task's user and a user's tasks are lists of their own */
    struct tasks_user_json users[FACADE_LIST];
    size_t users_len;
};

/* Errors: ERR_UNAUTHORIZED, when the caller's account is gone. */
enum err tasks_view_open(struct look *look, struct tasks_view **out) MUST_USE;

/* How a user's tasks, or a task's user, stand in it. */
enum tasks_nesting { TASKS_NONE, TASKS_IDS, TASKS_WHOLE };
enum err tasks_add_user(struct tasks_view *view, struct buf *out, const char *name, const struct account *account,
                        enum tasks_nesting tasks, unsigned limit) MUST_USE;
enum err tasks_add_task(struct tasks_view *view, struct buf *out, const char *name, const struct reminder *r,
                        bool whole_user) MUST_USE;
/* The user of a task, by id; null when there is none any more. */
enum err tasks_add_assignee(struct tasks_view *view, struct buf *out, const char *name, struct id id) MUST_USE;

/* The answer: an array of what add writes for each id, the newest up to LIMIT_ANSWER_BYTES, oldest first. */
enum err tasks_add_list(struct tasks_view *view, const struct facade_ids *ids,
                        enum err (*add)(struct tasks_view *view, struct buf *out, struct id id),
                        struct reply *reply) MUST_USE;

void tasks_add_id(struct buf *out, const char *name, struct id id);
/* {"error": ..., "message": ...} */
void tasks_error(struct reply *reply, int status, const char *error, const char *message);
/* What mongoose says of a value that does not fit. */
void tasks_cast_error(struct reply *reply, const char *kind, struct bytes value, const char *path);

/* What signup and login keep between their steps. */
enum {
    TASKS_GENERATED_AT = 6,
    TASKS_GENERATED_BYTES = 12
}; /* "u" of the key and "user-", then as many random bytes in hex */
struct tasks_entry {
    struct entry_state shared; /* first: the steps of actors/auth see it */
    struct login_in login;
    struct alias_in alias;
    struct bytes name, username, email; /* as sent */
    struct bytes username_key, email_key;
    uint8_t name_key[TASKS_GENERATED_AT + 2 * TASKS_GENERATED_BYTES]; /* of the generated name; folds to itself */
    unsigned partition;
    struct id skip; /* an alias row that leads to no account */
    unsigned tries;
    bool known; /* somebody has this alias, with another password */
};

extern const struct step tasks_signup_steps[], tasks_login_steps[];
enum err tasks_users_query(struct look *look, const void *in, struct reply *reply);
enum err tasks_user_query(struct look *look, const void *in, struct reply *reply);

#endif
