/* The queue's reducers beside a model that is as plain as can be: arrays that are searched from one end to the other.
 * Random commands go to two replicas and to the model: answers and numbers must agree, the invariants must hold, and
 * the replicas must have the same rows. SEED chooses the commands, STEPS says how many. */
#include "actors/join.h"
#include "actors/queue/job.h"
#include "actors/queue/queue.h"
#include "actors/queue/slip.h"
#include "node/limits.h"
#include "tests/support/model_rows.h"
#include "tests/support/test.h"

enum { TOPICS = 4, GROUPS = 3, USERS = 4, ADMIN = USERS, NOBODY, CALLERS, KEYS = 4, RECEIPTS = 512 };
enum { MESSAGES = 512, PLACES = 2048, BATCH = 8, PARTS = 4 };

/* ---- what the model is made of ---- */

struct m_message {
    uint64_t number, id, key;
    uint32_t priority;
    int64_t published_at, available_at, expires_at;
    size_t size;
    uint32_t lease_s; /* of a job */
    bool slip;        /* it goes on to another topic */
};
struct m_dedup {
    uint8_t digest[16];
    int64_t at;
    uint64_t id;
};
/* Where a message is in a group; one that is nowhere was not taken. */
enum m_where { NOWHERE, READY, PARKED, WAITING, FLIGHT, DEAD, DONE };
struct m_place {
    enum m_where where;
    uint64_t number, key;
    uint32_t attempts, priority;
    int64_t until; /* waiting; in flight: the end of the lease */
    uint64_t smallest, delivery;
    uint64_t order; /* a dead letter that was buried */
};
struct m_past {
    uint64_t number;
    struct past past;
};
struct m_group {
    bool is;
    uint32_t gid;
    uint64_t start;
    struct m_place places[PLACES]; /* in the order they were taken */
    size_t places_len;
    uint64_t returned[PLACES]; /* numbers of what came back from the next topic, sorted */
    size_t returned_len;
    struct m_past pasts[PLACES]; /* of jobs to which something happened */
    size_t pasts_len;
    uint64_t timeouts;
    uint64_t delivered, redelivered, acked, expired, dropped, died;
    int64_t created_at, active_at, paused_until;
};
struct m_topic {
    bool is;
    uint64_t tid, next, available, holes;
    int64_t visibility_ms, max_attempts, retention_ms, max_messages, dedup_window_ms;
    bool drop_oldest, retain_acked;
    int owner; /* -1: nobody */
    bool publish[USERS], consume[USERS], publish_all, consume_all;
    struct m_message messages[MESSAGES], delayed[MESSAGES]; /* delayed: available_at says when */
    struct m_dedup dedups[PLACES];
    size_t messages_len, delayed_len, dedups_len;
    uint64_t published, duplicates, slips, dropped;
    int64_t retain_at, dedup_at;
    uint32_t next_gid;
    struct m_group groups[GROUPS];
};

struct replica {
    struct model_rows rows;
};
struct given {
    int topic, group;
    struct settle_one one;
};
struct world {
    struct replica replicas[2];
    struct arena arenas[2];
    struct random random;
    int64_t now;
    uint64_t index;
    bool modelled;
    bool alone; /* the second replica gets nothing */
    struct m_topic topics[TOPICS];
    struct given given[RECEIPTS];
    size_t given_len;
    uint64_t deleted[64]; /* topics that are to leave nothing behind */
    size_t deleted_len;
    struct buf touched;
    struct buf slip, image; /* destinations, and a message that has them */
    uint64_t results[ERR_COUNT];
    uint64_t seen_delivered, seen_parked, seen_expired, seen_dead, seen_dropped, seen_gone, seen_settled, seen_slips,
        seen_pasts, seen_jobs[JOB_RESERVE + 1];
};

static const char *const topic_names_of[TOPICS] = {"a", "b.wide", "c", "work"};
static const char *const group_names_of[GROUPS] = {"one", "two", "three"};

static bool chance(struct world *world, uint64_t one_in)
{
    return below(&world->random, one_in) == 0;
}

static struct id user_id(int n)
{
    return id_make(1000, 1, (uint64_t)n + 1);
}

static struct caller caller_of(int n)
{
    struct caller caller = {.role = n == ADMIN ? ROLE_ADMIN : n == NOBODY ? ROLE_NONE : ROLE_USER};
    if (n < USERS) {
        caller.account = user_id(n);
    }
    return caller;
}

static int some_caller(struct world *world)
{
    return chance(world, 2) ? ADMIN : (int)below(&world->random, CALLERS);
}

/* ---- running commands ---- */

static enum err apply(struct world *world, int which, uint8_t tag, struct bytes key, struct caller caller,
                      struct bytes params, struct reply *reply)
{
    struct arena *arena = &world->arenas[which];
    const struct op *op = kind_op(&queue_kind, tag);
    arena_reset(arena);
    void *in = arena_zalloc(arena, op->in_size);
    assert_int_equal(field_unpack(op->in, params, in), OK);
    size_t rows_before = world->replicas[which].rows.len;
    struct turn turn = {.rows = &world->replicas[which].rows.rows,
                        .arena = arena,
                        .partition = 1,
                        .partitions = 1,
                        .key = key,
                        .caller = caller,
                        .now_ms = world->now,
                        .version = world->index};
    enum err err = op->reduce(&turn, in, reply);
    world->touched.len = 0;
    buf_add_bytes(&world->touched, buf_bytes(&turn.touched));
    buf_free(&turn.touched);
    assert_true(err == OK || world->replicas[which].rows.len == rows_before); /* what failed has written nothing */
    assert_true(err != ERR_CORRUPT && err != ERR_IO);
    return err;
}

static void compare_replicas(const struct world *world)
{
    const struct model_rows *a = &world->replicas[0].rows, *b = &world->replicas[1].rows;
    assert_int_equal(a->len, b->len);
    for (size_t i = 0; i < a->len; i++) {
        assert_true(a->list[i].table == b->list[i].table && bytes_eq(a->list[i].key, b->list[i].key) &&
                    bytes_eq(a->list[i].value, b->list[i].value));
    }
}

static void check_rows(struct world *world)
{
    arena_reset(&world->arenas[0]);
    assert_int_equal(queue_kind.check(&world->replicas[0].rows.rows, &world->arenas[0]), OK);
}

/* To both replicas; what both answered. */
static enum err run(struct world *world, uint8_t tag, int topic, int caller, const void *in, struct reply *reply)
{
    struct buf params = {0};
    struct reply second = {0};
    struct bytes key = bytes_str(topic < 0 ? "times" : topic_names_of[topic]);
    world->index++;
    field_pack(&params, kind_op(&queue_kind, tag)->in, in);
    enum err err = apply(world, 0, tag, key, caller_of(caller), buf_bytes(&params), reply);
    if (!world->alone) {
        assert_int_equal(apply(world, 1, tag, key, caller_of(caller), buf_bytes(&params), &second), err);
        assert_true(bytes_eq(buf_bytes(&reply->body), buf_bytes(&second.body)));
    }
    reply_close(&second);
    buf_free(&params);
    world->results[err]++;
    return err;
}

static enum err run_joined(struct world *world, uint8_t tag, int topic, const struct buf *items, struct reply *reply)
{
    struct joined in = {0};
    FIELD_SET(joined_fields, &in, struct joined, items, buf_bytes(items));
    return run(world, tag, topic, ADMIN, &in, reply);
}

static struct rows *rows_of(struct world *world)
{
    return &world->replicas[0].rows.rows;
}

static bool topic_is(struct world *world, int topic, struct topic *out)
{
    return topic_find(rows_of(world), bytes_str(topic_names_of[topic]), out) == OK;
}

static void world_open(struct world *world, uint64_t seed, bool modelled)
{
    *world = (struct world){.now = 1800000000000, .modelled = modelled};
    random_init_seed(&world->random, seed);
    model_rows_init(&world->replicas[0].rows);
    model_rows_init_strict(&world->replicas[1].rows);
    struct buf names = {0};
    field_strings_begin(&names, 1);
    field_strings_add(&names, BYTES_LIT("elsewhere"));
    buf_add_bytes(&world->slip, slip_make(buf_bytes(&names), &world->arenas[0]));
    const struct message message = {.priority = PRIORITY_USUAL, .destinations = buf_bytes(&world->slip)};
    message_add(&world->image, &message);
    buf_free(&names);
}

static void world_close(struct world *world)
{
    if (!world->alone) {
        compare_replicas(world);
    }
    for (int i = 0; i < 2; i++) {
        model_rows_close(&world->replicas[i].rows);
        arena_close(&world->arenas[i]);
    }
    buf_free(&world->touched);
    buf_free(&world->slip);
    buf_free(&world->image);
    free(world);
}

/* ---- the model: looking ---- */

static struct m_message *m_message(struct m_topic *topic, uint64_t number)
{
    for (size_t i = 0; i < topic->messages_len; i++) {
        if (topic->messages[i].number == number) {
            return &topic->messages[i];
        }
    }
    return NULL;
}

static struct m_place *m_place(struct m_group *group, uint64_t number)
{
    for (size_t i = 0; i < group->places_len; i++) {
        if (group->places[i].number == number) {
            return &group->places[i];
        }
    }
    return NULL;
}

static uint64_t m_count(const struct m_group *group, enum m_where where)
{
    uint64_t count = 0;
    for (size_t i = 0; i < group->places_len; i++) {
        count += group->places[i].where == where;
    }
    return count;
}

static bool m_untaken(struct m_group *group, const struct m_message *message)
{
    return message->number >= group->start && m_place(group, message->number) == NULL;
}

static bool m_allows(const struct m_topic *topic, int caller, enum topic_use use)
{
    if (caller == ADMIN || caller == topic->owner) {
        return true;
    }
    if (caller == NOBODY || use == USE_MANAGE) {
        return false;
    }
    return use == USE_PUBLISH ? topic->publish_all || topic->publish[caller]
                              : topic->consume_all || topic->consume[caller];
}

static bool m_has_holder(const struct m_group *group, uint64_t key)
{
    for (size_t i = 0; i < group->places_len; i++) {
        const struct m_place *place = &group->places[i];
        if (place->key == key && (place->where == READY || place->where == WAITING || place->where == FLIGHT)) {
            return true;
        }
    }
    return false;
}

/* An earlier one of its key was not taken: it has a less urgent priority. */
static bool m_earlier_untaken(struct m_topic *topic, struct m_group *group, const struct m_message *message)
{
    for (size_t i = 0; i < topic->messages_len; i++) {
        const struct m_message *other = &topic->messages[i];
        if (other->key == message->key && other->number < message->number && m_untaken(group, other)) {
            return true;
        }
    }
    return false;
}

static bool m_must_wait(struct m_topic *topic, struct m_group *group, const struct m_message *message)
{
    if (message->key == 0) {
        return false;
    }
    for (size_t i = 0; i < group->places_len; i++) {
        const struct m_place *place = &group->places[i];
        if (place->key == message->key && place->where == PARKED && place->number < message->number) {
            return true;
        }
    }
    return m_has_holder(group, message->key) || m_earlier_untaken(topic, group, message);
}

/* Is anything ready or not taken? If not, whoever asked for more waits until it is rung. */
static bool m_has_any(struct m_topic *topic, struct m_group *group)
{
    bool any = m_count(group, READY) > 0;
    for (size_t i = 0; i < topic->messages_len; i++) {
        any = any || m_untaken(group, &topic->messages[i]);
    }
    return any && group->paused_until == 0;
}

static size_t m_lanes(const struct m_topic *topic)
{
    size_t lanes = 0;
    for (size_t i = 0; i < topic->messages_len; i++) {
        const struct m_message *message = &topic->messages[i];
        bool seen = message->id == message->number && message->priority == PRIORITY_USUAL;
        for (size_t j = 0; j < i && !seen; j++) {
            const struct m_message *other = &topic->messages[j];
            seen = other->priority == message->priority &&
                   (other->id != other->number || other->priority != PRIORITY_USUAL);
        }
        lanes += !seen;
    }
    return lanes;
}

/* ---- the model: moving ---- */

static void m_forget_place(struct m_group *group, struct m_place *place)
{
    size_t at = (size_t)(place - group->places);
    memmove(place, place + 1, (group->places_len - at - 1) * sizeof *place);
    group->places_len--;
}

static struct m_place *m_new_place(struct m_group *group, enum m_where where, const struct m_message *message)
{
    assert_true(group->places_len < PLACES);
    group->places[group->places_len] =
        (struct m_place){.where = where, .number = message->number, .key = message->key, .priority = message->priority};
    return &group->places[group->places_len++];
}

/* Of each key that nobody holds, the first that is parked becomes ready, if nothing before it is left to take. */
static void m_free_keys(struct m_topic *topic, struct m_group *group)
{
    for (size_t i = 0; i < group->places_len; i++) {
        struct m_place *place = &group->places[i];
        bool first = place->where == PARKED && !m_has_holder(group, place->key);
        for (size_t j = 0; j < group->places_len && first; j++) {
            const struct m_place *other = &group->places[j];
            first = other->where != PARKED || other->key != place->key || other->number >= place->number;
        }
        if (first && !m_earlier_untaken(topic, group, m_message(topic, place->number))) {
            place->where = READY;
        }
    }
}

static void m_free_all_keys(struct m_topic *topic)
{
    for (int g = 0; g < GROUPS; g++) {
        if (topic->groups[g].is) {
            m_free_keys(topic, &topic->groups[g]);
        }
    }
}

static struct past m_past(const struct m_group *group, uint64_t number)
{
    for (size_t i = 0; i < group->pasts_len; i++) {
        if (group->pasts[i].number == number) {
            return group->pasts[i].past;
        }
    }
    return (struct past){0};
}

static void m_forget_past(struct m_group *group, uint64_t number)
{
    for (size_t i = 0; i < group->pasts_len; i++) {
        if (group->pasts[i].number == number) {
            group->pasts[i] = group->pasts[--group->pasts_len];
            return;
        }
    }
}

