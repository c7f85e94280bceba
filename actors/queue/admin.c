/* Changing topics and groups as a whole. Of a wide topic the partitions are gone through one after the other: what was
 * cut short is completed by asking again. */
#include "actors/auth/auth.h"
#include "actors/queue/client.h"
#include "node/limits.h"

/* ---- settings ---- */

enum { PUT_SEND = 3, PUT_READ = 5 };

static enum err put_begin(struct script *s)
{
    const struct put_in *in = s->in;
    struct client *st = s->state;
    if (!topic_name_is_good(in->topic)) {
        return reply_invalid(s->reply, "topic", "not_a_name", "Up to 200 letters, digits and -+/;.$_()");
    }
    if (in->partitions > (int64_t)s->partitions) {
        return reply_invalid(s->reply, "/partitions", "out_of_range", "The cluster has fewer partitions");
    }
    if (in->partitions > 1 && FIELD_HAS(put_in_fields, in, struct put_in, retain_acked) && !in->retain_acked) {
        return reply_invalid(s->reply, "/retain_acked", "conflict",
                             "A topic of several partitions keeps what is acknowledged");
    }
    st->home = partition_of_name(in->topic, s->partitions);
    script_read(s, SCRIPT_ALL_PARTITIONS); /* for the names of users */
    return OK;
}

#define SET_TOPIC(member, value) FIELD_SET(topic_fields, topic, struct topic, member, value)
#define GIVEN(member) FIELD_HAS(put_in_fields, in, struct put_in, member)
#define TAKE(member, usual) SET_TOPIC(member, GIVEN(member) ? in->member : (usual))

/* What is not given has its usual value. */
static void fill_topic(const struct put_in *in, const struct caller *caller, struct topic *topic)
{
    SET_TOPIC(name, in->topic);
    TAKE(visibility_ms, LIMIT_VISIBILITY_USUAL_MS);
    TAKE(max_attempts, LIMIT_ATTEMPTS_USUAL);
    TAKE(retention_ms, LIMIT_RETENTION_USUAL_MS);
    TAKE(max_messages, LIMIT_TOPIC_MESSAGES_USUAL);
    TAKE(overflow, OVERFLOW_REJECT);
    TAKE(dedup_window_ms, LIMIT_DEDUP_USUAL_MS);
    TAKE(retain_acked, true);
    TAKE(partitions, 1);
    if (!id_is_none(caller->account)) {
        SET_TOPIC(owner, caller->account);
    }
}

static enum err no_such_user(struct script *s, const char *pointer)
{
    return reply_invalid(s->reply, pointer, "no_such_user", "There is no user of one of these names");
}

static enum err find_user(struct script *s, struct bytes name, struct id *out)
{
    struct account account = {0};
    struct bytes key = name_key(NAME_USERNAME, name, s->arena);
    TRY(key.len > 0 ? OK : ERR_NOT_FOUND);
    TRY(name_find(script_rows(s, partition_of_name(key, s->partitions)), key, out));
    return account_find(script_rows(s, id_partition(*out)), *out, &account);
}

/* Names to accounts; "*" is everybody. */
static enum err resolve(struct script *s, const char *pointer, struct bytes names, struct bytes *out_ids, bool *out_all)
{
    struct bytes *list;
    struct buf ids = {0};
    size_t len;
    TRY(field_strings(names, s->arena, &list, &len));
    if (len > LIMIT_TOPIC_USERS) {
        return reply_invalid(s->reply, pointer, "too_many", "A list may have 100 users");
    }
    for (size_t i = 0; i < len; i++) {
        struct id account;
        if (bytes_is(list[i], "*")) {
            *out_all = true;
            continue;
        }
        enum err err = find_user(s, list[i], &account);
        if (err != OK) {
            buf_free(&ids);
            return err == ERR_NOT_FOUND ? no_such_user(s, pointer) : err;
        }
        buf_add_bytes(&ids, id_bytes(&account));
    }
    *out_ids = arena_copy(s->arena, buf_bytes(&ids));
    buf_free(&ids);
    return OK;
}

