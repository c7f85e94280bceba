/* The pages of an LMDB data file, read without LMDB: LMDB's pages carry no checksum, and it believes
 * what they say. Here nothing is believed: every page reachable from the newest transaction is read
 * with bounds checked, its number, kind, order of keys and place between its parent's keys; no page
 * may be used twice, and the counts must be those of the meta page. With the rows' own checksums on
 * top, a flipped bit is found wherever it means anything.
 *
 * The format is that of LMDB 0.9 (mdb.c: struct MDB_page, MDB_node, MDB_db, MDB_meta) with pages of
 * 4096 bytes. */
#ifndef BELFRY_STORAGE_TREE_H
#define BELFRY_STORAGE_TREE_H

#include "node/base/bytes.h"
#include "node/base/err.h"

enum { TREE_PAGE_BYTES = 4096 };

enum { TREE_THREADS_MAX = 8 };

struct tree_visit {
    /* Empty, or the meta page to start from instead of the file's own two. */
    struct bytes meta;
    unsigned threads; /* at most TREE_THREADS_MAX; 0 is 1 */
    /* Every row of the main database; in order when there is one thread. */
    void (*row)(void *ctx, unsigned thread, struct bytes key, struct bytes value);
    /* Every fault found, one at a time; the walk goes on beside it. */
    void (*fault)(void *ctx, const char *text);
    void *ctx;
};

struct tree_stats {
    uint64_t txn, pages, rows, file_bytes;
};

/* Reads the whole file. OK also when faults were told; ERR_NOT_FOUND, ERR_IO. */
enum err tree_walk(const char *path, const struct tree_visit *visit, struct tree_stats *out) MUST_USE;

/* The transaction a saved meta page belongs to; false when it is none. */
bool tree_meta_txn(struct bytes meta, uint64_t *out);

#endif
