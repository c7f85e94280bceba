#include "actors/queue/delivery.h"

struct head {
    uint64_t consumer;
    int64_t next;
};
_Static_assert(sizeof(struct delivery_entry) == 32 && sizeof(struct head) == 16, "no padding");

static struct queue_key delivery_key(uint64_t tid, uint32_t gid, uint64_t smallest, uint64_t id)
{
    struct queue_key key = group_key(tid, gid, ROW_DELIVERY);
    key_u64_add(&key, smallest);
    key_u64_add(&key, id);
    return key;
}

int64_t delivery_next(struct bytes row)
{
    struct head head = {0};
    memcpy(&head, row.ptr, row.len < sizeof head ? 0 : sizeof head);
    return head.next;
}

/* The row, and everything but the entries. */
static enum err find_row(struct rows *rows, uint64_t tid, uint32_t gid, uint64_t smallest, uint64_t id,
                         struct delivery *out, struct bytes *out_entries)
{
    struct queue_key key = delivery_key(tid, gid, smallest, id);
    struct bytes value;
    struct head head;
    TRY(rows_get(rows, TABLE_GROUP, key_of(&key), &value));
    if (value.len <= sizeof head || (value.len - sizeof head) % sizeof(struct delivery_entry) != 0) {
        return ERR_CORRUPT;
    }
    memcpy(&head, value.ptr, sizeof head);
    *out_entries = bytes_of(value.ptr + sizeof head, value.len - sizeof head);
    *out = (struct delivery){.smallest = smallest, .id = id, .consumer = head.consumer, .next = head.next};
    out->len = out->before = out_entries->len / sizeof(struct delivery_entry);
    return OK;
}

enum err delivery_find(struct rows *rows, struct arena *arena, uint64_t tid, uint32_t gid, uint64_t smallest,
                       uint64_t id, struct delivery *out)
{
    struct bytes entries;
    TRY(find_row(rows, tid, gid, smallest, id, out, &entries));
    out->entries = arena_alloc(arena, entries.len);
    memcpy(out->entries, entries.ptr, entries.len);
    return OK;
}

struct delivery_entry *delivery_room(struct queue *queue, size_t len)
{
    if (len > queue->entries_cap) {
        queue->entries_cap = len > 2 * queue->entries_cap ? len : 2 * queue->entries_cap;
        queue->entries = arena_alloc(queue->turn->arena, queue->entries_cap * sizeof *queue->entries);
    }
    return queue->entries;
}

enum err delivery_open(struct queue *queue, uint32_t gid, uint64_t smallest, uint64_t id, struct delivery *out)
{
    struct bytes entries;
    TRY(find_row(queue->rows, queue->tid, gid, smallest, id, out, &entries));
    out->entries = delivery_room(queue, out->len);
    memcpy(out->entries, entries.ptr, entries.len);
    return OK;
}

static struct queue_key lease_key(const struct queue *queue, const struct group *group, const struct delivery *delivery)
{
    struct queue_key key = time_key(delivery->next, TIME_LEASE, queue->tid);
    key_u32(&key, group->gid);
    key_u64_add(&key, delivery->smallest);
    key_u64_add(&key, delivery->id);
    return key;
}

static int64_t first_deadline(const struct delivery *delivery)
{
    int64_t first = INT64_MAX;
    for (size_t i = 0; i < delivery->len; i++) {
        first = delivery->entries[i].deadline < first ? delivery->entries[i].deadline : first;
    }
    return first;
}

static enum err put(struct queue *queue, struct group *group, const struct delivery *delivery)
{
    struct queue_key key = delivery_key(queue->tid, group->gid, delivery->smallest, delivery->id);
    struct head head = {delivery->consumer, delivery->next};
    struct buf value = {0};
    buf_add(&value, &head, sizeof head);
    buf_add(&value, delivery->entries, delivery->len * sizeof *delivery->entries);
    enum err err = rows_put(queue->rows, TABLE_GROUP, key_of(&key), buf_bytes(&value));
    buf_free(&value);
    return err;
}

static enum err put_with_time(struct queue *queue, struct group *group, struct delivery *delivery)
{
    delivery->next = first_deadline(delivery);
    struct queue_key lease = lease_key(queue, group, delivery);
    TRY(put(queue, group, delivery));
    return rows_put(queue->rows, TABLE_QUEUE_TIME, key_of(&lease), BYTES_NONE);
}

