/* One scenario for each guard (cluster/README.md): with the guard it ends well, without it the engine's
 * fault shows. The group is compiled for this with GROUP_GUARD_TESTS. */
#include "tests/sim/hand.h"
#include "tests/support/test.h"

unsigned group_without;

/* Runs a scenario, which tells whether the bad thing happened, without the guard and with it. */
static void expect_guarded(unsigned guard, bool (*goes_wrong)(struct hand *hand))
{
    struct hand *hand = mem_alloc(sizeof *hand);
    for (int guarded = 0; guarded <= 1; guarded++) {
        hand_open(hand, 1);
        group_without = guarded ? 0 : 1U << guard;
        bool wrong = goes_wrong(hand);
        hand_close(hand);
        group_without = 0;
        assert_int_equal(wrong, !guarded);
    }
    free(hand);
}

static uint64_t next_id(uint64_t id, unsigned len)
{
    return id % len + 1;
}

/* Nobody is to lead while another may still serve reads. */
static bool overlaps(struct hand *hand, uint64_t leaseholder, uint64_t rival, unsigned ms)
{
    for (unsigned i = 0; i < ms; i++) {
        hand_run(hand, 1);
        if (hand_leader(hand) == rival && hand_holds_lease(hand, leaseholder)) {
            return true;
        }
    }
    return false;
}

static void add_learner(struct hand *hand, uint64_t leader, uint64_t learner)
{
    enum err err;
    while ((err = hand_change(hand, leader, learner, GROUP_LEARNER)) == ERR_CONFLICT) {
        hand_run(hand, 10); /* the term's first entry */
    }
    assert_int_equal(err, OK);
}

/* ---- quarantine: B has just granted A's lease, crashes, and would vote for C at once ---- */

static bool is_vote(const struct group_message *message)
{
    return message->type == MESSAGE_VOTE;
}

static bool breaks_lease_after_restart(struct hand *hand)
{
    uint64_t a = hand_found(hand, 3), b = next_id(a, 3), c = next_id(b, 3);
    hand_isolate(hand, c, true);
    hand_cut(hand, b, c, false);
    hand->cut[a][c] = true;
    hand->keeps = is_vote; /* C asks B, again and again */
    while (hand_kept(hand) == 0) {
        hand_run(hand, 1);
    }
    assert_true(hand_holds_lease(hand, a));
    hand_crash(hand, b);
    hand_isolate(hand, a, true);
    hand_start(hand, b);
    hand_release(hand);
    bool wrong = overlaps(hand, a, c, 3 * HAND_ELECTION_MS);
    hand_run(hand, 2000);
    assert_int_not_equal(hand_leader(hand), 0);
    return wrong;
}

static void test_quarantine_keeps_leases(void **state)
{
    (void)state;
    expect_guarded(0, breaks_lease_after_restart);
}

/* ---- G1: the one with the longer log has the older term, and never learns the newer ---- */

static bool never_elects(struct hand *hand)
{
    struct group_members members = hand_voters(3);
    const uint64_t terms[] = {2};
    hand_prepare(hand, 1, &members, 2, terms, 1);
    hand_prepare(hand, 2, &members, 5, NULL, 0);
    hand_start(hand, 1);
    hand_start(hand, 2);
    hand_run(hand, 10000);
    return hand_leader(hand) != 1;
}

static void test_g1_old_term_is_told_the_new_one(void **state)
{
    (void)state;
    expect_guarded(1, never_elects);
}

/* ---- G3: a voter that does not know yet that it is one is needed to elect ---- */

static bool promoted_blocks(struct hand *hand)
{
    uint64_t a = hand_found(hand, 2), b = next_id(a, 2);
    hand_start(hand, 3);
    add_learner(hand, a, 3);
    hand_run(hand, 500);
    hand_isolate(hand, 3, true);
    assert_int_equal(hand_change(hand, a, 3, GROUP_VOTER), OK);
    hand_run(hand, 100);
    hand_crash(hand, a);
    hand_isolate(hand, 3, false);
    hand_run(hand, 10000);
    return hand_leader(hand) != b;
}

