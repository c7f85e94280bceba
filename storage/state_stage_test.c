/* The two slots of a partition against a model: rows staged, cleared and switched in at random, aborted and
 * reopened, with readers that hold older snapshots; and what the check without LMDB says of the file. */
#include "storage/state_check.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slots_behave_as_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
