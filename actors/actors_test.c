/* The kinds' reducers over the model rows: random commands, the invariants after each of them; and the
 * same commands once more on a second replica must give the same rows. */
#include "actors/auth/auth.h"
#include "actors/kind.h"
#include "actors/reminders/body.h"
#include "actors/reminders/feed.h"
#include "actors/reminders/reminders.h"
#include "actors/system/system.h"
#include "node/limits.h"
#include "tests/support/model_rows.h"
#include "tests/support/test.h"

struct replica {
    struct model_rows rows;
    uint64_t index;
};

static enum err apply(struct replica *replica, const struct kind *kind, uint8_t tag, struct bytes key, struct id caller,
                      struct bytes params, int64_t now, uint64_t seed, struct reply *reply)
{
    struct arena arena = {0};
    const struct op *op = kind_op(kind, tag);
    void *in = arena_zalloc(&arena, op->in_size);
    assert_int_equal(field_unpack(op->in, params, in), OK);
    size_t rows_before = replica->rows.len;
    struct turn turn = {.rows = &replica->rows.rows,
                        .arena = &arena,
                        .partition = 1,
                        .partitions = 1,
                        .key = key,
                        .caller = {caller, {{0}}, ROLE_USER},
                        .now_ms = now,
                        .version = ++replica->index,
                        .seed = seed};
    enum err err = op->reduce(&turn, in, reply);
    buf_free(&turn.touched);
    assert_true(err == OK || replica->rows.len == rows_before);      /* what failed has written nothing */
    bool look = replica->rows.len < 300 || replica->index % 16 == 0; /* a look costs with the rows */
    for (size_t i = 0; look && kinds[i] != NULL; i++) {
        if (kinds[i]->check != NULL) {
            assert_int_equal(kinds[i]->check(&replica->rows.rows, &arena), OK);
        }
    }
    arena_close(&arena);
    return err;
}

struct world {
    struct replica replicas[2];
    struct random random;
    int64_t now;
    uint64_t results[ERR_COUNT];
};

/* Applies to both replicas and returns what both answered. */
static enum err run(struct world *world, const struct kind *kind, uint8_t tag, struct bytes key, struct id caller,
                    const void *in, struct reply *reply)
{
    struct buf params = {0};
    struct reply second = {0};
    uint64_t seed = random_u64(&world->random);
    world->now += (int64_t)below(&world->random, 3);
    field_pack(&params, kind_op(kind, tag)->in, in);
    enum err err = apply(&world->replicas[0], kind, tag, key, caller, buf_bytes(&params), world->now, seed, reply);
    assert_int_equal(apply(&world->replicas[1], kind, tag, key, caller, buf_bytes(&params), world->now, seed, &second),
                     err);
    assert_true(bytes_eq(buf_bytes(&reply->body), buf_bytes(&second.body)));
    reply_close(&second);
    buf_free(&params);
    world->results[err]++;
    return err;
}

static void world_open(struct world *world, uint64_t seed)
{
    *world = (struct world){.now = 1000000};
    random_init_seed(&world->random, seed);
    model_rows_init(&world->replicas[0].rows);
    model_rows_init(&world->replicas[1].rows);
}

static void world_close(struct world *world)
{
    const struct model_rows *a = &world->replicas[0].rows, *b = &world->replicas[1].rows;
    assert_int_equal(a->len, b->len);
    for (size_t i = 0; i < a->len; i++) {
        assert_true(a->list[i].table == b->list[i].table && bytes_eq(a->list[i].key, b->list[i].key) &&
                    bytes_eq(a->list[i].value, b->list[i].value));
    }
    model_rows_close(&world->replicas[0].rows);
    model_rows_close(&world->replicas[1].rows);
}

/* Some rows are lost to damage: what is left is mended, and goes on as if nothing had been. */
static void lose_rows(struct world *world)
{
    struct rows *rows[2] = {&world->replicas[0].rows.rows, &world->replicas[1].rows.rows};
    struct arena arena = {0};
    for (uint64_t n = 1 + below(&world->random, 5); n > 0 && world->replicas[0].rows.len > 0; n--) {
        const struct model_row *row = &world->replicas[0].rows.list[below(&world->random, world->replicas[0].rows.len)];
        uint8_t table = row->table;
        struct bytes key = arena_copy(&arena, row->key);
        assert_int_equal(rows_del(rows[0], table, key), OK);
        assert_int_equal(rows_del(rows[1], table, key), OK);
    }
    for (size_t k = 0; kinds[k] != NULL; k++) {
        for (int replica = 0; replica < 2 && kinds[k]->mend != NULL; replica++) {
            assert_int_equal(kinds[k]->mend(rows[replica]), OK);
            assert_int_equal(kinds[k]->check(rows[replica], &arena), OK);
        }
    }
    arena_close(&arena);
}

