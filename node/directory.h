/* The data directory: one process at a time, and whose it is. */
#ifndef BELFRY_DIRECTORY_H
#define BELFRY_DIRECTORY_H

#include "node/node.h"

/* Makes and locks it. Errors: ERR_CONFLICT (another process has it), ERR_IO. */
enum err directory_lock(struct node *node, char *why, size_t why_cap) MUST_USE;
/* Reads who the node is; a new one is founded, or waits until it has founded or joined a cluster
 * (node/join.h). */
enum err directory_identify(struct node *node, char *why, size_t why_cap) MUST_USE;

#endif
