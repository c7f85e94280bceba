/* Users as the product knows them: no unique names, no validation; see actors/auth/alias.h. */
#include <stdio.h>

#include "actors/facades/foreign_id.h"
#include "actors/facades/json_out.h"
#include "actors/facades/tasks.h"
#include "node/limits.h"

enum { TOKEN_S = 360000, ALIAS_TRIES = 8, NAME_TRIES = 20000 };
_Static_assert(TOKEN_S <= LIMIT_FOREIGN_TOKEN_S, "revocations are kept as long as tokens live");

/* ---- JSON ---- */

/* What /v1 keeps to the user and to administrators is not shown to other users here either. */
static void add_names(const struct tasks_view *view, struct buf *out, const struct account *account)
{
    struct bytes name = account->alias_name, username = account->alias_username, email = account->alias_email;
    if (account->email.len > 0) { /* not made here */
        bool own = view != NULL && (id_eq(view->me.id, account->id) || view->me.role == 1);
        name = account->first_name.len > 0 ? account->first_name : account->username;
        username = account->username;
        email = own ? account->email : email;
    }
    if (name.len > 0) {
        json_out_text(out, "name", name);
    }
    if (email.len > 0) {
        json_out_text(out, "email", email);
    }
    if (username.len > 0) {
        json_out_text(out, "username", username);
    }
}

static enum err add_tasks(struct tasks_view *view, struct buf *out, struct id account, bool whole, unsigned limit)
{
    struct facade_ids ids;
    TRY(facade_reminders(view->look, FACADE_ASSIGNED, account, limit, &view->budget, &ids));
    for (size_t i = ids.len; i > 0; i--) {
        struct id id = ids.list[i - 1];
        struct reminder r = {0};
        struct bytes packed;
        if (!whole) {
            tasks_add_id(out, NULL, id);
            continue;
        }
        TRY(reminder_load(view->look->rows(view->look, id_partition(id)), id, &r, &packed));
        TRY(tasks_add_task(view, out, NULL, &r, false));
    }
    return OK;
}

enum err tasks_add_user(struct tasks_view *view, struct buf *out, const char *name, const struct account *account,
                        enum tasks_nesting tasks, unsigned limit)
{
    json_out_open(out, name, '{');
    json_out_text(out, "role", account->role == 1 ? BYTES_LIT("Admin") : BYTES_LIT("worker"));
    json_out_open(out, "tasks", '[');
    if (tasks != TASKS_NONE) {
        TRY(add_tasks(view, out, account->id, tasks == TASKS_WHOLE, limit));
    }
    buf_add_char(out, ']');
    tasks_add_id(out, "_id", account->id);
    add_names(view, out, account);
    json_out_time(out, "createdAt", account->created_at);
    json_out_time(out, "updatedAt", account->updated_at);
    json_out_int(out, "__v", 0);
    buf_add_char(out, '}');
    return OK;
}

enum err tasks_add_assignee(struct tasks_view *view, struct buf *out, const char *name, struct id id)
{
    struct account account = {0};
    for (size_t i = 0; i < view->users_len; i++) {
        if (id_eq(view->users[i].id, id)) {
            json_out_raw(out, name, view->users[i].json);
            return OK;
        }
    }
    enum err err = account_find(view->look->rows(view->look, id_partition(id)), id, &account);
    if (err == ERR_NOT_FOUND) {
        json_out_null(out, name);
        return OK;
    }
    TRY(err);
    struct buf json = {0};
    err = tasks_add_user(view, &json, NULL, &account, TASKS_IDS, FACADE_NESTED);
    struct bytes text = arena_copy(view->look->arena, buf_bytes(&json));
    buf_free(&json);
    TRY(err);
    json_out_raw(out, name, text);
    if (view->users_len < ARRAY_LEN(view->users)) {
        view->users[view->users_len++] = (struct tasks_user_json){id, text};
    }
    return OK;
}

/* The claims that the product's clients know; and, for whoever wants to go on under /v1, the username there. */
static enum err add_token(struct script *s, struct buf *out, const struct account *account, int64_t stamp_ms)
{
    struct buf more = {0}, token = {0};
    tasks_add_id(&more, "_id", account->id);
    json_out_text(&more, "preferred_username", account->username);
    buf_add_char(&more, ',');
    struct foreign_claims claims = {"tasks", account->id, stamp_ms, TOKEN_S, buf_bytes(&more)};
    enum err err = s->services->sign_foreign(s, &claims, &token);
    if (err == OK) {
        json_out_text(out, "token", buf_bytes(&token));
    }
    buf_free(&more);
    buf_free(&token);
    return err;
}

