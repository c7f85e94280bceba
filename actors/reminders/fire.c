/* Ringing: what is due, what comes after it, and putting it off. */
#include "actors/events/events.h"
#include "actors/reminders/body.h"
#include "actors/reminders/recur.h"
#include "node/limits.h"

int64_t reminders_due(struct rows *rows)
{
    struct bytes key, value;
    return rows_ceil(rows, TABLE_DUE, BYTES_NONE, &key, &value) == OK ? due_key_time(key) : INT64_MAX;
}

/* ---- the alarm's script, on the partition's leader ---- */

static enum err look(struct script *s)
{
    const struct alarm_in *in = s->in;
    script_read(s, in->partition);
    return OK;
}

/* A time that was put off takes the occurrences before it along; those missed otherwise ring one by one, if they are
 * not too old. False: this node cannot tell, another leader may. */
static bool find_next(const struct reminder *r, int64_t now_ms, struct due_item *item)
{
    int64_t missed = now_ms - LIMIT_MISSED_MS, after = item->at > missed ? item->at : missed;
    enum recur found = recur_next(r->recurrence, r->time_zone, r->starts_at, after, &item->next);
    item->has_next = found == RECUR_FOUND;
    return found != RECUR_UNKNOWN;
}

/* What is due and where it goes on; *series is how many more may be computed. */
static enum err add_item(struct rows *rows, struct bytes key, int64_t now_ms, unsigned *series, struct buf *out)
{
    struct due_item item = {.at = due_key_time(key), .id = due_key_id(key)};
    struct reminder r = {0};
    struct bytes packed;
    enum err err = reminder_load(rows, item.id, &r, &packed);
    if (err == OK && REMINDER_HAS(&r, recurrence) && r.due_at <= item.at) {
        --*series;
        if (!find_next(&r, now_ms, &item)) {
            return OK;
        }
    }
    item.version = r.version;
    buf_add(out, &item, sizeof item);
    return err == ERR_NOT_FOUND ? OK : err; /* an index row without a record: damage, which the reducer clears away */
}

static enum err gather(struct rows *rows, int64_t now_ms, struct buf *out)
{
    struct bytes key, value, from = BYTES_NONE;
    struct due_key next;
    unsigned series = LIMIT_FIRE_SERIES;
    for (unsigned n = 0; n < LIMIT_FIRE_BATCH && series > 0; n++) {
        enum err err = rows_ceil(rows, TABLE_DUE, from, &key, &value);
        if (err != OK) {
            return err == ERR_NOT_FOUND ? OK : err;
        }
        if (due_key_time(key) > now_ms) {
            return OK;
        }
        next = due_key(due_key_time(key), due_key_id(key));
        next.b[sizeof next.b - 1] = 1; /* right behind */
        from = bytes_of(next.b, sizeof next.b);
        TRY(add_item(rows, key, now_ms, &series, out));
    }
    return OK;
}

static enum err command(struct script *s)
{
    const struct alarm_in *in = s->in;
    struct fire_state *st = s->state;
    struct buf items = {0};
    enum err err = gather(script_rows(s, in->partition), s->now_ms, &items);
    FIELD_SET(reminder_fire_in, &st->fire, struct reminder_fire, items, arena_copy(s->arena, buf_bytes(&items)));
    buf_free(&items);
    TRY(err);
    if (st->fire.items.len == 0) { /* or is there something due that this node cannot tell the next time of? */
        bool waits = reminders_due(script_rows(s, in->partition)) <= s->now_ms;
        return waits ? ERR_CONFLICT : script_done(s);
    }
    script_command(s, KIND_REMINDERS, REMINDER_DO_FIRE, (struct address){in->partition, BYTES_LIT("due")}, &st->fire,
                   false);
    return OK;
}

const struct step reminder_fire_steps[] = {{"look", look, false}, {"command", command, false}, {0}};

/* ---- reducers ---- */

/* What was put off while its next time had not come yet rings on its own; else the occurrence is over. */
static void advance(struct reminder *r, const struct due_item *item)
{
    CLEAR(r, snoozed_until);
    if (r->due_at > item->at) {
        SET(r, armed_at, r->due_at);
    } else if (item->has_next) {
        SET(r, due_at, item->next);
        SET(r, armed_at, item->next);
    } else {
        CLEAR(r, armed_at);
    }
}

