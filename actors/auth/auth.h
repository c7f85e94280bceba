/* Accounts, names and sessions: see auth.md for routes, keys and invariants.
 * This header is shared by the kind's own files; other kinds use only account_find. */
#ifndef BELFRY_ACTORS_AUTH_H
#define BELFRY_ACTORS_AUTH_H

#include "actors/auth/alias.h"
#include "actors/system/system.h"

extern const struct kind auth_kind;

/* Operation tags: in logs for ever. */
enum auth_op {
    AUTH_SIGNUP = 1,
    AUTH_LOGIN,
    AUTH_REFRESH,
    AUTH_LOGOUT,
    AUTH_SESSIONS,
    AUTH_DROP_SESSION,
    AUTH_ME,
    AUTH_PATCH_ME,
    AUTH_DELETE_ME,
    AUTH_PASSWORD,
    AUTH_PROFILE,
    AUTH_USERS,
    AUTH_ROLE,
    AUTH_RESERVE_NAME = 32,
    AUTH_CONFIRM_NAME,
    AUTH_FREE_NAME,
    AUTH_CREATE,
    AUTH_SETTLE,
    AUTH_NEW_SESSION,
    AUTH_ROTATE,
    AUTH_END_SESSIONS,
    AUTH_SET_PASSWORD,
    AUTH_SET_ROLE,
    AUTH_MARK_DELETED,
    AUTH_FORGET,
    AUTH_REMOVE,
    AUTH_SETTLE_NAME,
    AUTH_FINISH_DELETE,
    AUTH_UPDATE,
    AUTH_PUT_ALIASES,
    AUTH_DROP_ALIASES
};

/* The account row: TABLE_ACCOUNT, key = id. */
struct account {
    struct fieldset set;
    struct id id;
    struct bytes username, email, first_name, last_name;
    int role; /* 0 user, 1 admin: index into account_roles */
    int64_t created_at, updated_at;
    struct bytes password; /* PHC string */
    bool deleted;          /* being erased: nothing may be added */
    int64_t version;
    /* Of an account that a facade made: what the client called itself, not unique (alias.h). */
    struct bytes alias_name, alias_username, alias_email;
};
extern const struct field account_fields[]; /* as stored and as the owner sees it */
extern const struct field profile_fields[]; /* as everybody sees it */
extern const char *const account_roles[];

/* Errors: ERR_NOT_FOUND (also for one being deleted), ERR_CORRUPT. Strings borrow from the row. */
enum err account_find(struct rows *rows, struct id id, struct account *out) MUST_USE;
/* The key borrows the id. */
struct address address_of_account(const struct id *id);

/* A name row: TABLE_NAME, key = 'u' or 'e' | folded text. A reservation becomes the account's when
 * confirmed; until then it is settled by asking the account's partition. */
struct name {
    struct fieldset set;
    struct id account;
    int64_t reserved_at;
    bool confirmed;
};
extern const struct field name_fields[];
/* Input of the three name operations; the key comes with the address. */
struct name_in {
    struct fieldset set;
    struct id account;
};
extern const struct field name_in_fields[];
enum name_type { NAME_USERNAME = 'u', NAME_EMAIL = 'e' };
/* The key of a name; empty when the text cannot be one. Arena memory. */
struct bytes name_key(enum name_type type, struct bytes text, struct arena *arena);
struct address address_of_name(struct bytes key, unsigned partitions);
/* Writes the row of a name that its account is made together with. ERR_USERNAME_TAKEN. */
enum err name_put(struct turn *turn, struct bytes key, struct id account) MUST_USE;
/* The account that holds the name, confirmed or not. ERR_NOT_FOUND. */
enum err name_find(struct rows *rows, struct bytes key, struct id *out) MUST_USE;
bool username_is_good(struct bytes username);
bool email_is_good(struct bytes email);

/* A session row: TABLE_SESSION, key = account | session id. The refresh token holds the account and
 * session ids, a family secret that stays and a secret that changes at each use; only their digests
 * are stored. A right family with a wrong secret is a reused token: the session ends. */
struct session {
    struct fieldset set;
    struct id id;
    int64_t created_at, used_at;
    struct bytes remote;
    struct bytes family, secret; /* digests */
};
extern const struct field session_fields[];

/* What signup, login and refresh answer. */
struct session_out {
    struct fieldset set;
    struct bytes access_token, token_type, refresh_token;
    int64_t expires_in;
    struct account user;
};
extern const struct field session_out_fields[];

/* What a refresh token is made of. */
struct refresh_token {
    struct id account, session;
    uint8_t family[16], secret[32];
};
bool refresh_token_parse(struct bytes text, struct refresh_token *out) MUST_USE;
struct digest refresh_token_family(const struct refresh_token *token);
struct digest refresh_token_secret(const struct refresh_token *token);
/* Signs an access token and makes the operation's answer: the user comes packed. */
enum err session_answer(struct script *s, const struct refresh_token *token, struct bytes account,
                        int64_t stamp_ms) MUST_USE;

