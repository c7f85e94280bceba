/* The other nodes: where they are, and what they and this node say to each other.
 *
 * The address book is the node's, under its own lock: who is a member says the membership of the groups,
 * where he is he says himself when he dials. Each worker keeps a link to every node in the book. */
#ifndef BELFRY_PEERS_H
#define BELFRY_PEERS_H

#include "node/node.h"

/* Types of messages; never reused. */
enum peer_message {
    PEER_GROUP = 1,   /* of a Raft group (cluster/wire.h) */
    PEER_COMMAND = 2, /* carry this out if you lead (node/forward.h) */
    PEER_ANSWER = 3,  /* what came of it */
    PEER_ASK = 4,     /* how far must a read see? */
    PEER_INDEX = 5,   /* so far */
    PEER_HASH = 6,    /* compute this password hash */
    PEER_HASHED = 7,  /* here it is */
    PEER_JOIN = 8,    /* take me into the cluster (node/join.h) */
    PEER_PROMISE = 9, /* founding: promise to belong to this cluster */
    PEER_PROMISED = 10,
    PEER_STATUS = 11, /* of a node (node/cluster_page.h) */
    PEER_DRAIN = 12,
    PEER_ROWS = 13,   /* of a partition's state (node/install.h) */
    PEER_STAGED = 14, /* so far it is taken over */
    PEER_LOAD = 15,   /* how busy I am (node/balance.h) */
    PEER_WATCH = 16   /* tell me of commits at once (node/hints.h) */
};

struct peers;
struct peers *peers_new(struct node *node);
void peers_free(struct peers *peers);
/* Reads --secret-file. Errors: ERR_NOT_FOUND, ERR_CORRUPT (not a secret), ERR_FORBIDDEN (an address off
 * loopback and no secret); *why says more. */
enum err peers_load_secret(const struct config *config, uint8_t out[LINK_SECRET_BYTES], bool *out_has, char *why,
                           size_t why_cap) MUST_USE;
/* Listens and begins to dial. Before the workers run. */
enum err peers_open(struct node *node, char *why, size_t why_cap) MUST_USE;

/* A membership names this replica; the address is a hint. Any thread. */
void peers_note(struct peers *peers, uint64_t replica, const char *address);
/* The id of a replica's node, as text; false when it was never met. Any thread. */
bool peers_name(struct peers *peers, uint64_t replica, char out[ID_TEXT_BYTES]);
/* Where it is reached; false when that is not known. Any thread. */
bool peers_address(struct peers *peers, uint64_t replica, char out[LINK_ADDRESS_BYTES]);
/* On a worker, now and then: dials what is new, hangs up on what is gone. */
void peers_sync(struct node_worker *worker);
/* To that replica's node. False: it is not reached at the moment. */
bool peers_send(struct node_worker *worker, uint64_t replica, uint8_t type, struct bytes body);
bool peers_reach(struct node_worker *worker, uint64_t replica);
/* For so long, without a break. */
bool peers_reach_since(struct node_worker *worker, uint64_t replica, int64_t ms);
/* All that are reached; returns how many. */
size_t peers_list_up(struct node_worker *worker, uint64_t out[LIMIT_PEERS]);

#endif
