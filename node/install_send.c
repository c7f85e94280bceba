/* The leader's side: reads one snapshot of the partition, chunk by chunk. */
#include <stdlib.h>

#include "node/install.h"
#include "node/install_wire.h"
#include "node/peers.h"

enum {
    WINDOW = 8, /* chunks on their way */
    CHUNK_BYTES = 256 * 1024,
    AGAIN_MS = 1000, /* without an answer they are sent again */
    GIVE_UP_MS = 20000,
    SENDERS_MAX = 2 /* of one partition at a time */
};

struct install_sender {
    struct list link; /* in partition->senders */
    struct partition *partition;
    uint64_t to, term, id;
    uint64_t at_least; /* the entry the engine wants it to have */
    struct state_reader *reader;
    struct install_head head;
    struct buf configuration;
    uint8_t table; /* the next row is at or after this one */
    uint8_t from[LIMIT_KEY_BYTES + 1];
    size_t from_len;
    bool read_all;
    struct buf chunks[WINDOW]; /* made and not acknowledged: acked ... made - 1 */
    uint64_t acked, made;
    int64_t heard_ms, sent_ms;
};

static void sender_free(struct install_sender *sender)
{
    list_remove(&sender->link);
    state_reader_free(sender->reader);
    buf_free(&sender->configuration);
    for (unsigned i = 0; i < WINDOW; i++) {
        buf_free(&sender->chunks[i]);
    }
    free(sender);
}

static enum err read_head(struct install_sender *sender)
{
    struct partition *partition = sender->partition;
    struct install_head *head = &sender->head;
    struct bytes configuration;
    TRY(state_reader_new(partition->node->state, &sender->reader));
    TRY(state_reader_renew(sender->reader));
    TRY(state_reader_partition(sender->reader, partition->number, &head->book));
    TRY(apply_configuration(state_reader_rows(sender->reader, partition->number), &configuration,
                            &head->configuration_index));
    buf_add_bytes(&sender->configuration, configuration);
    head->configuration = buf_bytes(&sender->configuration);
    head->term = sender->term;
    return head->book.applied_index >= sender->at_least ? OK : ERR_CONFLICT;
}

/* One more row, or the end of the snapshot. */
static enum err add_row(struct install_sender *sender, struct rows *rows, struct buf *chunk)
{
    struct bytes key, value;
    enum err err = rows_ceil(rows, sender->table, bytes_of(sender->from, sender->from_len), &key, &value);
    if (err == ERR_NOT_FOUND) {
        sender->from_len = 0;
        sender->read_all = ++sender->table == STATE_TABLES;
        return OK;
    }
    TRY(err);
    install_row_add(chunk, sender->table, key, value);
    memcpy(sender->from, key.ptr, key.len);
    sender->from[key.len] = 0; /* right behind it */
    sender->from_len = key.len + 1;
    return OK;
}

static enum err make_chunk(struct install_sender *sender)
{
    struct rows *rows = state_reader_rows(sender->reader, sender->partition->number);
    struct buf chunk = {0}, *out = &sender->chunks[sender->made % WINDOW];
    enum err err = OK;
    while (err == OK && sender->made > 0 && !sender->read_all && chunk.len < CHUNK_BYTES) {
        err = add_row(sender, rows, &chunk);
    }
    if (err == OK) {
        struct install_chunk message = {.partition = sender->partition->number,
                                        .id = (int64_t)sender->id,
                                        .number = (int64_t)sender->made,
                                        .last = sender->made > 0 && sender->read_all,
                                        .rows = buf_bytes(&chunk)};
        out->len = 0;
        install_chunk_pack(out, &message, sender->made == 0 ? &sender->head : NULL);
        sender->made++;
    }
    buf_free(&chunk);
    return err;
}

static void send_chunk(struct install_sender *sender, uint64_t number)
{
    (void)peers_send(sender->partition->home, sender->to, PEER_ROWS, buf_bytes(&sender->chunks[number % WINDOW]));
}

