/* RemindMe (AIT Bangkok): reminders, for clients of its API under /api/, and of the one that its two services had. See
 * facades.md. */
#include "actors/facades/remindme.h"

#include <stdio.h>

#include "actors/facades/foreign_id.h"
#include "actors/facades/json_out.h"
#include "actors/reminders/body.h"
#include "actors/reminders/record.h"
#include "node/base/text.h"
#include "node/limits.h"

/* ---- answers ---- */

void remindme_say(struct reply *reply, int status, const char *member, const char *text)
{
    struct buf *out = facade_json(reply, status);
    json_out_open(out, NULL, '{');
    json_out_text(out, member, bytes_str(text));
    buf_add_char(out, '}');
}

void remindme_say_field(struct reply *reply, const char *field, const char *text)
{
    struct buf *out = facade_json(reply, 400);
    json_out_open(out, NULL, '{');
    json_out_open(out, field, '[');
    json_out_text(out, NULL, bytes_str(text));
    buf_add_lit(out, "]}");
}

/* The first version's names and those of the second, which is two services. */
enum { FIRST, SECOND };
static const char *const creator_names[] = {"created_by", "author"};
static const char *const time_names[] = {"regisDate", "created_at"};

static void add_id(struct buf *out, struct id id)
{
    uint64_t number = foreign_int(id);
    if (number == 0) {
        json_out_null(out, "id");
    } else {
        json_out_int(out, "id", (int64_t)number);
    }
}

static void add_reminder(struct buf *out, const struct reminder *r, int variant)
{
    json_out_open(out, NULL, '{');
    add_id(out, r->id);
    json_out_text(out, "title", r->title);
    json_out_text(out, "content", r->content);
    json_out_bool(out, "completed", r->completed);
    json_out_time(out, time_names[variant], r->created_at);
    json_out_text(out, creator_names[variant], r->created_by);
    json_out_bool(out, "public", r->public);
    buf_add_char(out, '}');
}

/* ---- reading ---- */

static enum err list_query(struct look *look, const void *raw, struct reply *reply)
{
    const struct facade_in *in = raw;
    struct account me = {0};
    struct facade_ids ids;
    struct id caller = look->caller.account;
    enum err err = account_find(look->rows(look, id_partition(caller)), caller, &me);
    TRY(err == ERR_NOT_FOUND ? ERR_UNAUTHORIZED : err);
    TRY(facade_reminders(look, FACADE_OWN | FACADE_PUBLIC, caller, FACADE_LIST, NULL, &ids));
    struct buf *out = facade_json(reply, 200);
    json_out_open(out, NULL, '[');
    for (size_t i = 0; i < ids.len && out->len < LIMIT_ANSWER_BYTES; i++) {
        struct reminder r = {0};
        struct bytes packed;
        TRY(reminder_load(look->rows(look, id_partition(ids.list[i])), ids.list[i], &r, &packed));
        if (foreign_int(r.id) != 0) {
            add_reminder(out, &r, in->route->variant);
        }
    }
    buf_add_char(out, ']');
    return OK;
}

/* The one with that number, if it is the caller's own or public. ERR_NOT_FOUND. */
static enum err find(struct look *look, struct bytes number, struct reminder *out)
{
    struct id least, id;
    struct bytes packed;
    if (!foreign_int_parse(number, &least) || !id_is_placed(least, look->partitions)) {
        return ERR_NOT_FOUND;
    }
    struct rows *rows = look->rows(look, id_partition(least));
    TRY(foreign_int_find(rows, TABLE_REMINDER, least, &id));
    TRY(reminder_load(rows, id, out, &packed));
    if (out->of_tasks && id_is_none(look->caller.account)) {
        return ERR_NOT_FOUND; /* the tasks of a product that shows nothing without a token */
    }
    return out->public || id_eq(out->owner, look->caller.account) ? OK : ERR_NOT_FOUND;
}

static enum err detail_address(const struct caller *caller, const void *raw, struct arena *arena, unsigned partitions,
                               struct address *out)
{
    const struct facade_in *in = raw;
    struct id least;
    (void)caller;
    if (!foreign_int_parse(in->params[0], &least) || !id_is_placed(least, partitions)) {
        return ERR_NOT_FOUND;
    }
    *out = (struct address){id_partition(least), arena_copy(arena, id_bytes(&least))};
    return OK;
}

