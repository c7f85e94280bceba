/* tasks-assignment (Aalto MOSAIC): users and tasks of a team, for clients of its API on port 3000. See facades.md. */
#include "actors/facades/tasks.h"

#include <stdio.h>

#include "actors/facades/foreign_id.h"
#include "actors/facades/json_out.h"
#include "actors/reminders/body.h"
#include "node/base/text.h"
#include "node/base/when.h"
#include "node/limits.h"

/* ---- answers ---- */

void tasks_add_id(struct buf *out, const char *name, struct id id)
{
    char hex[FOREIGN_HEX_BYTES];
    foreign_hex(id, hex);
    json_out_text(out, name, bytes_of(hex, sizeof hex));
}

void tasks_error(struct reply *reply, int status, const char *error, const char *message)
{
    struct buf *out = facade_json(reply, status);
    json_out_open(out, NULL, '{');
    json_out_text(out, "error", bytes_str(error));
    json_out_text(out, "message", bytes_str(message));
    buf_add_char(out, '}');
}

static struct buf *open_error(struct reply *reply, const char *name)
{
    struct buf *out = facade_json(reply, 500);
    json_out_open(out, NULL, '{');
    json_out_open(out, "error", '{');
    json_out_text(out, "name", bytes_str(name));
    return out;
}

static void close_error(struct buf *out, struct bytes message)
{
    json_out_text(out, "message", message);
    buf_add_char(out, '}');
    json_out_text(out, "message", BYTES_LIT("Internal server error"));
    buf_add_char(out, '}');
}

void tasks_cast_error(struct reply *reply, const char *kind, struct bytes value, const char *path)
{
    struct buf message = {0}, quoted = {0};
    struct buf *out = open_error(reply, "CastError");
    value = facade_cut(value, 200);
    buf_printf(&quoted, "\"%.*s\"", (int)value.len, (const char *)value.ptr);
    buf_printf(&message, "Cast to %s failed for value ", kind);
    buf_add_bytes(&message, buf_bytes(&quoted));
    buf_printf(&message, " at path \"%s\"", path);
    json_out_text(out, "stringValue", buf_bytes(&quoted));
    json_out_text(out, "kind", bytes_str(kind));
    json_out_text(out, "value", value);
    json_out_text(out, "path", bytes_str(path));
    close_error(out, buf_bytes(&message));
    buf_free(&message);
    buf_free(&quoted);
}

enum err tasks_view_open(struct look *look, struct tasks_view **out)
{
    struct tasks_view *view = arena_zalloc(look->arena, sizeof *view);
    struct id me = look->caller.account;
    view->look = look;
    view->budget = LIMIT_ANSWER_ROWS;
    enum err err = account_find(look->rows(look, id_partition(me)), me, &view->me);
    *out = view;
    return err == ERR_NOT_FOUND ? ERR_UNAUTHORIZED : err;
}

static const char *const statuses[] = {[TODO] = "to Do", [DOING] = "Doing", [DONE] = "Done"};

enum err tasks_add_task(struct tasks_view *view, struct buf *out, const char *name, const struct reminder *r,
                        bool whole_user)
{
    json_out_open(out, name, '{');
    tasks_add_id(out, "_id", r->id);
    json_out_text(out, "title", r->title);
    json_out_text(out, "status", bytes_str(statuses[r->status]));
    if (!id_is_none(r->assignee_id)) {
        if (whole_user) {
            TRY(tasks_add_assignee(view, out, "assignedTo", r->assignee_id));
        } else {
            tasks_add_id(out, "assignedTo", r->assignee_id);
        }
    }
    if (FIELD_HAS(reminder_fields, r, struct reminder, due_at)) {
        json_out_time(out, "deadline", r->due_at);
    }
    json_out_time(out, "createdAt", r->created_at);
    json_out_time(out, "updatedAt", r->updated_at);
    json_out_int(out, "__v", 0);
    buf_add_char(out, '}');
    return OK;
}

/* ---- reading ---- */

