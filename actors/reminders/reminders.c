#include "actors/reminders/reminders.h"
#include "actors/reminders/body.h"
#include "actors/reminders/feed.h"

#include "actors/page.h"
#include "node/base/text.h"
#include "node/limits.h"

enum { SCOPE_MINE, SCOPE_PUBLIC, SCOPE_ASSIGNED, SCOPE_ALL };
static const char *const scopes[] = {"mine", "public", "assigned", "all", NULL};

#define BODY_FIELDS(title_flags)                                                                                       \
    FIELD_STRING(2, reminder_body, title, 1, LIMIT_TITLE_CHARS, title_flags),                                          \
        FIELD_STRING(3, reminder_body, content, 0, LIMIT_CONTENT_BYTES, FIELD_NULLABLE | FIELD_IN_BYTES | FIELD_TEXT), \
        FIELD_TIME(4, reminder_body, due_at, FIELD_NULLABLE), FIELD_BOOL(5, reminder_body, public, 0),                 \
        FIELD_ENUM(6, reminder_body, status, reminder_statuses, 0), FIELD_BOOL(7, reminder_body, completed, 0),        \
        FIELD_STRING(8, reminder_body, assignee, 1, LIMIT_USERNAME_CHARS, FIELD_NULLABLE),                             \
        FIELD_STRING(9, reminder_body, time_zone, 1, LIMIT_ZONE_BYTES, FIELD_NULLABLE | FIELD_IN_BYTES),               \
        FIELD_STRING(10, reminder_body, recurrence, 1, LIMIT_RECURRENCE_BYTES,                                         \
                     FIELD_NULLABLE | FIELD_IN_BYTES | FIELD_TEXT),                                                    \
        FIELD_ID(13, reminder_body, assignee_id, FIELD_HIDDEN),                                                        \
        FIELD_TIME(14, reminder_body, starts_at, FIELD_HIDDEN), FIELD_TIME(15, reminder_body, next_at, FIELD_HIDDEN),  \
        FIELD_INT(16, reminder_body, based_on, 0, INT64_MAX, FIELD_HIDDEN),                                            \
        FIELD_BOOL(40, reminder_body, of_tasks, FIELD_HIDDEN), FIELDS_END
const struct field reminder_create_in[] = {FIELD_ID(1, reminder_body, id, FIELD_HIDDEN), BODY_FIELDS(FIELD_REQUIRED)};
const struct field reminder_put_in[] = {FIELD_ID(1, reminder_body, id, FIELD_QUERY | FIELD_REQUIRED),
                                        BODY_FIELDS(FIELD_REQUIRED)};
const struct field reminder_patch_in[] = {FIELD_ID(1, reminder_body, id, FIELD_QUERY | FIELD_REQUIRED), BODY_FIELDS(0)};
const struct field reminder_id_in[] = {FIELD_ID(1, reminder_id, id, FIELD_QUERY | FIELD_REQUIRED),
                                       FIELD_BOOL(40, reminder_id, of_tasks, FIELD_HIDDEN), FIELDS_END};
const struct field reminder_snooze_in[] = {FIELD_ID(1, reminder_snooze, id, FIELD_QUERY | FIELD_REQUIRED),
                                           FIELD_TIME(2, reminder_snooze, until, 0),
                                           FIELD_INT(3, reminder_snooze, for_ms, 1, LIMIT_SNOOZE_MS, 0), FIELDS_END};
const struct field reminder_fire_in[] = {FIELD_BLOB(1, reminder_fire, items, LIMIT_BODY_BYTES), FIELDS_END};

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

/* ---- queries ---- */