static void test_g3_promoted_learner_votes(void **state)
{
    (void)state;
    expect_guarded(3, promoted_blocks);
}

/* ---- G4: commands and a change in one message, the change never committed ---- */

static bool keeps_lost_member(struct hand *hand)
{
    uint64_t a = hand_found(hand, 5), f = next_id(a, 5);
    add_learner(hand, a, 6); /* so that the term has committed something */
    hand_run(hand, 300);
    hand_isolate(hand, f, true);
    hand_run(hand, 300);
    assert_true(hand_submit(hand, a, 3));
    hand_run(hand, 100);
    hand_isolate(hand, a, true);
    add_learner(hand, a, 7);
    hand_cut(hand, a, f, false);
    hand_run(hand, 60);
    assert_int_equal(group_last_index(hand_group(hand, f)), group_last_index(hand_group(hand, a)));
    hand_crash(hand, a);
    hand_run(hand, 1000);
    uint64_t leader = hand_leader(hand);
    hand_isolate(hand, f, false);
    assert_true(leader != 0 && leader != f && hand_submit(hand, leader, 1));
    hand_run(hand, 1000);
    struct group_members members;
    group_members(hand_group(hand, f), &members);
    assert_int_equal(group_last_index(hand_group(hand, f)), group_last_index(hand_group(hand, leader)));
    return group_members_find(&members, 7) != NULL;
}

static void test_g4_lost_change_is_rolled_back(void **state)
{
    (void)state;
    expect_guarded(4, keeps_lost_member);
}

/* ---- G5: a refusal arrives late, when what it refused has been there for long ---- */

static bool is_refusal(const struct group_message *message)
{
    return message->type == MESSAGE_APPEND_RESULT && message->rejected > 0;
}

static bool stops_replicating(struct hand *hand)
{
    uint64_t a = hand_found(hand, 3), f = next_id(a, 3);
    assert_true(hand_submit(hand, a, 1));
    hand_run(hand, 200);
    hand_isolate(hand, f, true);
    assert_true(hand_submit(hand, a, 5));
    hand_isolate(hand, f, false);
    hand->copies = is_refusal;
    hand_run(hand, 200);
    assert_int_equal(group_match_index(hand_group(hand, a), f), hand->copy.rejected);
    hand_isolate(hand, f, true);
    hand_run(hand, 600);
    hand_isolate(hand, f, false);
    hand_receive(hand, &hand->copy);
    assert_true(hand_submit(hand, a, 5));
    hand_run(hand, 2000);
    assert_int_equal(hand_leader(hand), a);
    return group_last_index(hand_group(hand, f)) < group_last_index(hand_group(hand, a));
}

static void test_g5_stale_refusal_is_dropped(void **state)
{
    (void)state;
    expect_guarded(5, stops_replicating);
}

/* ---- G6: the answer to a pre-vote arrives when its asker has restarted ---- */

static bool is_vote_result(const struct group_message *message)
{
    return message->type == MESSAGE_VOTE_RESULT;
}

static bool deposes_leader(struct hand *hand)
{
    uint64_t a = hand_found(hand, 3), f = next_id(a, 3);
    uint64_t term = group_term(hand_group(hand, a));
    hand->cut[a][f] = true;
    hand->keeps = is_vote_result;
    while (hand_kept(hand) == 0) {
        hand_run(hand, 1);
    }
    hand_crash(hand, f);
    hand_start(hand, f);
    hand_release(hand);
    hand_run(hand, 5);
    hand->cut[a][f] = false;
    hand_run(hand, 1000);
    return group_term(hand_group(hand, a)) != term || hand_leader(hand) != a;
}

static void test_g6_late_vote_result_is_dropped(void **state)
{
    (void)state;
    expect_guarded(6, deposes_leader);
}

/* ---- G8: B was told to disrupt A, could not, and goes on for terms; C holds a lease by then ---- */

