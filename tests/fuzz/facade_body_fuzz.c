/* A request of a facade, from the parsed head to the answer. Two bytes choose the facade, the caller, the body's type
 * and the method; then lines: the path, the value of the header that carries the token, and the body as the rest.
 * The route's own steps and queries run over a small state with the kinds' own reducers: the invariants hold after
 * each command, and every answer and failure has a status, a type and, if it says so, JSON. */
#include "actors/auth/auth.h"
#include "actors/facades/facade.h"
#include "actors/facades/foreign_id.h"
#include "actors/reminders/body.h"
#include "actors/reminders/record.h"
#include "actors/reminders/reminders.h"
#include "actors/system/system.h"
#include "node/base/text.h"
#include "node/foreign.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/model_rows.h"

enum { PARTITIONS = 1, NOW_S = 1800000000, STEPS_MAX = 200, DECODED_BYTES = 256 * 1024 };
static const int64_t now_ms = (int64_t)NOW_S * 1000;

static struct router *router;
static struct id ann, ben, nobody /* whose token outlived the account */, task;

struct world {
    struct script script;
    struct model_rows model;
    struct arena arena;
    uint64_t chance;
    uint64_t index;
    bool waiting; /* for a command: */
    enum err err;
    struct reply answer;
};

static struct world *world_of(struct script *script)
{
    return container_of(script, struct world, script);
}

/* ---- the state, and what runs on it ---- */

static enum err apply(struct world *world, const struct kind *kind, uint8_t tag, struct bytes key, struct id caller,
                      const void *in, struct reply *reply)
{
    struct buf params = {0};
    const struct op *op = kind_op(kind, tag);
    void *copy = arena_zalloc(&world->arena, op->in_size);
    CHECK(op->type == OP_COMMAND && key.len <= LIMIT_ACTOR_KEY_BYTES);
    field_pack(&params, op->in, in);
    struct bytes packed = arena_copy(&world->arena, buf_bytes(&params));
    buf_free(&params);
    CHECK(field_unpack(op->in, packed, copy) == OK);
    struct turn turn = {.rows = &world->model.rows,
                        .arena = &world->arena,
                        .partition = 1,
                        .partitions = PARTITIONS,
                        .key = key,
                        .caller = {caller, {{0}}, ROLE_USER},
                        .now_ms = now_ms,
                        .version = ++world->index,
                        .seed = fuzz_next(&world->chance),
                        .sequence = world->index};
    enum err err = op->reduce(&turn, copy, reply);
    buf_free(&turn.touched);
    for (size_t i = 0; kinds[i] != NULL; i++) {
        CHECK(kinds[i]->check == NULL || kinds[i]->check(&world->model.rows, &world->arena) == OK);
    }
    return err;
}

static void put_account(struct world *world, struct id id, const char *name, const char *alias)
{
    struct create in = {0};
    struct reply reply = {0};
    uint8_t key[32] = "u";
    memcpy(key + 1, name, strlen(name));
    FIELD_SET(create_fields, &in, struct create, username, bytes_str(name));
    FIELD_SET(create_fields, &in, struct create, name, bytes_of(key, 1 + strlen(name)));
    FIELD_SET(create_fields, &in, struct create, password, BYTES_LIT("phc"));
    FIELD_SET(create_fields, &in, struct create, alias_username, bytes_str(alias));
    FIELD_SET(create_fields, &in, struct create, username_key,
              alias_key(ALIAS_USERNAME, bytes_str(alias), &world->arena));
    CHECK(apply(world, &auth_kind, AUTH_CREATE, id_bytes(&id), id, &in, &reply) == OK);
    reply_close(&reply);
}

static struct id put_task(struct world *world)
{
    struct reminder_body in = {0};
    struct reply reply = {0};
    struct reminder r = {0};
    FIELD_SET(reminder_create_in, &in, struct reminder_body, title, BYTES_LIT("a \"task\""));
    FIELD_SET(reminder_create_in, &in, struct reminder_body, public, true);
    FIELD_SET(reminder_create_in, &in, struct reminder_body, of_tasks, true);
    FIELD_SET(reminder_create_in, &in, struct reminder_body, assignee, BYTES_LIT("ben"));
    FIELD_SET(reminder_create_in, &in, struct reminder_body, assignee_id, ben);
    CHECK(apply(world, &reminders_kind, REMINDER_DO_CREATE, id_bytes(&ann), ann, &in, &reply) == OK);
    CHECK(field_unpack(reminder_fields, buf_bytes(&reply.body), &r) == OK);
    struct id id = r.id;
    reply_close(&reply);
    return id;
}