/* Of a job, the past after a change; those of other messages are not kept. */
static void m_put_past(struct m_topic *topic, struct m_group *group, uint64_t number, struct past past)
{
    if (m_message(topic, number)->lease_s > 0) {
        m_forget_past(group, number);
        assert_true(group->pasts_len < PLACES);
        group->pasts[group->pasts_len++] = (struct m_past){number, past};
    }
}

static void m_erase(struct m_topic *topic, uint64_t number)
{
    struct m_message *message = m_message(topic, number);
    size_t at = (size_t)(message - topic->messages);
    memmove(message, message + 1, (topic->messages_len - at - 1) * sizeof *message);
    topic->messages_len--;
    for (int g = 0; g < GROUPS; g++) {
        struct m_place *place = m_place(&topic->groups[g], number);
        m_forget_past(&topic->groups[g], number);
        if (place != NULL && place->where != FLIGHT) {
            assert_int_equal(place->where, DONE);
            m_forget_place(&topic->groups[g], place);
        }
    }
}

static void m_erase_from_the_middle(struct m_topic *topic, uint64_t number)
{
    topic->holes = number + 1 > topic->holes ? number + 1 : topic->holes;
    m_erase(topic, number);
}

static void m_drop(struct m_topic *topic, uint64_t number)
{
    for (int g = 0; g < GROUPS; g++) {
        struct m_group *group = &topic->groups[g];
        struct m_place *place = m_place(group, number);
        if (!group->is) {
            continue;
        }
        if (place == NULL) {
            group->dropped += number >= group->start;
        } else if (place->where != FLIGHT) {
            group->dropped += place->where != DONE;
            place->where = DONE;
        }
    }
    topic->dropped++;
    m_erase(topic, number);
    m_free_all_keys(topic);
}

static void m_append(struct m_topic *topic, struct m_message message, int64_t now)
{
    assert_true(topic->messages_len < MESSAGES);
    message.number = topic->next++;
    message.id = message.id == 0 ? message.number : message.id;
    message.available_at = now;
    topic->messages[topic->messages_len++] = message;
    topic->slips += message.slip;
    topic->available++;
    topic->retain_at = topic->retain_at == 0 ? now + topic->retention_ms : topic->retain_at;
}

static bool m_all_are_through(struct m_topic *topic, uint64_t number)
{
    bool any = false;
    for (int g = 0; g < GROUPS; g++) {
        struct m_group *group = &topic->groups[g];
        struct m_place *place = m_place(group, number);
        any = any || group->is;
        if (group->is && (place == NULL ? number >= group->start : place->where != DONE)) {
            return false;
        }
        for (size_t i = 0; group->is && i < group->places_len; i++) { /* a delivery is kept until all of it is done */
            if (group->places[i].where == FLIGHT && group->places[i].smallest <= number) {
                return false;
            }
        }
    }
    return any;
}

static void m_reclaim(struct m_topic *topic, uint64_t most)
{
    for (; most > 0 && topic->messages_len > 0 && m_all_are_through(topic, topic->messages[0].number); most--) {
        m_erase(topic, topic->messages[0].number);
    }
}

/* order: 0: its attempts are used up. */
static void m_bury(struct m_topic *topic, struct m_group *group, struct m_place *place, uint64_t order)
{
    struct past past = m_past(group, place->number);
    if (m_message(topic, place->number) == NULL) {
        group->dropped++;
        m_forget_place(group, place);
    } else {
        place->where = DEAD;
        place->order = order;
        group->died++;
        past.buries++;
        if (order != 0) {
            m_put_past(topic, group, place->number, past);
        }
    }
    m_free_keys(topic, group);
}

static void m_retry(struct m_topic *topic, struct m_group *group, struct m_place *place, int64_t now, int64_t delay_ms,
                    enum past_event why)
{
    struct past past = m_past(group, place->number);
    if (m_message(topic, place->number) == NULL ||
        (topic->max_attempts > 0 && place->attempts >= topic->max_attempts)) {
        m_bury(topic, group, place, 0);
        return;
    }
    place->where = delay_ms > 0 ? WAITING : READY;
    place->until = now + delay_ms;
    group->timeouts += why == PAST_TIMEOUT;
    past.timeouts += why == PAST_TIMEOUT;
    past.releases += why == PAST_RELEASE;
    past.delay_s = why == PAST_RELEASE ? (uint32_t)(delay_ms / 1000) : past.delay_s;
    if (why != PAST_NOTHING) {
        m_put_past(topic, group, place->number, past);
    }
}

static void m_finish(struct m_topic *topic, struct m_group *group, struct m_place *place)
{
    uint64_t number = place->number;
    group->acked++;
    place->where = DONE;
    if (m_message(topic, number) == NULL) {
        m_forget_place(group, place);
    } else if (!topic->retain_acked) {
        m_erase_from_the_middle(topic, number);
    }
    m_free_keys(topic, group);
}

static struct m_group *m_new_group(struct m_topic *topic, int g, uint64_t start, int64_t now)
{
    struct m_group *group = &topic->groups[g];
    *group =
        (struct m_group){.is = true, .gid = ++topic->next_gid, .start = start, .created_at = now, .active_at = now};
    return group;
}

/* ---- the model: times ---- */

struct m_event {
    int64_t at;
    enum queue_time type;
    uint64_t tid, a, b, c;
    struct m_topic *topic;
    struct m_group *group;
};

static bool m_is_before(const struct m_event *x, const struct m_event *y)
{
    const uint64_t xs[] = {(uint64_t)x->at, x->type, x->tid, x->a, x->b, x->c};
    const uint64_t ys[] = {(uint64_t)y->at, y->type, y->tid, y->a, y->b, y->c};
    for (size_t i = 0; i < ARRAY_LEN(xs); i++) {
        if (xs[i] != ys[i]) {
            return xs[i] < ys[i];
        }
    }
    return false;
}

static void m_consider(struct m_event *best, struct m_event event)
{
    if (event.at > 0 && (best->topic == NULL || m_is_before(&event, best))) {
        *best = event;
    }
}

static int64_t m_lease_end(const struct m_group *group, uint64_t delivery)
{
    int64_t end = INT64_MAX;
    for (size_t i = 0; i < group->places_len; i++) {
        const struct m_place *place = &group->places[i];
        if (place->where == FLIGHT && place->delivery == delivery && place->until < end) {
            end = place->until;
        }
    }
    return end;
}

static void m_group_events(struct m_topic *topic, struct m_group *group, struct m_event *best)
{
    struct m_event event = {.tid = topic->tid, .a = group->gid, .topic = topic, .group = group};
    for (size_t i = 0; i < group->places_len; i++) {
        const struct m_place *place = &group->places[i];
        if (place->where == FLIGHT) {
            event.at = m_lease_end(group, place->delivery);
            event.type = TIME_LEASE;
            event.b = place->smallest;
            event.c = place->delivery;
            m_consider(best, event);
        } else if (place->where == WAITING) {
            event.at = place->until;
            event.type = TIME_WAIT;
            event.b = place->number;
            event.c = 0;
            m_consider(best, event);
        }
    }
    event.at = group->paused_until;
    event.type = TIME_RESUME;
    event.b = event.c = 0;
    m_consider(best, event);
}

static struct m_event m_first_event(struct world *world)
{
    struct m_event best = {0};
    for (int t = 0; t < TOPICS; t++) {
        struct m_topic *topic = &world->topics[t];
        struct m_event event = {.tid = topic->tid, .topic = topic};
        if (!topic->is) {
            continue;
        }
        for (int g = 0; g < GROUPS; g++) {
            if (topic->groups[g].is) {
                m_group_events(topic, &topic->groups[g], &best);
            }
        }
        for (size_t i = 0; i < topic->delayed_len; i++) {
            event.at = topic->delayed[i].available_at;
            event.type = TIME_DELAYED;
            event.a = topic->delayed[i].id;
            m_consider(&best, event);
        }
        event.a = 0;
        event.at = topic->retain_at;
        event.type = TIME_RETAIN;
        m_consider(&best, event);
        event.at = topic->dedup_at;
        event.type = TIME_DEDUP;
        m_consider(&best, event);
    }
    return best;
}

static void m_lease_ends(const struct m_event *event, int64_t now)
{
    struct m_group *group = event->group;
    for (bool again = true; again;) {
        again = false;
        for (size_t i = 0; i < group->places_len && !again; i++) {
            struct m_place *place = &group->places[i];
            if (place->where == FLIGHT && place->delivery == event->c && place->until <= event->at) {
                m_retry(event->topic, group, place, now, 0, PAST_TIMEOUT);
                again = true;
            }
        }
    }
}

static void m_delay_ends(const struct m_event *event, int64_t now)
{
    struct m_topic *topic = event->topic;
    for (size_t i = 0; i < topic->delayed_len; i++) {
        if (topic->delayed[i].id == event->a) {
            struct m_message message = topic->delayed[i];
            memmove(&topic->delayed[i], &topic->delayed[i + 1], (topic->delayed_len - i - 1) * sizeof message);
            topic->delayed_len--;
            m_append(topic, message, now);
            return;
        }
    }
}

static void m_retention_ends(struct m_topic *topic, int64_t now)
{
    while (topic->messages_len > 0 && topic->messages[0].available_at + topic->retention_ms <= now) {
        m_drop(topic, topic->messages[0].number);
    }
    topic->retain_at = topic->messages_len == 0 ? 0 : topic->messages[0].available_at + topic->retention_ms;
}

static void m_dedup_ends(struct m_topic *topic, int64_t now)
{
    size_t kept = 0;
    topic->dedup_at = 0;
    for (size_t i = 0; i < topic->dedups_len; i++) {
        int64_t end = topic->dedups[i].at + topic->dedup_window_ms;
        if (end > now) {
            topic->dedup_at = topic->dedup_at == 0 || end < topic->dedup_at ? end : topic->dedup_at;
            topic->dedups[kept++] = topic->dedups[i];
        }
    }
    topic->dedups_len = kept;
}

static void m_ring(struct world *world)
{
    struct m_event event;
    while ((event = m_first_event(world)).topic != NULL && event.at <= world->now) {
        switch (event.type) {
        case TIME_LEASE: m_lease_ends(&event, world->now); break;
        case TIME_WAIT: m_place(event.group, event.b)->where = READY; break;
        case TIME_DELAYED: m_delay_ends(&event, world->now); break;
        case TIME_RETAIN: m_retention_ends(event.topic, world->now); break;
        case TIME_RESUME: event.group->paused_until = 0; break;
        case TIME_DEDUP: m_dedup_ends(event.topic, world->now); break;
        case TIME_SWEEP: fail();
        }
    }
}

/* ---- comparing ---- */

static void compare_group(struct world *world, struct m_topic *topic, int g)
{
    struct m_group *group = &topic->groups[g];
    struct group_state s;
    struct bytes name;
    uint32_t gid;
    enum err err = group_find_gid(rows_of(world), topic->tid, bytes_str(group_names_of[g]), &gid);
    assert_int_equal(err, group->is ? OK : ERR_NOT_FOUND);
    if (!group->is) {
        return;
    }
    assert_int_equal(gid, group->gid);
    assert_int_equal(group_find(rows_of(world), topic->tid, gid, &s, &name), OK);
    assert_true(bytes_is(name, group_names_of[g]));
    uint64_t untaken = 0;
    for (size_t i = 0; i < topic->messages_len; i++) {
        untaken += m_untaken(group, &topic->messages[i]);
    }
    assert_int_equal(s.ready, m_count(group, READY));
    assert_int_equal(s.parked, m_count(group, PARKED));
    assert_int_equal(s.waiting, m_count(group, WAITING));
    assert_int_equal(s.in_flight, m_count(group, FLIGHT));
    assert_int_equal(s.dead, m_count(group, DEAD));
    assert_int_equal(s.returned, group->returned_len);
    assert_int_equal(topic->available - s.passed, untaken);
    assert_int_equal(s.delivered, group->delivered);
    assert_int_equal(s.redelivered, group->redelivered);
    assert_int_equal(s.acked, group->acked);
    assert_int_equal(s.expired, group->expired);
    assert_int_equal(s.dropped, group->dropped);
    assert_int_equal(s.died, group->died);
    assert_int_equal(s.created_at, group->created_at);
    assert_int_equal(s.active_at, group->active_at);
    assert_int_equal(s.paused_until, group->paused_until);
    assert_int_equal(s.timeouts, group->timeouts);
    for (size_t i = 0; i < topic->messages_len; i++) {
        struct past past, expected = m_past(group, topic->messages[i].number);
        assert_int_equal(past_find(rows_of(world), topic->tid, gid, topic->messages[i].number, &past), OK);
        assert_memory_equal(&past, &expected, sizeof past);
        world->seen_pasts += expected.kicks > 0;
    }
    world->seen_parked += s.parked;
    world->seen_dead += s.dead;
}

static void compare_message(struct world *world, struct m_topic *topic, const struct m_message *message)
{
    struct queue_key key = message_key(topic->tid, message->number);
    struct bytes row;
    struct message found;
    assert_int_equal(rows_get(rows_of(world), TABLE_MESSAGE, key_of(&key), &row), OK);
    assert_int_equal(message_read(row, &found), OK);
    assert_true(found.id == message->id && found.key_hash == message->key && found.priority == message->priority &&
                found.published_at == message->published_at && found.available_at == message->available_at &&
                found.expires_at == message->expires_at && row.len == message->size &&
                found.lease_s == message->lease_s);
}

