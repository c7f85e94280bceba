/* The choice of a node: by policy, by what is reported, and by what came of earlier ones. */
#include "node/balance.h"

#include "node/limits.h"
#include "tests/support/test.h"

enum { HERE = 1, A = 2, B = 3, C = 4 };
static const uint64_t all[] = {A, B, C};

struct world {
    struct balance *balance;
    struct random random;
    int64_t now_ms;
    unsigned own; /* hashes here */
};

static struct world world_of(enum balance_policy policy)
{
    struct world world = {.balance = balance_new(policy, HERE, 2), .now_ms = 100000};
    random_init_seed(&world.random, 7);
    return world;
}

static void report(struct world *world, uint64_t replica, unsigned hashes, unsigned yours, bool stopping)
{
    struct balance_load load = {hashes, yours, 2, 20, stopping};
    balance_report(world->balance, replica, &load, world->now_ms);
}

static void report_all(struct world *world, size_t peers)
{
    for (size_t i = 0; i < peers; i++) {
        report(world, all[i], 0, 0, false);
    }
}

static uint64_t choose(struct world *world, size_t peers)
{
    uint64_t chosen = balance_choose(world->balance, all, peers, world->own, world->now_ms, &world->random).replica;
    world->own += chosen == HERE;
    return chosen;
}

static void ended(struct world *world, uint64_t replica, enum balance_end end, int64_t took_ms)
{
    world->own -= replica == HERE;
    balance_ended(world->balance, replica, end, took_ms, world->now_ms);
}

static struct balance_view view_of(struct world *world, uint64_t replica)
{
    struct balance_view views[8];
    size_t len = balance_views(world->balance, world->now_ms, views, ARRAY_LEN(views));
    for (size_t i = 0; i < len; i++) {
        if (views[i].replica == replica) {
            return views[i];
        }
    }
    fail();
    return views[0];
}

static void fail_often(struct world *world, uint64_t replica, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        ended(world, replica, BALANCE_FAILED, 1000);
    }
}

/* A queue a node: each hash takes its node's time on one of two processes. Clients that wait for an answer
 * before they ask again; counts[replica] is what came back from each. */
struct model {
    struct world *world;
    double ms[8];         /* of a hash, by replica */
    double free_at[8][2]; /* when each process is free */
    unsigned queue[8], counts[8];
    struct {
        uint64_t replica;
        double due_ms, began_ms;
    } clients[32];
    size_t clients_len;
};

static void model_send(struct model *model, size_t client, double now)
{
    uint64_t at = choose(model->world, 2);
    assert_int_not_equal(at, 0);
    double *free_at = model->free_at[at][0] <= model->free_at[at][1] ? &model->free_at[at][0] : &model->free_at[at][1];
    *free_at = (*free_at > now ? *free_at : now) + model->ms[at];
    model->queue[at]++;
    model->clients[client].replica = at;
    model->clients[client].began_ms = now;
    model->clients[client].due_ms = *free_at;
}

static void model_run(struct model *model, int64_t ms)
{
    struct world *world = model->world;
    int64_t until = world->now_ms + ms;
    for (; world->now_ms < until; world->now_ms++) {
        for (size_t p = 0; p < 2 && world->now_ms % 100 == 0; p++) {
            report(world, all[p], model->queue[all[p]], model->queue[all[p]], false);
        }
        for (size_t c = 0; c < model->clients_len; c++) {
            uint64_t at = model->clients[c].replica;
            if (at != 0 && model->clients[c].due_ms > (double)world->now_ms) {
                continue;
            }
            if (at != 0) {
                model->queue[at]--;
                model->counts[at]++;
                ended(world, at, BALANCE_DONE, (int64_t)((double)world->now_ms - model->clients[c].began_ms));
            }
            model_send(model, c, (double)world->now_ms);
        }
    }
}

/* ---- tests ---- */

