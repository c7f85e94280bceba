/* Reducers: what clients change, and what goes with an account. */
#include "actors/auth/auth.h"
#include "actors/events/events.h"
#include "actors/reminders/body.h"
#include "actors/reminders/feed.h"
#include "node/limits.h"

#define HAS BODY_HAS
#define IS_NULL BODY_IS_NULL

bool reminder_may_see(const struct reminder *r, const struct caller *caller)
{
    return r->public || id_eq(r->owner, caller->account) || id_eq(r->assignee_id, caller->account);
}

enum err reminder_store(struct turn *turn, struct reminder *r, struct reply *reply)
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

/* ---- events ---- */

static bool is_assigned(const struct reminder *r)
{
    return !id_is_none(r->assignee_id) && !id_eq(r->assignee_id, r->owner);
}

/* What it is now is none of theirs. */
static enum err tell_unassigned(struct turn *turn, const struct reminder *before)
{
    struct buf packed = {0};
    field_pack(&packed, reminder_fields, before);
    enum err err = event_add(turn, before->assignee_id, EVENT_REMINDER_UNASSIGNED, buf_bytes(&packed));
    buf_free(&packed);
    return err;
}

/* before is NULL for a new one: its creator has the answer. */
static enum err tell(struct turn *turn, const struct reminder *before, const struct reminder *after,
                     struct bytes packed)
{
    bool was = before != NULL && is_assigned(before), is = is_assigned(after);
    bool same = was && is && id_eq(before->assignee_id, after->assignee_id);
    if (before != NULL) {
        TRY(event_add(turn, after->owner, EVENT_REMINDER_CHANGED, packed));
    }
    if (was && !same) {
        TRY(tell_unassigned(turn, before));
    }
    if (is) {
        TRY(event_add(turn, after->assignee_id, same ? EVENT_REMINDER_CHANGED : EVENT_REMINDER_ASSIGNED, packed));
    }
    return OK;
}

/* ---- what is sent becomes the record's ---- */

/* completed is true exactly when the status is done: each sets the other. */
static enum err set_status(struct reminder *r, const struct reminder_body *in, struct reply *reply)
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

static void set_texts(struct reminder *r, const struct reminder_body *in)
{
    if (HAS(in, title)) {
        SET(r, title, in->title);
    }
    if (HAS(in, content)) {
        SET(r, content, in->content);
    } else if (IS_NULL(in, content)) {
        SET(r, content, BYTES_LIT(""));
    }
    if (HAS(in, public)) {
        SET(r, public, in->public);
    }
}

static void clear_assignee(struct reminder *r)
{
    CLEAR(r, assignee);
    CLEAR(r, assignee_id);
    r->assignee_id = (struct id){{0}};
}

static void set_assignee(struct reminder *r, const struct reminder_body *in)
{
    if (HAS(in, assignee)) {
        SET(r, assignee, in->assignee);
        SET(r, assignee_id, in->assignee_id);
    } else if (IS_NULL(in, assignee)) {
        clear_assignee(r);
    }
}

/* ---- when it rings ---- */

static void set_times(struct reminder *r, const struct reminder_body *in)
{
    if (HAS(in, due_at)) {
        SET(r, due_at, in->due_at);
    } else if (IS_NULL(in, due_at)) {
        CLEAR(r, due_at);
    }
    if (HAS(in, time_zone)) {
        SET(r, time_zone, in->time_zone);
    } else if (IS_NULL(in, time_zone)) {
        CLEAR(r, time_zone);
    }
    if (HAS(in, recurrence)) {
        SET(r, recurrence, in->recurrence);
    } else if (IS_NULL(in, recurrence)) {
        CLEAR(r, recurrence);
    }
    if (HAS(in, starts_at)) { /* a new series */
        SET(r, starts_at, in->starts_at);
        SET(r, due_at, in->next_at);
    } else if (!REMINDER_HAS(r, recurrence)) {
        CLEAR(r, starts_at);
    }
}

