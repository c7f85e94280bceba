/* What a log segment is made of, byte by byte (little endian), for those who write it, read it and
 * check it. A segment file is made zero-filled with one record in front, RECORD_SEGMENT, which says
 * its number and size; all further records follow in batches. */
#ifndef BELFRY_STORAGE_RECORD_H
#define BELFRY_STORAGE_RECORD_H

#include "node/base/crc32c.h"
#include "storage/segments.h"

enum { RECORD_FLAG_LAST = 1, RECORD_ALIGN = 8 };

struct record_header {
    uint32_t crc;    /* over the rest of the header and the payload */
    uint32_t length; /* of the payload */
    uint32_t chain;  /* crc of the record before; of RECORD_SEGMENT: the segment's salt */
    uint16_t group;
    uint8_t type, flags;
    uint64_t index, term, batch;
    uint8_t kind, reserved[7];
};
_Static_assert(sizeof(struct record_header) == 48, "the record header is 48 bytes on disk");

/* With header and padding. */
static inline size_t record_bytes(size_t payload)
{
    return (sizeof(struct record_header) + payload + RECORD_ALIGN - 1) & ~(size_t)(RECORD_ALIGN - 1);
}

/* The salt is a segment's own random number, for all records but its first: what a client sent, and
 * stands within a payload, is so never taken for a record. */
static inline uint32_t record_crc(const struct record_header *header, const void *payload, uint32_t salt)
{
    uint32_t crc = crc32c(salt, (const char *)header + sizeof header->crc, sizeof *header - sizeof header->crc);
    return crc32c(crc, payload, header->length);
}

/* The records every segment in use begins with: its own, then two a group. */
static inline size_t record_preamble(unsigned groups)
{
    return 1 + 2 * (size_t)groups;
}

#endif
