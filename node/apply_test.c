/* Commands as the log gives them to the state: once, whatever is sent again; and the same after a replay. */
#include "node/apply.h"

#include "actors/auth/auth.h"
#include "cluster/group.h"
#include "node/command.h"
#include "node/limits.h"
#include "tests/support/test.h"

struct world {
    char dir[64];
    struct state *state;
    struct apply_context context;
    uint64_t index;
};

static int open_world(void **out)
{
    struct world *world = mem_zalloc(sizeof *world);
    (void)snprintf(world->dir, sizeof world->dir, "/tmp/belfry-apply-XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    struct state_options options = {world->dir, 2, 1ULL << 30, 0};
    assert_int_equal(state_open(&options, &world->state), OK);
    world->context.partitions = 1;
    *out = world;
    return 0;
}

static int close_world(void **out)
{
    struct world *world = *out;
    char command[128];
    state_close(world->state);
    (void)snprintf(command, sizeof command, "rm -r %s", world->dir);
    assert_int_equal(system(command), 0);
    free(world);
    return 0;
}

/* A reservation of the name by the account; payload is malloc'd. */
static struct bytes reserve(struct id account, struct id request, int64_t stamped_ms, const char *idem,
                            const char *body)
{
    struct name_in in = {.set.has = 1, .account = account};
    struct buf params = {0};
    struct digest key = digest_of(bytes_str(idem), BYTES_NONE), digest = digest_of(bytes_str(body), BYTES_NONE);
    field_pack(&params, name_in_fields, &in);
    struct command command = {.key = BYTES_LIT("uname"),
                              .account = account,
                              .params = buf_bytes(&params),
                              .kind = KIND_AUTH,
                              .op = AUTH_RESERVE_NAME,
                              .request_id = request,
                              .seed = 1};
    if (idem[0] != 0) {
        command.idem_key = digest_bytes(&key);
        command.idem_body = digest_bytes(&digest);
    }
    struct bytes payload = command_encode(&command);
    command_stamp(payload, stamped_ms);
    buf_free(&params);
    return payload;
}

static struct outcome *apply(struct world *world, struct bytes payload)
{
    struct apply_entry entry = {ENTRY_COMMAND, ++world->index, 1, payload, NULL};
    assert_int_equal(state_begin(world->state), OK);
    assert_int_equal(apply_entry(&world->context, world->state, 1, &entry), OK);
    state_partition_edit(world->state, 1)->applied_index = entry.index;
    assert_int_equal(state_commit(world->state), OK);
    free((void *)(uintptr_t)payload.ptr);
    return entry.outcome;
}

static void expect(struct world *world, struct bytes payload, enum err err, bool replayed)
{
    struct outcome *outcome = apply(world, payload);
    assert_int_equal(outcome->err, err);
    assert_int_equal(outcome->replayed, replayed);
    outcome_free(outcome);
}

enum { NOW = 1000000000 };
static struct id account_of(uint64_t n)
{
    return id_make(NOW, 1, n);
}

static void test_a_request_id_is_applied_once(void **state)
{
    struct world *world = *state;
    struct id request = id_make(NOW, 1, 7);
    expect(world, reserve(account_of(1), request, NOW, "", ""), OK, false);
    uint64_t names = state_partition(world->state, 1)->counts[TABLE_NAME],
             hash = state_partition(world->state, 1)->set_hash;
    /* Sent again, it is answered as before, although by now the name is taken; and changes nothing. */
    expect(world, reserve(account_of(1), request, NOW + 1000, "", ""), OK, false);
    assert_int_equal(state_partition(world->state, 1)->counts[TABLE_NAME], names);
    assert_int_equal(state_partition(world->state, 1)->set_hash, hash);
    expect(world, reserve(account_of(2), id_make(NOW, 1, 8), NOW + 1000, "", ""), ERR_USERNAME_TAKEN, false);
    /* An error is remembered like any answer. */
    expect(world, reserve(account_of(2), id_make(NOW, 1, 8), NOW + 1000, "", ""), ERR_USERNAME_TAKEN, false);
}

/* An answer names the entry that carried the command out, also when it is given again. */
static void test_an_answer_names_its_entry(void **state)
{
    struct world *world = *state;
    struct id account = account_of(1), request = id_make(NOW, 1, 7);
    struct outcome *first = apply(world, reserve(account, request, NOW, "key", "body"));
    struct outcome *again = apply(world, reserve(account, request, NOW, "key", "body"));
    struct outcome *replayed = apply(world, reserve(account, id_make(NOW, 1, 8), NOW, "key", "body"));
    struct outcome *refused = apply(world, reserve(account_of(2), id_make(NOW, 1, 9), NOW, "", ""));
    int64_t later = NOW + LIMIT_REQUEST_WINDOW_MS + 1;
    struct outcome *stale = apply(world, reserve(account, id_make(NOW, 1, 1), later, "", ""));
    assert_int_equal(first->reply.index, 1);
    assert_int_equal(again->reply.index, 1);
    assert_int_equal(replayed->reply.index, 1);
    assert_int_equal(refused->reply.index, 4);
    assert_int_equal(stale->reply.index, 5);
    outcome_free(first);
    outcome_free(again);
    outcome_free(replayed);
    outcome_free(refused);
    outcome_free(stale);
}

static void test_a_request_id_older_than_the_window_is_refused(void **state)
{
    struct world *world = *state;
    int64_t later = NOW + LIMIT_REQUEST_WINDOW_MS + 1;
    expect(world, reserve(account_of(1), id_make(NOW, 1, 1), later, "", ""), ERR_STALE_REQUEST, false);
    expect(world, reserve(account_of(1), id_make(NOW + 1, 1, 1), later, "", ""), OK, false);
    assert_int_equal(state_partition(world->state, 1)->counts[TABLE_REQUESTS], 1);
    later += LIMIT_REQUEST_WINDOW_MS + 1; /* and ids past the window are forgotten */
    expect(world, reserve(account_of(1), id_make(later, 1, 1), later, "", ""), ERR_USERNAME_TAKEN, false);
    assert_int_equal(state_partition(world->state, 1)->counts[TABLE_REQUESTS], 1);
}

static void test_an_idempotency_key_lives_for_a_day(void **state)
{
    struct world *world = *state;
    struct id account = account_of(1);
    int64_t now = NOW;
    expect(world, reserve(account, id_make(now, 1, 1), now, "key", "body"), OK, false);
    expect(world, reserve(account, id_make(now, 1, 2), now, "key", "body"), OK, true);
    expect(world, reserve(account, id_make(now, 1, 3), now, "key", "other"), ERR_IDEMPOTENCY_KEY_REUSE, false);
    expect(world, reserve(account_of(2), id_make(now, 1, 4), now, "key", "body"), ERR_USERNAME_TAKEN, false);
    now += LIMIT_IDEMPOTENCY_MS - 1;
    expect(world, reserve(account, id_make(now, 1, 5), now, "key", "body"), OK, true);
    now += 2;
    expect(world, reserve(account, id_make(now, 1, 6), now, "key", "body"), ERR_USERNAME_TAKEN, false);
    const struct state_partition *book = state_partition(world->state, 1);
    assert_int_equal(book->counts[TABLE_IDEM], book->counts[TABLE_IDEM_TIME]);
    assert_int_equal(book->counts[TABLE_IDEM_COUNT], 1); /* the second account's went with its key */
}

static void test_what_the_log_cannot_hold_is_damage(void **state)
{
    struct world *world = *state;
    struct bytes good = reserve(account_of(1), id_make(NOW, 1, 1), NOW, "", "");
    for (size_t cut = 0; cut < good.len; cut++) {
        struct apply_entry entry = {ENTRY_COMMAND, 1, 1, bytes_of(good.ptr, cut), NULL};
        assert_int_equal(state_begin(world->state), OK);
        assert_int_equal(apply_entry(&world->context, world->state, 1, &entry), ERR_CORRUPT);
        state_abort(world->state);
    }
    free((void *)(uintptr_t)good.ptr);
    assert_int_equal(state_partition(world->state, 1)->set_hash, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_request_id_is_applied_once, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_an_answer_names_its_entry, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_a_request_id_older_than_the_window_is_refused, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_an_idempotency_key_lives_for_a_day, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_what_the_log_cannot_hold_is_damage, open_world, close_world)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