static bool same_text(bool a_has, struct bytes a_text, bool b_has, struct bytes b_text)
{
    return a_has == b_has && (!a_has || bytes_eq(a_text, b_text));
}

static bool same_times(const struct reminder *a, const struct reminder *b)
{
    bool due = REMINDER_HAS(a, due_at);
    return due == REMINDER_HAS(b, due_at) && (!due || a->due_at == b->due_at) &&
           same_text(REMINDER_HAS(a, time_zone), a->time_zone, REMINDER_HAS(b, time_zone), b->time_zone) &&
           same_text(REMINDER_HAS(a, recurrence), a->recurrence, REMINDER_HAS(b, recurrence), b->recurrence);
}

/* What has a time and is not done rings at it; what is done does not, until it is opened again. */
static void arm(const struct turn *turn, const struct reminder *before, const struct reminder_body *in,
                struct reminder *r)
{
    bool reopened = before != NULL && before->completed && !r->completed;
    if (reopened && HAS(in, next_at)) {
        SET(r, due_at, in->next_at);
    }
    bool moved = before == NULL || !REMINDER_HAS(before, due_at) || before->due_at != r->due_at;
    bool rang = !moved && reminder_has_rung(before);
    if (!REMINDER_HAS(r, due_at) || r->completed) {
        CLEAR(r, armed_at);
        CLEAR(r, snoozed_until);
    } else if (moved || (!rang && !same_times(before, r)) || (reopened && r->due_at > turn->now_ms)) {
        CLEAR(r, snoozed_until);
        SET(r, armed_at, r->due_at);
    }
}

/* ---- commands ---- */

static void set_defaults(struct reminder *r)
{
    SET(r, content, BYTES_LIT(""));
    SET(r, public, false);
    SET(r, status, TODO);
    SET(r, completed, false);
}

static void clear_times(struct reminder *r)
{
    CLEAR(r, due_at);
    CLEAR(r, time_zone);
    CLEAR(r, recurrence);
}

static enum err set_all(struct turn *turn, const struct reminder *before, struct reminder *r,
                        const struct reminder_body *in, struct reply *reply)
{
    set_texts(r, in);
    set_assignee(r, in);
    set_times(r, in);
    TRY(set_status(r, in, reply));
    if (REMINDER_HAS(r, recurrence) && !REMINDER_HAS(r, due_at)) {
        return reply_invalid(reply, "/due_at", "required", "A recurrence needs the time of its first occurrence");
    }
    arm(turn, before, in, r);
    return OK;
}

enum err reminder_create(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct reminder_body *in = raw;
    struct reminder r = {0};
    struct account owner = {0};
    enum err err = account_find(turn->rows, turn->caller.account, &owner);
    if (err != OK) {
        return err == ERR_NOT_FOUND ? ERR_UNAUTHORIZED : err;
    }
    set_defaults(&r);
    SET(&r, owner, turn->caller.account);
    SET(&r, created_by, arena_copy(turn->arena, owner.username));
    SET(&r, created_at, turn->now_ms);
    if (in->of_tasks) {
        SET(&r, of_tasks, true);
    }
    TRY(set_all(turn, NULL, &r, in, reply));
    SET(&r, id, turn_new_id(turn));
    TRY(reminder_index(turn->rows, &r));
    reply->location = r.id;
    TRY(reminder_store(turn, &r, reply));
    return tell(turn, NULL, &r, buf_bytes(&reply->body));
}

enum err reminder_load_visible(struct turn *turn, struct id id, struct reminder *out)
{
    struct bytes packed;
    TRY(rows_get(turn->rows, TABLE_REMINDER, id_bytes(&id), &packed));
    TRY(field_unpack(reminder_fields, arena_copy(turn->arena, packed), out));
    return reminder_may_see(out, &turn->caller) ? OK : ERR_NOT_FOUND;
}

/* The creator changes everything; the assignee the status, and nothing else. In the product whose clients the tasks
 * facade serves, every user changes every task. */
