#include "node/compute.h"

#include <sodium.h>
#include <stdlib.h>

#include "node/balance.h"
#include "node/codec/field.h"
#include "node/peers.h"
#include "node/skew.h"
#include "node/tickets.h"
#include "node/upkeep.h"

/* ---- the messages ---- */

/* PEER_HASH. phc is empty when there is nobody to compare with. */
struct hash_message {
    struct fieldset set;
    int64_t ticket;
    bool verify;
    struct bytes password, phc;
    int64_t left_ms; /* then nobody waits for it any more */
};
static const struct field hash_message_fields[] = {FIELD_INT(1, hash_message, ticket, 0, INT64_MAX, 0),
                                                   FIELD_BOOL(2, hash_message, verify, 0),
                                                   FIELD_BLOB(3, hash_message, password, 0),
                                                   FIELD_BLOB(4, hash_message, phc, 0),
                                                   FIELD_INT(5, hash_message, left_ms, 0, INT32_MAX, 0),
                                                   FIELDS_END};

/* PEER_HASHED. */
struct hashed_message {
    struct fieldset set;
    int64_t ticket, err;
    struct bytes phc;
    bool matches, rehash;
};
static const struct field hashed_message_fields[] = {FIELD_INT(1, hashed_message, ticket, 0, INT64_MAX, 0),
                                                     FIELD_INT(2, hashed_message, err, 0, INT64_MAX, 0),
                                                     FIELD_BLOB(3, hashed_message, phc, 0),
                                                     FIELD_BOOL(4, hashed_message, matches, 0),
                                                     FIELD_BOOL(5, hashed_message, rehash, 0),
                                                     FIELDS_END};

/* PEER_LOAD. */
struct load_message {
    struct fieldset set;
    int64_t hashes, yours, processes, service_us;
    bool stopping;
    int64_t wall; /* the sender's clock */
};
static const struct field load_message_fields[] = {FIELD_INT(1, load_message, hashes, 0, INT32_MAX, 0),
                                                   FIELD_INT(2, load_message, yours, 0, INT32_MAX, 0),
                                                   FIELD_INT(3, load_message, processes, 0, INT32_MAX, 0),
                                                   FIELD_INT(4, load_message, service_us, 0, INT32_MAX, 0),
                                                   FIELD_BOOL(5, load_message, stopping, 0),
                                                   FIELD_TIME(6, load_message, wall, 0),
                                                   FIELDS_END};
enum { MESSAGE_ROOM = 128 }; /* more than is packed around a password and a phc */

struct compute {
    struct list link; /* in the worker's, while another node computes, or is looked for again */
    struct node_worker *worker;
    compute_done *done;
    void *data;
    uv_work_t work;
    atomic_bool given_up; /* while it is on the compute pool: nobody waits */
    struct hash_job hash;
    int64_t began_ms, until_ms;
    double service_ms; /* 0: it was not computed here */
    uint64_t ticket;   /* ours; or the other node's, with origin */
    uint64_t origin;   /* the node it is computed for; 0: this one */
    /* The present try. */
    uint64_t target; /* 0: nobody was found; whoever was tried may still answer */
    int64_t sent_ms, retry_ms;
    uint64_t tried[LIMIT_HASH_TRIES];
    unsigned tried_len;
};

struct computes {
    struct tickets tickets;
    struct list away;
};

static int64_t now_ms(const struct node_worker *worker)
{
    return clock_boot_ms(worker->node->clock);
}

static int64_t bounded(int64_t value, int64_t most)
{
    return value < 0 ? 0 : value > most ? most : value;
}

static struct compute *compute_new(struct node_worker *worker, bool verify, struct bytes password)
{
    struct compute *compute = mem_zalloc(sizeof *compute);
    CHECK(password.len <= sizeof compute->hash.password);
    compute->worker = worker;
    list_init(&compute->link);
    compute->began_ms = now_ms(worker);
    compute->hash.verify = verify;
    compute->hash.password_len = (uint32_t)password.len;
    if (password.len > 0) {
        memcpy(compute->hash.password, password.ptr, password.len);
    }
    return compute;
}

static void compute_free(struct compute *compute)
{
    sodium_memzero(&compute->hash, sizeof compute->hash);
    free(compute);
}

static void finish(struct compute *compute, uint64_t by)
{
    list_remove(&compute->link);
    tickets_give_back(&compute->worker->computes->tickets, compute->ticket);
    compute->done(compute->data, &compute->hash, by);
    compute_free(compute);
}

/* ---- on this node ---- */

