/* A partition is installed from another replica, step by step, and the process is killed, or the power fails,
 * behind every step, with durable points taken in between or not. What a start then finds is whole: the state
 * of before or of after the install, and a log that goes with it; and it can be gone on from there, also when
 * the power fails again at once. */
#include "node/recovery.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/test.h"

enum {
    PARTITIONS = 2,
    SEGMENT = 8192,
    OLD = 30,       /* entries applied before */
    SNAPSHOT = 100, /* the entry installed up to */
    TERM = 3,       /* of that entry */
    PAGE = 4096
};

/* What the log of the group has beyond what is applied when the install begins. */
enum tail { TAIL_NONE, TAIL_SHORT, TAIL_OTHER /* another leader's, longer than the snapshot */, TAIL_SAME, TAILS };

struct run {
    struct random *random;
    char dir[64];
    enum tail tail;
    struct state *state;
    struct segments *log;
    struct state_pin *pin;
    uint8_t *synced; /* the state's file at the newest durable point */
    size_t synced_len;
    uint64_t last[PARTITIONS], applied[PARTITIONS]; /* of the log, of the state */
    bool switched, told;                            /* installed in the state; and in the log */
    uint64_t durable[PARTITIONS];                   /* applied as of the newest point */
    bool durable_switched;
};

static void path_of(const struct run *run, const char *name, char *out)
{
    (void)snprintf(out, 128, "%s/%s", run->dir, name);
}

/* ---- what steps are made of ---- */

static void add(struct run *run, uint8_t type, uint16_t group, uint64_t index, uint64_t term)
{
    uint8_t payload[40];
    memset(payload, (int)(index + term), sizeof payload);
    struct bytes body = type == RECORD_ENTRY ? bytes_of(payload, sizeof payload) : BYTES_NONE;
    assert_int_equal(segments_add(run->log, &(struct segment_record){type, 1, group, index, term, body}), OK);
    if (type != RECORD_HARD_STATE) {
        run->last[group] = index;
    }
}

static void commit_log(struct run *run)
{
    assert_int_equal(segments_commit(run->log), OK);
}

/* Each entry writes one row; so what is applied tells what the rows are. */
static void put_row(struct rows *rows, uint64_t index)
{
    char key[16], value[200];
    (void)snprintf(key, sizeof key, "k%03d", (int)(index * 7 % 60));
    memset(value, (int)('a' + index % 26), sizeof value);
    assert_int_equal(rows_put(rows, 1, bytes_str(key), bytes_of(value, 20 + index * 11 % 180)), OK);
}

static void apply_to(struct run *run, unsigned p, uint64_t to, uint64_t term)
{
    assert_int_equal(state_begin(run->state), OK);
    while (run->applied[p] < to) {
        put_row(state_rows(run->state, p), ++run->applied[p]);
    }
    state_partition_edit(run->state, p)->applied_index = to;
    state_partition_edit(run->state, p)->applied_term = term;
    assert_int_equal(state_commit(run->state), OK);
}

static size_t read_file(const char *path, uint8_t **out)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    *out = mem_alloc((size_t)st.st_size + 1);
    assert_int_equal(read(fd, *out, (size_t)st.st_size), st.st_size);
    (void)close(fd);
    return (size_t)st.st_size;
}

static void take_point(struct run *run)
{
    char path[128];
    struct state_pin *pin;
    path_of(run, "state/data.mdb", path);
    assert_int_equal(state_pin(run->state, &pin), OK);
    assert_int_equal(state_pin_sync(pin), OK);
    free(run->synced);
    run->synced_len = read_file(path, &run->synced);
    assert_int_equal(durable_save(disk_posix(), run->dir, "durable", PARTITIONS, pin), OK);
    state_pin_free(run->pin);
    run->pin = pin;
    if (run->log != NULL) {
        assert_int_equal(segments_drop(run->log, run->durable), OK); /* behind the point before */
    }
    memcpy(run->durable, run->applied, sizeof run->durable);
    run->durable_switched = run->switched;
}

/* ---- the install ---- */

static void stage(struct run *run, uint64_t from, uint64_t to)
{
    assert_int_equal(state_begin(run->state), OK);
    for (uint64_t i = from; i <= to; i++) {
        put_row(state_stage_rows(run->state, 1), i);
    }
    assert_int_equal(state_commit(run->state), OK);
}

