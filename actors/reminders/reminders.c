#include "actors/reminders/reminders.h"
#include "actors/reminders/feed.h"
#include "actors/reminders/record.h"

#include "actors/auth/auth.h"
#include "actors/page.h"
#include "node/base/text.h"
#include "node/limits.h"

enum { CREATE = 1, GET, LIST, PUT, PATCH, DELETE, DO_CREATE = 32, DO_PUT, DO_PATCH, DO_DELETE };
enum { SCOPE_MINE, SCOPE_PUBLIC, SCOPE_ASSIGNED, SCOPE_ALL };
static const char *const scopes[] = {"mine", "public", "assigned", "all", NULL};

/* What a client may send: POST and PUT the whole, PATCH a part. One struct, three tables: the path
 * parameter and what is required differ. The last two fields are the script's additions. */
struct body {
    struct fieldset set;
    struct id id;
    struct bytes title, content;
    int64_t due_at;
    bool public, completed;
    int status;
    struct bytes assignee;
    struct id assignee_id;
};

#define BODY_FIELDS(title_flags)                                                                              \
    FIELD_STRING(2, body, title, 1, LIMIT_TITLE_CHARS, title_flags),                                          \
        FIELD_STRING(3, body, content, 0, LIMIT_CONTENT_BYTES, FIELD_NULLABLE | FIELD_IN_BYTES | FIELD_TEXT), \
        FIELD_TIME(4, body, due_at, FIELD_NULLABLE), FIELD_BOOL(5, body, public, 0),                          \
        FIELD_ENUM(6, body, status, reminder_statuses, 0), FIELD_BOOL(7, body, completed, 0),                 \
        FIELD_STRING(8, body, assignee, 1, LIMIT_USERNAME_CHARS, FIELD_NULLABLE),                             \
        FIELD_ID(13, body, assignee_id, FIELD_HIDDEN), FIELDS_END
static const struct field create_in[] = {FIELD_ID(1, body, id, FIELD_HIDDEN), BODY_FIELDS(FIELD_REQUIRED)};
static const struct field put_in[] = {FIELD_ID(1, body, id, FIELD_QUERY | FIELD_REQUIRED), BODY_FIELDS(FIELD_REQUIRED)};
static const struct field patch_in[] = {FIELD_ID(1, body, id, FIELD_QUERY | FIELD_REQUIRED), BODY_FIELDS(0)};

struct id_in {
    struct fieldset set;
    struct id id;
};
static const struct field id_in[] = {FIELD_ID(1, id_in, id, FIELD_QUERY | FIELD_REQUIRED), FIELDS_END};

struct list_in {
    struct fieldset set;
    int64_t limit;
    struct bytes cursor, q;
    int scope, status;
    bool completed;
    int64_t due_before, due_after;
};
static const struct field list_in[] = {FIELD_INT(1, list_in, limit, 1, LIMIT_PAGE, FIELD_QUERY),
                                       FIELD_STRING(2, list_in, cursor, 0, 64, FIELD_QUERY),
                                       FIELD_STRING(3, list_in, q, 1, LIMIT_QUERY_CHARS, FIELD_QUERY),
                                       FIELD_ENUM(4, list_in, scope, scopes, FIELD_QUERY),
                                       FIELD_ENUM(5, list_in, status, reminder_statuses, FIELD_QUERY),
                                       FIELD_BOOL(6, list_in, completed, FIELD_QUERY),
                                       FIELD_TIME(7, list_in, due_before, FIELD_QUERY),
                                       FIELD_TIME(8, list_in, due_after, FIELD_QUERY),
                                       FIELDS_END};

#define HAS(in, member) FIELD_HAS(patch_in, in, struct body, member)
#define IS_NULL(in, member) FIELD_IS_NULL(patch_in, in, struct body, member)

static bool may_see(const struct reminder *r, const struct caller *caller)
{
    return r->public || id_eq(r->owner, caller->account) || id_eq(r->assignee_id, caller->account);
}

