/* The machine's raw Argon2id rate: THREADS threads (default 2) for SECONDS (5) at 7 MiB, t=5, p=1, the default. */
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/base/clock.h"
#include "node/crypto/password.h"

static int64_t until_ns;

static void *work(void *arg)
{
    const struct password_cost cost = {5, 7168 * 1024};
    uint64_t *count = arg;
    char phc[PHC_BYTES];
    while (clock_boot_ns(clock_system()) < until_ns) {
        CHECK(password_hash(&cost, BYTES_LIT("correct horse"), phc) == OK);
        ++*count;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    enum { MAX = 64 };
    int threads = argc > 1 ? atoi(argv[1]) : 2, seconds = argc > 2 ? atoi(argv[2]) : 5;
    pthread_t list[MAX];
    uint64_t counts[MAX] = {0}, total = 0;
    CHECK(sodium_init() >= 0 && threads >= 1 && threads <= MAX && seconds >= 1);
    int64_t start = clock_boot_ns(clock_system());
    until_ns = start + seconds * 1000000000LL;
    for (int i = 0; i < threads; i++) {
        CHECK(pthread_create(&list[i], NULL, work, &counts[i]) == 0);
    }
    for (int i = 0; i < threads; i++) {
        CHECK(pthread_join(list[i], NULL) == 0);
        total += counts[i];
    }
    printf("%.1f hashes/s on %d threads\n", (double)total * 1e9 / (double)(clock_boot_ns(clock_system()) - start),
           threads);
    return 0;
}
