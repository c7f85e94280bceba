/* LMDB rows against the plain model; durable points against the loss of everything after them. */
#include "storage/state_check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/model_rows.h"
#include "tests/support/test.h"

enum { PARTITIONS = 3, TABLES = 3 };

static char dir[64];

static void fresh_dir(void)
{
    (void)snprintf(dir, sizeof dir, "/tmp/belfry-state-XXXXXX");
    assert_non_null(mkdtemp(dir));
}

static void remove_dir(void)
{
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

static struct state *open_state(void)
{
    struct state *state = NULL;
    struct state_options options = {dir, PARTITIONS, 1ULL << 30, 0};
    assert_int_equal(state_open(&options, &state), OK);
    return state;
}

struct faults {
    int count, whole;
    bool partitions[PARTITIONS];
    char first[256];
};

static void on_fault(void *ctx, int partition, const char *text)
{
    struct faults *faults = ctx;
    if (faults->count++ == 0) {
        (void)snprintf(faults->first, sizeof faults->first, "%s", text);
    }
    faults->whole += partition < 0;
    if (partition >= 0) {
        faults->partitions[partition] = true;
    }
}

static struct faults check_state(void)
{
    struct faults faults = {0};
    struct state_partition books[PARTITIONS];
    struct state_check check = {
        .dir = dir, .partitions = PARTITIONS, .fault = on_fault, .ctx = &faults, .books = books};
    assert_int_equal(state_check_run(&check), OK);
    return faults;
}

static void assert_whole(void)
{
    struct faults faults = check_state();
    if (faults.count > 0) {
        fail_msg("%s", faults.first);
    }
}

static struct bytes random_key(struct random *random, uint8_t *out)
{
    size_t len = below(random, 4);
    for (size_t i = 0; i < len; i++) {
        out[i] = (uint8_t)(below(random, 3) * 127);
    }
    return bytes_of(out, len);
}

static void compare_reads(struct rows *real, struct rows *model, struct random *random)
{
    uint8_t raw[8];
    for (int i = 0; i < 10; i++) {
        uint8_t table = (uint8_t)(1 + below(random, TABLES));
        struct bytes key = random_key(random, raw), a = BYTES_NONE, b = BYTES_NONE, ka = BYTES_NONE, kb = BYTES_NONE;
        enum err err = rows_get(model, table, key, &b);
        assert_int_equal(rows_get(real, table, key, &a), err);
        assert_true(err != OK || bytes_eq(a, b));
        err = rows_ceil(model, table, key, &kb, &b);
        assert_int_equal(rows_ceil(real, table, key, &ka, &a), err);
        assert_true(err != OK || (bytes_eq(a, b) && bytes_eq(ka, kb)));
        err = rows_below(model, table, key, &kb, &b);
        assert_int_equal(rows_below(real, table, key, &ka, &a), err);
        assert_true(err != OK || (bytes_eq(a, b) && bytes_eq(ka, kb)));
    }
}

static void random_writes(struct rows *real, struct rows *model, struct random *random)
{
    uint8_t raw[8], value[3000];
    for (int i = 0; i < 20; i++) {
        uint8_t table = (uint8_t)(1 + below(random, TABLES));
        struct bytes key = random_key(random, raw);
        if (below(random, 3) == 0) {
            assert_int_equal(rows_del(real, table, key), rows_del(model, table, key));
            continue;
        }
        size_t len = below(random, 10) == 0 ? below(random, sizeof value) : below(random, 50);
        random_fill(random, value, len);
        assert_int_equal(rows_put(real, table, key, bytes_of(value, len)), OK);
        assert_int_equal(rows_put(model, table, key, bytes_of(value, len)), OK);
    }
}

static void test_rows_behave_as_the_model(void **unused)
{
    (void)unused;
    struct random random;
    struct model_rows models[PARTITIONS];
    random_init_seed(&random, test_seed(__func__));
    fresh_dir();
    struct state *state = open_state();
    struct state_reader *reader;
    assert_int_equal(state_reader_new(state, &reader), OK);
    for (int p = 0; p < PARTITIONS; p++) {
        model_rows_init(&models[p]);
    }
    for (int step = 0; step < 300; step++) {
        unsigned p = (unsigned)below(&random, PARTITIONS);
        assert_int_equal(state_begin(state), OK);
        random_writes(state_rows(state, p), &models[p].rows, &random);
        compare_reads(state_rows(state, p), &models[p].rows, &random);
        state_partition_edit(state, p)->applied_index++;
        assert_int_equal(state_commit(state), OK);
        assert_int_equal(state_reader_renew(reader), OK);
        compare_reads(state_reader_rows(reader, p), &models[p].rows, &random);
        state_reader_reset(reader);
    }
    /* What is aborted never was, the bookkeeping included. */
    uint64_t hash = state_partition(state, 0)->set_hash;
    assert_int_equal(state_begin(state), OK);
    assert_int_equal(rows_put(state_rows(state, 0), 1, BYTES_LIT("zz"), BYTES_LIT("aborted")), OK);
    state_abort(state);
    assert_int_equal(state_partition(state, 0)->set_hash, hash);
    state_reader_free(reader);
    state_close(state);
    state = open_state(); /* and all of it is there again, with the right set hash */
    assert_whole();
    for (unsigned p = 0; p < PARTITIONS; p++) {
        model_rows_close(&models[p]);
    }
    state_close(state);
    remove_dir();
}

static void write_round(struct state *state, uint64_t round)
{
    char key[16], value[600];
    assert_int_equal(state_begin(state), OK);
    for (int i = 0; i < 50; i++) {
        (void)snprintf(key, sizeof key, "k%03d", (int)((round * 7 + (uint64_t)i * 13) % 500));
        memset(value, (int)('a' + round % 26), sizeof value);
        assert_int_equal(rows_put(state_rows(state, 1), 1, bytes_str(key),
                                  bytes_of(value, 100 + (size_t)(round * 31 + (uint64_t)i) % 500)),
                         OK);
    }
    state_partition_edit(state, 1)->applied_index = round;
    assert_int_equal(state_commit(state), OK);
}

static size_t read_file(const char *path, uint8_t **out)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    *out = mem_alloc((size_t)st.st_size);
    assert_int_equal(read(fd, *out, (size_t)st.st_size), st.st_size);
    (void)close(fd);
    return (size_t)st.st_size;
}

