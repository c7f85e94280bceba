/* What changes or ends an account, a session or a role; and the chores that finish such work when
 * whoever began it died. A revocation always comes before the change that causes it. */
#include <stdio.h>

#include "actors/auth/auth.h"
#include "actors/system/system.h"
#include "node/limits.h"

const struct field logout_fields[] = {FIELD_BOOL(1, logout_in, everywhere, FIELD_QUERY), FIELDS_END};
const struct field password_fields[] = {
    FIELD_STRING(1, password_in, old, 0, LIMIT_PASSWORD_BYTES, FIELD_REQUIRED | FIELD_IN_BYTES | FIELD_SECRET),
    {.name = "new",
     .tag = 2,
     .type = TYPE_STRING,
     .flags = FIELD_REQUIRED | FIELD_IN_BYTES | FIELD_SECRET,
     .offset = offsetof(struct password_in, new_),
     .min = LIMIT_PASSWORD_BYTES_MIN,
     .max = LIMIT_PASSWORD_BYTES},
    FIELDS_END};
const struct field username_fields[] = {
    FIELD_STRING(1, username_in, username, 1, LIMIT_USERNAME_CHARS, FIELD_QUERY | FIELD_REQUIRED), FIELDS_END};
const struct field role_fields[] = {
    FIELD_STRING(1, role_in, username, 1, LIMIT_USERNAME_CHARS, FIELD_QUERY | FIELD_REQUIRED),
    FIELD_ENUM(2, role_in, role, account_roles, FIELD_REQUIRED), FIELDS_END};
const struct field session_id_fields[] = {FIELD_ID(1, session_id_in, id, FIELD_QUERY | FIELD_REQUIRED), FIELDS_END};

static void revoke_session(struct script *s, struct id session)
{
    struct change_state *st = s->state;
    FIELD_SET(revoke_fields, &st->revoke, struct revoke, session, session);
    script_command(s, KIND_SYSTEM, SYSTEM_REVOKE, system_address, &st->revoke, false);
}

static void revoke_account(struct script *s, struct id account, struct id except)
{
    struct change_state *st = s->state;
    FIELD_SET(revoke_fields, &st->revoke, struct revoke, account, account);
    FIELD_SET(revoke_fields, &st->revoke, struct revoke, except, except);
    FIELD_SET(revoke_fields, &st->revoke, struct revoke, keep_ms, LIMIT_FOREIGN_TOKEN_S * 1000LL);
    script_command(s, KIND_SYSTEM, SYSTEM_REVOKE, system_address, &st->revoke, false);
}

/* ---- logout, and ending one session ---- */

static enum err logout_revoke(struct script *s)
{
    const struct logout_in *in = s->in;
    struct change_state *st = s->state;
    if (in->everywhere) {
        revoke_account(s, s->caller.account, (struct id){{0}});
    } else {
        FIELD_SET(end_session_fields, &st->end, struct end_session, session, s->caller.session);
        revoke_session(s, s->caller.session);
    }
    return OK;
}

static enum err logout_end(struct script *s)
{
    struct change_state *st = s->state;
    script_command(s, KIND_AUTH, AUTH_END_SESSIONS, address_of_account(&s->caller.account), &st->end, true);
    return OK;
}

/* A session that is gone already is no reason to complain. */
static enum err logout_answer(struct script *s)
{
    return s->err == ERR_NOT_FOUND ? OK : s->err;
}

const struct step logout_steps[] = {
    {"revoke", logout_revoke, false}, {"end", logout_end, false}, {"answer", logout_answer, true}, {0}};

static enum err drop_revoke(struct script *s)
{
    const struct session_id_in *in = s->in;
    struct change_state *st = s->state;
    FIELD_SET(end_session_fields, &st->end, struct end_session, session, in->id);
    script_read(s, id_partition(s->caller.account));
    return OK;
}

static enum err drop_check(struct script *s)
{
    const struct session_id_in *in = s->in;
    struct id_pair key = id_pair(s->caller.account, in->id);
    struct bytes value;
    TRY(rows_get(script_rows(s, id_partition(s->caller.account)), TABLE_SESSION, id_pair_bytes(&key), &value));
    revoke_session(s, in->id);
    return OK;
}