static bool disrupts_later_leader(struct hand *hand)
{
    uint64_t a = hand_found(hand, 3), b = next_id(a, 3), c = next_id(b, 3);
    assert_true(hand_submit(hand, a, 1));
    hand_run(hand, 200);
    hand->cut[b][a] = hand->cut[b][c] = true;
    assert_int_equal(group_transfer(hand_group(hand, a), b, hand->now_ns), OK);
    hand_run(hand, 2);
    hand_isolate(hand, b, true);
    hand_run(hand, 1000);
    assert_int_equal(hand_leader(hand), a);
    assert_int_equal(group_transfer(hand_group(hand, a), c, hand->now_ns), OK);
    hand_run(hand, 100);
    assert_true(hand_leader(hand) == c && hand_holds_lease(hand, c));
    hand_cut(hand, a, b, false);
    return overlaps(hand, c, b, 2000);
}

static void test_g8_disruption_is_for_one_term(void **state)
{
    (void)state;
    expect_guarded(8, disrupts_later_leader);
}

/* ---- G9: failover waits for the slower of two timers ---- */

static unsigned failovers_ms(struct hand *hand, unsigned kills)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < kills; i++) {
        hand_open(hand, 100 + i);
        hand_crash(hand, hand_found(hand, 3));
        for (; hand_leader(hand) == 0; sum++) {
            hand_run(hand, 1);
        }
        hand_close(hand);
    }
    return sum / kills;
}

static void test_g9_failover_is_faster(void **state)
{
    (void)state;
    struct hand *hand = mem_alloc(sizeof *hand);
    unsigned with_ms = failovers_ms(hand, 50);
    group_without = 1U << 9;
    unsigned without_ms = failovers_ms(hand, 50);
    group_without = 0;
    free(hand);
    printf("failover: %u ms, without G9 %u ms\n", with_ms, without_ms);
    assert_true(with_ms + 20 < without_ms);
}

/* ---- G11: a heartbeat that was overtaken ---- */

static bool is_heartbeat(const struct group_message *message)
{
    return message->type == MESSAGE_APPEND && message->entries_len == 0 && message->to != 0;
}

static bool sets_commit_back(struct hand *hand)
{
    uint64_t a = hand_found(hand, 3), f = next_id(a, 3);
    assert_true(hand_submit(hand, a, 20));
    hand->copies = is_heartbeat;
    hand_run(hand, 200);
    struct group_message late = hand->copy;
    uint64_t commit = group_commit_index(hand_group(hand, f));
    assert_int_equal(commit, 21);
    /* As the engine sends it to one that is behind by more than may be in flight. */
    late.to = f;
    late.index = commit - 10;
    late.commit = commit + 10;
    hand_receive(hand, &late);
    return group_commit_index(hand_group(hand, f)) < commit;
}

static void test_g11_commit_index_does_not_go_back(void **state)
{
    (void)state;
    expect_guarded(11, sets_commit_back);
}

/* ---- G12: what the engine answers a leader of an old term is not all set; with the guard it is ---- */

static bool is_answer(const struct group_message *message)
{
    return message->type == MESSAGE_APPEND_RESULT;
}

static void test_g12_answer_to_an_old_term_is_the_term_alone(void **state)
{
    (void)state;
    struct hand *hand = mem_alloc(sizeof *hand);
    hand_open(hand, 1);
    uint64_t a = hand_found(hand, 3), f = next_id(a, 3);
    uint64_t term = group_term(hand_group(hand, f));
    hand->copies = is_answer;
    struct group_message old = {.type = MESSAGE_APPEND, .from = a, .to = f, .term = term - 1};
    hand_receive(hand, &old);
    assert_int_equal(hand->copy.term, term);
    assert_int_equal(hand->copy.index, 0);
    assert_int_equal(hand->copy.rejected, 0);
    hand_close(hand);
    free(hand);
}

/* ---- G13: a follower restarts, and meets the next membership before it knows that its last is committed ---- */