static enum err check_rights(const struct turn *turn, const struct reminder *r, const struct reminder_body *in)
{
    static const size_t may[] = {offsetof(struct reminder_body, id),        offsetof(struct reminder_body, status),
                                 offsetof(struct reminder_body, completed), offsetof(struct reminder_body, next_at),
                                 offsetof(struct reminder_body, based_on),  offsetof(struct reminder_body, of_tasks)};
    uint64_t bits = 0;
    if (id_eq(r->owner, turn->caller.account) || (r->of_tasks && in->of_tasks)) {
        return OK;
    }
    for (size_t i = 0; i < ARRAY_LEN(may); i++) {
        bits |= field_bit(field_index(reminder_patch_in, may[i]));
    }
    bool only_status = ((in->set.has | in->set.null) & ~bits) == 0;
    return id_eq(r->assignee_id, turn->caller.account) && only_status ? OK : ERR_FORBIDDEN;
}

static bool same_indexes(const struct reminder *a, const struct reminder *b)
{
    bool armed = REMINDER_HAS(a, armed_at);
    return a->public == b->public && id_eq(a->assignee_id, b->assignee_id) && armed == REMINDER_HAS(b, armed_at) &&
           (!armed || a->armed_at == b->armed_at);
}

static enum err change(struct turn *turn, const struct reminder_body *in, bool whole, struct reply *reply)
{
    struct reminder before = {0};
    TRY(reminder_load_visible(turn, in->id, &before));
    if (whole && !id_eq(before.owner, turn->caller.account)) {
        return ERR_FORBIDDEN;
    }
    TRY(check_rights(turn, &before, in));
    TRY(turn_check_version(turn, (uint64_t)before.version));
    if (HAS(in, based_on) && in->based_on != before.version) {
        return ERR_CONFLICT; /* the script looks again */
    }
    struct reminder after = before;
    if (whole) { /* PUT: what is not sent is gone */
        clear_times(&after);
        clear_assignee(&after);
        set_defaults(&after);
    }
    TRY(set_all(turn, &before, &after, in, reply));
    if (!same_indexes(&before, &after)) {
        TRY(reminder_unindex(turn->rows, &before));
        TRY(reminder_index(turn->rows, &after));
    }
    TRY(reminder_store(turn, &after, reply));
    return tell(turn, &before, &after, buf_bytes(&reply->body));
}

enum err reminder_put(struct turn *turn, const void *in, struct reply *reply)
{
    return change(turn, in, true, reply);
}

enum err reminder_patch(struct turn *turn, const void *in, struct reply *reply)
{
    return change(turn, in, false, reply);
}

static enum err erase(struct turn *turn, const struct reminder *r)
{
    TRY(reminder_unindex(turn->rows, r));
    return rows_del(turn->rows, TABLE_REMINDER, id_bytes(&r->id));
}

enum err reminder_delete(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct reminder_id *in = raw;
    struct reminder r = {0};
    struct buf packed = {0};
    (void)reply;
    TRY(reminder_load_visible(turn, in->id, &r));
    if (!id_eq(r.owner, turn->caller.account) && !(r.of_tasks && in->of_tasks)) {
        return ERR_FORBIDDEN;
    }
    TRY(turn_check_version(turn, (uint64_t)r.version));
    field_pack(&packed, reminder_fields, &r);
    enum err err = erase(turn, &r);
    err = err == OK ? event_add(turn, r.owner, EVENT_REMINDER_DELETED, buf_bytes(&packed)) : err;
    if (err == OK && is_assigned(&r)) {
        err = event_add(turn, r.assignee_id, EVENT_REMINDER_DELETED, buf_bytes(&packed));
    }
    buf_free(&packed);
    return err;
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
    clear_assignee(r);
    TRY(reminder_index(turn->rows, r));
    enum err err = reminder_store(turn, r, &unused);
    err = err == OK ? event_add(turn, r->owner, EVENT_REMINDER_CHANGED, buf_bytes(&unused.body)) : err;
    reply_close(&unused);
    return err;
}

enum err reminders_forget(struct turn *turn, struct id account, unsigned limit, unsigned *out_erased)
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
