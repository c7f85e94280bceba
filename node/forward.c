#include "node/forward.h"

#include <stdlib.h>

#include "actors/system/system.h"
#include "node/codec/field.h"
#include "node/command.h"
#include "node/peer_net.h"
#include "node/peers.h"
#include "node/tickets.h"

/* ---- the messages ---- */

/* PEER_COMMAND. The ticket is the sender's (node/tickets.h). */
struct command_message {
    struct fieldset set;
    int64_t ticket, partition, kind;
    bool frees;
    struct bytes key, payload;
};
static const struct field command_message_fields[] = {FIELD_INT(1, command_message, ticket, 0, INT64_MAX, 0),
                                                      FIELD_INT(2, command_message, partition, 0, 65535, 0),
                                                      FIELD_INT(3, command_message, kind, 0, 255, 0),
                                                      FIELD_BOOL(4, command_message, frees, 0),
                                                      FIELD_BLOB(5, command_message, key, 0),
                                                      FIELD_BLOB(6, command_message, payload, 0),
                                                      FIELDS_END};

/* PEER_ANSWER. */
struct answer_message {
    struct fieldset set;
    int64_t ticket, err, outcome_err, status, version;
    bool has_outcome, replayed;
    struct bytes body;
    struct id location;
    struct bytes pointer, code, detail; /* of a field that was refused */
    int64_t index;
};
static const struct field answer_message_fields[] = {FIELD_INT(1, answer_message, ticket, 0, INT64_MAX, 0),
                                                     FIELD_INT(2, answer_message, err, 0, INT64_MAX, 0),
                                                     FIELD_INT(3, answer_message, outcome_err, 0, INT64_MAX, 0),
                                                     FIELD_INT(4, answer_message, status, 0, 999, 0),
                                                     FIELD_INT(5, answer_message, version, 0, INT64_MAX, 0),
                                                     FIELD_BOOL(6, answer_message, has_outcome, 0),
                                                     FIELD_BOOL(7, answer_message, replayed, 0),
                                                     FIELD_BLOB(8, answer_message, body, 0),
                                                     FIELD_ID(9, answer_message, location, 0),
                                                     FIELD_BLOB(10, answer_message, pointer, 0),
                                                     FIELD_BLOB(11, answer_message, code, 0),
                                                     FIELD_BLOB(12, answer_message, detail, 0),
                                                     FIELD_INT(13, answer_message, index, 0, INT64_MAX, 0),
                                                     FIELDS_END};

/* Rows, little endian. PEER_ASK: partition (2), number (8). PEER_INDEX: those, the leader's term (8), and its
 * commit index (8). */
enum { ASK_BYTES = 10, INDEX_BYTES = 26, ASK_AGAIN_MS = 50 };

/* The questions of one partition are numbered; many may be under way. */
struct ask {
    uint64_t sent, answered; /* numbers */
    uint64_t index;          /* the newest answer */
    uint64_t target;         /* whom it was asked last */
    int64_t sent_ms;
    bool wanted; /* one more, at the turn's end */
};

struct forwards {
    struct list waiting;    /* commands for a leader, or for its answer */
    struct tickets tickets; /* of those that were sent */
    struct ask *asks;       /* by partition */
    bool asking;
    struct list open_asks; /* of others, not answered yet */
    unsigned open_asks_len;
};

/* ---- commands, where they came in ---- */

static bool is_worth_a_retry(enum err err)
{
    return err == ERR_NOT_LEADER || err == ERR_SHUTTING_DOWN;
}

static void finish(struct submission *submission, enum err err)
{
    list_remove(&submission->waiting);
    tickets_give_back(&submission->from->forwards->tickets, submission->ticket);
    submission->err = err;
    submission->on_answer(submission);
}

static void wait_for_leader(struct submission *submission)
{
    submission->target = 0;
    list_remove(&submission->waiting);
    list_add_tail(&submission->from->forwards->waiting, &submission->waiting);
}

static void local_done(struct submission *submission)
{
    struct node_worker *worker = submission->from;
    if (is_worth_a_retry(submission->err) && submission->give_up_ms > clock_boot_ms(worker->node->clock) &&
        !atomic_load(&worker->node->stopping)) {
        wait_for_leader(submission);
    } else {
        finish(submission, submission->err == ERR_NOT_LEADER ? ERR_NO_QUORUM : submission->err);
    }
}