static bool forgets_member(struct hand *hand)
{
    uint64_t a = hand_found(hand, 5), f = next_id(a, 5);
    add_learner(hand, a, 6);
    hand_run(hand, 300);
    hand_crash(hand, f);
    hand_run(hand, 600);
    hand_isolate(hand, a, true);
    add_learner(hand, a, 7);
    hand_cut(hand, a, f, false);
    hand_isolate(hand, f, true);
    hand_cut(hand, a, f, false);
    hand_start(hand, f);
    hand_run(hand, 100);
    assert_int_equal(group_last_index(hand_group(hand, f)), group_last_index(hand_group(hand, a)));
    hand_crash(hand, a);
    hand_run(hand, 1000);
    uint64_t leader = hand_leader(hand);
    hand_isolate(hand, f, false);
    assert_true(leader != 0 && leader != f && hand_submit(hand, leader, 1));
    hand_run(hand, 1000);
    struct group_members members;
    group_members(hand_group(hand, f), &members);
    assert_null(group_members_find(&members, 7));
    return group_members_find(&members, 6) == NULL;
}

static void test_g13_superseded_membership_was_committed(void **state)
{
    (void)state;
    expect_guarded(13, forgets_member);
}

/* ---- G14: a deposed leader has much to give up ---- */

static bool parts_slowly(struct hand *hand)
{
    uint64_t a = hand_found(hand, 3);
    hand_isolate(hand, a, true);
    assert_true(hand_submit(hand, a, 200));
    hand_run(hand, 1000);
    uint64_t leader = hand_leader(hand);
    assert_true(leader != 0 && leader != a && hand_submit(hand, leader, 200));
    hand_run(hand, 300);
    assert_int_equal(group_transfer(hand_group(hand, leader), 0, hand->now_ns), OK);
    hand_run(hand, 300); /* a new leader tries the end of its own log first */
    leader = hand_leader(hand);
    assert_int_not_equal(leader, a);
    hand_isolate(hand, a, false);
    hand_run(hand, 200);
    return group_commit_index(hand_group(hand, a)) != group_commit_index(hand_group(hand, leader));
}

static void test_g14_logs_part_in_few_rounds(void **state)
{
    (void)state;
    expect_guarded(14, parts_slowly);
}

/* ---- G15: C answers a heartbeat late, and gets what is new at once all the same ---- */

static uint64_t late;

static bool is_late(const struct group_message *message)
{
    return message->type == MESSAGE_APPEND_RESULT && message->from == late;
}

static bool makes_the_late_wait(struct hand *hand)
{
    uint64_t a = hand_found(hand, 3), c = next_id(next_id(a, 3), 3);
    assert_true(hand_submit(hand, a, 1));
    hand_run(hand, HAND_ELECTION_MS);
    late = c;
    hand->keeps = is_late; /* over two heartbeats */
    hand_run(hand, HAND_ELECTION_MS * 2 / 3);
    hand->keeps = NULL;
    hand_release(hand);
    hand_run(hand, 10);
    size_t before = hand->replicas[c].log_len;
    assert_true(hand_submit(hand, a, 1));
    hand_run(hand, 5);
    return hand->replicas[c].log_len == before;
}

static void test_g15_late_answer_does_not_end_the_pipeline(void **state)
{
    (void)state;
    expect_guarded(15, makes_the_late_wait);
}

/* ---- G16: the log is dropped in two steps, with nothing applied between; C missed the end of it ---- */

static bool is_install(const struct group_message *message)
{
    return message->type == MESSAGE_INSTALL;
}

static bool offers_what_is_gone(struct hand *hand)
{
    uint64_t a = hand_found(hand, 3), c = next_id(next_id(a, 3), 3);
    assert_true(hand_submit(hand, a, 5));
    hand_run(hand, HAND_ELECTION_MS);
    hand_isolate(hand, c, true);
    assert_true(hand_submit(hand, a, 20));
    hand_run(hand, 2 * HAND_ELECTION_MS);
    uint64_t last = group_last_index(hand_group(hand, a));
    group_forget(hand_group(hand, a), 2, hand->now_ns);
    group_forget(hand_group(hand, a), last - 1, hand->now_ns);
    hand->keeps = is_install;
    hand_isolate(hand, c, false);
    hand_run(hand, HAND_ELECTION_MS);
    return hand_kept(hand) == 0;
}

static void test_g16_log_is_shortened_again(void **state)
{
    (void)state;
    expect_guarded(16, offers_what_is_gone);
}