static void step_clear_first(struct run *run)
{
    bool done;
    assert_int_equal(state_begin(run->state), OK);
    assert_int_equal(state_stage_clear(run->state, 1, SIZE_MAX - 1, &done), OK);
    assert_true(done);
    assert_int_equal(state_commit(run->state), OK);
}

static void step_stage_some(struct run *run)
{
    stage(run, 1, SNAPSHOT / 2);
}

static void step_other_applies(struct run *run)
{
    add(run, RECORD_ENTRY, 0, run->last[0] + 1, 2);
    commit_log(run);
    apply_to(run, 0, run->last[0], 2);
}

static void step_stage_rest(struct run *run)
{
    stage(run, SNAPSHOT / 2 + 1, SNAPSHOT);
}

/* The bookkeeping that the leader sends along: of another state, where the rows were always live. */
static struct state_partition leader_book(const struct run *run)
{
    char path[128];
    struct run leader = {.random = run->random};
    path_of(run, "leader", path);
    struct state_options options = {.dir = path, .partitions = PARTITIONS, .map_bytes = 1ULL << 28};
    assert_int_equal(state_open(&options, &leader.state), OK);
    leader.applied[1] = state_partition(leader.state, 1)->applied_index;
    apply_to(&leader, 1, SNAPSHOT, TERM);
    struct state_partition book = *state_partition(leader.state, 1);
    state_close(leader.state);
    return book;
}

static void step_switch(struct run *run)
{
    struct state_partition book = leader_book(run);
    assert_int_equal(state_begin(run->state), OK);
    assert_int_equal(state_stage_switch(run->state, 1, &book), OK);
    assert_int_equal(state_commit(run->state), OK);
    run->applied[1] = SNAPSHOT;
    run->switched = true;
}

static void step_record(struct run *run)
{
    add(run, RECORD_LAST, 1, SNAPSHOT, TERM);
    commit_log(run);
    run->told = true;
}

static void step_follow(struct run *run)
{
    add(run, RECORD_HARD_STATE, 0, 0, TERM + 1);
    add(run, RECORD_HARD_STATE, 1, 0, TERM + 1);
    for (int i = 0; i < 5; i++) {
        add(run, RECORD_ENTRY, 1, run->last[1] + 1, TERM + 1);
    }
    commit_log(run);
}

static void step_apply(struct run *run)
{
    apply_to(run, 1, run->last[1] - 2, TERM + 1);
}

static void step_clear_some(struct run *run)
{
    bool done;
    assert_int_equal(state_begin(run->state), OK);
    assert_int_equal(state_stage_clear(run->state, 1, 10, &done), OK);
    assert_int_equal(state_commit(run->state), OK);
}

/* So much that old segments go. */
static void step_go_on(struct run *run)
{
    for (int i = 0; i < 200; i++) {
        add(run, RECORD_ENTRY, 1, run->last[1] + 1, TERM + 1);
        add(run, RECORD_ENTRY, 0, run->last[0] + 1, TERM + 1);
        commit_log(run);
    }
    apply_to(run, 1, run->last[1], TERM + 1);
    apply_to(run, 0, run->last[0], TERM + 1);
}

static void step_point(struct run *run)
{
    take_point(run);
}

static const struct step {
    void (*run)(struct run *run);
    bool optional; /* a point that may be taken here, or not */
} steps[] = {
    {step_clear_first}, {step_stage_some},  {step_point, true}, {step_other_applies}, {step_stage_rest},
    {step_point, true}, {step_switch},      {step_point},       {step_point, true},   {step_record},
    {step_follow},      {step_point, true}, {step_apply},       {step_clear_some},    {step_point, true},
    {step_go_on},       {step_point, true}, {step_clear_some},  {step_point, true},
};
enum { STEPS = sizeof steps / sizeof *steps, SWITCHED = 7 /* the step is done */, FOLLOWED = 11 };

/* ---- a run, up to a crash ---- */

static void no_record(void *ctx, const struct segment_record *record)
{
    (void)ctx;
    (void)record;
}

