/* One page of a list, newest first: a merge of index tables over partitions. Every index ends its
 * keys with the 16-byte id of the record, so byte order is time order; an optional prefix selects.
 * The cursor names the last id looked at; it is opaque to clients. */
#ifndef BELFRY_ACTORS_PAGE_H
#define BELFRY_ACTORS_PAGE_H

#include "actors/kind.h"

struct page_source;

struct page {
    struct look *look;
    unsigned limit;
    unsigned *budget; /* rows that may still be looked at in all pages of an answer; NULL: this is the only one */
    struct id before; /* only ids before this one */
    struct page_source *sources;
    size_t len, cap;
};

/* limit 0: the default. Errors: ERR_INVALID_CURSOR. */
enum err page_open(struct page *page, struct look *look, int64_t limit, struct bytes cursor) MUST_USE;
/* Adds an index of one partition, below a prefix (may be empty). */
void page_add(struct page *page, unsigned partition, uint8_t table, struct bytes prefix);
/* Adds it for every data partition. */
void page_add_all(struct page *page, uint8_t table, struct bytes prefix);
/* Asks want for each id, newest first and each once, until the page is full or LIMIT_SCAN_ROWS were
 * looked at, or the budget is spent; want gives the packed record, or false, with an error if there was one. */
enum err page_fill(struct page *page, const struct field *fields,
                   bool (*want)(void *ctx, struct rows *rows, struct id id, struct bytes *out_packed,
                                enum err *out_err),
                   void *ctx, struct reply *reply) MUST_USE;

#endif