static void answer(struct compute *compute, enum err err);

/* On the compute pool: waits for a hashing process. */
static void run(uv_work_t *work)
{
    struct compute *compute = container_of(work, struct compute, work);
    struct node *node = compute->worker->node;
    struct hash_job *hash = &compute->hash;
    bool nobody = hash->verify && hash->phc[0] == 0;
    int64_t began_ns = clock_boot_ns(node->clock);
    if (atomic_load(&compute->given_up)) {
        return;
    }
    if (compute->origin != 0 && began_ns / 1000000 >= compute->until_ms) {
        hash->err = ERR_TIMEOUT;
        return;
    }
    if (nobody) {
        memcpy(hash->phc, node->dummy_phc, sizeof hash->phc);
    }
    hashers_run(node->hashers, hash);
    hash->matches = hash->matches && !nobody;
    hash->rehash = hash->rehash && hash->matches;
    compute->service_ms = (double)(clock_boot_ns(node->clock) - began_ns) / 1e6;
}

static void after(uv_work_t *work, int status)
{
    struct compute *compute = container_of(work, struct compute, work);
    struct node *node = compute->worker->node;
    struct balance *balance = node->balance;
    int64_t now = now_ms(compute->worker);
    bool given_up = atomic_load(&compute->given_up);
    atomic_fetch_sub(&node->computing, 1);
    balance_served(balance, compute->origin, compute->service_ms);
    if (compute->origin != 0) {
        answer(compute, status != 0 ? ERR_SHUTTING_DOWN : compute->hash.err);
        compute_free(compute);
        return;
    }
    balance_ended(balance, node->replica, given_up ? BALANCE_DROPPED : BALANCE_DONE, now - compute->sent_ms, now);
    if (given_up) {
        compute_free(compute);
        return;
    }
    if (status != 0) {
        compute->hash.err = ERR_SHUTTING_DOWN;
    }
    finish(compute, node->replica);
}

/* False: the queue is full. */
static bool run_here(struct compute *compute)
{
    struct node *node = compute->worker->node;
    if (atomic_fetch_add(&node->computing, 1) >= LIMIT_COMPUTE_QUEUE) {
        atomic_fetch_sub(&node->computing, 1);
        return false;
    }
    balance_serve(node->balance, compute->origin);
    CHECK(uv_queue_work(&compute->worker->worker.loop, &compute->work, run, after) == 0);
    return true;
}

/* ---- on another node ---- */

static bool send_hash(struct compute *compute, uint64_t target)
{
    struct node_worker *worker = compute->worker;
    int64_t left_ms = compute->until_ms - now_ms(worker);
    struct hash_message message = {.set.has = field_bit(5) - 1,
                                   .ticket = (int64_t)compute->ticket,
                                   .verify = compute->hash.verify,
                                   .password = bytes_of(compute->hash.password, compute->hash.password_len),
                                   .phc = bytes_str(compute->hash.phc),
                                   .left_ms = bounded(left_ms, LIMIT_COMPUTE_MS)};
    struct buf body = {0};
    (void)buf_room(&body, MESSAGE_ROOM + message.password.len + message.phc.len); /* so that it stays in one place */
    field_pack(&body, hash_message_fields, &message);
    bool sent = peers_send(worker, target, PEER_HASH, buf_bytes(&body));
    sodium_memzero(body.ptr, body.len);
    buf_free(&body);
    list_add_tail(&worker->computes->away, &compute->link);
    return sent;
}

/* Peers that may be tried: with a link, and not tried yet. After some tries only this node is left. */
static size_t list_candidates(struct compute *compute, uint64_t out[LIMIT_PEERS])
{
    size_t up = compute->tried_len < LIMIT_HASH_TRIES ? peers_list_up(compute->worker, out) : 0, len = 0;
    if (up > 0 && compute->ticket == 0) {
        compute->ticket = tickets_take(&compute->worker->computes->tickets, compute->worker->worker.index, compute);
        up = compute->ticket == 0 ? 0 : up;
    }
    for (size_t i = 0; i < up; i++) {
        bool tried = false;
        for (unsigned t = 0; t < compute->tried_len; t++) {
            tried = tried || compute->tried[t] == out[i];
        }
        if (!tried) {
            out[len++] = out[i];
        }
    }
    return len;
}

static void end_try(struct compute *compute, enum balance_end end)
{
    int64_t now = now_ms(compute->worker);
    balance_ended(compute->worker->node->balance, compute->target, end, now - compute->sent_ms, now);
    list_remove(&compute->link);
    if (compute->tried_len < LIMIT_HASH_TRIES) {
        compute->tried[compute->tried_len++] = compute->target;
    }
    compute->target = 0;
}

