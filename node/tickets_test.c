/* Tickets: who waits is found by his own ticket alone. */
#include "node/tickets.h"

#include "tests/support/test.h"

static void test_tickets_find_their_owner_until_given_back(void **state)
{
    struct tickets *tickets = mem_zalloc(sizeof *tickets);
    int owner, other;
    (void)state;
    uint64_t one = tickets_take(tickets, 3, &owner), two = tickets_take(tickets, 3, &other);
    assert_ptr_equal(tickets_find(tickets, one), &owner);
    assert_ptr_equal(tickets_find(tickets, two), &other);
    assert_int_equal(one & 0xff, 3);
    tickets_give_back(tickets, one);
    tickets_give_back(tickets, one);
    tickets_give_back(tickets, 0);
    assert_null(tickets_find(tickets, one));
    assert_ptr_equal(tickets_find(tickets, two), &other);
    assert_null(tickets_find(tickets, 0));
    assert_null(tickets_find(tickets, UINT64_MAX));
    free(tickets);
}

static void test_tickets_of_a_place_differ_and_their_number_is_bounded(void **state)
{
    struct tickets *tickets = mem_zalloc(sizeof *tickets);
    int owner;
    (void)state;
    uint64_t first = tickets_take(tickets, 0, &owner);
    tickets_give_back(tickets, first);
    tickets->drawn = INT32_MAX - 10;
    for (unsigned i = 0; i < TICKETS_MAX; i++) {
        uint64_t ticket = tickets_take(tickets, 0, &owner);
        assert_true(ticket != 0 && ticket != first && ticket <= INT64_MAX);
    }
    assert_int_equal(tickets_take(tickets, 0, &owner), 0);
    assert_null(tickets_find(tickets, first));
    free(tickets);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tickets_find_their_owner_until_given_back),
                                       cmocka_unit_test(test_tickets_of_a_place_differ_and_their_number_is_bounded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
