/* How far the wall clocks of other nodes are from this one's, by what they say of theirs, and whether this node's is
 * the one that is wrong. A node that is off by more than LIMIT_CLOCK_SKEW_MS from the median leads nothing: it would
 * ring too early, and stamp what others then cannot follow. Its own lock. */
#ifndef BELFRY_SKEW_H
#define BELFRY_SKEW_H

#include "node/base/clock.h"

struct skew;

struct skew *skew_new(void);
void skew_free(struct skew *skew);
/* A node's wall clock as it was when it sent, and ours now. now_ms: of the boot clock. */
void skew_note(struct skew *skew, uint64_t replica, int64_t their_wall_ms, int64_t wall_ms, int64_t now_ms);
/* This node's clock is off, as most nodes see it; false when fewer than three clocks are known. */
bool skew_is_off(struct skew *skew, int64_t now_ms);
/* A clock that was heard of lately says the same as ours, as far as one can tell already. */
bool skew_agrees(struct skew *skew, int64_t now_ms);
/* That node's clock is known, and not off. */
bool skew_is_peer_right(struct skew *skew, uint64_t replica, int64_t now_ms);

#endif
