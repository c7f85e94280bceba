#include "node/base/random.h"

#include <sodium.h>
#include <string.h>

void random_init(struct random *random)
{
    CHECK(sodium_init() >= 0);
    randombytes_buf(random->key, sizeof random->key);
    random->left = 0;
}

void random_init_seed(struct random *random, uint64_t seed)
{
    CHECK(sodium_init() >= 0);
    memset(random->key, 0, sizeof random->key);
    memcpy(random->key, &seed, sizeof seed);
    random->left = 0;
}

/* Fast key erasure: the first 32 bytes of each block become the next key. */
static void refill(struct random *random)
{
    uint8_t block[sizeof random->key + sizeof random->pool];
    randombytes_buf_deterministic(block, sizeof block, random->key);
    memcpy(random->key, block, sizeof random->key);
    memcpy(random->pool, block + sizeof random->key, sizeof random->pool);
    sodium_memzero(block, sizeof block);
    random->left = sizeof random->pool;
}

void random_fill(struct random *random, void *ptr, size_t len)
{
    uint8_t *to = ptr;
    while (len > 0) {
        if (random->left == 0) {
            refill(random);
        }
        size_t part = len < random->left ? len : random->left;
        random->left -= part;
        memcpy(to, random->pool + random->left, part);
        memset(random->pool + random->left, 0, part);
        to += part;
        len -= part;
    }
}

uint64_t random_u64(struct random *random)
{
    uint64_t value;
    random_fill(random, &value, sizeof value);
    return value;
}
