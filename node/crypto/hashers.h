/* The processes that hash passwords: `belfry hash`, one a core, over a socket pair each.
 *
 * Argon2id maps and unmaps 7 MiB for every hash. In the node's own process that holds the address space's
 * lock again and again, at the lowest priority, and reads beside sign-ups wait for it: their p99 was 11 times
 * the idle one in-process and about the idle one with processes (bench/README.md). A helper that dies is
 * started anew with the next hash; helpers end with the node. */
#ifndef BELFRY_CRYPTO_HASHERS_H
#define BELFRY_CRYPTO_HASHERS_H

#include "node/crypto/password.h"

struct hashers;

/* Errors: ERR_IO when a process cannot be started. */
enum err hashers_new(unsigned count, const struct password_cost *cost, struct hashers **out) MUST_USE;
void hashers_free(struct hashers *hashers);

/* One job of a helper; blocks. At most `count` threads at a time. */
struct hash_job {
    bool verify;
    char phc[PHC_BYTES]; /* verify: in; hash: out */
    uint32_t password_len;
    uint8_t password[1024];
    /* out */
    enum err err;
    bool matches, rehash;
    /* set by the pool */
    struct password_cost cost;
};
void hashers_run(struct hashers *hashers, struct hash_job *job);

/* The helper's main: serves jobs on file descriptor 3 until it is closed. */
int hasher_main(int argc, char **argv);

#endif