static void compare_topic(struct world *world, int t)
{
    struct m_topic *topic = &world->topics[t];
    struct topic settings;
    struct topic_state s;
    struct bytes name;
    assert_int_equal(topic_is(world, t, &settings), topic->is);
    if (!topic->is) {
        return;
    }
    assert_int_equal(settings.tid, topic->tid);
    assert_int_equal(topic_state_find(rows_of(world), topic->tid, &s, &name), OK);
    assert_true(bytes_is(name, topic_names_of[t]));
    uint64_t groups = 0, bytes = 0;
    for (int g = 0; g < GROUPS; g++) {
        compare_group(world, topic, g);
        groups += topic->groups[g].is;
    }
    for (size_t i = 0; i < topic->messages_len; i++) {
        compare_message(world, topic, &topic->messages[i]);
        bytes += topic->messages[i].size;
    }
    assert_int_equal(s.retained, topic->messages_len);
    assert_int_equal(s.bytes, bytes);
    assert_int_equal(s.delayed, topic->delayed_len);
    assert_int_equal(s.dedups, topic->dedups_len);
    assert_int_equal(s.next, topic->next);
    assert_int_equal(s.available, topic->available);
    assert_int_equal(s.published, topic->published);
    assert_int_equal(s.duplicates, topic->duplicates);
    assert_int_equal(s.dropped, topic->dropped);
    assert_int_equal(s.slips, topic->slips);
    assert_int_equal(s.lanes, m_lanes(topic));
    assert_int_equal(s.groups, groups);
    assert_int_equal(s.next_gid, topic->next_gid);
    assert_int_equal(s.retain_at, topic->retain_at);
}

static bool is_touched(const struct world *world, int t)
{
    struct id id = topic_watch_id(bytes_str(topic_names_of[t]));
    for (size_t at = 0; at + sizeof id <= world->touched.len; at += sizeof id) {
        if (memcmp(world->touched.ptr + at, id.b, sizeof id) == 0) {
            return true;
        }
    }
    return false;
}

/* Whoever waits for something to receive is rung when there is any. */
static void note_any(struct world *world, bool out[TOPICS][GROUPS])
{
    for (int t = 0; t < TOPICS; t++) {
        for (int g = 0; g < GROUPS; g++) {
            struct m_topic *topic = &world->topics[t];
            /* nobody waits in a group that is not there */
            out[t][g] = !topic->is || !topic->groups[g].is || m_has_any(topic, &topic->groups[g]);
        }
    }
}

static void compare(struct world *world, bool before[TOPICS][GROUPS])
{
    bool after[TOPICS][GROUPS];
    check_rows(world);
    if (world->index % 16 == 0) {
        compare_replicas(world);
    }
    if (!world->modelled) {
        return;
    }
    note_any(world, after);
    for (int t = 0; t < TOPICS; t++) {
        compare_topic(world, t);
        for (int g = 0; g < GROUPS; g++) {
            bool is = world->topics[t].is && world->topics[t].groups[g].is;
            assert_true(before[t][g] || !after[t][g] || !is || is_touched(world, t));
        }
    }
}

/* ---- publishing ---- */

struct p_message {
    struct publish_head head;
    struct m_message message; /* expires_at: its ttl */
};
struct p_part {
    int caller, group;
    bool whole;
    size_t len;
    struct p_message messages[BATCH];
    struct receive_ask ask;
    struct settle_ask settle;
    struct settle_one ones[BATCH]; /* with the image of before behind each that says so */
};

static uint64_t key_of_number(uint64_t n, struct bytes *out)
{
    static const char *const keys[KEYS] = {"", "k1", "key two", "k3"};
    *out = bytes_str(keys[n]);
    return message_key_hash(*out);
}

static void random_message(struct world *world, int topic, struct p_message *out, struct buf *item)
{
    static const uint32_t priorities[] = {PRIORITY_USUAL, PRIORITY_USUAL, PRIORITY_USUAL, 0, 7, 2000, UINT32_MAX};
    static uint8_t body[400000];
    struct bytes key;
    uint64_t many = topic == 2 ? ARRAY_LEN(priorities) : 3;
    bool delayed = chance(world, 6);
    *out = (struct p_message){0};
    out->message.key = key_of_number(topic == 0 ? 0 : below(&world->random, KEYS), &key);
    out->message.priority = priorities[below(&world->random, topic == 3 ? ARRAY_LEN(priorities) : many)];
    out->message.expires_at = chance(world, 4) ? 1 + (int64_t)below(&world->random, 400) : 0;
    out->message.slip = chance(world, 8);
    out->message.lease_s = topic == 3 && chance(world, 2) ? 1 : 0;
    if (delayed && chance(world, 2)) {
        out->head.delay_ms = (int64_t)below(&world->random, 200);
    } else if (delayed) {
        out->head.deliver_at = world->now - 20 + (int64_t)below(&world->random, 200);
    }
    if (chance(world, 3)) {
        out->head.has_dedup = 1;
        out->head.dedup[3] = (uint8_t)below(&world->random, 12);
    }
    struct message message = {.priority = out->message.priority,
                              .expires_at = out->message.expires_at,
                              .lease_s = out->message.lease_s,
                              .key_hash = out->message.key,
                              .key = key,
                              .destinations = out->message.slip ? buf_bytes(&world->slip) : BYTES_NONE,
                              .body = bytes_of(body, chance(world, 150) ? sizeof body : below(&world->random, 40))};
    publish_add(item, out->head, &message);
    out->message.size = MESSAGE_HEAD_BYTES + message.key.len + message.destinations.len + message.body.len;
}

static void random_publish(struct world *world, int topic, struct p_part *part, struct buf *items)
{
    struct buf item = {0};
    part->len = 1 + below(&world->random, BATCH);
    for (size_t i = 0; i < part->len; i++) {
        random_message(world, topic, &part->messages[i], &item);
    }
    part->whole = !chance(world, 40);
    item.len -= !part->whole;
    struct caller caller = caller_of(part->caller);
    joined_add(items, &caller, buf_bytes(&item));
    buf_free(&item);
}

static struct m_dedup *m_find_dedup(struct m_topic *topic, const uint8_t digest[16])
{
    for (size_t i = 0; i < topic->dedups_len; i++) {
        if (memcmp(topic->dedups[i].digest, digest, 16) == 0) {
            return &topic->dedups[i];
        }
    }
    return NULL;
}

static bool m_is_duplicate(struct m_topic *topic, const struct publish_head *head, int64_t now, uint64_t *out)
{
    const struct m_dedup *dedup = m_find_dedup(topic, head->dedup);
    if (head->has_dedup == 0 || dedup == NULL || dedup->at + topic->dedup_window_ms <= now) {
        return false;
    }
    *out = dedup->id;
    return true;
}

static void m_remember(struct m_topic *topic, const struct publish_head *head, int64_t now, uint64_t id)
{
    struct m_dedup *dedup = m_find_dedup(topic, head->dedup);
    if (head->has_dedup == 0 || topic->dedup_window_ms == 0) {
        return;
    }
    if (dedup == NULL) {
        topic->dedup_at = topic->dedups_len == 0 ? now + topic->dedup_window_ms : topic->dedup_at;
        dedup = &topic->dedups[topic->dedups_len++];
        memcpy(dedup->digest, head->dedup, sizeof dedup->digest);
    }
    dedup->at = now;
    dedup->id = id;
}

static uint64_t m_publish_one(struct m_topic *topic, const struct p_message *in, int64_t now)
{
    uint64_t id;
    struct m_message message = in->message;
    int64_t at = now + in->head.delay_ms > in->head.deliver_at ? now + in->head.delay_ms : in->head.deliver_at;
    if (m_is_duplicate(topic, &in->head, now, &id)) {
        topic->duplicates++;
        return id;
    }
    message.published_at = now;
    message.expires_at = message.expires_at > 0 ? at + message.expires_at : 0;
    topic->published++;
    id = topic->next;
    if (at <= now) {
        m_append(topic, message, now);
    } else {
        message.id = topic->next++;
        message.available_at = at;
        assert_true(topic->delayed_len < MESSAGES);
        topic->delayed[topic->delayed_len++] = message;
    }
    m_remember(topic, &in->head, now, id);
    return id;
}

static enum err m_make_room(struct m_topic *topic, const struct p_part *part, int64_t now)
{
    uint64_t ignored, max = (uint64_t)topic->max_messages, kept = topic->messages_len + topic->delayed_len;
    for (size_t i = 0; i < part->len; i++) {
        kept += !m_is_duplicate(topic, &part->messages[i].head, now, &ignored);
    }
    if (kept <= max) {
        return OK;
    }
    uint64_t before = topic->messages_len;
    m_reclaim(topic, kept - max + LIMIT_RECLAIM_STEP);
    kept -= before - topic->messages_len;
    if (kept <= max) {
        return OK;
    }
    if (!topic->drop_oldest || topic->messages_len < kept - max) {
        return ERR_TOPIC_FULL;
    }
    for (uint64_t n = kept - max; n > 0; n--) {
        m_drop(topic, topic->messages[0].number);
    }
    return OK;
}

static enum err m_publish(struct m_topic *topic, const struct p_part *part, int64_t now, uint64_t ids[BATCH])
{
    if (!topic->is) {
        return ERR_NOT_FOUND;
    }
    if (!m_allows(topic, part->caller, USE_PUBLISH)) {
        return ERR_FORBIDDEN;
    }
    if (!part->whole) {
        return ERR_BAD_REQUEST;
    }
    enum err err = m_make_room(topic, part, now);
    for (size_t i = 0; err == OK && i < part->len; i++) {
        ids[i] = m_publish_one(topic, &part->messages[i], now);
    }
    return err;
}

static void compare_ids(struct bytes runs, const uint64_t *ids, size_t len)
{
    struct id_run run = {0};
    for (size_t i = 0; i < len; i++) {
        if (run.count == 0) {
            assert_true(runs.len >= sizeof run);
            memcpy(&run, runs.ptr, sizeof run);
            runs = bytes_of(runs.ptr + sizeof run, runs.len - sizeof run);
        }
        assert_int_equal(run.first++, ids[i]);
        run.count--;
    }
    assert_int_equal(run.count + runs.len, 0);
}

/* What a part may answer when nobody knows what is right. */
static void allow(struct world *world, int topic, enum err err)
{
    struct topic settings;
    assert_true(err == OK || err == ERR_FORBIDDEN || err == ERR_LIMIT_REACHED || err == ERR_TOPIC_FULL ||
                err == ERR_BAD_REQUEST || (err == ERR_NOT_FOUND && !topic_is(world, topic, &settings)));
}

static void step_publish(struct world *world, int topic)
{
    struct p_part parts[PARTS] = {0};
    struct buf items = {0};
    struct reply reply = {0};
    size_t len = 1 + below(&world->random, PARTS);
    enum err err;
    for (size_t i = 0; i < len; i++) {
        parts[i].caller = some_caller(world);
        random_publish(world, topic, &parts[i], &items);
    }
    assert_int_equal(run_joined(world, QUEUE_DO_PUBLISH, topic, &items, &reply), OK);
    struct bytes rest = buf_bytes(&reply.body), part;
    for (size_t i = 0; i < len; i++) {
        uint64_t ids[BATCH];
        assert_true(joined_part(&rest, &err, &part));
        world->results[err]++;
        if (!world->modelled) {
            allow(world, topic, err);
            continue;
        }
        assert_int_equal(err, m_publish(&world->topics[topic], &parts[i], world->now, ids));
        compare_ids(part, ids, err == OK ? parts[i].len : 0);
    }
    assert_int_equal(rest.len, 0);
    reply_close(&reply);
    buf_free(&items);
}

/* ---- receiving ---- */

static bool m_expired(const struct m_message *message, int64_t now)
{
    return message->expires_at > 0 && message->expires_at <= now;
}

/* The most urgent of those that are ready or were not taken. */
static const struct m_message *m_candidate(struct m_topic *topic, struct m_group *group)
{
    const struct m_message *best = NULL;
    uint32_t best_priority = 0;
    for (size_t i = 0; i < topic->messages_len; i++) {
        const struct m_message *message = &topic->messages[i];
        const struct m_place *place = m_place(group, message->number);
        uint32_t priority = place != NULL ? place->priority : message->priority;
        bool may = place != NULL ? place->where == READY : m_untaken(group, message);
        if (may && (best == NULL || priority < best_priority)) {
            best = message;
            best_priority = priority;
        }
    }
    return best;
}

/* What the contract says of keys, whatever the model does. */
static void m_assert_in_order(struct m_topic *topic, struct m_group *group, const struct m_place *taken)
{
    for (size_t i = 0; i < topic->messages_len && taken->key != 0; i++) {
        const struct m_message *other = &topic->messages[i];
        struct m_place *place = m_place(group, other->number);
        bool first_time = taken->attempts == 1;
        if (other->key == taken->key && other->number != taken->number && place != taken) {
            assert_true(place == NULL || (place->where != FLIGHT && place->where != WAITING));
            assert_true(place != NULL || other->number < group->start || other->number > taken->number || !first_time);
        }
    }
}

static size_t m_pick(struct world *world, struct m_topic *topic, struct m_group *group, uint32_t max,
                     struct m_place *out[])
{
    const struct m_message *message;
    size_t len = 0, bytes = 0;
    uint64_t numbers[1024];
    while (len < max && (message = m_candidate(topic, group)) != NULL) {
        struct m_place *place = m_place(group, message->number);
        bool waits = place == NULL && m_must_wait(topic, group, message);
        if (waits) {
            m_new_place(group, PARKED, message);
        } else if (m_expired(message, world->now)) {
            place = place != NULL ? place : m_new_place(group, READY, message);
            place->where = DONE;
            group->expired++;
            world->seen_expired++;
        } else if (len > 0 && bytes + message->size > LIMIT_RECEIVE_BYTES) {
            break;
        } else {
            struct m_place taken = place != NULL ? *place : *m_new_place(group, READY, message);
            m_forget_place(group, m_place(group, message->number)); /* in the order in which they were taken */
            place = m_new_place(group, FLIGHT, message);
            place->attempts = taken.attempts + 1;
            place->priority = taken.priority;
            group->delivered++;
            group->redelivered += taken.attempts > 0;
            bytes += message->size;
            numbers[len++] = message->number;
            m_assert_in_order(topic, group, place);
        }
        m_free_keys(topic, group);
    }
    for (size_t i = 0; i < len; i++) {
        out[i] = m_place(group, numbers[i]);
    }
    return len;
}

static size_t m_groups(const struct m_topic *topic)
{
    size_t groups = 0;
    for (int g = 0; g < GROUPS; g++) {
        groups += topic->groups[g].is;
    }
    return groups;
}

