/* The ways in, as tables that scripts are put together from: /v1's signup and login, and those of the facades. What is
 * shared works on the struct entry_state at the start of the script's state, and goes on with st->then. */
#ifndef BELFRY_ACTORS_AUTH_ENTRY_H
#define BELFRY_ACTORS_AUTH_ENTRY_H

#include "actors/auth/auth.h"

struct signup_in {
    struct fieldset set;
    struct bytes username, email, password, first_name, last_name;
};
struct login_in {
    struct fieldset set;
    struct bytes login, password;
};
struct refresh_in {
    struct fieldset set;
    struct bytes refresh_token;
};
extern const struct field signup_fields[], login_fields[], refresh_fields[];

struct entry_state {
    const struct signup_in *signup;
    const struct login_in *login;
    const struct step *then; /* the rest of the script */
    bool no_session;         /* signup: only the account is made */
    /* Results: the account's id in token.account, its packed row after a signup, after a login whether there is such an
     * account (verified) and whether the password is its (job.matches), and a time from before it was read. */
    struct password_job job;
    struct refresh_token token;
    struct bytes account;
    bool verified;
    int64_t stamp_ms;
    /* Their own. */
    struct bytes username_key, email_key;
    struct create create;
    struct new_session session;
    struct name_in name_in;
    struct rotate rotate;
    struct revoke revoke;
    struct forget none;
    bool email_failed;
};

/* Makes an account with two unique names. Errors: ERR_INVALID_FIELDS, ERR_USERNAME_TAKEN, ERR_EMAIL_TAKEN. */
extern const struct step signup_saga_steps[];
/* Finds the account by username or email, and verifies the password. */
extern const struct step login_find_steps[];
/* The step of both that verifies the password of the account st->token.account, whose partition was just read. */
enum err login_verify(struct script *s);
/* Before a stamp is taken for an account that is not new: what was revoked by now is known here, so that the token is
 * not of before it. */
enum err entry_revocations(struct script *s);

extern const struct step signup_steps[], login_steps[], refresh_steps[];

#endif
