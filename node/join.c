#include "node/join.h"

#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cluster/placement.h"
#include "node/codec/field.h"
#include "node/limits.h"
#include "node/peers.h"

enum { LOOK_MS = 20, ASK_MS = 200, SAY_MS = 5000 };

/* PEER_PROMISE; PEER_PROMISED has the cluster alone. */
struct promise_message {
    struct fieldset set;
    struct id cluster;
    int64_t partitions;
    struct bytes founders;
};
static const struct field promise_fields[] = {FIELD_ID(1, promise_message, cluster, 0),
                                              FIELD_INT(2, promise_message, partitions, 1, ID_PARTITION_MAX, 0),
                                              FIELD_BLOB(3, promise_message, founders, 0), FIELDS_END};

struct join {
    const struct config *config;
    struct log *log;
    struct identity *identity;
    struct worker *worker;
    struct peer_net net;
    struct peer_net *nets[1];
    struct timer look;
    unsigned addresses;
    struct identity promise; /* cluster none: there is none */
    bool asking;             /* we are the founder, and have promised ourselves */
    uint64_t promised[LIMIT_PEERS];
    unsigned promised_len;
    int64_t asked_ms, said_ms;
    bool done;
    enum err err;
    char *why;
    size_t why_cap;
};

static void end(struct join *join, enum err err)
{
    join->done = true;
    join->err = err;
    peer_net_close(&join->net);
    timers_clear(&join->worker->timers, &join->look);
    worker_stop(join->worker);
}

/* From here on the node belongs to that cluster. */
static void belong(struct join *join, const struct identity *identity)
{
    char text[ID_TEXT_BYTES + 1] = "";
    *join->identity = *identity;
    (void)snprintf(join->why, join->why_cap, "the file %s/identity cannot be written", join->config->data);
    enum err err = identity_write(disk_posix(), join->config->data, "identity", identity);
    id_format(identity->cluster, text);
    if (err == OK) {
        log_text(join->log, LOG_INFO, identity->founders.len > 0 ? "a cluster is founded" : "joining a cluster", "%s",
                 text);
    }
    end(join, err);
}

/* ---- promises ---- */

static enum err keep_promise(struct join *join, const struct identity *promise)
{
    TRY(identity_write(disk_posix(), join->config->data, "promise", promise));
    join->promise = *promise;
    return OK;
}

static struct peer_dial *dial_to(struct join *join, struct id node)
{
    peer_net_each(link, &join->net)
    {
        struct peer_dial *dial = peer_dial_of(link);
        if (peer_dial_is_up(dial) && id_eq(peer_dial_peer(dial)->node, node)) {
            return dial;
        }
    }
    return NULL;
}

/* Everybody named is reached and belongs to no cluster. */
static bool all_are_blank(const struct join *join)
{
    unsigned blank = 0;
    peer_net_each(link, &join->net)
    {
        const struct peer_dial *dial = peer_dial_of(link);
        blank += peer_dial_is_up(dial) && id_is_none(peer_dial_peer(dial)->cluster);
    }
    return blank == join->addresses;
}

/* Founders are in the order of their replicas; the first one asks. */
static bool is_sound_promise(const struct join *join, const struct link_hello *from, const struct identity *promise)
{
    const struct group_members *founders = &promise->founders;
    return !id_is_none(promise->cluster) && founders->len > 0 && promise->partitions >= 1 &&
           founders->list[0].replica == replica_of(from->node) && id_is_none(from->cluster) &&
           group_members_find(founders, replica_of(join->identity->node)) != NULL;
}

static void on_promise(struct join *join, const struct link_hello *from, struct bytes body)
{
    struct promise_message message = {0};
    struct identity promise = {.node = join->identity->node};
    struct buf answer = {0};
    if (field_unpack(promise_fields, body, &message) != OK ||
        group_members_decode(message.founders, &promise.founders) != OK) {
        return;
    }
    promise.cluster = message.cluster;
    promise.partitions = (unsigned)message.partitions;
    bool another = !id_is_none(join->promise.cluster) && !id_eq(join->promise.cluster, promise.cluster);
    if (!is_sound_promise(join, from, &promise) || (another && !all_are_blank(join))) {
        return;
    }
    if (!id_eq(join->promise.cluster, promise.cluster) && keep_promise(join, &promise) != OK) {
        return; /* no promise that is not on disk */
    }
    struct promise_message promised = {.set.has = 1, .cluster = promise.cluster};
    field_pack(&answer, promise_fields, &promised);
    (void)peer_net_send(&join->net, dial_to(join, from->node), PEER_PROMISED, buf_bytes(&answer));
    buf_free(&answer);
}