static void open_run(struct run *run)
{
    char path[128], why[256];
    path_of(run, "log", path);
    struct segments_options options = {disk_posix(), path, PARTITIONS, SEGMENT};
    assert_int_equal(segments_open(&options, no_record, NULL, &run->log, why, sizeof why), OK);
    path_of(run, "state", path);
    struct state_options state_options = {.dir = path, .partitions = PARTITIONS, .map_bytes = 1ULL << 28};
    assert_int_equal(state_open(&state_options, &run->state), OK);
}

/* In memory, where there is such a place: what syncs would lose is made here. */
static void make_dir(struct run *run)
{
    const char *parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(run->dir, sizeof run->dir, "%s/belfry-install-XXXXXX", parent);
    assert_non_null(mkdtemp(run->dir));
}

static void begin(struct run *run)
{
    make_dir(run);
    open_run(run);
    assert_int_equal(durable_mark_running(disk_posix(), run->dir), OK);
    take_point(run);
    for (uint16_t g = 0; g < PARTITIONS; g++) {
        add(run, RECORD_HARD_STATE, g, 0, 2);
        for (uint64_t i = 1; i <= OLD; i++) {
            add(run, RECORD_ENTRY, g, i, 1);
        }
    }
    commit_log(run);
    uint64_t to = run->tail == TAIL_SHORT ? OLD + 5 : run->tail == TAIL_NONE ? OLD : SNAPSHOT + 40;
    uint64_t term = run->tail == TAIL_SAME ? TERM : 2;
    if (run->tail == TAIL_SAME) {
        add(run, RECORD_HARD_STATE, 1, 0, TERM);
    }
    while (run->last[1] < to) {
        add(run, RECORD_ENTRY, 1, run->last[1] + 1, term);
    }
    commit_log(run);
    apply_to(run, 0, OLD, 1);
    apply_to(run, 1, OLD, 1);
    take_point(run);
}

/* The power fails: each page of the state is as it was at the point, or as it is now; another boot follows. */
static void lose_pages(struct run *run)
{
    char path[128];
    uint8_t *now;
    path_of(run, "state/data.mdb", path);
    size_t len = read_file(path, &now);
    for (size_t at = 0; at + PAGE <= len; at += PAGE) {
        if (below(run->random, 2) == 0) {
            continue;
        }
        if (at + PAGE <= run->synced_len) {
            memcpy(now + at, run->synced + at, PAGE);
        } else {
            memset(now + at, 0, PAGE);
        }
    }
    int fd = open(path, O_WRONLY | O_TRUNC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, now, len), (ssize_t)len);
    (void)close(fd);
    free(now);
    assert_int_equal(disk_replace(disk_posix(), run->dir, "running", BYTES_LIT("another boot\n")), OK);
}

static void crash(struct run *run, bool power)
{
    state_pin_free(run->pin);
    run->pin = NULL;
    state_close(run->state);
    segments_close(run->log);
    run->state = NULL;
    run->log = NULL;
    if (power) {
        lose_pages(run);
        memcpy(run->applied, run->durable, sizeof run->applied);
        run->switched = run->durable_switched;
    }
}

/* ---- the start that follows ---- */

static void check_rows(const struct run *run, unsigned p)
{
    char path[128];
    struct run model = {.random = run->random};
    path_of(run, "model", path);
    struct state_options options = {.dir = path, .partitions = PARTITIONS, .map_bytes = 1ULL << 28};
    assert_int_equal(state_open(&options, &model.state), OK);
    apply_to(&model, p, run->applied[p], 1);
    const struct state_partition *wanted = state_partition(model.state, p), *book = state_partition(run->state, p);
    assert_int_equal(book->set_hash, wanted->set_hash);
    assert_memory_equal(book->counts, wanted->counts, sizeof book->counts);
    state_close(model.state);
    assert_int_equal(state_erase(path), OK);
}

static void check_start(const struct run *run, const struct recovery *recovery, unsigned p)
{
    const struct group_start *start = &recovery->starts[p];
    uint64_t term = start->applied_term;
    assert_int_equal(start->applied_index, run->applied[p]);
    assert_true(start->term >= start->applied_term);
    for (size_t i = 0; i < start->entries_len; i++) {
        assert_int_equal(start->entries[i].index, start->applied_index + 1 + i);
        assert_true(start->entries[i].term >= term);
        term = start->entries[i].term;
    }
    assert_true(term <= start->term);
    bool switched = p == 1 && run->switched;
    bool untold = switched && !run->told;
    bool restarts = untold && run->tail != TAIL_SAME;
    assert_int_equal(recovery->restart_log[p], restarts);
    uint64_t last = restarts ? SNAPSHOT : run->last[p];
    assert_int_equal(start->entries_len, last - start->applied_index);
    assert_int_equal(recovery->last[p], last);
    assert_true(start->runs_len == 0 || start->runs[start->runs_len - 1].last == start->applied_index);
    if (restarts) {
        assert_int_equal(start->runs_len, 0);
    }
}

