#include "tests/waits/tally.h"

#include "actors/join.h"
#include "actors/kind.h"
#include "node/limits.h"

enum { KIND_TALLY = 7, TABLE_TALLY = 62, TABLE_TALLY_DATA = 63 };
enum { DO_ADD = 1, ADD = 2, WAIT = 3 };

struct tally_in {
    struct fieldset set;
    struct id id;
    int64_t size, above, wait_ms;
    bool refuse;
};
static const struct field in_fields[] = {FIELD_ID(1, tally_in, id, FIELD_REQUIRED | FIELD_QUERY),
                                         FIELD_INT(2, tally_in, size, 0, LIMIT_JOINED_ITEM_BYTES + 1, FIELD_QUERY),
                                         FIELD_INT(3, tally_in, above, 0, INT64_MAX, FIELD_QUERY),
                                         FIELD_INT(4, tally_in, wait_ms, 0, 60000, FIELD_QUERY),
                                         FIELD_BOOL(5, tally_in, refuse, FIELD_QUERY),
                                         FIELDS_END};
struct tally_out {
    struct fieldset set;
    int64_t count, seen, index, bytes;
    bool rung, draining;
};
static const struct field out_fields[] = {FIELD_INT(1, tally_out, count, 0, INT64_MAX, 0),
                                          FIELD_INT(2, tally_out, seen, 0, INT64_MAX, 0),
                                          FIELD_INT(3, tally_out, index, 0, INT64_MAX, 0),
                                          FIELD_INT(4, tally_out, bytes, 0, INT64_MAX, 0),
                                          FIELD_BOOL(5, tally_out, rung, 0),
                                          FIELD_BOOL(6, tally_out, draining, 0),
                                          FIELDS_END};
struct tally_state {
    struct tally_out out;
    bool waited;
};

static int64_t count_of(struct rows *rows, struct bytes key)
{
    struct bytes value;
    int64_t count = 0;
    if (rows_get(rows, TABLE_TALLY, key, &value) == OK) {
        memcpy(&count, value.ptr, sizeof count);
    }
    return count;
}

/* ---- adding ---- */

static enum err do_add(struct turn *turn, const void *in, struct reply *reply)
{
    struct bytes rest = ((const struct joined *)in)->items, item;
    struct caller caller;
    struct id id;
    int64_t count = count_of(turn->rows, turn->key);
    memcpy(id.b, turn->key.ptr, sizeof id.b);
    while (joined_next(&rest, &caller, &item)) {
        if (item.ptr[0] == 'r' || id_is_none(caller.account)) {
            joined_answer(reply, ERR_CONFLICT, BYTES_NONE);
            continue;
        }
        count++;
        TRY(rows_put(turn->rows, TABLE_TALLY, turn->key, bytes_of(&count, sizeof count)));
        TRY(rows_put(turn->rows, TABLE_TALLY_DATA, turn->key, item));
        joined_answer(reply, OK, bytes_of(&count, sizeof count));
    }
    turn_touch(turn, id);
    return OK;
}

static enum err join(struct script *s)
{
    const struct tally_in *in = s->in;
    size_t len = (size_t)in->size + 1;
    uint8_t *item = arena_alloc(s->arena, len);
    memset(item, in->refuse ? 'r' : 'a', len);
    script_join(s, KIND_TALLY, DO_ADD, (struct address){id_partition(in->id), id_bytes(&in->id)}, bytes_of(item, len));
    return OK;
}

static enum err joined(struct script *s)
{
    const struct tally_in *in = s->in;
    struct tally_state *state = s->state;
    CHECK(s->answer.body.len == sizeof state->out.count);
    memcpy(&state->out.count, s->answer.body.ptr, sizeof state->out.count);
    state->out.index = (int64_t)s->answer.index;
    script_applied(s, id_partition(in->id), s->answer.index);
    return OK;
}

static enum err answer(struct script *s)
{
    const struct tally_in *in = s->in;
    struct tally_state *state = s->state;
    struct rows *rows = script_rows(s, id_partition(in->id));
    struct bytes data;
    state->out.set.has = field_bit(6) - 1;
    state->out.seen = count_of(rows, id_bytes(&in->id));
    if (rows_get(rows, TABLE_TALLY_DATA, id_bytes(&in->id), &data) == OK) {
        state->out.bytes = (int64_t)data.len - 1;
    }
    reply_struct(s->reply, out_fields, &state->out);
    return script_done(s);
}

static const struct step add_steps[] = {{"join", join}, {"joined", joined}, {"answer", answer}, {0}};

/* ---- waiting ---- */

static enum err watch(struct script *s)
{
    const struct tally_in *in = s->in;
    script_watch(s, in->id);
    script_read(s, id_partition(in->id));
    return OK;
}

static enum err look(struct script *s)
{
    const struct tally_in *in = s->in;
    struct tally_state *state = s->state;
    bool over = state->waited && !s->rung;
    state->out.rung = s->rung;
    state->out.draining = s->draining;
    if (over || s->draining || count_of(script_rows(s, id_partition(in->id)), id_bytes(&in->id)) > in->above) {
        return answer(s);
    }
    state->waited = true;
    script_wait(s, in->wait_ms);
    script_goto(s, 1);
    return OK;
}

static const struct step wait_steps[] = {{"watch", watch}, {"look", look}, {0}};

static enum err check(struct rows *rows, struct arena *arena)
{
    (void)rows;
    (void)arena;
    return OK;
}

static enum err forget(struct turn *turn, struct id account, unsigned limit, unsigned *out_erased)
{
    (void)turn;
    (void)account;
    (void)limit;
    *out_erased = 0;
    return OK;
}

static const struct table tables[] = {{TABLE_TALLY, "tallies", true}, {TABLE_TALLY_DATA, "tally_data", false}, {0}};
#define IN \
    .in = in_fields, .in_size = sizeof(struct tally_in), .out = out_fields, .state_size = sizeof(struct tally_state)
static const struct op ops[] = {
    {DO_ADD, OP_COMMAND, .name = "do_add", .in = joined_fields, .in_size = sizeof(struct joined), .reduce = do_add},
    {ADD, OP_SCRIPT, 0, ROLE_USER, 200, "add", METHOD_POST, "/v1/tally/{id}", "Add", IN, .steps = add_steps},
    {WAIT, OP_SCRIPT, 0, ROLE_USER, 200, "wait", METHOD_GET, "/v1/tally/{id}", "Wait", IN, .steps = wait_steps},
    {0}};

const struct kind tally_kind = {
    .id = KIND_TALLY, .name = "tally", .tables = tables, .ops = ops, .forget = forget, .check = check};
