/* A partition's state, streamed from its leader to a replica that the log no longer serves.
 *
 * The leader's engine sends MESSAGE_INSTALL; this node's part is to stream the rows of one snapshot in
 * chunks (PEER_ROWS), each acknowledged once it is staged (PEER_STAGED), a window of them at a time, from
 * where it was after a broken connection. The receiver stages them beside what it has (storage/state.h),
 * checks counts and set hash, and then switches: engine, state in one transaction, durable point, log.
 * Until then it serves and votes as before; a crash leaves either what was or what is.
 *
 * Everything here runs on the partition's home worker. */
#ifndef BELFRY_INSTALL_H
#define BELFRY_INSTALL_H

#include "cluster/link.h"
#include "node/partition.h"

/* The engine wants that replica to get the state. */
void install_send(struct partition *partition, const struct group_message *message);
/* Messages, on any worker. */
void install_on_rows(struct node_worker *worker, const struct link_hello *from, struct bytes body);
void install_on_staged(struct node_worker *worker, const struct link_hello *from, struct bytes body);
/* Every 100 ms or so: what got stuck is tried again, or given up. */
void install_tend(struct partition *partition);
/* The senders before the state is closed, the rest after the last message. */
void install_close_senders(struct partition *partition);
void install_close(struct partition *partition);

#endif
