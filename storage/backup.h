/* Backups: one file that holds the rows of all partitions as of one transaction, encrypted and
 * authenticated by a key of 32 bytes.
 *
 * The file: magic (8), the header of libsodium's secretstream (24), then chunks: length of the
 * ciphertext (4, little endian) and the ciphertext; the last one carries the tag FINAL. What they hold,
 * put together: the manifest, then the rows in order of partition, table and key, then an end mark.
 * Source: libsodium, crypto_secretstream_xchacha20poly1305. */
#ifndef BELFRY_STORAGE_BACKUP_H
#define BELFRY_STORAGE_BACKUP_H

#include "node/base/id.h"
#include "storage/state.h"

enum { BACKUP_KEY_BYTES = 32 };

struct backup_manifest {
    struct id cluster, node;
    int64_t created_ms;
    unsigned partitions;           /* the system's included */
    struct state_partition *books; /* a partition: applied index, set hash, counts; malloc'd */
};

/* Writes what the state holds now to a new file, reads it back, and only then gives it its name. On an
 * error why says more, and nothing is left. ERR_CONFLICT (the file exists), ERR_IO, ERR_DISK_FULL,
 * ERR_CORRUPT (the state is damaged: no backup is made of it). */
enum err backup_write(const char *path, const uint8_t *key, struct state *state, struct backup_manifest *manifest,
                      char *out_why, size_t why_cap) MUST_USE;

struct backup_sink {
    /* Both NULL to verify alone. The manifest comes first; an error ends the reading. */
    enum err (*begin)(void *ctx, const struct backup_manifest *manifest);
    enum err (*row)(void *ctx, unsigned partition, uint8_t table, struct bytes key, struct bytes value);
    void *ctx;
};

/* Reads a backup; OK only when all of it is there, authentic, and its rows have the counts and hashes
 * that its manifest says. Errors: ERR_CORRUPT (damaged, or the wrong key), ERR_NOT_FOUND, ERR_IO. */
enum err backup_read(const char *path, const uint8_t *key, const struct backup_sink *sink,
                     struct backup_manifest *out_manifest, char *out_why, size_t why_cap) MUST_USE;

#endif