static void keep_receipt(struct world *world, int topic, int group, struct settle_one one)
{
    world->given[world->given_len++ % RECEIPTS] = (struct given){topic, group, one};
}

/* What was delivered, from the rows. */
static void read_delivery(struct world *world, int t, const struct received *received, struct delivery *out)
{
    struct topic topic;
    assert_true(topic_is(world, t, &topic));
    assert_int_equal(delivery_find(rows_of(world), &world->arenas[0], (uint64_t)topic.tid, received->gid,
                                   received->smallest, received->id, out),
                     OK);
}

static void compare_received(struct world *world, struct m_topic *topic, int t, const struct p_part *part,
                             const struct received *received, unsigned *deliveries)
{
    struct m_group *group = &topic->groups[part->group];
    struct m_place *taken[1024];
    struct delivery delivery;
    group = group->is ? group : m_new_group(topic, part->group, 0, world->now);
    if (group->paused_until > world->now) {
        assert_int_equal(received->id, 0);
        return;
    }
    size_t len = m_pick(world, topic, group, part->ask.max, taken);
    assert_int_equal(received->gid, group->gid);
    assert_int_equal(received->more, 0);
    if (len == 0) {
        assert_int_equal(received->id, 0);
        return;
    }
    int64_t visibility = part->ask.visibility_ms < 0 ? topic->visibility_ms : part->ask.visibility_ms;
    uint64_t smallest = UINT64_MAX;
    for (size_t i = 0; i < len; i++) {
        smallest = taken[i]->number < smallest ? taken[i]->number : smallest;
    }
    group->active_at = world->now;
    assert_int_equal(received->id, world->index * LIMIT_DELIVERIES_EACH + (*deliveries)++);
    assert_int_equal(received->smallest, smallest);
    read_delivery(world, t, received, &delivery);
    assert_int_equal(delivery.len, len);
    assert_int_equal(delivery.consumer, part->ask.consumer);
    for (size_t i = 0; i < len; i++) {
        const struct m_message *message = m_message(topic, taken[i]->number);
        bool own = part->ask.visibility_ms < 0 && message->lease_s > 0;
        taken[i]->until = world->now + (own ? (int64_t)message->lease_s * 1000 : visibility);
        taken[i]->smallest = smallest;
        taken[i]->delivery = received->id;
        assert_int_equal(delivery.entries[i].number, taken[i]->number);
        assert_int_equal(delivery.entries[i].attempts, taken[i]->attempts);
        assert_int_equal(delivery.entries[i].priority, taken[i]->priority);
        assert_int_equal(delivery.entries[i].deadline, taken[i]->until);
        assert_int_equal(delivery.entries[i].key_hash, taken[i]->key);
    }
    world->seen_delivered += len;
}

static enum err m_may_receive(const struct m_topic *topic, const struct p_part *part)
{
    if (!part->whole) {
        return ERR_BAD_REQUEST;
    }
    if (!topic->is) {
        return ERR_NOT_FOUND;
    }
    if (!m_allows(topic, part->caller, USE_CONSUME)) {
        return ERR_FORBIDDEN;
    }
    return !topic->groups[part->group].is && !topic->retain_acked && m_groups(topic) > 0 ? ERR_LIMIT_REACHED : OK;
}

static void random_receive(struct world *world, struct p_part *part, struct buf *items)
{
    struct buf item = {0};
    struct caller caller = caller_of(part->caller);
    part->group = (int)below(&world->random, GROUPS);
    part->whole = !chance(world, 40);
    part->ask = (struct receive_ask){.max = 1 + (uint32_t)below(&world->random, chance(world, 5) ? 40 : 5),
                                     .visibility_ms = (int64_t)below(&world->random, 600) - 200,
                                     .consumer = below(&world->random, 3)};
    part->ask.max = part->whole || chance(world, 2) ? part->ask.max : 0;
    buf_add(&item, &part->ask, sizeof part->ask);
    buf_add_str(&item, part->whole || part->ask.max == 0 ? group_names_of[part->group] : "two words");
    joined_add(items, &caller, buf_bytes(&item));
    buf_free(&item);
}

static void keep_receipts(struct world *world, int topic, int group, const struct received *received)
{
    struct delivery delivery;
    if (received->id == 0) {
        return;
    }
    read_delivery(world, topic, received, &delivery);
    for (size_t i = 0; i < delivery.len; i++) {
        keep_receipt(world, topic, group,
                     (struct settle_one){.gid = received->gid,
                                         .smallest = received->smallest,
                                         .id = received->id,
                                         .number = delivery.entries[i].number});
    }
}

static void step_receive(struct world *world, int topic)
{
    struct p_part parts[PARTS] = {0};
    struct buf items = {0};
    struct reply reply = {0};
    size_t len = 1 + below(&world->random, PARTS);
    unsigned deliveries = 0;
    enum err err;
    for (size_t i = 0; i < len; i++) {
        parts[i].caller = some_caller(world);
        random_receive(world, &parts[i], &items);
    }
    assert_int_equal(run_joined(world, QUEUE_DO_RECEIVE, topic, &items, &reply), OK);
    struct bytes rest = buf_bytes(&reply.body), part;
    for (size_t i = 0; i < len; i++) {
        struct received received;
        assert_true(joined_part(&rest, &err, &part));
        world->results[err]++;
        if (world->modelled) {
            assert_int_equal(err, m_may_receive(&world->topics[topic], &parts[i]));
        } else {
            allow(world, topic, err);
        }
        if (err != OK) {
            assert_int_equal(part.len, 0);
            continue;
        }
        assert_int_equal(part.len, sizeof received);
        memcpy(&received, part.ptr, sizeof received);
        if (world->modelled) {
            compare_received(world, &world->topics[topic], topic, &parts[i], &received, &deliveries);
        }
        keep_receipts(world, topic, parts[i].group, &received);
    }
    reply_close(&reply);
    buf_free(&items);
}

/* ---- settling ---- */

/* Mostly of the topic and group at hand, and whatever was ever given out; sometimes one that never was. */
static struct settle_one random_receipt(struct world *world, int topic, int group)
{
    struct settle_one one = {.gid = 1, .smallest = 1, .id = LIMIT_DELIVERIES_EACH, .number = 1};
    size_t all = world->given_len < RECEIPTS ? world->given_len : RECEIPTS;
    for (int tries = 0; tries < 40 && all > 0; tries++) {
        size_t back = below(&world->random, chance(world, 8) || all < 40 ? all : 40);
        const struct given *given = &world->given[(world->given_len - 1 - back) % RECEIPTS];
        one = given->one;
        if ((given->topic == topic && given->group == group) || chance(world, 20)) {
            break;
        }
    }
    if (chance(world, 15)) {
        switch (below(&world->random, 4)) {
        case 0: one.number += below(&world->random, 3); break;
        case 1: one.id ^= 1; break;
        case 2: one.gid ^= 1; break;
        default: one.smallest += 1; break;
        }
    }
    return one;
}

static void random_settle(struct world *world, int topic, struct p_part *part, struct buf *items)
{
    struct buf item = {0};
    struct caller caller = caller_of(part->caller);
    static const uint32_t verbs[] = {SETTLE_ACK,  SETTLE_ACK,    SETTLE_ACK,  SETTLE_NACK,
                                     SETTLE_NACK, SETTLE_EXTEND, SETTLE_BURY, SETTLE_RETURN};
    part->group = (int)below(&world->random, GROUPS);
    part->whole = !chance(world, 40);
    part->settle = (struct settle_ask){.verb = verbs[below(&world->random, ARRAY_LEN(verbs))],
                                       .name_len = (uint32_t)strlen(group_names_of[part->group]),
                                       .ms = chance(world, 2) ? 0 : (int64_t)below(&world->random, 150) - 1,
                                       .priority = chance(world, 3) ? (int64_t)below(&world->random, 3000) : -1};
    buf_add(&item, &part->settle, sizeof part->settle);
    buf_add_str(&item, group_names_of[part->group]);
    part->len = 1 + below(&world->random, BATCH);
    for (size_t i = 0; i < part->len; i++) {
        static const uint32_t targets[] = {0, 1, SLIP_NOWHERE, 2 /* there is no such partition */};
        struct settle_one *one = &part->ones[i];
        *one = i > 0 && chance(world, 10) ? part->ones[i - 1] : random_receipt(world, topic, part->group);
        one->target = targets[below(&world->random, ARRAY_LEN(targets))];
        one->image_len = chance(world, 3) ? 0 : (uint32_t)world->image.len;
        buf_add(&item, one, sizeof *one);
        buf_add(&item, world->image.ptr, one->image_len);
    }
    item.len -= !part->whole;
    joined_add(items, &caller, buf_bytes(&item));
    buf_free(&item);
}

static bool m_forget_returned(struct m_group *group, uint64_t number)
{
    for (size_t i = 0; i < group->returned_len; i++) {
        if (group->returned[i] == number) {
            memmove(&group->returned[i], &group->returned[i + 1], (group->returned_len - i - 1) * sizeof number);
            group->returned_len--;
            return true;
        }
    }
    return false;
}

static void m_return(struct m_group *group, uint64_t number)
{
    size_t at = group->returned_len;
    assert_true(at < PLACES && !m_forget_returned(group, number));
    for (; at > 0 && group->returned[at - 1] > number; at--) {
        group->returned[at] = group->returned[at - 1];
    }
    group->returned[at] = number;
    group->returned_len++;
    group->died++;
}

/* True: it is not said where it goes. */
static bool m_go_on(struct m_topic *topic, struct m_group *group, const struct settle_one *one)
{
    const struct m_message *message = m_message(topic, one->number);
    if (message == NULL || !message->slip) {
        return false;
    }
    if (one->target == 0 || one->image_len == 0) {
        return true;
    }
    if (one->target != 1) {
        m_return(group, one->number);
    }
    return false;
}

static enum settle_result m_settle_one(struct m_topic *topic, struct m_group *group, const struct settle_ask *ask,
                                       const struct settle_one *one, int64_t now, uint64_t index)
{
    struct m_place *place = group->is && group->gid == one->gid ? m_place(group, one->number) : NULL;
    if (place == NULL || place->where != FLIGHT || place->delivery != one->id || place->smallest != one->smallest) {
        return SETTLED_GONE;
    }
    if (ask->verb == SETTLE_ACK && m_go_on(topic, group, one)) {
        return SETTLED_SLIP;
    }
    group->active_at = now;
    if (ask->verb == SETTLE_EXTEND) {
        place->until = now + (ask->ms < 0 ? topic->visibility_ms : ask->ms);
        return SETTLED_OK;
    }
    place->priority = ask->priority >= 0 ? (uint32_t)ask->priority : place->priority;
    switch ((enum settle_verb)ask->verb) {
    case SETTLE_NACK: m_retry(topic, group, place, now, ask->ms, PAST_RELEASE); break;
    case SETTLE_RETURN: m_retry(topic, group, place, now, 0, PAST_NOTHING); break;
    case SETTLE_BURY: m_bury(topic, group, place, index); break;
    case SETTLE_ACK:
    case SETTLE_EXTEND: m_finish(topic, group, place); break;
    }
    return SETTLED_OK;
}

static enum err m_settle(struct m_topic *topic, const struct p_part *part, int64_t now, uint64_t index,
                         uint8_t out[BATCH])
{
    if (!part->whole) {
        return ERR_BAD_REQUEST;
    }
    if (!topic->is) {
        return ERR_NOT_FOUND;
    }
    if (!m_allows(topic, part->caller, USE_CONSUME)) {
        return ERR_FORBIDDEN;
    }
    for (size_t i = 0; i < part->len; i++) {
        out[i] = (uint8_t)m_settle_one(topic, &topic->groups[part->group], &part->settle, &part->ones[i], now, index);
    }
    return OK;
}

static void step_settle(struct world *world, int topic)
{
    struct p_part parts[PARTS] = {0};
    struct buf items = {0};
    struct reply reply = {0};
    size_t len = 1 + below(&world->random, PARTS);
    enum err err;
    for (size_t i = 0; i < len; i++) {
        parts[i].caller = some_caller(world);
        random_settle(world, topic, &parts[i], &items);
    }
    assert_int_equal(run_joined(world, QUEUE_DO_SETTLE, topic, &items, &reply), OK);
    struct bytes rest = buf_bytes(&reply.body), part;
    for (size_t i = 0; i < len; i++) {
        uint8_t results[BATCH] = {0};
        assert_true(joined_part(&rest, &err, &part));
        world->results[err]++;
        if (!world->modelled) {
            allow(world, topic, err);
            continue;
        }
        assert_int_equal(err, m_settle(&world->topics[topic], &parts[i], world->now, world->index, results));
        assert_int_equal(part.len, err == OK ? parts[i].len : 0);
        for (size_t n = 0; n < part.len; n++) {
            assert_int_equal(part.ptr[n], results[n]);
            world->seen_settled += results[n] == SETTLED_OK;
            world->seen_gone += results[n] == SETTLED_GONE;
            world->seen_slips += results[n] == SETTLED_SLIP;
        }
    }
    reply_close(&reply);
    buf_free(&items);
}

/* ---- topics and groups as a whole ---- */

static void random_settings(struct world *world, int t, struct m_topic *out)
{
    static const int64_t retentions[] = {1000, 1000, 3000, 60000};
    out->visibility_ms = (int64_t)below(&world->random, 400);
    out->max_attempts = (int64_t)below(&world->random, 4);
    out->retention_ms = retentions[below(&world->random, ARRAY_LEN(retentions))];
    out->max_messages = 5 + (int64_t)below(&world->random, 60);
    out->dedup_window_ms = chance(world, 3) ? 0 : (int64_t)below(&world->random, 500);
    out->drop_oldest = chance(world, 2);
    out->retain_acked = t == 3 ? chance(world, 5) : !chance(world, 6);
    out->publish_all = chance(world, 6);
    out->consume_all = chance(world, 6);
    for (int n = 0; n < USERS; n++) {
        out->publish[n] = chance(world, 2);
        out->consume[n] = chance(world, 2);
    }
}

