/* Who a data directory belongs to: the file `identity`, written once when it is founded. */
#ifndef BELFRY_IDENTITY_H
#define BELFRY_IDENTITY_H

#include "node/base/id.h"
#include "storage/disk.h"

struct identity {
    struct id cluster, node;
    unsigned partitions; /* that hold data; the system's is one more */
};

/* Errors: ERR_NOT_FOUND (the directory is new), ERR_CORRUPT, ERR_IO. */
enum err identity_read(struct disk *disk, const char *dir, struct identity *out) MUST_USE;
/* Founds a new node of a new cluster. */
enum err identity_found(struct disk *disk, const char *dir, unsigned partitions, int64_t now_ms) MUST_USE;

#endif
