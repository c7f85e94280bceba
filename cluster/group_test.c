/* Drives one sole-voter group by hand: what it asks for is recorded, what it waits for is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cluster/group.h"

struct fake {
    struct buf trace; /* what the group asked for, readable */
    struct group_entry log[64];
    size_t log_len;
    uint64_t term, vote;
};

static const int64_t MS = 1000000;

static const struct group_members sole = {.len = 1, .list[0] = {.replica = 7, .role = GROUP_VOTER}};

static void fake_hard_state(void *ctx, struct group *group, uint64_t term, uint64_t vote)
{
    struct fake *fake = ctx;
    (void)group;
    fake->term = term;
    fake->vote = vote;
    buf_printf(&fake->trace, "term %llu vote %llu; ", (unsigned long long)term, (unsigned long long)vote);
}

static void fake_append(void *ctx, struct group *group, const struct group_entry *entry)
{
    struct fake *fake = ctx;
    (void)group;
    fake->log[fake->log_len++] =
        (struct group_entry){entry->index, entry->term, entry->kind,
                             bytes_of(mem_copy(entry->payload.ptr, entry->payload.len), entry->payload.len)};
    buf_printf(&fake->trace, "append %llu^%llu; ", (unsigned long long)entry->index, (unsigned long long)entry->term);
}

static void fake_apply(void *ctx, struct group *group, const struct group_entry *entry)
{
    struct fake *fake = ctx;
    (void)group;
    buf_printf(&fake->trace, "apply %llu; ", (unsigned long long)entry->index);
}

static void fake_role(void *ctx, struct group *group, bool leader)
{
    struct fake *fake = ctx;
    (void)group;
    buf_printf(&fake->trace, leader ? "lead; " : "follow; ");
}

static void fake_restart(void *ctx, struct group *group, uint64_t index, uint64_t term)
{
    struct fake *fake = ctx;
    (void)group;
    buf_printf(&fake->trace, "restart %llu^%llu; ", (unsigned long long)index, (unsigned long long)term);
}

static void fake_send(void *ctx, struct group *group, const struct group_message *message)
{
    struct fake *fake = ctx;
    (void)group;
    buf_printf(&fake->trace, "send %u to %llu; ", message->type, (unsigned long long)message->to);
}

static const struct group_ops fake_ops = {fake_hard_state, fake_append, fake_apply, fake_role, fake_restart, fake_send};

static void fake_close(struct fake *fake)
{
    for (size_t i = 0; i < fake->log_len; i++) {
        free((void *)(uintptr_t)fake->log[i].payload.ptr);
    }
    buf_free(&fake->trace);
}

static void expect_trace(struct fake *fake, const char *text)
{
    buf_add_char(&fake->trace, 0);
    assert_string_equal((const char *)fake->trace.ptr, text);
    fake->trace.len = 0;
}

static struct group *open_group(struct fake *fake, struct group_start *start)
{
    struct group_options options = {
        .replica = 7, .election_ms = 200, .heartbeat_ms = 50, .seed = 1, .ops = &fake_ops, .ctx = fake};
    struct group *group = NULL;
    assert_int_equal(group_open(&options, start, MS, &group), OK);
    return group;
}

static struct group *found(struct fake *fake)
{
    struct group_entry first = {1, 1, ENTRY_CHANGE, group_members_encode(&sole)};
    struct group_start start = {.term = 1, .entries = &first, .entries_len = 1};
    return open_group(fake, &start);
}

static uint64_t submit(struct group *group, size_t count)
{
    struct bytes payloads[8];
    uint64_t first = 0;
    for (size_t i = 0; i < count; i++) {
        payloads[i] = bytes_of(mem_copy("payload", 7), 7);
    }
    assert_int_equal(group_submit(group, payloads, count, 1001 * MS, &first), OK);
    return first;
}

