#include "node/base/arena.h"

#include <stdlib.h>

enum { BLOCK_BYTES = 4096 - 64, ALIGN = 16 };

struct arena_block {
    struct arena_block *older;
    size_t cap;
    _Alignas(16) uint8_t data[];
};

static void block_add(struct arena *arena, size_t size)
{
    size_t cap = size > BLOCK_BYTES ? size : BLOCK_BYTES;
    struct arena_block *block = mem_alloc(sizeof *block + cap);
    block->older = arena->block;
    block->cap = cap;
    arena->block = block;
    arena->used = 0;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    CHECK(size < SIZE_MAX - ALIGN);
    size_t rounded = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (arena->block == NULL || arena->block->cap - arena->used < rounded) {
        block_add(arena, rounded);
    }
    void *ptr = arena->block->data + arena->used;
    arena->used += rounded;
    return ptr;
}

void *arena_zalloc(struct arena *arena, size_t size)
{
    return memset(arena_alloc(arena, size), 0, size);
}

struct bytes arena_copy(struct arena *arena, struct bytes from)
{
    uint8_t *ptr = arena_alloc(arena, from.len + 1);
    if (from.len > 0) {
        memcpy(ptr, from.ptr, from.len);
    }
    ptr[from.len] = 0;
    return bytes_of(ptr, from.len);
}

void arena_reset(struct arena *arena)
{
    while (arena->block != NULL && arena->block->older != NULL) {
        struct arena_block *older = arena->block->older;
        free(arena->block);
        arena->block = older;
    }
    arena->used = 0;
}

void arena_close(struct arena *arena)
{
    arena_reset(arena);
    free(arena->block);
    *arena = (struct arena){0};
}

size_t arena_held(const struct arena *arena)
{
    size_t held = 0;
    for (const struct arena_block *block = arena->block; block != NULL; block = block->older) {
        held += block->cap;
    }
    return held;
}

const char *arena_text(struct arena *arena, const char *text)
{
    return text == NULL ? NULL : (const char *)arena_copy(arena, bytes_of(text, strlen(text) + 1)).ptr;
}
