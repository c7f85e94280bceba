/* Users of remindme are accounts as /v1 makes them: unique username and email. The cookie holds the token. */
#include <stdio.h>

#include "actors/facades/foreign_id.h"
#include "actors/facades/json_out.h"
#include "actors/facades/remindme.h"
#include "node/base/text.h"
#include "node/limits.h"

enum { TOKEN_S = 2 * 24 * 3600 };
_Static_assert(TOKEN_S <= LIMIT_FOREIGN_TOKEN_S, "revocations are kept as long as tokens live");

/* ---- the token ---- */

/* Both services of the product's second version read it: one looks at the username, the other at the email. */
static enum err answer_token(struct script *s, const struct account *account, int64_t stamp_ms)
{
    struct buf more = {0}, token = {0};
    json_out_text(&more, "username", account->username);
    if (account->email.len > 0) {
        json_out_text(&more, "email", account->email);
    }
    buf_add_char(&more, ',');
    struct foreign_claims claims = {"remindme", account->id, stamp_ms, TOKEN_S, buf_bytes(&more)};
    enum err err = s->services->sign_foreign(s, &claims, &token);
    if (err == OK) {
        struct buf *out = facade_json(s->reply, 200);
        json_out_open(out, NULL, '{');
        json_out_text(out, "jwt", buf_bytes(&token));
        buf_add_char(out, '}');
        buf_add_lit(&s->reply->headers, "Set-Cookie: jwt=");
        buf_add_bytes(&s->reply->headers, buf_bytes(&token));
        buf_add_lit(&s->reply->headers, "; HttpOnly; Path=/; SameSite=Lax\r\n");
    }
    buf_free(&more);
    buf_free(&token);
    return err;
}

/* ---- register ---- */

static const char required[] = "This field is required.", blank[] = "This field may not be blank.";

/* False: the field is refused, in the answer. */
static bool take(struct script *s, const char *name, size_t chars, struct bytes *out)
{
    const struct facade_in *in = s->in;
    *out = form_text(&in->form, name);
    if (out->len == 0) {
        remindme_say_field(s->reply, name, form_find(&in->form, name) == NULL ? required : blank);
        return false;
    }
    if (text_chars(*out) > chars) {
        char text[96];
        (void)snprintf(text, sizeof text, "Ensure this field has no more than %zu characters.", chars);
        remindme_say_field(s->reply, name, text);
        return false;
    }
    return true;
}

static void take_optional(const struct form *form, const char *name, struct signup_in *in, struct bytes *out,
                          uint64_t bit)
{
    struct bytes text = form_text(form, name);
    if (text.len > 0 && text_chars(text) <= LIMIT_NAME_CHARS && !text_has_controls(text)) {
        *out = text;
        in->set.has |= bit;
    }
}

static enum err register_begin(struct script *s)
{
    const struct facade_in *in = s->in;
    struct remindme_entry *st = s->state;
    struct signup_in *signup = &st->signup;
    if (!take(s, "username", LIMIT_USERNAME_CHARS, &signup->username) ||
        !take(s, "email", LIMIT_EMAIL_BYTES, &signup->email) ||
        !take(s, "password", LIMIT_PASSWORD_BYTES, &signup->password)) {
        return script_done(s);
    }
    if (text_has_controls(signup->username)) {
        remindme_say_field(s->reply, "username", "Enter a valid username.");
        return script_done(s);
    }
    if (signup->email.len > LIMIT_EMAIL_BYTES || text_has_controls(signup->email)) {
        remindme_say_field(s->reply, "email", "Enter a valid email address.");
        return script_done(s);
    }
    if (signup->password.len > LIMIT_PASSWORD_BYTES) {
        remindme_say_field(s->reply, "password", "Ensure this field has no more than 1024 bytes.");
        return script_done(s);
    }
    take_optional(&in->form, "first_name", signup, &signup->first_name,
                  field_bit(field_index(signup_fields, offsetof(struct signup_in, first_name))));
    take_optional(&in->form, "last_name", signup, &signup->last_name,
                  field_bit(field_index(signup_fields, offsetof(struct signup_in, last_name))));
    st->shared.signup = signup;
    st->shared.no_session = true;
    return OK;
}

