#include "node/peers.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/cluster_page.h"
#include "node/compute.h"
#include "node/crypto/key_file.h"
#include "node/forward.h"
#include "node/hints.h"
#include "node/install.h"
#include "node/members.h"
#include "node/partition.h"

struct entry {
    uint64_t replica;
    struct id node; /* none: never met */
    char address[LINK_ADDRESS_BYTES];
    int64_t noted_ms;
};

struct peers {
    struct node *node;
    pthread_mutex_t mutex;
    struct entry list[LIMIT_PEERS];
    unsigned len;
    uint8_t secret[LINK_SECRET_BYTES];
    bool has_secret;
    struct peer_net **nets;
};

/* ---- the book ---- */

static void lock(struct peers *peers)
{
    CHECK(pthread_mutex_lock(&peers->mutex) == 0);
}
static void unlock(struct peers *peers)
{
    CHECK(pthread_mutex_unlock(&peers->mutex) == 0);
}

/* With the lock held. NULL: the book is full. */
static struct entry *entry_of(struct peers *peers, uint64_t replica)
{
    for (unsigned i = 0; i < peers->len; i++) {
        if (peers->list[i].replica == replica) {
            return &peers->list[i];
        }
    }
    if (peers->len == LIMIT_PEERS) {
        return NULL;
    }
    struct entry *entry = &peers->list[peers->len++];
    *entry = (struct entry){.replica = replica};
    return entry;
}

void peers_note(struct peers *peers, uint64_t replica, const char *address)
{
    if (replica == peers->node->replica) {
        return;
    }
    lock(peers);
    struct entry *entry = entry_of(peers, replica);
    if (entry != NULL) {
        entry->noted_ms = clock_boot_ms(peers->node->clock);
        if (entry->address[0] == 0) {
            (void)snprintf(entry->address, sizeof entry->address, "%s", address);
        }
    }
    unlock(peers);
}

static void learn(struct peers *peers, const struct link_hello *hello)
{
    lock(peers);
    struct entry *entry = entry_of(peers, replica_of(hello->node));
    if (entry != NULL) {
        entry->node = hello->node;
        entry->noted_ms = clock_boot_ms(peers->node->clock);
        if (hello->address[0] != 0) {
            (void)snprintf(entry->address, sizeof entry->address, "%s", hello->address);
        }
    }
    unlock(peers);
}

bool peers_name(struct peers *peers, uint64_t replica, char out[ID_TEXT_BYTES])
{
    bool known = false;
    if (replica == peers->node->replica) {
        memcpy(out, peers->node->name, ID_TEXT_BYTES);
        return true;
    }
    lock(peers);
    for (unsigned i = 0; i < peers->len; i++) {
        if (peers->list[i].replica == replica && !id_is_none(peers->list[i].node)) {
            id_format(peers->list[i].node, out);
            known = true;
        }
    }
    unlock(peers);
    return known;
}

bool peers_address(struct peers *peers, uint64_t replica, char out[LINK_ADDRESS_BYTES])
{
    bool known = false;
    lock(peers);
    for (unsigned i = 0; i < peers->len && !known; i++) {
        known = peers->list[i].replica == replica && peers->list[i].address[0] != 0;
        if (known) {
            (void)snprintf(out, LINK_ADDRESS_BYTES, "%s", peers->list[i].address);
        }
    }
    unlock(peers);
    return known;
}

/* ---- links ---- */

static enum err met(void *ctx, const struct link_hello *peer, bool dialed, char *why)
{
    struct node_worker *worker = ctx;
    struct node *node = worker->node;
    if (id_eq(peer->node, node->id)) {
        (void)snprintf(why, LINK_REASON_BYTES, "it is this very node");
        return ERR_FORBIDDEN;
    }
    if (id_is_none(peer->cluster) ? dialed : !id_eq(peer->cluster, node->cluster_id)) {
        (void)snprintf(why, LINK_REASON_BYTES, "it belongs to another cluster");
        return ERR_FORBIDDEN;
    }
    if (!id_is_none(peer->cluster)) {
        learn(node->peers, peer);
    }
    return OK;
}

