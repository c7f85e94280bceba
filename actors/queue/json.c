/* Messages as JSON, written straight from their rows. */
#include "actors/queue/client.h"
#include "node/base/json_text.h"
#include "node/base/text.h"
#include "node/base/when.h"
#include "node/codec/field_map.h"

void message_id_add(struct buf *out, unsigned partition, uint64_t id)
{
    buf_add_u64(out, partition);
    buf_add_char(out, '-');
    buf_add_u64(out, id);
}

bool message_id_parse(struct bytes text, unsigned *out_partition, uint64_t *out_id)
{
    uint64_t partition;
    const uint8_t *dash = text.len == 0 ? NULL : memchr(text.ptr, '-', text.len);
    size_t len = dash == NULL ? 0 : (size_t)(dash - text.ptr);
    if (dash == NULL || !text_parse_u64(bytes_of(text.ptr, len), &partition) || partition > ID_PARTITION_MAX ||
        !text_parse_u64(bytes_of(dash + 1, text.len - len - 1), out_id)) {
        return false;
    }
    *out_partition = (unsigned)partition;
    return true;
}

enum { WHEN_BYTES = 24 };

static void add_time(struct buf *out, const char *name, int64_t ms)
{
    char text[WHEN_BYTES];
    buf_add_char(out, ',');
    buf_add_char(out, '"');
    buf_add_str(out, name);
    buf_add_lit(out, "\":\"");
    when_format(ms, text);
    buf_add(out, text, sizeof text);
    buf_add_char(out, '"');
}

static void add_headers(struct buf *out, struct bytes packed)
{
    struct field_map map = field_map_of(packed);
    struct bytes name, value;
    const char *between = ",\"headers\":{";
    while (field_map_next(&map, &name, &value)) {
        buf_add_str(out, between);
        json_text_add(out, name);
        buf_add_char(out, ':');
        json_text_add(out, value);
        between = ",";
    }
    buf_add_lit(out, "}");
}

static void add_body(struct buf *out, const struct message *message)
{
    bool base64 = (message->flags & MESSAGE_BASE64) != 0;
    buf_add_lit(out, ",\"body\":");
    if (base64) {
        buf_add_char(out, '"');
        text_base64_add(out, message->body);
        buf_add_lit(out, "\",\"encoding\":\"base64\"");
        return;
    }
    json_text_add(out, message->body);
}

static void add_members(struct buf *out, unsigned partition, const struct message *message)
{
    buf_add_lit(out, "\"id\":\"");
    message_id_add(out, partition, message->id);
    buf_add_char(out, '"');
    add_body(out, message);
    if (message->key.len > 0) {
        buf_add_lit(out, ",\"key\":");
        json_text_add(out, message->key);
    }
    if (message->headers.len > 1) {
        add_headers(out, message->headers);
    }
    if (message->priority != PRIORITY_USUAL) {
        buf_add_lit(out, ",\"priority\":");
        buf_add_u64(out, message->priority);
    }
    add_time(out, "published_at", message->published_at);
    if (message->expires_at > 0) {
        add_time(out, "expires_at", message->expires_at);
    }
}

void json_message(struct buf *out, unsigned partition, const struct message *message, const struct dead *dead)
{
    buf_add_char(out, '{');
    add_members(out, partition, message);
    if (dead != NULL) {
        buf_add_lit(out, ",\"attempts\":");
        buf_add_u64(out, dead->attempts);
        buf_printf(out, ",\"reason\":\"%s\"", death_names[dead->reason]);
        add_time(out, "died_at", dead->at);
    }
    buf_add_char(out, '}');
}

static void delivered(struct buf *out, unsigned partition, const struct message *message,
                      const struct delivery_entry *entry, const struct received *received)
{
    struct receipt receipt = {partition, received->gid, received->smallest, received->id, entry->number};
    buf_add_char(out, '{');
    add_members(out, partition, message);
    buf_add_lit(out, ",\"attempt\":");
    buf_add_u64(out, entry->attempts);
    buf_add_lit(out, ",\"receipt\":\"");
    receipt_add(out, &receipt);
    buf_add_lit(out, "\"}");
}

enum err client_deliver(struct script *s, struct rows *rows, const struct received *received, unsigned partition,
                        enum deliver_form form, struct buf *out)
{
    const struct client *st = s->state;
    struct topic topic;
    struct delivery delivery;
    bool first = true, events = form == DELIVER_EVENTS;
    TRY(topic_find(rows, st->topic.name, &topic));
    enum err err =
        delivery_find(rows, s->arena, (uint64_t)topic.tid, received->gid, received->smallest, received->id, &delivery);
    if (err == ERR_NOT_FOUND) {
        return OK; /* its lease is over already: somebody else gets them */
    }
    TRY(err);
    buf_add_str(out, events ? "" : "{\"messages\":[");
    for (size_t i = 0; i < delivery.len; i++) {
        struct queue_key key = message_key((uint64_t)topic.tid, delivery.entries[i].number);
        struct bytes row;
        struct message message;
        err = rows_get(rows, TABLE_MESSAGE, key_of(&key), &row);
        if (err == ERR_NOT_FOUND) {
            continue; /* retention has taken it */
        }
        TRY(err);
        TRY(message_read(row, &message));
        buf_add_str(out, events ? "event: message\ndata: " : first ? "" : ",");
        first = false;
        delivered(out, partition, &message, &delivery.entries[i], received);
        buf_add_str(out, events ? "\n\n" : "");
    }
    buf_add_str(out, events ? "" : "]}");
    return OK;
}
