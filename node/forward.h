/* Work that belongs on another node: commands to the partition's leader, and the question how far a read
 * must see. A command is tried until it is answered, on whoever leads, under the same request id, so that
 * it is carried out once however often it is sent; after LIMIT_RETRY_MS without a leader it is 503.
 *
 * Everything here belongs to a worker; what it says of itself in messages is: whose ticket it is. */
#ifndef BELFRY_FORWARD_H
#define BELFRY_FORWARD_H

#include "cluster/link.h"
#include "node/partition.h"

/* ---- commands ---- */

/* On submission->from: carries it out, here or elsewhere; done is called exactly once. */
void forward_submit(struct submission *submission);

/* Has the system partition carry out one of its commands; in is the operation's input. Nobody waits for what
 * comes of it. */
void forward_system(struct node_worker *worker, uint8_t op, const void *in);

/* ---- reads ---- */

/* Of a partition that is led elsewhere: the number of the question whose answer says how far a read that
 * begins now must see. It goes out at the turn's end, one for all reads. */
uint64_t forward_ask(struct node_worker *worker, unsigned partition);
/* Whether it is answered, and the index. */
bool forward_answered(const struct node_worker *worker, unsigned partition, uint64_t number, uint64_t *out_index);

/* To a PEER_INDEX message: what is committed, on its partition's worker, where it is led; nobody asked. */
void forward_add_index(struct buf *out, const struct partition *partition, uint64_t commit);

/* ---- a worker's part ---- */

void forward_init(struct node_worker *worker);
void forward_close(struct node_worker *worker);
/* At the end of a turn: the questions go out. */
void forward_turn_end(struct node_worker *worker);
/* Every 10 to 20 ms: what found no leader, or no answer, is tried again. */
void forward_tick(struct node_worker *worker);

/* Messages from other nodes. */
void forward_on_command(struct node_worker *worker, const struct link_hello *from, struct bytes body);
void forward_on_answer(struct node_worker *worker, const struct link_hello *from, struct bytes body);
void forward_on_ask(struct node_worker *worker, const struct link_hello *from, struct bytes body);
void forward_on_index(struct node_worker *worker, const struct link_hello *from, struct bytes body);

#endif