static enum err put_resolve(struct script *s)
{
    const struct put_in *in = s->in;
    struct client *st = s->state;
    struct topic *topic = &st->topic;
    struct bytes publish_ids = BYTES_NONE, consume_ids = BYTES_NONE;
    bool publish_all = false, consume_all = false;
    fill_topic(in, &s->caller, topic);
    st->shards = (unsigned)topic->partitions;
    if (GIVEN(publish)) {
        TRY(resolve(s, "/publish", in->publish, &publish_ids, &publish_all));
        SET_TOPIC(publish, in->publish);
    }
    if (GIVEN(consume)) {
        TRY(resolve(s, "/consume", in->consume, &consume_ids, &consume_all));
        SET_TOPIC(consume, in->consume);
    }
    SET_TOPIC(publish_ids, publish_ids);
    SET_TOPIC(consume_ids, consume_ids);
    SET_TOPIC(publish_all, publish_all);
    SET_TOPIC(consume_all, consume_all);
    struct buf packed = {0};
    field_pack(&packed, topic_fields, topic);
    FIELD_SET(put_topic_fields, &st->put, struct put_topic, topic, arena_copy(s->arena, buf_bytes(&packed)));
    buf_free(&packed);
    return OK;
}

/* The same again changes nothing. */
static bool is_same(const struct topic *a, const struct topic *b)
{
    return a->visibility_ms == b->visibility_ms && a->max_attempts == b->max_attempts &&
           a->retention_ms == b->retention_ms && a->max_messages == b->max_messages && a->overflow == b->overflow &&
           a->dedup_window_ms == b->dedup_window_ms && a->retain_acked == b->retain_acked &&
           a->partitions == b->partitions && bytes_eq(a->publish_ids, b->publish_ids) &&
           bytes_eq(a->consume_ids, b->consume_ids) && a->publish_all == b->publish_all &&
           a->consume_all == b->consume_all;
}

static enum err put_same(struct script *s)
{
    struct client *st = s->state;
    for (unsigned shard = 0; shard < st->shards; shard++) {
        struct topic before;
        enum err err = topic_find(script_rows(s, client_partition(s, shard)), st->topic.name, &before);
        if (err != OK || !topic_allows(&before, &s->caller, USE_MANAGE) || !is_same(&before, &st->topic)) {
            return err == ERR_NOT_FOUND ? OK : err;
        }
    }
    script_goto(s, PUT_READ);
    return OK;
}

static enum err put_send(struct script *s)
{
    struct client *st = s->state;
    script_command(s, KIND_QUEUE, QUEUE_DO_PUT, client_address(s, st->shard), &st->put, st->shard == 0);
    return OK;
}

static enum err put_sent(struct script *s)
{
    struct client *st = s->state;
    if (st->shard == 0) {
        st->count = s->answer.status;
    }
    if (++st->shard < st->shards) {
        script_goto(s, PUT_SEND);
    }
    return OK;
}

static enum err put_read(struct script *s)
{
    const struct client *st = s->state;
    script_read(s, st->home);
    return OK;
}

static enum err put_answer(struct script *s)
{
    struct client *st = s->state;
    TRY(topic_find(script_rows(s, st->home), st->topic.name, &st->topic));
    client_settings(&st->out, &st->topic);
    reply_struct(s->reply, topic_out_fields, &st->out);
    s->reply->status = (uint16_t)st->count;
    return script_done(s);
}

const struct step put_topic_steps[] = {{"begin", put_begin, false},   {"resolve", put_resolve, false},
                                       {"same", put_same, false},     {"send", put_send, false},
                                       {"sent", put_sent, false},     {"read", put_read, false},
                                       {"answer", put_answer, false}, {0}};

/* ---- what goes to all partitions of a topic ---- */

enum { EACH_SEND = 2 };