enum err tasks_add_list(struct tasks_view *view, const struct facade_ids *ids,
                        enum err (*add)(struct tasks_view *view, struct buf *out, struct id id), struct reply *reply)
{
    struct buf items = {0};
    size_t begins[FACADE_LIST + 1] = {0}, len = 0;
    enum err err = OK;
    for (; err == OK && len < ids->len && items.len < LIMIT_ANSWER_BYTES; len++) {
        err = add(view, &items, ids->list[len]);
        begins[len + 1] = items.len;
    }
    struct buf *out = facade_json(reply, 200);
    json_out_open(out, NULL, '[');
    for (size_t i = err == OK ? len : 0; i > 0; i--) {
        size_t comma = i > 1; /* behind the item before */
        struct bytes item = bytes_of(items.ptr + begins[i - 1] + comma, begins[i] - begins[i - 1] - comma);
        json_out_raw(out, NULL, item);
    }
    buf_add_char(out, ']');
    buf_free(&items);
    return err;
}

static enum err add_listed(struct tasks_view *view, struct buf *out, struct id id)
{
    struct reminder r = {0};
    struct bytes packed;
    TRY(reminder_load(view->look->rows(view->look, id_partition(id)), id, &r, &packed));
    return tasks_add_task(view, out, NULL, &r, true);
}

static enum err list_query(struct look *look, const void *in, struct reply *reply)
{
    struct tasks_view *view;
    struct facade_ids ids;
    (void)in;
    TRY(tasks_view_open(look, &view));
    TRY(facade_reminders(look, FACADE_OWN | FACADE_PUBLIC | FACADE_ASSIGNED, look->caller.account, FACADE_LIST,
                         &view->budget, &ids));
    return tasks_add_list(view, &ids, add_listed, reply);
}

/* The task that the caller may see. ERR_NOT_FOUND. */
static enum err find_task(struct look *look, struct id least, struct reminder *out)
{
    struct bytes packed;
    struct id id;
    if (!id_is_placed(least, look->partitions)) {
        return ERR_NOT_FOUND;
    }
    struct rows *rows = look->rows(look, id_partition(least));
    TRY(foreign_hex_find(rows, TABLE_REMINDER, least, &id));
    TRY(reminder_load(rows, id, out, &packed));
    return facade_sees(look, out) ? OK : ERR_NOT_FOUND;
}

static enum err get_query(struct look *look, const void *raw, struct reply *reply)
{
    const struct facade_in *in = raw;
    struct tasks_view *view;
    struct reminder r = {0};
    struct id least;
    TRY(tasks_view_open(look, &view));
    if (!foreign_hex_parse(in->params[0], &least)) {
        tasks_cast_error(reply, "ObjectId", in->params[0], "_id");
        return OK;
    }
    enum err err = find_task(look, least, &r);
    struct buf *out = facade_json(reply, 200);
    if (err == ERR_NOT_FOUND) {
        json_out_null(out, NULL);
        return OK;
    }
    TRY(err);
    return tasks_add_task(view, out, NULL, &r, true);
}

/* ---- what a client sends ---- */

struct task_write {
    struct reminder_body sent, body; /* the body is what was sent, and what recurrence comes to */
    struct reminder_id gone;
    struct id least, assignee;
    struct bytes before; /* DELETE: the task as it was */
    unsigned tries;
};
enum { TRIES_MAX = 5 };

#define NULL_BODY(body_, member) \
    ((body_)->set.null |= field_bit(field_index(reminder_patch_in, offsetof(struct reminder_body, member))))

static bool take_status(struct bytes text, int *out)
{
    for (int i = TODO; i <= DONE; i++) {
        if (bytes_is_nocase(text, statuses[i]) || bytes_is_nocase(text, reminder_statuses[i])) {
            *out = i;
            return true;
        }
    }
    return false;
}

/* As JavaScript reads dates: a day alone, or without seconds or a zone; and milliseconds, as a number or, since forms
 * have none, as digits that are no day. */
static bool take_date(struct bytes text, enum form_type type, int64_t *out)
{
    uint64_t number;
    char copy[64];
    if ((type == FORM_NUMBER || text.len > 8) && text_parse_u64(text, &number) && number <= 253402300799999) {
        *out = (int64_t)number;
        return true;
    }
    if (text.len < 10 || text.len > 40) {
        return false;
    }
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = 0;
    const char *time = text.len > 10 ? copy + 11 : NULL;
    if (strlen(copy) != text.len || (time != NULL && (strlen(time) < 5 || strchr("Tt ", copy[10]) == NULL))) {
        return false;
    }
    bool zone = time != NULL && strpbrk(time, "zZ+-") != NULL;
    bool seconds = time != NULL && strlen(time) > 5 && time[5] == ':';
    copy[10] = time == NULL ? 0 : 'T';
    if (time == NULL) {
        memcpy(copy + 10, "T00:00", 7);
    }
    if (!seconds) {
        memmove(copy + 19, copy + 16, strlen(copy + 16) + 1);
        memcpy(copy + 16, ":00", 3);
    }
    if (!zone) {
        memcpy(copy + strlen(copy), "Z", 2);
    }
    return when_parse(bytes_str(copy), out);
}

