/* Going through all rows of a prefix, for checking and mending. Rows may be written on the way. */
#ifndef BELFRY_ACTORS_QUEUE_WALK_H
#define BELFRY_ACTORS_QUEUE_WALK_H

#include "actors/queue/topic.h"

struct walk {
    struct rows *rows;
    struct queue_key key;
    size_t prefix;
    uint8_t table;
};
struct walk walk_of(struct rows *rows, uint8_t table, struct queue_key prefix);
/* The next row: what follows the prefix in its key, a copy that is good until the next call, and its value. Errors:
 * ERR_NOT_FOUND at the end. */
enum err walk_next(struct walk *walk, struct bytes *out_rest, struct bytes *out_value) MUST_USE;
enum err walk_count(struct rows *rows, uint8_t table, struct queue_key prefix, uint64_t *out) MUST_USE;
/* Erases all of them. */
enum err walk_erase(struct rows *rows, uint8_t table, struct queue_key prefix) MUST_USE;

#endif