static enum err register_answer(struct script *s)
{
    struct remindme_entry *st = s->state;
    struct account account = {0};
    TRY(field_unpack(account_fields, st->shared.account, &account));
    return answer_token(s, &account, s->services->stamp(s, account.id));
}

static const struct step register_rest[] = {{"answer", register_answer, false}, {0}};

static enum err register_account(struct script *s)
{
    ((struct remindme_entry *)s->state)->shared.then = register_rest;
    script_chain(s, signup_saga_steps);
    return OK;
}

const struct step remindme_register_steps[] = {
    {"begin", register_begin, false}, {"account", register_account, false}, {0}};

/* ---- login ---- */

static enum err refuse(struct script *s, const char *detail)
{
    struct remindme_entry *st = s->state;
    s->services->audit(s, "login_failed", st->login.login, BYTES_LIT("remindme"));
    remindme_say(s->reply, 403, "detail", detail);
    return script_done(s);
}

static enum err login_check(struct script *s)
{
    struct remindme_entry *st = s->state;
    if (!st->shared.verified) {
        return refuse(s, "User not found!");
    }
    if (!st->shared.job.matches) {
        return refuse(s, "Incorrect password!");
    }
    script_read(s, id_partition(st->shared.token.account));
    return OK;
}

static enum err login_answer(struct script *s)
{
    struct remindme_entry *st = s->state;
    struct account account = {0};
    struct id id = st->shared.token.account;
    enum err err = account_find(script_rows(s, id_partition(id)), id, &account);
    if (err == ERR_NOT_FOUND || (err == OK && !bytes_is(account.password, st->shared.job.phc))) {
        return refuse(s, "Incorrect password!"); /* it was changed while the old one was verified */
    }
    TRY(err);
    return answer_token(s, &account, st->shared.stamp_ms);
}

static const struct step login_rest[] = {{"check", login_check, false}, {"answer", login_answer, false}, {0}};

static enum err login_begin(struct script *s)
{
    const struct facade_in *in = s->in;
    struct remindme_entry *st = s->state;
    bool email = form_find(&in->form, "username") == NULL && form_find(&in->form, "email") != NULL;
    if (!take(s, email ? "email" : "username", LIMIT_EMAIL_BYTES, &st->login.login) ||
        !take(s, "password", LIMIT_PASSWORD_BYTES, &st->login.password)) {
        return script_done(s);
    }
    st->login.password = facade_cut(st->login.password, LIMIT_PASSWORD_BYTES);
    st->shared.login = &st->login;
    st->shared.then = login_rest;
    script_chain(s, login_find_steps);
    return OK;
}

const struct step remindme_login_steps[] = {{"begin", login_begin, false}, {0}};

/* ---- logout: the client drops the token ---- */

static enum err logout(struct script *s)
{
    remindme_say(s->reply, 200, "message", "success");
    buf_add_lit(&s->reply->headers,
                "Set-Cookie: jwt=\"\"; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/\r\n");
    return script_done(s);
}

const struct step remindme_logout_steps[] = {{"logout", logout, false}, {0}};

/* ---- the own account ---- */

enum err remindme_me_query(struct look *look, const void *in, struct reply *reply)
{
    struct account account = {0};
    struct id me = look->caller.account;
    (void)in;
    enum err err = account_find(look->rows(look, id_partition(me)), me, &account);
    TRY(err == ERR_NOT_FOUND ? ERR_UNAUTHORIZED : err);
    struct buf *out = facade_json(reply, 200);
    json_out_open(out, NULL, '{');
    json_out_int(out, "id", (int64_t)foreign_int_unordered(account.id));
    json_out_null(out, "last_login");
    json_out_bool(out, "is_superuser", account.role == 1);
    json_out_text(out, "username", account.username);
    json_out_text(out, "first_name", account.first_name);
    json_out_text(out, "last_name", account.last_name);
    json_out_bool(out, "is_staff", account.role == 1);
    json_out_bool(out, "is_active", true);
    json_out_time(out, "date_joined", account.created_at);
    json_out_text(out, "email", account.email);
    json_out_open(out, "groups", '[');
    buf_add_char(out, ']');
    json_out_open(out, "user_permissions", '[');
    buf_add_lit(out, "]}");
    return OK;
}
