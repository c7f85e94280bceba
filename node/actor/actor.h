/* Actors: an address, a mailbox, and nothing that matters. The truth is in the log and the state;
 * an actor that is forgotten loses nothing but the place in line of nobody (see README).
 *
 * One registry a worker, for the actors whose partitions the worker owns. An actor is made when a
 * command comes for it and passivated when it was idle for LIMIT_ACTOR_IDLE_MS. Commands are taken
 * from a mailbox in order; an actor is in its partition's run queue at most once. */
#ifndef BELFRY_ACTOR_ACTOR_H
#define BELFRY_ACTOR_ACTOR_H

#include "node/base/list.h"
#include "node/base/map.h"

/* What lies in a mailbox: embedded in a command under way. */
struct mail {
    struct list link;
};

struct actor; /* opaque; below 256 bytes with its place in the registry */

struct actors {
    struct map map;
    struct list idle; /* least recently used first */
    unsigned mailbox_limit;
    uint64_t activated, passivated, overloaded;
    uint64_t mails; /* waiting, in all */
};

void actors_init(struct actors *actors, unsigned mailbox_limit);
void actors_close(struct actors *actors);
size_t actors_live(const struct actors *actors);

/* The actor of this address; made if need be. */
struct actor *actors_get(struct actors *actors, unsigned partition, uint8_t kind, struct bytes key, int64_t now_ms);
/* Puts a command into the mailbox and the actor into the run queue. False: the mailbox is full. */
bool actor_push(struct actors *actors, struct actor *actor, struct mail *mail, struct list *run_queue) MUST_USE;
/* The next actor with mail, taken off the run queue; NULL when there is none. */
struct actor *actors_next(struct list *run_queue);
/* Puts it back at the end: it has more mail than could be taken. */
void actor_requeue(struct actor *actor, struct list *run_queue);
bool actor_has_mail(const struct actor *actor);
/* Takes the oldest command out; NULL when empty. It counts as under way until actor_answered. */
struct mail *actor_pop(struct actors *actors, struct actor *actor);
void actor_answered(struct actors *actors, struct actor *actor, int64_t now_ms);
/* Forgets actors that were idle since before_ms; at most `most` of them. */
unsigned actors_passivate(struct actors *actors, int64_t before_ms, unsigned most);

#endif
