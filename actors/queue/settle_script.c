/* Acknowledging, refusing, keeping for longer: the scripts. Messages with destinations take a second round, in which
 * it is said where they go on to. */
#include "actors/join.h"
#include "actors/queue/client.h"
#include "actors/queue/slip.h"
#include "node/base/text.h"
#include "node/codec/field_map.h"
#include "node/limits.h"

enum { SETTLE_SEND = 2, SETTLE_ANSWER = 4, SLIP_READ = 5, SLIP_ROUNDS = 2000, SLIP_ROOM = 3 * LIMIT_MESSAGE_BYTES };

static struct bytes keep(struct script *s, struct buf *buf)
{
    struct bytes out = arena_copy(s->arena, buf_bytes(buf));
    buf_free(buf);
    return out;
}

static enum err refuse(struct script *s, const char *pointer, const char *code, const char *why)
{
    return reply_invalid(s->reply, pointer, code, why);
}

static void settle_room(struct script *s, size_t len)
{
    struct settle_state *st = s->state;
    st->receipts = arena_zalloc(s->arena, len * sizeof *st->receipts);
    st->results = arena_zalloc(s->arena, len);
    st->acks = arena_zalloc(s->arena, len * sizeof *st->acks);
    st->len = len;
}

static enum err take_receipt(struct script *s, size_t at, struct bytes text, const char *pointer)
{
    struct settle_state *st = s->state;
    return receipt_parse(text, &st->receipts[at])
               ? OK
               : refuse(s, pointer, "not_a_receipt", "One of them was never given out");
}

static enum err take_receipts(struct script *s, struct bytes receipts)
{
    struct bytes *texts;
    size_t len;
    TRY(field_strings(receipts, s->arena, &texts, &len));
    if (len == 0 || len > LIMIT_BATCH) {
        return refuse(s, "/receipts", "out_of_range", "1 to 1000 receipts");
    }
    settle_room(s, len);
    for (size_t i = 0; i < len; i++) {
        TRY(take_receipt(s, i, texts[i], "/receipts"));
    }
    return OK;
}

/* Acknowledgements that say how the message goes on. */
static enum err take_acks(struct script *s, struct bytes acks)
{
    struct settle_state *st = s->state;
    struct bytes rest = acks, item;
    size_t len = 0;
    while (field_objects_next(&rest, &item)) {
        len++;
    }
    settle_room(s, len);
    rest = acks;
    for (size_t i = 0; field_objects_next(&rest, &item); i++) {
        TRY(field_unpack(ack_one_fields, item, &st->acks[i]));
        TRY(take_receipt(s, i, st->acks[i].receipt, "/acks"));
    }
    return OK;
}

static enum err settle_begin(struct script *s)
{
    const struct settle_in *in = s->in;
    TRY(client_found(s));
    if ((in->receipts.len > 0) == (in->acks.len > 0)) {
        return refuse(s, "/receipts", "required", "Either receipts or acks");
    }
    return in->acks.len > 0 ? take_acks(s, in->acks) : take_receipts(s, in->receipts);
}

static bool is_here(struct script *s, size_t at)
{
    struct settle_state *st = s->state;
    return st->receipts[at].partition == client_partition(s, st->client.shard);
}

static void add_one(struct buf *item, const struct receipt *receipt, unsigned target, struct bytes image)
{
    struct settle_one one = {.gid = receipt->gid,
                             .target = target,
                             .image_len = (uint32_t)image.len,
                             .smallest = receipt->smallest,
                             .id = receipt->id,
                             .number = receipt->number};
    buf_add(item, &one, sizeof one);
    buf_add_bytes(item, image);
}

static size_t begin_item(struct script *s, enum settle_verb verb, int64_t ms, struct buf *item)
{
    const struct group_in *in = s->in;
    struct settle_ask ask = {.verb = (uint32_t)verb, .name_len = (uint32_t)in->group.len, .ms = ms, .priority = -1};
    item->len = 0;
    buf_add(item, &ask, sizeof ask);
    buf_add_bytes(item, in->group);
    return item->len;
}

/* What goes to the shard at hand; a receipt of no shard is gone. */
static enum err settle_send(struct script *s, enum settle_verb verb, int64_t ms)
{
    struct settle_state *st = s->state;
    struct client *client = &st->client;
    struct buf item = {0};
    size_t head = begin_item(s, verb, ms, &item);
    for (; client->shard < client->shards && item.len <= head; client->shard += item.len <= head) {
        for (size_t i = 0; i < st->len; i++) {
            if (is_here(s, i)) {
                add_one(&item, &st->receipts[i], 0, BYTES_NONE);
            }
        }
    }
    bool any = item.len > head;
    client->item = keep(s, &item);
    if (any) {
        script_join(s, KIND_QUEUE, QUEUE_DO_SETTLE, client_address(s, client->shard), client->item);
    } else {
        script_goto(s, SETTLE_ANSWER);
    }
    return OK;
}

