/* Scripts: what must be known before a command is made. */
#include "actors/auth/auth.h"
#include "actors/reminders/body.h"
#include "actors/reminders/recur.h"
#include "node/limits.h"

enum { TRIES_MAX = 5 };
#define HAS BODY_HAS
#define IS_NULL BODY_IS_NULL

/* ---- the assignee ---- */

static enum err write_begin(struct script *s)
{
    const struct reminder_body *in = s->in;
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
    st->body.set.has |= field_bit(field_index(reminder_patch_in, offsetof(struct reminder_body, assignee_id)));
    return OK;
}

/* ---- recurrence ---- */

/* What the reminder's times will be, the present ones and what is sent together. before is NULL for a new one. */
struct times {
    struct bytes recurrence, time_zone;
    int64_t due_at;
    bool has_due, same; /* as before */
};

static struct times times_of(const struct reminder *before, const struct reminder_body *in, bool whole)
{
    bool keep = before != NULL && !whole;
    struct times t = {.recurrence = in->recurrence, .time_zone = in->time_zone, .due_at = in->due_at};
    t.has_due = HAS(in, due_at) || (keep && !IS_NULL(in, due_at) && REMINDER_HAS(before, due_at));
    if (!HAS(in, due_at)) {
        t.due_at = keep ? before->due_at : 0;
    }
    if (!HAS(in, recurrence)) {
        t.recurrence = keep && !IS_NULL(in, recurrence) ? before->recurrence : BYTES_NONE;
    }
    if (!HAS(in, time_zone)) {
        t.time_zone = keep && !IS_NULL(in, time_zone) ? before->time_zone : BYTES_NONE;
    }
    t.same = before != NULL && t.has_due && REMINDER_HAS(before, due_at) && t.due_at == before->due_at &&
             bytes_eq(t.recurrence, before->recurrence) && bytes_eq(t.time_zone, before->time_zone);
    return t;
}

static enum err check_texts(struct script *s, const struct reminder_body *in)
{
    const char *why = HAS(in, recurrence) ? recur_refusal(in->recurrence) : NULL;
    if (HAS(in, time_zone) && !zone_is_known(in->time_zone)) {
        return reply_invalid(s->reply, "/time_zone", "not_a_time_zone", "An IANA name such as Europe/Paris");
    }
    return why == NULL ? OK : reply_invalid(s->reply, "/recurrence", "not_a_recurrence", why);
}

/* A series that goes on keeps its beginning; one that was changed goes on from now, one with a new time begins
 * there. */
static enum err new_series(struct script *s, const struct reminder *before, const struct times *t,
                           struct reminder_body *body)
{
    bool moved = before == NULL || !REMINDER_HAS(before, due_at) || t->due_at != before->due_at;
    bool same_start = before != NULL && REMINDER_HAS(before, starts_at) && !moved;
    bool rang = !moved && reminder_has_rung(before);
    int64_t start = same_start ? before->starts_at : t->due_at, missed = s->now_ms - LIMIT_MISSED_MS, next;
    int64_t after = same_start || rang ? s->now_ms : start - 1;
    if (!t->has_due) {
        return reply_invalid(s->reply, "/due_at", "required", "A recurrence needs the time of its first occurrence");
    }
    if (recur_next(t->recurrence, t->time_zone, start, after > missed ? after : missed, &next) != RECUR_FOUND) {
        return reply_invalid(s->reply, "/recurrence", "never", "It has no occurrence");
    }
    BODY_SET(body, starts_at, start);
    BODY_SET(body, next_at, next);
    return OK;
}

enum err reminder_schedule(struct script *s, const struct reminder *before, bool whole, const struct reminder_body *in,
                           struct reminder_body *body)
{
    int64_t next;
    body->set = in->set; /* of an earlier try */
    if (!id_is_none(body->assignee_id)) {
        BODY_SET(body, assignee_id, body->assignee_id);
    }
    TRY(check_texts(s, body));
    struct times t = times_of(before, body, whole);
    if (before != NULL && (whole || t.recurrence.len > 0 || !t.same)) {
        BODY_SET(body, based_on, before->version);
    }
    if (t.recurrence.len == 0) {
        return OK;
    }
    if (!t.same) {
        return new_series(s, before, &t, body);
    }
    bool opens = (HAS(body, completed) && !body->completed) || (HAS(body, status) && body->status != DONE) || whole;
    if (before->completed && opens &&
        recur_next(t.recurrence, t.time_zone, before->starts_at, s->now_ms, &next) == RECUR_FOUND) {
        BODY_SET(body, next_at, next);
    }
    return OK;
}

