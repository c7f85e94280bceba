/* The ways in: signup, login, refresh. Each ends with a session. */
#include <stdio.h>

#include "actors/auth/entry.h"

#include "actors/system/system.h"
#include "node/base/text.h"
#include "node/limits.h"

const struct field signup_fields[] = {
    FIELD_STRING(1, signup_in, username, 1, LIMIT_USERNAME_CHARS, FIELD_REQUIRED),
    FIELD_STRING(2, signup_in, email, 3, LIMIT_EMAIL_BYTES, FIELD_REQUIRED | FIELD_IN_BYTES),
    FIELD_STRING(3, signup_in, password, LIMIT_PASSWORD_BYTES_MIN, LIMIT_PASSWORD_BYTES,
                 FIELD_REQUIRED | FIELD_IN_BYTES | FIELD_SECRET),
    FIELD_STRING(4, signup_in, first_name, 0, LIMIT_NAME_CHARS, FIELD_NULLABLE),
    FIELD_STRING(5, signup_in, last_name, 0, LIMIT_NAME_CHARS, FIELD_NULLABLE),
    FIELDS_END};
const struct field login_fields[] = {
    FIELD_STRING(1, login_in, login, 1, LIMIT_EMAIL_BYTES, FIELD_REQUIRED | FIELD_IN_BYTES),
    FIELD_STRING(2, login_in, password, 0, LIMIT_PASSWORD_BYTES, FIELD_REQUIRED | FIELD_IN_BYTES | FIELD_SECRET),
    FIELDS_END};
const struct field refresh_fields[] = {
    FIELD_STRING(1, refresh_in, refresh_token, 1, 200, FIELD_REQUIRED | FIELD_SECRET), FIELDS_END};

static void make_token(struct script *s, struct refresh_token *token)
{
    s->services->random(s, token->family, sizeof token->family);
    s->services->random(s, token->secret, sizeof token->secret);
}

static struct bytes keep_digest(struct script *s, struct digest digest)
{
    return arena_copy(s->arena, digest_bytes(&digest));
}

static void fill_new_session(struct script *s, const struct refresh_token *token, struct new_session *out)
{
    FIELD_SET(new_session_fields, out, struct new_session, family, keep_digest(s, refresh_token_family(token)));
    FIELD_SET(new_session_fields, out, struct new_session, secret, keep_digest(s, refresh_token_secret(token)));
    FIELD_SET(new_session_fields, out, struct new_session, remote, s->remote);
}

static void ask_name(struct script *s, struct bytes key, uint8_t op)
{
    struct entry_state *st = s->state;
    FIELD_SET(name_in_fields, &st->name_in, struct name_in, account, st->token.account);
    script_command(s, KIND_AUTH, op, address_of_name(key, s->partitions), &st->name_in, false);
}

/* The answer of AUTH_CREATE and AUTH_NEW_SESSION becomes the operation's. */
static enum err answer_with_session(struct script *s)
{
    struct entry_state *st = s->state;
    struct created created = {0};
    TRY(field_unpack(created_fields, buf_bytes(&s->answer.body), &created));
    st->token.session = created.session;
    st->account = arena_copy(s->arena, created.account);
    return OK;
}

/* ---- signup: reserve both names, make the account, confirm both names ---- */

static enum err signup_check(struct script *s)
{
    struct entry_state *st = s->state;
    const struct signup_in *in = st->signup;
    st->username_key = name_key(NAME_USERNAME, in->username, s->arena);
    st->email_key = name_key(NAME_EMAIL, in->email, s->arena);
    if (!username_is_good(in->username) || st->username_key.len == 0) {
        return reply_invalid(s->reply, "/username", "not_a_username",
                             "A username has no @ or / and no space at its ends");
    }
    if (!email_is_good(in->email) || st->email_key.len == 0) {
        return reply_invalid(s->reply, "/email", "not_an_email",
                             "An email address has one @ with something on both sides");
    }
    st->job.password = in->password;
    s->services->password(s, &st->job, false);
    return OK;
}

static enum err signup_username(struct script *s)
{
    struct entry_state *st = s->state;
    uint64_t chance[2];
    s->services->random(s, chance, sizeof chance);
    st->token.account = id_make(s->now_ms, 1 + (unsigned)(chance[0] % s->partitions), chance[1]);
    make_token(s, &st->token);
    ask_name(s, st->username_key, AUTH_RESERVE_NAME);
    return OK;
}

static enum err signup_email(struct script *s)
{
    struct entry_state *st = s->state;
    ask_name(s, st->email_key, AUTH_RESERVE_NAME);
    return OK;
}

enum { SIGNUP_UNDO_ABORT = 4, SIGNUP_CONFIRM = 6 }; /* rows of signup_saga_steps */

