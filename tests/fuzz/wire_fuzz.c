/* What a peer's frame says. First byte even: the rest is a frame. Odd: it is the body of one group message.
 * Bodies are unpacked as a group's; what unpacks is what the engine may trust, and packs again to an
 * equal message. */
#include "cluster/wire.h"

#include <stdio.h>

#include "tests/fuzz/fuzz.h"

enum { NUMBER_BITS = 62 };

static void check_number(uint64_t number)
{
    CHECK(number >> NUMBER_BITS == 0);
}

/* Said once more, apart from the tables. */
static void check_trust(const struct group_message *message)
{
    uint64_t term = message->index_term;
    CHECK(message->type >= MESSAGE_APPEND && message->type <= MESSAGE_TIMEOUT_NOW);
    CHECK(message->from != 0 && message->to != 0 && message->term != 0 && message->index_term <= message->term);
    check_number(message->term);
    check_number(message->index);
    check_number(message->index + message->entries_len);
    check_number(message->commit);
    check_number(message->rejected);
    check_number((uint64_t)message->stamp_ns);
    CHECK(message->type != MESSAGE_APPEND || (message->index == 0) == (message->index_term == 0));
    CHECK(message->type == MESSAGE_APPEND || message->entries_len == 0);
    CHECK(message->entries_len <= WIRE_ENTRIES_MAX && (message->entries == NULL) == (message->entries_len == 0));
    for (uint64_t i = 0; i < message->entries_len; i++) {
        const struct group_entry *entry = &message->entries[i];
        CHECK(entry->index == message->index + 1 + i && entry->kind >= ENTRY_COMMAND && entry->kind <= ENTRY_CHANGE);
        CHECK(entry->term > 0 && entry->term >= term && entry->term <= message->term);
        term = entry->term;
    }
}

static void check_equal(const struct group_message *a, const struct group_message *b)
{
    CHECK(a->type == b->type && a->from == b->from && a->to == b->to && a->term == b->term && a->index == b->index);
    CHECK(a->index_term == b->index_term && a->commit == b->commit && a->rejected == b->rejected);
    CHECK(a->stamp_ns == b->stamp_ns && a->granted == b->granted && a->pre_vote == b->pre_vote);
    CHECK(a->disrupt == b->disrupt && a->entries_len == b->entries_len);
    CHECK(bytes_eq(a->configuration, b->configuration) && a->configuration_index == b->configuration_index);
    for (uint64_t i = 0; i < a->entries_len; i++) {
        CHECK(a->entries[i].index == b->entries[i].index && a->entries[i].term == b->entries[i].term);
        CHECK(a->entries[i].kind == b->entries[i].kind && bytes_eq(a->entries[i].payload, b->entries[i].payload));
    }
}

static void check_body(struct bytes body)
{
    struct group_message message, again;
    unsigned group, group_again;
    enum err err = wire_group_unpack(body, &group, &message);
    CHECK(err == OK || (err == ERR_CORRUPT && message.entries == NULL));
    if (err == OK) {
        struct buf packed = {0};
        check_trust(&message);
        wire_group_pack(&packed, group, &message, message.entries);
        CHECK(wire_group_unpack(buf_bytes(&packed), &group_again, &again) == OK && group_again == group);
        check_equal(&message, &again);
        wire_group_free(&again);
        buf_free(&packed);
    }
    wire_group_free(&message);
}

static void check_frame(struct bytes frame)
{
    struct bytes left = frame, body;
    struct buf again = {0};
    uint8_t type;
    enum err err;
    while ((err = wire_next(&left, &type, &body)) == OK) {
        wire_add(&again, type, body);
        check_body(body);
    }
    CHECK(err == ERR_NOT_FOUND ? left.len == 0 : err == ERR_CORRUPT);
    CHECK(bytes_start_with(frame, buf_bytes(&again)) && again.len + left.len == frame.len);
    buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes input = bytes_of(data, len);
    if (fuzz_take(&input, 1) % 2 == 0) {
        check_frame(input);
    } else {
        check_body(input);
    }
    return 0;
}

/* ---- seeds: every type, alone and all in one frame ---- */

static void pack_example(uint8_t type, struct buf *out)
{
    static const struct group_entry entries[] = {{21, 5, ENTRY_COMMAND, {(const uint8_t *)"command", 7}},
                                                 {22, 6, ENTRY_BARRIER, {NULL, 0}},
                                                 {23, 6, ENTRY_CHANGE, {(const uint8_t *)"members", 7}}};
    bool is_append = type == MESSAGE_APPEND, is_install = type == MESSAGE_INSTALL;
    bool is_result = type == MESSAGE_APPEND_RESULT || type == MESSAGE_VOTE_RESULT;
    struct group_message message = {.type = type,
                                    .from = 1,
                                    .to = 0x8000000000000002,
                                    .term = 6,
                                    .index = 20,
                                    .index_term = is_result ? 0 : 5,
                                    .commit = is_append ? 19 : 0,
                                    .stamp_ns = 1234567890123,
                                    .entries_len = is_append ? 3 : 0,
                                    .configuration = is_install ? BYTES_LIT("members") : BYTES_NONE,
                                    .configuration_index = is_install ? 4 : 0};
    wire_group_pack(out, 3, &message, entries);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    if (fuzz_wants_seeds()) {
        struct buf frame = {0};
        buf_add_char(&frame, 0);
        for (uint8_t type = MESSAGE_APPEND; type <= MESSAGE_TIMEOUT_NOW; type++) {
            static const char *const names[] = {"append",      "append_result", "vote",
                                                "vote_result", "install",       "timeout_now"};
            struct buf body = {0};
            buf_add_char(&body, 1);
            pack_example(type, &body);
            fuzz_seed(names[type - 1], buf_bytes(&body));
            wire_add(&frame, type, bytes_of(body.ptr + 1, body.len - 1));
            buf_free(&body);
        }
        fuzz_seed("frame", buf_bytes(&frame));
        buf_free(&frame);
        fuzz_seeds_end();
    }
    return 0;
}
