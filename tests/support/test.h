/* What every unit test includes: cmocka with the headers it needs first. */
#ifndef BELFRY_TESTS_SUPPORT_TEST_H
#define BELFRY_TESTS_SUPPORT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/base/random.h"

/* The seed of a random test: SEED from the environment, or a new one; printed either way. */
static inline uint64_t test_seed(const char *test)
{
    const char *given = getenv("SEED");
    struct random random;
    random_init(&random);
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : random_u64(&random) >> 32;
    printf("%s: SEED=%llu\n", test, (unsigned long long)seed);
    return seed;
}

static inline uint64_t below(struct random *random, uint64_t bound)
{
    return random_u64(random) % bound;
}

#endif
