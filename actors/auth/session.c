/* Sessions: one row for each device that signed in. */
#include "actors/auth/auth.h"
#include "node/base/text.h"
#include "node/limits.h"

const struct field session_fields[] = {FIELD_ID(1, session, id, 0),
                                       FIELD_TIME(2, session, created_at, 0),
                                       FIELD_TIME(3, session, used_at, 0),
                                       FIELD_STRING(4, session, remote, 0, 0, 0),
                                       FIELD_BLOB(5, session, family, 0),
                                       FIELD_BLOB(6, session, secret, 0),
                                       FIELDS_END};

const struct field new_session_fields[] = {
    FIELD_BLOB(1, new_session, family, 0),           FIELD_BLOB(2, new_session, secret, 0),
    FIELD_STRING(3, new_session, remote, 0, 0, 0),   FIELD_STRING(4, new_session, password, 0, 0, 0),
    FIELD_STRING(5, new_session, rehashed, 0, 0, 0), FIELDS_END};

const struct field rotate_fields[] = {FIELD_ID(1, rotate, session, 0), FIELD_BLOB(2, rotate, family, 0),
                                      FIELD_BLOB(3, rotate, secret, 0), FIELD_BLOB(4, rotate, fresh, 0), FIELDS_END};
const struct field rotated_fields[] = {FIELD_BOOL(1, rotated, reused, 0), FIELD_BLOB(2, rotated, account, 0),
                                       FIELDS_END};
const struct field end_session_fields[] = {FIELD_ID(1, end_session, session, 0), FIELDS_END};

const struct field session_out_fields[] = {FIELD_STRING(1, session_out, access_token, 0, 0, FIELD_SECRET),
                                           FIELD_STRING(2, session_out, token_type, 0, 0, 0),
                                           FIELD_INT(3, session_out, expires_in, 0, 86400, 0),
                                           FIELD_STRING(4, session_out, refresh_token, 0, 0, FIELD_SECRET),
                                           FIELD_OBJECT(5, session_out, user, account_fields, 0),
                                           FIELDS_END};

static enum err store(struct turn *turn, struct id account, const struct session *session)
{
    struct id_pair key = id_pair(account, session->id);
    struct buf packed = {0};
    field_pack(&packed, session_fields, session);
    enum err err = rows_put(turn->rows, TABLE_SESSION, id_pair_bytes(&key), buf_bytes(&packed));
    buf_free(&packed);
    return err;
}

/* Deletes the account's sessions from the oldest on: all but `keep`, or down to `most`. */
static enum err end_sessions(struct turn *turn, struct id account, struct id keep, unsigned most)
{
    struct id_pair list[LIMIT_SESSIONS + 2];
    unsigned count = 0;
    struct id_pair at = id_pair(account, (struct id){{0}});
    struct bytes key, value;
    enum err err = rows_ceil(turn->rows, TABLE_SESSION, id_pair_bytes(&at), &key, &value);
    while (err == OK && bytes_start_with(key, id_bytes(&account)) && count < ARRAY_LEN(list)) {
        CHECK(key.len == sizeof at.b);
        memcpy(list[count++].b, key.ptr, key.len);
        at = list[count - 1];
        uint8_t after[sizeof at.b + 1] = {0};
        memcpy(after, at.b, sizeof at.b);
        err = rows_ceil(turn->rows, TABLE_SESSION, bytes_of(after, sizeof after), &key, &value);
    }
    if (err != OK && err != ERR_NOT_FOUND) {
        return err;
    }
    for (unsigned i = 0; i < count && (most == 0 || count - i > most); i++) {
        if (memcmp(list[i].b + sizeof account.b, keep.b, sizeof keep.b) != 0) {
            TRY(rows_del(turn->rows, TABLE_SESSION, id_pair_bytes(&list[i])));
        }
    }
    return OK;
}

enum err session_end_all(struct turn *turn, struct id account, struct id keep)
{
    return end_sessions(turn, account, keep, 0);
}

enum err session_put_new(struct turn *turn, struct id account, const struct new_session *in, struct id *out)
{
    struct session session = {0};
    TRY(end_sessions(turn, account, (struct id){{0}}, LIMIT_SESSIONS - 1));
    FIELD_SET(session_fields, &session, struct session, id, turn_new_id(turn));
    FIELD_SET(session_fields, &session, struct session, created_at, turn->now_ms);
    FIELD_SET(session_fields, &session, struct session, used_at, turn->now_ms);
    FIELD_SET(session_fields, &session, struct session, remote, in->remote);
    FIELD_SET(session_fields, &session, struct session, family, in->family);
    FIELD_SET(session_fields, &session, struct session, secret, in->secret);
    *out = session.id;
    return store(turn, account, &session);
}

