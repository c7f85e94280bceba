/* Publishing, receiving, settling: the scripts that are run most. */
#include "actors/queue/client.h"
#include "actors/queue/slip.h"

#include "actors/join.h"
#include "node/base/digest.h"
#include "node/base/text.h"
#include "node/limits.h"

/* ---- the topic ---- */

static struct bytes topic_name(const struct script *s)
{
    return ((const struct topic_in *)s->in)->topic; /* every input begins like this */
}

static enum err load_settings(struct script *s)
{
    struct client *st = s->state;
    struct bytes packed;
    TRY(rows_get(script_rows(s, st->home), TABLE_TOPIC, topic_name(s), &packed));
    TRY(field_unpack(topic_fields, arena_copy(s->arena, packed), &st->topic));
    st->shards = (unsigned)st->topic.partitions;
    return st->shards >= 1 && st->shards <= s->partitions ? OK : ERR_CORRUPT;
}

enum err client_find(struct script *s)
{
    struct client *st = s->state;
    if (!topic_name_is_good(topic_name(s))) {
        return ERR_NOT_FOUND;
    }
    st->home = partition_of_name(topic_name(s), s->partitions);
    enum err err = load_settings(s);
    if (err == ERR_NOT_FOUND) {
        script_read(s, st->home); /* it may be new */
        return OK;
    }
    return err;
}

enum err client_find_fresh(struct script *s)
{
    struct client *st = s->state;
    if (!topic_name_is_good(topic_name(s))) {
        return ERR_NOT_FOUND;
    }
    st->home = partition_of_name(topic_name(s), s->partitions);
    script_read(s, st->home);
    return OK;
}

enum err client_found(struct script *s)
{
    struct client *st = s->state;
    return st->shards > 0 ? OK : load_settings(s);
}

unsigned client_partition(const struct script *s, unsigned shard)
{
    const struct client *st = s->state;
    return (st->home - 1 + shard) % s->partitions + 1;
}

struct address client_address(const struct script *s, unsigned shard)
{
    return (struct address){client_partition(s, shard), topic_name(s)};
}

enum err client_may(struct script *s, enum topic_use use)
{
    const struct client *st = s->state;
    return topic_allows(&st->topic, &s->caller, use) ? OK : ERR_FORBIDDEN;
}

unsigned client_some_shard(struct script *s)
{
    const struct client *st = s->state;
    uint64_t chance;
    if (st->shards == 1) {
        return 0;
    }
    s->services->random(s, &chance, sizeof chance);
    return (unsigned)(chance % st->shards);
}

static struct bytes keep(struct script *s, struct buf *buf)
{
    struct bytes out = arena_copy(s->arena, buf_bytes(buf));
    buf_free(buf);
    return out;
}

/* ---- publish ---- */

#define HAS(in, member) FIELD_HAS(message_in_fields, in, struct message_in, member)

static enum err refuse_message(struct script *s, size_t at, const char *member, const char *code, const char *why)
{
    struct buf pointer = {0};
    buf_printf(&pointer, "/messages/%zu/%s", at, member);
    buf_add_char(&pointer, 0);
    return reply_invalid(s->reply, (const char *)keep(s, &pointer).ptr, code, why);
}

static enum err decode_base64(struct script *s, size_t at, struct bytes *body)
{
    size_t len, cap = body->len / 4 * 3 + 3;
    uint8_t *raw = arena_alloc(s->arena, cap);
    if (!text_base64_decode(*body, raw, cap, &len)) {
        return refuse_message(s, at, "body", "not_base64", "The body is not base64 (RFC 4648 section 4)");
    }
    *body = bytes_of(raw, len);
    return OK;
}

static enum err encode_destinations(struct script *s, size_t at, struct bytes names, struct bytes *out)
{
    struct bytes *list;
    size_t len;
    *out = BYTES_NONE;
    TRY(field_strings(names, s->arena, &list, &len));
    if (len > LIMIT_DESTINATIONS) {
        return refuse_message(s, at, "destinations", "too_many", "A message may go through 16 topics");
    }
    for (size_t i = 0; i < len; i++) {
        if (!topic_name_is_good(list[i])) {
            return refuse_message(s, at, "destinations", "not_a_name", "One of them cannot be a topic's name");
        }
    }
    *out = len == 0 ? BYTES_NONE : slip_make(names, s->arena);
    return OK;
}

/* The same for what is sent again: one key, or one deduplication id, is in one shard. */
static unsigned shard_of(const struct publish_state *st, const struct message *message, const struct publish_head *head)
{
    uint64_t hash = message->key_hash;
    if (hash == 0 && head->has_dedup == 0) {
        return st->client.first;
    }
    if (hash == 0) {
        memcpy(&hash, head->dedup, sizeof hash);
    }
    return (unsigned)(hash % st->client.shards);
}

