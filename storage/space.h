/* Room on the disk: below a watermark the node takes deletions alone; and a spare file keeps a few
 * MiB that are given back when others have filled the disk to the last byte, so that deletions, votes
 * and durable points still can be written. One thread. */
#ifndef BELFRY_STORAGE_SPACE_H
#define BELFRY_STORAGE_SPACE_H

#include "node/base/bytes.h"
#include "node/base/err.h"

struct space {
    const char *dir;
    uint64_t low_bytes; /* the watermark */
    bool spared;        /* the spare file is there */
};

/* Before a start: what a spare file held is free for it. */
void space_init(struct space *space, const char *dir, uint64_t low_bytes);
/* Looks again, and makes or gives back the spare file. True: there is too little room. */
bool space_is_low(struct space *space);

#endif
