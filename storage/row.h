/* How a row stands in the state file.
 * Key: prefix (2 bytes, big endian) | table (1) | key. Value: checksum (8) | value. Table 0 is the
 * partition's bookkeeping row. The prefix is the partition's number, with ROW_SLOT set in the second of its
 * two slots: one is live, the other is the stage for rows that come from another replica. Which one is live
 * says the row of prefix 0xFFFF, table 0: a bit a partition; without that row all live in the first.
 *
 * The checksum is XXH3 over the value and the key without ROW_SLOT, so that a row counts the same in either
 * slot; what is stored differs by a constant, so that a row of one slot is none of the other. */
#ifndef BELFRY_STORAGE_ROW_H
#define BELFRY_STORAGE_ROW_H

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "storage/state.h"

enum {
    ROW_PREFIX_BYTES = 3,
    ROW_SUM_BYTES = 8,
    ROW_KEY_MAX = 511,
    ROW_TABLE_BOOK = 0,
    ROW_SLOT = 0x8000,
    ROW_SLOTS = 0xFFFF /* prefix of the row that says which slots are live */
};

/* Whatever the slot: what is summed up to the set hash. */
static inline uint64_t row_sum(struct bytes key, struct bytes value)
{
    uint8_t plain[ROW_KEY_MAX];
    if (key.len > 0 && key.len <= sizeof plain && (key.ptr[0] & 0x80) != 0) {
        memcpy(plain, key.ptr, key.len);
        plain[0] &= 0x7F;
        key.ptr = plain;
    }
    return XXH3_64bits_withSeed(value.ptr, value.len, XXH3_64bits(key.ptr, key.len));
}

/* From the sum to what is stored, and back. */
static inline uint64_t row_seal(struct bytes key, uint64_t sum)
{
    return key.len > 0 && (key.ptr[0] & 0x80) != 0 ? sum ^ 0xA5C3A5C3A5C3A5C3U : sum;
}

/* The value within what is stored; ERR_CORRUPT when its checksum does not hold. */
static inline enum err row_open(struct bytes key, struct bytes stored, struct bytes *out, uint64_t *out_sum)
{
    if (stored.len < ROW_SUM_BYTES) {
        return ERR_CORRUPT;
    }
    memcpy(out_sum, stored.ptr, ROW_SUM_BYTES);
    *out_sum = row_seal(key, *out_sum);
    *out = bytes_of(stored.ptr + ROW_SUM_BYTES, stored.len - ROW_SUM_BYTES);
    return row_sum(key, *out) == *out_sum ? OK : ERR_CORRUPT;
}

static inline unsigned row_prefix(struct bytes key)
{
    return (unsigned)key.ptr[0] << 8 | key.ptr[1];
}

/* The row of ROW_SLOTS: a bit a partition, the lowest of the first byte first. */
static inline size_t row_slots_bytes(unsigned partitions)
{
    return (partitions + 7) / 8;
}

static inline unsigned row_live_prefix(const uint8_t *slots, unsigned partition)
{
    return partition | ((slots[partition / 8] >> partition % 8 & 1) != 0 ? ROW_SLOT : 0);
}

#endif