enum { ACCOUNTS = 6, NAMES = 4 };

static struct id account_id(uint64_t n)
{
    return id_make(1000, 1, n);
}

static void create_account(struct world *world, struct id id, const char *name)
{
    struct create in = {0};
    struct reply reply = {0};
    FIELD_SET(create_fields, &in, struct create, username, bytes_str(name));
    FIELD_SET(create_fields, &in, struct create, email, bytes_str(name));
    FIELD_SET(create_fields, &in, struct create, password, BYTES_LIT("phc"));
    FIELD_SET(new_session_fields, &in.session, struct new_session, family, BYTES_LIT("family"));
    FIELD_SET(new_session_fields, &in.session, struct new_session, secret, BYTES_LIT("secret"));
    in.set.has |= field_bit(5);
    if (run(world, &auth_kind, AUTH_CREATE, id_bytes(&id), id, &in, &reply) == OK) {
        struct created created = {0};
        struct account account = {0};
        assert_int_equal(field_unpack(created_fields, buf_bytes(&reply.body), &created), OK);
        assert_int_equal(field_unpack(account_fields, created.account, &account), OK);
        assert_int_equal(account.created_at, id_ms(id)); /* accounts in the order of their ids are in that of time */
    }
    reply_close(&reply);
}

static struct id some_reminder(struct world *world)
{
    const struct model_rows *rows = &world->replicas[0].rows;
    struct id id = id_make(world->now, 1, random_u64(&world->random));
    size_t from = below(&world->random, rows->len + 1);
    for (size_t i = from; i < rows->len; i++) {
        if (rows->list[i].table == TABLE_REMINDER) {
            memcpy(id.b, rows->list[i].key.ptr, sizeof id.b);
            break;
        }
    }
    return id;
}

/* What belongs together comes together: scripts see to that. */
static void join_bits(struct fieldset *set, uint64_t pair)
{
    set->has = (set->has & pair) != 0 ? set->has | pair : set->has;
}

#define BIT(member) field_bit(field_index(reminder_patch_in, offsetof(struct reminder_body, member)))
static void random_body(struct world *world, struct reminder_body *body)
{
    const struct field *fields = reminder_patch_in;
    for (size_t i = 0; fields[i].name != NULL; i++) {
        if (below(&world->random, 2) == 0 || strcmp(fields[i].name, "title") == 0) {
            body->set.has |= field_bit(i);
        }
    }
    body->id = some_reminder(world);
    body->title = BYTES_LIT("title");
    body->content = BYTES_LIT("content");
    body->due_at = world->now + (int64_t)below(&world->random, 20);
    body->public = below(&world->random, 2) == 0;
    body->status = (int)below(&world->random, 3);
    body->completed = below(&world->random, 2) == 0;
    body->assignee = BYTES_LIT("somebody");
    body->assignee_id = account_id(below(&world->random, ACCOUNTS));
    body->recurrence = BYTES_LIT("FREQ=DAILY");
    body->time_zone = BYTES_LIT("Europe/Paris");
    body->starts_at = body->due_at;
    body->next_at = body->due_at + (int64_t)below(&world->random, 5);
    body->set.has &= below(&world->random, 4) == 0 ? UINT64_MAX : ~BIT(based_on);
    join_bits(&body->set, BIT(assignee) | BIT(assignee_id));
    join_bits(&body->set, BIT(starts_at) | BIT(next_at));
    body->set.null = below(&world->random, 4) == 0 ? BIT(due_at) | BIT(recurrence) : 0;
    body->set.has &= ~body->set.null;
}

static void snooze_some(struct world *world)
{
    struct reminder_snooze in = {
        .set.has = 5, .id = some_reminder(world), .for_ms = 1 + (int64_t)below(&world->random, 9)};
    struct id caller = account_id(below(&world->random, ACCOUNTS));
    struct reply reply = {0};
    (void)run(world, &reminders_kind, REMINDER_DO_SNOOZE, id_bytes(&caller), caller, &in, &reply);
    reply_close(&reply);
}

