/* What a reducer or a query sees of the state: the rows of one partition, ordered by
 * (table, key). Implemented by LMDB in storage/ and by a plain list in tests.
 * Values borrowed from get, ceil and below are good until the next put or del, or the end
 * of the transaction; keys until the next ceil or below. */
#ifndef BELFRY_BASE_ROWS_H
#define BELFRY_BASE_ROWS_H

#include "node/base/bytes.h"
#include "node/base/err.h"

struct rows;

struct rows_ops {
    enum err (*get)(struct rows *rows, uint8_t table, struct bytes key, struct bytes *out);
    enum err (*ceil)(struct rows *rows, uint8_t table, struct bytes from, struct bytes *out_key,
                     struct bytes *out_value);
    enum err (*below)(struct rows *rows, uint8_t table, struct bytes before, struct bytes *out_key,
                      struct bytes *out_value);
    enum err (*put)(struct rows *rows, uint8_t table, struct bytes key, struct bytes value);
    enum err (*del)(struct rows *rows, uint8_t table, struct bytes key);
};

struct rows {
    const struct rows_ops *ops;
};

/* Errors: ERR_NOT_FOUND, ERR_CORRUPT (checksum), ERR_IO. */
static inline enum err MUST_USE rows_get(struct rows *rows, uint8_t table, struct bytes key, struct bytes *out)
{
    return rows->ops->get(rows, table, key, out);
}

/* The first row of the table whose key is at or after from; ERR_NOT_FOUND at the end. */
static inline enum err MUST_USE rows_ceil(struct rows *rows, uint8_t table, struct bytes from, struct bytes *out_key,
                                          struct bytes *out_value)
{
    return rows->ops->ceil(rows, table, from, out_key, out_value);
}

/* The last row of the table whose key is before `before`; ERR_NOT_FOUND at the end. */
static inline enum err MUST_USE rows_below(struct rows *rows, uint8_t table, struct bytes before, struct bytes *out_key,
                                           struct bytes *out_value)
{
    return rows->ops->below(rows, table, before, out_key, out_value);
}

/* Writes, in reducers only. Errors: ERR_DISK_FULL, ERR_IO, ERR_CORRUPT. */
static inline enum err MUST_USE rows_put(struct rows *rows, uint8_t table, struct bytes key, struct bytes value)
{
    CHECK(rows->ops->put != NULL);
    return rows->ops->put(rows, table, key, value);
}

/* Deleting what is not there is ERR_NOT_FOUND. */
static inline enum err MUST_USE rows_del(struct rows *rows, uint8_t table, struct bytes key)
{
    CHECK(rows->ops->del != NULL);
    return rows->ops->del(rows, table, key);
}

#endif