static void test_policies_are_found_by_name(void **state)
{
    enum balance_policy policy;
    (void)state;
    assert_true(balance_policy_find("round_robin", &policy) && policy == BALANCE_ROUND_ROBIN);
    assert_true(balance_policy_find("least_connections", &policy) && policy == BALANCE_LEAST_CONNECTIONS);
    assert_true(balance_policy_find("weighted_response_time", &policy) && policy == BALANCE_WEIGHTED_RESPONSE_TIME);
    assert_false(balance_policy_find("random", &policy));
}

static void test_alone_this_node_computes_until_its_queue_is_full(void **state)
{
    (void)state;
    for (int policy = BALANCE_ROUND_ROBIN; policy <= BALANCE_WEIGHTED_RESPONSE_TIME; policy++) {
        struct world world = world_of((enum balance_policy)policy);
        assert_int_equal(choose(&world, 0), HERE);
        world.own = LIMIT_COMPUTE_QUEUE;
        assert_int_equal(choose(&world, 0), 0);
        balance_free(world.balance);
    }
}

static void test_round_robin_splits_evenly_whatever_is_slow_or_comes_and_goes(void **state)
{
    struct world world = world_of(BALANCE_ROUND_ROBIN);
    unsigned counts[8] = {0};
    (void)state;
    for (unsigned i = 0; i < 3000; i++) {
        bool b_is_away = i >= 1000 && i < 2000;
        report(&world, A, 0, 0, false);
        report(&world, B, 0, 0, b_is_away);
        uint64_t chosen = choose(&world, 2);
        counts[chosen]++;
        ended(&world, chosen, BALANCE_DONE, chosen == A ? 500 : 20);
        world.now_ms += 7;
    }
    /* 667 in the two thirds with three nodes; 500 in the one with two. */
    assert_in_range(counts[HERE], 1160, 1174);
    assert_in_range(counts[A], 1160, 1174);
    assert_in_range(counts[B], 660, 674);
    balance_free(world.balance);
}

static void test_least_connections_counts_ours_and_what_others_sent(void **state)
{
    struct world world = world_of(BALANCE_LEAST_CONNECTIONS);
    unsigned counts[8] = {0};
    (void)state;
    report(&world, A, 6, 2, false); /* four are of others */
    report(&world, B, 0, 0, false);
    world.own = 2;
    for (unsigned i = 0; i < 9; i++) {
        counts[choose(&world, 2)]++;
    }
    /* Up to five each: 2 + 3 here, 4 + 1 there, 5. */
    assert_int_equal(counts[HERE], 3);
    assert_int_equal(counts[A], 1);
    assert_int_equal(counts[B], 5);
    balance_free(world.balance);
}

static void test_a_slow_node_gets_less_under_least_connections_and_weighted(void **state)
{
    static const enum balance_policy policies[] = {BALANCE_LEAST_CONNECTIONS, BALANCE_WEIGHTED_RESPONSE_TIME};
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(policies); p++) {
        struct world world = world_of(policies[p]);
        struct model model = {.world = &world, .ms = {[HERE] = 20, [A] = 20, [B] = 80}, .clients_len = 12};
        model_run(&model, 20000);
        assert_true(model.counts[B] > 0);
        assert_true(2 * model.counts[B] < model.counts[A]);
        assert_true(2 * model.counts[B] < model.counts[HERE]);
        /* Neither fast node waits for the slow one: 100 a second each, less the hops. */
        assert_true(model.counts[A] + model.counts[HERE] > 20 * 2 * 80);
        balance_free(world.balance);
    }
}

static void test_weighted_gives_a_recovered_node_its_share_again(void **state)
{
    struct world world = world_of(BALANCE_WEIGHTED_RESPONSE_TIME);
    struct model model = {.world = &world, .ms = {[HERE] = 20, [A] = 20, [B] = 600}, .clients_len = 6};
    (void)state;
    model_run(&model, 20000);
    unsigned slow = model.counts[B];
    assert_true(10 * slow < model.counts[A]);
    model.ms[B] = 20;
    model_run(&model, 5000);
    memset(model.counts, 0, sizeof model.counts);
    model_run(&model, 5000);
    assert_true(model.counts[B] * 2 > model.counts[A]);
    balance_free(world.balance);
}

