/* Who watches something (node/watch.h) on a node that does not lead the partition would hear of a commit with the next
 * heartbeat, up to 50 ms later. So a node where anything is watched says so to the others, and leaders tell it what
 * they have committed at the end of the turn in which they learn it. */
#ifndef BELFRY_HINTS_H
#define BELFRY_HINTS_H

#include "cluster/link.h"
#include "node/node.h"

struct hints;
struct hints *hints_new(void);
void hints_free(struct hints *hints);
/* On a worker: something is watched here. Again and again, as long as it is. */
void hints_want(struct node_worker *worker);
/* PEER_WATCH: something is watched there. */
void hints_on_watch(struct node_worker *worker, const struct link_hello *from);
/* At the end of a turn, after the partitions': what was committed goes out. */
void hints_turn_end(struct node_worker *worker);

#endif
