/* The two slots of a partition against a model: rows staged, cleared and switched in at random, aborted and
 * reopened, with readers that hold older snapshots; and what the check without LMDB says of the file. */
#include "storage/state_check.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/backup.h"
#include "storage/row.h"
#include "tests/support/model_rows.h"
#include "tests/support/test.h"

enum { PARTITIONS = 10 /* more than a byte of slots */, BUSY = 3, TABLES = 3, READERS = 4 };

static char dir[64];

static void fresh_dir(void)
{
    (void)snprintf(dir, sizeof dir, "/tmp/belfry-stage-XXXXXX");
    assert_non_null(mkdtemp(dir));
}

static void remove_dir(void)
{
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

static unsigned told_of; /* a bit a partition */

static void on_damaged(void *ctx, unsigned partition)
{
    (void)ctx;
    told_of |= 1U << partition;
}

static struct state *open_state_how(bool read_only)
{
    struct state *state = NULL;
    struct state_options options = {
        .dir = dir, .partitions = PARTITIONS, .map_bytes = 1ULL << 30, .read_only = read_only, .damaged = on_damaged};
    assert_int_equal(state_open(&options, &state), OK);
    return state;
}

static struct state *open_state(void)
{
    return open_state_how(false);
}

/* ---- the check ---- */

struct found {
    int count, whole;
    bool partitions[PARTITIONS];
    char first[256];
    struct model_rows *rows; /* a partition, or NULL */
};

static void on_fault(void *ctx, int partition, const char *text)
{
    struct found *found = ctx;
    if (found->count++ == 0) {
        (void)snprintf(found->first, sizeof found->first, "%s", text);
    }
    found->whole += partition < 0;
    if (partition >= 0) {
        found->partitions[partition] = true;
    }
}

static void on_row(void *ctx, unsigned partition, uint8_t table, struct bytes key, struct bytes value)
{
    struct found *found = ctx;
    assert_int_equal(rows_put(&found->rows[partition].rows, table, key, value), OK);
}

static struct found check_file(struct state_partition *books, struct model_rows *rows)
{
    struct found found = {.rows = rows};
    struct state_check check = {.dir = dir,
                                .partitions = PARTITIONS,
                                .fault = on_fault,
                                .row = rows == NULL ? NULL : on_row,
                                .ctx = &found,
                                .books = books};
    assert_int_equal(state_check_run(&check), OK);
    return found;
}

/* ---- the model ---- */

struct slot {
    struct model_rows rows;
    uint64_t applied, installed;
};

struct world {
    struct slot live[PARTITIONS], stage[PARTITIONS];
};

static void slot_copy(struct slot *to, const struct slot *from)
{
    *to = *from;
    model_rows_init(&to->rows);
    for (size_t i = 0; i < from->rows.len; i++) {
        const struct model_row *row = &from->rows.list[i];
        assert_int_equal(rows_put(&to->rows.rows, row->table, row->key, row->value), OK);
    }
}

static void world_init(struct world *world)
{
    *world = (struct world){0};
    for (int p = 0; p < PARTITIONS; p++) {
        model_rows_init(&world->live[p].rows);
        model_rows_init(&world->stage[p].rows);
    }
}

static void world_copy(struct world *to, const struct world *from)
{
    for (int p = 0; p < PARTITIONS; p++) {
        slot_copy(&to->live[p], &from->live[p]);
        slot_copy(&to->stage[p], &from->stage[p]);
    }
}

static void world_close(struct world *world)
{
    for (int p = 0; p < PARTITIONS; p++) {
        model_rows_close(&world->live[p].rows);
        model_rows_close(&world->stage[p].rows);
    }
}

/* The bookkeeping of those rows, as any replica has it. */
static struct state_partition book_of(unsigned partition, const struct slot *slot)
{
    struct state_partition book = {.applied_index = slot->applied, .installed_index = slot->installed};
    for (size_t i = 0; i < slot->rows.len; i++) {
        const struct model_row *row = &slot->rows.list[i];
        uint8_t key[ROW_KEY_MAX] = {(uint8_t)(partition >> 8), (uint8_t)partition, row->table};
        if (row->key.len > 0) {
            memcpy(key + ROW_PREFIX_BYTES, row->key.ptr, row->key.len);
        }
        book.counts[row->table]++;
        book.set_hash += row_sum(bytes_of(key, ROW_PREFIX_BYTES + row->key.len), row->value);
    }
    return book;
}

/* ---- what is read ---- */

struct scan {
    const struct model_rows *model;
    size_t at;
};

static enum err compare_row(void *ctx, uint8_t table, struct bytes key, struct bytes value)
{
    struct scan *scan = ctx;
    assert_true(scan->at < scan->model->len);
    const struct model_row *row = &scan->model->list[scan->at++];
    assert_true(row->table == table && bytes_eq(row->key, key) && bytes_eq(row->value, value));
    return OK;
}

/* A snapshot is what was live when it was taken. */
static void check_reader(struct state_reader *reader, const struct world *world)
{
    for (unsigned p = 0; p < PARTITIONS; p++) {
        const struct slot *slot = &world->live[p];
        struct scan scan = {&slot->rows, 0};
        struct state_partition book, wanted = book_of(p, slot);
        assert_int_equal(state_reader_scan(reader, p, compare_row, &scan), OK);
        assert_int_equal(scan.at, slot->rows.len);
        assert_int_equal(state_reader_partition(reader, p, &book), OK);
        assert_memory_equal(&book, &wanted, sizeof book);
        for (size_t i = 0; i < slot->rows.len; i += 7) {
            const struct model_row *row = &slot->rows.list[i];
            struct bytes value, key;
            assert_int_equal(rows_get(state_reader_rows(reader, p), row->table, row->key, &value), OK);
            assert_true(bytes_eq(value, row->value));
            assert_int_equal(rows_ceil(state_reader_rows(reader, p), row->table, row->key, &key, &value), OK);
            assert_true(bytes_eq(key, row->key));
        }
    }
}

static void check_rows(struct rows *rows, const struct model_rows *model)
{
    size_t at = 0;
    uint8_t from[ROW_KEY_MAX];
    for (uint8_t table = 1; table <= TABLES; table++) {
        struct bytes next = BYTES_NONE, key, value;
        while (rows_ceil(rows, table, next, &key, &value) == OK) {
            assert_true(at < model->len && model->list[at].table == table);
            assert_true(bytes_eq(model->list[at].key, key) && bytes_eq(model->list[at].value, value));
            at++;
            memcpy(from, key.ptr, key.len);
            from[key.len] = 0;
            next = bytes_of(from, key.len + 1);
        }
    }
    assert_int_equal(at, model->len);
}

/* The file, read without LMDB: nothing of a stage counts, and its rows are not handed on. */
static void check_whole(const struct world *world)
{
    struct state_partition books[PARTITIONS];
    struct model_rows rows[PARTITIONS];
    for (unsigned p = 0; p < PARTITIONS; p++) {
        model_rows_init(&rows[p]);
    }
    struct found found = check_file(books, rows);
    if (found.count > 0) {
        fail_msg("%s", found.first);
    }
    assert_int_equal(check_file(books, NULL).count, 0);
    for (unsigned p = 0; p < PARTITIONS; p++) {
        struct state_partition wanted = book_of(p, &world->live[p]);
        assert_memory_equal(&books[p], &wanted, sizeof wanted);
        check_rows(&rows[p].rows, &world->live[p].rows);
        model_rows_close(&rows[p]);
    }
}

/* ---- what is written ---- */

static void random_writes(struct rows *real, struct rows *model, struct random *random)
{
    uint8_t raw[4], value[6000];
    uint64_t writes = below(random, 15);
    for (uint64_t i = 0; i < writes; i++) {
        uint8_t table = (uint8_t)(1 + below(random, TABLES));
        size_t key_len = below(random, sizeof raw);
        for (size_t k = 0; k < key_len; k++) {
            raw[k] = (uint8_t)(below(random, 3) * 127);
        }
        struct bytes key = bytes_of(raw, key_len);
        if (below(random, 4) == 0) {
            assert_int_equal(rows_del(real, table, key), rows_del(model, table, key));
            continue;
        }
        size_t len = below(random, 10) == 0 ? below(random, sizeof value) : below(random, 50);
        random_fill(random, value, len);
        assert_int_equal(rows_put(real, table, key, bytes_of(value, len)), OK);
        assert_int_equal(rows_put(model, table, key, bytes_of(value, len)), OK);
    }
}

static void clear_stage(struct state *state, struct world *world, unsigned p, size_t limit)
{
    struct model_rows *model = &world->stage[p].rows;
    bool done, all = model->len <= limit;
    assert_int_equal(state_stage_clear(state, p, limit, &done), OK);
    assert_int_equal(done, all);
    for (size_t i = 0; i < limit && model->len > 0; i++) {
        struct model_row *row = &model->list[0];
        assert_int_equal(rows_del(&model->rows, row->table, row->key), OK);
    }
}

/* True when it was switched. */
static bool switch_stage(struct state *state, struct world *world, unsigned p, struct random *random)
{
    struct slot old = world->live[p];
    world->stage[p].applied = old.applied + 1 + below(random, 100);
    struct state_partition book = book_of(p, &world->stage[p]);
    book.applied_term = book.applied_index / 10;
    if (below(random, 4) == 0) {
        book.set_hash += below(random, 2) == 0;
        book.counts[1] += book.set_hash == book_of(p, &world->stage[p]).set_hash;
        assert_int_equal(state_stage_switch(state, p, &book), ERR_CORRUPT);
        world->stage[p].applied = 0;
        return false;
    }
    book.applied_term = 0; /* the model knows none */
    assert_int_equal(state_stage_switch(state, p, &book), OK);
    world->live[p] = world->stage[p];
    world->live[p].installed = world->live[p].applied;
    world->stage[p] = old;
    world->stage[p].applied = world->stage[p].installed = 0;
    return true;
}

static void write_something(struct state *state, struct world *world, unsigned p, struct random *random,
                            uint64_t *switches)
{
    switch (below(random, 6)) {
    case 0:
    case 1:
        random_writes(state_rows(state, p), &world->live[p].rows.rows, random);
        world->live[p].applied++;
        state_partition_edit(state, p)->applied_index++;
        break;
    case 2:
    case 3: random_writes(state_stage_rows(state, p), &world->stage[p].rows.rows, random); break;
    case 4: clear_stage(state, world, p, 1 + below(random, 40)); break;
    default: *switches += switch_stage(state, world, p, random); break;
    }
}

/* A few of these, in one transaction. */
static void transact(struct state *state, struct world *world, struct random *random, uint64_t *switches)
{
    struct world before;
    uint64_t writes = 1 + below(random, 3);
    world_copy(&before, world);
    assert_int_equal(state_begin(state), OK);
    for (uint64_t i = 0; i < writes; i++) {
        unsigned p = (unsigned)below(random, BUSY) * (PARTITIONS - 1) / (BUSY - 1); /* 0, 4, 9 */
        write_something(state, world, p, random, switches);
        check_rows(state_rows(state, p), &world->live[p].rows);
        check_rows(state_stage_rows(state, p), &world->stage[p].rows);
    }
    if (below(random, 5) == 0) {
        state_abort(state);
        world_close(world);
        *world = before;
        return;
    }
    assert_int_equal(state_commit(state), OK);
    world_close(&before);
}

struct held {
    struct state_reader *reader;
    struct world world;
    bool open;
};

static void release(struct held *held)
{
    if (held->open) {
        world_close(&held->world);
        held->open = false;
    }
}

static void use_reader(struct held *held, const struct world *world, struct random *random)
{
    if (held->open && below(random, 2) == 0) {
        check_reader(held->reader, &held->world);
        return;
    }
    release(held);
    if (below(random, 4) == 0) {
        state_reader_reset(held->reader);
        return;
    }
    assert_int_equal(state_reader_renew(held->reader), OK);
    world_copy(&held->world, world);
    held->open = true;
    check_reader(held->reader, &held->world);
}

static struct state *reopen(struct state *state, struct held *held, const struct world *world)
{
    for (int r = 0; r < READERS; r++) {
        release(&held[r]);
        state_reader_free(held[r].reader);
    }
    if (state != NULL) {
        state_close(state);
        check_whole(world);
    }
    state = open_state();
    for (int r = 0; r < READERS; r++) {
        assert_int_equal(state_reader_new(state, &held[r].reader), OK);
    }
    for (unsigned p = 0; p < PARTITIONS; p++) {
        struct state_partition wanted = book_of(p, &world->live[p]);
        assert_memory_equal(state_partition(state, p), &wanted, sizeof wanted);
    }
    return state;
}

static void test_slots_behave_as_the_model(void **unused)
{
    (void)unused;
    struct random random;
    struct world world;
    struct held held[READERS] = {0};
    uint64_t switches = 0;
    random_init_seed(&random, test_seed(__func__));
    fresh_dir();
    world_init(&world);
    struct state *state = reopen(NULL, held, &world);
    for (int step = 0; step < 2000; step++) {
        transact(state, &world, &random, &switches);
        use_reader(&held[below(&random, READERS)], &world, &random);
        if (below(&random, 100) == 0) {
            state = reopen(state, held, &world);
        }
    }
    state = reopen(state, held, &world);
    assert_true(switches > 100);
    for (int r = 0; r < READERS; r++) {
        state_reader_free(held[r].reader);
    }
    state_close(state);
    world_close(&world);
    remove_dir();
}

/* ---- what is not in the model ---- */

static void fill(struct rows *rows, const char *what, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(rows_put(rows, 1, bytes_of(&i, sizeof i), bytes_str(what)), OK);
    }
}

