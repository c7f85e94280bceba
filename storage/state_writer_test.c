/* Jobs between batches: in the order they were given, each in a transaction of its own, tried again where a
 * batch would be, and without harm to batches when they refuse. */
#include "storage/state_writer.h"

#include <pthread.h>
#include <unistd.h>

#include "tests/support/test.h"

enum { PARTITIONS = 2, ENTRIES = 3 /* a batch */ };

struct world {
    char dir[64];
    struct state *state;
    struct state_writer *writer;
    pthread_mutex_t mutex; /* over what follows */
    pthread_cond_t changed;
    unsigned done, commits;
    uint64_t applied; /* of partition 1, as of the last commit that was told */
};

/* What is submitted, one of the two; and what it found when it ran. */
struct thing {
    struct apply_batch batch;
    struct state_job job;
    struct apply_entry entries[ENTRIES];
    struct world *world;
    bool early;
    enum err fails[4]; /* what the job's runs return, before OK */
    unsigned runs;
    uint64_t found; /* applied index when it ran last */
    unsigned order; /* it was the n-th to be done */
    unsigned commits_when_told, commits_when_done;
};

static enum err apply(void *ctx, struct state *state, uint16_t group, struct apply_entry *entry)
{
    (void)ctx;
    return rows_put(state_rows(state, group), 1, bytes_of(&entry->index, sizeof entry->index), BYTES_LIT("applied"));
}

static void drop(void *ctx, struct apply_entry *entry)
{
    (void)ctx;
    (void)entry;
}

static void committed(void *ctx, struct state *state)
{
    struct world *world = ctx;
    assert_int_equal(pthread_mutex_lock(&world->mutex), 0);
    world->commits++;
    world->applied = state_partition(state, 1)->applied_index;
    assert_int_equal(pthread_mutex_unlock(&world->mutex), 0);
}

static void done(struct thing *thing)
{
    struct world *world = thing->world;
    assert_int_equal(pthread_mutex_lock(&world->mutex), 0);
    thing->order = ++world->done;
    assert_int_equal(pthread_cond_signal(&world->changed), 0);
    assert_int_equal(pthread_mutex_unlock(&world->mutex), 0);
}

static unsigned commits_of(struct world *world)
{
    assert_int_equal(pthread_mutex_lock(&world->mutex), 0);
    unsigned commits = world->commits;
    assert_int_equal(pthread_mutex_unlock(&world->mutex), 0);
    return commits;
}

static void batch_told(struct apply_batch *batch)
{
    struct thing *thing = container_of(batch, struct thing, batch);
    thing->commits_when_told = commits_of(thing->world);
}

static void batch_done(struct apply_batch *batch)
{
    struct thing *thing = container_of(batch, struct thing, batch);
    thing->commits_when_done = commits_of(thing->world);
    done(container_of(batch, struct thing, batch));
}

static void job_done(struct state_job *job)
{
    done(container_of(job, struct thing, job));
}

/* Writes a row whether or not it fails afterwards. */
static enum err run(void *ctx, struct state *state)
{
    struct thing *thing = ctx;
    thing->found = state_partition(state, 1)->applied_index;
    assert_int_equal(rows_put(state_stage_rows(state, 1), 2, bytes_of(&thing->runs, sizeof thing->runs), BYTES_NONE),
                     OK);
    enum err err = thing->fails[thing->runs];
    thing->runs++;
    return err;
}

static bool may_wait(void *ctx)
{
    (void)ctx;
    return true;
}

static void open_world(struct world *world)
{
    *world = (struct world){.dir = "/tmp/belfry-writer-XXXXXX"};
    assert_non_null(mkdtemp(world->dir));
    struct state_options options = {.dir = world->dir, .partitions = PARTITIONS, .map_bytes = 1ULL << 28};
    assert_int_equal(state_open(&options, &world->state), OK);
    assert_int_equal(pthread_mutex_init(&world->mutex, NULL), 0);
    assert_int_equal(pthread_cond_init(&world->changed, NULL), 0);
    struct state_writer_options writer_options = {.state = world->state,
                                                  .clock = clock_system(),
                                                  .apply = apply,
                                                  .drop = drop,
                                                  .committed = committed,
                                                  .may_wait = may_wait,
                                                  .ctx = world};
    world->writer = state_writer_new(&writer_options);
}