static enum err store(struct turn *turn, struct reminder *r, struct reply *reply)
{
    struct buf packed = {0};
    SET(r, updated_at, turn->now_ms);
    SET(r, version, (int64_t)turn->version);
    field_pack(&packed, reminder_fields, r);
    enum err err = rows_put(turn->rows, TABLE_REMINDER, id_bytes(&r->id), buf_bytes(&packed));
    if (err == OK) {
        reply_record(reply, reminder_fields, buf_bytes(&packed), turn->version, TABLE_REMINDER, id_bytes(&r->id));
    }
    buf_free(&packed);
    return err;
}

/* ---- reducers ---- */

/* completed is true exactly when the status is done: each sets the other. */
static enum err set_status(struct reminder *r, const struct body *in, struct reply *reply)
{
    bool status = HAS(in, status), completed = HAS(in, completed);
    if (status && completed && in->completed != (in->status == DONE)) {
        return reply_invalid(reply, "/completed", "contradiction",
                             "completed must be true exactly when status is done");
    }
    if (status) {
        SET(r, status, in->status);
    } else if (completed && in->completed != (r->status == DONE)) {
        SET(r, status, in->completed ? DONE : TODO);
    }
    SET(r, completed, r->status == DONE);
    return OK;
}

static void set_texts(struct reminder *r, const struct body *in)
{
    if (HAS(in, title)) {
        SET(r, title, in->title);
    }
    if (HAS(in, content)) {
        SET(r, content, in->content);
    } else if (IS_NULL(in, content)) {
        SET(r, content, BYTES_LIT(""));
    }
    if (HAS(in, due_at)) {
        SET(r, due_at, in->due_at);
    } else if (IS_NULL(in, due_at)) {
        CLEAR(r, due_at);
    }
    if (HAS(in, public)) {
        SET(r, public, in->public);
    }
}

static void set_assignee(struct reminder *r, const struct body *in)
{
    if (HAS(in, assignee)) {
        SET(r, assignee, in->assignee);
        SET(r, assignee_id, in->assignee_id);
    } else if (IS_NULL(in, assignee)) {
        CLEAR(r, assignee);
        CLEAR(r, assignee_id);
        r->assignee_id = (struct id){{0}};
    }
}

static void set_defaults(struct reminder *r)
{
    SET(r, content, BYTES_LIT(""));
    SET(r, public, false);
    SET(r, status, TODO);
    SET(r, completed, false);
}

static enum err create_reduce(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct body *in = raw;
    struct reminder r = {0};
    struct account owner = {0};
    enum err err = account_find(turn->rows, turn->caller.account, &owner);
    if (err != OK) {
        return err == ERR_NOT_FOUND ? ERR_UNAUTHORIZED : err;
    }
    set_defaults(&r);
    set_texts(&r, in);
    set_assignee(&r, in);
    TRY(set_status(&r, in, reply));
    SET(&r, id, turn_new_id(turn));
    SET(&r, owner, turn->caller.account);
    SET(&r, created_by, arena_copy(turn->arena, owner.username));
    SET(&r, created_at, turn->now_ms);
    TRY(reminder_index(turn->rows, &r));
    reply->location = r.id;
    return store(turn, &r, reply);
}

/* What is common to changes: the record, copied out of the map, if the caller may see it. */
static enum err load_visible(struct turn *turn, struct id id, struct reminder *out)
{
    struct bytes packed;
    TRY(rows_get(turn->rows, TABLE_REMINDER, id_bytes(&id), &packed));
    TRY(field_unpack(reminder_fields, arena_copy(turn->arena, packed), out));
    return may_see(out, &turn->caller) ? OK : ERR_NOT_FOUND;
}