/* What is due, what is not yet, and what was never armed. */
static void fire_some(struct world *world, unsigned *fired)
{
    const struct model_rows *rows = &world->replicas[0].rows;
    struct reminder_fire in = {.set.has = 1};
    struct due_item items[8] = {0};
    struct reply reply = {0};
    size_t len = 0;
    for (size_t i = 0; i < rows->len && len < ARRAY_LEN(items); i++) {
        if (rows->list[i].table == TABLE_DUE) {
            items[len].id = due_key_id(rows->list[i].key);
            items[len].at = due_key_time(rows->list[i].key) + (below(&world->random, 8) == 0);
            struct reminder r = {0};
            struct bytes packed;
            assert_int_equal(reminder_load(&world->replicas[0].rows.rows, items[len].id, &r, &packed), OK);
            items[len].version = r.version - (below(&world->random, 8) == 0);
            items[len].has_next = below(&world->random, 2) == 0;
            items[len].next = items[len].at + 1 + (int64_t)below(&world->random, 20);
            *fired += items[len].at == r.armed_at && items[len].version == r.version && items[len].at <= world->now;
            len++;
        }
    }
    in.items = bytes_of(items, len * sizeof items[0]);
    assert_int_equal(run(world, &reminders_kind, REMINDER_DO_FIRE, BYTES_LIT("due"), account_id(0), &in, &reply), OK);
    reply_close(&reply);
}

/* A token for the feed is made, or ended. */
static void change_feed(struct world *world, struct id account)
{
    static const uint8_t secret[DIGEST_BYTES] = {1};
    struct feed in = {0};
    struct reply reply = {0};
    uint8_t tag = below(&world->random, 2) == 0 ? FEED_DO_PUT : FEED_DO_DROP;
    FIELD_SET(feed_fields, &in, struct feed, secret, bytes_of(secret, sizeof secret));
    (void)run(world, &reminders_kind, tag, id_bytes(&account), account, &in, &reply);
    reply_close(&reply);
}

static void test_reminders_keep_their_invariants(void **state)
{
    (void)state;
    struct world world;
    unsigned fired = 0;
    world_open(&world, test_seed(__func__));
    for (uint64_t n = 0; n < ACCOUNTS; n++) {
        create_account(&world, account_id(n), "name");
    }
    for (int step = 0; step < 1500; step++) {
        static const uint8_t tags[] = {REMINDER_DO_CREATE, REMINDER_DO_CREATE, REMINDER_DO_PUT,
                                       REMINDER_DO_PATCH,  REMINDER_DO_PATCH,  REMINDER_DO_DELETE};
        uint8_t tag = tags[below(&world.random, ARRAY_LEN(tags))];
        struct id caller = account_id(below(&world.random, ACCOUNTS));
        struct reminder_body body = {0};
        struct reply reply = {0};
        random_body(&world, &body);
        struct reminder_id gone = {.set.has = 1, .id = body.id};
        const void *in = tag == REMINDER_DO_DELETE ? (const void *)&gone : &body;
        (void)run(&world, &reminders_kind, tag, id_bytes(&caller), caller, in, &reply);
        reply_close(&reply);
        if (below(&world.random, 4) == 0) {
            snooze_some(&world);
            fire_some(&world, &fired);
            change_feed(&world, caller);
        }
        if (below(&world.random, 100) == 0) {
            struct forget forget = {.set.has = 1, .account = account_id(below(&world.random, ACCOUNTS))};
            assert_int_equal(run(&world, &auth_kind, AUTH_FORGET, id_bytes(&forget.account), caller, &forget, &reply),
                             OK);
            reply_close(&reply);
        }
        if (below(&world.random, 200) == 0) {
            lose_rows(&world);
        }
    }
    assert_true(world.results[OK] > 300 && world.results[ERR_NOT_FOUND] > 0 && world.results[ERR_FORBIDDEN] > 0 &&
                world.results[ERR_INVALID_FIELDS] > 0 && world.results[ERR_CONFLICT] > 0 && fired > 100);
    world_close(&world);
}

/* Any interleaving of sagas, sweepers and repeats: a name never belongs to two accounts, and once all
 * is settled each name belongs to a live account or to nobody. */
