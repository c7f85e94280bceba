/* Every type there and back, and everything that must not be believed. */
#include "cluster/wire.h"

#include "node/codec/field.h"
#include "tests/support/test.h"

#define BIG (1ULL << 62) /* the first number too large */

static struct group_message messages[] = {
    {.type = MESSAGE_APPEND,
     .from = 1,
     .to = UINT64_MAX,
     .term = BIG - 1,
     .index = BIG - 4,
     .index_term = 7,
     .commit = BIG - 1,
     .stamp_ns = INT64_MAX >> 1,
     .entries_len = 3},
    {.type = MESSAGE_APPEND, .from = 1, .to = 2, .term = 1, .commit = 5}, /* from the very beginning */
    {.type = MESSAGE_APPEND_RESULT, .from = 2, .to = 1, .term = 3, .index = 9, .rejected = 12, .stamp_ns = 77},
    {.type = MESSAGE_APPEND_RESULT, .from = 2, .to = 1, .term = 3},
    {.type = MESSAGE_VOTE, .from = 3, .to = 4, .term = 8, .index = 20, .index_term = 8, .pre_vote = true},
    {.type = MESSAGE_VOTE, .from = 3, .to = 4, .term = 9, .index = 20, .index_term = 8, .disrupt = true},
    {.type = MESSAGE_VOTE_RESULT, .from = 4, .to = 3, .term = 8, .granted = true, .pre_vote = true},
    {.type = MESSAGE_VOTE_RESULT, .from = 4, .to = 3, .term = 9},
    {.type = MESSAGE_INSTALL,
     .from = 1,
     .to = 5,
     .term = 4,
     .index = 1000,
     .index_term = 3,
     .stamp_ns = 1,
     .configuration = {(const uint8_t *)"members", 7},
     .configuration_index = 1000},
    {.type = MESSAGE_TIMEOUT_NOW, .from = 1, .to = 5, .term = 4, .index = 1000, .index_term = 4, .stamp_ns = 5}};

/* Those of the first message. */
static const struct group_entry entries[] = {{BIG - 3, 7, ENTRY_COMMAND, {(const uint8_t *)"do", 2}},
                                             {BIG - 2, 7, ENTRY_BARRIER, {NULL, 0}},
                                             {BIG - 1, BIG - 1, ENTRY_CHANGE, {(const uint8_t *)"set", 3}}};

static void expect_equal(const struct group_message *a, const struct group_message *b, const struct group_entry *of_b)
{
    assert_true(a->type == b->type && a->from == b->from && a->to == b->to && a->term == b->term);
    assert_true(a->index == b->index && a->index_term == b->index_term && a->commit == b->commit);
    assert_true(a->rejected == b->rejected && a->stamp_ns == b->stamp_ns && a->granted == b->granted);
    assert_true(a->pre_vote == b->pre_vote && a->disrupt == b->disrupt && a->entries_len == b->entries_len);
    assert_true(a->configuration_index == b->configuration_index);
    assert_true(bytes_eq(a->configuration, b->configuration));
    for (uint64_t i = 0; i < a->entries_len; i++) {
        assert_true(a->entries[i].index == of_b[i].index && a->entries[i].term == of_b[i].term);
        assert_true(a->entries[i].kind == of_b[i].kind && bytes_eq(a->entries[i].payload, of_b[i].payload));
    }
}

static void test_group_message_of_every_type_comes_back_equal(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        struct buf packed = {0};
        struct group_message out;
        unsigned group = 0;
        wire_group_pack(&packed, i % 2 == 0 ? WIRE_GROUP_MAX : 0, &messages[i], i == 0 ? entries : NULL);
        assert_int_equal(wire_group_unpack(buf_bytes(&packed), &group, &out), OK);
        assert_int_equal(group, i % 2 == 0 ? WIRE_GROUP_MAX : 0);
        expect_equal(&out, &messages[i], entries);
        assert_true(i == 0 || out.entries == NULL);
        wire_group_free(&out);
        buf_free(&packed);
    }
}

