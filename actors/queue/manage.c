/* What is done with topics and groups as a whole: settings, dead letters, beginning anew. */
#include "actors/queue/queue.h"
#include "actors/queue/slip.h"
#include "node/limits.h"

const struct field put_topic_fields[] = {FIELD_BLOB(1, put_topic, topic, LIMIT_BODY_BYTES), FIELDS_END};
const struct field no_input_fields[] = {FIELDS_END};
const struct field dead_ask_fields[] = {FIELD_STRING(1, dead_ask, group, 1, LIMIT_TOPIC_BYTES, 0),
                                        FIELD_BLOB(2, dead_ask, ids, LIMIT_BODY_BYTES),
                                        FIELD_INT(3, dead_ask, verb, DEAD_REDRIVE, DEAD_PURGE, 0),
                                        FIELD_INT(4, dead_ask, max, 0, LIMIT_RING_MOVES, 0), FIELDS_END};
const struct field dead_done_fields[] = {FIELD_INT(1, dead_done, count, 0, INT64_MAX, 0),
                                         FIELD_INT(2, dead_done, left, 0, INT64_MAX, 0), FIELDS_END};
const struct field group_ask_fields[] = {FIELD_STRING(1, group_ask, group, 1, LIMIT_TOPIC_BYTES, 0),
                                         FIELD_INT(2, group_ask, verb, GROUP_DELETE, GROUP_PAUSE, 0),
                                         FIELD_TIME(3, group_ask, at, 0), FIELDS_END};

/* ---- settings ---- */

static struct bytes user_key(struct id account, struct bytes name, struct queue_key *key)
{
    key->len = 0;
    key_bytes_add(key, id_bytes(&account));
    key_bytes_add(key, name);
    return key_of(key);
}

enum err topic_index_users(struct rows *rows, const struct topic *topic, bool add)
{
    const struct bytes lists[] = {id_bytes(&topic->owner), topic->publish_ids, topic->consume_ids};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        for (size_t at = 0; at + sizeof(struct id) <= lists[i].len; at += sizeof(struct id)) {
            struct id account;
            struct queue_key key;
            memcpy(account.b, lists[i].ptr + at, sizeof account.b);
            if (id_is_none(account)) {
                continue;
            }
            struct bytes row = user_key(account, topic->name, &key);
            enum err err =
                add ? rows_put(rows, TABLE_TOPIC_USER, row, BYTES_NONE) : rows_del(rows, TABLE_TOPIC_USER, row);
            TRY(!add && err == ERR_NOT_FOUND ? OK : err); /* in two of the lists */
        }
    }
    return OK;
}

static enum err write_topic(struct turn *turn, struct topic *topic, struct reply *reply)
{
    struct buf packed = {0};
    FIELD_SET(topic_fields, topic, struct topic, updated_at, turn->now_ms);
    field_pack(&packed, topic_fields, topic);
    enum err err = rows_put(turn->rows, TABLE_TOPIC, topic->name, buf_bytes(&packed));
    if (err == OK) {
        reply_struct(reply, topic_fields, topic);
    }
    buf_free(&packed);
    TRY(err);
    return topic_index_users(turn->rows, topic, true);
}

#define TOPIC_GIVEN(settings, member) FIELD_HAS(topic_fields, settings, struct topic, member)

static enum err erase_topic(struct turn *turn, struct queue *queue)
{
    struct queue_key sweep = time_key(turn->now_ms, TIME_SWEEP, queue->tid), state = queue_key(queue->tid, ROW_STATE);
    TRY(queue_retain_at(queue, 0));
    TRY(queue_dedup_at(queue, 0));
    TRY(topic_index_users(turn->rows, &queue->topic, false));
    TRY(ordinal_forget(turn->rows, queue->state.ordinal));
    TRY(rows_del(turn->rows, TABLE_TOPIC, turn->key));
    TRY(rows_del(turn->rows, TABLE_QUEUE, key_of(&state)));
    turn_touch(turn, topic_watch_id(queue->name));
    return rows_put(turn->rows, TABLE_QUEUE_TIME, key_of(&sweep), BYTES_NONE);
}