/* The stage of the partition, filled with so many rows of that value, becomes live. */
static void install(struct state *state, unsigned p, const char *what, unsigned count, uint64_t applied)
{
    struct slot slot = {.applied = applied};
    model_rows_init(&slot.rows);
    fill(&slot.rows.rows, what, count);
    struct state_partition book = book_of(p, &slot);
    bool done;
    assert_int_equal(state_begin(state), OK);
    assert_int_equal(state_stage_clear(state, p, 1000000, &done), OK);
    assert_true(done);
    fill(state_stage_rows(state, p), what, count);
    assert_int_equal(state_commit(state), OK);
    assert_int_equal(state_begin(state), OK);
    assert_int_equal(state_stage_switch(state, p, &book), OK);
    assert_int_equal(state_commit(state), OK);
    model_rows_close(&slot.rows);
}

struct same {
    struct bytes value;
    unsigned count;
};

static enum err same_value(void *ctx, uint8_t table, struct bytes key, struct bytes value)
{
    struct same *same = ctx;
    (void)table;
    (void)key;
    same->value = same->count++ == 0 ? value : same->value;
    return bytes_eq(value, same->value) ? OK : ERR_CONFLICT;
}

/* All rows of a snapshot are those of one install. */
static uint64_t check_snapshot(struct state_reader *reader, unsigned p)
{
    struct same same = {0};
    struct state_partition book;
    assert_int_equal(state_reader_renew(reader), OK);
    assert_int_equal(state_reader_scan(reader, p, same_value, &same), OK);
    assert_int_equal(state_reader_partition(reader, p, &book), OK);
    assert_int_equal(same.count, book.counts[1]);
    char applied[16];
    (void)snprintf(applied, sizeof applied, "%d", (int)book.applied_index);
    assert_true(book.applied_index == 0 || bytes_is(same.value, applied));
    state_reader_reset(reader);
    return book.applied_index;
}

