#include "actors/events/events.h"

#include <inttypes.h>
#include <stdio.h>

#include "actors/auth/auth.h"
#include "actors/events/log.h"
#include "actors/events/relay.h"
#include "actors/events/stream.h"
#include "actors/reminders/record.h"
#include "node/limits.h"

static const struct {
    enum event_type type;
    const char *name;
    const struct field *fields;
} types[] = {{EVENT_REMINDER_FIRED, "reminder.fired", reminder_fields},
             {EVENT_REMINDER_CHANGED, "reminder.changed", reminder_fields},
             {EVENT_REMINDER_DELETED, "reminder.deleted", reminder_fields},
             {EVENT_REMINDER_ASSIGNED, "reminder.assigned", reminder_fields},
             {EVENT_REMINDER_UNASSIGNED, "reminder.unassigned", reminder_fields}};

enum err event_add(struct turn *turn, struct id account, enum event_type type, struct bytes data)
{
    return id_partition(account) == turn->partition ? event_log_add(turn, account, type, data)
                                                    : relay_send(turn, account, type, data);
}

/* ---- reading ---- */

enum err events_newest(struct rows *rows, struct id account, uint64_t *out_cursor)
{
    struct event_head head;
    TRY(event_head_load(rows, account, &head));
    *out_cursor = (uint64_t)head.newest;
    return OK;
}

static enum err write_one(const struct event *event, uint64_t cursor, struct buf *out)
{
    size_t before = out->len;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if ((int64_t)types[i].type == event->type) {
            buf_printf(out, "id: %" PRIu64 "\nevent: %s\ndata: ", cursor, types[i].name);
            enum err err = field_json_from_pack(out, types[i].fields, event->data);
            if (err != OK) {
                out->len = before;
                return err;
            }
            buf_add_lit(out, "\n\n");
            return OK;
        }
    }
    return OK; /* of a newer version: not ours to tell */
}

/* Some of what the client has not seen is gone: it should look at the resources themselves. */
static void write_gap(uint64_t cursor, struct buf *out)
{
    buf_printf(out, "id: %" PRIu64 "\nevent: stream.gap\ndata: {\"reason\":\"retention\"}\n\n", cursor);
}

enum err events_write(struct rows *rows, struct id account, uint64_t *cursor, size_t room, struct buf *out)
{
    struct event_head head;
    size_t start = out->len;
    TRY(event_head_load(rows, account, &head));
    if (*cursor != 0 && *cursor < (uint64_t)head.dropped) {
        *cursor = (uint64_t)head.dropped;
        write_gap(*cursor, out);
    }
    while (*cursor < (uint64_t)head.newest && (out->len == start || out->len - start < room)) {
        struct event event;
        uint64_t at = *cursor;
        enum err err = event_log_next(rows, account, &at, &event);
        if (err == ERR_NOT_FOUND) {
            *cursor = (uint64_t)head.newest;
            return OK;
        }
        TRY(err);
        TRY(write_one(&event, at, out));
        *cursor = at;
    }
    return OK;
}

/* ---- the kind ---- */

static enum err forget(struct turn *turn, struct id account, unsigned limit, unsigned *out_erased)
{
    return event_log_forget(turn, account, limit, out_erased);
}

static enum err check(struct rows *rows, struct arena *arena)
{
    TRY(event_log_check(rows, arena));
    return relay_check(rows);
}

enum { RELAY = 1, STREAM };
static const struct table tables[] = {
    {TABLE_EVENT, "events", true},   {TABLE_EVENT_HEAD, "event_logs", false}, {TABLE_EVENT_AGE, "events_by_age", false},
    {TABLE_OUTBOX, "outbox", false}, {TABLE_INBOX, "inbox", false},           {0}};
static const struct op ops[] = {
    {RELAY, OP_SCRIPT, .name = "relay", .state_size = sizeof(struct relay_state), .steps = relay_steps},
    {STREAM, OP_STREAM, 0, ROLE_USER, 200, "stream", METHOD_GET, "/v1/events", "Live events", EVENTS_STREAM},
    {RELAY_DELIVER, OP_COMMAND, .name = "deliver", .in = relay_deliver_fields, .in_size = sizeof(struct relay_deliver),
     .reduce = relay_deliver_reduce},
    {RELAY_DELIVERED, OP_COMMAND, .flags = OP_FREES, .name = "delivered", .in = relay_delivered_fields,
     .in_size = sizeof(struct relay_delivered), .reduce = relay_delivered_reduce},
    {0}};
static const struct alarm alarms[] = {{"relay", RELAY, relay_due}, {0}};

const struct kind events_kind = {.id = KIND_EVENTS,
                                 .name = "events",
                                 .tables = tables,
                                 .ops = ops,
                                 .alarms = alarms,
                                 .forget = forget,
                                 .check = check,
                                 .mend = event_log_mend};