static void on_message(void *ctx, const struct link_hello *from, uint8_t type, struct bytes body)
{
    struct node_worker *worker = ctx;
    if (id_is_none(from->cluster)) {
        return;
    }
    switch ((enum peer_message)type) {
    case PEER_GROUP: partition_receive(worker, body); return;
    case PEER_COMMAND: forward_on_command(worker, from, body); return;
    case PEER_ANSWER: forward_on_answer(worker, from, body); return;
    case PEER_ASK: forward_on_ask(worker, from, body); return;
    case PEER_INDEX: forward_on_index(worker, from, body); return;
    case PEER_HASH: compute_on_hash(worker, from, body); return;
    case PEER_HASHED: compute_on_hashed(worker, from, body); return;
    case PEER_LOAD: compute_on_load(worker, from, body); return;
    case PEER_WATCH: hints_on_watch(worker, from); return;
    case PEER_JOIN: members_on_join(worker, from, body); return;
    case PEER_STATUS: statuses_on_status(worker, from, body); return;
    case PEER_DRAIN: statuses_on_drain(worker, body); return;
    case PEER_ROWS: install_on_rows(worker, from, body); return;
    case PEER_STAGED: install_on_staged(worker, from, body); return;
    case PEER_PROMISE:
    case PEER_PROMISED: return;
    }
}

static bool is_loopback(const char *address)
{
    return strncmp(address, "127.", 4) == 0 || strncmp(address, "localhost:", 10) == 0 ||
           strncmp(address, "[::1]:", 6) == 0;
}

enum err peers_load_secret(const struct config *config, uint8_t out[LINK_SECRET_BYTES], bool *out_has, char *why,
                           size_t why_cap)
{
    *out_has = config->secret_file[0] != 0;
    if (*out_has) {
        (void)snprintf(why, why_cap, "the secret file %.300s cannot be read or holds no secret", config->secret_file);
        return key_file_read(config->secret_file, out);
    }
    (void)snprintf(why, why_cap, "--peer-listen %.200s is not loopback: that needs --secret-file (belfry secret FILE)",
                   config->peer_listen);
    return is_loopback(config->peer_listen) ? OK : ERR_FORBIDDEN;
}

struct peers *peers_new(struct node *node)
{
    struct peers *peers = mem_zalloc(sizeof *peers);
    peers->node = node;
    CHECK(pthread_mutex_init(&peers->mutex, NULL) == 0);
    return peers;
}

void peers_free(struct peers *peers)
{
    sodium_memzero(peers->secret, sizeof peers->secret);
    (void)pthread_mutex_destroy(&peers->mutex);
    free(peers->nets);
    free(peers);
}

/* --advertise, or where it listens. */
static void set_advertised(struct node *node)
{
    const struct config *config = &node->config;
    const char *colon = strrchr(config->peer_listen, ':');
    int host = colon == NULL ? 0 : (int)(colon - config->peer_listen);
    if (config->advertise[0] != 0) {
        (void)snprintf(node->advertise, sizeof node->advertise, "%s", config->advertise);
    } else {
        (void)snprintf(node->advertise, sizeof node->advertise, "%.*s:%u", host, config->peer_listen, node->peer_port);
    }
}