/* An alias that leads to no account. */
static void put_ghost(struct world *world, int64_t ms)
{
    struct reply reply = {0};
    struct alias_in in = {.account = id_make(ms, 1, 3)};
    FIELD_SET(alias_in_fields, &in, struct alias_in, account, in.account);
    FIELD_SET(alias_in_fields, &in, struct alias_in, username,
              alias_key(ALIAS_USERNAME, BYTES_LIT("ghost"), &world->arena));
    CHECK(apply(world, &auth_kind, AUTH_PUT_ALIASES, id_bytes(&in.account), in.account, &in, &reply) == OK);
}

static void world_open(struct world *world)
{
    *world = (struct world){.chance = 7};
    model_rows_init(&world->model);
    put_account(world, ann, "ann", "Ann");
    put_account(world, ben, "ben", "Ann");
    task = put_task(world);
    put_ghost(world, 1000); /* of a signup that can never complete, and of one that still may */
    put_ghost(world, now_ms - 1);
}

static void world_close(struct world *world)
{
    model_rows_close(&world->model);
    arena_close(&world->arena);
}

/* ---- services ---- */

static struct rows *service_rows(struct script *script, unsigned partition)
{
    CHECK(partition == 1);
    return &world_of(script)->model.rows;
}

static void service_read(struct script *script, unsigned partition)
{
    (void)script;
    CHECK(partition == system_address.partition || partition == 1 || partition == SCRIPT_ALL_PARTITIONS);
}

static void service_command(struct script *script, uint8_t kind, uint8_t op, struct address address, const void *in,
                            bool main)
{
    struct world *world = world_of(script);
    (void)main;
    CHECK(address.partition == 1 && !world->waiting);
    world->waiting = true;
    world->err = apply(world, kind_find(kind), op, address.key, script->caller.account, in, &world->answer);
}

static void service_password(struct script *script, struct password_job *job, bool verify)
{
    CHECK(job->password.len <= LIMIT_PASSWORD_BYTES);
    job->matches = verify && strcmp(job->phc, "phc") == 0 && job->password.len % 2 == 0;
    if (!verify) {
        memcpy(job->phc, "made", 5);
    }
    (void)script;
}

static void service_random(struct script *script, void *to, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        ((uint8_t *)to)[i] = (uint8_t)fuzz_next(&world_of(script)->chance);
    }
}

static void service_audit(struct script *script, const char *action, struct bytes user, struct bytes detail)
{
    (void)script;
    CHECK(action != NULL && detail.len < 100 && text_utf8_prefix(user) == user.len);
}

static int64_t service_stamp(struct script *script, struct id account)
{
    (void)account;
    return script->now_ms;
}

static enum err service_sign_foreign(struct script *script, const struct foreign_claims *claims, struct buf *out)
{
    struct buf payload = {0};
    struct form form;
    const char *why;
    buf_add_char(&payload, '{');
    buf_add_bytes(&payload, claims->more);
    buf_add_lit(&payload, "\"exp\":1}");
    CHECK(claims->stamp_ms == script->now_ms && claims->lifetime_s <= LIMIT_FOREIGN_TOKEN_S);
    CHECK(id_is_placed(claims->account, PARTITIONS));
    CHECK(form_decode_json(buf_bytes(&payload), script->arena, &form, &why) == OK);
    buf_free(&payload);
    buf_add_lit(out, "token");
    return OK;
}

static const struct script_services services = {.rows = service_rows,
                                                .read = service_read,
                                                .command = service_command,
                                                .password = service_password,
                                                .random = service_random,
                                                .audit = service_audit,
                                                .stamp = service_stamp,
                                                .sign_foreign = service_sign_foreign};

