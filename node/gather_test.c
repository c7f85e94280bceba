/* What is gathered: how much goes out when, in which order, and who hears what came of it. */
#include "node/gather.h"

#include "node/limits.h"
#include "tests/support/test.h"

enum { SENT_MAX = 4096 };

struct world {
    struct gathers *gathers;
    struct {
        struct flight *flight;
        struct buf items;
    } sent[SENT_MAX];
    size_t first, len; /* those under way */
};

struct part {
    struct join join;
    struct world *world;
    unsigned number;
    unsigned done;
    enum err err;
    bool again; /* adds itself once more when it is done */
    struct part *drops;
};

static const struct gather_key key = {1, 2, 3, {(const uint8_t *)"actor", 5}};

static void send_it(void *ctx, const struct gather_key *to, struct bytes items, struct flight *flight)
{
    struct world *world = ctx;
    assert_int_equal(joined_check(items), OK);
    assert_true(to->partition >= 1 && to->key.len == 5);
    assert_true(world->len < SENT_MAX);
    world->sent[world->len].flight = flight;
    buf_add_bytes(&world->sent[world->len++].items, items);
}

static void on_done(struct join *join, enum err err, struct bytes text, uint64_t index, uint64_t by)
{
    struct part *part = container_of(join, struct part, join);
    part->done++;
    part->err = err;
    assert_int_equal(by, 7);
    if (err == OK) {
        assert_true(bytes_eq(text, join->item)); /* its own, and nobody else's */
        assert_int_equal(index, 99);
    }
    if (part->drops != NULL) {
        gather_drop(&part->drops->join);
    }
    if (part->again) {
        part->again = false;
        assert_int_equal(gather_add(part->world->gathers, &key, join), OK);
    }
}

static void world_open(struct world *world)
{
    *world = (struct world){0};
    world->gathers = gathers_new(send_it, world);
}

static void world_close(struct world *world)
{
    assert_int_equal(gathers_len(world->gathers), 0);
    assert_int_equal(world->first, world->len);
    gathers_free(world->gathers);
}

static enum err add(struct world *world, struct part *part, struct bytes item)
{
    part->world = world;
    part->join = (struct join){.item = item, .done = on_done, .caller.role = ROLE_USER};
    return gather_add(world->gathers, &key, &part->join);
}

/* The oldest command is answered, each item with itself. */
static size_t land(struct world *world, enum err err)
{
    struct reply reply = {0};
    struct bytes rest = buf_bytes(&world->sent[world->first].items), item;
    struct caller caller;
    size_t count = 0;
    assert_true(world->first < world->len);
    for (; joined_next(&rest, &caller, &item); count++) {
        joined_answer(&reply, OK, item);
    }
    gather_landed(world->gathers, world->sent[world->first].flight, err, buf_bytes(&reply.body), 99, 7);
    buf_free(&world->sent[world->first++].items);
    reply_close(&reply);
    return count;
}

static size_t under_way(const struct world *world)
{
    return world->len - world->first;
}

static void test_turns(void **state)
{
    static struct world world;
    struct part parts[8] = {0};
    (void)state;
    world_open(&world);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(add(&world, &parts[i], BYTES_LIT("x")), OK);
    }
    assert_int_equal(under_way(&world), 0);
    gathers_turn_end(world.gathers);
    assert_int_equal(under_way(&world), 1);
    for (size_t i = 3; i < 3 + LIMIT_JOINED_FLIGHTS; i++) { /* one a turn, as long as there may be more */
        assert_int_equal(add(&world, &parts[i], BYTES_LIT("y")), OK);
        gathers_turn_end(world.gathers);
    }
    assert_int_equal(under_way(&world), LIMIT_JOINED_FLIGHTS);
    assert_int_equal(add(&world, &parts[6], BYTES_LIT("z")), OK);
    gathers_turn_end(world.gathers);
    assert_int_equal(under_way(&world), LIMIT_JOINED_FLIGHTS);
    assert_int_equal(land(&world, OK), 3);
    assert_true(parts[0].done == 1 && parts[2].done == 1 && parts[3].done == 0);
    gathers_turn_end(world.gathers);
    assert_int_equal(under_way(&world), LIMIT_JOINED_FLIGHTS);
    while (under_way(&world) > 0) {
        (void)land(&world, ERR_NO_QUORUM);
        gathers_turn_end(world.gathers);
    }
    assert_int_equal(parts[6].done, 1);
    assert_int_equal(parts[6].err, ERR_NO_QUORUM);
    world_close(&world);
}

static void test_bounds(void **state)
{
    static struct world world;
    static struct part parts[LIMIT_JOINED_WAITING + 1];
    static uint8_t large[LIMIT_JOINED_ITEM_BYTES + 1];
    (void)state;
    memset(parts, 0, sizeof parts);
    world_open(&world);
    assert_int_equal(add(&world, &parts[0], bytes_of(large, sizeof large)), ERR_TOO_LARGE);
    for (size_t i = 0; i < LIMIT_JOINED_WAITING; i++) {
        assert_int_equal(add(&world, &parts[i], BYTES_LIT("x")), OK);
    }
    assert_int_equal(add(&world, &parts[LIMIT_JOINED_WAITING], BYTES_LIT("x")), ERR_OVERLOADED);
    for (size_t left = LIMIT_JOINED_WAITING; left > 0;) {
        gathers_turn_end(world.gathers);
        size_t landed = land(&world, OK);
        assert_int_equal(landed, LIMIT_JOINED_ITEMS);
        left -= landed;
    }
    gathers_turn_end(world.gathers);
    /* A large one goes alone, small ones as far as they fit. */
    assert_int_equal(add(&world, &parts[0], bytes_of(large, LIMIT_JOINED_ITEM_BYTES)), OK);
    for (size_t i = 1; i < 4; i++) {
        assert_int_equal(add(&world, &parts[i], bytes_of(large, LIMIT_JOINED_BYTES / 2 - 100)), OK);
    }
    gathers_turn_end(world.gathers);
    assert_int_equal(land(&world, OK), 1);
    assert_int_equal(land(&world, OK), 2);
    gathers_turn_end(world.gathers);
    assert_int_equal(land(&world, OK), 1);
    gathers_turn_end(world.gathers);
    world_close(&world);
}