enum err peers_open(struct node *node, char *why, size_t why_cap)
{
    struct peers *peers = node->peers;
    struct link_hello hello = {.node = node->id,
                               .cluster = node->cluster_id,
                               .run = random_u64(&node->workers[0].worker.random),
                               .partitions = node->data_partitions,
                               .workers = node->workers_len};
    unsigned port = 0;
    TRY(peers_load_secret(&node->config, peers->secret, &peers->has_secret, why, why_cap));
    peers->nets = mem_zalloc(node->workers_len * sizeof(struct peer_net *));
    (void)snprintf(hello.software, sizeof hello.software, "%s", BELFRY_VERSION);
    for (unsigned w = 0; w < node->workers_len; w++) {
        struct node_worker *worker = &node->workers[w];
        struct peer_net_handler handler = {met, on_message, worker};
        peer_net_init(&worker->peers, &worker->worker, &hello, peers->has_secret ? peers->secret : NULL, &handler);
        peers->nets[w] = &worker->peers;
    }
    (void)snprintf(why, why_cap, "cannot listen for peers on %.200s", node->config.peer_listen);
    TRY(peer_net_listen(&node->workers[0].peers, node->config.peer_listen, peers->nets, node->workers_len, &port));
    node->peer_port = port;
    set_advertised(node);
    for (unsigned w = 0; w < node->workers_len; w++) {
        struct peer_net *net = &node->workers[w].peers;
        (void)snprintf(net->hello.address, sizeof net->hello.address, "%s", node->advertise);
        peer_net_start(net);
    }
    /* Members are known by the groups; one that has just joined has none yet, and addresses change. */
    (void)peer_net_dial_all(&node->partitions[0].home->peers, node->config.join, node->advertise);
    return OK;
}

/* ---- a worker's ---- */

/* An address of --join is dialed until it is known who lives there. */
static bool is_known(const struct entry *list, unsigned len, const char *address)
{
    for (unsigned i = 0; i < len; i++) {
        if (strcmp(list[i].address, address) == 0 && !id_is_none(list[i].node)) {
            return true;
        }
    }
    return false;
}

void peers_sync(struct node_worker *worker)
{
    struct peers *peers = worker->node->peers;
    struct peer_net *net = &worker->peers;
    struct entry list[LIMIT_PEERS];
    net->hello.has_leader = atomic_load(&worker->node->partitions[0].leader_replica) != 0;
    int64_t now_ms = clock_boot_ms(worker->node->clock);
    unsigned len = 0;
    lock(peers);
    for (unsigned i = 0; i < peers->len; i++) {
        if (peers->list[i].noted_ms < now_ms - LIMIT_PEER_KEEP_MS) {
            peers->list[i--] = peers->list[--peers->len];
        } else {
            list[len++] = peers->list[i];
        }
    }
    unlock(peers);
    for (unsigned i = 0; i < len; i++) {
        if (list[i].address[0] != 0) {
            peer_net_dial(net, list[i].replica, list[i].address);
        }
    }
    struct list *next;
    for (struct list *link = net->dials.next; link != &net->dials; link = next) {
        struct peer_dial *dial = peer_dial_of(link);
        bool wanted = false;
        next = link->next;
        for (unsigned i = 0; i < len; i++) {
            wanted = wanted || list[i].replica == peer_dial_replica(dial);
        }
        wanted = wanted || (peer_dial_replica(dial) == 0 && !is_known(list, len, peer_dial_address(dial)));
        if (!wanted) {
            peer_net_hang_up(dial);
        }
    }
}

bool peers_send(struct node_worker *worker, uint64_t replica, uint8_t type, struct bytes body)
{
    return peer_net_send(&worker->peers, peer_net_find(&worker->peers, replica), type, body);
}

bool peers_reach(struct node_worker *worker, uint64_t replica)
{
    const struct peer_dial *dial = peer_net_find(&worker->peers, replica);
    return dial != NULL && peer_dial_is_up(dial);
}

bool peers_reach_since(struct node_worker *worker, uint64_t replica, int64_t ms)
{
    const struct peer_dial *dial = peer_net_find(&worker->peers, replica);
    return dial != NULL && peer_dial_is_up(dial) && clock_boot_ms(worker->node->clock) - peer_dial_up_ms(dial) >= ms;
}

size_t peers_list_up(struct node_worker *worker, uint64_t out[LIMIT_PEERS])
{
    size_t len = 0;
    peer_net_each(link, &worker->peers)
    {
        const struct peer_dial *dial = peer_dial_of(link);
        if (len < LIMIT_PEERS && peer_dial_is_up(dial)) {
            out[len++] = peer_dial_replica(dial);
        }
    }
    return len;
}