/* ---- the command ---- */

static enum err create_command(struct script *s)
{
    struct write_state *st = s->state;
    struct address address = {id_partition(st->actor), id_bytes(&st->actor)};
    TRY(reminder_schedule(s, NULL, true, s->in, &st->body));
    script_command(s, KIND_REMINDERS, REMINDER_DO_CREATE, address, &st->body, true);
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

static enum err find_reminder(struct script *s, struct reminder *out)
{
    struct write_state *st = s->state;
    struct bytes packed;
    *out = (struct reminder){0};
    TRY(rows_get(script_rows(s, id_partition(st->body.id)), TABLE_REMINDER, id_bytes(&st->body.id), &packed));
    TRY(field_unpack(reminder_fields, packed, out));
    st->actor = out->owner;
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
    struct write_state *st = s->state;
    struct reminder r;
    TRY(find_reminder(s, &r));
    TRY(reminder_may_see(&r, &s->caller) ? OK : ERR_NOT_FOUND);
    TRY(reminder_schedule(s, &r, true, s->in, &st->body));
    change_command(s, REMINDER_DO_PUT, &st->body);
    return OK;
}

static enum err patch_command(struct script *s)
{
    struct write_state *st = s->state;
    struct reminder r;
    TRY(find_reminder(s, &r));
    TRY(reminder_may_see(&r, &s->caller) ? OK : ERR_NOT_FOUND);
    TRY(reminder_schedule(s, &r, false, s->in, &st->body));
    change_command(s, REMINDER_DO_PATCH, &st->body);
    return OK;
}

static enum err begin_with_id(struct script *s, struct id id)
{
    struct write_state *st = s->state;
    st->body.id = id;
    return change_find(s);
}

static enum err delete_begin(struct script *s)
{
    return begin_with_id(s, ((const struct reminder_id *)s->in)->id);
}

static enum err delete_command(struct script *s)
{
    struct reminder r;
    TRY(find_reminder(s, &r));
    change_command(s, REMINDER_DO_DELETE, s->in);
    return OK;
}

static enum err snooze_begin(struct script *s)
{
    const struct reminder_snooze *in = s->in;
    bool until = FIELD_HAS(reminder_snooze_in, in, struct reminder_snooze, until);
    if (until == FIELD_HAS(reminder_snooze_in, in, struct reminder_snooze, for_ms)) {
        return reply_invalid(s->reply, "/until", "required", "Either until or for_ms");
    }
    return begin_with_id(s, in->id);
}

static enum err snooze_command(struct script *s)
{
    struct reminder r;
    TRY(find_reminder(s, &r));
    change_command(s, REMINDER_DO_SNOOZE, s->in);
    return OK;
}

/* The command's answer is the operation's. */
static enum err answer(struct script *s)
{
    struct reply moved = s->answer;
    s->answer = (struct reply){0};
    reply_close(s->reply);
    *s->reply = moved;
    return OK;
}

enum { FIND = 3 }; /* row of put and patch */

/* The reminder was changed between the look and the command, by its own ringing perhaps: once more. */
static enum err changed(struct script *s)
{
    struct write_state *st = s->state;
    if (s->err == ERR_CONFLICT && ++st->tries < TRIES_MAX) {
        script_goto(s, FIND);
        return OK;
    }
    return s->err == OK ? answer(s) : s->err;
}

#define RESOLVE                                                 \
    {"begin", write_begin, false}, {"name", write_name, false}, \
    {                                                           \
        "assignee", write_assignee, false                       \
    }
const struct step reminder_create_steps[] = {
    RESOLVE, {"command", create_command, false}, {"answer", answer, false}, {0}};
const struct step reminder_put_steps[] = {
    RESOLVE, {"find", change_find, false}, {"command", put_command, false}, {"answer", changed, true}, {0}};
const struct step reminder_patch_steps[] = {
    RESOLVE, {"find", change_find, false}, {"command", patch_command, false}, {"answer", changed, true}, {0}};
const struct step reminder_delete_steps[] = {
    {"find", delete_begin, false}, {"command", delete_command, false}, {"answer", answer, false}, {0}};
const struct step reminder_snooze_steps[] = {
    {"find", snooze_begin, false}, {"command", snooze_command, false}, {"answer", answer, false}, {0}};