static enum err create_topic(struct turn *turn, struct topic *topic, struct reply *reply)
{
    struct topic_state state = {.next = 1, .first = 1};
    TRY(ordinal_give(turn->rows, turn->version, &state.ordinal));
    if (!TOPIC_GIVEN(topic, created_at)) {
        FIELD_SET(topic_fields, topic, struct topic, created_at, turn->now_ms);
    }
    FIELD_SET(topic_fields, topic, struct topic, tid, (int64_t)turn->version);
    reply->status = 201;
    TRY(topic_state_put(turn->rows, turn->version, &state, topic->name));
    return write_topic(turn, topic, reply);
}

static enum err change_topic(struct turn *turn, struct queue *queue, struct topic *topic, struct reply *reply)
{
    FIELD_SET(topic_fields, topic, struct topic, created_at, queue->topic.created_at);
    FIELD_SET(topic_fields, topic, struct topic, tid, queue->topic.tid);
    TRY(topic_index_users(turn->rows, &queue->topic, false));
    if (topic->retention_ms != queue->topic.retention_ms && queue->state.retain_at != 0) {
        TRY(queue_retain_at(queue, turn->now_ms)); /* looked at anew */
    }
    TRY(queue_save(queue));
    return write_topic(turn, topic, reply);
}

/* At the home partition of a topic, who made it decides. At its other partitions the home's settings come, with the
 * time at which it was made there: what is left there of another topic of that name goes. */
enum err put_topic_reduce(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct put_topic *in = raw;
    struct topic topic = {0};
    struct queue queue;
    if (field_unpack(topic_fields, in->topic, &topic) != OK || !bytes_eq(topic.name, turn->key)) {
        return ERR_BAD_REQUEST;
    }
    bool from_home = TOPIC_GIVEN(&topic, created_at);
    enum err err = queue_open(&queue, turn, turn->key);
    if (err == ERR_NOT_FOUND) {
        return create_topic(turn, &topic, reply);
    }
    TRY(err);
    if (from_home && topic.created_at != queue.topic.created_at) {
        TRY(erase_topic(turn, &queue));
        return create_topic(turn, &topic, reply);
    }
    if (!from_home && !topic_allows(&queue.topic, &turn->caller, USE_MANAGE)) {
        return ERR_FORBIDDEN;
    }
    if (topic.partitions != queue.topic.partitions || (!topic.retain_acked && queue.state.groups > 1)) {
        return ERR_CONFLICT;
    }
    if (!from_home) {
        FIELD_SET(topic_fields, &topic, struct topic, owner, queue.topic.owner);
    }
    return change_topic(turn, &queue, &topic, reply);
}

enum err delete_topic_reduce(struct turn *turn, const void *in, struct reply *reply)
{
    struct queue queue;
    (void)in;
    (void)reply;
    TRY(queue_open(&queue, turn, turn->key));
    if (!topic_allows(&queue.topic, &turn->caller, USE_MANAGE)) {
        return ERR_FORBIDDEN;
    }
    return erase_topic(turn, &queue);
}

/* ---- an account is erased: it is named nowhere any more. What it owned goes on, in the hands of administrators ----
 */

static bool is_at(struct bytes ids, size_t n, struct id account)
{
    size_t at = n * sizeof account;
    return at + sizeof account <= ids.len && memcmp(ids.ptr + at, account.b, sizeof account.b) == 0;
}

/* Each name but "*" stands for the id in the same place. */
static enum err without_name(struct turn *turn, struct bytes ids, struct bytes *names, struct id account)
{
    struct bytes *list;
    struct buf left = {0}, all = {0};
    size_t len, n = 0;
    uint32_t count = 0;
    TRY(field_strings(*names, turn->arena, &list, &len));
    for (size_t i = 0; i < len; i++) {
        bool everybody = bytes_is(list[i], "*");
        if (everybody || !is_at(ids, n, account)) {
            field_strings_add(&left, list[i]);
            count++;
        }
        n += !everybody;
    }
    field_strings_begin(&all, count);
    buf_add_bytes(&all, buf_bytes(&left));
    *names = len == 0 ? *names : arena_copy(turn->arena, buf_bytes(&all));
    buf_free(&left);
    buf_free(&all);
    return OK;
}

static enum err without(struct turn *turn, struct bytes *ids, struct bytes *names, struct id account)
{
    struct buf left = {0};
    TRY(without_name(turn, *ids, names, account));
    for (size_t n = 0; n * sizeof account < ids->len; n++) {
        if (!is_at(*ids, n, account)) {
            buf_add(&left, ids->ptr + n * sizeof account, sizeof account);
        }
    }
    *ids = arena_copy(turn->arena, buf_bytes(&left));
    buf_free(&left);
    return OK;
}