static void look(struct run *run, struct recovery *recovery)
{
    *recovery = (struct recovery){.data = run->dir, .partitions = PARTITIONS, .damage = damage_new(PARTITIONS)};
    assert_int_equal(recovery_run(recovery), OK);
    if (damage_any(recovery->damage)) {
        struct buf text = {0};
        damage_write(recovery->damage, "", &text);
        fail_msg("%.*s", (int)text.len, (const char *)text.ptr);
    }
    for (unsigned p = 0; p < PARTITIONS; p++) {
        check_start(run, recovery, p);
    }
}

static void end_look(struct recovery *recovery)
{
    damage_free(recovery->damage);
    recovery_close(recovery, true);
}

/* As a node does it. */
static void start(struct run *run, bool dies_early)
{
    char path[128];
    struct recovery recovery;
    look(run, &recovery);
    path_of(run, "log", path);
    struct segments_options options = {disk_posix(), path, PARTITIONS, SEGMENT};
    assert_int_equal(segments_continue(&options, &recovery.scan, &run->log), OK);
    if (recovery.look.start == DURABLE_CRASHED || recovery.from_log) {
        assert_int_equal(durable_restore(run->dir, &recovery.look), OK);
    }
    assert_int_equal(durable_mark_running(disk_posix(), run->dir), OK);
    path_of(run, "state", path);
    struct state_options state_options = {.dir = path, .partitions = PARTITIONS, .map_bytes = 1ULL << 28};
    assert_int_equal(state_open(&state_options, &run->state), OK);
    bool restarts = recovery.restart_log[1];
    if (!(restarts && dies_early)) {
        assert_int_equal(recovery_restart_logs(&recovery, run->state, run->log), OK);
    }
    if (restarts && !dies_early) {
        run->last[1] = SNAPSHOT;
        run->told = true;
        memcpy(run->durable, run->applied, sizeof run->durable); /* it made a point of it */
        run->durable_switched = true;
        path_of(run, "state/data.mdb", path);
        free(run->synced);
        run->synced_len = read_file(path, &run->synced);
    }
    for (unsigned p = 0; p < PARTITIONS; p++) {
        check_rows(run, p);
    }
    end_look(&recovery);
}

/* Entries follow, and are applied. */
static void go_on(struct run *run)
{
    take_point(run);
    for (uint16_t g = 0; g < PARTITIONS; g++) {
        add(run, RECORD_HARD_STATE, g, 0, TERM + 2);
        for (int i = 0; i < 20; i++) {
            add(run, RECORD_ENTRY, g, run->last[g] + 1, TERM + 2);
        }
    }
    commit_log(run);
    for (unsigned p = 0; p < PARTITIONS; p++) {
        assert_true(run->last[p] >= run->applied[p] + 20);
        apply_to(run, p, run->last[p] - 3, TERM + 2);
    }
    run->told = run->told || run->switched; /* entries follow what was installed */
}

static void remove_dir(const struct run *run)
{
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r %s", run->dir);
    assert_int_equal(system(command), 0);
}

/* How it dies: by a kill, or the power failing; then perhaps once more in the start that follows, before the log
 * begins anew; then perhaps right after it. */
enum { MODES = 12 };

/* Up to that many steps, with those of the optional points; then crashes, starts, and both again. */
static void crash_behind(struct random *random, enum tail tail, size_t count, unsigned points, unsigned mode)
{
    struct run run = {.random = random, .tail = tail};
    unsigned point = 0;
    begin(&run);
    for (size_t i = 0; i < count; i++) {
        bool taken = !steps[i].optional || (points >> point & 1) != 0;
        point += steps[i].optional;
        if (taken) {
            steps[i].run(&run);
        }
    }
    crash(&run, mode % 2 == 0);
    if (mode / 2 % 2 == 0) {
        start(&run, true);
        crash(&run, below(random, 2) == 0);
    }
    start(&run, false);
    if (mode / 4 > 0) {
        crash(&run, mode / 4 == 2);
        start(&run, false);
    }
    go_on(&run);
    crash(&run, below(random, 2) == 0);
    start(&run, false);
    crash(&run, false);
    free(run.synced);
    remove_dir(&run);
}

