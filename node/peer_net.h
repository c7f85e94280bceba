/* The links of one worker to other nodes' workers: it dials those it wants to speak to, and listens to
 * those that dial it; each connection is spoken on in one direction (cluster/link.h). A dialed link
 * that breaks is dialed again after a pause that grows to LIMIT_PEER_RETRY_MS, with chance in it.
 * What is added during a loop's turn goes out as one frame; while a link is down, or more than
 * LIMIT_PEER_QUEUE_BYTES wait on it, messages are refused: whoever sends them must cope.
 *
 * One worker listens for all: it reads which worker a connection asks for, and hands it over. */
#ifndef BELFRY_PEER_NET_H
#define BELFRY_PEER_NET_H

#include "cluster/link.h"
#include "node/identity.h"
#include "node/loop/worker.h"

struct peer_net;
struct peer_dial;

struct peer_net_handler {
    /* A peer's hello: on our dialing side (dialed: the replica expected there, or 0) or on our accepting
     * side. OK, or why it is not welcome, with words. */
    enum err (*met)(void *ctx, const struct link_hello *peer, bool dialed, char *why);
    /* A message from a peer that was welcome; borrowed. */
    void (*message)(void *ctx, const struct link_hello *from, uint8_t type, struct bytes body);
    void *ctx;
};

struct peer_net {
    struct worker *worker;
    struct link_hello hello;
    const uint8_t *secret; /* NULL: none */
    struct peer_net_handler handler;
    struct list dials, incoming, listeners;
    struct peer_net **nets; /* of all workers, this one's at worker->index */
    unsigned nets_len;
    struct timer tick;
    bool closing;
};

void peer_net_init(struct peer_net *net, struct worker *worker, const struct link_hello *hello, const uint8_t *secret,
                   const struct peer_net_handler *handler);
/* Listens at an address for all nets of the process. *port: as with listen_sockets. Before its loop runs.
 * Errors: ERR_IO. */
enum err peer_net_listen(struct peer_net *net, const char *address, struct peer_net **nets, unsigned nets_len,
                         unsigned *port) MUST_USE;
/* Begins to dial, on the net's thread or before it runs. */
void peer_net_start(struct peer_net *net);
/* Closes everything, on the net's thread. */
void peer_net_close(struct peer_net *net);

/* Keeps a link to this replica (0: to whoever answers there); of one that is dialed already the address is
 * changed. */
void peer_net_dial(struct peer_net *net, uint64_t replica, const char *address);
/* The same for each address of a list, whoever answers there, but for `own` (may be NULL); returns how many. */
unsigned peer_net_dial_all(struct peer_net *net, const char *list, const char *own);
void peer_net_hang_up(struct peer_dial *dial);
/* NULL when it is not dialed. */
struct peer_dial *peer_net_find(struct peer_net *net, uint64_t replica);
bool peer_dial_is_up(const struct peer_dial *dial);
int64_t peer_dial_up_ms(const struct peer_dial *dial); /* since when, of the boot clock; valid while it is up */
const char *peer_dial_address(const struct peer_dial *dial);
uint64_t peer_dial_replica(const struct peer_dial *dial);
/* Who answered; valid while it is up. */
const struct link_hello *peer_dial_peer(const struct peer_dial *dial);
/* False: not up, or too much is waiting. */
bool peer_net_send(struct peer_net *net, struct peer_dial *dial, uint8_t type, struct bytes body);
/* At the end of a turn: what was added goes out. */
void peer_net_flush(struct peer_net *net);

#define peer_net_each(dial, net) list_each(dial, &(net)->dials)
struct peer_dial *peer_dial_of(struct list *link);

#endif
