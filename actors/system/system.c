#include "actors/system/system.h"

#include "node/limits.h"

const struct field revoke_fields[] = {FIELD_ID(1, revoke, account, 0), FIELD_ID(2, revoke, session, 0),
                                      FIELD_ID(3, revoke, except, 0), FIELD_INT(4, revoke, keep_ms, 0, INT64_MAX, 0),
                                      FIELDS_END};

const struct field revocation_fields[] = {
    FIELD_ID(1, revocation, account, 0),     FIELD_ID(2, revocation, session, 0),    FIELD_ID(3, revocation, except, 0),
    FIELD_TIME(4, revocation, cutoff_ms, 0), FIELD_TIME(5, revocation, until_ms, 0), FIELDS_END};

const struct field signing_key_fields[] = {
    FIELD_STRING(1, signing_key, kid, 1, 64, 0), FIELD_BLOB(2, signing_key, secret, 64),
    FIELD_BLOB(3, signing_key, public, 32), FIELD_TIME(4, signing_key, created_at, 0), FIELDS_END};

static void revoked_key(struct buf *key, const struct revoke *in)
{
    bool session = FIELD_HAS(revoke_fields, in, struct revoke, session);
    buf_add_char(key, session ? 's' : 'a');
    buf_add_bytes(key, id_bytes(session ? &in->session : &in->account));
}

/* The index by time: until (8) | key. */
static enum err forget_expired(struct turn *turn)
{
    for (int i = 0; i < LIMIT_EXPIRE_STEP; i++) {
        struct bytes key, value;
        enum err err = rows_ceil(turn->rows, TABLE_REVOKED_TIME, BYTES_NONE, &key, &value);
        if (err == ERR_NOT_FOUND) {
            return OK;
        }
        TRY(err);
        if ((int64_t)key_u64(key) > turn->now_ms) {
            return OK;
        }
        struct bytes expired = arena_copy(turn->arena, key);
        struct bytes revoked = bytes_of(expired.ptr + 8, expired.len - 8);
        TRY(rows_del(turn->rows, TABLE_REVOKED_TIME, expired));
        struct revocation row = {0};
        err = rows_get(turn->rows, TABLE_REVOKED, revoked, &value);
        if (err == ERR_NOT_FOUND) {
            continue; /* an old state: revoked twice, its row went with the other entry */
        }
        TRY(err);
        TRY(field_unpack(revocation_fields, value, &row));
        if (row.until_ms <= turn->now_ms) { /* it may have been revoked again since */
            TRY(rows_del(turn->rows, TABLE_REVOKED, revoked));
        }
    }
    return OK;
}

static void time_key(struct buf *out, int64_t until_ms, struct bytes key)
{
    key_add_u64(out, (uint64_t)until_ms);
    buf_add_bytes(out, key);
}

