#include "node/base/crc32c.h"

#include <pthread.h>

static uint32_t table[256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void table_fill(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82f63b78U : crc >> 1;
        }
        table[i] = crc;
    }
}

uint32_t crc32c_table(uint32_t crc, const void *ptr, size_t len)
{
    const uint8_t *at = ptr;
    CHECK(pthread_once(&table_once, table_fill) == 0);
    crc = ~crc;
    while (len-- > 0) {
        crc = (crc >> 8) ^ table[(crc ^ *at++) & 0xff];
    }
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse(uint32_t crc, const uint8_t *at, size_t len)
{
    uint64_t wide = ~crc;
    for (; len >= 8; len -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    uint32_t rest = (uint32_t)wide;
    while (len-- > 0) {
        rest = __builtin_ia32_crc32qi(rest, *at++);
    }
    return ~rest;
}
#endif

uint32_t crc32c(uint32_t crc, const void *ptr, size_t len)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) {
        return crc32c_sse(crc, ptr, len);
    }
#endif
    return crc32c_table(crc, ptr, len);
}
