#include "node/apply.h"

#include <stdlib.h>

#include "cluster/group.h"
#include "node/command.h"
#include "node/limits.h"

/* A remembered answer: rows of TABLE_REQUESTS and TABLE_IDEM. A record that is the answer is not
 * stored again with a request: it is read where it stands. */
struct answer {
    struct fieldset set;
    int64_t err, status, version;
    struct bytes digest; /* of the command, or of the client's body */
    struct bytes body;
    int64_t record_table;
    struct bytes record_key;
    struct id location;
    int64_t kept_at;
    int64_t index; /* absent in rows of earlier versions */
};
static const struct field answer_fields[] = {FIELD_INT(1, answer, err, 0, INT64_MAX, 0),
                                             FIELD_INT(2, answer, status, 0, 999, 0),
                                             FIELD_INT(3, answer, version, 0, INT64_MAX, 0),
                                             FIELD_BLOB(4, answer, digest, 0),
                                             FIELD_BLOB(5, answer, body, 0),
                                             FIELD_INT(6, answer, record_table, 0, 255, 0),
                                             FIELD_BLOB(7, answer, record_key, 0),
                                             FIELD_ID(8, answer, location, 0),
                                             FIELD_TIME(9, answer, kept_at, 0),
                                             FIELD_INT(10, answer, index, 0, INT64_MAX, 0),
                                             FIELDS_END};
#define SET(a, member, value) FIELD_SET(answer_fields, a, struct answer, member, value)

void outcome_free(struct outcome *outcome)
{
    if (outcome != NULL) {
        reply_close(&outcome->reply);
        arena_close(&outcome->arena);
        free(outcome);
    }
}

void apply_drop(void *ctx, struct apply_entry *entry)
{
    (void)ctx;
    outcome_free(entry->outcome);
}

static bool is_storage_failure(enum err err)
{
    return err == ERR_IO || err == ERR_CORRUPT || err == ERR_DISK_FULL;
}

/* ---- remembering ---- */

static void fill_answer(struct answer *answer, const struct outcome *outcome, bool with_body)
{
    const struct reply *reply = &outcome->reply;
    SET(answer, err, (int64_t)outcome->err);
    SET(answer, status, reply->status);
    SET(answer, version, (int64_t)reply->version);
    SET(answer, index, (int64_t)reply->index);
    if (!id_is_none(reply->location)) {
        SET(answer, location, reply->location);
    }
    if (reply->record_table != 0 && !with_body) {
        SET(answer, record_table, reply->record_table);
        SET(answer, record_key, buf_bytes(&reply->record_key));
    } else if (reply->body.len > 0) {
        SET(answer, body, buf_bytes(&reply->body));
    }
}

static void recall(struct rows *rows, const struct answer *answer, const struct op *op, struct outcome *out)
{
    struct reply *reply = &out->reply;
    struct bytes body = answer->body;
    out->err = (enum err)answer->err;
    reply->status = (uint16_t)answer->status;
    reply->version = (uint64_t)answer->version;
    reply->index = (uint64_t)answer->index;
    reply->location = answer->location;
    if (answer->record_table != 0 && rows_get(rows, (uint8_t)answer->record_table, answer->record_key, &body) != OK) {
        body = BYTES_NONE; /* deleted since */
    }
    if (body.len > 0) {
        reply->fields = op->out;
        buf_add_bytes(&reply->body, body);
    }
}

static enum err put_answer(struct rows *rows, uint8_t table, struct bytes key, const struct answer *answer)
{
    struct buf packed = {0};
    field_pack(&packed, answer_fields, answer);
    enum err err = rows_put(rows, table, key, buf_bytes(&packed));
    buf_free(&packed);
    return err;
}

/* A row that should be there, and may have been lost to damage. */
static enum err forget_row(struct rows *rows, uint8_t table, struct bytes key)
{
    enum err err = rows_del(rows, table, key);
    return err == ERR_NOT_FOUND ? OK : err;
}