/* The creator changes everything; the assignee the status, and nothing else. */
static enum err check_rights(const struct turn *turn, const struct reminder *r, const struct body *in)
{
    uint64_t status_bits = field_bit(field_index(patch_in, offsetof(struct body, id))) |
                           field_bit(field_index(patch_in, offsetof(struct body, status))) |
                           field_bit(field_index(patch_in, offsetof(struct body, completed)));
    if (id_eq(r->owner, turn->caller.account)) {
        return OK;
    }
    bool only_status = ((in->set.has | in->set.null) & ~status_bits) == 0;
    return id_eq(r->assignee_id, turn->caller.account) && only_status ? OK : ERR_FORBIDDEN;
}

static enum err change(struct turn *turn, const struct body *in, bool whole, struct reply *reply)
{
    struct reminder before = {0};
    TRY(load_visible(turn, in->id, &before));
    if (whole && !id_eq(before.owner, turn->caller.account)) {
        return ERR_FORBIDDEN;
    }
    TRY(check_rights(turn, &before, in));
    TRY(turn_check_version(turn, (uint64_t)before.version));
    struct reminder after = before;
    if (whole) { /* PUT: what is not sent is gone */
        CLEAR(&after, due_at);
        CLEAR(&after, assignee);
        CLEAR(&after, assignee_id);
        after.assignee_id = (struct id){{0}};
        set_defaults(&after);
    }
    set_texts(&after, in);
    set_assignee(&after, in);
    TRY(set_status(&after, in, reply));
    bool same_indexes = before.public == after.public && id_eq(before.assignee_id, after.assignee_id);
    if (!same_indexes) {
        TRY(reminder_unindex(turn->rows, &before));
        TRY(reminder_index(turn->rows, &after));
    }
    return store(turn, &after, reply);
}

static enum err put_reduce(struct turn *turn, const void *in, struct reply *reply)
{
    return change(turn, in, true, reply);
}

static enum err patch_reduce(struct turn *turn, const void *in, struct reply *reply)
{
    return change(turn, in, false, reply);
}

static enum err erase(struct turn *turn, const struct reminder *r)
{
    TRY(reminder_unindex(turn->rows, r));
    return rows_del(turn->rows, TABLE_REMINDER, id_bytes(&r->id));
}

static enum err delete_reduce(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct id_in *in = raw;
    struct reminder r = {0};
    (void)reply;
    TRY(load_visible(turn, in->id, &r));
    if (!id_eq(r.owner, turn->caller.account)) {
        return ERR_FORBIDDEN;
    }
    TRY(turn_check_version(turn, (uint64_t)r.version));
    return erase(turn, &r);
}

/* ---- an account goes: its reminders are erased, its assignments lifted ---- */

static enum err first_with(struct turn *turn, uint8_t table, struct id account, struct reminder *out)
{
    struct bytes key, value;
    struct id id;
    TRY(rows_ceil(turn->rows, table, id_bytes(&account), &key, &value));
    if (!bytes_start_with(key, id_bytes(&account))) {
        return ERR_NOT_FOUND;
    }
    memcpy(id.b, key.ptr + sizeof id.b, sizeof id.b);
    TRY(rows_get(turn->rows, TABLE_REMINDER, id_bytes(&id), &value));
    *out = (struct reminder){0};
    return field_unpack(reminder_fields, arena_copy(turn->arena, value), out);
}

static enum err unassign(struct turn *turn, struct reminder *r)
{
    struct reply unused = {0};
    TRY(reminder_unindex(turn->rows, r));
    CLEAR(r, assignee);
    CLEAR(r, assignee_id);
    r->assignee_id = (struct id){{0}};
    TRY(reminder_index(turn->rows, r));
    enum err err = store(turn, r, &unused);
    reply_close(&unused);
    return err;
}

