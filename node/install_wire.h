/* What the two sides of an install say: chunks of rows, and how far they are staged. */
#ifndef BELFRY_INSTALL_WIRE_H
#define BELFRY_INSTALL_WIRE_H

#include "node/install.h"

/* PEER_ROWS: chunk 0 has the head and no rows. PEER_STAGED: number is the next chunk wanted;
 * 0: nothing is known of this, begin anew. */
struct install_chunk {
    struct fieldset set;
    int64_t partition, id, number;
    bool last;
    struct bytes rows, head;
};

/* What the rows are. */
struct install_head {
    struct state_partition book;
    uint64_t term; /* of the leader that sends */
    uint64_t configuration_index;
    struct bytes configuration;
};

/* head: NULL, or it goes into the chunk. */
void install_chunk_pack(struct buf *out, const struct install_chunk *chunk, const struct install_head *head);
/* Points into body. Errors: ERR_CORRUPT. */
enum err install_chunk_unpack(struct bytes body, struct install_chunk *out) MUST_USE;
enum err install_head_unpack(struct bytes packed, struct install_head *out) MUST_USE;

/* Rows within a chunk. */
void install_row_add(struct buf *rows, uint8_t table, struct bytes key, struct bytes value);
/* Takes the next one off; ERR_NOT_FOUND at the end, ERR_CORRUPT. */
enum err install_row_next(struct bytes *rows, uint8_t *table, struct bytes *key, struct bytes *value) MUST_USE;

/* On the home worker, from install.c. */
void install_staged(struct partition *partition, uint64_t from, const struct install_chunk *message);
void install_tend_senders(struct partition *partition);
void install_take_rows(struct partition *partition, uint64_t from, const struct install_chunk *message);
void install_tend_receiver(struct partition *partition);
void install_close_receiver(struct partition *partition);

#endif