/* ---- signup: hash, the alias that lives elsewhere, then account, name and the other alias in one command ---- */

static bool take_names(struct script *s, struct tasks_entry *st)
{
    const struct facade_in *in = s->in;
    st->name = form_text(&in->form, "name");
    st->username = form_text(&in->form, "username");
    st->email = form_text(&in->form, "email");
    st->username_key = st->username.len == 0 ? BYTES_NONE : alias_key(ALIAS_USERNAME, st->username, s->arena);
    st->email_key = st->email.len == 0 ? BYTES_NONE : alias_key(ALIAS_EMAIL, st->email, s->arena);
    return st->name.len <= LIMIT_ALIAS_BYTES && st->username.len <= LIMIT_ALIAS_BYTES &&
           st->email.len <= LIMIT_ALIAS_BYTES;
}

static enum err signup_begin(struct script *s)
{
    const struct facade_in *in = s->in;
    struct tasks_entry *st = s->state;
    struct bytes password = form_text(&in->form, "password");
    if (password.len == 0) {
        tasks_error(s->reply, 500, "error 500", "Internal server error");
        return script_done(s);
    }
    if (!take_names(s, st)) {
        tasks_error(s->reply, 400, "error 400", "name, username and email are too long");
        return script_done(s);
    }
    /* Upstream's hash looks at 72 bytes; what is beyond this does not count either. */
    st->shared.job.password =
        bytes_of(password.ptr, password.len < LIMIT_PASSWORD_BYTES ? password.len : LIMIT_PASSWORD_BYTES);
    s->services->password(s, &st->shared.job, false);
    return OK;
}

/* Names are drawn until one lives where the email's alias does (else the username's): then one command makes account,
 * name and alias. */
static bool draw_name(struct script *s, struct tasks_entry *st)
{
    static const char hex[] = "0123456789abcdef";
    struct bytes placed = st->email_key.len > 0 ? st->email_key : st->username_key;
    memcpy(st->name_key, "uuser-", TASKS_GENERATED_AT);
    for (int i = 0; i < NAME_TRIES; i++) {
        uint8_t chance[TASKS_GENERATED_BYTES];
        s->services->random(s, chance, sizeof chance);
        for (size_t c = 0; c < sizeof chance; c++) {
            st->name_key[TASKS_GENERATED_AT + 2 * c] = (uint8_t)hex[chance[c] >> 4];
            st->name_key[TASKS_GENERATED_AT + 2 * c + 1] = (uint8_t)hex[chance[c] & 15];
        }
        st->partition = partition_of_name(bytes_of(st->name_key, sizeof st->name_key), s->partitions);
        if (placed.len == 0 || st->partition == alias_partition(placed, s->partitions)) {
            return true;
        }
    }
    return false;
}

static enum err signup_alias(struct script *s)
{
    struct tasks_entry *st = s->state;
    uint64_t chance;
    if (!draw_name(s, st)) {
        return ERR_OVERLOADED;
    }
    s->services->random(s, &chance, sizeof chance);
    st->shared.token.account = id_make(s->now_ms, st->partition, chance);
    if (st->username_key.len > 0 && alias_partition(st->username_key, s->partitions) != st->partition) {
        FIELD_SET(alias_in_fields, &st->alias, struct alias_in, account, st->shared.token.account);
        FIELD_SET(alias_in_fields, &st->alias, struct alias_in, username, st->username_key);
        script_command(
            s, KIND_AUTH, AUTH_PUT_ALIASES,
            (struct address){alias_partition(st->username_key, s->partitions), id_bytes(&st->shared.token.account)},
            &st->alias, false);
        st->username_key = BYTES_NONE;
    }
    return OK;
}

#define SET_IF(create, member, value)                                       \
    do {                                                                    \
        if ((value).len > 0) {                                              \
            FIELD_SET(create_fields, create, struct create, member, value); \
        }                                                                   \
    } while (0)