static void test_founding_makes_a_leader_in_a_new_term(void **state)
{
    (void)state;
    struct fake fake = {0};
    struct group *group = found(&fake);
    expect_trace(&fake, "term 2 vote 7; lead; apply 1; ");
    assert_true(group_is_leader(group));
    group_close(group);
    fake_close(&fake);
}

static void test_commands_apply_only_after_they_are_synced(void **state)
{
    (void)state;
    struct fake fake = {0};
    struct group *group = found(&fake);
    fake.trace.len = 0;
    assert_int_equal(submit(group, 3), 2);
    expect_trace(&fake, "append 2^2; append 3^2; append 4^2; ");
    group_synced(group, 3, 1002 * MS); /* the hard state, and two entries */
    expect_trace(&fake, "apply 2; apply 3; ");
    group_synced(group, 4, 1003 * MS);
    expect_trace(&fake, "apply 4; ");
    assert_int_equal(group_commit_index(group), 4);
    group_close(group);
    fake_close(&fake);
}

/* G2: without the new term, an entry proposed after a restart could stand under the same index and
 * term as one that was proposed before it and lost. */
static void test_restart_never_proposes_in_an_old_term(void **state)
{
    (void)state;
    struct fake fake = {0};
    struct group *group = found(&fake);
    (void)submit(group, 1);
    uint64_t old_term = group_term(group);
    group_close(group);
    struct bytes configuration = group_members_encode(&sole);
    struct group_start start = {.term = fake.term,
                                .vote = fake.vote,
                                .applied_index = 1,
                                .applied_term = 1,
                                .configuration = configuration,
                                .configuration_index = 1};
    fake.trace.len = 0;
    group = open_group(&fake, &start);
    expect_trace(&fake, "term 3 vote 7; lead; ");
    assert_int_equal(submit(group, 1), 2);
    assert_true(group_term(group) > old_term);
    expect_trace(&fake, "append 2^3; ");
    group_close(group);
    free((void *)(uintptr_t)configuration.ptr);
    fake_close(&fake);
}

static void test_restart_replays_what_is_logged_and_not_applied(void **state)
{
    (void)state;
    struct fake fake = {0};
    struct bytes configuration = group_members_encode(&sole);
    struct group_entry entries[2] = {{6, 3, ENTRY_COMMAND, bytes_of(mem_copy("a", 1), 1)},
                                     {7, 3, ENTRY_COMMAND, bytes_of(mem_copy("b", 1), 1)}};
    struct group_start start = {.term = 3,
                                .vote = 7,
                                .applied_index = 5,
                                .applied_term = 2,
                                .configuration = configuration,
                                .configuration_index = 1,
                                .entries = entries,
                                .entries_len = 2};
    struct group *group = open_group(&fake, &start);
    expect_trace(&fake, "term 4 vote 7; lead; apply 6; apply 7; ");
    for (int64_t now = 1000; now < 5000; now += 20) {
        group_tick(group, now * MS); /* a sole voter stays leader */
    }
    assert_true(group_is_leader(group));
    assert_int_equal(group_lease_end_ns(group), INT64_MAX);
    group_close(group);
    free((void *)(uintptr_t)configuration.ptr);
    fake_close(&fake);
}

static void test_start_refuses_a_log_with_a_gap(void **state)
{
    (void)state;
    struct fake fake = {0};
    struct bytes configuration = group_members_encode(&sole);
    struct group_entry entry = {9, 3, ENTRY_COMMAND, BYTES_NONE};
    struct group_start start = {.term = 3,
                                .applied_index = 5,
                                .applied_term = 2,
                                .configuration = configuration,
                                .configuration_index = 1,
                                .entries = &entry,
                                .entries_len = 1};
    struct group_options options = {
        .replica = 7, .election_ms = 200, .heartbeat_ms = 50, .ops = &fake_ops, .ctx = &fake};
    struct group *group = NULL;
    assert_int_equal(group_open(&options, &start, 0, &group), ERR_CORRUPT);
    free((void *)(uintptr_t)configuration.ptr);
    fake_close(&fake);
}