static enum err ack_send(struct script *s)
{
    return settle_send(s, SETTLE_ACK, 0);
}

static enum err nack_send(struct script *s)
{
    const struct settle_in *in = s->in;
    return settle_send(s, SETTLE_NACK, in->delay_ms);
}

static enum err extend_send(struct script *s)
{
    const struct settle_in *in = s->in;
    bool given = FIELD_HAS(extend_in_fields, in, struct settle_in, visibility_ms);
    return settle_send(s, SETTLE_EXTEND, given ? in->visibility_ms : -1);
}

static enum err settle_sent(struct script *s)
{
    struct settle_state *st = s->state;
    size_t at = 0;
    for (size_t i = 0; i < st->len; i++) {
        if (!is_here(s, i)) {
            continue;
        }
        if (at == s->answer.body.len) {
            return ERR_INTERNAL;
        }
        st->results[i] = s->answer.body.ptr[at++];
        st->slips += st->results[i] == SETTLED_SLIP;
    }
    if (++st->client.shard < st->client.shards) {
        script_goto(s, SETTLE_SEND);
    }
    return OK;
}

static enum err settle_answer(struct script *s)
{
    const struct settle_state *st = s->state;
    struct buf *out = &s->reply->body;
    if (st->slips > 0) {
        script_goto(s, SLIP_READ);
        return OK;
    }
    if (st->ok != NULL) {
        buf_add_str(out, st->results[0] == SETTLED_OK ? st->ok : st->gone);
        return script_done(s);
    }
    s->reply->type = "application/json";
    buf_add_lit(out, "{\"results\":[");
    for (size_t i = 0; i < st->len; i++) {
        buf_add_str(out, i > 0 ? "," : "");
        buf_add_str(out, st->results[i] == SETTLED_OK ? "\"ok\"" : "\"gone\"");
    }
    buf_add_lit(out, "]}");
    return script_done(s);
}

/* ---- messages with destinations ---- */

/* Where they go on to may be new: all partitions are asked. */
static enum err slip_read_all(struct script *s)
{
    script_read(s, SCRIPT_ALL_PARTITIONS);
    return OK;
}

static enum err resolve(struct script *s, struct bytes name, const struct message *message, unsigned *out)
{
    unsigned home = partition_of_name(name, s->partitions);
    struct topic topic;
    enum err err = topic_find(script_rows(s, home), name, &topic);
    uint64_t shard = 0;
    if (err == OK && message->key_hash != 0) {
        shard = message->key_hash % (uint64_t)topic.partitions;
    }
    *out = err == OK ? (unsigned)((home - 1 + shard) % s->partitions + 1) : SLIP_NOWHERE;
    return err == ERR_NOT_FOUND ? OK : err;
}

/* Headers of the acknowledgement replace those of the same name. */
static void merge_headers(struct script *s, const struct ack_one *ack, struct message *message)
{
    static const struct field any = {.max = LIMIT_MESSAGE_HEADERS, .flags = FIELD_TEXT};
    struct field_map_draft draft = {0};
    struct field_map first = field_map_of(ack->headers), second = field_map_of(message->headers);
    struct bytes name, value;
    enum map_fault fault = MAP_GOOD;
    while (field_map_next(&first, &name, &value) && fault != MAP_FULL) {
        fault = field_map_add(&draft, &any, name, value);
    }
    while (field_map_next(&second, &name, &value) && fault != MAP_FULL) {
        fault = field_map_add(&draft, &any, name, value); /* one that is there already is not added */
    }
    message->headers = field_map_end(&draft, s->arena);
}

#define ACK_HAS(ack, member) FIELD_HAS(ack_one_fields, ack, struct ack_one, member)

static enum err change_body(struct script *s, const struct ack_one *ack, struct message *message)
{
    if (!ACK_HAS(ack, body)) {
        return OK;
    }
    message->body = ack->body;
    message->flags &= (uint8_t)~MESSAGE_BASE64;
    if (ACK_HAS(ack, encoding) && ack->encoding == 1) {
        size_t len, cap = ack->body.len / 4 * 3 + 3;
        uint8_t *raw = arena_alloc(s->arena, cap);
        if (!text_base64_decode(ack->body, raw, cap, &len)) {
            return refuse(s, "/acks", "not_base64", "A body is not base64 (RFC 4648 section 4)");
        }
        message->body = bytes_of(raw, len);
        message->flags |= MESSAGE_BASE64;
    }
    return message->body.len <= LIMIT_MESSAGE_BYTES ? OK : refuse(s, "/acks", "too_long", "A message may have 1 MiB");
}