static void test_weighted_tries_a_new_node(void **state)
{
    struct world world = world_of(BALANCE_WEIGHTED_RESPONSE_TIME);
    (void)state;
    for (unsigned i = 0; i < 50; i++) {
        report(&world, A, 0, 0, false);
        ended(&world, choose(&world, 1), BALANCE_DONE, 20);
    }
    unsigned tried = 0;
    for (unsigned i = 0; i < 50; i++) {
        report_all(&world, 2);
        uint64_t chosen = choose(&world, 2);
        tried += chosen == B;
        ended(&world, chosen, BALANCE_DONE, 20);
    }
    assert_true(tried >= 5);
    balance_free(world.balance);
}

static void test_no_work_for_a_node_that_is_silent_stopping_full_or_not_linked(void **state)
{
    struct world world = world_of(BALANCE_ROUND_ROBIN);
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(choose(&world, 1), HERE); /* never heard of */
    }
    report(&world, A, 0, 0, false);
    assert_int_equal(choose(&world, 0), HERE); /* no link */
    assert_int_equal(choose(&world, 1), A);
    report(&world, A, 0, 0, true);
    assert_int_equal(choose(&world, 1), HERE);
    assert_int_equal(choose(&world, 1), HERE); /* stopping */
    report(&world, A, LIMIT_COMPUTE_QUEUE, 0, false);
    assert_int_equal(choose(&world, 1), HERE); /* full */
    report(&world, A, 0, 0, false);
    assert_int_equal(choose(&world, 1), A);
    world.now_ms += LIMIT_LOAD_FRESH_MS;
    assert_int_equal(choose(&world, 1), HERE); /* silent */
    assert_false(balance_is_silent(world.balance, A, world.now_ms));
    assert_true(balance_is_silent(world.balance, A, world.now_ms + LIMIT_LOAD_LOST_MS));
    balance_free(world.balance);
}

static void test_all_full_is_nobody(void **state)
{
    struct world world = world_of(BALANCE_WEIGHTED_RESPONSE_TIME);
    (void)state;
    report(&world, A, LIMIT_COMPUTE_QUEUE, 0, false);
    report(&world, B, LIMIT_COMPUTE_QUEUE + 5, 0, false);
    world.own = LIMIT_COMPUTE_QUEUE;
    assert_int_equal(choose(&world, 2), 0);
    balance_free(world.balance);
}

static void test_a_refusal_lasts_until_the_next_report(void **state)
{
    struct world world = world_of(BALANCE_LEAST_CONNECTIONS);
    (void)state;
    world.own = 3;
    report(&world, A, 0, 0, false);
    assert_int_equal(choose(&world, 1), A);
    ended(&world, A, BALANCE_REFUSED, 1);
    assert_int_equal(choose(&world, 1), HERE);
    assert_int_equal(view_of(&world, A).breaker, BREAKER_CLOSED);
    report(&world, A, 0, 0, false);
    assert_int_equal(choose(&world, 1), A);
    balance_free(world.balance);
}

static void test_breaker_opens_after_failures_lets_one_through_and_closes(void **state)
{
    struct world world = world_of(BALANCE_ROUND_ROBIN);
    (void)state;
    report(&world, A, 0, 0, false);
    fail_often(&world, A, LIMIT_BREAKER_FAILURES - 1);
    assert_int_equal(view_of(&world, A).breaker, BREAKER_CLOSED);
    fail_often(&world, A, 1);
    assert_int_equal(view_of(&world, A).breaker, BREAKER_OPEN);
    assert_int_equal(choose(&world, 1), HERE);
    world.now_ms += LIMIT_BREAKER_MS;
    report(&world, A, 0, 0, false);
    assert_int_equal(view_of(&world, A).breaker, BREAKER_HALF_OPEN);
    assert_int_equal(choose(&world, 1), A);
    assert_int_equal(choose(&world, 1), HERE); /* one at a time */
    assert_int_equal(choose(&world, 1), HERE);
    ended(&world, A, BALANCE_DONE, 20);
    assert_int_equal(view_of(&world, A).breaker, BREAKER_CLOSED);
    assert_int_equal(choose(&world, 1), A);
    assert_int_equal(choose(&world, 1), HERE);
    balance_free(world.balance);
}