static void test_submit_is_refused_when_too_much_is_in_flight(void **state)
{
    (void)state;
    struct fake fake = {0};
    struct group *group = found(&fake);
    size_t room = group_room(group);
    struct bytes *payloads = mem_alloc((room + 1) * sizeof *payloads);
    uint64_t first;
    for (size_t i = 0; i <= room; i++) {
        payloads[i] = bytes_of(mem_copy("x", 1), 1);
    }
    assert_int_equal(group_submit(group, payloads, room + 1, 1001 * MS, &first), ERR_OVERLOADED);
    assert_int_equal(group_last_index(group), 1);
    free(payloads);
    group_close(group);
    fake_close(&fake);
}

/* One of three voters, which defers. */
struct follower {
    struct fake fake;
    struct bytes configuration;
    struct group *group;
};

static void follower_open(struct follower *follower, unsigned defer_ms)
{
    static const struct group_members three = {.len = 3,
                                               .list = {{.replica = 7, .role = GROUP_VOTER},
                                                        {.replica = 8, .role = GROUP_VOTER},
                                                        {.replica = 9, .role = GROUP_VOTER}}};
    *follower = (struct follower){.configuration = group_members_encode(&three)};
    struct group_start start = {.term = 3,
                                .applied_index = 5,
                                .applied_term = 2,
                                .configuration = follower->configuration,
                                .configuration_index = 1};
    follower->group = open_group(&follower->fake, &start);
    group_defer(follower->group, defer_ms);
}

static void follower_close(struct follower *follower)
{
    group_close(follower->group);
    free((void *)(uintptr_t)follower->configuration.ptr);
    fake_close(&follower->fake);
}

/* The first tick, in ms, at which it asks for votes. */
static int64_t stands_at(unsigned defer_ms)
{
    struct follower follower;
    int64_t now = 1;
    follower_open(&follower, defer_ms);
    while (follower.fake.trace.len == 0 && now < 5000) {
        now += 10;
        group_tick(follower.group, now * MS);
    }
    follower_close(&follower);
    return now;
}

static void test_who_defers_stands_for_election_later(void **state)
{
    (void)state;
    int64_t usual = stands_at(0), later = stands_at(1000); /* with the same seed */
    assert_true(usual >= 200 && usual <= 420);
    assert_in_range(later - usual, 1000, 1020);
}

/* Its leader is heard, and hands over to it behind the quarantine. */
static uint64_t term_when_handed_leadership(unsigned defer_ms)
{
    struct follower follower;
    struct group_message heard = {
        .type = MESSAGE_APPEND, .from = 8, .to = 7, .term = 3, .index = 5, .index_term = 2, .commit = 5, .stamp_ns = 1};
    struct group_message take_over = {
        .type = MESSAGE_TIMEOUT_NOW, .from = 8, .to = 7, .term = 3, .index = 5, .index_term = 2, .stamp_ns = 2};
    follower_open(&follower, defer_ms);
    assert_int_equal(group_receive(follower.group, &heard, 210 * MS), OK);
    assert_int_equal(group_receive(follower.group, &take_over, 211 * MS), OK);
    uint64_t term = group_term(follower.group);
    follower_close(&follower);
    return term;
}

static void test_who_defers_is_not_handed_leadership(void **state)
{
    (void)state;
    assert_int_equal(term_when_handed_leadership(0), 4);
    assert_int_equal(term_when_handed_leadership(1000), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_founding_makes_a_leader_in_a_new_term),
        cmocka_unit_test(test_commands_apply_only_after_they_are_synced),
        cmocka_unit_test(test_restart_never_proposes_in_an_old_term),
        cmocka_unit_test(test_restart_replays_what_is_logged_and_not_applied),
        cmocka_unit_test(test_start_refuses_a_log_with_a_gap),
        cmocka_unit_test(test_submit_is_refused_when_too_much_is_in_flight),
        cmocka_unit_test(test_who_defers_stands_for_election_later),
        cmocka_unit_test(test_who_defers_is_not_handed_leadership),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