enum err queue_forget(struct turn *turn, struct id account, unsigned limit, unsigned *out_erased)
{
    const struct id nobody = {{0}};
    *out_erased = 0;
    while (*out_erased < limit) {
        struct bytes key, value;
        struct queue queue;
        struct reply ignored = {0};
        enum err err = rows_ceil(turn->rows, TABLE_TOPIC_USER, id_bytes(&account), &key, &value);
        if (err == ERR_NOT_FOUND || (err == OK && !bytes_start_with(key, id_bytes(&account)))) {
            return OK;
        }
        TRY(err);
        struct bytes copy = arena_copy(turn->arena, key);
        TRY(rows_del(turn->rows, TABLE_TOPIC_USER, copy));
        TRY(queue_open(&queue, turn, bytes_of(copy.ptr + sizeof account, copy.len - sizeof account)));
        TRY(without(turn, &queue.topic.publish_ids, &queue.topic.publish, account));
        TRY(without(turn, &queue.topic.consume_ids, &queue.topic.consume, account));
        queue.topic.owner = id_eq(queue.topic.owner, account) ? nobody : queue.topic.owner;
        err = write_topic(turn, &queue.topic, &ignored);
        reply_close(&ignored);
        TRY(err);
        (*out_erased)++;
    }
    return OK;
}

/* ---- dead letters ---- */

enum err queue_settle_dead(struct queue *queue, struct group *group, enum dead_verb verb, uint64_t number)
{
    struct dead dead;
    if (verb == DEAD_REDRIVE) {
        return group_revive(queue, group, number);
    }
    TRY(group_undead(queue, group, number, &dead));
    queue->moves++;
    return queue->topic.retain_acked ? OK : queue_erase(queue, number); /* nobody else has to do with it */
}

static enum err first_dead(struct queue *queue, const struct group *group, uint64_t *out)
{
    struct queue_key key = group_key(queue->tid, group->gid, ROW_DEAD);
    struct bytes found, value;
    TRY(queue_ceil(queue->rows, TABLE_GROUP, &key, key.len, &found, &value));
    *out = key_read_u64(found.ptr + key.len);
    return OK;
}

static enum err settle_this(struct queue *queue, struct group *group, const struct dead_ask *in, uint64_t number)
{
    enum err err = queue_settle_dead(queue, group, (enum dead_verb)in->verb, number);
    return err == ERR_NOT_FOUND ? ERR_CORRUPT : err; /* it is a dead letter: all that belongs to it must be there */
}

static enum err all_dead(struct queue *queue, struct group *group, const struct dead_ask *in, int64_t *out)
{
    for (*out = 0; *out < in->max; (*out)++) {
        uint64_t number;
        enum err err = first_dead(queue, group, &number);
        if (err != OK) {
            return err == ERR_NOT_FOUND ? slip_all_returned(queue, group, in, out) : err;
        }
        TRY(settle_this(queue, group, in, number));
    }
    return OK;
}

static enum err named_dead(struct queue *queue, struct group *group, const struct dead_ask *in, int64_t *out)
{
    for (size_t at = 0; at + sizeof(uint64_t) <= in->ids.len; at += sizeof(uint64_t)) {
        uint64_t id, number;
        struct dead dead;
        memcpy(&id, in->ids.ptr + at, sizeof id);
        TRY(queue_number_of(queue->rows, queue->tid, id, &number));
        enum err err = group_dead(queue, group, number, &dead);
        if (err == OK) {
            TRY(settle_this(queue, group, in, number));
        } else if (err == ERR_NOT_FOUND) {
            err = slip_settle_returned(queue, group, in, number);
        }
        TRY(err == ERR_NOT_FOUND ? OK : err);
        *out += err == OK;
    }
    return OK;
}

enum err dead_reduce(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct dead_ask *in = raw;
    struct queue queue;
    struct group *group;
    struct dead_done done = {0};
    int64_t count = 0;
    TRY(queue_open(&queue, turn, turn->key));
    if (!topic_allows(&queue.topic, &turn->caller, USE_CONSUME)) {
        return ERR_FORBIDDEN;
    }
    TRY(queue_group_named(&queue, in->group, &group));
    TRY(in->ids.len > 0 ? named_dead(&queue, group, in, &count) : all_dead(&queue, group, in, &count));
    FIELD_SET(dead_done_fields, &done, struct dead_done, count, count);
    FIELD_SET(dead_done_fields, &done, struct dead_done, left, (int64_t)(group->state.dead + group->state.returned));
    reply_struct(reply, dead_done_fields, &done);
    return queue_save(&queue);
}