static void test_breaker_pauses_double_and_are_bounded(void **state)
{
    struct world world = world_of(BALANCE_LEAST_CONNECTIONS);
    int64_t pause_ms = LIMIT_BREAKER_MS;
    (void)state;
    world.own = 10;
    report(&world, A, 0, 0, false);
    fail_often(&world, A, LIMIT_BREAKER_FAILURES);
    for (unsigned i = 0; i < 8; i++) {
        world.now_ms += pause_ms - 1;
        report(&world, A, 0, 0, false);
        assert_int_equal(view_of(&world, A).breaker, BREAKER_OPEN);
        world.now_ms += 1;
        assert_int_equal(choose(&world, 1), A);
        ended(&world, A, BALANCE_FAILED, 1000);
        pause_ms = 2 * pause_ms < LIMIT_BREAKER_MS_MAX ? 2 * pause_ms : LIMIT_BREAKER_MS_MAX;
    }
    assert_int_equal(pause_ms, LIMIT_BREAKER_MS_MAX);
    balance_free(world.balance);
}

static void test_a_trial_that_nobody_waits_for_is_followed_by_another(void **state)
{
    struct world world = world_of(BALANCE_LEAST_CONNECTIONS);
    (void)state;
    world.own = 10;
    report(&world, A, 0, 0, false);
    fail_often(&world, A, LIMIT_BREAKER_FAILURES);
    world.now_ms += LIMIT_BREAKER_MS;
    report(&world, A, 0, 0, false);
    assert_int_equal(choose(&world, 1), A);
    assert_int_equal(choose(&world, 1), HERE);
    ended(&world, A, BALANCE_DROPPED, 5);
    assert_int_equal(choose(&world, 1), A);
    balance_free(world.balance);
}

static void test_patience_grows_with_what_is_known(void **state)
{
    struct world world = world_of(BALANCE_ROUND_ROBIN);
    struct balance_load busy = {200, 0, 2, 40, false};
    (void)state;
    report(&world, A, 0, 0, false);
    assert_int_equal(
        balance_choose(world.balance, all, 1, LIMIT_COMPUTE_QUEUE, world.now_ms, &world.random).patience_ms,
        LIMIT_HASH_RETRY_MS);
    balance_report(world.balance, A, &busy, world.now_ms);
    int64_t patience_ms =
        balance_choose(world.balance, all, 1, LIMIT_COMPUTE_QUEUE, world.now_ms, &world.random).patience_ms;
    assert_true(patience_ms > 200 / 2 * 40 && patience_ms <= LIMIT_HASH_RETRY_MS_MAX);
    balance_free(world.balance);
}

static void test_reports_tell_each_peer_its_own_share(void **state)
{
    struct world world = world_of(BALANCE_ROUND_ROBIN);
    (void)state;
    report_all(&world, 2);
    balance_serve(world.balance, A);
    balance_serve(world.balance, A);
    balance_serve(world.balance, B);
    balance_serve(world.balance, 0);
    balance_served(world.balance, A, 30);
    struct balance_load load = balance_load_for(world.balance, A, 3, false);
    assert_int_equal(load.hashes, 3);
    assert_int_equal(load.yours, 1);
    assert_int_equal(load.processes, 2);
    assert_true(load.service_ms == 30);
    assert_int_equal(balance_load_for(world.balance, C, 3, true).yours, 0);
    assert_int_equal(view_of(&world, A).served, 1);
    balance_free(world.balance);
}