static enum err detail_query(struct look *look, const void *raw, struct reply *reply)
{
    const struct facade_in *in = raw;
    struct reminder r = {0};
    TRY(find(look, in->params[0], &r));
    add_reminder(facade_json(reply, 200), &r, in->route->variant);
    return OK;
}

/* ---- what a client sends: whose it is, is not for it to say ---- */

struct remindme_write {
    struct reminder_body sent, body; /* the body is what was sent, and what recurrence comes to */
    struct reminder_id gone;
    unsigned tries;
};
enum { TRIES_MAX = 5 };

static bool is_true(struct bytes text)
{
    return bytes_is(text, "1") || bytes_is_nocase(text, "true") || bytes_is_nocase(text, "t") ||
           bytes_is_nocase(text, "y") || bytes_is_nocase(text, "yes") || bytes_is_nocase(text, "on");
}

static bool is_false(struct bytes text)
{
    return bytes_is(text, "0") || bytes_is_nocase(text, "false") || bytes_is_nocase(text, "f") ||
           bytes_is_nocase(text, "n") || bytes_is_nocase(text, "no") || bytes_is_nocase(text, "off");
}

/* False: refused, in the answer. *out_given: it was sent. */
static bool take_bool(struct script *s, const char *name, bool *out, bool *out_given)
{
    const struct facade_in *in = s->in;
    struct bytes text = form_text(&in->form, name);
    *out_given = form_find(&in->form, name) != NULL;
    *out = is_true(text);
    if (*out_given && !*out && !is_false(text)) {
        remindme_say_field(s->reply, name, "Must be a valid boolean.");
        return false;
    }
    return true;
}

static bool take_title(struct script *s, struct reminder_body *body)
{
    const struct facade_in *in = s->in;
    const struct form_member *sent = form_find(&in->form, "title");
    struct bytes title = bytes_trim(facade_line(form_text(&in->form, "title"), s->arena));
    if (title.len == 0) {
        remindme_say_field(s->reply, "title",
                           sent == NULL ? "This field is required." : "This field may not be blank.");
        return false;
    }
    if (text_chars(title) > LIMIT_TITLE_CHARS) {
        remindme_say_field(s->reply, "title", "Ensure this field has no more than 200 characters.");
        return false;
    }
    BODY_SET(body, title, title);
    return true;
}

static bool take_body(struct script *s, struct reminder_body *body, bool with_completed)
{
    const struct facade_in *in = s->in;
    bool value, given;
    struct bytes content = form_text(&in->form, "content");
    if (!take_title(s, body)) {
        return false;
    }
    if (content.len > LIMIT_CONTENT_BYTES) {
        remindme_say_field(s->reply, "content", "Ensure this field has no more than 65536 bytes.");
        return false;
    }
    if (form_find(&in->form, "content") != NULL) {
        BODY_SET(body, content, content);
    }
    if (!take_bool(s, "public", &value, &given)) {
        return false;
    }
    if (given) {
        BODY_SET(body, public, value);
    }
    if (!with_completed || !take_bool(s, "completed", &value, &given)) {
        return !with_completed;
    }
    if (given) {
        BODY_SET(body, completed, value);
    }
    return true;
}

/* ---- writing ---- */

static enum err create_command(struct script *s)
{
    struct remindme_write *st = s->state;
    if (!take_body(s, &st->body, false)) {
        return script_done(s);
    }
    script_command(s, KIND_REMINDERS, REMINDER_DO_CREATE, address_of_account(&s->caller.account), &st->body, true);
    return OK;
}

static enum err create_answer(struct script *s)
{
    const struct facade_in *in = s->in;
    struct reminder r = {0};
    TRY(field_unpack(reminder_fields, buf_bytes(&s->answer.body), &r));
    struct buf *out = facade_json(s->reply, 200);
    json_out_open(out, NULL, '{');
    add_id(out, r.id);
    json_out_text(out, "title", r.title);
    json_out_text(out, "content", r.content);
    json_out_text(out, creator_names[in->route->variant], r.created_by);
    json_out_bool(out, "public", r.public);
    buf_add_char(out, '}');
    return OK;
}

/* Missing and somebody else's are the same to the client. */
static enum err no_access(struct script *s)
{
    remindme_say(s->reply, 403, "msg", "You do not have access to this item!");
    return script_done(s);
}

static enum err change_find(struct script *s)
{
    const struct facade_in *in = s->in;
    struct id least;
    if (!foreign_int_parse(in->params[0], &least) || !id_is_placed(least, s->partitions)) {
        return no_access(s);
    }
    script_read(s, id_partition(least));
    return OK;
}