static bool is_empty(const struct form_member *member)
{
    return member->type == FORM_NULL || (member->type == FORM_TEXT && member->text.len == 0);
}

/* Title and status; false: the answer is made. */
static bool take_words(struct script *s, struct reminder_body *body)
{
    const struct facade_in *in = s->in;
    struct bytes title = facade_line(form_text(&in->form, "title"), s->arena);
    if (text_chars(title) > LIMIT_TITLE_CHARS) {
        close_error(open_error(s->reply, "ValidationError"), BYTES_LIT("title: at most 200 characters"));
        return false;
    }
    if (title.len > 0) {
        BODY_SET(body, title, title);
    }
    if (form_find(&in->form, "status") != NULL) {
        int status = TODO;
        (void)take_status(form_text(&in->form, "status"),
                          &status); /* any text upstream: what is none of ours is to Do */
        BODY_SET(body, status, status);
    }
    return true;
}

static bool take_deadline(struct script *s, struct reminder_body *body)
{
    const struct facade_in *in = s->in;
    const struct form_member *deadline = form_find(&in->form, "deadline");
    int64_t ms;
    if (deadline == NULL) {
        return true;
    }
    if (is_empty(deadline)) {
        NULL_BODY(body, due_at);
        return true;
    }
    if (!take_date(deadline->text, deadline->type, &ms)) {
        tasks_cast_error(s->reply, "date", deadline->text, "deadline");
        return false;
    }
    BODY_SET(body, due_at, ms);
    return true;
}

/* The id, or a whole user as GET gave it. */
static bool take_assignee(struct script *s, struct task_write *st)
{
    const struct facade_in *in = s->in;
    const struct form_member *assignee = form_find(&in->form, "assignedTo");
    const struct form_member *inner = form_find(&in->form, "assignedTo._id");
    if (assignee == NULL) {
        return true;
    }
    if (is_empty(assignee)) {
        NULL_BODY(&st->sent, assignee);
        return true;
    }
    struct bytes text = inner != NULL ? inner->text : assignee->text;
    if (!foreign_hex_parse(text, &st->assignee)) {
        tasks_cast_error(s->reply, "ObjectId", text, "assignedTo");
        return false;
    }
    return true;
}

/* ---- writing ---- */

static enum err write_begin(struct script *s)
{
    struct task_write *st = s->state;
    if (!take_words(s, &st->sent) || !take_deadline(s, &st->sent) || !take_assignee(s, st)) {
        return script_done(s);
    }
    BODY_SET(&st->sent, of_tasks, true);
    if (!id_is_none(st->assignee) && id_is_placed(st->assignee, s->partitions)) {
        script_read(s, id_partition(st->assignee));
    }
    return OK;
}

static enum err write_assignee(struct script *s)
{
    struct task_write *st = s->state;
    struct account account = {0};
    struct id id;
    if (id_is_none(st->assignee)) {
        return OK;
    }
    enum err err = ERR_NOT_FOUND;
    if (id_is_placed(st->assignee, s->partitions)) {
        struct rows *rows = script_rows(s, id_partition(st->assignee));
        err = foreign_hex_find(rows, TABLE_ACCOUNT, st->assignee, &id);
        err = err == OK ? account_find(rows, id, &account) : err;
    }
    if (err == ERR_NOT_FOUND) {
        close_error(open_error(s->reply, "TypeError"), BYTES_LIT("assignedTo is nobody"));
        return script_done(s);
    }
    TRY(err);
    BODY_SET(&st->sent, assignee, arena_copy(s->arena, account.username));
    BODY_SET(&st->sent, assignee_id, id);
    return OK;
}

static enum err create_command(struct script *s)
{
    struct task_write *st = s->state;
    BODY_SET(&st->sent, public, true); /* upstream everybody sees every task */
    if (st->sent.title.len == 0) {
        BODY_SET(&st->sent, title, BYTES_LIT("untitled"));
    }
    st->sent.set.null = 0;
    script_command(s, KIND_REMINDERS, REMINDER_DO_CREATE, address_of_account(&s->caller.account), &st->sent, true);
    return OK;
}

