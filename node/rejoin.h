/* A node of a cluster whose data is damaged does not mend it: the others have it whole. It sets its data
 * aside and comes back as a new member, who gets everything anew; the one it was is taken out by the
 * others, since its address is another's now. Only when a member of its cluster answers that has a leader:
 * with no quorum elsewhere its data may be needed, and it stays as it is, read-only. */
#ifndef BELFRY_REJOIN_H
#define BELFRY_REJOIN_H

#include "node/base/log.h"
#include "node/config.h"
#include "node/identity.h"

/* Asks the addresses of --join; waits for an answer no longer than a few seconds. */
bool rejoin_is_possible(const struct config *config, struct log *log, const struct identity *identity);
/* Moves all but the lock into a directory damaged-TIME beside it. Errors: ERR_IO. */
enum err rejoin_set_aside(const char *data, int64_t now_ms) MUST_USE;
/* The process begins anew, with the same arguments. Returns on failure alone. */
void rejoin_restart(void);

#endif