const struct step drop_session_steps[] = {{"read", drop_revoke, false},
                                          {"revoke", drop_check, false},
                                          {"end", logout_end, false},
                                          {"answer", logout_answer, true},
                                          {0}};

/* ---- password ---- */

static enum err password_read(struct script *s)
{
    script_read(s, id_partition(s->caller.account));
    return OK;
}

static enum err password_verify(struct script *s)
{
    const struct password_in *in = s->in;
    struct change_state *st = s->state;
    struct account account = {0};
    TRY(account_find(script_rows(s, id_partition(s->caller.account)), s->caller.account, &account));
    st->username = arena_copy(s->arena, account.username);
    FIELD_SET(set_password_fields, &st->set_password, struct set_password, old, arena_copy(s->arena, account.password));
    st->job.password = in->old;
    (void)snprintf(st->job.phc, sizeof st->job.phc, "%.*s", (int)account.password.len,
                   (const char *)account.password.ptr);
    s->services->password(s, &st->job, true);
    return OK;
}

static enum err password_hash(struct script *s)
{
    const struct password_in *in = s->in;
    struct change_state *st = s->state;
    if (!st->job.matches) {
        return ERR_INVALID_CREDENTIALS;
    }
    st->job.password = in->new_;
    s->services->password(s, &st->job, false);
    return OK;
}

static enum err password_revoke(struct script *s)
{
    revoke_account(s, s->caller.account, s->caller.session);
    return OK;
}

static enum err password_set(struct script *s)
{
    struct change_state *st = s->state;
    FIELD_SET(set_password_fields, &st->set_password, struct set_password, password, bytes_str(st->job.phc));
    FIELD_SET(set_password_fields, &st->set_password, struct set_password, keep, s->caller.session);
    script_command(s, KIND_AUTH, AUTH_SET_PASSWORD, address_of_account(&s->caller.account), &st->set_password, true);
    return OK;
}

/* Once more: a facade's login that read the old password before it was changed carries a time from before now. */
static enum err password_revoke_again(struct script *s)
{
    return password_revoke(s);
}

static enum err password_answer(struct script *s)
{
    struct change_state *st = s->state;
    s->services->audit(s, "password_changed", st->username, BYTES_NONE);
    return OK;
}

const struct step password_steps[] = {
    {"read", password_read, false},     {"verify", password_verify, false},
    {"hash", password_hash, false},     {"revoke", password_revoke, false},
    {"set", password_set, false},       {"revoke_again", password_revoke_again, false},
    {"answer", password_answer, false}, {0}};

/* ---- roles and profiles: found by username ---- */

static enum err find_name(struct script *s, struct bytes username)
{
    struct change_state *st = s->state;
    st->username = username;
    st->key = name_key(NAME_USERNAME, username, s->arena);
    if (st->key.len == 0) {
        return ERR_NOT_FOUND;
    }
    script_read(s, partition_of_name(st->key, s->partitions));
    return OK;
}

static enum err find_account(struct script *s)
{
    struct change_state *st = s->state;
    TRY(name_find(script_rows(s, partition_of_name(st->key, s->partitions)), st->key, &st->account));
    script_read(s, id_partition(st->account));
    return OK;
}

static enum err role_name(struct script *s)
{
    return find_name(s, ((const struct role_in *)s->in)->username);
}

static enum err role_revoke(struct script *s)
{
    struct change_state *st = s->state;
    struct account account = {0};
    TRY(account_find(script_rows(s, id_partition(st->account)), st->account, &account));
    revoke_account(s, st->account, (struct id){{0}});
    return OK;
}

static enum err role_set(struct script *s)
{
    const struct role_in *in = s->in;
    struct change_state *st = s->state;
    FIELD_SET(set_role_fields, &st->set_role, struct set_role, role, in->role);
    script_command(s, KIND_AUTH, AUTH_SET_ROLE, address_of_account(&st->account), &st->set_role, true);
    return OK;
}