static void add_users(const bool users[USERS], bool all, struct buf *ids, struct buf *names)
{
    uint32_t count = all;
    for (int n = 0; n < USERS; n++) {
        count += users[n];
    }
    field_strings_begin(names, count);
    for (int n = 0; n < USERS; n++) {
        struct id id = user_id(n);
        const char name[] = {'u', (char)('0' + n), 0};
        if (all && n == 1) {
            field_strings_add(names, BYTES_LIT("*"));
        }
        if (users[n]) {
            buf_add_bytes(ids, id_bytes(&id));
            field_strings_add(names, bytes_str(name));
        }
    }
}

#define SETTING(member, value) FIELD_SET(topic_fields, &topic, struct topic, member, value)
static void pack_settings(const struct m_topic *wish, const char *name, int owner, struct buf *out)
{
    struct topic topic = {0};
    struct buf lists[4] = {0};
    add_users(wish->publish, wish->publish_all, &lists[0], &lists[1]);
    add_users(wish->consume, wish->consume_all, &lists[2], &lists[3]);
    SETTING(name, bytes_str(name));
    SETTING(visibility_ms, wish->visibility_ms);
    SETTING(max_attempts, wish->max_attempts);
    SETTING(retention_ms, wish->retention_ms);
    SETTING(max_messages, wish->max_messages);
    SETTING(overflow, wish->drop_oldest ? OVERFLOW_DROP_OLDEST : OVERFLOW_REJECT);
    SETTING(dedup_window_ms, wish->dedup_window_ms);
    SETTING(retain_acked, wish->retain_acked);
    SETTING(partitions, 1);
    SETTING(publish_ids, buf_bytes(&lists[0]));
    SETTING(publish, buf_bytes(&lists[1]));
    SETTING(consume_ids, buf_bytes(&lists[2]));
    SETTING(consume, buf_bytes(&lists[3]));
    SETTING(publish_all, wish->publish_all);
    SETTING(consume_all, wish->consume_all);
    if (owner < USERS) {
        SETTING(owner, user_id(owner));
    }
    field_pack(out, topic_fields, &topic);
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        buf_free(&lists[i]);
    }
}

static enum err m_put(struct world *world, struct m_topic *topic, const struct m_topic *wish, int caller)
{
    if (!topic->is) {
        memset(topic, 0, sizeof *topic);
        topic->is = true;
        topic->tid = world->index;
        topic->next = 1;
        topic->owner = caller < USERS ? caller : -1;
    } else if (!m_allows(topic, caller, USE_MANAGE)) {
        return ERR_FORBIDDEN;
    } else if (!wish->retain_acked && m_groups(topic) > 1) {
        return ERR_CONFLICT;
    } else if (topic->retention_ms != wish->retention_ms && topic->retain_at != 0) {
        topic->retain_at = world->now;
    }
    topic->visibility_ms = wish->visibility_ms;
    topic->max_attempts = wish->max_attempts;
    topic->retention_ms = wish->retention_ms;
    topic->max_messages = wish->max_messages;
    topic->dedup_window_ms = wish->dedup_window_ms;
    topic->drop_oldest = wish->drop_oldest;
    topic->retain_acked = wish->retain_acked;
    topic->publish_all = wish->publish_all;
    topic->consume_all = wish->consume_all;
    memcpy(topic->publish, wish->publish, sizeof topic->publish);
    memcpy(topic->consume, wish->consume, sizeof topic->consume);
    return OK;
}

static void put(struct world *world, int t, int caller, const struct m_topic *wish)
{
    struct buf packed = {0};
    struct put_topic in = {0};
    struct reply reply = {0};
    pack_settings(wish, topic_names_of[t], caller, &packed);
    FIELD_SET(put_topic_fields, &in, struct put_topic, topic, buf_bytes(&packed));
    enum err err = run(world, QUEUE_DO_PUT, t, caller, &in, &reply);
    if (world->modelled) {
        assert_int_equal(err, m_put(world, &world->topics[t], wish, caller));
    }
    reply_close(&reply);
    buf_free(&packed);
}

static void step_put(struct world *world, int t)
{
    static struct m_topic wish;
    int caller = (int)below(&world->random, NOBODY);
    random_settings(world, t, &wish);
    put(world, t, caller, &wish);
}

static void step_delete(struct world *world, int t)
{
    static const struct no_input none;
    struct reply reply = {0};
    struct topic settings = {0};
    int caller = some_caller(world);
    bool was = topic_is(world, t, &settings);
    int64_t tid = settings.tid;
    enum err err = run(world, QUEUE_DO_DELETE, t, caller, &none, &reply);
    if (world->modelled) {
        struct m_topic *topic = &world->topics[t];
        assert_int_equal(err, !topic->is ? ERR_NOT_FOUND : !m_allows(topic, caller, USE_MANAGE) ? ERR_FORBIDDEN : OK);
        topic->is = err == OK ? false : topic->is;
    }
    if (err == OK && was && world->deleted_len < ARRAY_LEN(world->deleted)) {
        world->deleted[world->deleted_len++] = (uint64_t)tid;
    }
    reply_close(&reply);
}

static enum err m_group_op(struct world *world, struct m_topic *topic, int g, const struct group_ask *ask, int caller)
{
    struct m_group *group = &topic->groups[g];
    uint64_t start = 0;
    if (!topic->is) {
        return ERR_NOT_FOUND;
    }
    if (!m_allows(topic, caller, ask->verb == GROUP_DELETE ? USE_MANAGE : USE_CONSUME)) {
        return ERR_FORBIDDEN;
    }
    if (!group->is) {
        return ERR_NOT_FOUND;
    }
    switch ((enum group_verb)ask->verb) {
    case GROUP_DELETE: memset(group, 0, sizeof *group); return OK;
    case GROUP_PAUSE: group->paused_until = ask->at > world->now ? ask->at : 0; return OK;
    case GROUP_SEEK_END: start = topic->next; break;
    case GROUP_SEEK_START: break;
    case GROUP_SEEK_TIME:
        start = topic->next;
        for (size_t i = topic->messages_len; i-- > 0;) {
            start = topic->messages[i].available_at >= ask->at ? topic->messages[i].number : start;
        }
        if (!topic->retain_acked ||
            (topic->messages_len > 0 && start != topic->messages[0].number && start < topic->holes)) {
            return ERR_CONFLICT;
        }
        break;
    }
    (void)m_new_group(topic, g, start, world->now);
    return OK;
}

static void step_group(struct world *world, int t)
{
    struct group_ask ask = {0};
    struct reply reply = {0};
    int caller = some_caller(world), g = (int)below(&world->random, GROUPS);
    static const uint8_t verbs[] = {GROUP_DELETE,    GROUP_SEEK_START, GROUP_SEEK_END, GROUP_SEEK_TIME,
                                    GROUP_SEEK_TIME, GROUP_PAUSE,      GROUP_PAUSE};
    FIELD_SET(group_ask_fields, &ask, struct group_ask, group, bytes_str(group_names_of[g]));
    FIELD_SET(group_ask_fields, &ask, struct group_ask, verb, verbs[below(&world->random, ARRAY_LEN(verbs))]);
    FIELD_SET(group_ask_fields, &ask, struct group_ask, at,
              world->now + (int64_t)below(&world->random, 400) - (ask.verb == GROUP_PAUSE ? 50 : 350));
    enum err err = run(world, QUEUE_DO_GROUP, t, caller, &ask, &reply);
    if (world->modelled) {
        assert_int_equal(err, m_group_op(world, &world->topics[t], g, &ask, caller));
    }
    reply_close(&reply);
}

/* ---- dead letters ---- */

static void m_settle_dead(struct m_topic *topic, struct m_group *group, enum dead_verb verb, struct m_place *place)
{
    uint64_t number = place->number;
    if (verb == DEAD_REDRIVE) {
        struct past past = m_past(group, number);
        past.kicks++;
        past.reserves += place->attempts;
        m_put_past(topic, group, number, past);
        place->where = place->key != 0 && m_has_holder(group, place->key) ? PARKED : READY;
        place->attempts = 0;
        return;
    }
    place->where = DONE;
    if (!topic->retain_acked) {
        m_erase_from_the_middle(topic, number);
    }
}

static struct m_place *m_oldest_dead(struct m_group *group)
{
    struct m_place *oldest = NULL;
    for (size_t i = 0; i < group->places_len; i++) {
        struct m_place *place = &group->places[i];
        if (place->where == DEAD && (oldest == NULL || place->number < oldest->number)) {
            oldest = place;
        }
    }
    return oldest;
}

static struct m_place *m_dead_with_id(struct m_topic *topic, struct m_group *group, uint64_t id)
{
    for (size_t i = 0; i < group->places_len; i++) {
        struct m_place *place = &group->places[i];
        const struct m_message *message = m_message(topic, place->number);
        if (place->where == DEAD && message->id == id) {
            return place;
        }
    }
    return NULL;
}

static uint64_t m_number_of(const struct m_topic *topic, uint64_t id)
{
    for (size_t i = 0; i < topic->messages_len; i++) {
        if (topic->messages[i].id == id) {
            return topic->messages[i].number;
        }
    }
    return id;
}

static int64_t m_dead(struct m_topic *topic, struct m_group *group, const struct dead_ask *ask, const uint64_t *ids)
{
    struct m_place *place;
    int64_t count = 0;
    for (size_t i = 0; i < ask->ids.len / sizeof *ids; i++) {
        place = m_dead_with_id(topic, group, ids[i]);
        if (place != NULL) {
            m_settle_dead(topic, group, (enum dead_verb)ask->verb, place);
            count++;
        } else {
            count += m_forget_returned(group, m_number_of(topic, ids[i]));
        }
    }
    while (ask->ids.len == 0 && count < ask->max && (place = m_oldest_dead(group)) != NULL) {
        m_settle_dead(topic, group, (enum dead_verb)ask->verb, place);
        count++;
    }
    while (ask->ids.len == 0 && count < ask->max && group->returned_len > 0) {
        (void)m_forget_returned(group, group->returned[0]);
        count++;
    }
    return count;
}

static void compare_dead(struct m_topic *topic, int g, int caller, const struct dead_ask *ask, const uint64_t *ids,
                         enum err err, const struct reply *reply)
{
    struct dead_done done = {0};
    enum err expected = !topic->is                              ? ERR_NOT_FOUND
                        : !m_allows(topic, caller, USE_CONSUME) ? ERR_FORBIDDEN
                        : !topic->groups[g].is                  ? ERR_NOT_FOUND
                                                                : OK;
    assert_int_equal(err, expected);
    if (err == OK) {
        assert_int_equal(field_unpack(dead_done_fields, buf_bytes(&reply->body), &done), OK);
        assert_int_equal(done.count, m_dead(topic, &topic->groups[g], ask, ids));
        assert_int_equal(done.left, m_count(&topic->groups[g], DEAD) + topic->groups[g].returned_len);
    }
}

static void step_dead(struct world *world, int t)
{
    struct dead_ask ask = {0};
    struct reply reply = {0};
    uint64_t ids[BATCH];
    struct m_topic *topic = &world->topics[t];
    int caller = some_caller(world), g = (int)below(&world->random, GROUPS);
    FIELD_SET(dead_ask_fields, &ask, struct dead_ask, group, bytes_str(group_names_of[g]));
    FIELD_SET(dead_ask_fields, &ask, struct dead_ask, verb, chance(world, 3) ? DEAD_PURGE : DEAD_REDRIVE);
    FIELD_SET(dead_ask_fields, &ask, struct dead_ask, max, 1 + (int64_t)below(&world->random, 5));
    if (chance(world, 2)) {
        size_t len = 1 + below(&world->random, BATCH);
        for (size_t i = 0; i < len; i++) {
            size_t at = topic->messages_len > 0 ? below(&world->random, topic->messages_len) : 0;
            ids[i] = at < topic->messages_len ? topic->messages[at].id : below(&world->random, 200);
        }
        FIELD_SET(dead_ask_fields, &ask, struct dead_ask, ids, bytes_of(ids, len * sizeof *ids));
    }
    enum err err = run(world, QUEUE_DO_DEAD, t, caller, &ask, &reply);
    if (world->modelled) {
        compare_dead(topic, g, caller, &ask, ids, err, &reply);
    }
    reply_close(&reply);
}

/* ---- jobs ---- */

/* What is to be done with one job. */
struct m_job {
    struct m_topic *topic;
    struct m_group *group;
    size_t delayed;            /* its place among those; delayed_len: it is none */
    struct m_message *message; /* NULL: delayed, or not there */
    struct m_place *place;     /* NULL: not taken */
};

static struct m_job m_find_job(struct m_topic *topic, struct m_group *group, uint64_t id)
{
    struct m_job job = {topic, group, 0, NULL, NULL};
    while (job.delayed < topic->delayed_len && topic->delayed[job.delayed].id != id) {
        job.delayed++;
    }
    struct m_message *message = m_message(topic, m_number_of(topic, id));
    if (job.delayed == topic->delayed_len && message != NULL && message->id == id && message->number >= group->start) {
        job.message = message;
        job.place = m_place(group, message->number);
    }
    return job;
}

static struct m_message m_take_delayed(struct m_topic *topic, size_t at)
{
    struct m_message message = topic->delayed[at];
    memmove(&topic->delayed[at], &topic->delayed[at + 1], (topic->delayed_len - at - 1) * sizeof message);
    topic->delayed_len--;
    return message;
}

static void m_hurry(struct m_topic *topic, struct m_group *group, uint64_t number, uint32_t delay_s)
{
    struct past past = m_past(group, number);
    past.kicks++;
    past.delay_s = delay_s;
    m_put_past(topic, group, number, past);
}

static void m_kick_delayed(struct m_topic *topic, struct m_group *group, size_t at, int64_t now)
{
    struct m_message message = m_take_delayed(topic, at);
    m_append(topic, message, now);
    m_hurry(topic, group, topic->next - 1, (uint32_t)((message.available_at - message.published_at) / 1000));
}

static void m_kick_waiting(struct m_topic *topic, struct m_group *group, struct m_place *place)
{
    place->where = READY;
    m_hurry(topic, group, place->number, m_past(group, place->number).delay_s);
}