static void write_file(const char *path, const uint8_t *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), (ssize_t)len);
    (void)close(fd);
}

/* The file as it was at the pin's sync, and as it was later: after an OS crash each page is one or the
 * other. The saved meta page makes it exactly the pinned commit again, and it can be written on. */
static void test_a_durable_point_survives_any_mixture_of_later_pages(void **unused)
{
    (void)unused;
    struct random random;
    char path[128];
    random_init_seed(&random, test_seed(__func__));
    for (int image = 0; image < 30; image++) {
        fresh_dir();
        (void)snprintf(path, sizeof path, "%s/data.mdb", dir);
        struct state *state = open_state();
        struct state_pin *pin;
        uint8_t *before, *after, meta[STATE_META_BYTES];
        uint64_t rounds = 1 + below(&random, 40);
        for (uint64_t round = 1; round <= rounds; round++) {
            write_round(state, round);
        }
        uint64_t hash = state_partition(state, 1)->set_hash;
        assert_int_equal(state_pin(state, &pin), OK);
        assert_int_equal(state_pin_applied(pin)[1], rounds);
        memcpy(meta, state_pin_meta(pin).ptr, sizeof meta);
        size_t before_len = read_file(path, &before);
        for (uint64_t round = rounds + 1; round <= rounds + 1 + below(&random, 60); round++) {
            write_round(state, round);
        }
        size_t after_len = read_file(path, &after);
        state_pin_free(pin);
        state_close(state);
        for (size_t page = 0; page < after_len; page += STATE_META_BYTES) {
            if (below(&random, 2) == 0 && page + STATE_META_BYTES <= before_len) {
                memcpy(after + page, before + page, STATE_META_BYTES);
            } else if (below(&random, 2) == 0 && page >= before_len) {
                memset(after + page, 0, STATE_META_BYTES);
            }
        }
        write_file(path, after, after_len);
        assert_int_equal(state_meta_restore(dir, bytes_of(meta, sizeof meta)), OK);
        state = open_state();
        assert_int_equal(state_partition(state, 1)->applied_index, rounds);
        assert_int_equal(state_partition(state, 1)->set_hash, hash);
        assert_whole();
        for (uint64_t round = rounds + 1; round < rounds + 20; round++) {
            write_round(state, round);
        }
        assert_whole();
        state_close(state);
        free(before);
        free(after);
        remove_dir();
    }
}

/* LMDB leaves such a value in the pages of the longer one. */
static void test_a_long_value_made_shorter_in_its_transaction_is_whole(void **unused)
{
    (void)unused;
    static const char value[20000] = "long";
    const size_t lengths[] = {20000, 9000, 3000, 10, 0};
    fresh_dir();
    struct state *state = open_state();
    for (size_t from = 0; from < 4; from++) {
        for (size_t to = from; to < 5; to++) {
            char key[2] = {(char)from, (char)to};
            assert_int_equal(state_begin(state), OK);
            struct rows *rows = state_rows(state, 1);
            assert_int_equal(rows_put(rows, 1, bytes_of(key, 2), bytes_of(value, lengths[from])), OK);
            assert_int_equal(rows_put(rows, 1, bytes_of(key, 2), bytes_of(value, lengths[to])), OK);
            assert_int_equal(state_commit(state), OK);
            assert_whole();
        }
    }
    state_close(state);
    remove_dir();
}

