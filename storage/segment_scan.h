/* Reads a log without changing it: what node start, `belfry verify` and `belfry recover` share. */
#ifndef BELFRY_STORAGE_SEGMENT_SCAN_H
#define BELFRY_STORAGE_SEGMENT_SCAN_H

#include "storage/segments.h"

struct segment_file {
    uint64_t number;
    uint64_t *last; /* per group: the highest entry index in it that is not void, 0 when none */
    uint64_t bytes; /* in use */
};

struct segment_scan {
    /* Set by the caller, the rest zero. */
    struct disk *disk;
    const char *dir;
    unsigned groups;
    void (*each)(void *ctx, const struct segment_record *record);
    /* NULL, or told of every record behind the damage that is whole in itself. */
    void (*beyond)(void *ctx, const struct segment_record *record);
    void *ctx;

    /* Found. */
    struct segment_index *index; /* where the entries are; segments_continue takes it */
    struct segment_file *files;  /* in use, oldest first */
    size_t files_len, files_cap;
    /* Files made ready and not used, or not beyond a torn first batch: numbers from..to, 0: none. */
    uint64_t unused_from, unused_to;
    uint64_t unused_ready; /* there is one, and nothing was written to it: its size */
    uint64_t oldest;       /* number of the first file; 1 when there is none */
    uint64_t *last_index, *last_term, *hard_term, *hard_vote; /* per group */
    uint64_t size;                                            /* of the newest file in use */
    uint64_t at;                                              /* where its next record goes */
    uint64_t tail;                                            /* bytes behind `at` that a torn batch left */
    uint64_t batch_at;                                        /* where its last batch starts */
    uint32_t chain, salt;                                     /* crc of the last record; of the newest file in use */
    uint64_t batch;                                           /* number of the next batch */
    uint64_t records;                                         /* in all files */
    char why[256];                                            /* what is damaged */
};

/* No directory is an empty log. Errors: ERR_CORRUPT (why says what), ERR_IO. */
enum err segment_scan_run(struct segment_scan *scan) MUST_USE;
void segment_scan_close(struct segment_scan *scan);

void segment_path(const char *dir, uint64_t number, char *out_path_max);

#endif
