/* Randomness comes from outside too. One struct random serves one thread. */
#ifndef BELFRY_BASE_RANDOM_H
#define BELFRY_BASE_RANDOM_H

#include "node/base/check.h"

struct random {
    uint8_t key[32];    /* next block's ChaCha20 key: the generator cannot be run backwards */
    uint8_t pool[1024]; /* bytes not yet handed out, from the end */
    size_t left;
};

/* Seeds from the kernel; for keys and tokens. */
void random_init(struct random *random);
/* A repeatable stream, for the simulator and tests only. */
void random_init_seed(struct random *random, uint64_t seed);
void random_fill(struct random *random, void *ptr, size_t len);
uint64_t random_u64(struct random *random);

#endif