struct race {
    struct state *state;
    atomic_bool stop;
    uint64_t seen;
};

static void *read_on(void *arg)
{
    struct race *race = arg;
    struct state_reader *reader;
    assert_int_equal(state_reader_new(race->state, &reader), OK);
    while (!atomic_load(&race->stop)) {
        uint64_t applied = check_snapshot(reader, 2);
        assert_true(applied >= race->seen);
        race->seen = applied;
    }
    state_reader_free(reader);
    return NULL;
}

static void test_readers_beside_switches_see_one_slot_each(void **unused)
{
    (void)unused;
    pthread_t threads[2];
    fresh_dir();
    struct race races[2] = {{.state = open_state()}, {0}};
    races[1].state = races[0].state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, &races[i]), 0);
    }
    for (unsigned i = 1; i <= 500; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%u", i);
        install(races[0].state, 2, text, 1 + i % 50, i);
    }
    for (int i = 0; i < 2; i++) {
        atomic_store(&races[i].stop, true);
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_true(races[0].seen > 0);
    state_close(races[0].state);
    remove_dir();
}

/* A process that only reads, as a backup does, is told of no switch. */
static void test_another_process_follows_a_switch(void **unused)
{
    (void)unused;
    int to[2], from[2];
    char byte = 0;
    fresh_dir();
    assert_true(pipe(to) == 0 && pipe(from) == 0);
    struct state *state = open_state();
    install(state, 1, "1", 5, 1);
    state_close(state); /* LMDB is not to be taken through a fork */
    pid_t child = fork();
    (void)close(child == 0 ? to[1] : to[0]); /* the end of one is told to the other */
    (void)close(child == 0 ? from[0] : from[1]);
    if (child == 0) {
        struct state_reader *reader;
        state = open_state_how(true);
        bool good = state_reader_new(state, &reader) == OK;
        for (uint64_t i = 1; i <= 3 && good; i++) {
            good = check_snapshot(reader, 1) == i && write(from[1], &byte, 1) == 1 && read(to[0], &byte, 1) == 1;
        }
        _exit(good ? 0 : 1);
    }
    assert_true(child > 0);
    state = open_state();
    for (unsigned i = 2; i <= 4; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%u", i);
        assert_int_equal(read(from[0], &byte, 1), 1);
        install(state, 1, text, 5, i);
        assert_int_equal(write(to[1], &byte, 1), 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    state_close(state);
    (void)close(to[1]);
    (void)close(from[0]);
    remove_dir();
}

/* ---- damage ---- */

/* Changes the last of those bytes wherever they stand in the file: pages that are free have them too. */
static void damage_file(const char *what, size_t len)
{
    char path[128];
    static uint8_t data[4 << 20];
    (void)snprintf(path, sizeof path, "%s/data.mdb", dir);
    int fd = open(path, O_RDWR);
    ssize_t size = read(fd, data, sizeof data);
    assert_true(size > 0 && memmem(data, (size_t)size, what, len) != NULL);
    for (uint8_t *at = data; (at = memmem(at, (size_t)(data + size - at), what, len)) != NULL; at += len) {
        at[len - 1] ^= 1;
    }
    assert_int_equal(pwrite(fd, data, (size_t)size, 0), size);
    (void)close(fd);
}

static void test_a_damaged_row_of_slots_is_damage_of_the_whole_file(void **unused)
{
    (void)unused;
    struct state_partition books[PARTITIONS];
    struct model_rows rows[PARTITIONS];
    struct state *state;
    fresh_dir();
    state = open_state();
    install(state, 1, "installed", 30, 7);
    assert_int_equal(state_begin(state), OK);
    fill(state_stage_rows(state, 1), "staged", 20);
    fill(state_rows(state, 2), "never installed", 10);
    state_partition_edit(state, 2)->applied_index = 3;
    assert_int_equal(state_commit(state), OK);
    state_close(state);
    assert_int_equal(check_file(books, NULL).count, 0);
    damage_file("\xff\xff\0slots", 8);
    struct state_options options = {.dir = dir, .partitions = PARTITIONS, .map_bytes = 1ULL << 30};
    assert_int_equal(state_open(&options, &state), ERR_CORRUPT);
    assert_true(check_file(books, NULL).whole > 0);
    for (int p = 0; p < PARTITIONS; p++) {
        model_rows_init(&rows[p]);
    }
    struct found found = check_file(books, rows); /* what is live can be told all the same, and is saved */
    assert_true(found.whole > 0);
    assert_int_equal(rows[1].len, 30);
    assert_int_equal(rows[2].len, 10);
    assert_true(bytes_is(rows[1].list[0].value, "installed"));
    assert_int_equal(books[1].applied_index, 7);
    for (int p = 0; p < PARTITIONS; p++) {
        model_rows_close(&rows[p]);
    }
    remove_dir();
}

static void test_a_damaged_row_is_told_of_its_partition_in_either_slot(void **unused)
{
    (void)unused;
    struct state_partition books[PARTITIONS];
    struct state_reader *reader;
    struct bytes value;
    unsigned key = 0;
    bool done;
    fresh_dir();
    struct state *state = open_state();
    install(state, 4, "a value that is found", 1, 7);
    assert_int_equal(state_begin(state), OK);
    fill(state_stage_rows(state, 3), "a stage that is found", 1);
    assert_int_equal(state_commit(state), OK);
    state_close(state);
    damage_file("a value that", 12);
    damage_file("a stage that", 12);
    struct found found = check_file(books, NULL);
    assert_true(found.partitions[3] && found.partitions[4] && found.whole == 0);
    state = open_state();
    told_of = 0;
    assert_int_equal(state_reader_new(state, &reader), OK);
    assert_int_equal(state_reader_renew(reader), OK);
    struct bytes first = bytes_of(&key, sizeof key);
    assert_int_equal(rows_get(state_reader_rows(reader, 4), 1, first, &value), ERR_CORRUPT);
    assert_int_equal(told_of, 1U << 4);
    state_reader_free(reader);
    assert_int_equal(state_begin(state), OK); /* a stage that is damaged can be cleared */
    assert_int_equal(state_stage_clear(state, 3, 100, &done), OK);
    assert_true(done);
    assert_int_equal(state_commit(state), OK);
    state_close(state);
    assert_false(check_file(books, NULL).partitions[3]);
    remove_dir();
}

static void test_damaged_bookkeeping_leaves_the_others_to_be_read(void **unused)
{
    (void)unused;
    struct state_partition books[PARTITIONS];
    struct state_reader *reader;
    struct bytes value;
    unsigned key = 0;
    uint64_t applied = 0x0123456789ABCDEF;
    fresh_dir();
    struct state *state = open_state();
    install(state, 1, "whole", 1, 7);
    assert_int_equal(state_begin(state), OK);
    fill(state_rows(state, 2), "its books are not", 1);
    state_partition_edit(state, 2)->applied_index = applied;
    assert_int_equal(state_commit(state), OK);
    state_close(state);
    damage_file((const char *)&applied, sizeof applied);
    assert_true(check_file(books, NULL).partitions[2]);
    struct state_options options = {
        .dir = dir, .partitions = PARTITIONS, .map_bytes = 1ULL << 30, .damaged = on_damaged};
    assert_int_equal(state_open(&options, &state), ERR_CORRUPT); /* nothing is written over it */
    options.salvage = true;
    told_of = 0;
    assert_int_equal(state_open(&options, &state), OK);
    assert_int_equal(told_of, 1U << 2);
    assert_int_equal(state_partition(state, 2)->applied_index, 0);
    assert_int_equal(state_partition(state, 1)->applied_index, 7);
    assert_int_equal(state_reader_new(state, &reader), OK);
    assert_int_equal(state_reader_renew(reader), OK);
    assert_int_equal(rows_get(state_reader_rows(reader, 1), 1, bytes_of(&key, sizeof key), &value), OK);
    assert_true(bytes_is(value, "whole"));
    state_reader_free(reader);
    state_close(state);
    remove_dir();
}

/* A row of one slot that stands in the other is none. */
static void test_a_row_of_the_other_slot_is_damaged(void **unused)
{
    (void)unused;
    uint8_t key[] = {0, 1, 1, 'k'}, stored[ROW_SUM_BYTES + 1] = {[ROW_SUM_BYTES] = 'v'};
    struct bytes whole = bytes_of(stored, sizeof stored), value;
    uint64_t sum = row_sum(bytes_of(key, sizeof key), BYTES_LIT("v")), out;
    memcpy(stored, &sum, sizeof sum);
    assert_int_equal(row_open(bytes_of(key, sizeof key), whole, &value, &out), OK);
    assert_int_equal(out, sum);
    key[0] = 0x80;
    assert_int_equal(row_open(bytes_of(key, sizeof key), whole, &value, &out), ERR_CORRUPT);
    assert_int_equal(row_sum(bytes_of(key, sizeof key), BYTES_LIT("v")), sum);
}

/* ---- backup ---- */

static enum err backup_row(void *ctx, unsigned partition, uint8_t table, struct bytes key, struct bytes value)
{
    struct model_rows *rows = ctx;
    assert_int_equal(rows_put(&rows[partition].rows, table, key, value), OK);
    return OK;
}

static void test_a_backup_holds_what_is_live(void **unused)
{
    (void)unused;
    static const uint8_t key[BACKUP_KEY_BYTES] = {1};
    struct model_rows rows[PARTITIONS];
    char path[128], why[256];
    fresh_dir();
    (void)snprintf(path, sizeof path, "%s/backup", dir);
    struct state *state = open_state();
    install(state, 1, "first", 10, 5);
    install(state, 3, "first", 10, 5);
    install(state, 3, "second", 12, 6);
    assert_int_equal(state_begin(state), OK);
    fill(state_stage_rows(state, 5), "staged", 9);
    assert_int_equal(state_commit(state), OK);
    struct backup_manifest manifest = {.partitions = PARTITIONS}, read = {0};
    assert_int_equal(backup_write(path, key, state, &manifest, why, sizeof why), OK);
    for (int p = 0; p < PARTITIONS; p++) {
        model_rows_init(&rows[p]);
    }
    struct backup_sink sink = {.row = backup_row, .ctx = rows};
    assert_int_equal(backup_read(path, key, &sink, &read, why, sizeof why), OK);
    assert_int_equal(rows[1].len, 10);
    assert_int_equal(rows[3].len, 12);
    assert_true(bytes_is(rows[3].list[0].value, "second"));
    assert_int_equal(rows[5].len, 0);
    for (int p = 0; p < PARTITIONS; p++) {
        model_rows_close(&rows[p]);
    }
    free(manifest.books);
    free(read.books);
    state_close(state);
    remove_dir();
}

/* Where nothing was ever installed the file is as it always was. */
static void test_without_an_install_nothing_is_on_disk(void **unused)
{
    (void)unused;
    char path[128];
    static uint8_t data[4 << 20];
    bool done;
    fresh_dir();
    struct state *state = open_state();
    assert_int_equal(state_begin(state), OK);
    fill(state_rows(state, 1), "value", 10);
    assert_int_equal(state_stage_clear(state, 1, 10, &done), OK);
    assert_true(done);
    assert_int_equal(state_commit(state), OK);
    state_close(state);
    (void)snprintf(path, sizeof path, "%s/data.mdb", dir);
    int fd = open(path, O_RDONLY);
    ssize_t size = read(fd, data, sizeof data);
    (void)close(fd);
    assert_null(memmem(data, (size_t)size, "slots", 5));
    assert_null(memmem(data, (size_t)size, "\x80\x01\0partition", 12));
    remove_dir();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slots_behave_as_the_model),
        cmocka_unit_test(test_readers_beside_switches_see_one_slot_each),
        cmocka_unit_test(test_another_process_follows_a_switch),
        cmocka_unit_test(test_a_damaged_row_of_slots_is_damage_of_the_whole_file),
        cmocka_unit_test(test_a_damaged_row_is_told_of_its_partition_in_either_slot),
        cmocka_unit_test(test_damaged_bookkeeping_leaves_the_others_to_be_read),
        cmocka_unit_test(test_a_row_of_the_other_slot_is_damaged),
        cmocka_unit_test(test_a_backup_holds_what_is_live),
        cmocka_unit_test(test_without_an_install_nothing_is_on_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