/* One message, as commands have it. raw: its body is any bytes. */
static enum err encode_message(struct script *s, size_t at, const struct message_in *in, bool raw)
{
    struct publish_state *st = s->state;
    struct buf item = {0};
    struct bytes body = in->body;
    struct publish_head head = {0};
    bool base64 = raw || in->encoding == 1;
    if (!raw && in->encoding == 1) {
        TRY(decode_base64(s, at, &body));
    }
    if (body.len > LIMIT_MESSAGE_BYTES) {
        return refuse_message(s, at, "body", "too_long", "A message may have 1 MiB");
    }
    if (HAS(in, delay_ms) && HAS(in, deliver_at)) {
        return refuse_message(s, at, "deliver_at", "conflict", "Either delay_ms or deliver_at");
    }
    if (HAS(in, deliver_at) && in->deliver_at > s->now_ms + LIMIT_DELAY_MS) {
        return refuse_message(s, at, "deliver_at", "out_of_range", "A delay may last a year");
    }
    if (HAS(in, dedup_id)) {
        struct digest digest = digest_of(BYTES_LIT("dedup"), in->dedup_id);
        head.has_dedup = 1;
        memcpy(head.dedup, digest.b, sizeof head.dedup);
    }
    head.delay_ms = in->delay_ms;
    head.deliver_at = in->deliver_at;
    struct bytes destinations;
    TRY(encode_destinations(s, at, in->destinations, &destinations));
    struct message message = {.flags = base64 ? MESSAGE_BASE64 : 0,
                              .priority = HAS(in, priority) ? (uint32_t)in->priority : PRIORITY_USUAL,
                              .expires_at = in->ttl_ms,
                              .key_hash = message_key_hash(in->key),
                              .key = in->key,
                              .headers = in->headers,
                              .destinations = destinations,
                              .body = body};
    publish_add(&item, head, &message);
    st->items[at] = keep(s, &item);
    st->shards[at] = shard_of(st, &message, &head);
    return OK;
}

static void publish_room(struct script *s, size_t count)
{
    struct publish_state *st = s->state;
    st->count = count;
    st->client.first = client_some_shard(s);
    st->items = arena_zalloc(s->arena, count * sizeof *st->items);
    st->shards = arena_zalloc(s->arena, count * sizeof *st->shards);
    st->ids = arena_zalloc(s->arena, count * sizeof *st->ids);
}

static enum err publish_encode(struct script *s)
{
    const struct publish_in *in = s->in;
    struct bytes rest = in->messages, item;
    size_t count = 0;
    TRY(client_found(s));
    while (field_objects_next(&rest, &item)) {
        count++;
    }
    publish_room(s, count);
    rest = in->messages;
    for (size_t at = 0; field_objects_next(&rest, &item); at++) {
        struct message_in message = {0};
        TRY(field_unpack(message_in_fields, item, &message));
        TRY(encode_message(s, at, &message, false));
    }
    return OK;
}

#define RAW_HAS(member) FIELD_HAS(raw_in_fields, in, struct raw_in, member)
#define RAW_COPY(member)                                                                   \
    do {                                                                                   \
        if (RAW_HAS(member)) {                                                             \
            FIELD_SET(message_in_fields, &message, struct message_in, member, in->member); \
        }                                                                                  \
    } while (0)

static enum err publish_raw_encode(struct script *s)
{
    const struct raw_in *in = s->in;
    struct message_in message = {.body = in->body, .headers = in->headers};
    TRY(client_found(s));
    RAW_COPY(key);
    RAW_COPY(delay_ms);
    RAW_COPY(deliver_at);
    RAW_COPY(ttl_ms);
    RAW_COPY(priority);
    RAW_COPY(dedup_id);
    publish_room(s, 1);
    return encode_message(s, 0, &message, true);
}

enum { PUBLISH_SEND = 2 };

/* To one shard what goes there. */
static enum err publish_send(struct script *s)
{
    struct publish_state *st = s->state;
    struct buf all = {0};
    while (st->shard < st->client.shards && all.len == 0) {
        for (size_t i = 0; i < st->count; i++) {
            if (st->shards[i] == st->shard) {
                buf_add_bytes(&all, st->items[i]);
            }
        }
        st->shard += all.len == 0;
    }
    if (all.len == 0) {
        script_goto(s, PUBLISH_SEND + 2);
        return OK;
    }
    script_join(s, KIND_QUEUE, QUEUE_DO_PUBLISH, client_address(s, st->shard), keep(s, &all));
    return OK;
}

