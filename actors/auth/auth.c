/* The kind's table, and its queries. */
#include "actors/auth/entry.h"
#include "actors/page.h"
#include "node/limits.h"

const struct field page_fields[] = {FIELD_INT(1, page_in, limit, 1, LIMIT_PAGE, FIELD_QUERY),
                                    FIELD_STRING(2, page_in, cursor, 0, 512, FIELD_QUERY), FIELDS_END};

enum err me_query(struct look *look, const void *in, struct reply *reply)
{
    struct bytes value;
    struct account account = {0};
    (void)in;
    struct rows *rows = look->rows(look, id_partition(look->caller.account));
    TRY(account_find(rows, look->caller.account, &account));
    TRY(rows_get(rows, TABLE_ACCOUNT, id_bytes(&look->caller.account), &value));
    reply_record(reply, account_fields, value, (uint64_t)account.version, 0, BYTES_NONE);
    return OK;
}

enum err sessions_query(struct look *look, const void *in, struct reply *reply)
{
    struct id account = look->caller.account;
    struct rows *rows = look->rows(look, id_partition(account));
    uint8_t from[2 * sizeof account.b + 1] = {0};
    struct bytes key, value;
    (void)in;
    reply->list = true;
    reply->fields = session_fields;
    memcpy(from, account.b, sizeof account.b);
    enum err err = rows_ceil(rows, TABLE_SESSION, bytes_of(from, 2 * sizeof account.b), &key, &value);
    while (err == OK && bytes_start_with(key, id_bytes(&account))) {
        reply_item(reply, session_fields, value);
        CHECK(key.len == 2 * sizeof account.b);
        memcpy(from, key.ptr, key.len);
        err = rows_ceil(rows, TABLE_SESSION, bytes_of(from, sizeof from), &key, &value);
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static bool users_want(void *ctx, struct rows *rows, struct id id, struct bytes *out_packed, enum err *out_err)
{
    struct account account = {0};
    (void)ctx;
    enum err err = rows_get(rows, TABLE_ACCOUNT, id_bytes(&id), out_packed);
    if (err == OK) {
        err = field_unpack(account_fields, *out_packed, &account);
    }
    *out_err = err;
    return err == OK && !account.deleted;
}

enum err users_query(struct look *look, const void *raw, struct reply *reply)
{
    const struct page_in *in = raw;
    struct page page;
    TRY(page_open(&page, look, in->limit, in->cursor));
    page_add_all(&page, TABLE_ACCOUNT, BYTES_NONE);
    return page_fill(&page, account_fields, users_want, NULL, reply);
}

/* A deletion of an account that is lost is over. */
static enum err auth_mend(struct rows *rows)
{
    TRY(account_mend(rows));
    return names_mend(rows);
}

/* Invariants: every pending name exists and is not confirmed; every unconfirmed name is pending; aliases have their
 * form. */
static enum err auth_check(struct rows *rows, struct arena *arena)
{
    struct bytes key = BYTES_NONE, value, found;
    uint64_t pending = 0, unconfirmed = 0;
    for (;;) {
        struct bytes from = arena_copy(arena, key);
        if (rows_ceil(rows, TABLE_PENDING, bytes_of(from.ptr, key.len == 0 ? 0 : from.len + 1), &key, &value) != OK) {
            break;
        }
        TRY(rows_get(rows, TABLE_NAME, bytes_of(key.ptr + 8, key.len - 8), &found));
        pending++;
    }
    key = BYTES_NONE;
    for (;;) {
        struct name name = {0};
        struct bytes from = arena_copy(arena, key);
        if (rows_ceil(rows, TABLE_NAME, bytes_of(from.ptr, key.len == 0 ? 0 : from.len + 1), &key, &value) != OK) {
            break;
        }
        TRY(field_unpack(name_fields, value, &name));
        unconfirmed += !name.confirmed;
    }
    TRY(pending == unconfirmed ? OK : ERR_CORRUPT);
    return aliases_check(rows, arena);
}

static const struct table tables[] = {
    {TABLE_ACCOUNT, "accounts", true},        {TABLE_SESSION, "sessions", true},
    {TABLE_ABORTED, "aborted_signups", true}, {TABLE_NAME, "names", true},
    {TABLE_PENDING, "pending_names", true},   {TABLE_DELETING, "deleting_accounts", true},
    {TABLE_ALIAS, "aliases", true},           {0}};

#define IN(table, type) .in = table, .in_size = sizeof(struct type)
static const struct op ops[] = {
    {AUTH_SIGNUP, OP_SCRIPT, OP_SECRET, ROLE_NONE, 201, "signup", METHOD_POST, "/v1/auth/signup",
     "Create an account and sign in", IN(signup_fields, signup_in), .out = session_out_fields,
     .state_size = sizeof(struct entry_state), .steps = signup_steps},
    {AUTH_LOGIN, OP_SCRIPT, OP_SECRET, ROLE_NONE, 200, "login", METHOD_POST, "/v1/auth/login",
     "Sign in by username or email", IN(login_fields, login_in), .out = session_out_fields,
     .state_size = sizeof(struct entry_state), .steps = login_steps},
    {AUTH_REFRESH, OP_SCRIPT, OP_SECRET, ROLE_NONE, 200, "refresh", METHOD_POST, "/v1/auth/refresh",
     "Exchange a refresh token", IN(refresh_fields, refresh_in), .out = session_out_fields,
     .state_size = sizeof(struct entry_state), .steps = refresh_steps},
    {AUTH_LOGOUT, OP_SCRIPT, 0, ROLE_USER, 204, "logout", METHOD_POST, "/v1/auth/logout",
     "End this session, or all of them", IN(logout_fields, logout_in), .state_size = sizeof(struct change_state),
     .steps = logout_steps},
    {AUTH_SESSIONS, OP_QUERY, 0, ROLE_USER, 200, "sessions", METHOD_GET, "/v1/auth/sessions", "The caller's sessions",
     .out = session_fields, .address = own_address, .query = sessions_query},
    {AUTH_DROP_SESSION, OP_SCRIPT, 0, ROLE_USER, 204, "drop_session", METHOD_DELETE, "/v1/auth/sessions/{id}",
     "End one session", IN(session_id_fields, session_id_in), .state_size = sizeof(struct change_state),
     .steps = drop_session_steps},
    {AUTH_ME, OP_QUERY, 0, ROLE_USER, 200, "me", METHOD_GET, "/v1/users/me", "The own account", .out = account_fields,
     .address = own_address, .query = me_query},
    {AUTH_PATCH_ME, OP_SCRIPT, OP_MERGE_PATCH, ROLE_USER, 200, "patch_me", METHOD_PATCH, "/v1/users/me",
     "Change the own account", IN(account_patch_fields, account_patch), .out = account_fields, .steps = patch_me_steps},
    {AUTH_DELETE_ME, OP_SCRIPT, 0, ROLE_USER, 204, "delete_me", METHOD_DELETE, "/v1/users/me",
     "Delete the own account and all its data", .state_size = sizeof(struct change_state), .steps = delete_steps},
    {AUTH_PASSWORD, OP_SCRIPT, 0, ROLE_USER, 204, "password", METHOD_PUT, "/v1/users/me/password",
     "Change the password; other sessions end", IN(password_fields, password_in),
     .state_size = sizeof(struct change_state), .steps = password_steps},
    {AUTH_PROFILE, OP_SCRIPT, 0, ROLE_NONE, 200, "profile", METHOD_GET, "/v1/users/{username}", "A public profile",
     IN(username_fields, username_in), .out = profile_fields, .state_size = sizeof(struct change_state),
     .steps = profile_steps},
    {AUTH_USERS, OP_QUERY, OP_ALL_PARTITIONS, ROLE_ADMIN, 200, "users", METHOD_GET, "/v1/users",
     "All accounts, newest first", IN(page_fields, page_in), .out = account_fields, .query = users_query},
    {AUTH_ROLE, OP_SCRIPT, 0, ROLE_ADMIN, 200, "role", METHOD_PATCH, "/v1/users/{username}", "Grant or take a role",
     IN(role_fields, role_in), .out = account_fields, .state_size = sizeof(struct change_state), .steps = role_steps},

    {AUTH_RESERVE_NAME, OP_COMMAND, .name = "reserve_name", IN(name_in_fields, name_in), .reduce = name_reserve},
    {AUTH_CONFIRM_NAME, OP_COMMAND, .name = "confirm_name", IN(name_in_fields, name_in), .reduce = name_confirm},
    {AUTH_FREE_NAME, OP_COMMAND, .flags = OP_FREES, .name = "free_name", IN(name_in_fields, name_in),
     .reduce = name_free},
    {AUTH_CREATE, OP_COMMAND, OP_SECRET, .name = "create", IN(create_fields, create), .reduce = account_create},
    {AUTH_SETTLE, OP_COMMAND, .flags = OP_FREES, .name = "settle", IN(forget_fields, forget), .reduce = account_settle},
    {AUTH_NEW_SESSION, OP_COMMAND, OP_SECRET, .name = "new_session", IN(new_session_fields, new_session),
     .reduce = session_new},
    {AUTH_ROTATE, OP_COMMAND, OP_SECRET, .name = "rotate", IN(rotate_fields, rotate), .reduce = session_rotate},
    {AUTH_END_SESSIONS, OP_COMMAND, .flags = OP_FREES, .name = "end_sessions", IN(end_session_fields, end_session),
     .reduce = session_end},
    {AUTH_SET_PASSWORD, OP_COMMAND, .name = "set_password", IN(set_password_fields, set_password),
     .reduce = account_set_password},
    {AUTH_SET_ROLE, OP_COMMAND, .name = "set_role", IN(set_role_fields, set_role), .reduce = account_set_role},
    {AUTH_MARK_DELETED, OP_COMMAND, .flags = OP_FREES, .name = "mark_deleted", IN(end_session_fields, end_session),
     .reduce = account_mark_deleted},
    {AUTH_FORGET, OP_COMMAND, .flags = OP_FREES, .name = "forget", IN(forget_fields, forget), .reduce = account_forget},
    {AUTH_REMOVE, OP_COMMAND, .flags = OP_FREES, .name = "remove", IN(end_session_fields, end_session),
     .reduce = account_remove},
    {AUTH_UPDATE, OP_COMMAND, .name = "update", IN(account_patch_fields, account_patch), .reduce = account_update},
    {AUTH_PUT_ALIASES, OP_COMMAND, .name = "put_aliases", IN(alias_in_fields, alias_in), .reduce = aliases_put},
    {AUTH_DROP_ALIASES, OP_COMMAND, .flags = OP_FREES, .name = "drop_aliases", IN(alias_in_fields, alias_in),
     .reduce = aliases_drop},
    {AUTH_SETTLE_NAME, OP_SCRIPT, .name = "settle_name", IN(settle_name_fields, settle_name),
     .state_size = sizeof(struct change_state), .steps = settle_name_steps},
    {AUTH_FINISH_DELETE, OP_SCRIPT, .name = "finish_delete", IN(forget_fields, forget),
     .state_size = sizeof(struct change_state), .steps = finish_delete_steps},
    {0}};

static const struct chore chores[] = {{"settle names", AUTH_SETTLE_NAME, name_find_pending},
                                      {"finish deletions", AUTH_FINISH_DELETE, account_find_deleting},
                                      {0}};

const struct kind auth_kind = {.id = KIND_AUTH,
                               .name = "auth",
                               .tables = tables,
                               .ops = ops,
                               .chores = chores,
                               .check = auth_check,
                               .mend = auth_mend};
