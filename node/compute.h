/* Password hashes under way: computed by this node's hashing processes, or by another node's
 * (node/balance.h chooses). A hash is a function of what it is given, so one that is not answered in time,
 * or whose node is lost, is simply sent to another, and at last computed here. Nodes of a cluster should
 * have the same --argon2-* flags: whoever computes uses its own.
 *
 * What is here belongs to a worker. Passwords are wiped wherever they were copied. */
#ifndef BELFRY_COMPUTE_H
#define BELFRY_COMPUTE_H

#include "cluster/link.h"
#include "node/crypto/hashers.h"
#include "node/node.h"

/* One hash, for an operation of this node or for another node. */
struct compute;

/* Called once, on the worker that began it, unless it was abandoned; result->err says whether it is good.
 * by: replica of the node that computed. */
typedef void compute_done(void *data, const struct hash_job *result, uint64_t by);

/* verify: against phc (empty: there is nobody; takes as long, never matches). Else a new hash.
 * NULL: nobody can take it. */
struct compute *compute_start(struct node_worker *worker, bool verify, struct bytes password, const char *phc,
                              compute_done *done, void *data);
/* Nobody waits for it any more; done is not called. */
void compute_abandon(struct compute *compute);

/* The node's, before its workers run; ended by balance_free. */
void computes_open(struct node *node);

/* ---- a worker's part ---- */

void computes_init(struct node_worker *worker);
void computes_close(struct node_worker *worker);
/* Every 100 ms: what got no answer is sent elsewhere; the first worker tells peers how busy the node is. */
void computes_tick(struct node_worker *worker);

/* Messages from other nodes. */
void compute_on_hash(struct node_worker *worker, const struct link_hello *from, struct bytes body);
void compute_on_hashed(struct node_worker *worker, const struct link_hello *from, struct bytes body);
void compute_on_load(struct node_worker *worker, const struct link_hello *from, struct bytes body);

#endif
