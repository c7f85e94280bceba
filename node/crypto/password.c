#include "node/crypto/password.h"

#include <sched.h>
#include <sodium.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(PHC_BYTES >= crypto_pwhash_STRBYTES, "a PHC string fits");

enum err password_hash(const struct password_cost *cost, struct bytes password, char phc[PHC_BYTES])
{
    char out[crypto_pwhash_STRBYTES];
    if (crypto_pwhash_str_alg(out, (const char *)password.ptr, password.len, cost->passes, cost->memory_bytes,
                              crypto_pwhash_ALG_ARGON2ID13) != 0) {
        return ERR_OVERLOADED;
    }
    memcpy(phc, out, sizeof out);
    return OK;
}

bool password_verify(const char *phc, struct bytes password)
{
    return crypto_pwhash_str_verify(phc, (const char *)password.ptr, password.len) == 0;
}

bool password_needs_rehash(const struct password_cost *cost, const char *phc)
{
    return crypto_pwhash_str_needs_rehash(phc, cost->passes, cost->memory_bytes) == 1;
}

void password_lower_priority(void)
{
    /* Any other thread that wakes runs at once; with mere niceness it waits for a time slice, and the
     * p99 of reads beside sign-ups is several times as high (bench/README.md). */
    struct sched_param param = {0};
    (void)sched_setscheduler((pid_t)syscall(SYS_gettid), SCHED_IDLE, &param);
}