static bool send_command(struct submission *submission, uint64_t leader)
{
    struct node_worker *worker = submission->from;
    struct command_message message = {.set.has = field_bit(6) - 1};
    struct buf body = {0};
    if (submission->ticket == 0) {
        submission->ticket = tickets_take(&worker->forwards->tickets, worker->worker.index, submission);
        if (submission->ticket == 0) {
            return false;
        }
    }
    message.ticket = (int64_t)submission->ticket;
    message.partition = submission->partition->number;
    message.kind = submission->kind;
    message.frees = submission->frees;
    message.key = bytes_of(submission->key, submission->key_len);
    message.payload = submission->payload;
    field_pack(&body, command_message_fields, &message);
    bool sent = peers_send(worker, leader, PEER_COMMAND, buf_bytes(&body));
    buf_free(&body);
    return sent;
}

/* To whoever leads now; if nobody does, it waits. */
static void attempt(struct submission *submission)
{
    struct node_worker *worker = submission->from;
    uint64_t leader = atomic_load_explicit(&submission->partition->leader_replica, memory_order_relaxed);
    list_remove(&submission->waiting);
    if (leader == worker->node->replica) {
        submission->target = leader;
        submission->done = local_done;
        partition_submit(submission);
        return;
    }
    bool sent = leader != 0 && send_command(submission, leader);
    submission->target = sent ? leader : 0;
    submission->resend_ms = clock_boot_ms(worker->node->clock) + LIMIT_RESEND_MS;
    list_add_tail(&worker->forwards->waiting, &submission->waiting);
}

void forward_submit(struct submission *submission)
{
    submission->on_answer = submission->done;
    submission->give_up_ms = clock_boot_ms(submission->from->node->clock) + LIMIT_RETRY_MS;
    list_init(&submission->waiting);
    attempt(submission);
}

static void drop_answer(struct submission *submission)
{
    submission_free(submission);
}

void forward_system(struct node_worker *worker, uint8_t op_tag, const void *in)
{
    struct node *node = worker->node;
    const struct op *op = kind_op(&system_kind, op_tag);
    struct buf params = {0};
    field_pack(&params, op->in, in);
    struct command command = {.key = system_address.key,
                              .params = buf_bytes(&params),
                              .kind = KIND_SYSTEM,
                              .op = op_tag,
                              .request_id =
                                  partition_request_id(&node->partitions[0], random_u64(&worker->worker.random))};
    struct submission *submission =
        submission_new(&node->partitions[0], KIND_SYSTEM, system_address.key, command_encode(&command));
    buf_free(&params);
    submission->from = worker;
    submission->frees = (op->flags & OP_FREES) != 0;
    submission->done = drop_answer;
    forward_submit(submission);
}

static void retry_commands(struct node_worker *worker, int64_t now_ms)
{
    struct list again;
    list_init(&again);
    list_splice(&again, &worker->forwards->waiting);
    for (struct list *link = list_pop(&again); link != NULL; link = list_pop(&again)) {
        struct submission *submission = container_of(link, struct submission, waiting);
        uint64_t leader = atomic_load_explicit(&submission->partition->leader_replica, memory_order_relaxed);
        bool hopeless = leader == 0 || submission->target == 0;
        if (now_ms >= submission->give_up_ms + (hopeless ? 0 : LIMIT_COMMIT_MS)) {
            finish(submission, hopeless ? ERR_NO_QUORUM : ERR_TIMEOUT);
        } else if (submission->target == 0 || (leader != 0 && leader != submission->target) ||
                   now_ms >= submission->resend_ms || !peers_reach(worker, submission->target)) {
            attempt(submission);
        } else {
            list_add_tail(&worker->forwards->waiting, link);
        }
    }
}

static char *text_of(struct arena *arena, struct bytes text)
{
    char *out = arena_zalloc(arena, text.len + 1);
    if (text.len > 0) {
        memcpy(out, text.ptr, text.len);
    }
    return out;
}

