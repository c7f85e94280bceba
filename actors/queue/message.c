#include "actors/queue/message.h"

#include "node/base/digest.h"

enum { FORMAT = 1 };

struct head {
    uint8_t format, flags;
    uint16_t key_len;
    uint32_t priority;
    int64_t published_at, available_at, expires_at;
    uint64_t id, key_hash, ordinal;
    uint32_t headers_len, destinations_len, body_len, lease_s;
};
_Static_assert(sizeof(struct head) == MESSAGE_HEAD_BYTES, "no padding");

void message_add(struct buf *out, const struct message *message)
{
    struct head head = {.format = FORMAT,
                        .flags = message->flags,
                        .key_len = (uint16_t)message->key.len,
                        .priority = message->priority,
                        .published_at = message->published_at,
                        .available_at = message->available_at,
                        .expires_at = message->expires_at,
                        .id = message->id,
                        .key_hash = message->key_hash,
                        .ordinal = message->ordinal,
                        .headers_len = (uint32_t)message->headers.len,
                        .destinations_len = (uint32_t)message->destinations.len,
                        .body_len = (uint32_t)message->body.len,
                        .lease_s = message->lease_s};
    buf_add(out, &head, sizeof head);
    buf_add_bytes(out, message->key);
    buf_add_bytes(out, message->headers);
    buf_add_bytes(out, message->destinations);
    buf_add_bytes(out, message->body);
}

enum err message_read(struct bytes row, struct message *out)
{
    struct head head;
    if (row.len < sizeof head) {
        return ERR_CORRUPT;
    }
    memcpy(&head, row.ptr, sizeof head);
    uint64_t parts = (uint64_t)head.key_len + head.headers_len + head.destinations_len + head.body_len;
    if (head.format != FORMAT || row.len - sizeof head != parts) {
        return ERR_CORRUPT;
    }
    const uint8_t *at = row.ptr + sizeof head;
    *out = (struct message){.flags = head.flags,
                            .priority = head.priority,
                            .published_at = head.published_at,
                            .available_at = head.available_at,
                            .expires_at = head.expires_at,
                            .lease_s = head.lease_s,
                            .id = head.id,
                            .key_hash = head.key_hash,
                            .ordinal = head.ordinal,
                            .key = bytes_of(at, head.key_len)};
    out->headers = bytes_of(at + head.key_len, head.headers_len);
    out->destinations = bytes_of(out->headers.ptr + head.headers_len, head.destinations_len);
    out->body = bytes_of(out->destinations.ptr + head.destinations_len, head.body_len);
    return OK;
}

uint64_t message_key_hash(struct bytes key)
{
    uint64_t hash;
    struct digest digest = digest_of(BYTES_LIT("key"), key);
    memcpy(&hash, digest.b, sizeof hash);
    return key.len == 0 ? 0 : hash == 0 ? 1 : hash;
}

void publish_add(struct buf *out, struct publish_head head, const struct message *message)
{
    head.len = (uint32_t)(MESSAGE_HEAD_BYTES + message->key.len + message->headers.len + message->destinations.len +
                          message->body.len);
    buf_add(out, &head, sizeof head);
    message_add(out, message);
}

bool publish_next(struct bytes *rest, struct publish_head *out_head, struct bytes *out_row)
{
    if (rest->len < sizeof *out_head) {
        return false;
    }
    memcpy(out_head, rest->ptr, sizeof *out_head);
    if (out_head->len > rest->len - sizeof *out_head) {
        return false;
    }
    *out_row = bytes_of(rest->ptr + sizeof *out_head, out_head->len);
    *rest = bytes_of(out_row->ptr + out_row->len, rest->len - sizeof *out_head - out_row->len);
    return true;
}

bool publish_check(struct bytes all)
{
    struct publish_head head;
    struct bytes row;
    struct message message;
    while (all.len > 0) {
        if (!publish_next(&all, &head, &row) || message_read(row, &message) != OK) {
            return false;
        }
    }
    return true;
}