/* The next partition; true: there is one. */
static bool each_next(struct script *s)
{
    struct client *st = s->state;
    if (++st->shard == st->shards) {
        return false;
    }
    script_goto(s, EACH_SEND);
    return true;
}

/* The home partition comes last: as long as it has the topic, what was cut short can be asked again. */
static enum err delete_send(struct script *s)
{
    const struct client *st = s->state;
    TRY(client_may(s, USE_MANAGE));
    script_command(s, KIND_QUEUE, QUEUE_DO_DELETE, client_address(s, st->shards - 1 - st->shard), &st->none, false);
    return OK;
}

static enum err delete_sent(struct script *s)
{
    struct client *st = s->state;
    if (s->err != OK && (s->err != ERR_NOT_FOUND || st->shard + 1 == st->shards)) {
        return s->err;
    }
    each_next(s);
    return OK;
}

const struct step delete_topic_steps[] = {{"find", client_find_fresh, false},
                                          {"found", client_found, false},
                                          {"send", delete_send, false},
                                          {"sent", delete_sent, true},
                                          {0}};

/* ---- groups ---- */

#define ASK(member, value) FIELD_SET(group_ask_fields, &st->ask, struct group_ask, member, value)

static enum err group_send(struct script *s, enum group_verb verb, int64_t at)
{
    const struct group_in *in = s->in;
    struct client *st = s->state;
    ASK(group, in->group);
    ASK(verb, (int64_t)verb);
    ASK(at, at);
    script_command(s, KIND_QUEUE, QUEUE_DO_GROUP, client_address(s, st->shard), &st->ask, false);
    return OK;
}

static enum err delete_group_send(struct script *s)
{
    return group_send(s, GROUP_DELETE, 0);
}

static enum err seek_send(struct script *s)
{
    static const enum group_verb verbs[] = {GROUP_SEEK_START, GROUP_SEEK_END, GROUP_SEEK_TIME};
    const struct seek_in *in = s->in;
    bool given = FIELD_HAS(seek_in_fields, in, struct seek_in, time);
    if ((verbs[in->to] == GROUP_SEEK_TIME) != given) {
        return reply_invalid(s->reply, "/time", given ? "conflict" : "required",
                             "With \"to\": \"time\", and only there");
    }
    return group_send(s, verbs[in->to], in->time);
}

/* A group is in those partitions in which anything was received. */
static enum err group_sent(struct script *s)
{
    struct client *st = s->state;
    if (s->err != OK && s->err != ERR_NOT_FOUND) {
        return s->err;
    }
    st->count += s->err == OK;
    if (each_next(s)) {
        return OK;
    }
    return st->count > 0 ? OK : ERR_NOT_FOUND;
}

#define GROUP_STEPS(send)                                                                    \
    {                                                                                        \
        {"find", client_find, false}, {"found", client_found, false}, {"send", send, false}, \
            {"sent", group_sent, true},                                                      \
        {                                                                                    \
            0                                                                                \
        }                                                                                    \
    }
const struct step delete_group_steps[] = GROUP_STEPS(delete_group_send);
const struct step seek_steps[] = GROUP_STEPS(seek_send);

/* ---- dead letters ---- */

#define DEAD(member, value) FIELD_SET(dead_ask_fields, &st->dead, struct dead_ask, member, value)

/* In steps, so that nobody else waits for long. */
static enum err dead_send(struct script *s, enum dead_verb verb, int64_t most)
{
    const struct group_in *in = s->in;
    struct client *st = s->state;
    DEAD(group, in->group);
    DEAD(verb, (int64_t)verb);
    DEAD(max, most < LIMIT_RING_MOVES ? most : LIMIT_RING_MOVES);
    script_command(s, KIND_QUEUE, QUEUE_DO_DEAD, client_address(s, st->shard), &st->dead, false);
    return OK;
}