static void test_drop(void **state)
{
    static struct world world;
    struct part parts[5] = {0};
    (void)state;
    world_open(&world);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(add(&world, &parts[i], BYTES_LIT("x")), OK);
    }
    gather_drop(&parts[0].join); /* while it waits: it is not sent */
    gathers_turn_end(world.gathers);
    gather_drop(&parts[2].join); /* under way: nobody hears of it */
    parts[1].drops = &parts[3];  /* while the others are told */
    parts[1].again = true;
    assert_int_equal(land(&world, OK), 4);
    assert_true(parts[0].done == 0 && parts[1].done == 1 && parts[2].done == 0 && parts[3].done == 0 &&
                parts[4].done == 1);
    gathers_turn_end(world.gathers);
    assert_int_equal(land(&world, OK), 1);
    assert_int_equal(parts[1].done, 2);
    /* All that waited are gone. */
    assert_int_equal(add(&world, &parts[0], BYTES_LIT("x")), OK);
    gather_drop(&parts[0].join);
    gathers_turn_end(world.gathers);
    world_close(&world);
}

/* Too short an answer: those without a part hear that something went wrong. */
static void test_short_answer(void **state)
{
    static struct world world;
    struct part parts[2] = {0};
    struct reply reply = {0};
    (void)state;
    world_open(&world);
    assert_int_equal(add(&world, &parts[0], BYTES_LIT("x")), OK);
    assert_int_equal(add(&world, &parts[1], BYTES_LIT("x")), OK);
    gathers_turn_end(world.gathers);
    joined_answer(&reply, OK, BYTES_LIT("x"));
    gather_landed(world.gathers, world.sent[0].flight, OK, buf_bytes(&reply.body), 99, 7);
    buf_free(&world.sent[world.first++].items);
    assert_true(parts[0].err == OK && parts[1].err == ERR_INTERNAL && parts[1].done == 1);
    gathers_turn_end(world.gathers);
    reply_close(&reply);
    world_close(&world);
}

/* Many actors, anything at any time: each part is done once unless it was dropped, in the order it was added. */
static void test_random(void **state)
{
    enum { PARTS = 500, STEPS = 20000 };
    static struct world world;
    static struct part parts[PARTS];
    struct random random;
    bool busy[PARTS] = {false};
    unsigned expected[PARTS] = {0};
    (void)state;
    random_init_seed(&random, test_seed("gather"));
    world_open(&world);
    memset(parts, 0, sizeof parts);
    for (size_t step = 0; step < STEPS || under_way(&world) > 0; step++) {
        size_t p = below(&random, PARTS);
        uint64_t what = step < STEPS ? below(&random, 8) : 7;
        if (what < 4 && !busy[p]) {
            struct gather_key to = {1 + (unsigned)(p % 3), 2, (uint8_t)(1 + p % 2), BYTES_LIT("actor")};
            unsigned done = parts[p].done;
            parts[p].join = (struct join){.item = bytes_of(&parts[p].number, 4), .done = on_done};
            parts[p].done = done;
            parts[p].number = (unsigned)p;
            assert_int_equal(gather_add(world.gathers, &to, &parts[p].join), OK);
            busy[p] = true;
            expected[p]++;
        } else if (what == 4 && busy[p] && parts[p].done < expected[p]) {
            gather_drop(&parts[p].join);
            expected[p] = parts[p].done;
            busy[p] = false;
        } else if (what == 5 || what == 7) {
            gathers_turn_end(world.gathers);
        }
        if (what >= 6 && under_way(&world) > 0) {
            (void)land(&world, below(&random, 10) == 0 ? ERR_TIMEOUT : OK);
            for (size_t i = 0; i < PARTS; i++) {
                busy[i] = busy[i] && parts[i].done < expected[i];
            }
        }
        if (world.len > SENT_MAX / 2) { /* those at the front are answered; a turn sends a few */
            memmove(world.sent, world.sent + world.first, under_way(&world) * sizeof world.sent[0]);
            world.len -= world.first;
            world.first = 0;
            memset(world.sent + world.len, 0, (SENT_MAX - world.len) * sizeof world.sent[0]);
        }
    }
    gathers_turn_end(world.gathers);
    while (under_way(&world) > 0) {
        (void)land(&world, OK);
        gathers_turn_end(world.gathers);
    }
    for (size_t i = 0; i < PARTS; i++) {
        assert_int_equal(parts[i].done, expected[i]);
    }
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_turns), cmocka_unit_test(test_bounds),
                                       cmocka_unit_test(test_drop), cmocka_unit_test(test_short_answer),
                                       cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
