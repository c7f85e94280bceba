/* Where in the segment files a group's entries stand, so that they can be read back.
 *
 * Per group a list of runs: from its first entry on, up to the run behind it, the group's entries
 * stand behind each other in one file, others' between them. A run begins with a file, where an
 * entry replaces others (the runs beyond are forgotten; all of them where its log begins anew), and every 64 KiB of
 * file, or 4 KiB times the number of groups where that is more: so runs take at most 6 MiB of memory a GiB of log
 * (twice that while a list grows), and one more for each replacement, of which a change of leaders makes one.
 *
 * Knows synced entries alone. Safe on any thread: a short lock of its own. */
#ifndef BELFRY_STORAGE_SEGMENT_INDEX_H
#define BELFRY_STORAGE_SEGMENT_INDEX_H

#include "storage/segments.h"

struct segment_index; /* opaque */

struct segment_place {
    uint64_t number, at; /* the file, and the offset of the record of entry `first` */
    uint64_t first, end; /* entries first ... end - 1 stand in order from there */
    uint64_t limit;      /* so many bytes of the file are synced; UINT64_MAX: all that were written */
    uint64_t version;    /* counts what was replaced in the group */
};

struct segment_index *segment_index_new(unsigned groups);
void segment_index_free(struct segment_index *index);
/* Synced records, whole and in order, that stand in that file at that offset. */
void segment_index_add(struct segment_index *index, uint64_t number, uint64_t at, struct bytes records);
/* Forgets the file of that number and those before. */
void segment_index_drop(struct segment_index *index, uint64_t number);
/* The run that holds the entry; false when there is none. */
bool segment_index_find(struct segment_index *index, uint16_t group, uint64_t entry,
                        struct segment_place *out) MUST_USE;
/* As segments_first. */
uint64_t segment_index_first(struct segment_index *index, uint16_t group);

#endif