/* To whichever node is chosen; false: nobody can take it. */
static bool place(struct compute *compute)
{
    struct node_worker *worker = compute->worker;
    struct node *node = worker->node;
    uint64_t candidates[LIMIT_PEERS];
    for (;;) {
        size_t len = list_candidates(compute, candidates);
        int64_t now = now_ms(worker);
        struct balance_choice choice = balance_choose(
            node->balance, candidates, len, (unsigned)atomic_load(&node->computing), now, &worker->worker.random);
        compute->target = choice.replica;
        compute->sent_ms = now;
        compute->retry_ms = now + choice.patience_ms;
        if (choice.replica == 0) {
            return false;
        }
        if (choice.replica == node->replica) {
            bool taken = run_here(compute);
            if (!taken) {
                balance_ended(node->balance, node->replica, BALANCE_DROPPED, 0, now);
                compute->target = 0;
            }
            return taken;
        }
        if (send_hash(compute, choice.replica)) {
            return true;
        }
        end_try(compute, BALANCE_FAILED);
    }
}

struct compute *compute_start(struct node_worker *worker, bool verify, struct bytes password, const char *phc,
                              compute_done *done, void *data)
{
    struct compute *compute = compute_new(worker, verify, password);
    memcpy(compute->hash.phc, phc, sizeof compute->hash.phc);
    compute->until_ms = compute->began_ms + LIMIT_COMPUTE_MS;
    compute->done = done;
    compute->data = data;
    if (!place(compute)) {
        tickets_give_back(&worker->computes->tickets, compute->ticket);
        compute_free(compute);
        return NULL;
    }
    return compute;
}

void compute_abandon(struct compute *compute)
{
    struct node *node = compute->worker->node;
    tickets_give_back(&compute->worker->computes->tickets, compute->ticket);
    if (compute->target == node->replica) {
        compute->ticket = 0;
        atomic_store(&compute->given_up, true);
    } else {
        end_try(compute, BALANCE_DROPPED);
        compute_free(compute);
    }
}

static void take_hashed(struct node_worker *worker, uint64_t by, struct bytes body)
{
    struct hashed_message message = {0};
    if (field_unpack(hashed_message_fields, body, &message) != OK || message.err >= ERR_COUNT ||
        message.phc.len >= PHC_BYTES) {
        return;
    }
    struct compute *compute = tickets_find(&worker->computes->tickets, (uint64_t)message.ticket);
    /* Not waited for any more; or this node has begun with it; or one that was given up says no. */
    if (compute == NULL || list_empty(&compute->link) || (message.err != OK && by != compute->target)) {
        return;
    }
    if (message.err != OK) {
        end_try(compute, BALANCE_REFUSED);
        if (!place(compute)) {
            compute->hash.err = ERR_OVERLOADED;
            finish(compute, worker->node->replica);
        }
        return;
    }
    end_try(compute, by == compute->target ? BALANCE_DONE : BALANCE_DROPPED);
    memset(compute->hash.phc, 0, sizeof compute->hash.phc);
    memcpy(compute->hash.phc, message.phc.ptr, message.phc.len);
    compute->hash.matches = message.matches;
    compute->hash.rehash = message.rehash;
    compute->hash.err = OK;
    finish(compute, by);
}

void compute_on_hashed(struct node_worker *worker, const struct link_hello *from, struct bytes body)
{
    struct hashed_message message = {0};
    if (field_unpack(hashed_message_fields, body, &message) == OK) {
        tickets_route(worker, (uint64_t)message.ticket, replica_of(from->node), body, take_hashed);
    }
}

/* ---- for another node ---- */

static void answer(struct compute *compute, enum err err)
{
    struct hashed_message message = {.set.has = field_bit(5) - 1,
                                     .ticket = (int64_t)compute->ticket,
                                     .err = (int64_t)err,
                                     .phc = err == OK ? bytes_str(compute->hash.phc) : BYTES_NONE,
                                     .matches = compute->hash.matches,
                                     .rehash = compute->hash.rehash};
    struct buf body = {0};
    field_pack(&body, hashed_message_fields, &message);
    (void)peers_send(compute->worker, compute->origin, PEER_HASHED, buf_bytes(&body)); /* lost: it asks another */
    buf_free(&body);
}