static void on_promised(struct join *join, const struct link_hello *from, struct bytes body)
{
    struct promise_message message = {0};
    uint64_t replica = replica_of(from->node);
    if (field_unpack(promise_fields, body, &message) != OK || !join->asking ||
        !id_eq(message.cluster, join->promise.cluster) ||
        group_members_find(&join->promise.founders, replica) == NULL) {
        return;
    }
    for (unsigned i = 0; i < join->promised_len; i++) {
        if (join->promised[i] == replica) {
            return;
        }
    }
    join->promised[join->promised_len++] = replica;
}

static void on_message(void *ctx, const struct link_hello *from, uint8_t type, struct bytes body)
{
    struct join *join = ctx;
    if (!join->done && type == PEER_PROMISE) {
        on_promise(join, from, body);
    } else if (!join->done && type == PEER_PROMISED) {
        on_promised(join, from, body);
    }
}

static enum err met(void *ctx, const struct link_hello *peer, bool dialed, char *why)
{
    (void)ctx;
    (void)peer;
    (void)dialed;
    (void)why;
    return OK;
}

/* ---- deciding ---- */

/* A member of a cluster: the one we promised ourselves to, or one that is older than us. */
static bool join_member(struct join *join)
{
    peer_net_each(link, &join->net)
    {
        const struct peer_dial *dial = peer_dial_of(link);
        const struct link_hello *peer = peer_dial_is_up(dial) ? peer_dial_peer(dial) : NULL;
        if (peer == NULL || id_is_none(peer->cluster)) {
            continue;
        }
        if (id_eq(peer->cluster, join->promise.cluster)) {
            belong(join, &join->promise);
        } else {
            struct identity identity = {
                .cluster = peer->cluster, .node = join->identity->node, .partitions = peer->partitions};
            belong(join, &identity);
        }
        return true;
    }
    return false;
}

/* Those that answered, once each, in order. False: some address has no answer, or two have the same. */
static bool gather_founders(const struct join *join, struct group_members *out)
{
    *out = (struct group_members){0};
    unsigned up = 0;
    peer_net_each(link, &join->net)
    {
        const struct peer_dial *dial = peer_dial_of(link);
        if (!peer_dial_is_up(dial) || out->len == GROUP_MEMBERS_MAX) {
            continue;
        }
        uint64_t replica = replica_of(peer_dial_peer(dial)->node);
        up++;
        if (group_members_find(out, replica) == NULL) {
            struct group_member *member = &out->list[out->len++];
            member->replica = replica;
            (void)snprintf(member->address, sizeof member->address, "%s", peer_dial_address(dial));
        }
    }
    placement_found(out);
    bool self = group_members_find(out, replica_of(join->identity->node)) != NULL;
    return self && up == out->len && (up == join->addresses || join->config->found);
}

static bool same_replicas(const struct group_members *a, const struct group_members *b)
{
    bool same = a->len == b->len;
    for (unsigned i = 0; i < a->len && same; i++) {
        same = a->list[i].replica == b->list[i].replica;
    }
    return same;
}

static void ask_all(struct join *join)
{
    struct bytes founders = group_members_encode(&join->promise.founders);
    struct promise_message message = {.set.has = field_bit(3) - 1,
                                      .cluster = join->promise.cluster,
                                      .partitions = join->promise.partitions,
                                      .founders = founders};
    struct buf body = {0};
    field_pack(&body, promise_fields, &message);
    peer_net_each(link, &join->net)
    {
        struct peer_dial *dial = peer_dial_of(link);
        if (peer_dial_is_up(dial) && !id_eq(peer_dial_peer(dial)->node, join->identity->node)) {
            (void)peer_net_send(&join->net, dial, PEER_PROMISE, buf_bytes(&body));
        }
    }
    buf_free(&body);
    free((void *)(uintptr_t)founders.ptr);
}

/* We have the lowest number: it is up to us. */
static void found(struct join *join, const struct group_members *founders, int64_t now_ms)
{
    if (!join->asking || !same_replicas(founders, &join->promise.founders)) {
        bool again = same_replicas(founders, &join->promise.founders); /* asked before a restart */
        struct identity promise = {
            .cluster = again ? join->promise.cluster
                             : id_make(clock_wall_ms(join->worker->clock), 0, random_u64(&join->worker->random)),
            .node = join->identity->node,
            .partitions = (unsigned)join->config->partitions,
            .founders = *founders};
        join->promised_len = 0;
        join->asked_ms = 0;
        join->asking = keep_promise(join, &promise) == OK;
    }
    if (join->asking && join->promised_len + 1 == founders->len) {
        belong(join, &join->promise);
    } else if (join->asking && now_ms - join->asked_ms >= ASK_MS) {
        join->asked_ms = now_ms;
        ask_all(join);
    }
}

