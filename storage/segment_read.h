/* Reads a group's entries back from the segment files. See segments_read. */
#ifndef BELFRY_STORAGE_SEGMENT_READ_H
#define BELFRY_STORAGE_SEGMENT_READ_H

#include "storage/segment_index.h"

struct segment_read {
    struct disk *disk;
    const char *dir;
    struct segment_index *index;
    uint16_t group;
    uint64_t first;
    size_t max_entries, max_bytes;
    void (*each)(void *ctx, const struct segment_record *record);
    void *ctx;
};

enum err segment_read_run(const struct segment_read *read) MUST_USE;

#endif