/* Every way between the switch and what follows the record of it, some elsewhere. */
static void test_an_install_survives_a_crash_behind_every_step(void **unused)
{
    (void)unused;
    struct random random;
    random_init_seed(&random, test_seed(__func__));
    for (int tail = 0; tail < TAILS; tail++) {
        for (size_t count = 0; count <= STEPS; count++) {
            bool all = count >= SWITCHED && count <= FOLLOWED;
            for (unsigned i = 0; i < (all ? MODES : 3); i++) {
                unsigned mode = all ? i : (unsigned)below(&random, MODES);
                unsigned points = i == 0 ? 0 : i == 1 ? UINT_MAX : (unsigned)random_u64(&random);
                crash_behind(&random, (enum tail)tail, count, points, mode);
            }
        }
    }
}

/* The log was cut so that it begins behind the very entry the state was installed up to. */
static void test_a_log_that_begins_behind_another_entry_is_told_by_its_term(void **unused)
{
    (void)unused;
    for (uint64_t term = TERM - 1; term <= TERM; term++) {
        struct run run = {.applied = {0, SNAPSHOT}, .last = {0, SNAPSHOT}};
        struct recovery recovery = {.data = run.dir, .partitions = PARTITIONS, .belief = BELIEVE_THE_FILE};
        make_dir(&run);
        open_run(&run);
        assert_int_equal(segments_begin_group(run.log, 1, TERM, SNAPSHOT, term), OK);
        for (uint64_t i = 1; i <= 3; i++) {
            add(&run, RECORD_ENTRY, 1, SNAPSHOT + i, TERM);
        }
        commit_log(&run);
        assert_int_equal(state_begin(run.state), OK);
        *state_partition_edit(run.state, 1) =
            (struct state_partition){.applied_index = SNAPSHOT, .applied_term = TERM, .installed_index = SNAPSHOT};
        assert_int_equal(state_commit(run.state), OK);
        state_close(run.state);
        segments_close(run.log);
        recovery.damage = damage_new(PARTITIONS);
        assert_int_equal(recovery_run(&recovery), OK);
        assert_false(damage_any(recovery.damage));
        assert_int_equal(recovery.restart_log[1], term != TERM);
        assert_int_equal(recovery.starts[1].entries_len, term == TERM ? 3 : 0);
        end_look(&recovery);
        remove_dir(&run);
    }
}

/* What no install explains stays damage: entries that were applied and are not in the log. */
static void test_a_log_that_lacks_applied_entries_is_damaged(void **unused)
{
    (void)unused;
    const uint64_t installed[] = {0, SNAPSHOT - 1};
    for (size_t i = 0; i < 2; i++) {
        struct run run = {0};
        struct recovery recovery = {.data = run.dir, .partitions = PARTITIONS, .belief = BELIEVE_THE_FILE};
        make_dir(&run);
        open_run(&run);
        add(&run, RECORD_ENTRY, 1, 1, 1);
        commit_log(&run);
        assert_int_equal(state_begin(run.state), OK);
        *state_partition_edit(run.state, 1) =
            (struct state_partition){.applied_index = SNAPSHOT, .applied_term = TERM, .installed_index = installed[i]};
        assert_int_equal(state_commit(run.state), OK);
        state_close(run.state);
        segments_close(run.log);
        recovery.damage = damage_new(PARTITIONS);
        assert_int_equal(recovery_run(&recovery), OK);
        assert_true(damage_in(recovery.damage, DAMAGE_LOG));
        assert_false(recovery.restart_log[1]);
        end_look(&recovery);
        remove_dir(&run);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_install_survives_a_crash_behind_every_step),
        cmocka_unit_test(test_a_log_that_begins_behind_another_entry_is_told_by_its_term),
        cmocka_unit_test(test_a_log_that_lacks_applied_entries_is_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