static bool m_delete_job(struct m_job *job)
{
    struct m_topic *topic = job->topic;
    if (job->delayed < topic->delayed_len) {
        (void)m_take_delayed(topic, job->delayed);
        return true;
    }
    if (job->message == NULL || ((job->place == NULL || job->place->where == PARKED) && topic->retain_acked) ||
        (job->place != NULL && (job->place->where == FLIGHT || job->place->where == DONE))) {
        return false;
    }
    uint64_t number = job->message->number;
    struct m_place *place = job->place != NULL ? job->place : m_new_place(job->group, DONE, job->message);
    job->group->acked += place->where != DEAD;
    place->where = DONE;
    if (!topic->retain_acked) {
        m_erase_from_the_middle(topic, number);
    }
    m_free_keys(topic, job->group);
    return true;
}

static bool m_kick_job(struct m_job *job, int64_t now)
{
    if (job->delayed < job->topic->delayed_len) {
        m_kick_delayed(job->topic, job->group, job->delayed, now);
        return true;
    }
    if (job->place == NULL || (job->place->where != WAITING && job->place->where != DEAD)) {
        return false;
    }
    if (job->place->where == WAITING) {
        m_kick_waiting(job->topic, job->group, job->place);
    } else {
        m_settle_dead(job->topic, job->group, DEAD_REDRIVE, job->place);
    }
    return true;
}

/* Those that were buried, in that order, then the others by number. */
static struct m_place *m_first_buried(struct m_group *group)
{
    struct m_place *first = NULL;
    for (size_t i = 0; i < group->places_len; i++) {
        struct m_place *place = &group->places[i];
        bool before = place->where == DEAD && place->order != 0 &&
                      (first == NULL || place->order < first->order ||
                       (place->order == first->order && place->number < first->number));
        first = before ? place : first;
    }
    return first != NULL ? first : m_oldest_dead(group);
}

/* The soonest, of those at the same time what was released before what was put. */
static bool m_kick_soonest(struct m_topic *topic, struct m_group *group, int64_t now)
{
    struct m_place *waiting = NULL;
    size_t at = topic->delayed_len;
    for (size_t i = 0; i < group->places_len; i++) {
        struct m_place *place = &group->places[i];
        bool before = place->where == WAITING && (waiting == NULL || place->until < waiting->until ||
                                                  (place->until == waiting->until && place->number < waiting->number));
        waiting = before ? place : waiting;
    }
    for (size_t i = 0; i < topic->delayed_len; i++) {
        const struct m_message *message = &topic->delayed[i],
                               *best = at == topic->delayed_len ? NULL : &topic->delayed[at];
        bool before = best == NULL || message->available_at < best->available_at ||
                      (message->available_at == best->available_at && message->id < best->id);
        at = before ? i : at;
    }
    if (waiting != NULL && (at == topic->delayed_len || waiting->until <= topic->delayed[at].available_at)) {
        m_kick_waiting(topic, group, waiting);
        return true;
    }
    if (at < topic->delayed_len) {
        m_kick_delayed(topic, group, at, now);
        return true;
    }
    return false;
}

static int64_t m_kick_some(struct m_topic *topic, struct m_group *group, int64_t most, int64_t now)
{
    bool dead = m_count(group, DEAD) > 0;
    int64_t count = 0;
    for (; count < most; count++) {
        struct m_place *place = m_first_buried(group);
        if (dead && place != NULL) {
            m_settle_dead(topic, group, DEAD_REDRIVE, place);
        } else if (dead || !m_kick_soonest(topic, group, now)) {
            break;
        }
    }
    return count;
}

static bool m_is_apart(const struct m_message *message)
{
    return message->id != message->number || message->priority != PRIORITY_USUAL;
}

/* It, and what stands before it in its line, is taken and ready, or parked. */
static void m_take_up_to(struct m_topic *topic, struct m_group *group, const struct m_message *target)
{
    for (size_t i = 0; i < topic->messages_len; i++) {
        const struct m_message *message = &topic->messages[i];
        bool line = m_is_apart(message) == m_is_apart(target) &&
                    (!m_is_apart(message) || message->priority == target->priority);
        if (line && message->number <= target->number && m_untaken(group, message)) {
            bool waits = m_must_wait(topic, group, message);
            m_new_place(group, waits ? PARKED : READY, message);
            m_free_keys(topic, group);
        }
    }
}

static struct m_place *m_reserve_job(struct world *world, struct m_job *job, uint64_t id)
{
    struct m_topic *topic = job->topic;
    struct m_group *group = job->group;
    if (job->delayed < topic->delayed_len) {
        struct m_message delayed = m_take_delayed(topic, job->delayed);
        struct past past = {.delay_s = (uint32_t)((delayed.available_at - delayed.published_at) / 1000)};
        m_append(topic, delayed, world->now);
        m_put_past(topic, group, topic->next - 1, past);
        *job = m_find_job(topic, group, id);
    }
    const struct m_message message = *job->message;
    if (job->place == NULL) {
        m_take_up_to(topic, group, &message);
        job->place = m_place(group, message.number);
    }
    if (job->place->where == PARKED) {
        return NULL;
    }
    struct m_place taken = *job->place;
    m_forget_place(group, job->place);
    struct m_place *place = m_new_place(group, FLIGHT, &message);
    place->attempts = taken.attempts + 1;
    place->priority = taken.priority;
    place->smallest = place->number;
    place->delivery = world->index * LIMIT_DELIVERIES_EACH;
    place->until = world->now + (message.lease_s > 0 ? (int64_t)message.lease_s * 1000 : topic->visibility_ms);
    group->delivered++;
    group->redelivered += taken.attempts > 0;
    group->active_at = world->now;
    return place;
}

static bool m_may_reserve(const struct m_job *job)
{
    const struct m_place *place = job->place;
    return job->delayed < job->topic->delayed_len ||
           (job->message != NULL && (place == NULL || place->where == READY || place->where == WAITING ||
                                     (place->where == DEAD && place->key == 0)));
}

static void compare_job(struct world *world, struct m_topic *topic, int g, const struct job_ask *ask,
                        const struct job_done *done)
{
    struct m_group *group = topic->groups[g].is ? &topic->groups[g] : m_new_group(topic, g, 0, world->now);
    struct m_job job = m_find_job(topic, group, (uint64_t)ask->message);
    int64_t count = 0;
    switch ((enum job_verb)ask->verb) {
    case JOB_DELETE: count = m_delete_job(&job); break;
    case JOB_KICK: count = m_kick_job(&job, world->now); break;
    case JOB_KICK_SOME: count = m_kick_some(topic, group, ask->max, world->now); break;
    case JOB_RESERVE: {
        count = m_may_reserve(&job);
        const struct m_place *place = count > 0 ? m_reserve_job(world, &job, (uint64_t)ask->message) : NULL;
        assert_int_equal(done->id, place == NULL ? 0 : place->delivery);
        assert_true(place == NULL || ((uint64_t)done->smallest == place->number && done->gid == group->gid));
        break;
    }
    }
    assert_int_equal(done->count, count);
    world->seen_jobs[ask->verb] += (uint64_t)count;
}

static enum err m_may_job(const struct m_topic *topic, int caller, int g)
{
    struct p_part part = {.caller = caller, .group = g, .whole = true};
    return m_may_receive(topic, &part);
}

static void step_job(struct world *world, int t)
{
    struct job_ask ask = {0};
    struct job_done done = {0};
    struct reply reply = {0};
    struct m_topic *topic = &world->topics[t];
    int caller = some_caller(world), g = (int)below(&world->random, GROUPS);
    uint64_t id = topic->next > 0 ? topic->next - below(&world->random, topic->next < 60 ? topic->next : 60) : 1;
    if (topic->delayed_len > 0 && chance(world, 3)) {
        id = topic->delayed[below(&world->random, topic->delayed_len)].id;
    }
    FIELD_SET(job_ask_fields, &ask, struct job_ask, group, bytes_str(group_names_of[g]));
    FIELD_SET(job_ask_fields, &ask, struct job_ask, verb, JOB_DELETE + (int64_t)below(&world->random, JOB_RESERVE));
    FIELD_SET(job_ask_fields, &ask, struct job_ask, message, (int64_t)id);
    FIELD_SET(job_ask_fields, &ask, struct job_ask, max, (int64_t)below(&world->random, 4));
    enum err err = run(world, QUEUE_DO_JOB, t, caller, &ask, &reply);
    if (err == OK) {
        assert_int_equal(field_unpack(job_done_fields, buf_bytes(&reply.body), &done), OK);
    }
    if (err == OK && done.id != 0) {
        keep_receipt(world, t, g,
                     (struct settle_one){.gid = (uint32_t)done.gid,
                                         .smallest = (uint64_t)done.smallest,
                                         .id = (uint64_t)done.id,
                                         .number = (uint64_t)done.smallest});
    }
    if (world->modelled) {
        assert_int_equal(err, m_may_job(topic, caller, g));
        if (err == OK) {
            compare_job(world, topic, g, &ask, &done);
        }
    }
    reply_close(&reply);
}

/* ---- accounts ---- */

/* What is left names the account nowhere: neither its id nor its name. */
static void assert_forgotten(struct world *world, int user)
{
    const struct model_rows *rows = &world->replicas[0].rows;
    struct id id = user_id(user);
    const char name[] = {(char)0xdb, 0, 0, 0, 2, 'u', (char)('0' + user)}; /* as field_strings_add has it */
    for (size_t i = 0; i < rows->len; i++) {
        const struct model_row *row = &rows->list[i];
        if (row->table == TABLE_TOPIC || row->table == TABLE_TOPIC_USER) {
            assert_true(!bytes_start_with(row->key, id_bytes(&id)));
            assert_null(memmem(row->value.ptr, row->value.len, id.b, sizeof id.b));
            assert_null(memmem(row->value.ptr, row->value.len, name, sizeof name));
        }
    }
}

static void step_forget(struct world *world)
{
    int user = (int)below(&world->random, USERS);
    unsigned limit = 1 + (unsigned)below(&world->random, 3), erased = limit;
    while (erased == limit) {
        world->index++;
        for (int i = 0; i < 2; i++) {
            arena_reset(&world->arenas[i]);
            struct turn turn = {.rows = &world->replicas[i].rows.rows,
                                .arena = &world->arenas[i],
                                .partition = 1,
                                .partitions = 1,
                                .now_ms = world->now,
                                .version = world->index};
            assert_int_equal(queue_kind.forget(&turn, user_id(user), limit, &erased), OK);
            assert_true(erased <= limit);
            buf_free(&turn.touched);
        }
    }
    world->touched.len = 0;
    for (int t = 0; t < TOPICS; t++) {
        struct m_topic *topic = &world->topics[t];
        topic->publish[user] = topic->consume[user] = false;
        topic->owner = topic->owner == user ? -1 : topic->owner;
    }
    assert_forgotten(world, user);
}

/* ---- mending ---- */

static void assert_swept(struct world *world)
{
    const struct model_rows *rows = &world->replicas[0].rows;
    for (size_t i = 0; i < rows->len; i++) {
        const struct model_row *row = &rows->list[i];
        size_t at = row->table == TABLE_QUEUE_TIME ? 9 : 0;
        bool has = row->table == TABLE_QUEUE || row->table == TABLE_GROUP || row->table == TABLE_MESSAGE ||
                   row->table == TABLE_QUEUE_TIME;
        for (size_t d = 0; has && d < world->deleted_len; d++) {
            assert_true(key_read_u64(row->key.ptr + at) != world->deleted[d]);
        }
    }
    world->deleted_len = 0;
}

static void mend(struct world *world)
{
    for (int i = 0; i < 2; i++) {
        assert_int_equal(queue_kind.mend(&world->replicas[i].rows.rows), OK);
    }
}

/* Where nothing is lost it changes nothing, but for times that were kept longer than they had to be. */
static void step_mend(struct world *world)
{
    mend(world);
    world->touched.len = 0;
    for (int t = 0; t < TOPICS; t++) {
        struct m_topic *topic = &world->topics[t];
        topic->retain_at = topic->messages_len == 0 ? 0 : topic->messages[0].available_at + topic->retention_ms;
        topic->dedup_at = 0;
        for (size_t i = 0; i < topic->dedups_len; i++) {
            int64_t end = topic->dedups[i].at + topic->dedup_window_ms;
            topic->dedup_at = i == 0 || end < topic->dedup_at ? end : topic->dedup_at;
        }
    }
    assert_swept(world);
}

/* ---- time ---- */

/* Then a command that is cut short may let leases end, of which the model says that their messages are gone. */
static bool retention_is_due(struct world *world)
{
    struct queue_key from = {.len = 0};
    struct bytes key, value;
    while (rows_ceil(rows_of(world), TABLE_QUEUE_TIME, key_of(&from), &key, &value) == OK &&
           (int64_t)key_read_u64(key.ptr) <= world->now) {
        if (key.ptr[8] == TIME_RETAIN) {
            return true;
        }
        from.len = 0;
        key_bytes_add(&from, key);
        key_bytes_add(&from, bytes_of((const uint8_t *)"", 1)); /* the next one */
    }
    return false;
}

static void step_ring(struct world *world)
{
    struct ring_ask ask = {0};
    bool rung[TOPICS] = {false}, little = chance(world, 3) && !retention_is_due(world);
    FIELD_SET(ring_ask_fields, &ask, struct ring_ask, max,
              little ? 1 + (int64_t)below(&world->random, 5) : LIMIT_RING_ALONE);
    for (int times = 0; times == 0 || ring_due(rows_of(world)) <= world->now; times++) {
        struct reply reply = {0};
        assert_true(times < (little ? 5000 : 20));
        struct ring_done done = {0};
        assert_int_equal(run(world, QUEUE_DO_RING, -1, ADMIN, &ask, &reply), OK);
        for (int t = 0; t < TOPICS; t++) {
            rung[t] = rung[t] || is_touched(world, t);
        }
        assert_int_equal(field_unpack(ring_done_fields, buf_bytes(&reply.body), &done), OK);
        assert_int_equal(done.more, ring_due(rows_of(world)) <= world->now);
        reply_close(&reply);
    }
    world->touched.len = 0;
    for (int t = 0; t < TOPICS; t++) {
        struct id id = topic_watch_id(bytes_str(topic_names_of[t]));
        buf_add(&world->touched, id.b, rung[t] ? sizeof id : 0);
    }
    if (world->modelled) {
        m_ring(world);
    }
    assert_swept(world);
}

