/* How a node without a cluster comes to one: with --join, before anything else runs. It speaks to all
 * addresses named there, its own among them, until
 *
 *   - one that belongs to a cluster answers: it joins that one, or
 *   - all answer, all are without a cluster: the one with the lowest replica number draws a cluster id and
 *     has everybody promise, in writing, to belong to that cluster alone; when all have, it writes its
 *     identity, and the cluster is founded. The others meet it as a member and keep their promise.
 *
 * Otherwise it waits: for ever, saying in its log for whom. A node that belongs to a cluster never gets
 * here again. With --found those that answer are taken for all. */
#ifndef BELFRY_JOIN_H
#define BELFRY_JOIN_H

#include "node/base/log.h"
#include "node/config.h"
#include "node/identity.h"

/* Waits until identity names a cluster and is written down. Errors: ERR_SHUTTING_DOWN (SIGTERM, SIGINT came:
 * both are blocked), ERR_IO and others; *why says what to tell the operator. */
enum err join_run(const struct config *config, struct log *log, struct identity *identity, char *why,
                  size_t why_cap) MUST_USE;

#endif
