#include "node/joiner.h"

#include "node/command.h"
#include "node/forward.h"

static void landed(struct submission *submission)
{
    struct outcome *outcome = submission->outcome;
    enum err err = submission->err != OK ? submission->err : outcome != NULL ? outcome->err : ERR_INTERNAL;
    struct bytes body = outcome != NULL ? buf_bytes(&outcome->reply.body) : BYTES_NONE;
    uint64_t index = outcome != NULL ? outcome->reply.index : 0;
    gather_landed(submission->from->gathers, submission->data, err, body, index, submission->by);
    submission_free(submission);
}

static void send_joined(void *ctx, const struct gather_key *key, struct bytes items, struct flight *flight)
{
    struct node_worker *worker = ctx;
    struct partition *partition = &worker->node->partitions[key->partition];
    const struct op *op = kind_op(kind_find(key->kind), key->op);
    struct joined joined = {0};
    struct buf params = {0};
    FIELD_SET(joined_fields, &joined, struct joined, items, items);
    field_pack(&params, joined_fields, &joined);
    struct command command = {.key = key->key,
                              .role = ROLE_ADMIN,
                              .params = buf_bytes(&params),
                              .kind = key->kind,
                              .op = key->op,
                              .request_id = partition_request_id(partition, random_u64(&worker->worker.random)),
                              .seed = random_u64(&worker->worker.random)};
    struct submission *submission = submission_new(partition, key->kind, key->key, command_encode(&command));
    buf_free(&params);
    submission->from = worker;
    submission->frees = (op->flags & OP_FREES) != 0;
    submission->done = landed;
    submission->data = flight;
    forward_submit(submission);
}

void joiner_init(struct node_worker *worker)
{
    worker->gathers = gathers_new(send_joined, worker);
}

void joiner_close(struct node_worker *worker)
{
    gathers_free(worker->gathers);
}
