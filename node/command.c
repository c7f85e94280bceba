#include "node/command.h"

#include "actors/join.h"
#include "node/limits.h"
#include "storage/record.h"

_Static_assert(LIMIT_COMMAND_BYTES + sizeof(struct record_header) * (2 + 2 * (ID_PARTITION_MAX + 1)) <=
                   LIMIT_SEGMENT_MIB_MIN << 20,
               "a segment holds any command behind its preamble");

static const struct field command_fields[] = {FIELD_BLOB(1, command, key, 0),
                                              FIELD_ID(2, command, account, 0),
                                              FIELD_ID(3, command, session, 0),
                                              FIELD_INT(4, command, role, 0, 255, 0),
                                              FIELD_BLOB(5, command, params, 0),
                                              FIELD_INT(6, command, if_match, 0, INT64_MAX, 0),
                                              FIELD_BLOB(7, command, idem_key, 0),
                                              FIELD_BLOB(8, command, idem_body, 0),
                                              FIELDS_END};

struct bytes command_encode(const struct command *command)
{
    struct buf out = {0};
    struct command copy = *command;
    uint8_t head[COMMAND_HEAD_BYTES] = {COMMAND_VERSION, command->kind, command->op};
    memcpy(head + 16, command->request_id.b, sizeof command->request_id.b);
    memcpy(head + 32, &command->seed, sizeof command->seed);
    buf_add(&out, head, sizeof head);
    copy.set.has = field_bit(0) | field_bit(3) | field_bit(4);
    copy.set.has |= id_is_none(copy.account) ? 0 : field_bit(1) | field_bit(2);
    copy.set.has |= copy.if_match != 0 ? field_bit(5) : 0;
    copy.set.has |= copy.idem_key.len > 0 ? field_bit(6) | field_bit(7) : 0;
    field_pack(&out, command_fields, &copy);
    return buf_bytes(&out);
}

enum err command_decode(struct bytes payload, struct command *out)
{
    if (payload.len < COMMAND_HEAD_BYTES || payload.ptr[0] != COMMAND_VERSION) {
        return ERR_CORRUPT;
    }
    *out = (struct command){.kind = payload.ptr[1], .op = payload.ptr[2]};
    memcpy(&out->stamped_ms, payload.ptr + 8, sizeof out->stamped_ms);
    memcpy(out->request_id.b, payload.ptr + 16, sizeof out->request_id.b);
    memcpy(&out->seed, payload.ptr + 32, sizeof out->seed);
    return field_unpack(command_fields, bytes_of(payload.ptr + COMMAND_HEAD_BYTES, payload.len - COMMAND_HEAD_BYTES),
                        out);
}

void command_stamp(struct bytes payload, int64_t stamped_ms)
{
    CHECK(payload.len >= COMMAND_HEAD_BYTES);
    memcpy((uint8_t *)(uintptr_t)payload.ptr + 8, &stamped_ms, sizeof stamped_ms);
}

int64_t command_stamped(struct bytes payload)
{
    int64_t stamped_ms = 0;
    if (payload.len >= COMMAND_HEAD_BYTES) {
        memcpy(&stamped_ms, payload.ptr + 8, sizeof stamped_ms);
    }
    return stamped_ms;
}

const struct op *command_op(struct bytes payload)
{
    const struct kind *kind = payload.len < COMMAND_HEAD_BYTES ? NULL : kind_find(payload.ptr[1]);
    return kind == NULL ? NULL : kind_op(kind, payload.ptr[2]);
}

enum err command_check(struct bytes payload)
{
    struct command command;
    struct arena arena = {0};
    const struct op *op = command_op(payload);
    enum err err = command_decode(payload, &command);
    if (err == OK && (op == NULL || op->reduce == NULL)) {
        err = ERR_CORRUPT;
    }
    if (err == OK && op->in != NULL) {
        void *in = arena_zalloc(&arena, op->in_size);
        err = field_unpack(op->in, command.params, in);
        if (err == OK && op->in == joined_fields) {
            err = joined_check(((const struct joined *)in)->items);
        }
    }
    arena_close(&arena);
    return err;
}
