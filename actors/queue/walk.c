#include "actors/queue/walk.h"

struct walk walk_of(struct rows *rows, uint8_t table, struct queue_key prefix)
{
    return (struct walk){rows, prefix, prefix.len, table};
}

enum err walk_next(struct walk *walk, struct bytes *out_rest, struct bytes *out_value)
{
    struct bytes found;
    TRY(queue_ceil(walk->rows, walk->table, &walk->key, walk->prefix, &found, out_value));
    if (found.len >= sizeof walk->key.b) {
        return ERR_CORRUPT;
    }
    walk->key.len = 0;
    key_bytes_add(&walk->key, found);
    *out_rest = bytes_of(walk->key.b + walk->prefix, walk->key.len - walk->prefix);
    key_bytes_add(&walk->key, bytes_of("", 1)); /* the key right behind it */
    return OK;
}

enum err walk_count(struct rows *rows, uint8_t table, struct queue_key prefix, uint64_t *out)
{
    struct walk walk = walk_of(rows, table, prefix);
    struct bytes rest, value;
    enum err err;
    for (*out = 0; (err = walk_next(&walk, &rest, &value)) == OK; (*out)++) {
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

enum err walk_erase(struct rows *rows, uint8_t table, struct queue_key prefix)
{
    struct walk walk = walk_of(rows, table, prefix);
    struct bytes rest, value;
    enum err err;
    while ((err = walk_next(&walk, &rest, &value)) == OK) {
        TRY(rows_del(rows, table, bytes_of(walk.key.b, walk.key.len - 1)));
    }
    return err == ERR_NOT_FOUND ? OK : err;
}
