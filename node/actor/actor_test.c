/* Mailboxes, run queue and passivation against a model. */
#include "node/actor/actor.h"
#include "tests/support/test.h"

struct letter {
    struct mail mail;
    unsigned to;
    uint64_t number;
};

enum { ACTORS = 40, LIMIT = 5 };

static struct actor *get(struct actors *actors, unsigned n, int64_t now)
{
    char key[16];
    int len = snprintf(key, sizeof key, "actor%u", n);
    return actors_get(actors, n % 4, (uint8_t)(1 + n % 2), bytes_of(key, (size_t)len), now);
}

static void test_mail_is_taken_in_order_and_bounded(void **state)
{
    (void)state;
    struct random random;
    struct actors actors;
    struct list run_queue;
    uint64_t sent[ACTORS] = {0}, taken[ACTORS] = {0}, answered[ACTORS] = {0};
    random_init_seed(&random, test_seed(__func__));
    actors_init(&actors, LIMIT);
    list_init(&run_queue);
    for (int64_t now = 1; now < 30000; now++) {
        unsigned n = (unsigned)below(&random, ACTORS);
        switch (below(&random, 4)) {
        case 0: {
            struct letter *letter = mem_zalloc(sizeof *letter);
            letter->to = n;
            letter->number = sent[n];
            bool fits = sent[n] - answered[n] < LIMIT;
            assert_int_equal(actor_push(&actors, get(&actors, n, now), &letter->mail, &run_queue), fits);
            if (fits) {
                sent[n]++;
            } else {
                free(letter);
            }
            break;
        }
        case 1: {
            struct actor *actor = actors_next(&run_queue);
            if (actor == NULL) {
                break;
            }
            struct mail *mail = actor_pop(&actors, actor);
            assert_non_null(mail); /* in the run queue only with mail */
            struct letter *letter = container_of(mail, struct letter, mail);
            assert_ptr_equal(actor, get(&actors, letter->to, now));
            assert_int_equal(letter->number, taken[letter->to]++);
            if (sent[letter->to] > taken[letter->to]) {
                actor_requeue(actor, &run_queue);
                actor_requeue(actor, &run_queue); /* twice is once */
            }
            free(letter);
            break;
        }
        case 2:
            if (taken[n] > answered[n]) {
                actor_answered(&actors, get(&actors, n, now), now);
                answered[n]++;
            }
            break;
        case 3: (void)actors_passivate(&actors, now - 100, 3); break;
        }
    }
    uint64_t waiting = 0;
    for (unsigned n = 0; n < ACTORS; n++) {
        waiting += sent[n] - taken[n];
    }
    assert_int_equal(actors.mails, waiting);
    assert_true(actors.passivated > 0 && actors.overloaded > 0 && actors.activated > ACTORS);
    for (struct actor *actor = actors_next(&run_queue); actor != NULL; actor = actors_next(&run_queue)) {
        for (struct mail *mail = actor_pop(&actors, actor); mail != NULL; mail = actor_pop(&actors, actor)) {
            free(container_of(mail, struct letter, mail));
        }
    }
    actors_close(&actors);
}

static void test_only_idle_actors_are_passivated(void **state)
{
    (void)state;
    struct actors actors;
    struct list run_queue;
    struct letter letter = {0};
    actors_init(&actors, LIMIT);
    list_init(&run_queue);
    (void)get(&actors, 1, 100);
    assert_true(actor_push(&actors, get(&actors, 2, 100), &letter.mail, &run_queue));
    assert_int_equal(actors_passivate(&actors, 99, 10), 0);
    assert_int_equal(actors_passivate(&actors, 1000, 10), 1);
    assert_int_equal(actors_live(&actors), 1);
    struct actor *actor = actors_next(&run_queue);
    assert_ptr_equal(actor_pop(&actors, actor), &letter.mail);
    assert_int_equal(actors_passivate(&actors, 1000, 10), 0); /* its command is under way */
    actor_answered(&actors, actor, 500);
    assert_int_equal(actors_passivate(&actors, 499, 10), 0);
    assert_int_equal(actors_passivate(&actors, 500, 10), 1);
    actors_close(&actors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mail_is_taken_in_order_and_bounded),
                                       cmocka_unit_test(test_only_idle_actors_are_passivated)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