/* OK: the caller's own. */
static enum err find_own(struct script *s, struct reminder *out)
{
    const struct facade_in *in = s->in;
    struct facade_look look;
    TRY(find(facade_look(&look, s), in->params[0], out));
    return id_eq(out->owner, s->caller.account) ? OK : ERR_NOT_FOUND;
}

static enum err update_command(struct script *s)
{
    struct remindme_write *st = s->state;
    struct reminder r = {0};
    enum err err = find_own(s, &r);
    if (err != OK) {
        return err == ERR_NOT_FOUND ? no_access(s) : err;
    }
    if (!take_body(s, &st->sent, true)) {
        return script_done(s);
    }
    BODY_SET(&st->sent, id, r.id);
    st->body = st->sent;
    TRY(reminder_schedule(s, &r, false, &st->sent, &st->body));
    script_command(s, KIND_REMINDERS, REMINDER_DO_PATCH, address_of_account(&s->caller.account), &st->body, true);
    return OK;
}

static enum err delete_command(struct script *s)
{
    struct remindme_write *st = s->state;
    struct reminder r = {0};
    enum err err = find_own(s, &r);
    if (err != OK) {
        return err == ERR_NOT_FOUND ? no_access(s) : err;
    }
    FIELD_SET(reminder_id_in, &st->gone, struct reminder_id, id, r.id);
    script_command(s, KIND_REMINDERS, REMINDER_DO_DELETE, address_of_account(&s->caller.account), &st->gone, true);
    return OK;
}

/* Somebody else may have been faster, or its own ringing: then it is looked at again. */
static enum err change_ended(struct script *s)
{
    struct remindme_write *st = s->state;
    if (s->err == ERR_CONFLICT && ++st->tries < TRIES_MAX) {
        script_goto(s, 0);
        return OK;
    }
    return s->err == ERR_NOT_FOUND ? no_access(s) : s->err;
}

static enum err update_answer(struct script *s)
{
    const struct facade_in *in = s->in;
    struct reminder r = {0};
    TRY(field_unpack(reminder_fields, buf_bytes(&s->answer.body), &r));
    add_reminder(facade_json(s->reply, 200), &r, in->route->variant);
    return OK;
}

static enum err delete_answer(struct script *s)
{
    remindme_say(s->reply, 200, "msg", "Item deleted successfully");
    return OK;
}

static const struct step create_steps[] = {{"command", create_command, false}, {"answer", create_answer, false}, {0}};
static const struct step update_steps[] = {{"find", change_find, false},
                                           {"command", update_command, false},
                                           {"ended", change_ended, true},
                                           {"answer", update_answer, false},
                                           {0}};
static const struct step delete_steps_[] = {{"find", change_find, false},
                                            {"command", delete_command, false},
                                            {"ended", change_ended, true},
                                            {"answer", delete_answer, false},
                                            {0}};

/* ---- failures ---- */

static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "OTHER"};

static void refuse_field(const struct facade_failure *why, struct reply *reply)
{
    const char *field = why->pointer != NULL && why->pointer[0] == '/' ? why->pointer + 1 : "non_field_errors";
    remindme_say_field(reply, field, why->detail != NULL ? why->detail : "Invalid.");
}

static void fail(const struct facade_failure *why, struct reply *reply)
{
    char text[320];
    switch (why->err) {
    case ERR_UNAUTHORIZED:
        /* 403: the framework says 401 only with a WWW-Authenticate, and none was configured */
        remindme_say(reply, 403, "detail", "You are not logged in! Or Token Expired Log in again.");
        return;
    case ERR_FORBIDDEN: remindme_say(reply, 403, "msg", "You do not have access to this item!"); return;
    case ERR_NOT_FOUND: remindme_say(reply, 404, "detail", "Not found."); return;
    case ERR_METHOD_NOT_ALLOWED:
        (void)snprintf(text, sizeof text, "Method \"%s\" not allowed.", methods[why->method]);
        remindme_say(reply, 405, "detail", text);
        return;
    case ERR_INVALID_JSON:
        (void)snprintf(text, sizeof text, "JSON parse error - %s", why->detail == NULL ? "" : why->detail);
        remindme_say(reply, 400, "detail", text);
        return;
    case ERR_USERNAME_TAKEN: remindme_say_field(reply, "username", "user with this username already exists."); return;
    case ERR_EMAIL_TAKEN: remindme_say_field(reply, "email", "user with this email already exists."); return;
    case ERR_INVALID_FIELDS: refuse_field(why, reply); return;
    default: remindme_say(reply, reply->status, "detail", err_title(why->err)); return;
    }
}