static struct outcome *outcome_of(const struct answer_message *answer, const struct op *op)
{
    struct outcome *outcome = mem_zalloc(sizeof *outcome);
    struct reply *reply = &outcome->reply;
    outcome->err = (enum err)answer->outcome_err;
    outcome->replayed = answer->replayed;
    reply->status = (uint16_t)answer->status;
    reply->version = (uint64_t)answer->version;
    reply->index = (uint64_t)answer->index;
    reply->location = answer->location;
    reply->fields = answer->body.len > 0 ? op->out : NULL;
    buf_add_bytes(&reply->body, answer->body);
    if (answer->code.len > 0) {
        reply->pointer = text_of(&outcome->arena, answer->pointer);
        reply->code = text_of(&outcome->arena, answer->code);
        reply->detail = text_of(&outcome->arena, answer->detail);
    }
    return outcome;
}

static void take_answer(struct node_worker *worker, uint64_t by, struct bytes body)
{
    struct answer_message answer = {0};
    if (field_unpack(answer_message_fields, body, &answer) != OK || answer.err >= ERR_COUNT ||
        answer.outcome_err >= ERR_COUNT) {
        return;
    }
    struct submission *submission = tickets_find(&worker->forwards->tickets, (uint64_t)answer.ticket);
    if (submission == NULL || list_empty(&submission->waiting)) {
        return; /* answered already, or given up */
    }
    if (is_worth_a_retry((enum err)answer.err)) {
        submission->target = 0; /* with the next tick */
        return;
    }
    if (answer.err == OK && answer.has_outcome) {
        submission->outcome = outcome_of(&answer, command_op(submission->payload));
    }
    submission->by = by;
    finish(submission, (enum err)answer.err);
}

void forward_on_answer(struct node_worker *worker, const struct link_hello *from, struct bytes body)
{
    struct answer_message answer = {0};
    if (field_unpack(answer_message_fields, body, &answer) == OK) {
        tickets_route(worker, (uint64_t)answer.ticket, replica_of(from->node), body, take_answer);
    }
}

/* ---- commands, where they are carried out ---- */

static void pack_outcome(struct answer_message *answer, const struct outcome *outcome)
{
    const struct reply *reply = &outcome->reply;
    answer->has_outcome = true;
    answer->outcome_err = (int64_t)outcome->err;
    answer->replayed = outcome->replayed;
    answer->status = reply->status;
    answer->version = (int64_t)reply->version;
    answer->index = (int64_t)reply->index;
    answer->body = buf_bytes(&reply->body);
    answer->location = reply->location;
    answer->pointer = bytes_str(reply->pointer);
    answer->code = bytes_str(reply->code);
    answer->detail = bytes_str(reply->detail);
}

static void send_answer(struct submission *submission)
{
    struct answer_message answer = {
        .set.has = field_bit(13) - 1, .ticket = (int64_t)submission->ticket, .err = (int64_t)submission->err};
    struct buf body = {0};
    if (submission->outcome != NULL) {
        pack_outcome(&answer, submission->outcome);
    }
    field_pack(&body, answer_message_fields, &answer);
    (void)peers_send(submission->from, submission->origin, PEER_ANSWER, buf_bytes(&body));
    buf_free(&body);
    submission_free(submission);
}

void forward_on_command(struct node_worker *worker, const struct link_hello *from, struct bytes body)
{
    struct command_message message = {0};
    struct node *node = worker->node;
    if (field_unpack(command_message_fields, body, &message) != OK || message.partition >= node->partitions_len ||
        message.key.len > LIMIT_ACTOR_KEY_BYTES || message.payload.len > LIMIT_COMMAND_BYTES ||
        command_check(message.payload) != OK) {
        return;
    }
    struct bytes payload = bytes_of(mem_copy(message.payload.ptr, message.payload.len), message.payload.len);
    struct submission *submission =
        submission_new(&node->partitions[message.partition], (uint8_t)message.kind, message.key, payload);
    submission->from = worker;
    submission->frees = message.frees;
    submission->ticket = (uint64_t)message.ticket;
    submission->origin = replica_of(from->node);
    submission->done = send_answer;
    partition_submit(submission);
}

/* ---- reads, where they came in ---- */

uint64_t forward_ask(struct node_worker *worker, unsigned partition)
{
    struct ask *ask = &worker->forwards->asks[partition];
    ask->wanted = true;
    worker->forwards->asking = true;
    return ask->sent + 1;
}