enum err session_new(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct new_session *in = raw;
    struct account account = {0};
    struct created out = {0};
    struct bytes value;
    struct id id, session;
    if (turn->key.len != sizeof id) {
        return ERR_BAD_REQUEST;
    }
    memcpy(id.b, turn->key.ptr, sizeof id.b);
    TRY(rows_get(turn->rows, TABLE_ACCOUNT, turn->key, &value));
    value = arena_copy(turn->arena, value);
    TRY(field_unpack(account_fields, value, &account));
    if (account.deleted || !bytes_eq(account.password, in->password)) {
        return ERR_INVALID_CREDENTIALS; /* the password was changed while this one was verified */
    }
    TRY(session_put_new(turn, id, in, &session));
    if (FIELD_HAS(new_session_fields, in, struct new_session, rehashed)) {
        struct buf packed = {0};
        FIELD_SET(account_fields, &account, struct account, password, in->rehashed);
        field_pack(&packed, account_fields, &account);
        enum err err = rows_put(turn->rows, TABLE_ACCOUNT, turn->key, buf_bytes(&packed));
        buf_free(&packed);
        TRY(err);
    }
    FIELD_SET(created_fields, &out, struct created, session, session);
    FIELD_SET(created_fields, &out, struct created, account, value);
    reply_struct(reply, created_fields, &out);
    return OK;
}

static enum err rotate_row(struct turn *turn, const struct rotate *in, struct id account, struct session *session,
                           struct rotated *out)
{
    bool reused = !bytes_eq(session->secret, in->secret);
    FIELD_SET(rotated_fields, out, struct rotated, reused, reused);
    if (reused) {
        struct id_pair key = id_pair(account, in->session);
        return rows_del(turn->rows, TABLE_SESSION, id_pair_bytes(&key));
    }
    FIELD_SET(session_fields, session, struct session, secret, in->fresh);
    FIELD_SET(session_fields, session, struct session, used_at, turn->now_ms);
    return store(turn, account, session);
}

enum err session_rotate(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct rotate *in = raw;
    struct account account = {0};
    struct session session = {0};
    struct rotated out = {0};
    struct bytes account_row, value;
    struct id id;
    if (turn->key.len != sizeof id) {
        return ERR_INVALID_REFRESH_TOKEN;
    }
    memcpy(id.b, turn->key.ptr, sizeof id.b);
    struct id_pair key = id_pair(id, in->session);
    enum err err = rows_get(turn->rows, TABLE_ACCOUNT, turn->key, &account_row);
    if (err == OK) {
        account_row = arena_copy(turn->arena, account_row);
        err = field_unpack(account_fields, account_row, &account);
    }
    if (err == OK) {
        err = rows_get(turn->rows, TABLE_SESSION, id_pair_bytes(&key), &value);
    }
    if (err == ERR_NOT_FOUND || (err == OK && account.deleted)) {
        return ERR_INVALID_REFRESH_TOKEN;
    }
    TRY(err);
    TRY(field_unpack(session_fields, arena_copy(turn->arena, value), &session));
    if (!bytes_eq(session.family, in->family) || session.used_at + LIMIT_SESSION_MS < turn->now_ms) {
        return ERR_INVALID_REFRESH_TOKEN;
    }
    TRY(rotate_row(turn, in, id, &session, &out));
    FIELD_SET(rotated_fields, &out, struct rotated, account, account_row);
    reply_struct(reply, rotated_fields, &out);
    return OK;
}

enum err session_end(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct end_session *in = raw;
    struct id id;
    (void)reply;
    if (turn->key.len != sizeof id) {
        return ERR_BAD_REQUEST;
    }
    memcpy(id.b, turn->key.ptr, sizeof id.b);
    if (!FIELD_HAS(end_session_fields, in, struct end_session, session)) {
        return session_end_all(turn, id, (struct id){{0}});
    }
    struct id_pair key = id_pair(id, in->session);
    return rows_del(turn->rows, TABLE_SESSION, id_pair_bytes(&key));
}

bool refresh_token_parse(struct bytes text, struct refresh_token *out)
{
    size_t len;
    _Static_assert(sizeof *out == 80, "a refresh token has no padding");
    return text_base64url_decode(text, (uint8_t *)out, sizeof *out, &len) && len == sizeof *out;
}

struct digest refresh_token_family(const struct refresh_token *token)
{
    return digest_of(BYTES_LIT("family"), bytes_of(token->family, sizeof token->family));
}

struct digest refresh_token_secret(const struct refresh_token *token)
{
    return digest_of(BYTES_LIT("refresh"), bytes_of(token->secret, sizeof token->secret));
}

enum err session_answer(struct script *s, const struct refresh_token *token, struct bytes account, int64_t stamp_ms)
{
    struct session_out out = {0};
    struct buf access = {0}, refresh = {0};
    TRY(field_unpack(account_fields, account, &out.user));
    enum role role = out.user.role == 1 ? ROLE_ADMIN : ROLE_USER;
    enum err err = s->services->sign(s, token->account, token->session, role, stamp_ms, &access);
    if (err == OK) {
        text_base64url_add(&refresh, bytes_of(token, sizeof *token));
        FIELD_SET(session_out_fields, &out, struct session_out, access_token, buf_bytes(&access));
        FIELD_SET(session_out_fields, &out, struct session_out, token_type, BYTES_LIT("Bearer"));
        FIELD_SET(session_out_fields, &out, struct session_out, expires_in, s->services->access_token_s);
        FIELD_SET(session_out_fields, &out, struct session_out, refresh_token, buf_bytes(&refresh));
        FIELD_SET(session_out_fields, &out, struct session_out, user, out.user);
        reply_struct(s->reply, session_out_fields, &out);
    }
    buf_free(&access);
    buf_free(&refresh);
    return err;
}