/* A second revocation takes the place of the first: it covers what that covered, for as long, and more. */
static enum err replace(struct turn *turn, struct bytes key, struct revocation *row)
{
    struct revocation old = {0};
    struct bytes value;
    struct buf old_time = {0};
    enum err err = rows_get(turn->rows, TABLE_REVOKED, key, &value);
    if (err == ERR_NOT_FOUND) {
        return OK;
    }
    TRY(err);
    TRY(field_unpack(revocation_fields, value, &old));
    row->cutoff_ms = row->cutoff_ms > old.cutoff_ms ? row->cutoff_ms : old.cutoff_ms + 1;
    row->until_ms = row->until_ms > old.until_ms ? row->until_ms : old.until_ms;
    time_key(&old_time, old.until_ms, key);
    err = rows_del(turn->rows, TABLE_REVOKED_TIME, buf_bytes(&old_time));
    buf_free(&old_time);
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err revoke_reduce(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct revoke *in = raw;
    struct buf key = {0}, until = {0}, packed = {0};
    struct revocation row = {0};
    int64_t keep_ms =
        FIELD_HAS(revoke_fields, in, struct revoke, keep_ms) ? in->keep_ms : LIMIT_ACCESS_TOKEN_S * 1000LL;
    (void)reply;
    row.set.has = in->set.has & 7; /* the first three fields are the same */
    row.account = in->account;
    row.session = in->session;
    row.except = in->except;
    /* A token of another node may carry a time that is ahead of ours by the skew allowed. */
    FIELD_SET(revocation_fields, &row, struct revocation, cutoff_ms, turn->now_ms + LIMIT_CLOCK_SKEW_MS);
    FIELD_SET(revocation_fields, &row, struct revocation, until_ms, turn->now_ms + keep_ms + 2 * LIMIT_CLOCK_SKEW_MS);
    revoked_key(&key, in);
    enum err err = forget_expired(turn);
    if (err == OK) {
        err = replace(turn, buf_bytes(&key), &row);
    }
    if (err == OK) {
        field_pack(&packed, revocation_fields, &row);
        err = rows_put(turn->rows, TABLE_REVOKED, buf_bytes(&key), buf_bytes(&packed));
    }
    if (err == OK) {
        time_key(&until, row.until_ms, buf_bytes(&key));
        err = rows_put(turn->rows, TABLE_REVOKED_TIME, buf_bytes(&until), BYTES_NONE);
    }
    if (err == OK) {
        turn_notify(turn, NOTICE_REVOKED, buf_bytes(&packed));
    }
    buf_free(&key);
    buf_free(&until);
    buf_free(&packed);
    return err;
}

static enum err add_key_reduce(struct turn *turn, const void *raw, struct reply *reply)
{
    struct signing_key key = *(const struct signing_key *)raw;
    struct buf packed = {0};
    (void)reply;
    FIELD_SET(signing_key_fields, &key, struct signing_key, created_at, turn->now_ms);
    field_pack(&packed, signing_key_fields, &key);
    enum err err = rows_put(turn->rows, TABLE_KEYS, key.kid, buf_bytes(&packed));
    if (err == OK) {
        turn_notify(turn, NOTICE_KEYS, buf_bytes(&packed));
    }
    buf_free(&packed);
    return err;
}

const struct field retire_fields[] = {FIELD_BLOB(1, retire, replica, 8), FIELDS_END};

static enum err retire_reduce(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct retire *in = raw;
    struct buf at = {0};
    if (in->replica.len != 8) {
        return ERR_BAD_REQUEST;
    }
    key_add_u64(&at, (uint64_t)turn->now_ms);
    enum err err = rows_put(turn->rows, TABLE_RETIRED, in->replica, buf_bytes(&at));
    buf_free(&at);
    reply->status = 204;
    return err;
}

/* ---- DELETE /v1/cluster/nodes/{id} ---- */

struct node_in {
    struct fieldset set;
    struct id id;
};
static const struct field node_in_fields[] = {FIELD_ID(1, node_in, id, FIELD_REQUIRED | FIELD_QUERY), FIELDS_END};

static enum err remove_node(struct script *s)
{
    const struct node_in *in = s->in;
    struct retire *retire = s->state;
    FIELD_SET(retire_fields, retire, struct retire, replica, system_replica(&in->id));
    script_command(s, KIND_SYSTEM, SYSTEM_RETIRE, system_address, retire, true);
    return OK;
}

static enum err remove_node_answer(struct script *s)
{
    s->services->audit(s, "node_removed", BYTES_NONE, BYTES_NONE);
    s->reply->status = 204;
    return OK;
}

static const struct step remove_node_steps[] = {
    {"command", remove_node, false}, {"answer", remove_node_answer, false}, {0}};

static const struct table tables[] = {{TABLE_REVOKED, "revocations", true},
                                      {TABLE_REVOKED_TIME, "revocations_by_time", false},
                                      {TABLE_KEYS, "signing_keys", true},
                                      {TABLE_RETIRED, "retired_nodes", true},
                                      {0}};

static const struct op ops[] = {{SYSTEM_REVOKE, OP_COMMAND, .flags = OP_FREES, .name = "revoke", .in = revoke_fields,
                                 .in_size = sizeof(struct revoke), .reduce = revoke_reduce},
                                {SYSTEM_ADD_KEY, OP_COMMAND, .name = "add_key", .in = signing_key_fields,
                                 .in_size = sizeof(struct signing_key), .reduce = add_key_reduce},
                                {SYSTEM_RETIRE, OP_COMMAND, .flags = OP_FREES, .name = "retire", .in = retire_fields,
                                 .in_size = sizeof(struct retire), .reduce = retire_reduce},
                                {SYSTEM_REMOVE_NODE, OP_SCRIPT, .flags = OP_FREES, .role = ROLE_ADMIN, .success = 204,
                                 .name = "remove_node", .method = METHOD_DELETE, .path = "/v1/cluster/nodes/{id}",
                                 .summary = "Take a node out of the cluster for good", .in = node_in_fields,
                                 .in_size = sizeof(struct node_in), .state_size = sizeof(struct retire),
                                 .steps = remove_node_steps},
                                {0}};

const struct kind system_kind = {.id = KIND_SYSTEM, .name = "system", .tables = tables, .ops = ops};