void compute_on_hash(struct node_worker *worker, const struct link_hello *from, struct bytes body)
{
    struct hash_message message = {0};
    if (field_unpack(hash_message_fields, body, &message) != OK || message.password.len > LIMIT_PASSWORD_BYTES ||
        message.phc.len >= PHC_BYTES) {
        return;
    }
    struct compute *compute = compute_new(worker, message.verify, message.password);
    if (message.phc.len > 0) {
        memcpy(compute->hash.phc, message.phc.ptr, message.phc.len);
    }
    compute->ticket = (uint64_t)message.ticket;
    compute->origin = replica_of(from->node);
    compute->until_ms = compute->began_ms + bounded(message.left_ms, LIMIT_COMPUTE_MS);
    if (worker->server.draining || !run_here(compute)) {
        answer(compute, ERR_OVERLOADED);
        compute_free(compute);
    }
}

/* ---- how busy nodes are ---- */

void compute_on_load(struct node_worker *worker, const struct link_hello *from, struct bytes body)
{
    struct load_message message = {0};
    if (field_unpack(load_message_fields, body, &message) != OK) {
        return;
    }
    struct balance_load load = {.hashes = (unsigned)bounded(message.hashes, LIMIT_COMPUTE_QUEUE),
                                .yours = (unsigned)bounded(message.yours, LIMIT_COMPUTE_QUEUE),
                                .processes = (unsigned)bounded(message.processes, UINT16_MAX),
                                .service_ms = (double)bounded(message.service_us, INT32_MAX) / 1000,
                                .stopping = message.stopping};
    balance_report(worker->node->balance, replica_of(from->node), &load, now_ms(worker));
    skew_note(worker->node->skew, replica_of(from->node), message.wall, clock_wall_ms(worker->node->clock),
              now_ms(worker));
    if (atomic_load(&worker->node->clock_doubt)) {
        upkeep_look_at_clock(worker->node); /* elections may wait for it */
    }
}

static void report(struct node_worker *worker)
{
    struct node *node = worker->node;
    uint64_t up[LIMIT_PEERS];
    size_t len = peers_list_up(worker, up);
    for (size_t i = 0; i < len; i++) {
        struct balance_load load =
            balance_load_for(node->balance, up[i], (unsigned)atomic_load(&node->computing),
                             worker->server.draining || atomic_load(&node->stopping) || atomic_load(&node->draining));
        struct load_message message = {.set.has = field_bit(6) - 1,
                                       .hashes = load.hashes,
                                       .yours = load.yours,
                                       .processes = load.processes,
                                       .service_us = (int64_t)(load.service_ms * 1000),
                                       .stopping = load.stopping,
                                       .wall = clock_wall_ms(node->clock)};
        struct buf body = {0};
        field_pack(&body, load_message_fields, &message);
        (void)peers_send(worker, up[i], PEER_LOAD, buf_bytes(&body));
        buf_free(&body);
    }
}

/* ---- a worker's part ---- */

static bool may_answer(const struct compute *compute, int64_t now)
{
    struct node_worker *worker = compute->worker;
    return compute->target != 0 && now < compute->retry_ms && peers_reach(worker, compute->target) &&
           !balance_is_silent(worker->node->balance, compute->target, now);
}

/* What was begun is not shed any more: as long as nobody can take it, it waits, until its deadline. */
static void retry(struct node_worker *worker)
{
    struct list again;
    int64_t now = now_ms(worker);
    list_init(&again);
    list_splice(&again, &worker->computes->away);
    for (struct list *link = list_pop(&again); link != NULL; link = list_pop(&again)) {
        struct compute *compute = container_of(link, struct compute, link);
        if (!may_answer(compute, now)) {
            if (compute->target != 0) {
                end_try(compute, BALANCE_FAILED);
            }
            if (place(compute)) {
                continue;
            }
        }
        list_add_tail(&worker->computes->away, link);
    }
}

void computes_tick(struct node_worker *worker)
{
    retry(worker);
    if (worker->worker.index == 0) {
        report(worker);
    }
}

void computes_open(struct node *node)
{
    enum balance_policy policy;
    CHECK(balance_policy_find(node->config.balance, &policy));
    node->balance = balance_new(policy, node->replica, node->workers_len);
}

void computes_init(struct node_worker *worker)
{
    worker->computes = mem_zalloc(sizeof *worker->computes);
    list_init(&worker->computes->away);
}

/* Whoever waited for them is gone. */
void computes_close(struct node_worker *worker)
{
    for (struct list *link = list_pop(&worker->computes->away); link != NULL;
         link = list_pop(&worker->computes->away)) {
        compute_free(container_of(link, struct compute, link));
    }
    free(worker->computes);
}