static void test_group_message_cut_short_or_longer_is_corrupt(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        struct buf packed = {0};
        struct group_message out;
        unsigned group;
        wire_group_pack(&packed, 1, &messages[i], i == 0 ? entries : NULL);
        for (size_t len = 0; len < packed.len; len++) {
            uint8_t *exact = mem_copy(packed.ptr, len); /* for ASan to see what is read behind */
            assert_int_equal(wire_group_unpack(bytes_of(exact, len), &group, &out), ERR_CORRUPT);
            assert_null(out.entries);
            free(exact);
        }
        buf_add_char(&packed, 0);
        assert_int_equal(wire_group_unpack(buf_bytes(&packed), &group, &out), ERR_CORRUPT);
        buf_free(&packed);
    }
}

static void test_group_messages_many_entries_come_back_equal(void **state)
{
    (void)state;
    struct group_entry *many = mem_zalloc((WIRE_ENTRIES_MAX + 1) * sizeof *many);
    struct group_message message = messages[0], out;
    struct buf packed = {0};
    unsigned group;
    message.index = 10;
    message.entries_len = WIRE_ENTRIES_MAX;
    for (size_t i = 0; i < WIRE_ENTRIES_MAX; i++) {
        many[i] = (struct group_entry){11 + i, 7 + i / 100, ENTRY_COMMAND, bytes_of("0123456789abcdef", i % 17)};
    }
    wire_group_pack(&packed, 1, &message, many);
    assert_int_equal(wire_group_unpack(buf_bytes(&packed), &group, &out), OK);
    expect_equal(&out, &message, many);
    wire_group_free(&out);
    buf_free(&packed);
    free(many);
}

/* ---- bodies made by hand: the tags stay what they are ---- */

struct hand {
    struct fieldset set;
    int64_t number[18]; /* by tag */
    bool flag[18];
    struct bytes blob[18];
};

#define HAND_INT(tag_)                                                                              \
    {                                                                                               \
        .name = "n", .tag = (tag_), .type = TYPE_INT, .offset = offsetof(struct hand, number[tag_]) \
    }
#define HAND_BOOL(tag_)                                                                            \
    {                                                                                              \
        .name = "f", .tag = (tag_), .type = TYPE_BOOL, .offset = offsetof(struct hand, flag[tag_]) \
    }
#define HAND_BLOB(tag_)                                                                             \
    {                                                                                               \
        .name = "b", .tag = (tag_), .type = TYPE_BYTES, .offset = offsetof(struct hand, blob[tag_]) \
    }

/* Row i is of tag i + 1. */
static const struct field hand_fields[] = {HAND_INT(1),   HAND_INT(2),   HAND_INT(3),   HAND_INT(4),  HAND_INT(5),
                                           HAND_INT(6),   HAND_INT(7),   HAND_INT(8),   HAND_INT(9),  HAND_INT(10),
                                           HAND_BOOL(11), HAND_BOOL(12), HAND_BOOL(13), HAND_INT(14), HAND_BLOB(15),
                                           HAND_BLOB(16), HAND_INT(17),  FIELDS_END};
enum {
    GROUP = 1,
    TYPE,
    FROM,
    TO,
    TERM,
    INDEX,
    INDEX_TERM,
    COMMIT,
    REJECTED,
    STAMP,
    GRANTED,
    PRE_VOTE,
    DISRUPT,
    ENTRIES_LEN,
    ENTRIES,
    CONFIGURATION,
    CONFIGURATION_INDEX,
    TAGS
};

/* Sound for every type. One entry: term 5, a command "x". */
static struct hand sound(int64_t type)
{
    struct hand hand = {.set = {.has = field_bit(TAGS - 1) - 1},
                        .number = {[GROUP] = 3,
                                   [TYPE] = type,
                                   [FROM] = 1,
                                   [TO] = 2,
                                   [TERM] = 6,
                                   [INDEX] = 8,
                                   [INDEX_TERM] = 5,
                                   [COMMIT] = 7,
                                   [ENTRIES_LEN] = 1,
                                   [CONFIGURATION_INDEX] = 8}};
    hand.blob[ENTRIES] = BYTES_LIT("\5\0\0\0\0\0\0\0\1\1\0\0\0x");
    hand.blob[CONFIGURATION] = BYTES_LIT("c");
    return hand;
}

static enum err unpack_hand(const struct hand *hand)
{
    struct buf packed = {0};
    struct group_message out;
    unsigned group;
    field_pack(&packed, hand_fields, hand);
    enum err err = wire_group_unpack(buf_bytes(&packed), &group, &out);
    wire_group_free(&out);
    buf_free(&packed);
    return err;
}

