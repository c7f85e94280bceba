/* Passwords: Argon2id (RFC 9106) as a PHC string, by libsodium. Blocking and slow on purpose: for
 * the compute pool. */
#ifndef BELFRY_CRYPTO_PASSWORD_H
#define BELFRY_CRYPTO_PASSWORD_H

#include "actors/kind.h"

struct password_cost {
    uint64_t passes;
    size_t memory_bytes;
};

/* Errors: ERR_OVERLOADED when there is no memory for it. */
enum err password_hash(const struct password_cost *cost, struct bytes password, char phc[PHC_BYTES]) MUST_USE;
bool password_verify(const char *phc, struct bytes password);
/* Were the parameters other than these when it was made? */
bool password_needs_rehash(const struct password_cost *cost, const char *phc);
/* The calling thread yields to all others from now on. */
void password_lower_priority(void);

#endif