static enum err write_answer(struct script *s)
{
    struct reminder r = {0};
    TRY(field_unpack(reminder_fields, buf_bytes(&s->answer.body), &r));
    return tasks_add_task(NULL, facade_json(s->reply, 200), NULL, &r, false);
}

static enum err no_task(struct script *s)
{
    json_out_null(facade_json(s->reply, 200), NULL);
    return script_done(s);
}

/* The user is read for every request, as upstream: a token may be better than its account. */
static enum err caller_read(struct script *s)
{
    script_read(s, id_partition(s->caller.account));
    return OK;
}

static enum err caller_known(struct script *s)
{
    struct account account = {0};
    enum err err = account_find(script_rows(s, id_partition(s->caller.account)), s->caller.account, &account);
    return err == ERR_NOT_FOUND ? ERR_UNAUTHORIZED : err;
}

static enum err change_find(struct script *s)
{
    const struct facade_in *in = s->in;
    struct task_write *st = s->state;
    if (!foreign_hex_parse(in->params[0], &st->least)) {
        tasks_cast_error(s->reply, "ObjectId", in->params[0], "_id");
        return script_done(s);
    }
    if (!id_is_placed(st->least, s->partitions)) {
        return no_task(s);
    }
    script_read(s, id_partition(st->least));
    return OK;
}

/* The actor of a task is its creator's account. */
static struct address actor_of(struct script *s, const struct reminder *r)
{
    return (struct address){id_partition(r->id), arena_copy(s->arena, id_bytes(&r->owner))};
}

static enum err change_command(struct script *s)
{
    struct task_write *st = s->state;
    struct facade_look look;
    struct reminder r = {0};
    enum err err = find_task(facade_look(&look, s), st->least, &r);
    if (err == ERR_NOT_FOUND) {
        return no_task(s);
    }
    TRY(err);
    BODY_SET(&st->sent, id, r.id);
    st->body = st->sent;
    TRY(reminder_schedule(s, &r, false, &st->sent, &st->body));
    script_command(s, KIND_REMINDERS, REMINDER_DO_PATCH, actor_of(s, &r), &st->body, true);
    return OK;
}

static enum err delete_command(struct script *s)
{
    struct task_write *st = s->state;
    struct facade_look look;
    struct reminder r = {0};
    struct buf json = {0};
    enum err err = find_task(facade_look(&look, s), st->least, &r);
    if (err == ERR_NOT_FOUND) {
        return no_task(s);
    }
    TRY(err);
    TRY(tasks_add_task(NULL, &json, NULL, &r, false)); /* fails only where users are looked up */
    st->before = arena_copy(s->arena, buf_bytes(&json));
    buf_free(&json);
    FIELD_SET(reminder_id_in, &st->gone, struct reminder_id, id, r.id);
    FIELD_SET(reminder_id_in, &st->gone, struct reminder_id, of_tasks, true);
    script_command(s, KIND_REMINDERS, REMINDER_DO_DELETE, actor_of(s, &r), &st->gone, true);
    return OK;
}

static enum err delete_answer(struct script *s)
{
    struct task_write *st = s->state;
    json_out_raw(facade_json(s->reply, 200), NULL, st->before);
    return OK;
}

enum { PUT_FIND = 4 }; /* row of put_steps */

/* Somebody else was faster: gone is as if it had been gone before; changed is looked at again. */
static enum err change_ended(struct script *s)
{
    struct task_write *st = s->state;
    if (s->err == ERR_CONFLICT && ++st->tries < TRIES_MAX) {
        script_goto(s, PUT_FIND);
        return OK;
    }
    return s->err == ERR_NOT_FOUND ? no_task(s) : s->err;
}

static enum err delete_ended(struct script *s)
{
    return s->err == ERR_NOT_FOUND ? no_task(s) : s->err;
}

static const struct step create_steps[] = {{"begin", write_begin, false},
                                           {"assignee", write_assignee, false},
                                           {"command", create_command, false},
                                           {"answer", write_answer, false},
                                           {0}};
static const struct step put_steps[] = {
    {"caller", caller_read, false},      {"known", caller_known, false},  {"begin", write_begin, false},
    {"assignee", write_assignee, false}, {"find", change_find, false},    {"command", change_command, false},
    {"ended", change_ended, true},       {"answer", write_answer, false}, {0}};