static enum err role_answer(struct script *s)
{
    const struct role_in *in = s->in;
    s->services->audit(s, "role_changed", in->username, bytes_str(account_roles[in->role]));
    reply_record(s->reply, account_fields, buf_bytes(&s->answer.body), s->answer.version, 0, BYTES_NONE);
    return OK;
}

const struct step role_steps[] = {{"name", role_name, false},     {"account", find_account, false},
                                  {"revoke", role_revoke, false}, {"set", role_set, false},
                                  {"answer", role_answer, false}, {0}};

static enum err profile_name(struct script *s)
{
    return find_name(s, ((const struct username_in *)s->in)->username);
}

static enum err profile_answer(struct script *s)
{
    struct change_state *st = s->state;
    struct account account = {0};
    struct buf packed = {0};
    TRY(account_find(script_rows(s, id_partition(st->account)), st->account, &account));
    field_pack(&packed, account_fields, &account);
    reply_record(s->reply, profile_fields, buf_bytes(&packed), (uint64_t)account.version, 0, BYTES_NONE);
    buf_free(&packed);
    return OK;
}

const struct step profile_steps[] = {
    {"name", profile_name, false}, {"account", find_account, false}, {"answer", profile_answer, false}, {0}};

/* ---- the own account ---- */

static enum err patch_me_command(struct script *s)
{
    script_command(s, KIND_AUTH, AUTH_UPDATE, address_of_account(&s->caller.account), s->in, true);
    return OK;
}

static enum err patch_me_answer(struct script *s)
{
    reply_record(s->reply, account_fields, buf_bytes(&s->answer.body), s->answer.version, 0, BYTES_NONE);
    return OK;
}

const struct step patch_me_steps[] = {{"command", patch_me_command, false}, {"answer", patch_me_answer, false}, {0}};

/* ---- deleting: revoke, mark, revoke again, forget everywhere, free the names, remove ---- */

enum { DELETE_FORGET = 4 }; /* row of both tables below */

static enum err delete_revoke(struct script *s)
{
    struct change_state *st = s->state;
    st->account = s->caller.account;
    revoke_account(s, st->account, (struct id){{0}});
    return OK;
}

/* The chore begins here, with the account it found. */
static enum err finish_begin(struct script *s)
{
    struct change_state *st = s->state;
    st->account = ((const struct forget *)s->in)->account;
    return OK;
}

static enum err delete_mark(struct script *s)
{
    struct change_state *st = s->state;
    script_command(s, KIND_AUTH, AUTH_MARK_DELETED, address_of_account(&st->account), &st->end, true);
    return OK;
}

/* Once more: a facade's login that read the account before it was marked carries a time from before now. */
static enum err delete_revoke_again(struct script *s)
{
    struct change_state *st = s->state;
    struct account account = {0};
    TRY(field_unpack(account_fields, buf_bytes(&s->answer.body), &account));
    st->username = arena_copy(s->arena, account.username);
    st->email = arena_copy(s->arena, account.email);
    st->alias_username = alias_key(ALIAS_USERNAME, account.alias_username, s->arena);
    st->alias_email = alias_key(ALIAS_EMAIL, account.alias_email, s->arena);
    revoke_account(s, st->account, (struct id){{0}});
    return OK;
}

static enum err delete_forget_first(struct script *s)
{
    struct change_state *st = s->state;
    FIELD_SET(forget_fields, &st->forget, struct forget, account, st->account);
    st->partition = 1;
    script_command(s, KIND_AUTH, AUTH_FORGET, (struct address){st->partition, id_bytes(&st->account)}, &st->forget,
                   false);
    return OK;
}

/* Repeats until the partition has nothing left, then goes to the next partition. */
static enum err delete_forget(struct script *s)
{
    struct change_state *st = s->state;
    struct forgot forgot = {0};
    TRY(field_unpack(forgot_fields, buf_bytes(&s->answer.body), &forgot));
    if (!forgot.more) {
        st->partition++;
    }
    if (st->partition <= s->partitions) {
        script_command(s, KIND_AUTH, AUTH_FORGET, (struct address){st->partition, id_bytes(&st->account)}, &st->forget,
                       false);
        script_goto(s, DELETE_FORGET);
    }
    return OK;
}