/* Those that are named and in the partition at hand. */
static enum err named(struct script *s, const struct redrive_in *in, size_t *out_len)
{
    struct client *st = s->state;
    struct bytes *list;
    struct buf numbers = {0};
    size_t len;
    TRY(field_strings(in->ids, s->arena, &list, &len));
    if (len == 0 || len > LIMIT_BATCH) {
        return reply_invalid(s->reply, "/ids", "out_of_range", "1 to 1000 ids");
    }
    for (size_t i = 0; i < len; i++) {
        unsigned partition;
        uint64_t id;
        if (!message_id_parse(list[i], &partition, &id)) {
            buf_free(&numbers);
            return reply_invalid(s->reply, "/ids", "not_an_id", "One of them is no message's id");
        }
        if (partition == client_partition(s, st->shard)) {
            buf_add(&numbers, &id, sizeof id);
        }
    }
    *out_len = numbers.len;
    DEAD(ids, arena_copy(s->arena, buf_bytes(&numbers)));
    buf_free(&numbers);
    return OK;
}

static enum err redrive_send(struct script *s)
{
    const struct redrive_in *in = s->in;
    const struct client *st = s->state;
    bool given = FIELD_HAS(redrive_in_fields, in, struct redrive_in, ids);
    int64_t max = FIELD_HAS(redrive_in_fields, in, struct redrive_in, max) ? in->max : LIMIT_REDRIVE;
    size_t len = 1;
    TRY(given ? named(s, in, &len) : OK);
    /* Of those named, none may be there: how many it has is asked all the same. */
    return dead_send(s, DEAD_REDRIVE, len == 0 ? 0 : given ? LIMIT_RING_MOVES : max - st->count);
}

static enum err purge_send(struct script *s)
{
    return dead_send(s, DEAD_PURGE, LIMIT_RING_MOVES);
}

static enum err dead_sent(struct script *s, bool again, int64_t max)
{
    struct client *st = s->state;
    struct dead_done done = {0};
    if (s->err != OK && s->err != ERR_NOT_FOUND) {
        return s->err;
    }
    if (s->err == OK && s->answer.body.len > 0) {
        TRY(field_unpack(dead_done_fields, buf_bytes(&s->answer.body), &done));
        st->fresh = true; /* the group is there */
        st->count += done.count;
        st->at = (st->tries++ == 0 ? (uint64_t)(done.count + done.left) : st->at) - (uint64_t)done.count;
    }
    /* Those that were there at first: what comes back meanwhile is for another time. */
    if (again && done.left > 0 && done.count > 0 && st->count < max && (int64_t)st->at > 0) {
        script_goto(s, EACH_SEND);
        return OK;
    }
    st->tries = 0;
    st->left += done.left;
    return st->count < max && each_next(s) ? OK : st->fresh ? OK : ERR_NOT_FOUND;
}

static enum err redrive_sent(struct script *s)
{
    const struct redrive_in *in = s->in;
    bool given = FIELD_HAS(redrive_in_fields, in, struct redrive_in, ids);
    return dead_sent(s, !given, FIELD_HAS(redrive_in_fields, in, struct redrive_in, max) ? in->max : LIMIT_REDRIVE);
}

static enum err purge_sent(struct script *s)
{
    return dead_sent(s, true, INT64_MAX);
}

static enum err dead_answer(struct script *s)
{
    const struct client *st = s->state;
    struct dead_done done = {0};
    FIELD_SET(dead_done_fields, &done, struct dead_done, count, st->count);
    FIELD_SET(dead_done_fields, &done, struct dead_done, left, st->left);
    reply_struct(s->reply, dead_done_fields, &done);
    return script_done(s);
}

const struct step redrive_steps[] = {{"find", client_find, false},   {"found", client_found, false},
                                     {"send", redrive_send, false},  {"sent", redrive_sent, true},
                                     {"answer", dead_answer, false}, {0}};
const struct step purge_steps[] = {{"find", client_find, false},   {"found", client_found, false},
                                   {"send", purge_send, false},    {"sent", purge_sent, true},
                                   {"answer", dead_answer, false}, {0}};