static enum err forget(struct turn *turn, struct id account, unsigned limit, unsigned *out_erased)
{
    struct reminder r;
    enum err err = OK;
    while (*out_erased < limit && (err = first_with(turn, TABLE_MINE, account, &r)) == OK) {
        TRY(erase(turn, &r));
        (*out_erased)++;
    }
    while (err == ERR_NOT_FOUND && *out_erased < limit) {
        enum err next = first_with(turn, TABLE_ASSIGNED, account, &r);
        if (next != OK) {
            err = next;
            break;
        }
        TRY(unassign(turn, &r));
        (*out_erased)++;
    }
    return err == ERR_NOT_FOUND || err == OK ? feed_forget(turn, account, limit, out_erased) : err;
}

/* ---- queries ---- */

static enum err id_address(const struct caller *caller, const void *raw, struct arena *arena, unsigned partitions,
                           struct address *out)
{
    const struct id_in *in = raw;
    (void)caller;
    (void)arena;
    if (!id_is_placed(in->id, partitions)) {
        return ERR_NOT_FOUND;
    }
    *out = (struct address){id_partition(in->id), id_bytes(&in->id)};
    return OK;
}

static enum err get_query(struct look *look, const void *raw, struct reply *reply)
{
    const struct id_in *in = raw;
    struct reminder r = {0};
    struct bytes packed;
    TRY(reminder_load(look->rows(look, id_partition(in->id)), in->id, &r, &packed));
    if (!may_see(&r, &look->caller)) {
        return ERR_NOT_FOUND;
    }
    reply_record(reply, reminder_fields, packed, (uint64_t)r.version, TABLE_REMINDER, BYTES_NONE);
    return OK;
}

struct filter {
    const struct list_in *in;
    const struct caller *caller;
    struct buf needle, hay;
};

static bool text_matches(struct filter *filter, const struct reminder *r)
{
    filter->hay.len = 0;
    return text_fold(r->title, &filter->hay) &&
           (buf_add_char(&filter->hay, '\n'), text_fold(r->content, &filter->hay)) &&
           memmem(filter->hay.ptr, filter->hay.len, filter->needle.ptr, filter->needle.len) != NULL;
}

#define LIST_HAS(member) FIELD_HAS(list_in, in, struct list_in, member)
static bool matches(struct filter *filter, const struct reminder *r)
{
    const struct list_in *in = filter->in;
    bool due = FIELD_HAS(reminder_fields, r, struct reminder, due_at);
    return may_see(r, filter->caller) && (!LIST_HAS(status) || r->status == in->status) &&
           (!LIST_HAS(completed) || r->completed == in->completed) &&
           (!LIST_HAS(due_before) || (due && r->due_at < in->due_before)) &&
           (!LIST_HAS(due_after) || (due && r->due_at > in->due_after)) &&
           (filter->needle.len == 0 || text_matches(filter, r));
}

static bool list_want(void *ctx, struct rows *rows, struct id id, struct bytes *out_packed, enum err *out_err)
{
    struct reminder r = {0};
    *out_err = reminder_load(rows, id, &r, out_packed);
    return *out_err == OK && matches(ctx, &r);
}

static enum err list_query(struct look *look, const void *raw, struct reply *reply)
{
    const struct list_in *in = raw;
    struct page page;
    struct filter filter = {.in = in, .caller = &look->caller};
    int scope = LIST_HAS(scope) ? in->scope : SCOPE_MINE;
    struct bytes account = id_bytes(&look->caller.account);
    TRY(page_open(&page, look, in->limit, in->cursor));
    if (scope == SCOPE_MINE || scope == SCOPE_ALL) {
        page_add(&page, id_partition(look->caller.account), TABLE_MINE, account);
    }
    if (scope == SCOPE_PUBLIC || scope == SCOPE_ALL) {
        page_add_all(&page, TABLE_PUBLIC, BYTES_NONE);
    }
    if (scope == SCOPE_ASSIGNED || scope == SCOPE_ALL) {
        page_add_all(&page, TABLE_ASSIGNED, account);
    }
    enum err err = LIST_HAS(q) && !text_fold(in->q, &filter.needle) ? ERR_BAD_REQUEST : OK;
    if (err == OK) {
        err = page_fill(&page, reminder_fields, list_want, &filter, reply);
    }
    buf_free(&filter.needle);
    buf_free(&filter.hay);
    return err;
}