/* ---- routes ---- */

#define SCRIPT(method_, path_, role_, name_, steps_, state_, variant_) \
    {                                                                  \
        .op = {.type = OP_SCRIPT,                                      \
               .role = (role_),                                        \
               .name = (name_),                                        \
               .method = (method_),                                    \
               .path = (path_),                                        \
               .steps = (steps_),                                      \
               .state_size = (state_)},                                \
        .variant = (variant_)                                          \
    }
#define ENTRY(path_, name_, steps_)                     \
    {                                                   \
        .op = {                                         \
            .type = OP_SCRIPT,                          \
            .flags = OP_SECRET,                         \
            .name = (name_),                            \
            .method = METHOD_POST,                      \
            .path = (path_),                            \
            .steps = (steps_),                          \
            .state_size = sizeof(struct remindme_entry) \
        }                                               \
    }
#define PAGE(path, name, steps) SCRIPT(METHOD_GET, path, ROLE_NONE, name, steps, 0, FIRST)
#define ME(path_)                      \
    {                                  \
        .op = {                        \
            .type = OP_QUERY,          \
            .role = ROLE_USER,         \
            .name = "me",              \
            .method = METHOD_GET,      \
            .path = (path_),           \
            .address = own_address,    \
            .query = remindme_me_query \
        }                              \
    }
#define LIST(path_, variant_)              \
    {                                      \
        .op = {.type = OP_QUERY,           \
               .flags = OP_ALL_PARTITIONS, \
               .role = ROLE_USER,          \
               .name = "list",             \
               .method = METHOD_GET,       \
               .path = (path_),            \
               .query = list_query},       \
        .variant = (variant_)              \
    }
#define DETAIL(path_, variant_)                 \
    {                                           \
        .op = {.type = OP_QUERY,                \
               .name = "detail",                \
               .method = METHOD_GET,            \
               .path = (path_),                 \
               .address = detail_address,       \
               .query = detail_query},          \
        .variant = (variant_), .optional = true \
    }
#define WRITE(method, path, name, steps, variant) \
    SCRIPT(method, path, ROLE_USER, name, steps, sizeof(struct remindme_write), variant)

static const struct facade_route routes[] = {
    PAGE("/", "home", remindme_home_steps),
    PAGE("/login/", "login_page", remindme_login_page_steps),
    PAGE("/register/", "register_page", remindme_register_page_steps),
    PAGE("/api/", "routes", remindme_routes_steps),
    ENTRY("/api/user-register/", "register", remindme_register_steps),
    ENTRY("/api/user-login/", "login", remindme_login_steps),
    SCRIPT(METHOD_POST, "/api/user-logout/", ROLE_NONE, "logout", remindme_logout_steps, 0, FIRST),
    ME("/api/current-user/"),
    LIST("/api/task-list/", FIRST),
    DETAIL("/api/task-detail/{id}/", FIRST),
    WRITE(METHOD_POST, "/api/task-create/", "create", create_steps, FIRST),
    WRITE(METHOD_POST, "/api/task-update/{id}/", "update", update_steps, FIRST),
    WRITE(METHOD_DELETE, "/api/task-delete/{id}/", "delete", delete_steps_, FIRST),
    PAGE("/api/overview/", "routes", remindme_routes_steps),
    ENTRY("/api/signup/", "register", remindme_register_steps),
    ENTRY("/api/login/", "login", remindme_login_steps),
    SCRIPT(METHOD_POST, "/api/logout/", ROLE_NONE, "logout", remindme_logout_steps, 0, SECOND),
    ME("/api/profile/"),
    LIST("/api/reminder/", SECOND),
    DETAIL("/api/reminder/{id}/", SECOND),
    WRITE(METHOD_POST, "/api/create-reminder/", "create", create_steps, SECOND),
    WRITE(METHOD_POST, "/api/update-reminder/{id}/", "update", update_steps, SECOND),
    WRITE(METHOD_DELETE, "/api/delete-reminder/{id}/", "delete", delete_steps_, SECOND),
    {.op = {.path = NULL}}};

const struct facade remindme_facade = {.name = "remindme",
                                       .cookie = "jwt",
                                       .body_max = LIMIT_BODY_BYTES,
                                       .partitions_max = FOREIGN_INT_PARTITIONS,
                                       .typed = true,
                                       .routes = routes,
                                       .fail = fail};