static const int64_t every_type[] = {MESSAGE_APPEND,      MESSAGE_APPEND_RESULT, MESSAGE_VOTE,
                                     MESSAGE_VOTE_RESULT, MESSAGE_INSTALL,       MESSAGE_TIMEOUT_NOW};

static void test_group_message_with_more_than_its_type_has_is_read_without(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(every_type); i++) {
        struct hand hand = sound(every_type[i]);
        assert_int_equal(unpack_hand(&hand), OK);
    }
}

static void test_group_message_missing_a_field_is_corrupt(void **state)
{
    (void)state;
    static const uint8_t needs[][12] = {
        [MESSAGE_APPEND] = {GROUP, TYPE, FROM, TO, TERM, INDEX, INDEX_TERM, COMMIT, STAMP, ENTRIES_LEN, ENTRIES},
        [MESSAGE_APPEND_RESULT] = {GROUP, TYPE, FROM, TO, TERM, INDEX, REJECTED, STAMP},
        [MESSAGE_VOTE] = {GROUP, TYPE, FROM, TO, TERM, INDEX, INDEX_TERM, PRE_VOTE, DISRUPT},
        [MESSAGE_VOTE_RESULT] = {GROUP, TYPE, FROM, TO, TERM, GRANTED, PRE_VOTE},
        [MESSAGE_INSTALL] = {GROUP, TYPE, FROM, TO, TERM, INDEX, INDEX_TERM, STAMP, CONFIGURATION, CONFIGURATION_INDEX},
        [MESSAGE_TIMEOUT_NOW] = {GROUP, TYPE, FROM, TO, TERM, INDEX, INDEX_TERM, STAMP}};
    for (size_t i = 0; i < ARRAY_LEN(every_type); i++) {
        for (unsigned tag = 1; tag < TAGS; tag++) {
            bool needed = memchr(needs[every_type[i]], (int)tag, sizeof needs[0]) != NULL;
            struct hand hand = sound(every_type[i]);
            hand.set.has &= ~field_bit(tag - 1);
            assert_int_equal(unpack_hand(&hand), needed ? ERR_CORRUPT : OK);
            hand.set.null |= field_bit(tag - 1);
            assert_int_equal(unpack_hand(&hand), needed ? ERR_CORRUPT : OK);
        }
    }
}

static void test_group_message_with_a_number_out_of_bounds_is_corrupt(void **state)
{
    (void)state;
    static const struct {
        int64_t type;
        unsigned tag;
        int64_t number;
    } bad[] = {{MESSAGE_APPEND, TYPE, 0},
               {MESSAGE_APPEND, TYPE, 7},
               {MESSAGE_APPEND, TYPE, -1},
               {MESSAGE_APPEND, GROUP, -1},
               {MESSAGE_APPEND, GROUP, WIRE_GROUP_MAX + 1},
               {MESSAGE_VOTE, FROM, 0},
               {MESSAGE_VOTE, TO, 0},
               {MESSAGE_APPEND, TERM, 0},
               {MESSAGE_APPEND_RESULT, TERM, 0},
               {MESSAGE_VOTE_RESULT, TERM, -1},
               {MESSAGE_VOTE_RESULT, TERM, (int64_t)BIG},
               {MESSAGE_APPEND, TERM, 4}, /* below those of the entries */
               {MESSAGE_APPEND, INDEX, 0},
               {MESSAGE_APPEND, INDEX, -1},
               {MESSAGE_APPEND, INDEX, (int64_t)BIG},
               {MESSAGE_APPEND, INDEX, (int64_t)BIG - 1}, /* no room for an entry */
               {MESSAGE_APPEND, INDEX_TERM, 0},
               {MESSAGE_APPEND, INDEX_TERM, -5},
               {MESSAGE_APPEND, INDEX_TERM, 6}, /* above that of the entry */
               {MESSAGE_APPEND, INDEX_TERM, 7},
               {MESSAGE_APPEND, COMMIT, (int64_t)BIG},
               {MESSAGE_APPEND, COMMIT, -1},
               {MESSAGE_APPEND, STAMP, -1},
               {MESSAGE_APPEND, ENTRIES_LEN, 0},
               {MESSAGE_APPEND, ENTRIES_LEN, 2},
               {MESSAGE_APPEND, ENTRIES_LEN, -1},
               {MESSAGE_APPEND, ENTRIES_LEN, WIRE_ENTRIES_MAX},
               {MESSAGE_APPEND, ENTRIES_LEN, INT64_MAX},
               {MESSAGE_APPEND_RESULT, INDEX, (int64_t)BIG},
               {MESSAGE_APPEND_RESULT, REJECTED, (int64_t)BIG},
               {MESSAGE_APPEND_RESULT, REJECTED, -1},
               {MESSAGE_APPEND_RESULT, STAMP, INT64_MIN},
               {MESSAGE_VOTE, INDEX, 0},
               {MESSAGE_VOTE, INDEX_TERM, 7},
               {MESSAGE_INSTALL, INDEX, 7}, /* before its configuration */
               {MESSAGE_INSTALL, INDEX_TERM, 0},
               {MESSAGE_INSTALL, CONFIGURATION_INDEX, 9},
               {MESSAGE_INSTALL, CONFIGURATION_INDEX, -1},
               {MESSAGE_TIMEOUT_NOW, INDEX_TERM, 0}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct hand hand = sound(bad[i].type);
        hand.number[bad[i].tag] = bad[i].number;
        assert_int_equal(unpack_hand(&hand), ERR_CORRUPT);
    }
}

