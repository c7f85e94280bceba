/* A hash map of pointers: open addressing, linear probing, the caller's hash and equality.
 * It owns its slots, never the items. Not thread-safe. */
#ifndef BELFRY_BASE_MAP_H
#define BELFRY_BASE_MAP_H

#include "node/base/bytes.h"

struct map_slot {
    uint64_t hash;
    void *item; /* NULL when free */
};

struct map {
    struct map_slot *slots;
    size_t len, cap; /* cap is 0 or a power of two */
    bool (*eq)(const void *item, const void *key);
};

void map_init(struct map *map, bool (*eq)(const void *item, const void *key));
void map_close(struct map *map);
/* NULL when there is none. */
void *map_find(const struct map *map, uint64_t hash, const void *key);
/* The key must not be in the map. */
void map_add(struct map *map, uint64_t hash, void *item);
void map_remove(struct map *map, uint64_t hash, const void *item);
/* Walks all items: start with *at = 0; NULL at the end. No changes meanwhile. */
void *map_next(const struct map *map, size_t *at);
/* A 64-bit hash of bytes for tables in memory (XXH3), keyed against chosen keys. */
uint64_t map_hash(struct bytes bytes);

#endif
