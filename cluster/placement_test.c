/* Who leads what: decisions alone, played through. */
#include "cluster/placement.h"

#include "tests/support/test.h"

enum { GROUPS = 17, NODES = 3 };

/* Which nodes cannot lead, as bits by replica. */
static bool can_lead(void *ctx, uint64_t replica)
{
    return (*(unsigned *)ctx >> replica & 1) == 0;
}

static void found(struct group_members *members, unsigned voters, unsigned learners)
{
    *members = (struct group_members){.len = voters + learners};
    for (unsigned i = 0; i < members->len; i++) {
        members->list[i] = (struct group_member){.replica = i + 1, .role = i < voters ? GROUP_VOTER : GROUP_LEARNER};
    }
}

static size_t count(const uint64_t *leaders, uint64_t replica)
{
    size_t led = 0;
    for (size_t g = 0; g < GROUPS; g++) {
        led += leaders[g] == replica;
    }
    return led;
}

static uint64_t heir(const struct group_members *members, const uint64_t *leaders, uint64_t self, unsigned out)
{
    return placement_heir(&(struct placement_leaders){members, leaders, GROUPS, self, can_lead, &out});
}

/* Hands over all of one node. */
static void leave(const struct group_members *members, uint64_t *leaders, uint64_t replica)
{
    for (size_t g = 0; g < GROUPS; g++) {
        if (leaders[g] == replica) {
            leaders[g] = heir(members, leaders, replica, 0);
            assert_true(leaders[g] != 0 && leaders[g] != replica);
        }
    }
}

static size_t spread(const struct group_members *members, uint64_t *leaders, unsigned out)
{
    for (size_t moves = 0; moves <= GROUPS; moves++) {
        bool moved = false;
        for (size_t g = 0; g < GROUPS && !moved; g++) {
            uint64_t to =
                placement_lead(&(struct placement_leaders){members, leaders, GROUPS, leaders[g], can_lead, &out});
            leaders[g] = to != 0 ? to : leaders[g];
            moved = to != 0;
        }
        if (!moved) {
            return moves;
        }
    }
    fail();
    return 0;
}

static void test_what_is_handed_over_is_handed_to_all_alike(void **state)
{
    (void)state;
    struct group_members members;
    found(&members, NODES, 1);
    for (uint64_t leaving = 1; leaving <= NODES; leaving++) {
        uint64_t leaders[GROUPS], left = leaving % NODES + 1;
        for (size_t g = 0; g < GROUPS; g++) {
            leaders[g] = g % NODES + 1;
        }
        leave(&members, leaders, leaving);
        assert_int_equal(count(leaders, leaving), 0);
        size_t one = count(leaders, left);
        assert_true(one == 8 || one == 9);
        assert_int_equal(count(leaders, 6 - leaving - left), GROUPS - one); /* and none a learner */
        assert_int_equal(spread(&members, leaders, 1U << leaving), 0);
        assert_in_range(spread(&members, leaders, 0), 5, 5);
    }
}

static void test_who_leads_fewest_is_given_most(void **state)
{
    (void)state;
    struct group_members members;
    uint64_t leaders[GROUPS];
    found(&members, NODES, 0);
    for (size_t g = 0; g < GROUPS; g++) {
        leaders[g] = g < 9 ? 2 : 1;
    }
    leave(&members, leaders, 1);
    assert_int_equal(count(leaders, 2), 9);
    assert_int_equal(count(leaders, 3), 8);
}

static void test_nobody_is_given_what_it_cannot_lead(void **state)
{
    (void)state;
    struct group_members members;
    uint64_t leaders[GROUPS];
    found(&members, NODES, 2);
    for (size_t g = 0; g < GROUPS; g++) {
        leaders[g] = 1;
    }
    assert_int_equal(heir(&members, leaders, 1, 1U << 3), 2);
    assert_int_equal(heir(&members, leaders, 1, 1U << 2 | 1U << 3), 0);
    assert_int_equal(spread(&members, leaders, 1U << 2 | 1U << 3), 0);
    assert_int_equal(count(leaders, 1), GROUPS);
    assert_int_equal(spread(&members, leaders, 1U << 3), 8);
    assert_int_equal(count(leaders, 3), 0);
}

static void test_leaders_are_spread_until_none_leads_two_more_than_another(void **state)
{
    (void)state;
    struct group_members members;
    uint64_t leaders[GROUPS];
    found(&members, NODES, 2);
    for (size_t g = 0; g < GROUPS; g++) {
        leaders[g] = 2;
    }
    assert_int_equal(spread(&members, leaders, 0), 11);
    for (uint64_t replica = 1; replica <= NODES; replica++) {
        assert_in_range(count(leaders, replica), 5, 6);
    }
    assert_int_equal(spread(&members, leaders, 0), 0);
}

static void test_founders_with_the_lowest_replicas_vote(void **state)
{
    (void)state;
    static const unsigned voters[] = {0, 1, 2, 3, 3, 5, 5, 5};
    for (unsigned len = 1; len < ARRAY_LEN(voters); len++) {
        struct group_members members = {.len = len};
        for (unsigned i = 0; i < len; i++) {
            members.list[i].replica = (i * 5 + 3) % 7 + 1; /* in some order */
        }
        placement_found(&members);
        for (unsigned i = 0; i < len; i++) {
            assert_true(i == 0 || members.list[i - 1].replica < members.list[i].replica);
            assert_int_equal(members.list[i].role, i < voters[len] ? GROUP_VOTER : GROUP_LEARNER);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_handed_over_is_handed_to_all_alike),
        cmocka_unit_test(test_who_leads_fewest_is_given_most),
        cmocka_unit_test(test_nobody_is_given_what_it_cannot_lead),
        cmocka_unit_test(test_leaders_are_spread_until_none_leads_two_more_than_another),
        cmocka_unit_test(test_founders_with_the_lowest_replicas_vote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
