/* Who waits for a commit that concerns something: an account's event log, a topic.
 *
 * A reducer touches ids (turn_touch). The state writer marks their hashes, and after the commit the marks go to the
 * workers that have a watch of such a hash: all of those are rung, so a watch may ring for another id's sake. What
 * happened must be looked up. A commit in which a watched id was touched comes at once.
 *
 * A watch belongs to a worker; whoever adds it and looks at the state afterwards misses nothing. */
#ifndef BELFRY_WATCH_H
#define BELFRY_WATCH_H

#include "node/node.h"

struct watches;     /* a worker's */
struct watch_marks; /* the node's */

struct watch {
    struct list link;
    struct id id;
    unsigned hash;
    /* At the end of a turn; it must not add or remove watches. */
    void (*rung)(struct watch *watch);
};

/* Set by the owner before: id, rung. */
void watch_add(struct node_worker *worker, struct watch *watch);
void watch_remove(struct node_worker *worker, struct watch *watch);

/* What a watch rings for may be for one of many who wait, on several nodes: of those all but one ask in vain, and each
 * question is an entry in the log. So a worker whose scripts asked in vain is late: what rings for that id (or one with
 * its hash) is looked at LIMIT_LATE_MS later, when it may be gone. Who finds it still there and gets it is late no
 * more. */
void watch_asked(struct node_worker *worker, struct id id, bool got);
bool watch_is_late(const struct node_worker *worker, const struct watch *watch);

/* ---- of a worker ---- */
struct watches *watches_new(void);
void watches_free(struct watches *watches);
/* Every 10 to 20 ms: as long as anything is watched, the other nodes are told so. */
void watches_tick(struct node_worker *worker);
/* At the end of a turn: rings. */
void watches_turn_end(struct node_worker *worker);

/* ---- of the node ---- */
struct watch_marks *watch_marks_new(void);
void watch_marks_free(struct watch_marks *marks);
/* On the state writer's thread: a reducer's notice; and after a commit, what was noticed is to be seen. */
void watch_notice(struct node *node, const struct notice *notice);
void watch_committed(struct node *node);
/* On the state writer's thread: somebody waits for what the open transaction holds. */
bool watch_wants_commit(const struct node *node);
/* Any thread: a partition's rows are others now. */
void watch_ring_all(struct node *node);

#endif