static void test_group_message_with_unsound_entries_is_corrupt(void **state)
{
    (void)state;
    static const struct bytes bad[] = {
        {(const uint8_t *)"\4\0\0\0\0\0\0\0\1\1\0\0\0x", 14},             /* the term falls */
        {(const uint8_t *)"\7\0\0\0\0\0\0\0\1\1\0\0\0x", 14},             /* above the message's */
        {(const uint8_t *)"\5\0\0\0\0\0\0\x80\1\1\0\0\0x", 14},           /* far above */
        {(const uint8_t *)"\5\0\0\0\0\0\0\0\0\1\0\0\0x", 14},             /* kind 0 */
        {(const uint8_t *)"\5\0\0\0\0\0\0\0\4\1\0\0\0x", 14},             /* kind 4 */
        {(const uint8_t *)"\5\0\0\0\0\0\0\0\1\2\0\0\0x", 14},             /* a byte is missing */
        {(const uint8_t *)"\5\0\0\0\0\0\0\0\1\0\0\0\0x", 14},             /* a byte too many */
        {(const uint8_t *)"\5\0\0\0\0\0\0\0\1\xff\xff\xff\xffx", 14},     /* far too long */
        {(const uint8_t *)"\5\0\0\0\0\0\0\0\1\0\0\0", 12},                /* no whole head */
        {(const uint8_t *)"\5\0\0\0\0\0\0\0\1\0\0\0\0\5\0\0\0\0\0", 19}}; /* one and a half */
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct hand hand = sound(MESSAGE_APPEND);
        hand.blob[ENTRIES] = bad[i];
        assert_int_equal(unpack_hand(&hand), ERR_CORRUPT);
    }
    struct hand hand = sound(MESSAGE_APPEND);
    hand.number[INDEX] = hand.number[INDEX_TERM] = 0;
    hand.blob[ENTRIES] = BYTES_LIT("\0\0\0\0\0\0\0\0\1\1\0\0\0x"); /* term 0 */
    assert_int_equal(unpack_hand(&hand), ERR_CORRUPT);
    hand.blob[ENTRIES] = BYTES_LIT("\1\0\0\0\0\0\0\0\1\1\0\0\0x");
    assert_int_equal(unpack_hand(&hand), OK);
}

static void test_group_message_with_too_many_entries_or_too_large_is_corrupt(void **state)
{
    (void)state;
    struct hand hand = sound(MESSAGE_APPEND);
    struct buf blob = {0};
    for (size_t i = 0; i < WIRE_ENTRIES_MAX + 1; i++) {
        buf_add_lit(&blob, "\5\0\0\0\0\0\0\0\1\0\0\0\0");
    }
    hand.number[ENTRIES_LEN] = WIRE_ENTRIES_MAX + 1;
    hand.blob[ENTRIES] = buf_bytes(&blob);
    assert_int_equal(unpack_hand(&hand), ERR_CORRUPT);
    hand = sound(MESSAGE_INSTALL);
    hand.blob[CONFIGURATION] = bytes_of(blob.ptr, WIRE_CONFIGURATION_BYTES + 1);
    assert_int_equal(unpack_hand(&hand), ERR_CORRUPT);
    hand.blob[CONFIGURATION] = bytes_of(blob.ptr, WIRE_CONFIGURATION_BYTES);
    assert_int_equal(unpack_hand(&hand), OK);
    buf_free(&blob);
}

