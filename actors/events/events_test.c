/* Event logs and their relay: every event once and in order, whatever is repeated, lost on the way or begun anew. */
#include "actors/auth/auth.h"
#include "actors/events/events.h"
#include "actors/events/log.h"
#include "actors/events/relay.h"
#include "actors/reminders/record.h"
#include "node/limits.h"
#include "tests/support/model_rows.h"
#include "tests/support/test.h"

enum { HOME = 1, AWAY = 2 };

struct world {
    struct model_rows rows[3]; /* by partition */
    struct arena arena;
    int64_t now, stamp;
    uint64_t sequence;
};

static void world_open(struct world *world)
{
    *world = (struct world){.now = 1800000000000};
    model_rows_init(&world->rows[HOME]);
    model_rows_init(&world->rows[AWAY]);
}

static void check(struct world *world)
{
    for (int p = HOME; p <= AWAY; p++) {
        assert_int_equal(events_kind.check(&world->rows[p].rows, &world->arena), OK);
    }
}

static void world_close(struct world *world)
{
    model_rows_close(&world->rows[HOME]);
    model_rows_close(&world->rows[AWAY]);
    arena_close(&world->arena);
}

/* As the proposer numbers commands: a hundred at most with one stamp. */
static struct turn turn_of(struct world *world, unsigned partition)
{
    if (world->stamp != world->now || world->sequence == LIMIT_STAMPED) {
        world->now += world->stamp >= world->now;
        world->stamp = world->now;
        world->sequence = 0;
    }
    return (struct turn){.rows = &world->rows[partition].rows,
                         .arena = &world->arena,
                         .partition = partition,
                         .partitions = 2,
                         .now_ms = world->now,
                         .sequence = world->sequence++};
}

static struct id account_new(struct world *world, unsigned partition, uint64_t n)
{
    struct account account = {0};
    struct buf packed = {0};
    struct id id = id_make(1000, partition, n);
    FIELD_SET(account_fields, &account, struct account, id, id);
    FIELD_SET(account_fields, &account, struct account, username, BYTES_LIT("name"));
    field_pack(&packed, account_fields, &account);
    assert_int_equal(rows_put(&world->rows[partition].rows, TABLE_ACCOUNT, id_bytes(&id), buf_bytes(&packed)), OK);
    buf_free(&packed);
    return id;
}

/* An event whose title is a number. */
static void add(struct world *world, unsigned partition, struct id account, unsigned n, size_t content)
{
    struct turn turn = turn_of(world, partition);
    struct reminder r = {0};
    struct buf packed = {0};
    char title[16];
    static char filler[LIMIT_CONTENT_BYTES];
    memset(filler, 'x', sizeof filler);
    (void)snprintf(title, sizeof title, "%u", n);
    SET(&r, title, bytes_str(title));
    SET(&r, content, bytes_of(filler, content));
    field_pack(&packed, reminder_fields, &r);
    assert_int_equal(event_add(&turn, account, EVENT_REMINDER_FIRED, buf_bytes(&packed)), OK);
    bool local = id_partition(account) == partition;
    assert_int_equal(turn.touched.len, local ? sizeof account : 0);
    buf_free(&turn.touched);
    buf_free(&packed);
}

/* The title of the first event behind the cursor; UINT32_MAX: none. */
static unsigned next(struct world *world, struct id account, uint64_t *cursor)
{
    struct event event;
    struct reminder r = {0};
    struct rows *rows = &world->rows[id_partition(account)].rows;
    if (event_log_next(rows, account, cursor, &event) != OK) {
        return UINT32_MAX;
    }
    assert_int_equal(field_unpack(reminder_fields, event.data, &r), OK);
    return (unsigned)strtoul((const char *)arena_copy(&world->arena, r.title).ptr, NULL, 10);
}

static void test_a_log_is_bounded_by_count_size_and_age(void **state)
{
    (void)state;
    struct world world;
    struct event_head head;
    uint64_t cursor = 0;
    world_open(&world);
    struct id account = account_new(&world, HOME, 1), other = account_new(&world, HOME, 2);
    for (unsigned n = 0; n < LIMIT_EVENTS + 50; n++) {
        add(&world, HOME, account, n, 10);
        world.now += n % 3; /* several in a millisecond */
    }
    check(&world);
    for (unsigned n = 50; n < LIMIT_EVENTS + 50; n++) {
        assert_int_equal(next(&world, account, &cursor), n);
    }
    assert_int_equal(next(&world, account, &cursor), UINT32_MAX);
    for (unsigned n = 0; n < 30; n++) {
        add(&world, HOME, account, n, LIMIT_CONTENT_BYTES);
    }
    assert_int_equal(event_head_load(&world.rows[HOME].rows, account, &head), OK);
    assert_true(head.bytes <= LIMIT_EVENTS_BYTES && head.count >= 10);
    check(&world);
    world.now += LIMIT_EVENTS_MS + 1;
    for (unsigned n = 0; n < 40; n++) {
        add(&world, HOME, other, n, 10); /* takes away what nobody adds to any more */
    }
    assert_int_equal(event_head_load(&world.rows[HOME].rows, account, &head), OK);
    assert_int_equal(head.count, 0);
    check(&world);
    world_close(&world);
}

