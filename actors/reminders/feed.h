/* The iCalendar feed of an account: a secret address that shows its reminders to a calendar program, which cannot sign
 * in. The address holds a token: the account's id and a secret, of which a digest alone is kept (TABLE_FEED, key =
 * account id). A new token ends the one before; so does deleting it, and the account's deletion. */
#ifndef BELFRY_ACTORS_REMINDERS_FEED_H
#define BELFRY_ACTORS_REMINDERS_FEED_H

#include "actors/kind.h"

struct feed {
    struct fieldset set;
    struct bytes secret; /* its digest */
    int64_t created_at;
};
extern const struct field feed_fields[];

/* POST, GET and DELETE of the feed's token, and the feed itself. */
struct feed_made {
    struct fieldset set;
    struct bytes token, url;
};
extern const struct field feed_made_fields[];
struct feed_query_in {
    struct fieldset set;
    struct bytes token;
};
extern const struct field feed_query_fields[];
struct feed_none {
    struct fieldset set;
};
extern const struct field feed_none_fields[];

extern const struct step feed_make_steps[], feed_drop_steps[];

enum err feed_token_address(const struct caller *caller, const void *in, struct arena *arena, unsigned partitions,
                            struct address *out);
enum err feed_get_query(struct look *look, const void *in, struct reply *reply);
enum err feed_ics_query(struct look *look, const void *in, struct reply *reply);
enum err feed_put_reduce(struct turn *turn, const void *in, struct reply *reply);
enum err feed_drop_reduce(struct turn *turn, const void *in, struct reply *reply);

enum { FEED_MAKE = 16, FEED_GET, FEED_DROP, FEED_ICS, FEED_DO_PUT = 48, FEED_DO_DROP };
enum { FEED_STATE_BYTES = 256 };

/* See struct kind. */
enum err feed_forget(struct turn *turn, struct id account, unsigned limit, unsigned *out_erased) MUST_USE;
enum err feed_check(struct rows *rows, struct arena *arena) MUST_USE;

#endif