static void test_group_message_that_is_no_map_or_of_wrong_types_is_corrupt(void **state)
{
    (void)state;
    struct group_message out;
    unsigned group;
    assert_int_equal(wire_group_unpack(BYTES_NONE, &group, &out), ERR_CORRUPT);
    assert_int_equal(wire_group_unpack(BYTES_LIT("\x80"), &group, &out), ERR_CORRUPT);
    assert_int_equal(wire_group_unpack(BYTES_LIT("\x93\1\2\3"), &group, &out), ERR_CORRUPT);
    for (unsigned tag = 1; tag < TAGS; tag++) {
        struct hand hand = sound(tag == CONFIGURATION || tag == CONFIGURATION_INDEX ? MESSAGE_INSTALL : MESSAGE_APPEND);
        if (tag == REJECTED || (tag >= GRANTED && tag <= DISRUPT)) {
            continue;
        }
        struct field fields[ARRAY_LEN(hand_fields)];
        memcpy(fields, hand_fields, sizeof fields);
        fields[tag - 1].type = TYPE_STRING;
        fields[tag - 1].offset = offsetof(struct hand, blob[CONFIGURATION]);
        struct buf packed = {0};
        field_pack(&packed, fields, &hand);
        assert_int_equal(wire_group_unpack(buf_bytes(&packed), &group, &out), ERR_CORRUPT);
        buf_free(&packed);
    }
}

/* ---- frames ---- */

static void test_frame_gives_its_messages_in_order(void **state)
{
    (void)state;
    struct buf frame = {0};
    uint8_t type;
    struct bytes body;
    wire_add(&frame, 1, BYTES_LIT("one"));
    wire_add(&frame, 255, BYTES_NONE);
    wire_add(&frame, 0, BYTES_LIT("three"));
    struct bytes left = buf_bytes(&frame);
    assert_int_equal(wire_next(&left, &type, &body), OK);
    assert_true(type == 1 && bytes_is(body, "one"));
    assert_int_equal(wire_next(&left, &type, &body), OK);
    assert_true(type == 255 && body.len == 0);
    assert_int_equal(wire_next(&left, &type, &body), OK);
    assert_true(type == 0 && bytes_is(body, "three"));
    assert_int_equal(wire_next(&left, &type, &body), ERR_NOT_FOUND);
    assert_int_equal(wire_next(&left, &type, &body), ERR_NOT_FOUND);
    buf_free(&frame);
}

static void test_frame_cut_short_is_corrupt(void **state)
{
    (void)state;
    static const struct bytes bad[] = {{(const uint8_t *)"\1", 1},
                                       {(const uint8_t *)"\1\0\0\0", 4},
                                       {(const uint8_t *)"\1\1\0\0\0", 5},
                                       {(const uint8_t *)"\1\4\0\0\0abc", 8},
                                       {(const uint8_t *)"\1\xff\xff\xff\xff"
                                                         "abc",
                                        8}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct bytes left = bad[i], body;
        uint8_t type;
        assert_int_equal(wire_next(&left, &type, &body), ERR_CORRUPT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_group_message_of_every_type_comes_back_equal),
        cmocka_unit_test(test_group_message_cut_short_or_longer_is_corrupt),
        cmocka_unit_test(test_group_messages_many_entries_come_back_equal),
        cmocka_unit_test(test_group_message_with_more_than_its_type_has_is_read_without),
        cmocka_unit_test(test_group_message_missing_a_field_is_corrupt),
        cmocka_unit_test(test_group_message_with_a_number_out_of_bounds_is_corrupt),
        cmocka_unit_test(test_group_message_with_unsound_entries_is_corrupt),
        cmocka_unit_test(test_group_message_with_too_many_entries_or_too_large_is_corrupt),
        cmocka_unit_test(test_group_message_that_is_no_map_or_of_wrong_types_is_corrupt),
        cmocka_unit_test(test_frame_gives_its_messages_in_order),
        cmocka_unit_test(test_frame_cut_short_is_corrupt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
