/* What a start learns from the log about entries that are in the state already, and those that are not:
 * against a model, with entries replaced, segments dropped and any applied index. */
#include "node/recovery.h"

#include <unistd.h>

#include "tests/support/test.h"

enum { PARTITIONS = 2, ENTRIES = 3000, SEGMENT = 16384 };

struct model {
    uint64_t terms[PARTITIONS][ENTRIES + 1];
    uint64_t first[PARTITIONS], last[PARTITIONS];
};

static void no_record(void *ctx, const struct segment_record *record)
{
    (void)ctx;
    (void)record;
}

static struct segments *open_log(const char *dir)
{
    char path[128], why[256];
    struct segments *log;
    (void)snprintf(path, sizeof path, "%s/log", dir);
    struct segments_options options = {disk_posix(), path, PARTITIONS, SEGMENT};
    assert_int_equal(segments_open(&options, no_record, NULL, &log, why, sizeof why), OK);
    return log;
}

static void add_entry(struct segments *log, uint16_t group, uint64_t index, uint64_t term)
{
    uint8_t payload[30];
    memset(payload, (int)(index + term), sizeof payload);
    struct segment_record record = {RECORD_ENTRY, 1, group, index, term, {payload, sizeof payload}};
    assert_int_equal(segments_add(log, &record), OK);
}

/* A log whose entries are replaced now and then, but for those at or below `applied`. */
static void write_log(const char *dir, struct random *random, const uint64_t *applied, struct model *model)
{
    uint64_t term = 1, keep_after[PARTITIONS];
    struct segments *log = open_log(dir);
    for (uint16_t g = 0; g < PARTITIONS; g++) {
        assert_int_equal(segments_add(log, &(struct segment_record){.type = RECORD_HARD_STATE, .group = g}), OK);
        model->first[g] = 1;
    }
    uint64_t entries = applied[0] + applied[1] + below(random, 1000);
    for (uint64_t i = 0; i < entries || model->last[0] < applied[0] || model->last[1] < applied[1]; i++) {
        uint16_t group = (uint16_t)below(random, PARTITIONS);
        uint64_t index = model->last[group] + 1;
        if (model->last[group] > applied[group] && below(random, 10) == 0) {
            index -= below(random, model->last[group] - applied[group] + 1);
        }
        term += below(random, 50) == 0;
        if (index <= ENTRIES) {
            add_entry(log, group, index, term);
            model->terms[group][index] = term;
            model->last[group] = index;
        }
    }
    assert_int_equal(segments_commit(log), OK);
    for (uint16_t g = 0; g < PARTITIONS; g++) {
        keep_after[g] = below(random, applied[g] + 1);
    }
    assert_int_equal(segments_drop(log, keep_after), OK);
    for (uint16_t g = 0; g < PARTITIONS; g++) {
        model->first[g] = segments_first(log, g);
    }
    segments_close(log);
}

static void write_state(const char *dir, const uint64_t *applied, const struct model *model)
{
    char path[128];
    struct state *state;
    (void)snprintf(path, sizeof path, "%s/state", dir);
    struct state_options options = {.dir = path, .partitions = PARTITIONS, .map_bytes = 1ULL << 30};
    assert_int_equal(state_open(&options, &state), OK);
    assert_int_equal(state_begin(state), OK);
    for (unsigned p = 0; p < PARTITIONS; p++) {
        state_partition_edit(state, p)->applied_index = applied[p];
        state_partition_edit(state, p)->applied_term = model->terms[p][applied[p]];
    }
    assert_int_equal(state_commit(state), OK);
    state_close(state);
}

static void check_start(const struct group_start *start, const struct model *model, unsigned partition)
{
    const uint64_t *terms = model->terms[partition];
    uint64_t index = model->first[partition];
    assert_int_equal(start->first_index, index <= start->applied_index ? index : start->applied_index + 1);
    for (size_t i = 0; i < start->runs_len; i++) {
        assert_true(start->runs[i].last >= index);
        assert_true(i == 0 || start->runs[i].term != start->runs[i - 1].term);
        for (; index <= start->runs[i].last; index++) {
            assert_int_equal(start->runs[i].term, terms[index]);
        }
    }
    assert_true(start->runs_len == 0 || index == start->applied_index + 1);
    assert_int_equal(start->runs_len == 0, start->first_index == start->applied_index + 1);
    assert_int_equal(start->entries_len, model->last[partition] - start->applied_index);
    for (size_t i = 0; i < start->entries_len; i++) {
        assert_int_equal(start->entries[i].index, start->applied_index + 1 + i);
        assert_int_equal(start->entries[i].term, terms[start->entries[i].index]);
    }
}

static void remove_dir(const char *dir)
{
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

static void test_a_start_knows_the_terms_as_far_back_as_the_log_goes(void **unused)
{
    (void)unused;
    struct random random;
    size_t with_runs = 0;
    random_init_seed(&random, test_seed(__func__));
    for (int round = 0; round < 40; round++) {
        char dir[] = "/tmp/belfry-recovery-XXXXXX";
        static struct model model;
        uint64_t applied[PARTITIONS];
        model = (struct model){0};
        assert_non_null(mkdtemp(dir));
        for (unsigned p = 0; p < PARTITIONS; p++) {
            applied[p] = below(&random, 4) == 0 ? 0 : below(&random, 1500);
        }
        write_log(dir, &random, applied, &model);
        write_state(dir, applied, &model);
        struct recovery recovery = {
            .data = dir, .partitions = PARTITIONS, .damage = damage_new(PARTITIONS), .belief = BELIEVE_THE_FILE};
        assert_int_equal(recovery_run(&recovery), OK);
        assert_false(damage_any(recovery.damage));
        for (unsigned p = 0; p < PARTITIONS; p++) {
            check_start(&recovery.starts[p], &model, p);
            with_runs += recovery.starts[p].runs_len > 1;
        }
        recovery_close(&recovery, true);
        damage_free(recovery.damage);
        remove_dir(dir);
    }
    assert_true(with_runs > 10);
}

/* A log that begins elsewhere, as a restore or a recovery leaves it, has nothing older. */
static void test_a_log_that_begins_elsewhere_has_no_older_entries(void **unused)
{
    (void)unused;
    char dir[] = "/tmp/belfry-recovery-XXXXXX";
    static struct model model;
    const uint64_t applied[PARTITIONS] = {50, 7};
    assert_non_null(mkdtemp(dir));
    struct segments *log = open_log(dir);
    for (uint16_t g = 0; g < PARTITIONS; g++) {
        assert_int_equal(segments_begin_group(log, g, 4, applied[g], 3), OK);
        add_entry(log, g, applied[g] + 1, 4);
        model.terms[g][applied[g]] = 3;
        model.terms[g][applied[g] + 1] = 4;
        model.first[g] = model.last[g] = applied[g] + 1;
    }
    assert_int_equal(segments_commit(log), OK);
    segments_close(log);
    write_state(dir, applied, &model);
    struct recovery recovery = {
        .data = dir, .partitions = PARTITIONS, .damage = damage_new(PARTITIONS), .belief = BELIEVE_THE_FILE};
    assert_int_equal(recovery_run(&recovery), OK);
    assert_false(damage_any(recovery.damage));
    for (unsigned p = 0; p < PARTITIONS; p++) {
        assert_int_equal(recovery.starts[p].runs_len, 0);
        check_start(&recovery.starts[p], &model, p);
    }
    recovery_close(&recovery, true);
    damage_free(recovery.damage);
    remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_start_knows_the_terms_as_far_back_as_the_log_goes),
        cmocka_unit_test(test_a_log_that_begins_elsewhere_has_no_older_entries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
