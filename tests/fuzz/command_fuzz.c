/* A command as the log holds it. Its parameters are read by the table of the operation it names, and
 * what was accepted is written again: the second reading and writing must change nothing. The same
 * bytes also go to JSON by the operation's reply table, as rows of the state do. */
#include "node/command.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/fuzz/fuzz.h"

static void check_encode(const struct command *command)
{
    struct command again;
    struct bytes first = command_encode(command);
    CHECK(command_decode(first, &again) == OK);
    CHECK(again.kind == command->kind && again.op == command->op && again.seed == command->seed);
    CHECK(again.role == command->role && again.if_match == command->if_match);
    CHECK(id_eq(again.request_id, command->request_id) && id_eq(again.account, command->account));
    CHECK(id_is_none(command->account) || id_eq(again.session, command->session));
    CHECK(bytes_eq(again.key, command->key) && bytes_eq(again.params, command->params));
    CHECK(bytes_eq(again.idem_key, command->idem_key));
    CHECK(command->idem_key.len == 0 || bytes_eq(again.idem_body, command->idem_body));
    command_stamp(first, command->stamped_ms);
    CHECK(command_stamped(first) == command->stamped_ms);
    struct bytes second = command_encode(&again);
    command_stamp(second, command->stamped_ms);
    CHECK(bytes_eq(first, second));
    free((void *)(uintptr_t)first.ptr);
    free((void *)(uintptr_t)second.ptr);
}

static void check_params(const struct op *op, struct bytes params)
{
    struct arena arena = {0};
    struct buf first = {0}, second = {0};
    void *in = arena_zalloc(&arena, op->in_size), *again = arena_zalloc(&arena, op->in_size);
    if (field_unpack(op->in, params, in) == OK) {
        field_pack(&first, op->in, in);
        CHECK(field_unpack(op->in, buf_bytes(&first), again) == OK);
        field_pack(&second, op->in, again);
        CHECK(bytes_eq(buf_bytes(&first), buf_bytes(&second)));
    }
    buf_free(&first);
    buf_free(&second);
    arena_close(&arena);
}

static void check_json(const struct field *fields, struct bytes packed)
{
    struct buf json = {0};
    enum err err = field_json_from_pack(&json, fields, packed);
    CHECK(err == OK || err == ERR_CORRUPT);
    CHECK(err != OK || (json.len >= 2 && json.ptr[0] == '{' && json.ptr[json.len - 1] == '}'));
    buf_free(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct command command;
    struct bytes payload = bytes_of(data, len);
    (void)command_stamped(payload);
    enum err err = command_decode(payload, &command);
    CHECK(err == OK || err == ERR_CORRUPT);
    if (err != OK) {
        return 0;
    }
    check_encode(&command);
    const struct kind *kind = kind_find(command.kind);
    const struct op *op = kind == NULL ? NULL : kind_op(kind, command.op);
    if (op != NULL && op->in != NULL) {
        check_params(op, command.params);
    }
    if (op != NULL && op->out != NULL) {
        check_json(op->out, command.params);
    }
    return 0;
}

/* ---- seeds: a command of every operation that has much to say ---- */

static void fill(const struct field *fields, void *in)
{
    struct fieldset *set = in;
    for (size_t i = 0; fields[i].name != NULL; i++) {
        void *to = (char *)in + fields[i].offset;
        set->has |= field_bit(i);
        switch ((enum field_type)fields[i].type) {
        case TYPE_STRING:
        case TYPE_BYTES: *(struct bytes *)to = bytes_str(fields[i].name); break;
        case TYPE_BOOL: *(bool *)to = true; break;
        case TYPE_INT:
        case TYPE_TIME: *(int64_t *)to = 1234567; break;
        case TYPE_ID: *(struct id *)to = id_make(1700000000000, 3, 77); break;
        case TYPE_ENUM: *(int *)to = 1; break;
        case TYPE_OBJECT: fill(fields[i].sub, to); break;
        case TYPE_OBJECTS:
        case TYPE_MAP:
        case TYPE_STRINGS: set->has &= ~field_bit(i); break;
        }
    }
}

static void write_seed(const struct kind *kind, const struct op *op, const struct field *fields, size_t size)
{
    char name[128];
    struct buf params = {0};
    struct id id = id_make(1700000000000, 3, 99);
    void *in = mem_zalloc(size);
    fill(fields, in);
    field_pack(&params, fields, in);
    struct command command = {.key = id_bytes(&id),
                              .account = id,
                              .session = id,
                              .role = ROLE_USER,
                              .if_match = 5,
                              .params = buf_bytes(&params),
                              .idem_key = BYTES_LIT("k"),
                              .idem_body = BYTES_LIT("b"),
                              .kind = kind->id,
                              .op = op->tag,
                              .request_id = id};
    struct bytes payload = command_encode(&command);
    (void)snprintf(name, sizeof name, "%s_%s", kind->name, op->name);
    fuzz_seed(name, payload);
    free((void *)(uintptr_t)payload.ptr);
    buf_free(&params);
    free(in);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    for (size_t k = 0; fuzz_wants_seeds() && kinds[k] != NULL; k++) {
        for (const struct op *op = kinds[k]->ops; op->tag != 0; op++) {
            if (op->in != NULL && op->reduce != NULL && op->in[0].name != NULL && op->in[1].name != NULL) {
                write_seed(kinds[k], op, op->in, op->in_size);
            }
        }
    }
    if (fuzz_wants_seeds()) {
        fuzz_seeds_end();
    }
    return 0;
}