static enum err signup_create(struct script *s)
{
    struct entry_state *st = s->state;
    const struct signup_in *in = st->signup;
    if (s->err != OK) {
        if (s->err != ERR_EMAIL_TAKEN) {
            return s->err; /* unknown outcome: the sweeper settles it */
        }
        script_goto(s, SIGNUP_UNDO_ABORT);
        return OK;
    }
    struct create *create = &st->create;
    FIELD_SET(create_fields, create, struct create, username, in->username);
    FIELD_SET(create_fields, create, struct create, email, in->email);
    FIELD_SET(create_fields, create, struct create, password, bytes_str(st->job.phc));
    if (FIELD_HAS(signup_fields, in, struct signup_in, first_name)) {
        FIELD_SET(create_fields, create, struct create, first_name, in->first_name);
    }
    if (FIELD_HAS(signup_fields, in, struct signup_in, last_name)) {
        FIELD_SET(create_fields, create, struct create, last_name, in->last_name);
    }
    if (!st->no_session) {
        fill_new_session(s, &st->token, &create->session);
        create->set.has |= field_bit(field_index(create_fields, offsetof(struct create, session)));
    }
    st->stamp_ms = s->services->stamp(s, st->token.account);
    script_command(s, KIND_AUTH, AUTH_CREATE, address_of_account(&st->token.account), create, true);
    script_goto(s, SIGNUP_CONFIRM);
    return OK;
}

/* The email was taken: the account must never come to be, then the username is free again. */
static enum err signup_undo_abort(struct script *s)
{
    struct entry_state *st = s->state;
    script_command(s, KIND_AUTH, AUTH_SETTLE, address_of_account(&st->token.account), &st->none, false);
    return OK;
}

static enum err signup_undo_free(struct script *s)
{
    struct entry_state *st = s->state;
    st->email_failed = true;
    ask_name(s, st->username_key, AUTH_FREE_NAME);
    return OK;
}

static enum err signup_confirm_username(struct script *s)
{
    struct entry_state *st = s->state;
    if (st->email_failed) {
        return ERR_EMAIL_TAKEN;
    }
    TRY(answer_with_session(s));
    ask_name(s, st->username_key, AUTH_CONFIRM_NAME);
    return OK;
}

/* From here on the account exists: whatever fails is put right by the sweeper. */
static enum err signup_confirm_email(struct script *s)
{
    struct entry_state *st = s->state;
    ask_name(s, st->email_key, AUTH_CONFIRM_NAME);
    return OK;
}

static enum err signup_made(struct script *s)
{
    struct entry_state *st = s->state;
    s->services->audit(s, "signup", st->signup->username, BYTES_NONE);
    script_chain(s, st->then);
    return OK;
}

const struct step signup_saga_steps[] = {{"check", signup_check, false},
                                         {"username", signup_username, false},
                                         {"email", signup_email, false},
                                         {"create", signup_create, true},
                                         {"undo_abort", signup_undo_abort, false},
                                         {"undo_free", signup_undo_free, false},
                                         {"confirm_username", signup_confirm_username, false},
                                         {"confirm_email", signup_confirm_email, true},
                                         {"made", signup_made, true},
                                         {0}};

static enum err entry_answer(struct script *s)
{
    struct entry_state *st = s->state;
    return session_answer(s, &st->token, st->account, st->stamp_ms);
}

static const struct step signup_rest[] = {{"answer", entry_answer, false}, {0}};

static enum err signup_begin(struct script *s)
{
    struct entry_state *st = s->state;
    st->signup = s->in;
    st->then = signup_rest;
    script_chain(s, signup_saga_steps);
    return OK;
}

const struct step signup_steps[] = {{"begin", signup_begin, false}, {0}};

/* ---- login ---- */

enum err entry_revocations(struct script *s)
{
    script_read(s, system_address.partition);
    return OK;
}

static enum err login_name(struct script *s)
{
    struct entry_state *st = s->state;
    const struct login_in *in = st->login;
    bool email = memchr(in->login.ptr, '@', in->login.len) != NULL;
    st->username_key = name_key(email ? NAME_EMAIL : NAME_USERNAME, in->login, s->arena);
    if (st->username_key.len == 0) {
        st->username_key = BYTES_LIT("-"); /* nobody's: goes the whole way like any wrong login */
    }
    script_read(s, partition_of_name(st->username_key, s->partitions));
    return OK;
}

static enum err login_account(struct script *s)
{
    struct entry_state *st = s->state;
    unsigned partition = partition_of_name(st->username_key, s->partitions);
    enum err err = name_find(script_rows(s, partition), st->username_key, &st->token.account);
    if (err != OK && err != ERR_NOT_FOUND) {
        return err;
    }
    st->stamp_ms = s->services->stamp(s, st->token.account);
    script_read(s, err == OK ? id_partition(st->token.account) : partition);
    return OK;
}