static enum err signup_create(struct script *s)
{
    struct tasks_entry *st = s->state;
    struct create *create = &st->shared.create;
    FIELD_SET(create_fields, create, struct create, username,
              bytes_of(st->name_key + 1, sizeof st->name_key - 1)); /* behind the key's type */
    FIELD_SET(create_fields, create, struct create, name, bytes_of(st->name_key, sizeof st->name_key));
    FIELD_SET(create_fields, create, struct create, password, bytes_str(st->shared.job.phc));
    SET_IF(create, alias_name, st->name);
    SET_IF(create, alias_username, st->username);
    SET_IF(create, alias_email, st->email);
    SET_IF(create, username_key, st->username_key);
    SET_IF(create, email_key, st->email_key);
    script_command(s, KIND_AUTH, AUTH_CREATE, address_of_account(&st->shared.token.account), create, true);
    return OK;
}

static enum err signup_answer(struct script *s)
{
    struct created created = {0};
    struct account account = {0};
    TRY(field_unpack(created_fields, buf_bytes(&s->answer.body), &created));
    TRY(field_unpack(account_fields, created.account, &account));
    s->services->audit(s, "signup", account.username, BYTES_LIT("tasks"));
    struct buf *out = facade_json(s->reply, 200);
    json_out_open(out, NULL, '{');
    TRY(tasks_add_user(NULL, out, "user", &account, TASKS_NONE, 0));
    TRY(add_token(s, out, &account, s->services->stamp(s, account.id)));
    buf_add_char(out, '}');
    return OK;
}

const struct step tasks_signup_steps[] = {{"begin", signup_begin, false},
                                          {"alias", signup_alias, false},
                                          {"create", signup_create, false},
                                          {"answer", signup_answer, false},
                                          {0}};

/* ---- login: the oldest alias, then a name of /v1, so that neither hides the other ---- */

static enum err refuse(struct script *s, const char *message)
{
    tasks_error(s->reply, 401, "Authentication failed", message);
    return script_done(s);
}

static enum err login_begin(struct script *s)
{
    const struct facade_in *in = s->in;
    struct tasks_entry *st = s->state;
    struct bytes login = form_text(&in->form, "email"), password = form_text(&in->form, "password");
    login = login.len == 0 ? form_text(&in->form, "username") : login;
    if (login.len == 0 || password.len == 0) {
        return refuse(s, "Missing credentials");
    }
    st->login.login = facade_cut(login, LIMIT_ALIAS_BYTES);
    st->login.password =
        bytes_of(password.ptr, password.len < LIMIT_PASSWORD_BYTES ? password.len : LIMIT_PASSWORD_BYTES);
    st->shared.login = &st->login;
    st->username_key = alias_key(ALIAS_USERNAME, st->login.login, s->arena);
    st->email_key = alias_key(ALIAS_EMAIL, st->login.login, s->arena);
    return entry_revocations(s);
}

static enum err login_check(struct script *s)
{
    struct tasks_entry *st = s->state;
    if (!st->shared.verified || !st->shared.job.matches) {
        s->services->audit(s, "login_failed", st->login.login, BYTES_LIT("tasks"));
        return refuse(s, st->known || st->shared.verified ? "Incorrect password." : "Incorrect email/username.");
    }
    script_read(s, SCRIPT_ALL_PARTITIONS);
    return OK;
}

static enum err login_answer(struct script *s)
{
    struct tasks_entry *st = s->state;
    struct facade_look look;
    struct tasks_view *view;
    s->caller.account = st->shared.token.account;
    enum err err = tasks_view_open(facade_look(&look, s), &view);
    if (err == ERR_UNAUTHORIZED || (err == OK && !bytes_is(view->me.password, st->shared.job.phc))) {
        return refuse(s, "Incorrect password."); /* it was changed while the old one was verified */
    }
    TRY(err);
    struct buf *out = facade_json(s->reply, 200);
    json_out_open(out, NULL, '{');
    TRY(add_token(s, out, &view->me, st->shared.stamp_ms));
    TRY(tasks_add_user(view, out, "user", &view->me, TASKS_IDS, FACADE_LIST));
    buf_add_char(out, '}');
    return OK;
}

static const struct step login_rest[] = {{"check", login_check, false}, {"answer", login_answer, false}, {0}};

enum { LOGIN_READ = 1 }; /* row of tasks_login_steps */

static enum err try_names(struct script *s)
{
    struct tasks_entry *st = s->state;
    st->shared.token.account = (struct id){{0}};
    st->shared.then = login_rest;
    script_chain(s, login_find_steps);
    return OK;
}

static enum err login_read(struct script *s)
{
    struct tasks_entry *st = s->state;
    if (st->username_key.len == 0 || st->tries++ == ALIAS_TRIES) {
        return try_names(s);
    }
    script_read(s, alias_partition(st->username_key, s->partitions));
    return OK;
}

