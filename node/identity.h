/* Who a data directory belongs to: the file `identity`. A node draws its id before it first speaks to
 * another; it belongs to a cluster from the moment that is written here, and then for ever. */
#ifndef BELFRY_IDENTITY_H
#define BELFRY_IDENTITY_H

#include "cluster/group.h"
#include "node/base/id.h"
#include "storage/disk.h"

struct identity {
    struct id cluster; /* none: it has yet to found or join one */
    struct id node;
    unsigned partitions; /* that hold data; the system's is one more */
    /* Those it was founded with, this node among them, the same on all; none: it joined later. */
    struct group_members founders;
};

/* A new node's id, in no cluster. */
void identity_draw(struct identity *out, int64_t now_ms);
/* A new cluster of this node alone. */
void identity_found_alone(struct identity *identity, unsigned partitions, const char *address, int64_t now_ms);
/* A node's replica number in every group: the random half of its id. */
uint64_t replica_of(struct id node);

/* Errors: ERR_NOT_FOUND (the directory is new), ERR_CORRUPT, ERR_IO. The file is `identity`, or `promise`
 * while a cluster is being founded (node/join.h). */
enum err identity_read(struct disk *disk, const char *dir, const char *name, struct identity *out) MUST_USE;
enum err identity_write(struct disk *disk, const char *dir, const char *name, const struct identity *identity) MUST_USE;

#endif
