/* The entries of one group's log that are in memory, and which of its writes are not synced yet.
 * No engine in here: an ordered run of entries, kept until they are applied and no longer among the
 * newest, and a queue of writes that are numbered as they are asked for. */
#ifndef BELFRY_CLUSTER_GROUP_ENTRIES_H
#define BELFRY_CLUSTER_GROUP_ENTRIES_H

#include "cluster/group.h"

struct group_write {
    uint64_t number;
    uint64_t index;      /* of the entry; 0: a hard state, or the entry was replaced since */
    struct bytes buried; /* the payload of an entry that was replaced while it was being written */
};

struct group_entries {
    struct group_entry *ring; /* entry i stands at i % cap */
    size_t cap;               /* a power of two */
    uint64_t first, last;     /* kept: first ... last; empty when first > last */
    uint64_t applied;         /* entries up to here may be dropped */
    size_t applied_bytes, keep_bytes;

    struct group_write *writes; /* not synced: a ring of their own */
    size_t writes_cap, writes_at, writes_len;
    uint64_t number; /* of the newest write asked for */
    uint64_t synced; /* of the newest one synced */
};

/* Empty, behind an entry last. */
void group_entries_init(struct group_entries *entries, uint64_t last, size_t keep_bytes);
void group_entries_close(struct group_entries *entries);
/* NULL when it is not kept. */
const struct group_entry *group_entries_find(const struct group_entries *entries, uint64_t index);
/* Adds an entry that is on disk already; its index is last + 1. */
void group_entries_load(struct group_entries *entries, struct group_entry entry);
/* Adds an entry that is to be written: those at and above its index are replaced. */
const struct group_entry *group_entries_append(struct group_entries *entries, struct group_entry entry);
/* A hard state is to be written. */
void group_entries_hard_state(struct group_entries *entries);
/* Writes up to number are on disk. Returns the highest index among them that still stands, or 0. */
uint64_t group_entries_synced(struct group_entries *entries, uint64_t number);
/* Entries up to index are applied. */
void group_entries_applied(struct group_entries *entries, uint64_t index);
/* Everything is gone: the log begins anew behind an entry last. Nothing is being written. */
void group_entries_reset(struct group_entries *entries, uint64_t last);

#endif
