/* How a row stands in the state file.
 * Key: partition (2 bytes, big endian) | table (1) | key. Value: checksum (8) | value; the checksum is
 * XXH3 over key and value. Table 0 is the partition's bookkeeping row. */
#ifndef BELFRY_STORAGE_ROW_H
#define BELFRY_STORAGE_ROW_H

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "storage/state.h"

enum { ROW_PREFIX_BYTES = 3, ROW_SUM_BYTES = 8, ROW_KEY_MAX = 511, ROW_TABLE_BOOK = 0 };

static inline uint64_t row_sum(struct bytes key, struct bytes value)
{
    return XXH3_64bits_withSeed(value.ptr, value.len, XXH3_64bits(key.ptr, key.len));
}

/* The value within what is stored; ERR_CORRUPT when its checksum does not hold. */
static inline enum err row_open(struct bytes key, struct bytes stored, struct bytes *out, uint64_t *out_sum)
{
    if (stored.len < ROW_SUM_BYTES) {
        return ERR_CORRUPT;
    }
    memcpy(out_sum, stored.ptr, ROW_SUM_BYTES);
    *out = bytes_of(stored.ptr + ROW_SUM_BYTES, stored.len - ROW_SUM_BYTES);
    return row_sum(key, *out) == *out_sum ? OK : ERR_CORRUPT;
}

static inline unsigned row_partition(struct bytes key)
{
    return (unsigned)key.ptr[0] << 8 | key.ptr[1];
}

#endif
