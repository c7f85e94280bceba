/* What a client may send about a reminder, and the commands that carry it: POST and PUT the whole, PATCH a part. One
 * struct, three tables: the path parameter and what is required differ. Hidden fields are the scripts' additions. */
#ifndef BELFRY_ACTORS_REMINDERS_BODY_H
#define BELFRY_ACTORS_REMINDERS_BODY_H

#include "actors/kind.h"

/* Operation tags: in logs for ever. */
enum { CREATE = 1, GET, LIST, PUT, PATCH, DELETE, DO_CREATE = 32, DO_PUT, DO_PATCH, DO_DELETE };

struct body {
    struct fieldset set;
    struct id id;
    struct bytes title, content;
    int64_t due_at;
    bool public, completed;
    int status;
    struct bytes assignee;
    struct id assignee_id;
    bool of_tasks; /* comes through the tasks facade */
};
extern const struct field create_in[], put_in[], patch_in[];

struct id_in {
    struct fieldset set;
    struct id id;
    bool of_tasks;
};
extern const struct field id_in[];

#endif