/* Input of AUTH_NEW_SESSION and, with the account, AUTH_CREATE. */
struct new_session {
    struct fieldset set;
    struct bytes family, secret, remote;
    struct bytes password; /* the PHC string that was verified: must still be the account's */
    struct bytes rehashed; /* replaces it */
};
extern const struct field new_session_fields[];
struct create {
    struct fieldset set;
    struct bytes username, email, first_name, last_name, password;
    struct new_session session;
    struct bytes name; /* key of the username, if it lives in the account's partition: both are made at once */
    struct bytes alias_name, alias_username, alias_email;
    struct bytes username_key, email_key; /* of those aliases that live in the account's partition */
};
extern const struct field create_fields[];
/* Answer of both: the account and the session's id. */
struct created {
    struct fieldset set;
    struct id session;
    struct bytes account; /* packed account */
};
extern const struct field created_fields[];

/* Writes a new session row; ends the oldest ones beyond LIMIT_SESSIONS. */
enum err session_put_new(struct turn *turn, struct id account, const struct new_session *in, struct id *out) MUST_USE;
enum err session_end_all(struct turn *turn, struct id account, struct id keep) MUST_USE;

/* Reducers, queries and steps by file: names.c, account.c, session.c. */
enum err name_reserve(struct turn *turn, const void *in, struct reply *reply);
enum err name_confirm(struct turn *turn, const void *in, struct reply *reply);
enum err name_free(struct turn *turn, const void *in, struct reply *reply);
enum err account_create(struct turn *turn, const void *in, struct reply *reply);
enum err account_settle(struct turn *turn, const void *in, struct reply *reply);
enum err account_update(struct turn *turn, const void *in, struct reply *reply);
enum err account_set_password(struct turn *turn, const void *in, struct reply *reply);
enum err account_set_role(struct turn *turn, const void *in, struct reply *reply);
enum err account_mark_deleted(struct turn *turn, const void *in, struct reply *reply);
enum err account_forget(struct turn *turn, const void *in, struct reply *reply);
enum err account_remove(struct turn *turn, const void *in, struct reply *reply);
enum err session_new(struct turn *turn, const void *in, struct reply *reply);
enum err session_rotate(struct turn *turn, const void *in, struct reply *reply);
enum err session_end(struct turn *turn, const void *in, struct reply *reply);

struct set_password {
    struct fieldset set;
    struct bytes old, password;
    struct id keep;
};
extern const struct field set_password_fields[];
struct set_role {
    struct fieldset set;
    int role;
};
extern const struct field set_role_fields[];
struct account_patch {
    struct fieldset set;
    struct bytes first_name, last_name;
};
extern const struct field account_patch_fields[];
struct rotate {
    struct fieldset set;
    struct id session;
    struct bytes family, secret, fresh;
};
extern const struct field rotate_fields[];
struct rotated {
    struct fieldset set;
    bool reused;
    struct bytes account;
};
extern const struct field rotated_fields[];
struct end_session {
    struct fieldset set;
    struct id session;
}; /* none: all */
extern const struct field end_session_fields[];
struct settled {
    struct fieldset set;
    bool live;
};
extern const struct field settled_fields[];
struct forget {
    struct fieldset set;
    struct id account;
};
extern const struct field forget_fields[];
struct forgot {
    struct fieldset set;
    bool more;
};
extern const struct field forgot_fields[];

/* Chores: what the sweeper looks for. */
struct settle_name {
    struct fieldset set;
    struct id account;
    struct bytes name;
};
extern const struct field settle_name_fields[];
enum err names_mend(struct rows *rows) MUST_USE;
enum err account_mend(struct rows *rows) MUST_USE;
bool name_find_pending(struct rows *rows, int64_t now_ms, struct arena *arena, void *in);
bool account_find_deleting(struct rows *rows, int64_t now_ms, struct arena *arena, void *in);

/* Public operations and the chores' scripts. */
struct logout_in {
    struct fieldset set;
    bool everywhere;
};
struct password_in {
    struct fieldset set;
    struct bytes old, new_;
};
struct username_in {
    struct fieldset set;
    struct bytes username;
};
struct role_in {
    struct fieldset set;
    struct bytes username;
    int role;
};
struct page_in {
    struct fieldset set;
    int64_t limit;
    struct bytes cursor;
};
struct session_id_in {
    struct fieldset set;
    struct id id;
};
extern const struct field logout_fields[], password_fields[], username_fields[], role_fields[], page_fields[],
    session_id_fields[];
/* What scripts that change an account keep between their steps. */
struct change_state {
    struct id account;
    struct bytes username, email, key;
    struct bytes alias_username, alias_email; /* keys */
    struct alias_in alias;
    struct password_job job;
    struct set_password set_password;
    struct set_role set_role;
    struct name_in name_in;
    struct revoke revoke;
    struct end_session end;
    struct forget forget;
    unsigned partition;
};
extern const struct step logout_steps[], drop_session_steps[], password_steps[], role_steps[], profile_steps[],
    patch_me_steps[], delete_steps[], finish_delete_steps[], settle_name_steps[];
enum err me_query(struct look *look, const void *in, struct reply *reply);
enum err sessions_query(struct look *look, const void *in, struct reply *reply);
enum err users_query(struct look *look, const void *in, struct reply *reply);

#endif