/* The message as it goes on, and where to. */
static enum err add_slip(struct script *s, size_t at, struct buf *item)
{
    struct settle_state *st = s->state;
    struct rows *rows = script_rows(s, client_partition(s, st->client.shard));
    struct topic topic;
    struct message message;
    struct slip_publisher publisher;
    struct bytes row, *names;
    struct buf image = {0};
    unsigned target;
    size_t len;
    TRY(topic_find(rows, st->client.topic.name, &topic));
    struct queue_key key = message_key((uint64_t)topic.tid, st->receipts[at].number);
    enum err err = rows_get(rows, TABLE_MESSAGE, key_of(&key), &row);
    if (err == ERR_NOT_FOUND) { /* retention has taken it */
        add_one(item, &st->receipts[at], 0, BYTES_NONE);
        return OK;
    }
    TRY(err);
    TRY(message_read(row, &message)); /* good until the next step */
    TRY(slip_read(message.destinations, s->arena, &publisher, &names, &len));
    TRY(len > 0 ? OK : ERR_CORRUPT);
    TRY(resolve(s, names[0], &message, &target));
    TRY(change_body(s, &st->acks[at], &message));
    if (ACK_HAS(&st->acks[at], headers)) {
        merge_headers(s, &st->acks[at], &message);
    }
    message_add(&image, &message);
    add_one(item, &st->receipts[at], target, buf_bytes(&image));
    buf_free(&image);
    return OK;
}

/* A round's item takes the place of the one before, which was answered. */
static struct bytes reuse(struct script *s, struct buf *item)
{
    struct settle_state *st = s->state;
    if (item->len > st->room_len) {
        st->room_len = item->len > SLIP_ROOM ? item->len : SLIP_ROOM;
        st->room = arena_alloc(s->arena, st->room_len);
    }
    memcpy(st->room, item->ptr, item->len);
    struct bytes out = bytes_of(st->room, item->len);
    buf_free(item);
    return out;
}

/* As many as fit into a command, of one shard. */
static enum err slip_send(struct script *s)
{
    struct settle_state *st = s->state;
    struct client *client = &st->client;
    struct buf item = {0};
    size_t head = begin_item(s, SETTLE_ACK, 0, &item);
    st->sent = arena_zalloc(s->arena, st->len);
    for (client->shard = 0; client->shard < client->shards && item.len <= head; client->shard += item.len <= head) {
        size_t count = 0;
        for (size_t i = 0; i < st->len && count < LIMIT_SLIPS && item.len < LIMIT_MESSAGE_BYTES; i++) {
            if (st->results[i] == SETTLED_SLIP && is_here(s, i)) {
                enum err err = add_slip(s, i, &item);
                if (err != OK) {
                    buf_free(&item);
                    return err;
                }
                st->sent[i] = 1;
                count++;
            }
        }
    }
    client->item = reuse(s, &item);
    if (client->shard == client->shards || ++client->tries > SLIP_ROUNDS) {
        return ERR_OVERLOADED;
    }
    script_join(s, KIND_QUEUE, QUEUE_DO_SETTLE, client_address(s, client->shard), client->item);
    return OK;
}

static enum err slip_sent(struct script *s)
{
    struct settle_state *st = s->state;
    size_t at = 0;
    for (size_t i = 0; i < st->len; i++) {
        if (st->sent[i] != 0 && at < s->answer.body.len) {
            st->results[i] = s->answer.body.ptr[at++];
            st->slips -= st->results[i] != SETTLED_SLIP;
        }
    }
    script_goto(s, SETTLE_ANSWER);
    return OK;
}

#define SETTLE_STEPS(send)                                                                                       \
    {                                                                                                            \
        {"find", client_find, false}, {"begin", settle_begin, false}, {"send", send, false},                     \
            {"sent", settle_sent, false}, {"answer", settle_answer, false}, {"slip_read", slip_read_all, false}, \
            {"slip_send", slip_send, false}, {"slip_sent", slip_sent, false},                                    \
        {                                                                                                        \
            0                                                                                                    \
        }                                                                                                        \
    }
const struct step ack_steps[] = SETTLE_STEPS(ack_send);
const struct step nack_steps[] = SETTLE_STEPS(nack_send);
const struct step extend_steps[] = SETTLE_STEPS(extend_send);