enum err delivery_put_new(struct queue *queue, struct group *group, struct delivery *delivery)
{
    delivery->before = delivery->len;
    TRY(consumer_count(queue, group, delivery->consumer, (int64_t)delivery->len));
    return put_with_time(queue, group, delivery);
}

enum err delivery_update(struct queue *queue, struct group *group, struct delivery *delivery)
{
    struct queue_key key = delivery_key(queue->tid, group->gid, delivery->smallest, delivery->id);
    struct queue_key lease = lease_key(queue, group, delivery);
    int64_t next = first_deadline(delivery);
    TRY(consumer_count(queue, group, delivery->consumer, (int64_t)delivery->len - (int64_t)delivery->before));
    if (next == delivery->next && delivery->len > 0) {
        return put(queue, group, delivery);
    }
    TRY(rows_del(queue->rows, TABLE_QUEUE_TIME, key_of(&lease)));
    return delivery->len == 0 ? rows_del(queue->rows, TABLE_GROUP, key_of(&key))
                              : put_with_time(queue, group, delivery);
}

/* ---- consumers ---- */

static struct queue_key consumer_key(uint64_t tid, uint32_t gid, uint64_t consumer)
{
    struct queue_key key = group_key(tid, gid, ROW_CONSUMER);
    key_u64_add(&key, consumer);
    return key;
}

enum err consumer_flying(struct rows *rows, uint64_t tid, uint32_t gid, uint64_t consumer, uint64_t *out)
{
    struct queue_key key = consumer_key(tid, gid, consumer);
    struct bytes value;
    TRY(rows_get(rows, TABLE_GROUP, key_of(&key), &value));
    if (value.len != sizeof *out) {
        return ERR_CORRUPT;
    }
    memcpy(out, value.ptr, sizeof *out);
    return OK;
}

enum err consumer_count(struct queue *queue, struct group *group, uint64_t consumer, int64_t by)
{
    struct queue_key key = consumer_key(queue->tid, group->gid, consumer);
    uint64_t count = 0;
    if (consumer == 0 || by == 0) {
        return OK;
    }
    enum err err = consumer_flying(queue->rows, queue->tid, group->gid, consumer, &count);
    TRY(err == ERR_NOT_FOUND ? OK : err);
    count += (uint64_t)by;
    queue->touched = queue->touched || by < 0;
    return count == 0 ? rows_del(queue->rows, TABLE_GROUP, key_of(&key))
                      : rows_put(queue->rows, TABLE_GROUP, key_of(&key), bytes_of(&count, sizeof count));
}

/* ---- receipts ---- */

void receipt_add(struct buf *out, const struct receipt *receipt)
{
    buf_printf(out, "%x-%x-%llx-%llx-%llx", receipt->partition, receipt->gid, (unsigned long long)receipt->smallest,
               (unsigned long long)receipt->id, (unsigned long long)(receipt->number - receipt->smallest));
}

static int digit_of(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One number, and the dash behind it. */
static bool take_hex(struct bytes *text, bool last, uint64_t max, uint64_t *out)
{
    size_t i = 0;
    uint64_t value = 0;
    for (; i < text->len && digit_of(text->ptr[i]) >= 0; i++) {
        if (i == 16) {
            return false;
        }
        value = value << 4 | (uint64_t)digit_of(text->ptr[i]);
    }
    bool ends = last ? i == text->len : i < text->len && text->ptr[i] == '-';
    *text = bytes_of(text->ptr + i + !last, ends ? text->len - i - !last : 0);
    *out = value;
    return i > 0 && ends && value <= max;
}

bool receipt_parse(struct bytes text, struct receipt *out)
{
    uint64_t partition, gid, offset;
    if (!take_hex(&text, false, ID_PARTITION_MAX, &partition) || !take_hex(&text, false, UINT32_MAX, &gid) ||
        !take_hex(&text, false, UINT64_MAX, &out->smallest) || !take_hex(&text, false, UINT64_MAX, &out->id) ||
        !take_hex(&text, true, UINT64_MAX, &offset)) {
        return false;
    }
    out->partition = (unsigned)partition;
    out->gid = (uint32_t)gid;
    out->number = out->smallest + offset;
    return out->number >= out->smallest;
}