static enum err put(struct turn *turn, const struct reminder *r)
{
    struct buf packed = {0};
    field_pack(&packed, reminder_fields, r);
    enum err err = rows_put(turn->rows, TABLE_REMINDER, id_bytes(&r->id), buf_bytes(&packed));
    buf_free(&packed);
    return err;
}

/* The events show the reminder as it rings, with the occurrence's time. */
static enum err tell(struct turn *turn, const struct reminder *r)
{
    struct buf packed = {0};
    field_pack(&packed, reminder_fields, r);
    enum err err = event_add(turn, r->owner, EVENT_REMINDER_FIRED, buf_bytes(&packed));
    if (err == OK && !id_is_none(r->assignee_id) && !id_eq(r->assignee_id, r->owner)) {
        err = event_add(turn, r->assignee_id, EVENT_REMINDER_FIRED, buf_bytes(&packed));
    }
    buf_free(&packed);
    return err;
}

/* There is no such row, but for damage. */
static enum err forget_due(struct turn *turn, const struct due_item *item)
{
    struct due_key key = due_key(item->at, item->id);
    enum err err = rows_del(turn->rows, TABLE_DUE, due_key_bytes(&key));
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err ring(struct turn *turn, const struct due_item *item)
{
    struct reminder r = {0};
    struct bytes packed;
    enum err err = rows_get(turn->rows, TABLE_REMINDER, id_bytes(&item->id), &packed);
    if (err == OK) {
        err = field_unpack(reminder_fields, arena_copy(turn->arena, packed), &r);
    }
    if (err != OK && err != ERR_NOT_FOUND) {
        return err;
    }
    if (!REMINDER_HAS(&r, armed_at) || r.armed_at != item->at) {
        return forget_due(turn, item); /* it has rung, or is gone */
    }
    if (r.version != item->version || item->at > turn->now_ms) {
        return OK; /* it was changed since the leader looked: it looks again */
    }
    SET(&r, fired_at, turn->now_ms);
    SET(&r, version, (int64_t)turn->version);
    struct due_key old = due_key(r.armed_at, r.id);
    TRY(rows_del(turn->rows, TABLE_DUE, due_key_bytes(&old)));
    TRY(tell(turn, &r));
    advance(&r, item);
    if (REMINDER_HAS(&r, armed_at)) {
        struct due_key key = due_key(r.armed_at, r.id);
        TRY(rows_put(turn->rows, TABLE_DUE, due_key_bytes(&key), BYTES_NONE));
    }
    return put(turn, &r);
}

enum err reminder_fire(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct reminder_fire *in = raw;
    (void)reply;
    if (in->items.len % sizeof(struct due_item) != 0) {
        return ERR_BAD_REQUEST; /* of another version */
    }
    for (size_t at = 0; at < in->items.len; at += sizeof(struct due_item)) {
        struct due_item item;
        memcpy(&item, in->items.ptr + at, sizeof item);
        TRY(ring(turn, &item));
    }
    return OK;
}

enum err reminder_snooze(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct reminder_snooze *in = raw;
    struct reminder before = {0};
    TRY(reminder_load_visible(turn, in->id, &before));
    if (!id_eq(before.owner, turn->caller.account)) {
        return ERR_FORBIDDEN;
    }
    TRY(turn_check_version(turn, (uint64_t)before.version));
    bool has_until = FIELD_HAS(reminder_snooze_in, in, struct reminder_snooze, until);
    int64_t until = has_until ? in->until : turn->now_ms + in->for_ms;
    if (!REMINDER_HAS(&before, due_at) || before.completed) {
        return ERR_CONFLICT; /* it never rings */
    }
    if (until <= turn->now_ms || until > turn->now_ms + LIMIT_SNOOZE_MS) {
        return reply_invalid(reply, has_until ? "/until" : "/for_ms", "out_of_range",
                             "It must be in the future, within a year");
    }
    struct reminder after = before;
    SET(&after, snoozed_until, until);
    SET(&after, armed_at, until);
    TRY(reminder_unindex(turn->rows, &before));
    TRY(reminder_index(turn->rows, &after));
    TRY(reminder_store(turn, &after, reply));
    return event_add(turn, after.owner, EVENT_REMINDER_CHANGED, buf_bytes(&reply->body));
}
