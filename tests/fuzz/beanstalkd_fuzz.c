/* The text protocol of beanstalkd. The first byte says in what pieces the rest comes: whatever they are, the same
 * commands and refusals come out as from the whole, nothing is used twice, and parts lie within the bytes. */
#include "actors/facades/beanstalkd_script.h"
#include "tests/fuzz/fuzz.h"

static bool is_within(struct bytes part, struct bytes all)
{
    return part.len == 0 || (part.ptr >= all.ptr && part.ptr + part.len <= all.ptr + all.len);
}

static void note(struct buf *out, const struct tube_session *session, enum tube_parse parsed,
                 const struct tube_command *command)
{
    if (parsed == TUBE_REFUSED) {
        buf_add_str(out, session->refusal);
    } else if (parsed == TUBE_COMMAND) {
        buf_printf(out, "%d %llu %u %u %u %u %u ", (int)command->verb, (unsigned long long)command->id,
                   command->priority, command->delay_s, command->ttr_s, command->bound, command->timeout_s);
        buf_add_bytes(out, command->tube);
        buf_add_bytes(out, command->body);
    }
}

/* Local commands are carried out on the way. */
static void play(struct bytes all, size_t step, struct buf *out)
{
    struct tube_session session;
    struct buf said = {0};
    size_t at = 0, have = 0;
    tube_session_init(&session);
    while (have < all.len) {
        have = all.len - have < step ? all.len : have + step;
        for (bool more = true; more;) {
            struct tube_command command = {0};
            struct bytes in = bytes_of(all.ptr + at, have - at);
            size_t used = 0;
            enum tube_parse parsed = tube_parse(&session, in, &command, &used);
            CHECK(used <= in.len && (parsed == TUBE_MORE) == (used == 0));
            CHECK(parsed != TUBE_COMMAND || (is_within(command.tube, in) && is_within(command.body, in)));
            note(out, &session, parsed, &command);
            if (parsed == TUBE_COMMAND) {
                said.len = 0;
                CHECK(tube_local(&session, &command, &said) != (tube_op(command.verb) != NULL) ||
                      command.verb == TUBE_QUIT);
            }
            at += used;
            more = parsed != TUBE_MORE;
        }
    }
    CHECK(session.watched_len >= 1 && session.watched_len <= LIMIT_WATCHES);
    tube_session_close(&session);
    buf_free(&said);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct buf whole = {0}, pieces = {0};
    struct job_name name;
    uint64_t id = 0;
    if (len == 0) {
        return 0;
    }
    struct bytes all = bytes_of(data + 1, len - 1);
    play(all, SIZE_MAX, &whole);
    play(all, 1 + data[0] % 64, &pieces);
    CHECK(bytes_eq(buf_bytes(&whole), buf_bytes(&pieces)));
    memcpy(&id, all.ptr, all.len < sizeof id ? all.len : sizeof id);
    if (job_id_parse(id, 16, &name) && name.ordinal <= UINT32_MAX) {
        uint64_t same = job_id(name, 16);
        struct job_name again;
        CHECK(same == 0 || (job_id_parse(same, 16, &again) && again.message == name.message &&
                            again.ordinal == name.ordinal && again.partition == name.partition));
    }
    buf_free(&whole);
    buf_free(&pieces);
    return 0;
}
