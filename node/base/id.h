/* 128-bit ids: UUID version 8 (RFC 9562 section 5.8): 48 bits of milliseconds, then the
 * version nibble, 12 bits of partition, the variant bits, and 62 bits of chance (of which a
 * reducer uses the first 14 as a sequence within the millisecond). Byte order is time order. */
#ifndef BELFRY_BASE_ID_H
#define BELFRY_BASE_ID_H

#include "node/base/bytes.h"

struct id {
    uint8_t b[16];
};

enum { ID_TEXT_BYTES = 36, ID_PARTITION_MAX = 4095 };

struct id id_make(int64_t ms, unsigned partition, uint64_t random);
int64_t id_ms(struct id id);
unsigned id_partition(struct id id);
/* Writes the 36 characters of the canonical text form, no NUL. */
void id_format(struct id id, char *out);
/* Takes the 36-character form, hexadecimal in either case; false on anything else,
 * also on a UUID of another version or variant. */
bool id_parse(struct bytes text, struct id *out) MUST_USE;

static inline bool id_eq(struct id a, struct id b)
{
    return memcmp(a.b, b.b, sizeof a.b) == 0;
}
/* Two ids behind each other, as keys of "whose, which" have them. */
struct id_pair {
    uint8_t b[2 * sizeof(struct id)];
};

static inline struct id_pair id_pair(struct id first, struct id second)
{
    struct id_pair pair;
    memcpy(pair.b, first.b, sizeof first.b);
    memcpy(pair.b + sizeof first.b, second.b, sizeof second.b);
    return pair;
}

static inline struct bytes id_pair_bytes(const struct id_pair *pair)
{
    return bytes_of(pair->b, sizeof pair->b);
}

static inline bool id_is_none(struct id a)
{
    static const struct id none;
    return id_eq(a, none);
}
static inline struct bytes id_bytes(const struct id *id)
{
    return bytes_of(id->b, sizeof id->b);
}

#endif
