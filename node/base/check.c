#include "node/base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void check_failed(const char *cond, const char *file, int line)
{
    (void)fprintf(stderr, "CHECK failed: %s at %s:%d\n", cond, file, line);
    abort();
}

void *mem_alloc(size_t size)
{
    void *ptr = malloc(size > 0 ? size : 1);
    CHECK(ptr != NULL);
    return ptr;
}

void *mem_zalloc(size_t size)
{
    void *ptr = calloc(1, size > 0 ? size : 1);
    CHECK(ptr != NULL);
    return ptr;
}

void *mem_realloc(void *ptr, size_t size)
{
    void *grown = realloc(ptr, size > 0 ? size : 1);
    CHECK(grown != NULL);
    return grown;
}

void *mem_copy(const void *from, size_t len)
{
    void *ptr = mem_alloc(len);
    if (len > 0) {
        memcpy(ptr, from, len);
    }
    return ptr;
}