/* Rows are in order of the ids' birth: the oldest stand first. */
static enum err expire_requests(struct rows *rows, int64_t now_ms)
{
    for (int i = 0; i < LIMIT_EXPIRE_STEP; i++) {
        struct bytes key, value;
        struct id id;
        enum err err = rows_ceil(rows, TABLE_REQUESTS, BYTES_NONE, &key, &value);
        if (err == ERR_NOT_FOUND) {
            return OK;
        }
        TRY(err);
        if (key.len != sizeof id.b) {
            return ERR_CORRUPT;
        }
        memcpy(id.b, key.ptr, sizeof id.b);
        if (id_ms(id) >= now_ms - LIMIT_REQUEST_WINDOW_MS) {
            return OK;
        }
        TRY(rows_del(rows, TABLE_REQUESTS, id_bytes(&id)));
    }
    return OK;
}

/* ---- Idempotency-Key ---- */

static enum err idem_count(struct rows *rows, const struct command *command, int64_t *out)
{
    struct bytes value;
    enum err err = rows_get(rows, TABLE_IDEM_COUNT, id_bytes(&command->account), &value);
    *out = 0;
    if (err == OK) {
        memcpy(out, value.ptr, sizeof *out);
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err idem_add_count(struct rows *rows, struct bytes account, int64_t by)
{
    struct bytes value;
    int64_t count = 0;
    enum err err = rows_get(rows, TABLE_IDEM_COUNT, account, &value);
    if (err == OK) {
        memcpy(&count, value.ptr, sizeof count);
    } else if (err != ERR_NOT_FOUND) {
        return err;
    }
    count += by;
    if (count > 0) {
        return rows_put(rows, TABLE_IDEM_COUNT, account, bytes_of(&count, sizeof count));
    }
    return err == OK ? rows_del(rows, TABLE_IDEM_COUNT, account) : OK;
}

/* TABLE_IDEM_TIME: kept_at (8) | account (16) | key digest (16); its tail is the key of TABLE_IDEM. */
static enum err expire_idem(struct rows *rows, int64_t now_ms, struct arena *arena)
{
    for (int i = 0; i < LIMIT_EXPIRE_STEP; i++) {
        struct bytes key, value;
        enum err err = rows_ceil(rows, TABLE_IDEM_TIME, BYTES_NONE, &key, &value);
        if (err == ERR_NOT_FOUND || (err == OK && (int64_t)key_u64(key) > now_ms - LIMIT_IDEMPOTENCY_MS)) {
            return OK;
        }
        TRY(err);
        struct bytes copy = arena_copy(arena, key);
        TRY(rows_del(rows, TABLE_IDEM_TIME, copy));
        TRY(forget_row(rows, TABLE_IDEM, bytes_of(copy.ptr + 8, copy.len - 8)));
        TRY(idem_add_count(rows, bytes_of(copy.ptr + 8, sizeof(struct id)), -1));
    }
    return OK;
}

static struct bytes idem_key(const struct command *command, struct arena *arena)
{
    struct buf key = {0};
    buf_add_bytes(&key, id_bytes(&command->account));
    buf_add_bytes(&key, command->idem_key);
    struct bytes out = arena_copy(arena, buf_bytes(&key));
    buf_free(&key);
    return out;
}

/* An answer kept for this key, or a reason to refuse; ERR_NOT_FOUND: go on. */
static enum err idem_find(struct rows *rows, const struct command *command, const struct op *op, struct outcome *out)
{
    struct answer kept = {0};
    struct bytes value;
    int64_t count;
    enum err err = rows_get(rows, TABLE_IDEM, idem_key(command, &out->arena), &value);
    if (err == OK) {
        TRY(field_unpack(answer_fields, value, &kept));
        if (!bytes_eq(kept.digest, command->idem_body)) {
            out->err = ERR_IDEMPOTENCY_KEY_REUSE;
        } else if (kept.kept_at > command->stamped_ms - LIMIT_IDEMPOTENCY_MS) {
            recall(rows, &kept, op, out);
            out->replayed = true;
        } else {
            return ERR_NOT_FOUND; /* past its day, not yet erased */
        }
        return OK;
    }
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    TRY(idem_count(rows, command, &count));
    if (count >= LIMIT_IDEMPOTENCY_KEYS) {
        out->err = ERR_LIMIT_REACHED;
        return OK;
    }
    return ERR_NOT_FOUND;
}

static struct bytes idem_time_key(int64_t kept_at, struct bytes key, struct arena *arena)
{
    struct buf time_key = {0};
    key_add_u64(&time_key, (uint64_t)kept_at);
    buf_add_bytes(&time_key, key);
    struct bytes out = arena_copy(arena, buf_bytes(&time_key));
    buf_free(&time_key);
    return out;
}

static enum err idem_keep(struct rows *rows, const struct command *command, struct outcome *out)
{
    struct answer answer = {0}, old = {0};
    struct bytes key = idem_key(command, &out->arena), value;
    enum err err = rows_get(rows, TABLE_IDEM, key, &value);
    bool replaces = err == OK; /* one past its day that was not erased yet */
    if (replaces) {
        TRY(field_unpack(answer_fields, value, &old));
        TRY(forget_row(rows, TABLE_IDEM_TIME, idem_time_key(old.kept_at, key, &out->arena)));
    } else if (err != ERR_NOT_FOUND) {
        return err;
    }
    fill_answer(&answer, out, true);
    SET(&answer, digest, command->idem_body);
    SET(&answer, kept_at, command->stamped_ms);
    TRY(put_answer(rows, TABLE_IDEM, key, &answer));
    TRY(rows_put(rows, TABLE_IDEM_TIME, idem_time_key(command->stamped_ms, key, &out->arena), BYTES_NONE));
    return replaces ? OK : idem_add_count(rows, id_bytes(&command->account), 1);
}

/* ---- commands ---- */

static enum err run_reducer(struct rows *rows, const struct apply_context *context, uint16_t group,
                            const struct apply_entry *entry, const struct command *command, const struct op *op,
                            uint64_t sequence, struct outcome *out)
{
    void *in = arena_zalloc(&out->arena, op->in_size > 0 ? op->in_size : sizeof(struct fieldset));
    if (op->in != NULL) {
        TRY(field_unpack(op->in, command->params, in));
    }
    struct turn turn = {.rows = rows,
                        .arena = &out->arena,
                        .partition = group,
                        .partitions = context->partitions,
                        .key = command->key,
                        .caller = {command->account, command->session, (enum role)command->role},
                        .now_ms = command->stamped_ms,
                        .version = entry->index,
                        .if_match = (uint64_t)command->if_match,
                        .seed = command->seed,
                        .sequence = sequence};
    enum err err = op->reduce(&turn, in, &out->reply);
    out->reply.index = entry->index;
    if (turn.touched.len > 0) {
        turn_notify(&turn, NOTICE_TOUCHED, buf_bytes(&turn.touched));
        buf_free(&turn.touched);
    }
    if (is_storage_failure(err)) {
        return err;
    }
    out->err = err;
    memcpy(out->notices, turn.notices, sizeof out->notices);
    out->notices_len = turn.notices_len;
    return OK;
}

static enum err run_command(struct state *state, const struct apply_context *context, uint16_t group,
                            const struct apply_entry *entry, const struct command *command, const struct op *op,
                            struct outcome *out)
{
    struct rows *rows = state_rows(state, group);
    bool idem = command->idem_key.len > 0;
    if (idem) {
        TRY(expire_idem(rows, command->stamped_ms, &out->arena));
        enum err err = idem_find(rows, command, op, out);
        if (err != ERR_NOT_FOUND) {
            return err;
        }
    }
    const struct state_partition *book = state_partition_edit(state, group);
    uint64_t before = book->set_hash;
    TRY(run_reducer(rows, context, group, entry, command, op, entry->index - book->stamped_index, out));
    if (out->err != OK && book->set_hash != before) {
        return ERR_CORRUPT; /* a reducer checks before it writes: rows it relies on are not there */
    }
    return idem && err_status(out->err) < 500 && (op->flags & OP_SECRET) == 0 ? idem_keep(rows, command, out) : OK;
}

static enum err apply_command(struct state *state, const struct apply_context *context, uint16_t group,
                              const struct apply_entry *entry, struct outcome *out)
{
    struct command command;
    struct answer answer = {0};
    struct bytes value;
    struct rows *rows = state_rows(state, group);
    TRY(command_decode(entry->payload, &command));
    const struct kind *kind = kind_find(command.kind);
    const struct op *op = kind == NULL ? NULL : kind_op(kind, command.op);
    if (op == NULL || op->reduce == NULL) {
        return ERR_CORRUPT; /* written by a newer version: this one must not guess */
    }
    out->kind = command.kind;
    out->op = command.op;
    out->stamped_ms = command.stamped_ms;
    struct state_partition *book = state_partition_edit(state, group);
    if (command.stamped_ms > book->stamped_ms) {
        book->stamped_ms = command.stamped_ms;
        book->stamped_index = entry->index;
    }
    TRY(expire_requests(rows, command.stamped_ms));
    if (id_ms(command.request_id) < command.stamped_ms - LIMIT_REQUEST_WINDOW_MS) {
        out->err = ERR_STALE_REQUEST;
        return OK;
    }
    enum err err = rows_get(rows, TABLE_REQUESTS, id_bytes(&command.request_id), &value);
    if (err == OK) {
        TRY(field_unpack(answer_fields, value, &answer));
        recall(rows, &answer, op, out);
        return OK;
    }
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    TRY(run_command(state, context, group, entry, &command, op, out));
    fill_answer(&answer, out, false);
    return put_answer(rows, TABLE_REQUESTS, id_bytes(&command.request_id), &answer);
}

enum err apply_put_configuration(struct rows *rows, uint64_t index, struct bytes encoded)
{
    struct buf row = {0};
    buf_add(&row, &index, sizeof index);
    buf_add_bytes(&row, encoded);
    enum err err = rows_put(rows, TABLE_CONFIGURATION, BYTES_LIT("configuration"), buf_bytes(&row));
    buf_free(&row);
    return err;
}

enum err apply_configuration(struct rows *rows, struct bytes *out_encoded, uint64_t *out_index)
{
    struct bytes value;
    TRY(rows_get(rows, TABLE_CONFIGURATION, BYTES_LIT("configuration"), &value));
    if (value.len <= sizeof *out_index) {
        return ERR_CORRUPT;
    }
    memcpy(out_index, value.ptr, sizeof *out_index);
    *out_encoded = bytes_of(value.ptr + sizeof *out_index, value.len - sizeof *out_index);
    return OK;
}

enum err apply_entry(void *ctx, struct state *state, uint16_t group, struct apply_entry *entry)
{
    if (entry->kind == ENTRY_CHANGE) {
        return apply_put_configuration(state_rows(state, group), entry->index, entry->payload);
    }
    if (entry->kind != ENTRY_COMMAND) {
        return OK;
    }
    struct outcome *out = mem_zalloc(sizeof *out);
    enum err err = apply_command(state, ctx, group, entry, out);
    if (err != OK) {
        outcome_free(out);
        return is_storage_failure(err) ? err : ERR_CORRUPT; /* a row that must be there is not */
    }
    if (out->reply.index == 0) {
        out->reply.index =
            entry->index; /* not carried out; or an answer kept by an earlier version, from before this */
    }
    entry->outcome = out;
    return OK;
}
