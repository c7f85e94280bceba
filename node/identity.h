/* Who this node is: ids that live in the data directory, not addresses. Also what was fixed when the
 * directory was founded: the number of partitions. */
#ifndef BELFRY_IDENTITY_H
#define BELFRY_IDENTITY_H

#include "node/node.h"

/* Reads DIR/identity, or founds it; fills the node's ids, name and partition counts.
 * Errors: ERR_CORRUPT, ERR_IO. */
enum err identity_load(struct node *node) MUST_USE;

#endif