/* The ids of what went to that shard, in order. */
static enum err publish_sent(struct script *s)
{
    struct publish_state *st = s->state;
    struct bytes runs = buf_bytes(&s->answer.body);
    struct id_run run = {0};
    for (size_t i = 0; i < st->count; i++) {
        if (st->shards[i] != st->shard) {
            continue;
        }
        if (run.count == 0) {
            if (runs.len < sizeof run) {
                return ERR_INTERNAL;
            }
            memcpy(&run, runs.ptr, sizeof run);
            runs = bytes_of(runs.ptr + sizeof run, runs.len - sizeof run);
        }
        st->ids[i] = run.first++;
        run.count--;
    }
    st->shard++;
    if (st->shard < st->client.shards) {
        script_goto(s, PUBLISH_SEND);
    }
    return OK;
}

static enum err publish_answer(struct script *s)
{
    struct publish_state *st = s->state;
    struct buf *out = &s->reply->body;
    s->reply->type = "application/json";
    s->reply->status = 201;
    buf_add_lit(out, "{\"ids\":[");
    for (size_t i = 0; i < st->count; i++) {
        buf_add_str(out, i > 0 ? ",\"" : "\"");
        message_id_add(out, client_partition(s, st->shards[i]), st->ids[i]);
        buf_add_char(out, '"');
    }
    buf_add_lit(out, "]}");
    return script_done(s);
}

const struct step publish_steps[] = {{"find", client_find, false},      {"encode", publish_encode, false},
                                     {"send", publish_send, false},     {"sent", publish_sent, false},
                                     {"answer", publish_answer, false}, {0}};
const struct step publish_raw_steps[] = {{"find", client_find, false},      {"encode", publish_raw_encode, false},
                                         {"send", publish_send, false},     {"sent", publish_sent, false},
                                         {"answer", publish_answer, false}, {0}};

/* ---- receive ---- */

enum { RECEIVE_LOOK = 2, RECEIVE_ASK = 4, RECEIVE_NEXT = 7, RECEIVE_ANSWER = 8, RECEIVE_WAIT = 9, TRIES_MAX = 1000 };
#define RECEIVE_HAS(member) FIELD_HAS(receive_in_fields, in, struct receive_in, member)

static enum err receive_begin(struct script *s)
{
    const struct receive_in *in = s->in;
    struct client *st = s->state;
    struct buf item = {0};
    TRY(client_found(s));
    if (!topic_name_is_good(in->group)) {
        return reply_invalid(s->reply, "group", "not_a_name", "Letters, digits and -+/;.$_()");
    }
    struct receive_ask ask = {.max = RECEIVE_HAS(max) ? (uint32_t)in->max : 1,
                              .visibility_ms = RECEIVE_HAS(visibility_ms) ? in->visibility_ms : -1};
    buf_add(&item, &ask, sizeof ask);
    buf_add_bytes(&item, in->group);
    st->item = keep(s, &item);
    st->until_ms = s->now_ms + in->wait_ms;
    st->shard = st->first = client_some_shard(s);
    if (in->wait_ms > 0) {
        script_watch(s, topic_watch_id(in->topic));
    }
    return OK;
}

/* The group, as this replica knows it. ERR_NOT_FOUND. */
static enum err look_at_group(struct script *s, unsigned shard, struct bytes topic, struct bytes group,
                              uint64_t *out_tid, uint32_t *out_gid, struct topic_state *out_topic,
                              struct group_state *out)
{
    struct rows *rows = script_rows(s, client_partition(s, shard));
    struct topic settings;
    struct bytes name;
    TRY(topic_find(rows, topic, &settings));
    *out_tid = (uint64_t)settings.tid;
    TRY(topic_state_find(rows, *out_tid, out_topic, &name));
    TRY(group_find_gid(rows, *out_tid, group, out_gid));
    return group_find(rows, *out_tid, *out_gid, out, &name);
}

enum err client_may_have(struct script *s, unsigned shard, struct bytes topic, struct bytes group, bool *out)
{
    struct topic_state state;
    struct group_state found;
    uint64_t tid;
    uint32_t gid;
    enum err err = look_at_group(s, shard, topic, group, &tid, &gid, &state, &found);
    *out = err != OK || (found.paused_until <= s->now_ms && (found.ready > 0 || found.passed < state.available));
    return err == ERR_NOT_FOUND ? OK : err;
}

