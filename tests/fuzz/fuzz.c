#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>

uint64_t fuzz_take(struct bytes *input, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size && input->len > 0; i++) {
        value |= (uint64_t)input->ptr[0] << (8 * i);
        *input = bytes_of(input->ptr + 1, input->len - 1);
    }
    return value;
}

void fuzz_expand(struct bytes input, size_t cap, struct buf *out)
{
    while (input.len > 0 && out->len < cap) {
        uint8_t c = (uint8_t)fuzz_take(&input, 1);
        if (c != 0xff) {
            buf_add(out, &c, 1);
            continue;
        }
        uint8_t repeated = (uint8_t)fuzz_take(&input, 1), power = (uint8_t)fuzz_take(&input, 1);
        size_t count = power == 0 ? 1 : (size_t)1 << (power & 15);
        count = count < cap - out->len ? count : cap - out->len;
        memset(buf_room(out, count), power == 0 ? 0xff : repeated, count);
        out->len += count;
    }
}

uint64_t fuzz_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ULL; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

bool fuzz_wants_seeds(void)
{
    return getenv("FUZZ_SEEDS") != NULL;
}

void fuzz_seed(const char *name, struct bytes content)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", getenv("FUZZ_SEEDS"), name);
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL && fwrite(content.ptr, 1, content.len, file) == content.len && fclose(file) == 0);
}

void fuzz_seeds_end(void)
{
    exit(0);
}
