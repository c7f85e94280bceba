/* Keyless BLAKE2b digests (RFC 7693): a pure function, fit for reducers. */
#ifndef BELFRY_BASE_DIGEST_H
#define BELFRY_BASE_DIGEST_H

#include "node/base/bytes.h"

enum { DIGEST_BYTES = 16 };

struct digest {
    uint8_t b[DIGEST_BYTES];
};

/* The digest of two parts behind each other; the first one's length is part of it. */
struct digest digest_of(struct bytes first, struct bytes second);
static inline struct bytes digest_bytes(const struct digest *digest)
{
    return bytes_of(digest->b, sizeof digest->b);
}

#endif