static void test_who_was_away_too_long_is_told_of_the_gap(void **state)
{
    (void)state;
    struct world world;
    struct buf out = {0};
    uint64_t cursor, first;
    world_open(&world);
    struct id account = account_new(&world, HOME, 1);
    struct rows *rows = &world.rows[HOME].rows;
    add(&world, HOME, account, 0, 1);
    assert_int_equal(events_newest(rows, account, &first), OK);
    cursor = first;
    assert_int_equal(events_write(rows, account, &cursor, 1 << 20, &out), OK);
    assert_int_equal(out.len, 0);
    for (unsigned n = 1; n <= LIMIT_EVENTS; n++) {
        add(&world, HOME, account, n, 1);
    }
    assert_int_equal(events_write(rows, account, &cursor, 1 << 20, &out), OK); /* it has seen all that was dropped */
    assert_null(memmem(out.ptr, out.len, "stream.gap", 10));
    add(&world, HOME, account, 7, 1);
    cursor = first;
    out.len = 0;
    assert_int_equal(events_write(rows, account, &cursor, 100, &out), OK);
    assert_non_null(memmem(out.ptr, out.len, "event: stream.gap\n", 18));
    cursor = 0; /* whatever there is */
    out.len = 0;
    assert_int_equal(events_write(rows, account, &cursor, 100, &out), OK);
    assert_null(memmem(out.ptr, out.len, "stream.gap", 10));
    assert_non_null(memmem(out.ptr, out.len, "event: reminder.fired\ndata: {\"title\":\"2\"", 40));
    assert_true(out.len < 500); /* about as much as there is room */
    buf_free(&out);
    world_close(&world);
}

/* What the script of the relay would gather, up to so many; returns how many. */
static unsigned gather(struct world *world, unsigned most, struct relay_deliver *out)
{
    struct bytes key, value, from = BYTES_NONE;
    struct buf rows = {0};
    unsigned n = 0;
    *out = (struct relay_deliver){.source = HOME};
    for (; n < most && rows_ceil(&world->rows[HOME].rows, TABLE_OUTBOX, from, &key, &value) == OK; n++) {
        uint64_t number = key_u64(bytes_of(key.ptr + 2, 8));
        uint32_t len = (uint32_t)value.len;
        from = bytes_of(arena_copy(&world->arena, key).ptr, key.len + 1);
        buf_add(&rows, &number, sizeof number);
        buf_add(&rows, &len, sizeof len);
        buf_add_bytes(&rows, value);
        out->last = (int64_t)number;
    }
    out->rows = arena_copy(&world->arena, buf_bytes(&rows));
    buf_free(&rows);
    return n;
}

static void test_the_relay_delivers_once_and_in_order(void **state)
{
    (void)state;
    struct world world;
    struct random random;
    struct reply reply = {0};
    struct relay_deliver old = {0};
    unsigned sent = 0, seen = 0;
    uint64_t cursor = 0;
    world_open(&world);
    random_init_seed(&random, test_seed(__func__));
    struct id account = account_new(&world, AWAY, 1), gone = id_make(1000, AWAY, 99);
    for (int step = 0; step < 2000; step++) {
        struct relay_deliver in;
        struct turn turn = turn_of(&world, AWAY);
        world.now += (int64_t)below(&random, 2);
        if (below(&random, 3) != 0 && sent < seen + 500) {
            add(&world, HOME, account, sent++, below(&random, 50));
            add(&world, HOME, gone, 0, 1);
        }
        unsigned n = gather(&world, 1 + (unsigned)below(&random, 5), &in);
        if (below(&random, 4) == 0 && old.rows.len > 0) {
            assert_int_equal(relay_deliver_reduce(&turn, &old, &reply), OK); /* once more, late */
        }
        if (n > 0) {
            assert_int_equal(relay_deliver_reduce(&turn, &in, &reply), OK);
            old = in;
        }
        buf_free(&turn.touched);
        if (n > 0 && below(&random, 2) == 0) { /* else the answer was lost */
            struct relay_delivered done = {.target = AWAY, .last = in.last};
            turn = turn_of(&world, HOME);
            assert_int_equal(relay_delivered_reduce(&turn, &done, &reply), OK);
        }
        for (unsigned got = next(&world, account, &cursor); got != UINT32_MAX; got = next(&world, account, &cursor)) {
            assert_int_equal(got, seen++);
        }
        if (step % 50 == 0) {
            check(&world);
        }
    }
    assert_true(seen > 500);
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_log_is_bounded_by_count_size_and_age),
                                       cmocka_unit_test(test_who_was_away_too_long_is_told_of_the_gap),
                                       cmocka_unit_test(test_the_relay_delivers_once_and_in_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
