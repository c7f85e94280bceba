/* Bodies of group messages are field tables, one a type; the tags mean the same in all of them. Entries
 * are one blob, each term (8, little endian) | kind (1) | length (4) | payload; their indexes follow from
 * the message's. */
#include "cluster/wire.h"

#include <stdlib.h>

#include "node/codec/field.h"

enum { MESSAGE_HEAD = 5, ENTRY_HEAD = 13 };

static void put_le(uint8_t *to, size_t size, uint64_t value)
{
    for (size_t i = 0; i < size; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint64_t get_le(const uint8_t *from, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++) {
        value |= (uint64_t)from[i] << (8 * i);
    }
    return value;
}

static struct bytes after(struct bytes bytes, size_t len)
{
    return bytes_of(bytes.ptr + len, bytes.len - len);
}

/* ---- frames ---- */

void wire_add(struct buf *frame, uint8_t type, struct bytes body)
{
    CHECK(body.len <= UINT32_MAX);
    uint8_t head[MESSAGE_HEAD] = {type};
    put_le(head + 1, 4, body.len);
    buf_add(frame, head, sizeof head);
    buf_add_bytes(frame, body);
}

enum err wire_next(struct bytes *frame, uint8_t *out_type, struct bytes *out_body)
{
    if (frame->len == 0) {
        return ERR_NOT_FOUND;
    }
    if (frame->len < MESSAGE_HEAD || get_le(frame->ptr + 1, 4) > frame->len - MESSAGE_HEAD) {
        return ERR_CORRUPT;
    }
    *out_type = frame->ptr[0];
    *out_body = bytes_of(frame->ptr + MESSAGE_HEAD, (size_t)get_le(frame->ptr + 1, 4));
    *frame = after(*frame, MESSAGE_HEAD + out_body->len);
    return OK;
}

/* ---- tables ---- */

/* Unsigned numbers stand as their bits: replicas may have any but zero, the others end at NUMBER_MAX. */
struct body {
    struct fieldset set;
    int64_t group, type, from, to, term, index, index_term, commit, rejected, stamp_ns, entries_len;
    int64_t configuration_index;
    bool granted, pre_vote, disrupt;
    struct bytes entries, configuration;
};

#define NUMBER_MAX ((1LL << 62) - 1) /* sums of two cannot overflow */
#define NUMBER(tag, member, min_) FIELD_INT(tag, body, member, min_, NUMBER_MAX, FIELD_REQUIRED)
#define FLAG(tag, member) FIELD_BOOL(tag, body, member, FIELD_REQUIRED)
/* What every message has; the type tells the table of the whole. */
#define HEAD                                                                           \
    FIELD_INT(1, body, group, 0, WIRE_GROUP_MAX, FIELD_REQUIRED),                      \
        FIELD_INT(2, body, type, MESSAGE_APPEND, MESSAGE_TIMEOUT_NOW, FIELD_REQUIRED), \
        FIELD_INT(3, body, from, INT64_MIN, INT64_MAX, FIELD_REQUIRED),                \
        FIELD_INT(4, body, to, INT64_MIN, INT64_MAX, FIELD_REQUIRED), NUMBER(5, term, 1)

static const struct field head_fields[] = {HEAD, FIELDS_END};
static const struct field append_fields[] = {HEAD,
                                             NUMBER(6, index, 0),
                                             NUMBER(7, index_term, 0),
                                             NUMBER(8, commit, 0),
                                             NUMBER(10, stamp_ns, 0),
                                             FIELD_INT(14, body, entries_len, 0, WIRE_ENTRIES_MAX, FIELD_REQUIRED),
                                             FIELD_BLOB(15, body, entries, UINT32_MAX),
                                             FIELDS_END};
static const struct field append_result_fields[] = {HEAD, NUMBER(6, index, 0), NUMBER(9, rejected, 0),
                                                    NUMBER(10, stamp_ns, 0), FIELDS_END};
static const struct field vote_fields[] = {
    HEAD, NUMBER(6, index, 0), NUMBER(7, index_term, 0), FLAG(12, pre_vote), FLAG(13, disrupt), FIELDS_END};
static const struct field vote_result_fields[] = {HEAD, FLAG(11, granted), FLAG(12, pre_vote), FIELDS_END};
static const struct field install_fields[] = {HEAD,
                                              NUMBER(6, index, 1),
                                              NUMBER(7, index_term, 1),
                                              NUMBER(10, stamp_ns, 0),
                                              FIELD_BLOB(16, body, configuration, WIRE_CONFIGURATION_BYTES),
                                              NUMBER(17, configuration_index, 0),
                                              FIELDS_END};
static const struct field timeout_now_fields[] = {HEAD, NUMBER(6, index, 0), NUMBER(7, index_term, 0),
                                                  NUMBER(10, stamp_ns, 0), FIELDS_END};

static const struct field *const tables[] = {
    [MESSAGE_APPEND] = append_fields,   [MESSAGE_APPEND_RESULT] = append_result_fields,
    [MESSAGE_VOTE] = vote_fields,       [MESSAGE_VOTE_RESULT] = vote_result_fields,
    [MESSAGE_INSTALL] = install_fields, [MESSAGE_TIMEOUT_NOW] = timeout_now_fields};

/* None of a table may be missing. */
static uint64_t all_of(const struct field *fields)
{
    size_t len = 0;
    while (fields[len].name != NULL) {
        len++;
    }
    return field_bit(len) - 1;
}

static bool in_range(const struct field *field, const struct body *body)
{
    const void *at = (const char *)body + field->offset;
    if (field->type == TYPE_INT) {
        int64_t number = *(const int64_t *)at;
        return number >= field->min && number <= field->max;
    }
    return field->type != TYPE_BYTES || ((const struct bytes *)at)->len <= (uint64_t)field->max;
}

static bool is_whole(const struct field *fields, const struct body *body)
{
    for (size_t i = 0; fields[i].name != NULL; i++) {
        if (!in_range(&fields[i], body)) {
            return false;
        }
    }
    return body->set.has == all_of(fields) && body->set.null == 0;
}

/* What holds between the numbers. Those a type does not have are zero. */
static bool is_sound(const struct body *body)
{
    bool is_result = body->type == MESSAGE_APPEND_RESULT || body->type == MESSAGE_VOTE_RESULT;
    return body->from != 0 && body->to != 0 && (is_result || (body->index == 0) == (body->index_term == 0)) &&
           body->index_term <= body->term && body->entries_len <= NUMBER_MAX - body->index &&
           body->configuration_index <= body->index;
}

/* ---- entries ---- */

static void add_entry(struct buf *out, const struct group_entry *entry)
{
    CHECK(entry->payload.len <= UINT32_MAX);
    uint8_t head[ENTRY_HEAD];
    put_le(head, 8, entry->term);
    head[8] = entry->kind;
    put_le(head + 9, 4, entry->payload.len);
    buf_add(out, head, sizeof head);
    buf_add_bytes(out, entry->payload);
}

static bool take_entry(struct bytes *left, struct group_entry *out)
{
    if (left->len < ENTRY_HEAD || get_le(left->ptr + 9, 4) > left->len - ENTRY_HEAD) {
        return false;
    }
    *out = (struct group_entry){.term = get_le(left->ptr, 8),
                                .kind = left->ptr[8],
                                .payload = bytes_of(left->ptr + ENTRY_HEAD, (size_t)get_le(left->ptr + 9, 4))};
    *left = after(*left, ENTRY_HEAD + out->payload.len);
    return true;
}

/* As many as said and no byte more; terms never fall, from that of the entry before to the message's. */
static bool are_entries_sound(const struct body *body)
{
    struct bytes left = body->entries;
    uint64_t term = body->index_term > 0 ? (uint64_t)body->index_term : 1;
    for (int64_t i = 0; i < body->entries_len; i++) {
        struct group_entry entry;
        if (!take_entry(&left, &entry) || entry.term < term || entry.term > (uint64_t)body->term ||
            entry.kind < ENTRY_COMMAND || entry.kind > ENTRY_CHANGE) {
            return false;
        }
        term = entry.term;
    }
    return left.len == 0;
}

static void copy_entries(const struct body *body, struct group_message *out)
{
    struct bytes left = body->entries;
    if (out->entries_len == 0) {
        return;
    }
    out->entries = mem_alloc((size_t)out->entries_len * sizeof *out->entries);
    for (uint64_t i = 0; i < out->entries_len; i++) {
        struct group_entry *entry = &out->entries[i];
        CHECK(take_entry(&left, entry));
        entry->index = out->index + 1 + i;
        entry->payload.ptr = mem_copy(entry->payload.ptr, entry->payload.len);
    }
}

/* ---- group messages ---- */

void wire_group_pack(struct buf *out, unsigned group, const struct group_message *message,
                     const struct group_entry *entries)
{
    CHECK(message->type >= MESSAGE_APPEND && message->type <= MESSAGE_TIMEOUT_NOW);
    CHECK(message->entries_len <= (message->type == MESSAGE_APPEND ? WIRE_ENTRIES_MAX : 0));
    const struct field *fields = tables[message->type];
    struct buf blob = {0};
    for (uint64_t i = 0; i < message->entries_len; i++) {
        CHECK(entries[i].index == message->index + 1 + i);
        add_entry(&blob, &entries[i]);
    }
    struct body body = {.set = {.has = all_of(fields)},
                        .group = group,
                        .type = message->type,
                        .from = (int64_t)message->from,
                        .to = (int64_t)message->to,
                        .term = (int64_t)message->term,
                        .index = (int64_t)message->index,
                        .index_term = (int64_t)message->index_term,
                        .commit = (int64_t)message->commit,
                        .rejected = (int64_t)message->rejected,
                        .stamp_ns = message->stamp_ns,
                        .granted = message->granted,
                        .pre_vote = message->pre_vote,
                        .disrupt = message->disrupt,
                        .entries_len = (int64_t)message->entries_len,
                        .entries = buf_bytes(&blob),
                        .configuration = message->configuration,
                        .configuration_index = (int64_t)message->configuration_index};
    /* What a peer would refuse is found where it went wrong. */
    CHECK(is_whole(fields, &body) && is_sound(&body) && are_entries_sound(&body));
    field_pack(out, fields, &body);
    buf_free(&blob);
}

static enum err unpack_body(struct bytes packed, struct body *out)
{
    struct body head = {0};
    TRY(field_unpack(head_fields, packed, &head));
    if (!is_whole(head_fields, &head)) {
        return ERR_CORRUPT;
    }
    const struct field *fields = tables[head.type];
    *out = (struct body){0};
    TRY(field_unpack(fields, packed, out));
    return is_whole(fields, out) && is_sound(out) && are_entries_sound(out) ? OK : ERR_CORRUPT;
}

enum err wire_group_unpack(struct bytes body_, unsigned *out_group, struct group_message *out)
{
    struct body body;
    *out = (struct group_message){0};
    TRY(unpack_body(body_, &body));
    *out_group = (unsigned)body.group;
    *out = (struct group_message){.type = (uint8_t)body.type,
                                  .from = (uint64_t)body.from,
                                  .to = (uint64_t)body.to,
                                  .term = (uint64_t)body.term,
                                  .index = (uint64_t)body.index,
                                  .index_term = (uint64_t)body.index_term,
                                  .commit = (uint64_t)body.commit,
                                  .rejected = (uint64_t)body.rejected,
                                  .stamp_ns = body.stamp_ns,
                                  .granted = body.granted,
                                  .pre_vote = body.pre_vote,
                                  .disrupt = body.disrupt,
                                  .entries_len = (uint64_t)body.entries_len,
                                  .configuration = body.configuration,
                                  .configuration_index = (uint64_t)body.configuration_index};
    copy_entries(&body, out);
    return OK;
}

void wire_group_free(struct group_message *message)
{
    for (uint64_t i = 0; message->entries != NULL && i < message->entries_len; i++) {
        free((void *)(uintptr_t)message->entries[i].payload.ptr);
    }
    free(message->entries);
    message->entries = NULL;
}