static void say_who_is_missing(struct join *join, int64_t now_ms)
{
    struct buf missing = {0};
    if (now_ms - join->said_ms < SAY_MS) {
        return;
    }
    join->said_ms = now_ms;
    peer_net_each(link, &join->net)
    {
        const struct peer_dial *dial = peer_dial_of(link);
        if (!peer_dial_is_up(dial)) {
            buf_printf(&missing, "%s%s", missing.len > 0 ? ", " : "", peer_dial_address(dial));
        }
    }
    buf_add_char(&missing, 0);
    log_text(join->log, LOG_INFO, "waiting to found or join a cluster", "%s%s",
             missing.len > 1 ? "no answer from " : "everybody answers; is this node's own address in --join?",
             (const char *)missing.ptr);
    buf_free(&missing);
}

static bool is_told_to_stop(void)
{
    sigset_t signals;
    struct timespec now = {0};
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    return sigtimedwait(&signals, NULL, &now) > 0;
}

static void on_look(struct timer *timer)
{
    struct join *join = container_of(timer, struct join, look);
    struct group_members founders;
    int64_t now_ms = clock_boot_ms(join->worker->clock);
    if (is_told_to_stop()) {
        (void)snprintf(join->why, join->why_cap, "stopped before it belonged to a cluster");
        end(join, ERR_SHUTTING_DOWN);
        return;
    }
    if (join_member(join)) {
        return;
    }
    if (gather_founders(join, &founders) && founders.list[0].replica == replica_of(join->identity->node)) {
        found(join, &founders, now_ms);
    }
    if (!join->done) {
        say_who_is_missing(join, now_ms);
        peer_net_flush(&join->net);
        worker_timer(join->worker, &join->look, LOOK_MS);
    }
}

/* ---- life ---- */

static enum err read_promise(struct join *join)
{
    enum err err = identity_read(disk_posix(), join->config->data, "promise", &join->promise);
    if (err == OK && !id_eq(join->promise.node, join->identity->node)) {
        err = ERR_NOT_FOUND;
    }
    if (err == ERR_NOT_FOUND) {
        join->promise = (struct identity){0};
        return OK;
    }
    (void)snprintf(join->why, join->why_cap, "the file %s/promise is damaged", join->config->data);
    return err;
}

static enum err open_net(struct join *join, const uint8_t *secret)
{
    struct link_hello hello = {.node = join->identity->node, .run = random_u64(&join->worker->random), .workers = 1};
    struct peer_net_handler handler = {met, on_message, join};
    unsigned port = 0;
    (void)snprintf(hello.address, sizeof hello.address, "%s", join->config->advertise);
    (void)snprintf(hello.software, sizeof hello.software, "%s", BELFRY_VERSION);
    peer_net_init(&join->net, join->worker, &hello, secret, &handler);
    join->nets[0] = &join->net;
    (void)snprintf(join->why, join->why_cap, "cannot listen for peers on %.200s", join->config->peer_listen);
    TRY(peer_net_listen(&join->net, join->config->peer_listen, join->nets, 1, &port));
    join->addresses = peer_net_dial_all(&join->net, join->config->join, NULL);
    peer_net_start(&join->net);
    return OK;
}

enum err join_run(const struct config *config, struct log *log, struct identity *identity, char *why, size_t why_cap)
{
    struct join join = {.config = config, .log = log, .identity = identity, .why = why, .why_cap = why_cap};
    uint8_t secret[LINK_SECRET_BYTES];
    bool has_secret;
    TRY(peers_load_secret(config, secret, &has_secret, why, why_cap));
    TRY(read_promise(&join));
    join.worker = mem_zalloc(sizeof *join.worker);
    worker_init(join.worker, 0, clock_system(), log);
    join.look.fire = on_look;
    enum err err = open_net(&join, has_secret ? secret : NULL);
    if (err == OK) {
        join.said_ms = clock_boot_ms(join.worker->clock);
        worker_timer(join.worker, &join.look, 0);
        worker_start(join.worker);
        worker_join(join.worker);
        worker_close(join.worker);
        err = join.err;
    }
    sodium_memzero(secret, sizeof secret);
    free(join.worker);
    return err;
}