static void pass_time(struct world *world)
{
    static const uint64_t steps[] = {1, 1, 2, 3, 5, 10, 20, 60};
    uint64_t most = chance(world, 40) ? 2500 : steps[below(&world->random, ARRAY_LEN(steps))];
    world->now += (int64_t)below(&world->random, most);
}

static void step(struct world *world)
{
    static bool before[TOPICS][GROUPS];
    int topic = (int)below(&world->random, TOPICS);
    pass_time(world);
    note_any(world, before);
    switch (below(&world->random, 40)) {
    case 0: step_put(world, topic); break;
    case 1: chance(world, 8) ? step_delete(world, topic) : step_put(world, topic); break;
    case 2:
    case 3: step_group(world, topic); break;
    case 4: chance(world, 10) ? step_forget(world) : step_dead(world, topic); break;
    case 5: chance(world, 6) ? step_mend(world) : step_dead(world, topic); break;
    case 6:
    case 7:
    case 8:
    case 9:
    case 10:
    case 11: step_ring(world); break;
    default:
        switch (below(&world->random, 8)) {
        case 0:
        case 1: step_publish(world, topic); break;
        case 2:
        case 3:
        case 4: step_receive(world, topic); break;
        case 5: step_job(world, topic); break;
        default: step_settle(world, topic); break;
        }
    }
    compare(world, before);
}

/* ---- damage ---- */

static void lose_rows(struct world *world)
{
    struct model_rows *models[2] = {&world->replicas[0].rows, &world->replicas[1].rows};
    uint64_t most = chance(world, 10) ? 60 : 3;
    for (uint64_t n = 1 + below(&world->random, most); n > 0 && models[0]->len > 0; n--) {
        const struct model_row *row = &models[0]->list[below(&world->random, models[0]->len)];
        uint8_t table = row->table;
        struct buf key = {0};
        buf_add_bytes(&key, row->key);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(rows_del(&models[i]->rows, table, buf_bytes(&key)), OK);
        }
        buf_free(&key);
    }
    mend(world);
    check_rows(world);
    compare_replicas(world);
}

static int steps_of(int usual)
{
    const char *given = getenv("STEPS");
    return given != NULL ? atoi(given) : usual;
}

/* What a walk must have met to say anything. */
static bool has_met_all(const struct world *world)
{
    const uint64_t *results = world->results;
    bool met = world->seen_delivered > 100 && world->seen_parked > 100 && world->seen_expired > 10 &&
               world->seen_dead > 10 && world->seen_slips > 0 && world->seen_settled > 100 && world->seen_gone > 100 &&
               world->seen_pasts > 0 && results[ERR_FORBIDDEN] > 10 && results[ERR_TOPIC_FULL] > 10 &&
               results[ERR_CONFLICT] > 0 && results[ERR_LIMIT_REACHED] > 0 && results[ERR_BAD_REQUEST] > 10;
    for (size_t verb = JOB_DELETE; verb <= JOB_RESERVE; verb++) {
        met = met && world->seen_jobs[verb] > 0;
    }
    return met;
}

static void test_commands_agree_with_the_model(void **state)
{
    (void)state;
    struct world *world = mem_alloc(sizeof *world);
    world_open(world, test_seed(__func__), true);
    int steps = steps_of(5000);
    for (int n = 0; n < steps; n++) {
        step(world);
    }
    for (int n = 0; steps >= 2500 && !has_met_all(world); n++) { /* some of it depends on settings that come rarely */
        assert_true(n < 20 * steps);
        step(world);
    }
    world_close(world);
}

/* Nobody knows any more what is right; but nothing is torn. */
static void test_what_is_left_of_damaged_rows_goes_on(void **state)
{
    (void)state;
    struct world *world = mem_alloc(sizeof *world);
    world_open(world, test_seed(__func__), false);
    int steps = steps_of(1500);
    for (int n = 0; n < steps; n++) {
        step(world);
        if (chance(world, 30)) {
            lose_rows(world);
        }
    }
    world_close(world);
}

/* ---- one row is lost, whichever: what was not acknowledged is delivered ---- */

enum { IDS = 4096, RICH = 2 };

/* A topic with something everywhere. The model knows what. */
static struct world *rich_world(uint64_t seed)
{
    static struct m_topic wish;
    struct world *world = mem_alloc(sizeof *world);
    world_open(world, seed, true);
    random_settings(world, RICH, &wish);
    wish.visibility_ms = 500;
    wish.retention_ms = 3600000;
    wish.max_messages = 400;
    wish.retain_acked = chance(world, 2);
    put(world, RICH, 0, &wish);
    for (int n = 0; n < 60; n++) {
        world->now += (int64_t)below(&world->random, 30);
        switch (below(&world->random, 6)) {
        case 0:
        case 1: step_publish(world, RICH); break;
        case 2:
        case 3: step_receive(world, RICH); break;
        case 4: step_settle(world, RICH); break;
        default: step_ring(world); break;
        }
    }
    world->modelled = false;
    return world;
}

static void receive_all(struct world *world, int g, bool delivered[IDS], struct buf *receipts)
{
    struct receive_ask ask = {.max = LIMIT_RECEIVE, .visibility_ms = 1000};
    struct caller caller = caller_of(ADMIN);
    struct buf item = {0}, items = {0};
    struct reply reply = {0};
    struct received received = {0};
    struct delivery delivery;
    struct bytes rest, part;
    enum err err;
    buf_add(&item, &ask, sizeof ask);
    buf_add_str(&item, group_names_of[g]);
    joined_add(&items, &caller, buf_bytes(&item));
    assert_int_equal(run_joined(world, QUEUE_DO_RECEIVE, RICH, &items, &reply), OK);
    rest = buf_bytes(&reply.body);
    assert_true(joined_part(&rest, &err, &part));
    memcpy(&received, part.ptr, err == OK ? sizeof received : 0);
    if (received.id != 0) {
        read_delivery(world, RICH, &received, &delivery);
        for (size_t i = 0; i < delivery.len; i++) {
            struct settle_one one = {.gid = received.gid,
                                     .smallest = received.smallest,
                                     .id = received.id,
                                     .number = delivery.entries[i].number};
            assert_true(one.number < IDS);
            delivered[one.number] = true;
            buf_add(receipts, &one, sizeof one);
        }
    }
    reply_close(&reply);
    buf_free(&item);
    buf_free(&items);
}

static void ack_all(struct world *world, int g, const struct buf *receipts)
{
    struct settle_ask ask = {.verb = SETTLE_ACK, .name_len = (uint32_t)strlen(group_names_of[g]), .priority = -1};
    struct caller caller = caller_of(ADMIN);
    struct buf item = {0}, items = {0};
    struct reply reply = {0};
    buf_add(&item, &ask, sizeof ask);
    buf_add_str(&item, group_names_of[g]);
    for (size_t at = 0; at < receipts->len; at += sizeof(struct settle_one)) {
        struct settle_one one;
        memcpy(&one, receipts->ptr + at, sizeof one);
        one.target = SLIP_NOWHERE;
        one.image_len = (uint32_t)world->image.len;
        buf_add(&item, &one, sizeof one);
        buf_add_bytes(&item, buf_bytes(&world->image));
    }
    joined_add(&items, &caller, buf_bytes(&item));
    assert_int_equal(run_joined(world, QUEUE_DO_SETTLE, RICH, &items, &reply), OK);
    reply_close(&reply);
    buf_free(&item);
    buf_free(&items);
}

static void redrive_all(struct world *world, int g)
{
    struct dead_ask ask = {0};
    struct reply reply = {0};
    FIELD_SET(dead_ask_fields, &ask, struct dead_ask, group, bytes_str(group_names_of[g]));
    FIELD_SET(dead_ask_fields, &ask, struct dead_ask, verb, DEAD_REDRIVE);
    FIELD_SET(dead_ask_fields, &ask, struct dead_ask, max, LIMIT_RING_MOVES);
    (void)run(world, QUEUE_DO_DEAD, RICH, ADMIN, &ask, &reply);
    reply_close(&reply);
}

/* Everything that a group can get; by number, which for what is delayed now is given on the way. */
static void drain(struct world *world, int g, bool delivered[IDS])
{
    /* Of a key one comes in a round; leases and delays are over after a few. */
    for (int round = 0, idle = 0; round < MESSAGES && idle < 10; round++) {
        struct buf receipts = {0};
        world->now += 500;
        step_ring(world);
        redrive_all(world, g);
        receive_all(world, g, delivered, &receipts);
        idle = receipts.len > 0 ? 0 : idle + 1;
        ack_all(world, g, &receipts);
        buf_free(&receipts);
    }
}

static bool names_number(const struct model_row *row, uint64_t tid, uint32_t gid, uint64_t number)
{
    struct queue_key message = message_key(tid, number), dead = group_key(tid, gid, ROW_DEAD);
    key_u64_add(&dead, number);
    return (row->table == TABLE_MESSAGE && bytes_eq(row->key, key_of(&message))) ||
           (row->table == TABLE_GROUP && bytes_eq(row->key, key_of(&dead)));
}

/* What was in the row follows from others: nothing is delivered once more. */
static bool is_known_elsewhere(const struct model_row *row)
{
    uint8_t type = row->table == TABLE_GROUP ? row->key.ptr[12] : 0;
    return type != ROW_GROUP && type != ROW_DELIVERY && type != ROW_LANE_AT;
}

/* True: there was such a row. */
static bool lose_and_drain(uint64_t seed, size_t at)
{
    struct world *world = rich_world(seed);
    struct m_topic *topic = &world->topics[RICH];
    struct buf key = {0};
    bool is = at < world->replicas[0].rows.len;
    world->alone = true;
    if (is) {
        struct model_row lost = world->replicas[0].rows.list[at];
        buf_add_bytes(&key, lost.key);
        lost.key = buf_bytes(&key);
        assert_int_equal(rows_del(rows_of(world), lost.table, lost.key), OK);
        assert_int_equal(queue_kind.mend(rows_of(world)), OK);
        check_rows(world);
        for (int g = 0; g < GROUPS && lost.table != TABLE_TOPIC; g++) {
            bool delivered[IDS] = {false};
            if (!topic->groups[g].is) {
                continue; /* of a topic with one group, another one would take that one's place */
            }
            drain(world, g, delivered);
            for (size_t i = 0; i < topic->messages_len; i++) {
                const struct m_message *message = &topic->messages[i];
                const struct m_place *place = m_place(&topic->groups[g], message->number);
                bool must = message->expires_at == 0 && (place == NULL || place->where != DONE) &&
                            !names_number(&lost, topic->tid, topic->groups[g].gid, message->number);
                assert_true(!must || delivered[message->number]);
                bool done = place != NULL && place->where == DONE;
                assert_true(!done || !is_known_elsewhere(&lost) || !delivered[message->number]);
            }
        }
        check_rows(world);
    }
    buf_free(&key);
    world_close(world);
    return is;
}

static void test_no_message_is_lost_with_another_row(void **state)
{
    (void)state;
    uint64_t seed = test_seed(__func__);
    size_t every = getenv("STEPS") != NULL ? 1 : 7;
    for (size_t at = seed % every; lose_and_drain(seed, at); at += every) {
    }
}

/* ---- limits ---- */

/* One request of an administrator with that many messages, all the same but for what change says. */
static enum err publish_many(struct world *world, int t, size_t len, struct publish_head head, struct message message,
                             void (*change)(struct message *message, size_t n))
{
    struct caller caller = caller_of(ADMIN);
    struct buf item = {0}, items = {0};
    struct reply reply = {0};
    struct bytes rest, part;
    enum err err;
    for (size_t n = 0; n < len; n++) {
        if (change != NULL) {
            change(&message, n);
        }
        publish_add(&item, head, &message);
    }
    joined_add(&items, &caller, buf_bytes(&item));
    assert_int_equal(run_joined(world, QUEUE_DO_PUBLISH, t, &items, &reply), OK);
    rest = buf_bytes(&reply.body);
    assert_true(joined_part(&rest, &err, &part));
    reply_close(&reply);
    buf_free(&item);
    buf_free(&items);
    return err;
}

static struct world *large_world(const struct m_topic *wish)
{
    struct world *world = mem_alloc(sizeof *world);
    world_open(world, 1, false);
    world->alone = true;
    put(world, RICH, ADMIN, wish);
    return world;
}

static const struct m_topic large = {
    .visibility_ms = 1000, .retention_ms = 3600000, .max_messages = 1000000, .retain_acked = true};
static const struct message usual = {.priority = PRIORITY_USUAL};

/* So many receives of one message each, in one command. Gives how many got one, and what the last one was. */
static size_t receive_some(struct world *world, size_t len, struct received *out, bool *out_more)
{
    struct receive_ask ask = {.max = 1, .visibility_ms = -1};
    struct caller caller = caller_of(ADMIN);
    struct buf item = {0}, items = {0};
    struct reply reply = {0};
    struct bytes rest, part;
    enum err err;
    size_t got = 0;
    *out_more = false;
    buf_add(&item, &ask, sizeof ask);
    buf_add_str(&item, group_names_of[0]);
    for (size_t i = 0; i < len; i++) {
        joined_add(&items, &caller, buf_bytes(&item));
    }
    assert_int_equal(run_joined(world, QUEUE_DO_RECEIVE, RICH, &items, &reply), OK);
    rest = buf_bytes(&reply.body);
    while (joined_part(&rest, &err, &part)) {
        struct received received;
        assert_int_equal(err, OK);
        memcpy(&received, part.ptr, sizeof received);
        *out_more = *out_more || received.more != 0;
        *out = received.id != 0 ? received : *out;
        got += received.id != 0;
    }
    reply_close(&reply);
    buf_free(&item);
    buf_free(&items);
    return got;
}