static void test_a_flipped_bit_in_a_value_is_never_read(void **unused)
{
    (void)unused;
    char path[128];
    uint8_t *data;
    struct bytes value;
    struct state_reader *reader;
    fresh_dir();
    (void)snprintf(path, sizeof path, "%s/data.mdb", dir);
    struct state *state = open_state();
    assert_int_equal(state_begin(state), OK);
    assert_int_equal(rows_put(state_rows(state, 1), 1, BYTES_LIT("key"), BYTES_LIT("a value that is easily found")),
                     OK);
    assert_int_equal(state_commit(state), OK);
    state_close(state);
    size_t len = read_file(path, &data);
    uint8_t *at = memmem(data, len, "easily found", 12);
    assert_non_null(at);
    at[3] ^= 4;
    write_file(path, data, len);
    free(data);
    state = open_state();
    assert_int_equal(state_reader_new(state, &reader), OK);
    assert_int_equal(state_reader_renew(reader), OK);
    assert_int_equal(rows_get(state_reader_rows(reader, 1), 1, BYTES_LIT("key"), &value), ERR_CORRUPT);
    state_reader_free(reader);
    state_close(state);
    struct faults faults = check_state();
    assert_true(faults.count > 0 && faults.whole == 0 && faults.partitions[1]);
    remove_dir();
}

/* In the meta pages every bit is tried: the ones of a tree's flags say how its keys are ordered. One that turns
 * a meta page's transaction into the next but one shows the state of one transaction ago, which the log completes. */
static void test_a_flipped_bit_in_a_meta_page_is_found_or_means_nothing(void **unused)
{
    (void)unused;
    enum { META_END = 152 };
    char path[128];
    uint8_t *data;
    fresh_dir();
    (void)snprintf(path, sizeof path, "%s/data.mdb", dir);
    struct state *state = open_state();
    struct state_partition before = {0}, now = {0};
    for (uint64_t round = 1; round < 20; round++) {
        before = now;
        write_round(state, round);
        now = *state_partition(state, 1);
    }
    state_close(state);
    size_t len = read_file(path, &data);
    for (size_t bit = 0; bit < (size_t)2 * META_END * 8; bit++) {
        uint8_t *at = data + (bit / 8 < META_END ? bit / 8 : STATE_META_BYTES + bit / 8 - META_END);
        *at ^= (uint8_t)(1U << bit % 8);
        write_file(path, data, len);
        *at ^= (uint8_t)(1U << bit % 8);
        if (check_state().count > 0) {
            continue;
        }
        state = open_state();
        uint64_t index = state_partition(state, 1)->applied_index;
        assert_true(index == now.applied_index || index == before.applied_index);
        assert_int_equal(state_partition(state, 1)->set_hash,
                         index == now.applied_index ? now.set_hash : before.set_hash);
        state_close(state);
    }
    free(data);
    remove_dir();
}

/* Bits are flipped and files cut all over: what LMDB then reads is what was written, or it is told. */
static void test_a_flipped_bit_anywhere_is_found_or_means_nothing(void **unused)
{
    (void)unused;
    struct random random;
    char path[128];
    uint8_t *data;
    int found = 0, meaningless = 0;
    struct state_partition before;
    random_init_seed(&random, test_seed(__func__));
    fresh_dir();
    (void)snprintf(path, sizeof path, "%s/data.mdb", dir);
    struct state *state = open_state();
    for (uint64_t round = 1; round < 60; round++) {
        write_round(state, round);
    }
    assert_int_equal(state_begin(state), OK);
    for (uint64_t big = 0; big < 5; big++) { /* overflow pages */
        static const char value[20000] = "long";
        assert_int_equal(rows_put(state_rows(state, 2), 1, bytes_of(&big, sizeof big), bytes_of(value, sizeof value)),
                         OK);
    }
    assert_int_equal(state_commit(state), OK);
    before = *state_partition(state, 1);
    state_close(state);
    assert_whole();
    size_t len = read_file(path, &data);
    for (int round = 0; round < 2000; round++) {
        size_t at = below(&random, 4) == 0 ? below(&random, 2 * STATE_META_BYTES) : below(&random, len);
        uint8_t old = data[at];
        bool cut = round % 20 == 0;
        data[at] ^= (uint8_t)(1U << below(&random, 8));
        write_file(path, data, cut ? at : len);
        data[at] = old;
        struct faults faults = check_state();
        if (faults.count > 0) {
            found++;
            continue;
        }
        meaningless++;
        state = open_state(); /* must be the same, or the transaction before, whole */
        const struct state_partition *after = state_partition(state, 1);
        assert_true(after->applied_index == before.applied_index && after->set_hash == before.set_hash);
        state_close(state);
    }
    print_message("found %d, meaningless %d\n", found, meaningless);
    assert_true(found > 500);
    free(data);
    remove_dir();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_behave_as_the_model),
        cmocka_unit_test(test_a_durable_point_survives_any_mixture_of_later_pages),
        cmocka_unit_test(test_a_long_value_made_shorter_in_its_transaction_is_whole),
        cmocka_unit_test(test_a_flipped_bit_in_a_value_is_never_read),
        cmocka_unit_test(test_a_flipped_bit_in_a_meta_page_is_found_or_means_nothing),
        cmocka_unit_test(test_a_flipped_bit_anywhere_is_found_or_means_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
