#include "node/tickets.h"

#include <sodium.h>
#include <stdlib.h>

enum { WORKER_BITS = 8, PLACE_BITS = 24 };

static unsigned place_of(uint64_t ticket)
{
    return (unsigned)(ticket >> WORKER_BITS) & ((1U << PLACE_BITS) - 1);
}

uint64_t tickets_take(struct tickets *tickets, unsigned worker, void *owner)
{
    for (unsigned i = 0; i < TICKETS_MAX; i++) {
        unsigned place = (tickets->next + i) % TICKETS_MAX;
        if (tickets->places[place].ticket == 0) {
            tickets->next = place + 1;
            tickets->drawn = tickets->drawn >= INT32_MAX ? 1 : tickets->drawn + 1;
            tickets->places[place].owner = owner;
            tickets->places[place].ticket =
                (uint64_t)tickets->drawn << (WORKER_BITS + PLACE_BITS) | (uint64_t)place << WORKER_BITS | worker;
            return tickets->places[place].ticket;
        }
    }
    return 0;
}

void *tickets_find(const struct tickets *tickets, uint64_t ticket)
{
    unsigned place = place_of(ticket);
    return ticket != 0 && place < TICKETS_MAX && tickets->places[place].ticket == ticket ? tickets->places[place].owner
                                                                                         : NULL;
}

void tickets_give_back(struct tickets *tickets, uint64_t ticket)
{
    if (tickets_find(tickets, ticket) != NULL) {
        tickets->places[place_of(ticket)].ticket = 0;
    }
}

/* ---- between workers ---- */

struct passed {
    struct message message;
    void (*take)(struct node_worker *worker, uint64_t by, struct bytes body);
    uint64_t by;
    size_t len;
    uint8_t body[];
};

static void run_passed(struct worker *base, struct message *message)
{
    struct passed *passed = container_of(message, struct passed, message);
    passed->take(node_worker_of(base), passed->by, bytes_of(passed->body, passed->len));
    sodium_memzero(passed->body, passed->len);
    free(passed);
}

void tickets_route(struct node_worker *worker, uint64_t ticket, uint64_t by, struct bytes body,
                   void (*take)(struct node_worker *worker, uint64_t by, struct bytes body))
{
    uint64_t index = ticket & ((1U << WORKER_BITS) - 1);
    struct node *node = worker->node;
    if (index == worker->worker.index) {
        take(worker, by, body);
    } else if (index < node->workers_len) {
        struct passed *passed = mem_zalloc(sizeof *passed + body.len);
        passed->message.run = run_passed;
        passed->take = take;
        passed->by = by;
        passed->len = body.len;
        memcpy(passed->body, body.ptr, body.len);
        worker_post(&node->workers[index].worker, &passed->message);
    }
}