/* ---- scripts: find the assignee's account and the creator's actor, then the command ---- */

struct write_state {
    struct body body;
    struct id actor;
    struct bytes name;
};

static enum err write_begin(struct script *s)
{
    const struct body *in = s->in;
    struct write_state *st = s->state;
    st->body = *in;
    st->actor = s->caller.account;
    if (!HAS(in, assignee)) {
        return OK;
    }
    st->name = name_key(NAME_USERNAME, in->assignee, s->arena);
    script_read(s, partition_of_name(st->name, s->partitions));
    return OK;
}

static enum err no_such_user(struct script *s)
{
    return reply_invalid(s->reply, "/assignee", "no_such_user", "There is no user of this name");
}

static enum err write_name(struct script *s)
{
    struct write_state *st = s->state;
    if (!HAS(&st->body, assignee)) {
        return OK;
    }
    struct rows *rows = script_rows(s, partition_of_name(st->name, s->partitions));
    enum err err = st->name.len == 0 ? ERR_NOT_FOUND : name_find(rows, st->name, &st->body.assignee_id);
    if (err != OK) {
        return err == ERR_NOT_FOUND ? no_such_user(s) : err;
    }
    script_read(s, id_partition(st->body.assignee_id));
    return OK;
}

static enum err write_assignee(struct script *s)
{
    struct write_state *st = s->state;
    struct account account = {0};
    if (!HAS(&st->body, assignee)) {
        return OK;
    }
    enum err err = account_find(script_rows(s, id_partition(st->body.assignee_id)), st->body.assignee_id, &account);
    if (err != OK) {
        return err == ERR_NOT_FOUND ? no_such_user(s) : err;
    }
    st->body.assignee = arena_copy(s->arena, account.username);
    st->body.set.has |= field_bit(field_index(patch_in, offsetof(struct body, assignee_id)));
    return OK;
}

static enum err create_command(struct script *s)
{
    struct write_state *st = s->state;
    struct address address = {id_partition(st->actor), id_bytes(&st->actor)};
    script_command(s, KIND_REMINDERS, DO_CREATE, address, &st->body, true);
    return OK;
}

/* A reminder's actor is its creator's account, whoever asks. */
static enum err change_find(struct script *s)
{
    struct write_state *st = s->state;
    if (!id_is_placed(st->body.id, s->partitions)) {
        return ERR_NOT_FOUND;
    }
    script_read(s, id_partition(st->body.id));
    return OK;
}

static enum err find_actor(struct script *s)
{
    struct write_state *st = s->state;
    struct reminder r = {0};
    struct bytes packed;
    TRY(reminder_load(script_rows(s, id_partition(st->body.id)), st->body.id, &r, &packed));
    st->actor = r.owner;
    return OK;
}

static void change_command(struct script *s, uint8_t op, const void *in)
{
    struct write_state *st = s->state;
    struct address address = {id_partition(st->body.id), id_bytes(&st->actor)};
    script_command(s, KIND_REMINDERS, op, address, in, true);
}

static enum err put_command(struct script *s)
{
    TRY(find_actor(s));
    change_command(s, DO_PUT, &((struct write_state *)s->state)->body);
    return OK;
}

static enum err patch_command(struct script *s)
{
    TRY(find_actor(s));
    change_command(s, DO_PATCH, &((struct write_state *)s->state)->body);
    return OK;
}

static enum err delete_begin(struct script *s)
{
    struct write_state *st = s->state;
    st->body.id = ((const struct id_in *)s->in)->id;
    return change_find(s);
}