/* ---- groups ---- */

/* Places rise with time: the first message that became available at that time or later. */
static enum err find_time(struct queue *queue, int64_t at, uint64_t *out)
{
    uint64_t low = queue->state.first, high = queue->state.next;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct queue_key key = message_key(queue->tid, middle);
        struct bytes found, row;
        struct message message;
        enum err err = queue_ceil(queue->rows, TABLE_MESSAGE, &key, 8, &found, &row);
        TRY(err == ERR_NOT_FOUND ? OK : err);
        if (err == OK) {
            TRY(message_read(row, &message));
        }
        if (err == OK && message.available_at < at) {
            low = key_read_u64(found.ptr + 8) + 1;
        } else {
            high = middle;
        }
    }
    *out = low;
    return OK;
}

static enum err first_from(struct queue *queue, uint64_t number, uint64_t *out, uint64_t *out_ordinal)
{
    struct queue_key key = message_key(queue->tid, number);
    struct bytes found, row;
    struct message message;
    enum err err = queue_ceil(queue->rows, TABLE_MESSAGE, &key, 8, &found, &row);
    *out = queue->state.next;
    *out_ordinal = queue->state.available;
    if (err == OK) {
        TRY(message_read(row, &message));
        *out = key_read_u64(found.ptr + 8);
        *out_ordinal = message.ordinal;
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

/* How many messages a group that begins with the first one at or behind that number is through with. Behind a hole
 * nobody knows, unless it is all that is kept. */
static enum err passed_before(struct queue *queue, uint64_t number, uint64_t *out)
{
    uint64_t oldest, ordinal, from;
    TRY(first_from(queue, queue->state.first, &oldest, &ordinal));
    TRY(first_from(queue, number, &from, out));
    if (from == oldest) {
        *out = queue->state.available - queue->state.retained;
        return OK;
    }
    return from < queue->state.holes ? ERR_CONFLICT : OK;
}

/* A new group of that name takes its place; dead letters and numbers of old go with the old one. */
static enum err begin_anew(struct queue *queue, struct group *old, uint64_t start, uint64_t passed)
{
    struct group *group;
    struct bytes name = old->name;
    TRY(queue_group_end(queue, old));
    TRY(queue_group_new(queue, name, &group));
    group->state.start = group->state.cursor = start;
    group->state.passed = passed;
    queue->touched = true;
    return OK;
}

static enum err seek(struct queue *queue, struct group *group, const struct group_ask *in)
{
    uint64_t number = queue->state.first, passed = queue->state.available - queue->state.retained;
    if (in->verb == GROUP_SEEK_END) {
        number = queue->state.next;
        passed = queue->state.available;
    } else if (in->verb == GROUP_SEEK_TIME) {
        TRY(queue->topic.retain_acked ? OK : ERR_CONFLICT); /* there are gaps: nobody knows how many are left */
        TRY(find_time(queue, in->at, &number));
        TRY(passed_before(queue, number, &passed));
    }
    return begin_anew(queue, group, number, passed);
}

static enum err pause(struct queue *queue, struct group *group, int64_t until)
{
    bool over = until <= queue->turn->now_ms;
    queue->touched = over;
    group->state.pauses++;
    group->state.paused_at = queue->turn->now_ms;
    return queue_resume_at(queue, group, over ? 0 : until);
}

enum err group_reduce(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct group_ask *in = raw;
    struct queue queue;
    struct group *group;
    (void)reply;
    TRY(queue_open(&queue, turn, turn->key));
    if (!topic_allows(&queue.topic, &turn->caller, in->verb == GROUP_DELETE ? USE_MANAGE : USE_CONSUME)) {
        return ERR_FORBIDDEN;
    }
    enum err err = queue_group_named(&queue, in->group, &group);
    TRY(err);
    switch ((enum group_verb)in->verb) {
    case GROUP_DELETE: TRY(queue_group_end(&queue, group)); break;
    case GROUP_PAUSE: TRY(pause(&queue, group, in->at)); break;
    case GROUP_SEEK_START:
    case GROUP_SEEK_END:
    case GROUP_SEEK_TIME: TRY(seek(&queue, group, in)); break;
    }
    return queue_save(&queue);
}