static enum err id_address(const struct caller *caller, const void *raw, struct arena *arena, unsigned partitions,
                           struct address *out)
{
    const struct reminder_id *in = raw;
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
    const struct reminder_id *in = raw;
    struct reminder r = {0};
    struct bytes packed;
    TRY(reminder_load(look->rows(look, id_partition(in->id)), in->id, &r, &packed));
    if (!reminder_may_see(&r, &look->caller)) {
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
    return reminder_may_see(r, filter->caller) && (!LIST_HAS(status) || r->status == in->status) &&
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

static const struct table tables[] = {{TABLE_REMINDER, "reminders", true},
                                      {TABLE_MINE, "reminders_by_owner", false},
                                      {TABLE_PUBLIC, "reminders_public", false},
                                      {TABLE_ASSIGNED, "reminders_by_assignee", false},
                                      {TABLE_DUE, "reminders_due", false},
                                      {TABLE_FEED, "reminder_feeds", true},
                                      {0}};

#define IN(table, type) .in = table, .in_size = sizeof(struct type), .out = reminder_fields
#define STATE .state_size = sizeof(struct write_state)
static const struct op ops[] = {
    {REMINDER_CREATE, OP_SCRIPT, 0, ROLE_USER, 201, "create", METHOD_POST, "/v1/reminders", "Create a reminder",
     IN(reminder_create_in, reminder_body), STATE, .steps = reminder_create_steps},
    {REMINDER_GET, OP_QUERY, 0, ROLE_USER, 200, "get", METHOD_GET, "/v1/reminders/{id}", "One reminder",
     IN(reminder_id_in, reminder_id), .address = id_address, .query = get_query},
    {REMINDER_LIST, OP_QUERY, OP_ALL_PARTITIONS, ROLE_USER, 200, "list", METHOD_GET, "/v1/reminders",
     "Reminders, newest first", IN(list_in, list_in), .query = list_query},
    {REMINDER_PUT, OP_SCRIPT, 0, ROLE_USER, 200, "put", METHOD_PUT, "/v1/reminders/{id}", "Replace a reminder",
     IN(reminder_put_in, reminder_body), STATE, .steps = reminder_put_steps},
    {REMINDER_PATCH, OP_SCRIPT, OP_MERGE_PATCH, ROLE_USER, 200, "patch", METHOD_PATCH, "/v1/reminders/{id}",
     "Change parts of a reminder", IN(reminder_patch_in, reminder_body), STATE, .steps = reminder_patch_steps},
    {REMINDER_DELETE, OP_SCRIPT, 0, ROLE_USER, 204, "delete", METHOD_DELETE, "/v1/reminders/{id}", "Delete a reminder",
     .in = reminder_id_in, .in_size = sizeof(struct reminder_id), STATE, .steps = reminder_delete_steps},
    {REMINDER_SNOOZE, OP_SCRIPT, 0, ROLE_USER, 200, "snooze", METHOD_POST, "/v1/reminders/{id}/snooze",
     "Put off when a reminder rings", IN(reminder_snooze_in, reminder_snooze), STATE, .steps = reminder_snooze_steps},
    {REMINDER_FIRE, OP_SCRIPT, .name = "fire", .state_size = sizeof(struct fire_state), .steps = reminder_fire_steps},
    {REMINDER_DO_CREATE, OP_COMMAND, .name = "do_create", IN(reminder_create_in, reminder_body),
     .reduce = reminder_create},
    {REMINDER_DO_PUT, OP_COMMAND, .name = "do_put", IN(reminder_put_in, reminder_body), .reduce = reminder_put},
    {REMINDER_DO_PATCH, OP_COMMAND, .name = "do_patch", IN(reminder_patch_in, reminder_body), .reduce = reminder_patch},
    {REMINDER_DO_DELETE, OP_COMMAND, .flags = OP_FREES, .name = "do_delete", .in = reminder_id_in,
     .in_size = sizeof(struct reminder_id), .reduce = reminder_delete},
    {REMINDER_DO_SNOOZE, OP_COMMAND, .name = "do_snooze", IN(reminder_snooze_in, reminder_snooze),
     .reduce = reminder_snooze},
    {REMINDER_DO_FIRE, OP_COMMAND, .name = "do_fire", .in = reminder_fire_in, .in_size = sizeof(struct reminder_fire),
     .reduce = reminder_fire},
    {FEED_MAKE, OP_SCRIPT, OP_SECRET, ROLE_USER, 201, "make_feed", METHOD_POST, "/v1/reminders/feed",
     "A new secret address for calendar programs; ends the one before", .out = feed_made_fields,
     .state_size = FEED_STATE_BYTES, .steps = feed_make_steps},
    {FEED_GET, OP_QUERY, 0, ROLE_USER, 200, "get_feed", METHOD_GET, "/v1/reminders/feed",
     "Whether there is such an address", .out = feed_fields, .address = own_address, .query = feed_get_query},
    {FEED_DROP, OP_SCRIPT, 0, ROLE_USER, 204, "drop_feed", METHOD_DELETE, "/v1/reminders/feed",
     "End the address for calendar programs", .steps = feed_drop_steps},
    {FEED_ICS, OP_QUERY, 0, ROLE_NONE, 200, "feed", METHOD_GET, "/v1/reminders.ics",
     "The own reminders that have a time, as iCalendar (RFC 5545)", .in = feed_query_fields,
     .in_size = sizeof(struct feed_query_in), .address = feed_token_address, .query = feed_ics_query},
    {FEED_DO_PUT, OP_COMMAND, OP_SECRET, .name = "put_feed", .in = feed_fields, .in_size = sizeof(struct feed),
     .reduce = feed_put_reduce},
    {FEED_DO_DROP, OP_COMMAND, OP_FREES, .name = "do_drop_feed", .in = feed_none_fields,
     .in_size = sizeof(struct feed_none), .reduce = feed_drop_reduce},
    {0}};
static const struct alarm alarms[] = {{"fire", REMINDER_FIRE, reminders_due}, {0}};

const struct kind reminders_kind = {.id = KIND_REMINDERS,
                                    .name = "reminders",
                                    .tables = tables,
                                    .ops = ops,
                                    .alarms = alarms,
                                    .forget = reminders_forget,
                                    .check = reminders_check,
                                    .mend = reminders_mend};