enum err client_flying(struct script *s, unsigned shard, struct bytes topic, struct bytes group, uint64_t consumer,
                       uint64_t *out)
{
    struct topic_state state;
    struct group_state found;
    uint64_t tid;
    uint32_t gid;
    enum err err = look_at_group(s, shard, topic, group, &tid, &gid, &state, &found);
    *out = 0;
    if (err == OK) {
        err = consumer_flying(script_rows(s, client_partition(s, shard)), tid, gid, consumer, out);
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err may_have(struct script *s, bool *out)
{
    const struct receive_in *in = s->in;
    const struct client *st = s->state;
    return client_may_have(s, st->shard, in->topic, in->group, out);
}

/* Commands that would find nothing are not made; but who says so must know. */
static enum err receive_look(struct script *s)
{
    const struct client *st = s->state;
    bool may;
    TRY(may_have(s, &may));
    if (may) {
        script_goto(s, RECEIVE_ASK);
        return OK;
    }
    if (st->rung) {
        script_goto(s, RECEIVE_NEXT); /* it was rung: what this replica knows will do */
        return OK;
    }
    script_read(s, client_partition(s, st->shard));
    return OK;
}

static enum err receive_look_again(struct script *s)
{
    bool may;
    TRY(may_have(s, &may));
    if (!may) {
        script_goto(s, RECEIVE_NEXT);
    }
    return OK;
}

static enum err receive_ask(struct script *s)
{
    const struct client *st = s->state;
    script_join(s, KIND_QUEUE, QUEUE_DO_RECEIVE, client_address(s, st->shard), st->item);
    return OK;
}

static enum err receive_got(struct script *s)
{
    struct client *st = s->state;
    if (s->answer.body.len != sizeof st->received) {
        return ERR_INTERNAL;
    }
    memcpy(&st->received, s->answer.body.ptr, sizeof st->received);
    if (st->rung) {
        script_asked(s, topic_watch_id(topic_name(s)), st->received.id != 0);
    }
    if (st->received.id != 0) {
        script_applied(s, client_partition(s, st->shard), s->answer.index);
        return OK;
    }
    script_goto(s, st->received.more && st->tries++ < TRIES_MAX ? RECEIVE_ASK : RECEIVE_NEXT);
    return OK;
}

static enum err receive_deliver(struct script *s)
{
    const struct client *st = s->state;
    struct rows *rows = script_rows(s, client_partition(s, st->shard));
    TRY(client_deliver(s, rows, &st->received, client_partition(s, st->shard), DELIVER_LIST, &s->reply->body));
    script_goto(s, RECEIVE_ANSWER);
    return OK;
}

/* This shard has nothing: the next one, or, after all of them, whatever comes within the time. */
static enum err receive_next(struct script *s)
{
    struct client *st = s->state;
    st->shard = (st->shard + 1) % st->shards;
    if (st->shard != st->first) {
        script_goto(s, RECEIVE_LOOK);
    } else if (st->until_ms > s->now_ms && !s->draining) {
        script_goto(s, RECEIVE_WAIT);
    }
    return OK;
}

static enum err receive_answer(struct script *s)
{
    struct buf *out = &s->reply->body;
    s->reply->type = "application/json";
    if (out->len == 0) {
        buf_add_lit(out, "{\"messages\":[]}");
    }
    return script_done(s);
}

static enum err receive_wait(struct script *s)
{
    const struct client *st = s->state;
    script_wait(s, st->until_ms - s->now_ms);
    return OK;
}

static enum err receive_waited(struct script *s)
{
    struct client *st = s->state;
    st->rung = true;
    script_goto(s, s->rung && !s->draining ? RECEIVE_LOOK : RECEIVE_ANSWER);
    return OK;
}

const struct step receive_steps[] = {{"find", client_find, false},        {"begin", receive_begin, false},
                                     {"look", receive_look, false},       {"look_again", receive_look_again, false},
                                     {"ask", receive_ask, false},         {"got", receive_got, false},
                                     {"deliver", receive_deliver, false}, {"next", receive_next, false},
                                     {"answer", receive_answer, false},   {"wait", receive_wait, false},
                                     {"waited", receive_waited, false},   {0}};

/* ---- what is due ---- */

static enum err ring(struct script *s)
{
    const struct alarm_in *in = s->in;
    struct ring_ask ask = {0};
    FIELD_SET(ring_ask_fields, &ask, struct ring_ask, max, LIMIT_RING_ALONE);
    if (in->others > 0) {
        ask.max = in->others < LIMIT_RING_BESIDE ? LIMIT_RING_BESIDE / in->others : 1;
    }
    script_command(s, KIND_QUEUE, QUEUE_DO_RING, (struct address){in->partition, BYTES_LIT("times")}, &ask, false);
    return OK;
}

static enum err rung(struct script *s)
{
    const struct alarm_in *in = s->in;
    struct ring_done done = {0};
    TRY(field_unpack(ring_done_fields, buf_bytes(&s->answer.body), &done));
    *in->more = done.more;
    return OK;
}

const struct step ring_steps[] = {{"ring", ring, false}, {"rung", rung, false}, {0}};