static void free_name(struct script *s, enum name_type type, struct bytes text)
{
    struct change_state *st = s->state;
    FIELD_SET(name_in_fields, &st->name_in, struct name_in, account, st->account);
    script_command(s, KIND_AUTH, AUTH_FREE_NAME, address_of_name(name_key(type, text, s->arena), s->partitions),
                   &st->name_in, false);
}

static enum err delete_free_username(struct script *s)
{
    struct change_state *st = s->state;
    free_name(s, NAME_USERNAME, st->username);
    return OK;
}

static enum err delete_free_email(struct script *s)
{
    struct change_state *st = s->state;
    if (st->email.len > 0) {
        free_name(s, NAME_EMAIL, st->email);
    }
    return OK;
}

static void drop_alias(struct script *s, struct bytes key)
{
    struct change_state *st = s->state;
    FIELD_SET(alias_in_fields, &st->alias, struct alias_in, account, st->account);
    script_command(s, KIND_AUTH, AUTH_DROP_ALIASES,
                   (struct address){alias_partition(key, s->partitions), id_bytes(&st->account)}, &st->alias, false);
}

static enum err delete_alias_username(struct script *s)
{
    struct change_state *st = s->state;
    if (st->alias_username.len > 0) {
        FIELD_SET(alias_in_fields, &st->alias, struct alias_in, username, st->alias_username);
        drop_alias(s, st->alias_username);
    }
    return OK;
}

static enum err delete_alias_email(struct script *s)
{
    struct change_state *st = s->state;
    if (st->alias_email.len > 0) {
        FIELD_CLEAR(alias_in_fields, &st->alias, struct alias_in, username);
        st->alias.username = BYTES_NONE;
        FIELD_SET(alias_in_fields, &st->alias, struct alias_in, email, st->alias_email);
        drop_alias(s, st->alias_email);
    }
    return OK;
}

static enum err delete_remove(struct script *s)
{
    struct change_state *st = s->state;
    script_command(s, KIND_AUTH, AUTH_REMOVE, address_of_account(&st->account), &st->end, false);
    return OK;
}

static enum err delete_answer(struct script *s)
{
    struct change_state *st = s->state;
    s->services->audit(s, "account_deleted", st->username, BYTES_NONE);
    return OK;
}

#define DELETE_TAIL                                                                                   \
    {"mark", delete_mark, false}, {"revoke_again", delete_revoke_again, false},                       \
        {"forget_first", delete_forget_first, false}, {"forget", delete_forget, false},               \
        {"free_username", delete_free_username, false}, {"free_email", delete_free_email, false},     \
        {"alias_username", delete_alias_username, false}, {"alias_email", delete_alias_email, false}, \
        {"remove", delete_remove, false}, {"answer", delete_answer, false},                           \
    {                                                                                                 \
        0                                                                                             \
    }
const struct step delete_steps[] = {{"revoke", delete_revoke, false}, DELETE_TAIL};
const struct step finish_delete_steps[] = {{"begin", finish_begin, false}, DELETE_TAIL};

/* ---- a reservation whose saga died ---- */

static enum err settle_ask(struct script *s)
{
    const struct settle_name *in = s->in;
    struct change_state *st = s->state;
    st->account = in->account;
    script_command(s, KIND_AUTH, AUTH_SETTLE, address_of_account(&st->account), &st->end, false);
    return OK;
}

static enum err settle_act(struct script *s)
{
    const struct settle_name *in = s->in;
    struct change_state *st = s->state;
    struct settled settled = {0};
    TRY(field_unpack(settled_fields, buf_bytes(&s->answer.body), &settled));
    FIELD_SET(name_in_fields, &st->name_in, struct name_in, account, in->account);
    script_command(s, KIND_AUTH, settled.live ? AUTH_CONFIRM_NAME : AUTH_FREE_NAME,
                   address_of_name(in->name, s->partitions), &st->name_in, false);
    return OK;
}

static enum err settle_answer(struct script *s)
{
    (void)s;
    return OK;
}

const struct step settle_name_steps[] = {
    {"ask", settle_ask, false}, {"act", settle_act, false}, {"answer", settle_answer, false}, {0}};