static void test_names_and_accounts_settle(void **state)
{
    (void)state;
    struct world world;
    world_open(&world, test_seed(__func__));
    for (int step = 0; step < 3000; step++) {
        char key[8];
        uint64_t name = below(&world.random, NAMES);
        (void)snprintf(key, sizeof key, "%cname%d", name % 2 == 0 ? 'u' : 'e', (int)name);
        struct name_in in = {.set.has = 1, .account = account_id(below(&world.random, 200))};
        struct forget none = {0};
        struct reply reply = {0};
        switch (below(&world.random, 6)) {
        case 0:
        case 1: (void)run(&world, &auth_kind, AUTH_RESERVE_NAME, bytes_str(key), in.account, &in, &reply); break;
        case 2: create_account(&world, in.account, key + 1); break;
        case 3: /* a saga that goes on, or the sweeper: only with what the account's partition says */
        case 4: {
            struct settle_name pending = {0};
            struct settled settled = {0};
            struct arena arena = {0};
            if (name_find_pending(&world.replicas[0].rows.rows, world.now + 1000000, &arena, &pending)) {
                struct name_in by = {.set.has = 1, .account = pending.account};
                assert_int_equal(run(&world, &auth_kind, AUTH_SETTLE, id_bytes(&by.account), by.account, &none, &reply),
                                 OK);
                assert_int_equal(field_unpack(settled_fields, buf_bytes(&reply.body), &settled), OK);
                reply_close(&reply);
                enum err err = run(&world, &auth_kind, settled.live ? AUTH_CONFIRM_NAME : AUTH_FREE_NAME, pending.name,
                                   by.account, &by, &reply);
                assert_int_equal(err, OK);
            }
            arena_close(&arena);
            break;
        }
        case 5: (void)run(&world, &auth_kind, AUTH_CONFIRM_NAME, bytes_str(key), in.account, &in, &reply); break;
        }
        reply_close(&reply);
        if (below(&world.random, 200) == 0) {
            lose_rows(&world);
        }
    }
    assert_true(world.results[OK] > 50 && world.results[ERR_CONFLICT] > 0 && world.results[ERR_USERNAME_TAKEN] > 0 &&
                world.results[ERR_EMAIL_TAKEN] > 0);
    world_close(&world);
}

/* Each revocation has its entry by time, and no entry is another's. Gives how many there are. */
static size_t check_revocations(const struct model_rows *model)
{
    size_t revoked = 0, times = 0;
    for (size_t i = 0; i < model->len; i++) {
        const struct model_row *row = &model->list[i];
        struct revocation revocation = {0};
        struct bytes value;
        bool is_time = row->table == TABLE_REVOKED_TIME;
        revoked += row->table == TABLE_REVOKED;
        times += is_time;
        if (is_time) {
            struct bytes key = bytes_of(row->key.ptr + 8, row->key.len - 8);
            assert_int_equal(rows_get((struct rows *)(uintptr_t)&model->rows, TABLE_REVOKED, key, &value), OK);
            assert_int_equal(field_unpack(revocation_fields, value, &revocation), OK);
            assert_int_equal(key_u64(row->key), revocation.until_ms);
        }
    }
    assert_int_equal(revoked, times);
    return revoked;
}

static struct revocation revoke(struct world *world, struct revoke in)
{
    struct reply reply = {0};
    struct revocation row = {0};
    struct bytes value;
    uint8_t key[1 + sizeof(struct id)] = {'a'};
    memcpy(key + 1, in.account.b, sizeof in.account.b);
    in.set.has |= 1;
    assert_int_equal(run(world, &system_kind, SYSTEM_REVOKE, system_address.key, in.account, &in, &reply), OK);
    reply_close(&reply);
    assert_int_equal(rows_get(&world->replicas[0].rows.rows, TABLE_REVOKED, bytes_of(key, sizeof key), &value), OK);
    assert_int_equal(field_unpack(revocation_fields, value, &row), OK);
    return row;
}

