#include "node/install.h"

#include <stdlib.h>

#include "node/codec/field.h"
#include "node/install_wire.h"

static const struct field chunk_fields[] = {FIELD_INT(1, install_chunk, partition, 0, UINT16_MAX, 0),
                                            FIELD_INT(2, install_chunk, id, 0, INT64_MAX, 0),
                                            FIELD_INT(3, install_chunk, number, 0, INT64_MAX, 0),
                                            FIELD_BOOL(4, install_chunk, last, 0),
                                            FIELD_BLOB(5, install_chunk, rows, 0),
                                            FIELD_BLOB(6, install_chunk, head, 0),
                                            FIELDS_END};

/* Of the head: numbers that may use all 64 bits are sent as their bytes. */
struct head_message {
    struct fieldset set;
    int64_t term, applied_index, applied_term, stamped_ms, stamped_index, configuration_index;
    struct bytes set_hash, counts, configuration;
};
static const struct field head_fields[] = {FIELD_INT(1, head_message, term, 1, INT64_MAX, 0),
                                           FIELD_INT(2, head_message, applied_index, 1, INT64_MAX, 0),
                                           FIELD_INT(3, head_message, applied_term, 1, INT64_MAX, 0),
                                           FIELD_INT(4, head_message, stamped_ms, 0, INT64_MAX, 0),
                                           FIELD_INT(5, head_message, stamped_index, 0, INT64_MAX, 0),
                                           FIELD_INT(6, head_message, configuration_index, 1, INT64_MAX, 0),
                                           FIELD_BLOB(7, head_message, set_hash, 8),
                                           FIELD_BLOB(8, head_message, counts, 8 * STATE_TABLES),
                                           FIELD_BLOB(9, head_message, configuration, 0),
                                           FIELDS_END};

/* ---- packing ---- */

static void pack_head(struct buf *out, const struct install_head *head)
{
    const struct state_partition *book = &head->book;
    struct head_message message = {.set.has = field_bit(9) - 1,
                                   .term = (int64_t)head->term,
                                   .applied_index = (int64_t)book->applied_index,
                                   .applied_term = (int64_t)book->applied_term,
                                   .stamped_ms = book->stamped_ms,
                                   .stamped_index = (int64_t)book->stamped_index,
                                   .configuration_index = (int64_t)head->configuration_index,
                                   .set_hash = bytes_of(&book->set_hash, sizeof book->set_hash),
                                   .counts = bytes_of(book->counts, sizeof book->counts),
                                   .configuration = head->configuration};
    field_pack(out, head_fields, &message);
}

void install_chunk_pack(struct buf *out, const struct install_chunk *chunk, const struct install_head *head)
{
    struct install_chunk copy = *chunk;
    struct buf packed = {0};
    copy.set.has = field_bit(6) - 1;
    if (head != NULL) {
        pack_head(&packed, head);
        copy.head = buf_bytes(&packed);
    }
    field_pack(out, chunk_fields, &copy);
    buf_free(&packed);
}

enum err install_chunk_unpack(struct bytes body, struct install_chunk *out)
{
    *out = (struct install_chunk){0};
    TRY(field_unpack(chunk_fields, body, out));
    return out->set.has == field_bit(6) - 1 ? OK : ERR_CORRUPT;
}

enum err install_head_unpack(struct bytes packed, struct install_head *out)
{
    struct head_message message = {0};
    *out = (struct install_head){0};
    TRY(field_unpack(head_fields, packed, &message));
    if (message.set.has != field_bit(9) - 1 || message.set_hash.len != sizeof out->book.set_hash ||
        message.counts.len != sizeof out->book.counts || message.term < 1 || message.applied_index < 1 ||
        message.applied_term < 1 || message.configuration_index < 1) {
        return ERR_CORRUPT;
    }
    out->term = (uint64_t)message.term;
    out->configuration_index = (uint64_t)message.configuration_index;
    out->configuration = message.configuration;
    out->book.applied_index = (uint64_t)message.applied_index;
    out->book.applied_term = (uint64_t)message.applied_term;
    out->book.stamped_ms = message.stamped_ms;
    out->book.stamped_index = (uint64_t)message.stamped_index;
    memcpy(&out->book.set_hash, message.set_hash.ptr, sizeof out->book.set_hash);
    memcpy(out->book.counts, message.counts.ptr, sizeof out->book.counts);
    return OK;
}