/* As node/call.c does it, without waiting. */
static enum err run_script(struct world *world, const struct op *op, const void *in, struct caller caller,
                           struct reply *reply)
{
    struct script *s = &world->script;
    *s = (struct script){.arena = &world->arena,
                         .caller = caller,
                         .now_ms = now_ms,
                         .partitions = PARTITIONS,
                         .in = in,
                         .state = arena_zalloc(&world->arena, op->state_size + 1),
                         .remote = BYTES_LIT("::1"),
                         .reply = reply,
                         .services = &services,
                         .steps = op->steps};
    for (int i = 0; i < STEPS_MAX; i++) {
        const struct step *step = &s->steps[s->next];
        if (step->name == NULL || s->done || (s->err != OK && !step->catches)) {
            reply_close(&s->answer);
            return s->err;
        }
        s->next++;
        enum err err = step->run(s);
        if (err != OK) {
            CHECK(!world->waiting);
            reply_close(&s->answer);
            return err;
        }
        s->err = OK;
        if (world->waiting) {
            world->waiting = false;
            reply_close(&s->answer);
            s->answer = world->answer;
            s->err = world->err;
            world->answer = (struct reply){0};
        }
    }
    CHECK(false); /* a script that does not end */
    return OK;
}

struct world_look {
    struct look look;
    struct world *world;
};

static struct rows *query_rows(struct look *look, unsigned partition)
{
    CHECK(partition == 1);
    return &container_of(look, struct world_look, look)->world->model.rows;
}

static enum err run_query(struct world *world, const struct op *op, const void *in, struct caller caller,
                          struct reply *reply)
{
    struct world_look look = {{&world->arena, caller, now_ms, PARTITIONS, query_rows}, world};
    struct address address = {0};
    if ((op->flags & OP_ALL_PARTITIONS) == 0) {
        TRY(op->address(&caller, in, &world->arena, PARTITIONS, &address));
        CHECK(address.partition == 1);
    }
    return op->query(&look.look, in, reply);
}

/* ---- the request ---- */

static void check_reply(struct world *world, const struct reply *reply)
{
    CHECK(reply->status >= 200 && reply->status <= 507 && reply->type != NULL);
    CHECK(reply->headers.len == 0 || memmem(reply->headers.ptr, reply->headers.len, "\r\n\r\n", 4) == NULL);
    bool json = strncmp(reply->type, "application/json", 16) == 0;
    struct bytes body = buf_bytes(&reply->body);
    struct form form;
    const char *why;
    CHECK(body.len > 0 && text_utf8_prefix(body) == body.len);
    CHECK(!json || bytes_is(body, "null") || form_decode_json(body, &world->arena, &form, &why) == OK);
}

static void check_failure(struct world *world, const struct facade *facade, enum err err, enum method method,
                          const struct reply *failed, const char *why)
{
    struct reply reply = {.status = (uint16_t)err_status(err)};
    struct facade_failure failure = {err, method, failed->pointer, err == ERR_INVALID_JSON ? why : failed->detail};
    facade->fail(&failure, &reply);
    CHECK(reply.status >= 400);
    check_reply(world, &reply);
    reply_close(&reply);
}

static struct bytes take_line(struct bytes *input)
{
    const uint8_t *end = input->len == 0 ? NULL : memchr(input->ptr, '\n', input->len);
    struct bytes line = bytes_of(input->ptr, end == NULL ? input->len : (size_t)(end - input->ptr));
    size_t skip = line.len + (end != NULL);
    *input = bytes_of(input->ptr + skip, input->len - skip);
    return line;
}

static bool is_target(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] <= ' ' || text.ptr[i] >= 0x7f) {
            return false;
        }
    }
    return text.len > 0 && text.len <= LIMIT_TARGET_BYTES;
}

static void add_header(struct http_request *http, struct buf *head, const char *name, struct bytes value)
{
    struct http_header *header = &http->headers[http->headers_len++];
    value.len = value.len > LIMIT_HEAD_BYTES ? LIMIT_HEAD_BYTES : value.len;
    *header = (struct http_header){(uint16_t)head->len, (uint16_t)strlen(name), (uint16_t)(head->len + strlen(name)),
                                   (uint16_t)value.len};
    buf_add_str(head, name);
    buf_add_bytes(head, value);
}