static void test_a_receive_looks_at_so_many_messages(void **state)
{
    (void)state;
    struct world *world = large_world(&large);
    struct message expires = usual;
    struct received received = {0};
    bool more;
    expires.expires_at = 1;
    for (int n = 0; n < 15; n++) {
        assert_int_equal(publish_many(world, RICH, 1000, (struct publish_head){0}, expires, NULL), OK);
    }
    assert_int_equal(publish_many(world, RICH, 1, (struct publish_head){0}, usual, NULL), OK);
    world->now += 10;
    for (uint64_t passed = LIMIT_PICK_LOOKS; passed <= 4000; passed += LIMIT_PICK_LOOKS) {
        assert_int_equal(receive_some(world, 1, &received, &more), 0);
        assert_true(more);
    }
    assert_int_equal(receive_some(world, 100, &received, &more), 0); /* all of them together */
    assert_true(more);
    assert_int_equal(receive_some(world, 1, &received, &more), 1);
    assert_int_equal(received.smallest, 15001);
    check_rows(world);
    world_close(world);
}

static uint64_t parked(struct world *world)
{
    struct topic topic;
    struct group_state s;
    struct bytes name;
    assert_true(topic_is(world, RICH, &topic));
    assert_int_equal(group_find(rows_of(world), (uint64_t)topic.tid, 1, &s, &name), OK);
    return s.parked;
}

static void settle_last(struct world *world, const struct received *received, enum settle_verb verb, int64_t priority)
{
    struct settle_ask ask = {
        .verb = (uint32_t)verb, .name_len = (uint32_t)strlen(group_names_of[0]), .priority = priority};
    struct settle_one one = {
        .gid = received->gid, .smallest = received->smallest, .id = received->id, .number = received->smallest};
    struct caller caller = caller_of(ADMIN);
    struct buf item = {0}, items = {0};
    struct reply reply = {0};
    buf_add(&item, &ask, sizeof ask);
    buf_add_str(&item, group_names_of[0]);
    buf_add(&item, &one, sizeof one);
    joined_add(&items, &caller, buf_bytes(&item));
    assert_int_equal(run_joined(world, QUEUE_DO_SETTLE, RICH, &items, &reply), OK);
    assert_int_equal(reply.body.ptr[reply.body.len - 1], SETTLED_OK);
    reply_close(&reply);
    buf_free(&item);
    buf_free(&items);
}

/* As many are parked as may be. What they wait for is less urgent than what must not be parked any more. */
static void free_parked(uint32_t priority)
{
    struct world *world = large_world(&large);
    struct message keyed = {.priority = priority, .key_hash = 7, .key = BYTES_LIT("k")}, last = keyed;
    struct received received = {0};
    bool more = true;
    last.priority = 2000;
    assert_int_equal(publish_many(world, RICH, 1, (struct publish_head){0}, last, NULL), OK);
    for (int n = 0; n < LIMIT_PARKED / 1000; n++) {
        assert_int_equal(publish_many(world, RICH, 1000, (struct publish_head){0}, keyed, NULL), OK);
    }
    assert_int_equal(publish_many(world, RICH, 10, (struct publish_head){0}, keyed, NULL), OK);
    while (more) {
        received.id = 0;
        (void)receive_some(world, 1, &received, &more);
    }
    assert_int_equal(parked(world), LIMIT_PARKED);
    assert_true(received.id != 0 && received.smallest == 1);
    settle_last(world, &received, SETTLE_NACK, 3000); /* now it is ready, and less urgent than all */
    assert_int_equal(receive_some(world, 1, &received, &more), 1);
    assert_int_equal(received.smallest, 1);
    settle_last(world, &received, SETTLE_ACK, -1);
    assert_int_equal(receive_some(world, 2, &received, &more), 1);
    assert_int_equal(received.smallest, 2);
    assert_int_equal(parked(world), LIMIT_PARKED); /* one left, one came */
    world_close(world);
}

static void test_parked_messages_are_freed(void **state)
{
    (void)state;
    free_parked(PRIORITY_USUAL);
    free_parked(5);
}

static struct topic_state numbers_of(struct world *world, int t)
{
    struct topic topic;
    struct topic_state s;
    struct bytes name;
    assert_true(topic_is(world, t, &topic));
    assert_int_equal(topic_state_find(rows_of(world), (uint64_t)topic.tid, &s, &name), OK);
    return s;
}

static struct topic_state numbers(struct world *world)
{
    return numbers_of(world, RICH);
}

/* Of a crowd each command carries out its part, and all that of another topic, though that is due later. */
static void test_a_crowd_does_not_keep_others_waiting(void **state)
{
    (void)state;
    enum { CROWD = 3000, MAX = 200, OTHER = RICH == 0 };
    struct world *world = large_world(&large);
    struct ring_ask ask = {0};
    uint64_t before = 0, commands = 0;
    FIELD_SET(ring_ask_fields, &ask, struct ring_ask, max, MAX);
    put(world, OTHER, ADMIN, &large);
    for (int n = 0; n < CROWD / 1000; n++) {
        assert_int_equal(publish_many(world, RICH, 1000, (struct publish_head){.delay_ms = 10 + n}, usual, NULL), OK);
    }
    assert_int_equal(publish_many(world, OTHER, 20, (struct publish_head){.delay_ms = 50}, usual, NULL), OK);
    world->now += 100;
    while (numbers(world).available < CROWD) {
        struct reply reply = {0};
        assert_int_equal(run(world, QUEUE_DO_RING, -1, ADMIN, &ask, &reply), OK);
        reply_close(&reply);
        uint64_t now = numbers(world).available;
        assert_int_equal(numbers_of(world, OTHER).available, 20);
        assert_true(now == CROWD || now - before == MAX / 2);
        before = now;
        assert_true(++commands <= CROWD / (MAX / 2) + 1);
    }
    assert_true(ring_due(rows_of(world)) > world->now);
    check_rows(world);
    world_close(world);
}

static void test_a_smaller_topic_comes_down_in_steps(void **state)
{
    (void)state;
    struct world *world = large_world(&large);
    struct m_topic small = large;
    for (int n = 0; n < 5; n++) {
        assert_int_equal(publish_many(world, RICH, 1000, (struct publish_head){0}, usual, NULL), OK);
    }
    small.max_messages = 100;
    put(world, RICH, ADMIN, &small);
    assert_int_equal(publish_many(world, RICH, 1, (struct publish_head){0}, usual, NULL), ERR_TOPIC_FULL);
    small.drop_oldest = true;
    put(world, RICH, ADMIN, &small);
    for (uint64_t kept = 5000, left; kept > 100; kept = left) {
        assert_int_equal(publish_many(world, RICH, 10, (struct publish_head){0}, usual, NULL), OK);
        left = numbers(world).retained;
        assert_true(left < kept && kept - left <= LIMIT_RING_MOVES);
    }
    assert_int_equal(numbers(world).retained, 100);
    check_rows(world);
    world_close(world);
}

static void own_priority(struct message *message, size_t n)
{
    message->priority = 5000 + (uint32_t)n;
}

static void test_priorities_are_limited(void **state)
{
    (void)state;
    struct world *world = large_world(&large);
    struct message urgent = {.priority = 1};
    struct received received = {0};
    bool more;
    assert_int_equal(publish_many(world, RICH, 1, (struct publish_head){0}, (struct message){.priority = 2}, NULL), OK);
    assert_int_equal(publish_many(world, RICH, 1000, (struct publish_head){0}, urgent, NULL), OK); /* one more lane */
    assert_int_equal(numbers(world).lanes, 2);
    assert_int_equal(publish_many(world, RICH, LIMIT_PRIORITIES, (struct publish_head){0}, usual, own_priority),
                     ERR_LIMIT_REACHED);
    struct publish_head delayed = {.delay_ms = 50};
    assert_int_equal(publish_many(world, RICH, LIMIT_PRIORITIES - 2, delayed, usual, own_priority), OK);
    assert_int_equal(publish_many(world, RICH, LIMIT_PRIORITIES - 2, (struct publish_head){0}, usual, own_priority),
                     OK);
    urgent.priority = 3;
    assert_int_equal(publish_many(world, RICH, 1, (struct publish_head){0}, urgent, NULL), ERR_LIMIT_REACHED);
    assert_int_equal(publish_many(world, RICH, 1, delayed, usual, NULL), OK); /* its lane would be one more */
    world->now += 100;
    for (int n = 0; n < 5; n++) {
        step_ring(world);
    }
    assert_int_equal(numbers(world).delayed, 0);
    assert_int_equal(numbers(world).lanes, LIMIT_PRIORITIES);
    assert_int_equal(receive_some(world, 256, &received, &more), 256);
    check_rows(world);
    world_close(world);
}

static enum err seek_time(struct world *world, int64_t at)
{
    struct group_ask ask = {0};
    struct reply reply = {0};
    FIELD_SET(group_ask_fields, &ask, struct group_ask, group, bytes_str(group_names_of[0]));
    FIELD_SET(group_ask_fields, &ask, struct group_ask, verb, GROUP_SEEK_TIME);
    FIELD_SET(group_ask_fields, &ask, struct group_ask, at, at);
    enum err err = run(world, QUEUE_DO_GROUP, RICH, ADMIN, &ask, &reply);
    reply_close(&reply);
    return err;
}

/* Where messages were erased in the middle nobody knows how many are left behind a time before that. */
static void test_numbers_stay_right_behind_holes(void **state)
{
    (void)state;
    struct m_topic queue = large;
    queue.retain_acked = false;
    struct world *world = large_world(&queue);
    struct received received = {0};
    const int64_t begin = world->now;
    bool more;
    for (int n = 0; n < 6; n++, world->now += 10) {
        assert_int_equal(publish_many(world, RICH, 1, (struct publish_head){0}, usual, NULL), OK);
    }
    for (uint64_t n = 1; n <= 4; n++) {
        assert_int_equal(receive_some(world, 1, &received, &more), 1);
        if (n % 2 == 0) {
            settle_last(world, &received, SETTLE_ACK, -1);
        }
    }
    assert_int_equal(seek_time(world, begin), ERR_CONFLICT); /* not in a topic of this kind */
    put(world, RICH, ADMIN, &large);
    assert_int_equal(seek_time(world, begin + 20), ERR_CONFLICT); /* 3, and 4 is not there */
    assert_int_equal(seek_time(world, begin + 30), OK);           /* 5 */
    check_rows(world);
    assert_int_equal(receive_some(world, 5, &received, &more), 2);
    assert_int_equal(seek_time(world, begin), OK);
    check_rows(world);
    assert_int_equal(receive_some(world, 5, &received, &more), 4);
    check_rows(world);
    world_close(world);
}

/* No script sends such; but a command must not do harm either. */
static void test_wild_times_do_no_harm(void **state)
{
    (void)state;
    static const int64_t wild[] = {INT64_MIN, -1, 1, INT64_MAX - 1, INT64_MAX};
    struct world *world = large_world(&large);
    for (size_t a = 0; a < ARRAY_LEN(wild); a++) {
        for (size_t b = 0; b < ARRAY_LEN(wild); b++) {
            struct publish_head head = {.delay_ms = wild[a], .deliver_at = wild[b]};
            struct message message = {.priority = PRIORITY_USUAL, .id = 5, .expires_at = wild[(a + b) % 5]};
            assert_int_equal(publish_many(world, RICH, 1, head, message, NULL), OK);
            step_ring(world);
            check_rows(world);
        }
    }
    world->now += LIMIT_DELAY_MS + 1;
    step_ring(world);
    assert_int_equal(numbers(world).delayed, 0);
    world_close(world);
}

/* A command takes so much memory, however much it moves. */
static void test_memory_of_a_command_is_bounded(void **state)
{
    (void)state;
    static uint8_t body[1000000];
    struct world *world = large_world(&large);
    struct message message = {.priority = PRIORITY_USUAL, .body = bytes_of(body, sizeof body)};
    for (int n = 0; n < 40; n++) {
        assert_int_equal(publish_many(world, RICH, 1, (struct publish_head){.delay_ms = 5}, message, NULL), OK);
    }
    world->now += 10;
    step_ring(world);
    assert_int_equal(numbers(world).delayed, 0);
    assert_true(arena_held(&world->arenas[0]) < sizeof body);
    for (int n = 0; n < 2; n++) {
        assert_int_equal(publish_many(world, RICH, 1000, (struct publish_head){0}, usual, NULL), OK);
    }
    struct buf receipts = {0}, turns = {0};
    bool delivered[IDS];
    for (int n = 0; n < 42; n++) {
        receive_all(world, 0, delivered, &receipts);
    }
    size_t len = receipts.len / sizeof(struct settle_one), half = (len - 40) / 2;
    for (size_t i = 0; i < half; i++) { /* now of the one delivery, now of the other */
        const uint8_t *one = receipts.ptr + (40 + i) * sizeof(struct settle_one);
        buf_add(&turns, one, sizeof(struct settle_one));
        buf_add(&turns, one + half * sizeof(struct settle_one), sizeof(struct settle_one));
    }
    ack_all(world, 0, &turns);
    assert_true(arena_held(&world->arenas[0]) < 200000);
    check_rows(world);
    buf_free(&receipts);
    buf_free(&turns);
    world_close(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_commands_agree_with_the_model),
                                       cmocka_unit_test(test_what_is_left_of_damaged_rows_goes_on),
                                       cmocka_unit_test(test_no_message_is_lost_with_another_row),
                                       cmocka_unit_test(test_a_receive_looks_at_so_many_messages),
                                       cmocka_unit_test(test_parked_messages_are_freed),
                                       cmocka_unit_test(test_a_crowd_does_not_keep_others_waiting),
                                       cmocka_unit_test(test_a_smaller_topic_comes_down_in_steps),
                                       cmocka_unit_test(test_priorities_are_limited),
                                       cmocka_unit_test(test_numbers_stay_right_behind_holes),
                                       cmocka_unit_test(test_wild_times_do_no_harm),
                                       cmocka_unit_test(test_memory_of_a_command_is_bounded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