enum err login_verify(struct script *s)
{
    struct entry_state *st = s->state;
    const struct login_in *in = st->login;
    struct account account = {0};
    enum err err = id_is_none(st->token.account)
                       ? ERR_NOT_FOUND
                       : account_find(script_rows(s, id_partition(st->token.account)), st->token.account, &account);
    if (err != OK && err != ERR_NOT_FOUND) {
        return err;
    }
    st->verified = err == OK;
    /* Without an account an empty string is verified: it costs the same and never matches. */
    st->job.password = in->password;
    (void)snprintf(st->job.phc, sizeof st->job.phc, "%.*s", (int)account.password.len,
                   (const char *)account.password.ptr);
    s->services->password(s, &st->job, true);
    return OK;
}

static enum err login_verified(struct script *s)
{
    script_chain(s, ((struct entry_state *)s->state)->then);
    return OK;
}

const struct step login_find_steps[] = {{"revocations", entry_revocations, false}, {"name", login_name, false},
                                        {"account", login_account, false},         {"verify", login_verify, false},
                                        {"verified", login_verified, false},       {0}};

static enum err login_rehash(struct script *s)
{
    struct entry_state *st = s->state;
    const struct login_in *in = st->login;
    if (!st->verified || !st->job.matches) {
        s->services->audit(s, "login_failed", in->login, BYTES_NONE);
        return ERR_INVALID_CREDENTIALS;
    }
    FIELD_SET(new_session_fields, &st->session, struct new_session, password,
              arena_copy(s->arena, bytes_str(st->job.phc)));
    if (st->job.rehash) {
        s->services->password(s, &st->job, false);
    }
    return OK;
}

static enum err login_session(struct script *s)
{
    struct entry_state *st = s->state;
    make_token(s, &st->token);
    fill_new_session(s, &st->token, &st->session);
    if (st->job.rehash) {
        FIELD_SET(new_session_fields, &st->session, struct new_session, rehashed, bytes_str(st->job.phc));
    }
    /* From before the session is made: whoever ends it meanwhile revokes what is signed with the answer. */
    st->stamp_ms = s->services->stamp(s, st->token.account);
    script_command(s, KIND_AUTH, AUTH_NEW_SESSION, address_of_account(&st->token.account), &st->session, true);
    return OK;
}

static enum err login_answer(struct script *s)
{
    struct entry_state *st = s->state;
    TRY(answer_with_session(s));
    return session_answer(s, &st->token, st->account, st->stamp_ms);
}

static const struct step login_rest[] = {
    {"rehash", login_rehash, false}, {"session", login_session, false}, {"answer", login_answer, false}, {0}};

static enum err login_begin(struct script *s)
{
    struct entry_state *st = s->state;
    st->login = s->in;
    st->then = login_rest;
    script_chain(s, login_find_steps);
    return OK;
}

const struct step login_steps[] = {{"begin", login_begin, false}, {0}};

/* ---- refresh ---- */

static enum err refresh_rotate(struct script *s)
{
    const struct refresh_in *in = s->in;
    struct entry_state *st = s->state;
    if (!refresh_token_parse(in->refresh_token, &st->token) || !id_is_placed(st->token.account, s->partitions)) {
        return ERR_INVALID_REFRESH_TOKEN;
    }
    FIELD_SET(rotate_fields, &st->rotate, struct rotate, session, st->token.session);
    FIELD_SET(rotate_fields, &st->rotate, struct rotate, family, keep_digest(s, refresh_token_family(&st->token)));
    FIELD_SET(rotate_fields, &st->rotate, struct rotate, secret, keep_digest(s, refresh_token_secret(&st->token)));
    s->services->random(s, st->token.secret, sizeof st->token.secret);
    FIELD_SET(rotate_fields, &st->rotate, struct rotate, fresh, keep_digest(s, refresh_token_secret(&st->token)));
    st->stamp_ms = s->services->stamp(s, st->token.account);
    script_command(s, KIND_AUTH, AUTH_ROTATE, address_of_account(&st->token.account), &st->rotate, true);
    return OK;
}

static enum err refresh_answer(struct script *s)
{
    struct entry_state *st = s->state;
    struct rotated rotated = {0};
    TRY(field_unpack(rotated_fields, buf_bytes(&s->answer.body), &rotated));
    if (!rotated.reused) {
        TRY(session_answer(s, &st->token, rotated.account, st->stamp_ms));
        return script_done(s);
    }
    /* Somebody holds a token that was already used: nobody may go on with this session. */
    s->services->audit(s, "refresh_token_reused", BYTES_NONE, BYTES_NONE);
    FIELD_SET(revoke_fields, &st->revoke, struct revoke, session, st->token.session);
    script_command(s, KIND_SYSTEM, SYSTEM_REVOKE, system_address, &st->revoke, false);
    return OK;
}

static enum err refresh_refuse(struct script *s)
{
    (void)s;
    return ERR_INVALID_REFRESH_TOKEN;
}

const struct step refresh_steps[] = {{"revocations", entry_revocations, false},
                                     {"rotate", refresh_rotate, false},
                                     {"answer", refresh_answer, false},
                                     {"refuse", refresh_refuse, true},
                                     {0}};
