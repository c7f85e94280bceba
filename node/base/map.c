#include "node/base/map.h"

#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

void map_init(struct map *map, bool (*eq)(const void *item, const void *key))
{
    *map = (struct map){.eq = eq};
}

void map_close(struct map *map)
{
    free(map->slots);
    map->slots = NULL;
    map->len = map->cap = 0;
}

void *map_find(const struct map *map, uint64_t hash, const void *key)
{
    if (map->len == 0) {
        return NULL;
    }
    for (size_t at = hash & (map->cap - 1); map->slots[at].item != NULL; at = (at + 1) & (map->cap - 1)) {
        if (map->slots[at].hash == hash && map->eq(map->slots[at].item, key)) {
            return map->slots[at].item;
        }
    }
    return NULL;
}

static void insert(struct map *map, uint64_t hash, void *item)
{
    size_t at = hash & (map->cap - 1);
    while (map->slots[at].item != NULL) {
        at = (at + 1) & (map->cap - 1);
    }
    map->slots[at] = (struct map_slot){hash, item};
}

void map_add(struct map *map, uint64_t hash, void *item)
{
    if (map->cap == 0 || map->len >= map->cap / 4 * 3) {
        struct map_slot *old = map->slots;
        size_t old_cap = map->cap;
        map->cap = old_cap == 0 ? 16 : old_cap * 2;
        map->slots = mem_zalloc(map->cap * sizeof *map->slots);
        for (size_t i = 0; i < old_cap; i++) {
            if (old[i].item != NULL) {
                insert(map, old[i].hash, old[i].item);
            }
        }
        free(old);
    }
    insert(map, hash, item);
    map->len++;
}

void map_remove(struct map *map, uint64_t hash, const void *item)
{
    size_t mask = map->cap - 1;
    size_t at = hash & mask;
    CHECK(map->cap > 0);
    while (map->slots[at].item != item) {
        CHECK(map->slots[at].item != NULL);
        at = (at + 1) & mask;
    }
    map->len--;
    /* Backward shift keeps probe sequences whole without tombstones. */
    for (size_t next = (at + 1) & mask; map->slots[next].item != NULL; next = (next + 1) & mask) {
        size_t home = map->slots[next].hash & mask;
        if (((next - home) & mask) >= ((next - at) & mask)) {
            map->slots[at] = map->slots[next];
            at = next;
        }
    }
    map->slots[at] = (struct map_slot){0};
}

void *map_next(const struct map *map, size_t *at)
{
    while (*at < map->cap) {
        void *item = map->slots[(*at)++].item;
        if (item != NULL) {
            return item;
        }
    }
    return NULL;
}

static uint64_t hash_key;
static pthread_once_t hash_once = PTHREAD_ONCE_INIT;

static void hash_key_make(void)
{
    randombytes_buf(&hash_key, sizeof hash_key);
}

uint64_t map_hash(struct bytes bytes)
{
    CHECK(pthread_once(&hash_once, hash_key_make) == 0);
    return XXH3_64bits_withSeed(bytes.ptr, bytes.len, hash_key);
}
