/* Which node computes the next password hash: what is known of each node, and the choice by policy. No I/O,
 * no clock, no chance of its own. Shared by all workers of the process: one lock, held for a look at the
 * table.
 *
 * A peer gets work while a worker has a link to it, its report is fresh, it does not stop, has room in its
 * queue, and its circuit breaker is closed: after LIMIT_BREAKER_FAILURES failures in a row it is open for a
 * pause that doubles, then half-open, when one hash is let through. This node gets work while there is room. */
#ifndef BELFRY_BALANCE_H
#define BELFRY_BALANCE_H

#include "node/base/bytes.h"
#include "node/base/random.h"

enum balance_policy {
    BALANCE_ROUND_ROBIN,            /* whoever's turn is longest ago */
    BALANCE_LEAST_CONNECTIONS,      /* whoever has the fewest hashes */
    BALANCE_WEIGHTED_RESPONSE_TIME, /* of two at random the one with the smaller response time, times hashes */
};
enum balance_breaker { BREAKER_CLOSED, BREAKER_HALF_OPEN, BREAKER_OPEN };

/* What a node says of itself. */
struct balance_load {
    unsigned hashes;    /* waiting or running there */
    unsigned yours;     /* those of them that the listener sent */
    unsigned processes; /* that compute them */
    double service_ms;  /* a hash alone, without waiting; a moving average; 0: not known */
    bool stopping;
};

struct balance_choice {
    uint64_t replica;    /* 0: nobody can take it */
    int64_t patience_ms; /* without an answer by then, try another */
};

enum balance_end {
    BALANCE_DONE,
    BALANCE_REFUSED, /* it is full, or stopping: nothing until it reports again */
    BALANCE_FAILED,  /* no answer in time, the link lost */
    BALANCE_DROPPED  /* nobody waits for it any more */
};

/* A node as the metrics show it. */
struct balance_view {
    uint64_t replica;
    uint64_t sent, failed, served; /* hashes sent there, failed there, computed here for it */
    unsigned outstanding;          /* sent there and not answered */
    double response_ms;            /* moving average; 0: not known */
    enum balance_breaker breaker;
    struct balance_load load;
};

bool balance_policy_find(const char *name, enum balance_policy *out) MUST_USE;

struct balance;
struct balance *balance_new(enum balance_policy policy, uint64_t self, unsigned processes);
void balance_free(struct balance *balance);

/* Chooses among this node (own_hashes are waiting or running here) and the peers in `reached`, and counts
 * the hash as sent. Whoever chose says later how it ended. */
struct balance_choice balance_choose(struct balance *balance, const uint64_t *reached, size_t reached_len,
                                     unsigned own_hashes, int64_t now_ms, struct random *random);
/* took_ms: from the choice to the answer, or to giving up. */
void balance_ended(struct balance *balance, uint64_t replica, enum balance_end end, int64_t took_ms, int64_t now_ms);

/* What a peer reports. */
void balance_report(struct balance *balance, uint64_t replica, const struct balance_load *load, int64_t now_ms);
/* It has not reported for so long that what it has should be sent elsewhere. */
bool balance_is_silent(struct balance *balance, uint64_t replica, int64_t now_ms);

/* This node computes: for another node (0: for itself) it begins and ends; what one took. */
void balance_serve(struct balance *balance, uint64_t replica);
void balance_served(struct balance *balance, uint64_t replica, double service_ms);
/* What this node reports to that peer. */
struct balance_load balance_load_for(struct balance *balance, uint64_t replica, unsigned own_hashes, bool stopping);

/* Fills views, this node first; returns how many. */
size_t balance_views(struct balance *balance, int64_t now_ms, struct balance_view *out, size_t cap);

#endif