static const struct step delete_steps_[] = {{"caller", caller_read, false},
                                            {"known", caller_known, false},
                                            {"find", change_find, false},
                                            {"command", delete_command, false},
                                            {"ended", delete_ended, true},
                                            {"answer", delete_answer, false},
                                            {0}};

/* ---- failures ---- */

static void add_html(struct buf *out, struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        switch (text.ptr[i]) {
        case '<': buf_add_lit(out, "&lt;"); break;
        case '>': buf_add_lit(out, "&gt;"); break;
        case '&': buf_add_lit(out, "&amp;"); break;
        case '"': buf_add_lit(out, "&quot;"); break;
        default: buf_add_char(out, (char)text.ptr[i]); break;
        }
    }
}

/* The framework's own page. */
static void html(struct reply *reply, const char *name, const char *detail)
{
    facade_text(reply, reply->status, "text/html; charset=utf-8",
                "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Error</title>\n</head>\n"
                "<body>\n<pre>");
    add_html(&reply->body, bytes_str(name));
    buf_add_lit(&reply->body, ": ");
    add_html(&reply->body, bytes_str(detail));
    buf_add_lit(&reply->body, "</pre>\n</body>\n</html>\n");
}

static void fail(const struct facade_failure *why, struct reply *reply)
{
    char error[32];
    switch (why->err) {
    case ERR_UNAUTHORIZED: facade_text(reply, 401, "text/plain; charset=utf-8", "Unauthorized"); return;
    case ERR_INVALID_JSON: html(reply, "SyntaxError", why->detail == NULL ? "" : why->detail); return;
    case ERR_TOO_LARGE: html(reply, "PayloadTooLargeError", "request entity too large"); return;
    case ERR_FORBIDDEN:
        tasks_error(reply, 403, "error 403 unathorized", "You are not authorized to perform this operation!");
        return;
    case ERR_NOT_FOUND:
    case ERR_METHOD_NOT_ALLOWED: {
        struct buf *out = facade_json(reply, 404);
        buf_add_lit(out, "{\"erro\":\"error 404\",\"message\":\"not found\"}");
        return;
    }
    default: break;
    }
    (void)snprintf(error, sizeof error, "error %d", reply->status);
    tasks_error(reply, reply->status, error, reply->status == 500 ? "Internal server error" : err_title(why->err));
}

/* ---- routes ---- */

#define SCRIPT(method_, path_, role_, name_, steps_, state_) \
    {                                                        \
        .op = {                                              \
            .type = OP_SCRIPT,                               \
            .role = (role_),                                 \
            .name = (name_),                                 \
            .method = (method_),                             \
            .path = (path_),                                 \
            .steps = (steps_),                               \
            .state_size = (state_)                           \
        }                                                    \
    }
#define QUERY(path_, name_, query_)     \
    {                                   \
        .op = {                         \
            .type = OP_QUERY,           \
            .flags = OP_ALL_PARTITIONS, \
            .role = ROLE_USER,          \
            .name = (name_),            \
            .method = METHOD_GET,       \
            .path = (path_),            \
            .query = (query_)           \
        }                               \
    }
#define ENTRY(path_, name_, steps_)                  \
    {                                                \
        .op = {                                      \
            .type = OP_SCRIPT,                       \
            .flags = OP_SECRET,                      \
            .name = (name_),                         \
            .method = METHOD_POST,                   \
            .path = (path_),                         \
            .steps = (steps_),                       \
            .state_size = sizeof(struct tasks_entry) \
        }                                            \
    }
#define STATE sizeof(struct task_write)

static const struct facade_route routes[] = {
    ENTRY("/users/signup", "signup", tasks_signup_steps),
    ENTRY("/users/login", "login", tasks_login_steps),
    QUERY("/users", "users", tasks_users_query),
    QUERY("/users/{id}", "user", tasks_user_query),
    QUERY("/tasks", "tasks", list_query),
    QUERY("/tasks/{id}", "task", get_query),
    SCRIPT(METHOD_POST, "/tasks", ROLE_USER, "create", create_steps, STATE),
    SCRIPT(METHOD_PUT, "/tasks/{id}", ROLE_USER, "change", put_steps, STATE),
    SCRIPT(METHOD_DELETE, "/tasks/{id}", ROLE_USER, "delete", delete_steps_, STATE),
    {.op = {.path = NULL}}};

const struct facade tasks_facade = {
    .name = "tasks", .body_max = 100 * 1024, .slash_free = true, .routes = routes, .fail = fail};