/* ---- a learner that is blank is not promoted: it would refuse its vote for ever ---- */

static void test_blank_learner_is_not_promoted(void **state)
{
    (void)state;
    struct hand *hand = mem_alloc(sizeof *hand);
    hand_open(hand, 1);
    uint64_t a = hand_found(hand, 1);
    add_learner(hand, a, 2);
    hand_run(hand, 100);
    assert_int_equal(hand_change(hand, a, 2, GROUP_VOTER), ERR_CONFLICT);
    hand_start(hand, 2);
    hand_run(hand, 500);
    assert_int_equal(hand_change(hand, a, 2, GROUP_VOTER), OK);
    hand_close(hand);
    free(hand);
}

/* ---- G17: A tells B to take over, B hears of it when A has long gone on; A holds a lease again ---- */

static bool is_timeout_now(const struct group_message *message)
{
    return message->type == MESSAGE_TIMEOUT_NOW;
}

static bool follows_late(struct hand *hand)
{
    uint64_t a = hand_found(hand, 3), b = next_id(a, 3);
    assert_true(hand_submit(hand, a, 1));
    hand_run(hand, 200);
    hand->keeps = is_timeout_now;
    assert_int_equal(group_transfer(hand_group(hand, a), b, hand->now_ns), OK);
    assert_int_equal(hand_kept(hand), 1);
    hand_run(hand, HAND_ELECTION_MS / 2);
    assert_false(hand_holds_lease(hand, a)); /* it may come at any time */
    hand_run(hand, 2 * HAND_ELECTION_MS);
    assert_true(hand_leader(hand) == a && hand_holds_lease(hand, a));
    hand->cut[b][a] = true;
    hand_release(hand);
    return overlaps(hand, a, b, 2000);
}

static void test_g17_overtaken_transfer_is_dropped(void **state)
{
    (void)state;
    expect_guarded(17, follows_late);
}

/* Whom it told is silent: it may be followed at any time. */
static void test_no_lease_while_the_heir_is_silent(void **state)
{
    (void)state;
    struct hand *hand = mem_zalloc(sizeof *hand);
    hand_open(hand, 1);
    uint64_t a = hand_found(hand, 3), b = next_id(a, 3);
    assert_true(hand_submit(hand, a, 1));
    hand_run(hand, 200);
    hand_isolate(hand, b, true);
    assert_int_equal(group_transfer(hand_group(hand, a), b, hand->now_ns), OK);
    hand_run(hand, 3 * HAND_ELECTION_MS);
    assert_true(hand_leader(hand) == a && !hand_holds_lease(hand, a));
    hand_isolate(hand, b, false);
    hand_run(hand, 2 * HAND_ELECTION_MS);
    assert_true(hand_holds_lease(hand, hand_leader(hand)));
    hand_close(hand);
    free(hand);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quarantine_keeps_leases),
        cmocka_unit_test(test_g1_old_term_is_told_the_new_one),
        cmocka_unit_test(test_g3_promoted_learner_votes),
        cmocka_unit_test(test_g4_lost_change_is_rolled_back),
        cmocka_unit_test(test_g5_stale_refusal_is_dropped),
        cmocka_unit_test(test_g6_late_vote_result_is_dropped),
        cmocka_unit_test(test_g8_disruption_is_for_one_term),
        cmocka_unit_test(test_g9_failover_is_faster),
        cmocka_unit_test(test_g11_commit_index_does_not_go_back),
        cmocka_unit_test(test_g12_answer_to_an_old_term_is_the_term_alone),
        cmocka_unit_test(test_g13_superseded_membership_was_committed),
        cmocka_unit_test(test_g14_logs_part_in_few_rounds),
        cmocka_unit_test(test_g15_late_answer_does_not_end_the_pipeline),
        cmocka_unit_test(test_g16_log_is_shortened_again),
        cmocka_unit_test(test_g17_overtaken_transfer_is_dropped),
        cmocka_unit_test(test_no_lease_while_the_heir_is_silent),
        cmocka_unit_test(test_blank_learner_is_not_promoted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