bool forward_answered(const struct node_worker *worker, unsigned partition, uint64_t number, uint64_t *out_index)
{
    const struct ask *ask = &worker->forwards->asks[partition];
    *out_index = ask->index;
    return ask->answered >= number;
}

static void add_number(struct buf *out, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        buf_add_char(out, (char)(value >> (8 * i)));
    }
}

static uint64_t number_at(struct bytes from, size_t at, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++) {
        value |= (uint64_t)from.ptr[at + i] << (8 * i);
    }
    return value;
}

/* The questions to one leader go in one message. */
static void send_asks(struct node_worker *worker, uint64_t leader, const bool *due, int64_t now_ms)
{
    struct buf body = {0};
    for (unsigned p = 0; p < worker->node->partitions_len; p++) {
        struct ask *ask = &worker->forwards->asks[p];
        if (due[p] && ask->target == leader) {
            add_number(&body, p, 2);
            add_number(&body, ask->sent, 8);
            ask->sent_ms = now_ms;
        }
    }
    if (body.len > 0) {
        (void)peers_send(worker, leader, PEER_ASK, buf_bytes(&body));
    }
    buf_free(&body);
}

static void send_due(struct node_worker *worker, bool *due)
{
    int64_t now_ms = clock_boot_ms(worker->node->clock);
    for (unsigned p = 0; p < worker->node->partitions_len; p++) {
        if (due[p]) {
            worker->forwards->asks[p].target =
                atomic_load_explicit(&worker->node->partitions[p].leader_replica, memory_order_relaxed);
        }
    }
    for (unsigned p = 0; p < worker->node->partitions_len; p++) {
        uint64_t leader = worker->forwards->asks[p].target;
        if (due[p] && worker->forwards->asks[p].sent_ms != now_ms && leader != 0 && leader != worker->node->replica) {
            send_asks(worker, leader, due, now_ms);
        }
    }
}

void forward_turn_end(struct node_worker *worker)
{
    bool due[ID_PARTITION_MAX + 1] = {false};
    if (!worker->forwards->asking) {
        return;
    }
    worker->forwards->asking = false;
    for (unsigned p = 0; p < worker->node->partitions_len; p++) {
        struct ask *ask = &worker->forwards->asks[p];
        due[p] = ask->wanted;
        ask->sent += ask->wanted;
        ask->sent_ms = ask->wanted ? 0 : ask->sent_ms;
        ask->wanted = false;
    }
    send_due(worker, due);
}

/* No answer: it was lost, or another leads now. */
static void ask_again(struct node_worker *worker, int64_t now_ms)
{
    bool due[ID_PARTITION_MAX + 1] = {false}, any = false;
    for (unsigned p = 0; p < worker->node->partitions_len; p++) {
        struct ask *ask = &worker->forwards->asks[p];
        uint64_t leader = atomic_load_explicit(&worker->node->partitions[p].leader_replica, memory_order_relaxed);
        due[p] = ask->answered < ask->sent && (ask->target != leader || now_ms - ask->sent_ms >= ASK_AGAIN_MS);
        any = any || due[p];
    }
    if (any) {
        send_due(worker, due);
    }
}

void forward_on_index(struct node_worker *worker, const struct link_hello *from, struct bytes body)
{
    (void)from;
    for (size_t at = 0; at + INDEX_BYTES <= body.len; at += INDEX_BYTES) {
        uint64_t partition = number_at(body, at, 2), number = number_at(body, at + 2, 8);
        if (partition < worker->node->partitions_len) {
            struct ask *ask = &worker->forwards->asks[partition];
            uint64_t index = number_at(body, at + 18, 8);
            partition_hint_commit(&worker->node->partitions[partition], worker, number_at(body, at + 10, 8), index);
            if (number > ask->answered && number <= ask->sent) {
                ask->answered = number;
                ask->index = index > ask->index ? index : ask->index;
            }
        }
    }
}

/* ---- reads, where they are answered ---- */

/* A question to a leader that holds no lease just now waits until a majority has answered it. */
struct open_ask {
    struct list link;
    uint64_t origin, number, term, index;
    unsigned partition;
    int64_t began_ns;
};

static void add_index(struct buf *out, const struct partition *partition, uint64_t number, uint64_t term,
                      uint64_t index)
{
    add_number(out, partition->number, 2);
    add_number(out, number, 8);
    add_number(out, term, 8);
    add_number(out, index, 8);
}

