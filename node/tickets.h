/* Who waits for an answer of another node: a ticket goes out with the question and comes back with the
 * answer, on whichever worker's link that comes. Its low byte is the worker that waits, the next 24 bits a
 * place there, the rest tells it from earlier tickets of that place. A table belongs to one worker. */
#ifndef BELFRY_TICKETS_H
#define BELFRY_TICKETS_H

#include "node/node.h"

enum { TICKETS_MAX = 8192 };

struct tickets {
    struct {
        uint64_t ticket; /* 0: the place is free */
        void *owner;
    } places[TICKETS_MAX];
    unsigned next;
    uint32_t drawn;
};

/* 0: all places are taken. Never above INT64_MAX. */
uint64_t tickets_take(struct tickets *tickets, unsigned worker, void *owner) MUST_USE;
/* NULL: nobody waits any more. */
void *tickets_find(const struct tickets *tickets, uint64_t ticket);
/* 0 is none. */
void tickets_give_back(struct tickets *tickets, uint64_t ticket);

/* Brings an answer to the worker that waits: take runs there, at once if it is this one. The body is
 * borrowed; a copy that was made is wiped. */
void tickets_route(struct node_worker *worker, uint64_t ticket, uint64_t by, struct bytes body,
                   void (*take)(struct node_worker *worker, uint64_t by, struct bytes body));

#endif
