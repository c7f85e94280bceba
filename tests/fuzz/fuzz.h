/* What every harness shares: reading the input, and writing seeds. A broken promise is a CHECK. */
#ifndef BELFRY_TESTS_FUZZ_FUZZ_H
#define BELFRY_TESTS_FUZZ_FUZZ_H

#include "node/base/bytes.h"

/* libFuzzer's side of a harness; the second one is optional. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Takes a little-endian number of size bytes from the front; what is missing counts as 0. */
uint64_t fuzz_take(struct bytes *input, size_t size);
/* The rest as text in which FF, a byte and N stand for that byte 2^(N mod 16) times, at most cap
 * bytes in all: small inputs reach the limits on sizes. N = 0 makes a single FF. */
void fuzz_expand(struct bytes input, size_t cap, struct buf *out);
/* A repeatable stream of numbers for choices that depend on the input. */
uint64_t fuzz_next(uint64_t *state);

/* With FUZZ_SEEDS=DIR in the environment a harness writes its seeds there and ends. */
bool fuzz_wants_seeds(void);
void fuzz_seed(const char *name, struct bytes content);
_Noreturn void fuzz_seeds_end(void);

#endif