static enum err login_alias(struct script *s)
{
    struct tasks_entry *st = s->state;
    struct rows *rows = script_rows(s, alias_partition(st->username_key, s->partitions));
    struct id by_username, by_email;
    enum err username = alias_find(rows, st->username_key, st->skip, &by_username);
    enum err email = alias_find(rows, st->email_key, st->skip, &by_email);
    TRY(username == ERR_NOT_FOUND ? OK : username);
    TRY(email == ERR_NOT_FOUND ? OK : email);
    if (username != OK && email != OK) {
        return try_names(s);
    }
    bool older = username == OK && (email != OK || memcmp(by_username.b, by_email.b, sizeof by_email.b) < 0);
    st->shared.token.account = older ? by_username : by_email;
    if (!id_is_placed(st->shared.token.account, s->partitions)) {
        return ERR_CORRUPT;
    }
    st->shared.stamp_ms = s->services->stamp(s, st->shared.token.account);
    script_read(s, id_partition(st->shared.token.account));
    return OK;
}

/* The signup never came to its end, or the account is being deleted. */
static void pass_over(struct script *s)
{
    struct tasks_entry *st = s->state;
    st->skip = st->shared.token.account;
    if (alias_is_dead(st->skip, s->now_ms)) {
        FIELD_SET(alias_in_fields, &st->alias, struct alias_in, account, st->skip);
        FIELD_SET(alias_in_fields, &st->alias, struct alias_in, username, st->username_key);
        FIELD_SET(alias_in_fields, &st->alias, struct alias_in, email, st->email_key);
        script_command(s, KIND_AUTH, AUTH_DROP_ALIASES,
                       (struct address){alias_partition(st->username_key, s->partitions), id_bytes(&st->skip)},
                       &st->alias, false);
    }
    script_goto(s, LOGIN_READ);
}

static enum err login_account(struct script *s)
{
    struct tasks_entry *st = s->state;
    struct account account = {0};
    struct id id = st->shared.token.account;
    enum err err = account_find(script_rows(s, id_partition(id)), id, &account);
    if (err == ERR_NOT_FOUND) {
        pass_over(s);
        return OK;
    }
    TRY(err);
    st->known = true;
    return login_verify(s);
}

static enum err login_matched(struct script *s)
{
    struct tasks_entry *st = s->state;
    if (!st->shared.job.matches) {
        return try_names(s);
    }
    script_chain(s, login_rest);
    return OK;
}

const struct step tasks_login_steps[] = {{"begin", login_begin, false},     {"read", login_read, false},
                                         {"alias", login_alias, false},     {"account", login_account, false},
                                         {"matched", login_matched, false}, {0}};

/* ---- reading ---- */

static enum err add_listed(struct tasks_view *view, struct buf *out, struct id id)
{
    struct account account = {0};
    TRY(account_find(view->look->rows(view->look, id_partition(id)), id, &account));
    return tasks_add_user(view, out, NULL, &account, TASKS_WHOLE, FACADE_NESTED);
}

enum err tasks_users_query(struct look *look, const void *in, struct reply *reply)
{
    struct tasks_view *view;
    struct facade_ids ids;
    (void)in;
    TRY(tasks_view_open(look, &view));
    if (view->me.role != 1) {
        tasks_error(reply, 403, "error 403 unathorized",
                    "You are not authorized to perform this operation only for admin user!");
        return OK;
    }
    TRY(facade_accounts(look, FACADE_LIST, &view->budget, &ids));
    return tasks_add_list(view, &ids, add_listed, reply);
}

enum err tasks_user_query(struct look *look, const void *raw, struct reply *reply)
{
    const struct facade_in *in = raw;
    struct tasks_view *view;
    struct account account = {0};
    struct id least, id;
    TRY(tasks_view_open(look, &view));
    if (!foreign_hex_parse(in->params[0], &least)) {
        return ERR_NOT_FOUND;
    }
    struct rows *rows = id_is_placed(least, look->partitions) ? look->rows(look, id_partition(least)) : NULL;
    enum err err = rows == NULL ? ERR_NOT_FOUND : foreign_hex_find(rows, TABLE_ACCOUNT, least, &id);
    err = err == OK ? account_find(rows, id, &account) : err;
    struct buf *out = facade_json(reply, 200);
    if (err == ERR_NOT_FOUND) {
        json_out_null(out, NULL);
        return OK;
    }
    TRY(err);
    return tasks_add_user(view, out, NULL, &account, TASKS_WHOLE, FACADE_LIST);
}