/* Makes and sends as many as the window takes. */
static enum err pump(struct install_sender *sender)
{
    bool done = sender->made > 1 && sender->read_all;
    while (!done && sender->made < sender->acked + WINDOW) {
        TRY(make_chunk(sender));
        send_chunk(sender, sender->made - 1);
        sender->sent_ms = clock_boot_ms(sender->partition->node->clock);
        done = sender->read_all;
    }
    return OK;
}

static struct install_sender *find_sender(struct partition *partition, uint64_t to)
{
    list_each(link, &partition->senders)
    {
        struct install_sender *sender = container_of(link, struct install_sender, link);
        if (sender->to == to) {
            return sender;
        }
    }
    return NULL;
}

static void begin(struct partition *partition, uint64_t to, uint64_t term, uint64_t at_least)
{
    struct node *node = partition->node;
    struct install_sender *sender = mem_zalloc(sizeof *sender);
    *sender = (struct install_sender){.partition = partition,
                                      .to = to,
                                      .term = term,
                                      .at_least = at_least,
                                      .id = random_u64(&partition->home->worker.random) >> 2,
                                      .table = 1,
                                      .heard_ms = clock_boot_ms(node->clock)};
    list_add_tail(&partition->senders, &sender->link);
    enum err err = read_head(sender);
    if (err == OK) {
        log_text(node->log, LOG_INFO, "a replica gets the state", "partition %u: to %016llx, as of entry %llu",
                 partition->number, (unsigned long long)sender->to,
                 (unsigned long long)sender->head.book.applied_index);
        err = pump(sender);
    }
    if (err != OK) {
        sender_free(sender);
    }
}

void install_send(struct partition *partition, const struct group_message *message)
{
    struct install_sender *sender = find_sender(partition, message->to);
    unsigned senders = 0;
    list_each(link, &partition->senders)
    {
        senders++;
    }
    if (sender != NULL && sender->term != message->term) {
        sender_free(sender);
        sender = NULL;
    }
    if (sender == NULL && senders < SENDERS_MAX && peers_reach(partition->home, message->to)) {
        begin(partition, message->to, message->term, message->index);
    }
}

void install_staged(struct partition *partition, uint64_t from, const struct install_chunk *message)
{
    struct install_sender *sender = find_sender(partition, from);
    uint64_t next = (uint64_t)message->number;
    if (sender == NULL || sender->id != (uint64_t)message->id || next > sender->made) {
        return;
    }
    if (next == 0) { /* it was started anew, and knows nothing of this */
        uint64_t term = sender->term, at_least = sender->at_least;
        sender_free(sender);
        begin(partition, from, term, at_least);
        return;
    }
    if (next < sender->acked) {
        return;
    }
    sender->heard_ms = clock_boot_ms(partition->node->clock);
    sender->acked = next;
    bool done = sender->read_all && sender->acked == sender->made;
    if (done || pump(sender) != OK) {
        sender_free(sender);
    }
}

/* A connection broke, or the other side was busy: from what it has on. */
void install_tend_senders(struct partition *partition)
{
    int64_t now_ms = clock_boot_ms(partition->node->clock);
    struct list *next;
    for (struct list *link = partition->senders.next; link != &partition->senders; link = next) {
        struct install_sender *sender = container_of(link, struct install_sender, link);
        bool leads = group_is_leader(partition->group) && group_term(partition->group) == sender->term;
        next = link->next;
        if (!leads || now_ms - sender->heard_ms > GIVE_UP_MS) {
            sender_free(sender);
        } else if (now_ms - sender->heard_ms > AGAIN_MS && now_ms - sender->sent_ms > AGAIN_MS) {
            sender->sent_ms = now_ms;
            for (uint64_t number = sender->acked; number < sender->made; number++) {
                send_chunk(sender, number);
            }
        }
    }
}

void install_close_senders(struct partition *partition)
{
    while (!list_empty(&partition->senders)) {
        sender_free(container_of(partition->senders.next, struct install_sender, link));
    }
}
