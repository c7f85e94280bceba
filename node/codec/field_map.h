/* Maps of strings, as TYPE_MAP fields hold them: a msgpack map, in the order in which its entries came. */
#ifndef BELFRY_CODEC_FIELD_MAP_H
#define BELFRY_CODEC_FIELD_MAP_H

#include "node/codec/field.h"
#include "node/limits.h"

/* How many entries a field takes at most. */
int64_t field_map_max(const struct field *field);

/* Walks a map that was decoded or unpacked. */
struct field_map {
    struct bytes left;
    uint64_t entries;
};
struct field_map field_map_of(struct bytes packed);
bool field_map_next(struct field_map *map, struct bytes *out_key, struct bytes *out_value) MUST_USE;

/* A map being gathered. */
struct field_map_draft {
    struct buf packed;
    uint32_t hashes[LIMIT_MAP_ENTRIES]; /* of the keys so far */
    size_t entries;
};
enum map_fault { MAP_GOOD, MAP_FULL, MAP_KEY, MAP_REPEATED, MAP_TOO_LONG, MAP_CONTROLS };
/* One more entry, both UTF-8, if the field takes it. */
enum map_fault field_map_add(struct field_map_draft *draft, const struct field *field, struct bytes key,
                             struct bytes value) MUST_USE;
/* For the rows of field_errors. */
const char *field_map_fault_code(enum map_fault fault);
const char *field_map_fault_detail(enum map_fault fault);
/* The whole map, in arena memory; frees the draft. */
struct bytes field_map_end(struct field_map_draft *draft, struct arena *arena);

#endif