static void test_the_table_is_bounded_and_forgets_who_is_gone(void **state)
{
    struct world world = world_of(BALANCE_ROUND_ROBIN);
    struct balance_view views[2 * LIMIT_PEERS];
    (void)state;
    for (uint64_t replica = 10; replica < 10 + 2 * LIMIT_PEERS; replica++) {
        report(&world, replica, 0, 0, false);
    }
    assert_int_equal(balance_views(world.balance, world.now_ms, views, ARRAY_LEN(views)), 1 + LIMIT_PEERS);
    world.now_ms += LIMIT_LOAD_KEEP_MS + 1;
    report(&world, A, 0, 0, false);
    assert_int_equal(balance_views(world.balance, world.now_ms, views, ARRAY_LEN(views)), 2);
    assert_int_equal(views[0].replica, HERE);
    assert_int_equal(views[1].replica, A);
    balance_free(world.balance);
}

/* Whatever happens: who is chosen may be chosen, and counts stay in step. */
static void test_random_histories_keep_the_books(void **state)
{
    uint64_t seed = test_seed("balance");
    (void)state;
    for (unsigned run = 0; run < 30; run++) {
        struct world world = world_of((enum balance_policy)(run % 3));
        unsigned away[8] = {0};
        random_init_seed(&world.random, seed + run);
        for (unsigned i = 0; i < 3000; i++) {
            uint64_t peer = A + below(&world.random, 3);
            switch (below(&world.random, 4)) {
            case 0: report(&world, peer, (unsigned)below(&world.random, 300), 0, below(&world.random, 10) == 0); break;
            case 1:
                if (away[peer] > 0) {
                    away[peer]--;
                    ended(&world, peer, (enum balance_end)below(&world.random, 4), (int64_t)below(&world.random, 3000));
                }
                break;
            case 2: {
                size_t reached = (size_t)below(&world.random, 4);
                uint64_t chosen = choose(&world, reached);
                assert_true(chosen == HERE || chosen < A + reached);
                assert_true(chosen != 0 || world.own >= LIMIT_COMPUTE_QUEUE);
                away[chosen]++;
                break;
            }
            default: world.now_ms += (int64_t)below(&world.random, 300); break;
            }
        }
        struct balance_view views[8];
        size_t len = balance_views(world.balance, world.now_ms, views, ARRAY_LEN(views));
        for (size_t i = 1; i < len; i++) {
            assert_int_equal(views[i].outstanding, away[views[i].replica]);
        }
        balance_free(world.balance);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_policies_are_found_by_name),
        cmocka_unit_test(test_alone_this_node_computes_until_its_queue_is_full),
        cmocka_unit_test(test_round_robin_splits_evenly_whatever_is_slow_or_comes_and_goes),
        cmocka_unit_test(test_least_connections_counts_ours_and_what_others_sent),
        cmocka_unit_test(test_a_slow_node_gets_less_under_least_connections_and_weighted),
        cmocka_unit_test(test_weighted_gives_a_recovered_node_its_share_again),
        cmocka_unit_test(test_weighted_tries_a_new_node),
        cmocka_unit_test(test_no_work_for_a_node_that_is_silent_stopping_full_or_not_linked),
        cmocka_unit_test(test_all_full_is_nobody),
        cmocka_unit_test(test_a_refusal_lasts_until_the_next_report),
        cmocka_unit_test(test_breaker_opens_after_failures_lets_one_through_and_closes),
        cmocka_unit_test(test_breaker_pauses_double_and_are_bounded),
        cmocka_unit_test(test_a_trial_that_nobody_waits_for_is_followed_by_another),
        cmocka_unit_test(test_patience_grows_with_what_is_known),
        cmocka_unit_test(test_reports_tell_each_peer_its_own_share),
        cmocka_unit_test(test_the_table_is_bounded_and_forgets_who_is_gone),
        cmocka_unit_test(test_random_histories_keep_the_books),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