static void close_world(struct world *world)
{
    char command[128];
    state_writer_free(world->writer);
    state_close(world->state);
    (void)pthread_cond_destroy(&world->changed);
    (void)pthread_mutex_destroy(&world->mutex);
    (void)snprintf(command, sizeof command, "rm -r %s", world->dir);
    assert_int_equal(system(command), 0);
}

static void wait_for(struct world *world, unsigned count)
{
    assert_int_equal(pthread_mutex_lock(&world->mutex), 0);
    while (world->done < count) {
        assert_int_equal(pthread_cond_wait(&world->changed, &world->mutex), 0);
    }
    assert_int_equal(pthread_mutex_unlock(&world->mutex), 0);
}

static void submit_batch(struct world *world, struct thing *thing, uint64_t *last)
{
    thing->world = world;
    for (int i = 0; i < ENTRIES; i++) {
        thing->entries[i] = (struct apply_entry){.index = ++*last, .term = 1};
    }
    thing->batch = (struct apply_batch){.group = 1,
                                        .entries = thing->entries,
                                        .len = ENTRIES,
                                        .err = ERR_IO,
                                        .early = thing->early,
                                        .outcomes = batch_told,
                                        .done = batch_done};
    struct list batches;
    list_init(&batches);
    list_add_tail(&batches, &thing->batch.link);
    state_writer_submit(world->writer, &batches);
}

static void submit_job(struct world *world, struct thing *thing)
{
    thing->world = world;
    thing->job = (struct state_job){.run = run, .ctx = thing, .err = ERR_IO, .done = job_done};
    state_writer_run(world->writer, &thing->job);
}

static void test_jobs_and_batches_are_done_in_their_order(void **unused)
{
    (void)unused;
    enum { THINGS = 500 };
    static struct thing things[THINGS];
    struct random random;
    struct world world;
    uint64_t last = 0, before[THINGS];
    random_init_seed(&random, test_seed(__func__));
    memset(things, 0, sizeof things);
    open_world(&world);
    for (unsigned i = 0; i < THINGS; i++) {
        before[i] = last;
        if (below(&random, 3) == 0) {
            submit_job(&world, &things[i]);
        } else {
            submit_batch(&world, &things[i], &last);
        }
        if (below(&random, 50) == 0) {
            wait_for(&world, i + 1);
        }
    }
    wait_for(&world, THINGS);
    for (unsigned i = 0; i < THINGS; i++) {
        assert_int_equal(things[i].order, i + 1);
        if (things[i].job.run != NULL) {
            assert_int_equal(things[i].job.err, OK);
            assert_int_equal(things[i].runs, 1);
            assert_int_equal(things[i].found, before[i]);
        } else {
            assert_int_equal(things[i].batch.err, OK);
        }
    }
    assert_int_equal(world.applied, last);
    close_world(&world);
}

static void test_a_job_that_refuses_leaves_nothing_and_harms_nobody(void **unused)
{
    (void)unused;
    struct world world;
    struct thing job = {.fails = {ERR_CORRUPT}}, batch = {0};
    uint64_t last = 0;
    open_world(&world);
    submit_job(&world, &job);
    submit_batch(&world, &batch, &last);
    wait_for(&world, 2);
    assert_int_equal(job.job.err, ERR_CORRUPT);
    assert_int_equal(job.runs, 1);
    assert_int_equal(batch.batch.err, OK);
    assert_int_equal(atomic_load(&state_writer_stats(world.writer)->err), OK);
    assert_int_equal(world.commits, 1);
    assert_int_equal(state_begin(world.state), OK); /* the writer is idle */
    struct bytes key, value;
    assert_int_equal(rows_ceil(state_stage_rows(world.state, 1), 2, BYTES_NONE, &key, &value), ERR_NOT_FOUND);
    state_abort(world.state);
    close_world(&world);
}