/* Whoever is revoked every second takes no more room than one; nothing that was revoked comes back. */
static void test_revocations_replace_each_other(void **state)
{
    (void)state;
    struct world world;
    struct revocation last = {0};
    world_open(&world, test_seed(__func__));
    for (int step = 0; step < 1000; step++) {
        struct revoke in = {.account = account_id(7)};
        FIELD_SET(revoke_fields, &in, struct revoke, keep_ms, 1000 * (int64_t)(1 + below(&world.random, 1000000)));
        struct revocation row = revoke(&world, in);
        assert_true(row.cutoff_ms > last.cutoff_ms && row.until_ms >= last.until_ms);
        assert_int_equal(check_revocations(&world.replicas[0].rows), 1);
        last = row;
    }
    world_close(&world);
}

/* States of before had an entry for each revocation; and one may lack. */
static void test_revocations_tolerate_old_entries(void **state)
{
    (void)state;
    struct world world;
    struct buf entry = {0}, old = {0};
    world_open(&world, test_seed(__func__));
    struct revocation row = revoke(&world, (struct revoke){.account = account_id(7)});
    key_add_u64(&entry, (uint64_t)row.until_ms);
    key_add_u64(&old, (uint64_t)row.until_ms - 1);
    buf_add_char(&entry, 'a');
    buf_add_char(&old, 'a');
    buf_add_bytes(&entry, id_bytes(&row.account));
    buf_add_bytes(&old, id_bytes(&row.account));
    for (size_t i = 0; i < ARRAY_LEN(world.replicas); i++) {
        struct rows *rows = &world.replicas[i].rows.rows;
        assert_int_equal(rows_del(rows, TABLE_REVOKED_TIME, buf_bytes(&entry)), OK);
        assert_int_equal(rows_put(rows, TABLE_REVOKED_TIME, buf_bytes(&old), BYTES_NONE), OK);
    }
    (void)revoke(&world, (struct revoke){.account = account_id(7)});
    world.now += 2 * LIMIT_ACCESS_TOKEN_S * 1000;
    (void)revoke(&world, (struct revoke){.account = account_id(8)});
    assert_int_equal(check_revocations(&world.replicas[0].rows), 1);
    buf_free(&entry);
    buf_free(&old);
    world_close(&world);
}

static void test_revocations_are_kept_as_long_as_tokens_live(void **state)
{
    (void)state;
    struct world world;
    world_open(&world, test_seed(__func__));
    for (int step = 0; step < 400; step++) {
        struct revoke in = {0};
        struct reply reply = {0};
        in.set.has = below(&world.random, 2) == 0 ? 1 : 2;
        in.account = in.session = account_id(below(&world.random, 20));
        assert_int_equal(run(&world, &system_kind, SYSTEM_REVOKE, system_address.key, account_id(0), &in, &reply), OK);
        reply_close(&reply);
        assert_true(check_revocations(&world.replicas[0].rows) <= 2 * 20); /* once for each subject */
        world.now += (int64_t)below(&world.random, 60000);
    }
    assert_true(world.replicas[0].rows.len > 2);
    world_close(&world);
}

static void test_ids_and_names_are_placed_in_existing_partitions(void **state)
{
    (void)state;
    struct random random;
    unsigned seen[17] = {0};
    random_init_seed(&random, test_seed(__func__));
    for (int i = 0; i < 2000; i++) {
        uint64_t name = random_u64(&random);
        unsigned partition = partition_of_name(bytes_of(&name, sizeof name), 16);
        assert_true(partition >= 1 && partition <= 16);
        seen[partition]++;
    }
    for (unsigned p = 1; p <= 16; p++) {
        assert_true(seen[p] > 60);
    }
    assert_false(id_is_placed(id_make(1, 0, 1), 16) || id_is_placed(id_make(1, 17, 1), 16));
    assert_true(id_is_placed(id_make(1, 16, 1), 16));
    struct turn turn = {.partition = 3, .now_ms = 1000, .seed = 5, .sequence = 1};
    struct id first = turn_new_id(&turn), second;
    turn.sequence = 2;
    second = turn_new_id(&turn);
    assert_true(memcmp(first.b, second.b, sizeof first.b) < 0); /* order within a millisecond */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reminders_keep_their_invariants),
                                       cmocka_unit_test(test_names_and_accounts_settle),
                                       cmocka_unit_test(test_revocations_are_kept_as_long_as_tokens_live),
                                       cmocka_unit_test(test_revocations_replace_each_other),
                                       cmocka_unit_test(test_revocations_tolerate_old_entries),
                                       cmocka_unit_test(test_ids_and_names_are_placed_in_existing_partitions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