static enum err delete_command(struct script *s)
{
    TRY(find_actor(s));
    change_command(s, DO_DELETE, s->in);
    return OK;
}

/* The command's answer is the operation's. */
static enum err write_answer(struct script *s)
{
    struct reply moved = s->answer;
    s->answer = (struct reply){0};
    reply_close(s->reply);
    *s->reply = moved;
    return OK;
}

#define RESOLVE                                                 \
    {"begin", write_begin, false}, {"name", write_name, false}, \
    {                                                           \
        "assignee", write_assignee, false                       \
    }
static const struct step create_steps[] = {
    RESOLVE, {"command", create_command, false}, {"answer", write_answer, false}, {0}};
static const struct step put_steps[] = {
    RESOLVE, {"find", change_find, false}, {"command", put_command, false}, {"answer", write_answer, false}, {0}};
static const struct step patch_steps[] = {
    RESOLVE, {"find", change_find, false}, {"command", patch_command, false}, {"answer", write_answer, false}, {0}};
static const struct step delete_steps_[] = {
    {"find", delete_begin, false}, {"command", delete_command, false}, {"answer", write_answer, false}, {0}};

static const struct table tables[] = {
    {TABLE_REMINDER, "reminders", true},       {TABLE_MINE, "reminders_by_owner", false},
    {TABLE_PUBLIC, "reminders_public", false}, {TABLE_ASSIGNED, "reminders_by_assignee", false},
    {TABLE_FEED, "reminder_feeds", true},      {0}};

#define IN(table, type) .in = table, .in_size = sizeof(struct type), .out = reminder_fields
#define STATE .state_size = sizeof(struct write_state)
static const struct op ops[] = {
    {CREATE, OP_SCRIPT, 0, ROLE_USER, 201, "create", METHOD_POST, "/v1/reminders", "Create a reminder",
     IN(create_in, body), STATE, .steps = create_steps},
    {GET, OP_QUERY, 0, ROLE_USER, 200, "get", METHOD_GET, "/v1/reminders/{id}", "One reminder", IN(id_in, id_in),
     .address = id_address, .query = get_query},
    {LIST, OP_QUERY, OP_ALL_PARTITIONS, ROLE_USER, 200, "list", METHOD_GET, "/v1/reminders", "Reminders, newest first",
     IN(list_in, list_in), .query = list_query},
    {PUT, OP_SCRIPT, 0, ROLE_USER, 200, "put", METHOD_PUT, "/v1/reminders/{id}", "Replace a reminder", IN(put_in, body),
     STATE, .steps = put_steps},
    {PATCH, OP_SCRIPT, OP_MERGE_PATCH, ROLE_USER, 200, "patch", METHOD_PATCH, "/v1/reminders/{id}",
     "Change parts of a reminder", IN(patch_in, body), STATE, .steps = patch_steps},
    {DELETE, OP_SCRIPT, 0, ROLE_USER, 204, "delete", METHOD_DELETE, "/v1/reminders/{id}", "Delete a reminder",
     .in = id_in, .in_size = sizeof(struct id_in), STATE, .steps = delete_steps_},
    {DO_CREATE, OP_COMMAND, .name = "do_create", IN(create_in, body), .reduce = create_reduce},
    {DO_PUT, OP_COMMAND, .name = "do_put", IN(put_in, body), .reduce = put_reduce},
    {DO_PATCH, OP_COMMAND, .name = "do_patch", IN(patch_in, body), .reduce = patch_reduce},
    {DO_DELETE, OP_COMMAND, .flags = OP_FREES, .name = "do_delete", .in = id_in, .in_size = sizeof(struct id_in),
     .reduce = delete_reduce},
    FEED_OPS,
    {0}};

const struct kind reminders_kind = {.id = KIND_REMINDERS,
                                    .name = "reminders",
                                    .tables = tables,
                                    .ops = ops,
                                    .forget = forget,
                                    .check = reminders_check,
                                    .mend = reminders_mend};