static void test_a_job_waits_for_room_as_batches_do(void **unused)
{
    (void)unused;
    struct world world;
    struct thing job = {.fails = {ERR_IO, ERR_DISK_FULL, ERR_DISK_FULL}}, batch = {0};
    struct state_pin *pin;
    uint64_t last = 0;
    open_world(&world);
    submit_job(&world, &job);
    submit_batch(&world, &batch, &last);
    assert_int_equal(state_writer_pin(world.writer, &pin), OK); /* also meanwhile */
    state_pin_free(pin);
    wait_for(&world, 2);
    assert_int_equal(job.runs, 4);
    assert_int_equal(job.job.err, OK);
    assert_int_equal(batch.batch.err, OK);
    assert_int_equal(atomic_load(&state_writer_stats(world.writer)->err), OK);
    close_world(&world);
}

static enum err always_full(void *ctx, struct state *state)
{
    struct thing *thing = ctx;
    (void)state;
    assert_int_equal(pthread_mutex_lock(&thing->world->mutex), 0);
    thing->runs++;
    assert_int_equal(pthread_cond_signal(&thing->world->changed), 0);
    assert_int_equal(pthread_mutex_unlock(&thing->world->mutex), 0);
    return ERR_DISK_FULL;
}

/* What follows relies on it: it is not applied either. */
static void test_a_job_given_up_by_a_stop_ends_what_follows(void **unused)
{
    (void)unused;
    struct world world;
    struct thing job = {.world = &world}, batch = {0}, after = {0};
    uint64_t last = 0;
    open_world(&world);
    job.job = (struct state_job){.run = always_full, .ctx = &job, .done = job_done};
    state_writer_run(world.writer, &job.job);
    submit_batch(&world, &batch, &last);
    submit_job(&world, &after);
    assert_int_equal(pthread_mutex_lock(&world.mutex), 0);
    while (job.runs == 0) {
        assert_int_equal(pthread_cond_wait(&world.changed, &world.mutex), 0);
    }
    assert_int_equal(pthread_mutex_unlock(&world.mutex), 0);
    close_world(&world);
    assert_int_equal(job.job.err, ERR_SHUTTING_DOWN);
    assert_int_equal(batch.batch.err, ERR_SHUTTING_DOWN);
    assert_int_equal(after.job.err, ERR_SHUTTING_DOWN);
    assert_int_equal(after.runs, 0);
    assert_true(job.order == 1 && batch.order == 2 && after.order == 3);
}

static void test_outcomes_are_told_early_or_after_the_commit(void **unused)
{
    (void)unused;
    struct world world;
    struct thing early = {.early = true}, late = {0};
    uint64_t last = 0;
    open_world(&world);
    submit_batch(&world, &early, &last);
    wait_for(&world, 1); /* nobody hurries it: it ends by itself */
    submit_batch(&world, &late, &last);
    wait_for(&world, 2);
    assert_true(early.batch.told && late.batch.told);
    assert_int_equal(early.commits_when_told, 0);
    assert_int_equal(early.commits_when_done, 1);
    assert_int_equal(late.commits_when_told, 2);
    assert_int_equal(late.commits_when_done, 2);
    close_world(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outcomes_are_told_early_or_after_the_commit),
        cmocka_unit_test(test_jobs_and_batches_are_done_in_their_order),
        cmocka_unit_test(test_a_job_that_refuses_leaves_nothing_and_harms_nobody),
        cmocka_unit_test(test_a_job_waits_for_room_as_batches_do),
        cmocka_unit_test(test_a_job_given_up_by_a_stop_ends_what_follows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