static void answer(struct world *world, const struct facade *facade, const struct http_request *http,
                   const struct route_match *match, struct caller caller)
{
    const struct op *op = match->route->op;
    struct reply reply = {0};
    const char *why = NULL;
    void *in = NULL;
    if (op->role == ROLE_NONE && !facade_route_of(op)->optional) {
        caller = (struct caller){0};
    }
    size_t before = arena_held(&world->arena);
    enum err err = foreign_decode(facade, match, http, &world->arena, &in, &why);
    CHECK(arena_held(&world->arena) - before <= DECODED_BYTES + 8 * http->body.len);
    if (err == OK) {
        err =
            op->type == OP_QUERY ? run_query(world, op, in, caller, &reply) : run_script(world, op, in, caller, &reply);
    }
    if (id_eq(caller.account, nobody) && facade == &tasks_facade && op->method != METHOD_POST && err != ERR_TOO_LARGE &&
        err != ERR_INVALID_JSON) {
        CHECK(err == ERR_UNAUTHORIZED);
    }
    if (err == OK) {
        check_reply(world, &reply);
    } else {
        check_failure(world, facade, err, http->method, &reply, why);
    }
    reply_close(&reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const char *const types[] = {"application/json", "application/x-www-form-urlencoded; charset=utf-8",
                                        "multipart/form-data", ""};
    const struct id callers[2][2] = {{ann, ben}, {nobody, nobody}};
    struct bytes input = bytes_of(data, len);
    uint64_t choice = fuzz_take(&input, 1), method = fuzz_take(&input, 1);
    const struct facade *facade = facades[choice % 2];
    struct bytes target = take_line(&input), token = take_line(&input);
    if (!is_target(target)) {
        return 0;
    }
    struct buf head = {0}, location = {0};
    const uint8_t *mark = memchr(target.ptr, '?', target.len);
    size_t path_len = mark == NULL ? target.len : (size_t)(mark - target.ptr);
    static struct http_request http;
    http = (struct http_request){.method = (enum method)(method % (METHOD_OTHER + 1)),
                                 .path = bytes_of(target.ptr, path_len),
                                 .query = mark == NULL ? BYTES_NONE : bytes_of(mark + 1, target.len - path_len - 1),
                                 .body = input};
    add_header(&http, &head, "content-type", bytes_str(types[choice >> 2 & 3]));
    add_header(&http, &head, facade->cookie != NULL ? "cookie" : "authorization", token);
    http.head = head.ptr;
    struct bytes found = foreign_token(facade, &http);
    CHECK(found.len == 0 || (found.ptr > head.ptr && found.ptr + found.len <= head.ptr + head.len));
    struct world world;
    struct route_match match;
    world_open(&world);
    foreign_match(router, facade, &http, &match);
    if (match.route == NULL) {
        bool redirects = foreign_redirects(router, facade, &http, &location);
        CHECK(redirects == (location.len > 0));
        check_failure(&world, facade, match.allowed != 0 ? ERR_METHOD_NOT_ALLOWED : ERR_NOT_FOUND, http.method,
                      &(struct reply){0}, NULL);
    } else {
        answer(&world, facade, &http, &match,
               (struct caller){callers[choice >> 4 & 1][choice >> 1 & 1], {{0}}, ROLE_USER});
    }
    world_close(&world);
    buf_free(&head);
    buf_free(&location);
    return 0;
}

/* ---- seeds: one request a route ---- */

static void seed(const char *name, unsigned facade, unsigned type, enum method method, const char *path,
                 const char *token, const char *body)
{
    struct buf out = {0};
    buf_add_char(&out, (char)(facade | type << 2));
    buf_add_char(&out, (char)method);
    buf_printf(&out, "%s\n%s\n%s", path, token, body);
    fuzz_seed(name, buf_bytes(&out));
    buf_free(&out);
}

/* One long name over many members. */
static void seed_wide(void)
{
    struct buf body = {0};
    buf_add_lit(&body, "{\"");
    for (int i = 0; i < 8000; i++) {
        buf_add_char(&body, 'a');
    }
    buf_add_lit(&body, "\":{");
    for (int i = 0; i < FORM_MEMBERS; i++) {
        buf_printf(&body, "%s\"%d\":1", i == 0 ? "" : ",", i);
    }
    buf_add_lit(&body, "}}");
    buf_add_char(&body, 0);
    seed("wide", 1, 0, METHOD_POST, "/users/login", "", (const char *)body.ptr);
    buf_free(&body);
}

static void seeds(void)
{
    char path[128], hex[FOREIGN_HEX_BYTES + 1] = "", body[256], user[FOREIGN_HEX_BYTES + 1] = "";
    unsigned long long number = (unsigned long long)foreign_int(task);
    foreign_hex(task, hex);
    foreign_hex(ben, user);
    enum { REMINDME, TASKS, NOBODY = 16 };
    seed("signup", TASKS, 0, METHOD_POST, "/users/signup", "",
         "{\"username\":\"a\",\"email\":\"b\",\"password\":\"c\"}");
    seed("signup_form", TASKS, 1, METHOD_POST, "/users/signup/", "", "name=N&password=%41+b");
    seed("login", TASKS, 0, METHOD_POST, "/users/login", "", "{\"email\":\"ANN\",\"password\":\"12\"}");
    seed("login_wrong", TASKS, 0, METHOD_POST, "/users/login", "", "{\"email\":\"ben\",\"password\":\"1\"}");
    seed("login_ghost", TASKS, 0, METHOD_POST, "/users/login", "", "{\"email\":\"ghost\",\"password\":\"12\"}");
    seed("users", TASKS, 0, METHOD_GET, "/users", "Bearer x", "");
    (void)snprintf(path, sizeof path, "/users/%s", user);
    seed("user", TASKS, 0, METHOD_GET, path, "bearer x", "");
    seed("tasks", TASKS, 0, METHOD_GET, "/tasks", "Bearer x", "");
    (void)snprintf(path, sizeof path, "/tasks/%s", hex);
    seed("task", TASKS, 0, METHOD_GET, path, "Bearer x", "");
    (void)snprintf(body, sizeof body,
                   "{\"title\":\"t\",\"status\":\"Doing\",\"assignedTo\":{\"_id\":\"%s\"},\"deadline\":\"2031-01-02\"}",
                   user);
    seed("task_put", TASKS, 0, METHOD_PUT, path, "Bearer x", body);
    seed("task_post", TASKS, 0, METHOD_POST, "/tasks", "Bearer x", body);
    seed("task_delete", TASKS, 0, METHOD_DELETE, path, "Bearer x", "");
    seed("task_put_nobody", TASKS | NOBODY, 0, METHOD_PUT, path, "Bearer x", body);
    seed("task_delete_nobody", TASKS | NOBODY, 0, METHOD_DELETE, path, "Bearer x", "");
    seed("register", REMINDME, 1, METHOD_POST, "/api/user-register/", "",
         "username=cleo&email=c%40x.org&password=p&first_name=C");
    seed("remindme_login", REMINDME, 0, METHOD_POST, "/api/user-login/", "a=b; jwt=\"x\"; c=d",
         "{\"username\":\"ann\",\"password\":\"12\"}");
    seed("list", REMINDME, 0, METHOD_GET, "/api/task-list/?a=b", "jwt=x", "");
    seed("slash", REMINDME, 0, METHOD_GET, "/api/task-list?a=b", "jwt=x", "");
    seed("create", REMINDME, 1, METHOD_POST, "/api/task-create/", "jwt=x", "title=t&content=c%0A&public=on");
    (void)snprintf(path, sizeof path, "/api/task-detail/%llu/", number);
    seed("detail", REMINDME, 0, METHOD_GET, path, "jwt=x", "");
    (void)snprintf(path, sizeof path, "/api/update-reminder/%llu/", number);
    seed("update", REMINDME, 0, METHOD_POST, path, "jwt=x", "{\"title\":\"t\",\"completed\":true,\"public\":0}");
    (void)snprintf(path, sizeof path, "/api/task-delete/%llu/", number);
    seed("delete", REMINDME, 0, METHOD_DELETE, path, "jwt=x", "");
    seed_wide();
    seed("me", REMINDME, 0, METHOD_GET, "/api/current-user/", "jwt=x", "");
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    router = router_new();
    ann = id_make(now_ms - 10, 1, 1ULL << 40);
    ben = id_make(now_ms - 5, 1, 2ULL << 40);
    nobody = id_make(now_ms - 4, 1, 3ULL << 40);
    if (fuzz_wants_seeds()) {
        struct world world;
        world_open(&world);
        world_close(&world);
        seeds();
        fuzz_seeds_end();
    }
    return 0;
}
