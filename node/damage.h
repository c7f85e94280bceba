/* What was found broken in the data directory, at the start or since. A node with damage takes no
 * writes, and answers only what may be answered from what is whole, with ?consistency=local: nobody
 * can say what the broken part held. It stays so until an operator restores a backup or says
 * `belfry recover --accept-loss`. Any thread; it has its own lock. */
#ifndef BELFRY_DAMAGE_H
#define BELFRY_DAMAGE_H

#include "node/base/bytes.h"
#include "node/base/err.h"

enum damage_part { DAMAGE_IDENTITY, DAMAGE_DURABLE, DAMAGE_STATE, DAMAGE_LOG, DAMAGE_PARTS };

struct damage;

struct damage *damage_new(unsigned partitions);
void damage_free(struct damage *damage);
/* partition is -1 when it is not of one partition alone. Said again, it is not added again. */
void damage_add(struct damage *damage, enum damage_part part, int partition, const char *text);
bool damage_any(const struct damage *damage);
bool damage_in(const struct damage *damage, enum damage_part part);
/* Can the rows of this partition be believed? */
bool damage_spares(const struct damage *damage, unsigned partition);
/* A line a finding: "part: text". */
void damage_write(const struct damage *damage, const char *before, struct buf *out);

const char *damage_part_name(enum damage_part part);

#endif
