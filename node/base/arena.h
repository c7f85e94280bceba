/* Memory that lives and dies with one request: allocate freely, reset once.
 * The first block is kept over resets, so a warm arena allocates nothing. */
#ifndef BELFRY_BASE_ARENA_H
#define BELFRY_BASE_ARENA_H

#include "node/base/bytes.h"

struct arena_block;

struct arena {
    struct arena_block *block; /* newest first */
    size_t used;               /* bytes used of the newest block */
};

void *arena_alloc(struct arena *arena, size_t size) MUST_USE;
void *arena_zalloc(struct arena *arena, size_t size) MUST_USE;
struct bytes arena_copy(struct arena *arena, struct bytes from);
/* A copy of a C string; NULL stays NULL. */
const char *arena_text(struct arena *arena, const char *text);
/* Frees all but the oldest block. */
void arena_reset(struct arena *arena);
void arena_close(struct arena *arena);
/* What it holds of the process's memory, for tests of bounds. */
size_t arena_held(const struct arena *arena) MUST_USE;

#endif