void forward_add_index(struct buf *out, const struct partition *partition, uint64_t commit)
{
    add_index(out, partition, 0, atomic_load_explicit(&partition->term, memory_order_relaxed), commit);
}

void forward_on_ask(struct node_worker *worker, const struct link_hello *from, struct bytes body)
{
    struct node *node = worker->node;
    struct buf answer = {0};
    for (size_t at = 0; at + ASK_BYTES <= body.len; at += ASK_BYTES) {
        uint64_t number = number_at(body, at + 2, 8), p = number_at(body, at, 2);
        if (p >= node->partitions_len || !atomic_load(&node->partitions[p].leader)) {
            continue;
        }
        struct partition *partition = &node->partitions[p];
        uint64_t term = atomic_load_explicit(&partition->term, memory_order_acquire);
        uint64_t index = partition_read_index(partition);
        int64_t now_ns = clock_boot_ns(node->clock);
        bool confirmed = partition_is_confirmed(partition, now_ns);
        if (index == UINT64_MAX || atomic_load_explicit(&partition->term, memory_order_acquire) != term) {
            continue; /* it is asked again */
        }
        if (confirmed) {
            add_index(&answer, partition, number, term, index);
        } else if (worker->forwards->open_asks_len < LIMIT_OPEN_ASKS) {
            struct open_ask *open = mem_zalloc(sizeof *open);
            *open = (struct open_ask){.origin = replica_of(from->node),
                                      .number = number,
                                      .term = term,
                                      .index = index,
                                      .partition = partition->number,
                                      .began_ns = now_ns};
            list_add_tail(&worker->forwards->open_asks, &open->link);
            worker->forwards->open_asks_len++;
        }
    }
    if (answer.len > 0) {
        (void)peers_send(worker, replica_of(from->node), PEER_INDEX, buf_bytes(&answer));
    }
    buf_free(&answer);
}

static void answer_open_asks(struct node_worker *worker, int64_t now_ns)
{
    struct list again;
    list_init(&again);
    list_splice(&again, &worker->forwards->open_asks);
    worker->forwards->open_asks_len = 0;
    for (struct list *link = list_pop(&again); link != NULL; link = list_pop(&again)) {
        struct open_ask *open = container_of(link, struct open_ask, link);
        struct partition *partition = &worker->node->partitions[open->partition];
        bool confirmed = partition_is_confirmed(partition, open->began_ns);
        bool same = atomic_load_explicit(&partition->term, memory_order_acquire) == open->term;
        if (confirmed && same) {
            struct buf answer = {0};
            add_index(&answer, partition, open->number, open->term, open->index);
            (void)peers_send(worker, open->origin, PEER_INDEX, buf_bytes(&answer));
            buf_free(&answer);
            free(open);
        } else if (!same || !atomic_load(&partition->leader) || now_ns - open->began_ns > LIMIT_READ_MS * 1000000LL) {
            free(open); /* it asks again */
        } else {
            list_add_tail(&worker->forwards->open_asks, link);
            worker->forwards->open_asks_len++;
        }
    }
}

/* ---- a worker's part ---- */

void forward_init(struct node_worker *worker)
{
    worker->forwards = mem_zalloc(sizeof *worker->forwards);
    worker->forwards->asks = mem_zalloc(worker->node->partitions_len * sizeof *worker->forwards->asks);
    list_init(&worker->forwards->waiting);
    list_init(&worker->forwards->open_asks);
}

void forward_close(struct node_worker *worker)
{
    for (struct list *link = list_pop(&worker->forwards->waiting); link != NULL;
         link = list_pop(&worker->forwards->waiting)) {
        finish(container_of(link, struct submission, waiting), ERR_SHUTTING_DOWN);
    }
    for (struct list *link = list_pop(&worker->forwards->open_asks); link != NULL;
         link = list_pop(&worker->forwards->open_asks)) {
        free(container_of(link, struct open_ask, link));
    }
    free(worker->forwards->asks);
    free(worker->forwards);
}

void forward_tick(struct node_worker *worker)
{
    int64_t now_ns = clock_boot_ns(worker->node->clock);
    retry_commands(worker, now_ns / 1000000);
    ask_again(worker, now_ns / 1000000);
    answer_open_asks(worker, now_ns);
}
