/* The lists of the tasks facade over many users and tasks: what one answer may cost. */
#include "actors/facades/tasks.h"

#include "actors/facades/foreign_id.h"
#include "node/limits.h"
#include "tests/support/model_rows.h"
#include "tests/support/test.h"

enum { USERS = 300, TASKS = USERS * FACADE_NESTED };
static const int64_t users_ms = 1760000000000, tasks_ms = 1770000000000;

struct world {
    struct look look;
    struct arena arena;
    struct model_rows model;
    size_t asked; /* how often the rows were asked for: for each one looked at, and where the next one is */
};

static struct rows *world_rows(struct look *look, unsigned partition)
{
    struct world *world = container_of(look, struct world, look);
    assert_int_equal(partition, 1);
    world->asked++;
    return &world->model.rows;
}

static struct id user_id(int i)
{
    return id_make(users_ms + i, 1, (uint64_t)i << 40);
}

static struct id task_id(int i)
{
    return id_make(tasks_ms + i, 1, (uint64_t)i << 40);
}

static void put(struct world *world, uint8_t table, struct bytes key, struct buf *packed)
{
    assert_int_equal(rows_put(&world->model.rows, table, key, buf_bytes(packed)), OK);
    buf_free(packed);
}

static void put_user(struct world *world, int i)
{
    struct account account = {0};
    struct buf packed = {0};
    struct id id = user_id(i);
    FIELD_SET(account_fields, &account, struct account, id, id);
    FIELD_SET(account_fields, &account, struct account, username, BYTES_LIT("user"));
    FIELD_SET(account_fields, &account, struct account, role, i == 0);
    field_pack(&packed, account_fields, &account);
    put(world, TABLE_ACCOUNT, id_bytes(&id), &packed);
}

static void put_task(struct world *world, int i, struct bytes title)
{
    struct reminder r = {0};
    struct buf packed = {0};
    SET(&r, id, task_id(i));
    SET(&r, title, title);
    SET(&r, public, true);
    SET(&r, owner, user_id(0));
    SET(&r, assignee_id, user_id(i % USERS));
    field_pack(&packed, reminder_fields, &r);
    put(world, TABLE_REMINDER, id_bytes(&r.id), &packed);
}

/* Every user is assigned 100 public tasks; the first one is the caller, an administrator. In the order of the rows. */
static void world_open(struct world *world)
{
    struct buf title = {0}, none = {0};
    *world = (struct world){.look = {.partitions = 1, .rows = world_rows, .caller.account = user_id(0)}};
    world->look.arena = &world->arena;
    model_rows_init(&world->model);
    for (int i = 0; i < LIMIT_TITLE_CHARS; i++) {
        buf_add_lit(&title, "\xf0\x9f\x94\x94");
    }
    for (int i = 0; i < USERS; i++) {
        put_user(world, i);
    }
    for (int i = 0; i < TASKS; i++) {
        put_task(world, i, buf_bytes(&title));
    }
    for (int i = 0; i < TASKS; i++) {
        struct id id = task_id(i);
        put(world, TABLE_PUBLIC, id_bytes(&id), &none);
    }
    for (int i = 0; i < TASKS; i++) {
        struct id_pair key =
            id_pair(user_id(i / FACADE_NESTED), task_id(i % FACADE_NESTED * USERS + i / FACADE_NESTED));
        put(world, TABLE_ASSIGNED, id_pair_bytes(&key), &none);
    }
    buf_free(&title);
}

static void world_close(struct world *world)
{
    model_rows_close(&world->model);
    arena_close(&world->arena);
}

static struct bytes ask(struct world *world, const char *path, struct reply *reply)
{
    struct facade_in in = {0};
    for (const struct facade_route *route = tasks_facade.routes; route->op.path != NULL; route++) {
        if (route->op.type == OP_QUERY && strcmp(route->op.path, path) == 0) {
            in.route = route;
            assert_int_equal(route->op.query(&world->look, &in, reply), OK);
        }
    }
    assert_int_equal(reply->status, 200);
    return buf_bytes(&reply->body);
}

static bool shows(struct bytes json, struct id id)
{
    char hex[FOREIGN_HEX_BYTES];
    foreign_hex(id, hex);
    return memmem(json.ptr, json.len, hex, sizeof hex) != NULL;
}

static void expect_json(struct bytes json)
{
    struct arena arena = {0};
    struct form form;
    const char *why = NULL;
    assert_int_equal(form_decode_json(json, &arena, &form, &why), OK);
    arena_close(&arena);
}

/* 1,000 tasks of 300 users, each of whom has 100: their lists share one budget, the newest tasks' users come first. */
static void test_tasks_look_at_bounded_rows(void **state)
{
    (void)state;
    struct world world;
    struct reply reply = {0};
    world_open(&world);
    struct bytes json = ask(&world, "/tasks", &reply);
    assert_true(world.asked < 2 * LIMIT_ANSWER_ROWS + FACADE_LIST + USERS + 10);
    assert_true(shows(json, task_id(TASKS - 1)) && shows(json, task_id(TASKS - FACADE_LIST)));
    assert_true(shows(json, task_id(USERS - 1))); /* the oldest of the newest task's user, */
    assert_false(shows(json, task_id(0)));        /* not of the last one in line */
    expect_json(json);
    reply_close(&reply);
    world_close(&world);
}

static void test_users_end_behind_bounded_bytes(void **state)
{
    (void)state;
    struct world world;
    struct reply reply = {0};
    world_open(&world);
    struct bytes json = ask(&world, "/users", &reply);
    assert_true(json.len > LIMIT_ANSWER_BYTES && json.len < LIMIT_ANSWER_BYTES + 256 * 1024);
    assert_true(world.asked < 2 * LIMIT_ANSWER_ROWS);
    assert_true(shows(json, user_id(USERS - 1)) && !shows(json, user_id(0))); /* the newest are kept */
    expect_json(json);
    reply_close(&reply);
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tasks_look_at_bounded_rows),
                                       cmocka_unit_test(test_users_end_behind_bounded_bytes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
