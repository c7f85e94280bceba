/* The remindme facade's own parts (facades.md, "remindme"): users in remindme_users.c, pages in remindme_pages.c, the
 * rest in remindme.c. */
#ifndef BELFRY_ACTORS_FACADES_REMINDME_H
#define BELFRY_ACTORS_FACADES_REMINDME_H

#include "actors/auth/entry.h"
#include "actors/facades/facade.h"

/* What register and login keep between their steps. */
struct remindme_entry {
    struct entry_state shared; /* first: the steps of actors/auth see it */
    struct signup_in signup;
    struct login_in login;
};
extern const struct step remindme_register_steps[], remindme_login_steps[], remindme_logout_steps[];
enum err remindme_me_query(struct look *look, const void *in, struct reply *reply);

/* Pages and texts that are always the same. */
extern const struct step remindme_routes_steps[], remindme_home_steps[], remindme_login_page_steps[],
    remindme_register_page_steps[];

/* {"member": "text"} and {"member": ["text"]}: how the product speaks of errors and fields. */
void remindme_say(struct reply *reply, int status, const char *member, const char *text);
void remindme_say_field(struct reply *reply, const char *field, const char *text);

#endif