/* A row: table (1) | length of the key (2) | of the value (4) | key | value. */
enum { ROW_HEAD_BYTES = 7 };

void install_row_add(struct buf *rows, uint8_t table, struct bytes key, struct bytes value)
{
    uint16_t key_len = (uint16_t)key.len;
    uint32_t value_len = (uint32_t)value.len;
    buf_add(rows, &table, sizeof table);
    buf_add(rows, &key_len, sizeof key_len);
    buf_add(rows, &value_len, sizeof value_len);
    buf_add_bytes(rows, key);
    buf_add_bytes(rows, value);
}

enum err install_row_next(struct bytes *rows, uint8_t *table, struct bytes *key, struct bytes *value)
{
    uint16_t key_len;
    uint32_t value_len;
    if (rows->len == 0) {
        return ERR_NOT_FOUND;
    }
    if (rows->len < ROW_HEAD_BYTES) {
        return ERR_CORRUPT;
    }
    *table = rows->ptr[0];
    memcpy(&key_len, rows->ptr + 1, sizeof key_len);
    memcpy(&value_len, rows->ptr + 3, sizeof value_len);
    if (*table == 0 || *table >= STATE_TABLES || key_len > LIMIT_KEY_BYTES ||
        rows->len - ROW_HEAD_BYTES < (size_t)key_len + value_len) {
        return ERR_CORRUPT;
    }
    *key = bytes_of(rows->ptr + ROW_HEAD_BYTES, key_len);
    *value = bytes_of(key->ptr + key_len, value_len);
    size_t used = ROW_HEAD_BYTES + (size_t)key_len + value_len;
    *rows = bytes_of(rows->ptr + used, rows->len - used);
    return OK;
}

/* ---- messages, brought to the partition's home ---- */

struct passed_chunk {
    struct message message;
    struct partition *partition;
    uint64_t from;
    void (*take)(struct partition *partition, uint64_t from, const struct install_chunk *message);
    struct buf body;
};

static void run_passed(struct worker *worker, struct message *message)
{
    struct passed_chunk *passed = container_of(message, struct passed_chunk, message);
    struct install_chunk chunk;
    (void)worker;
    CHECK(install_chunk_unpack(buf_bytes(&passed->body), &chunk) == OK);
    passed->take(passed->partition, passed->from, &chunk);
    buf_free(&passed->body);
    free(passed);
}

static void take(struct node_worker *worker, const struct link_hello *from, struct bytes body,
                 void (*run)(struct partition *partition, uint64_t from, const struct install_chunk *message))
{
    struct install_chunk chunk;
    if (install_chunk_unpack(body, &chunk) != OK || chunk.partition < 0 ||
        chunk.partition >= worker->node->partitions_len || chunk.number < 0 || chunk.id < 0) {
        return;
    }
    struct partition *partition = &worker->node->partitions[chunk.partition];
    if (partition->group == NULL) {
        return;
    }
    if (partition->home == worker) {
        run(partition, replica_of(from->node), &chunk);
        return;
    }
    struct passed_chunk *passed = mem_zalloc(sizeof *passed);
    passed->message.run = run_passed;
    passed->partition = partition;
    passed->from = replica_of(from->node);
    passed->take = run;
    buf_add_bytes(&passed->body, body);
    worker_post(&partition->home->worker, &passed->message);
}

void install_on_rows(struct node_worker *worker, const struct link_hello *from, struct bytes body)
{
    take(worker, from, body, install_take_rows);
}

void install_on_staged(struct node_worker *worker, const struct link_hello *from, struct bytes body)
{
    take(worker, from, body, install_staged);
}

void install_tend(struct partition *partition)
{
    install_tend_senders(partition);
    install_tend_receiver(partition);
}

void install_close(struct partition *partition)
{
    install_close_senders(partition);
    install_close_receiver(partition);
}
