/* The file system as the log sees it: a small vtable, so tests and the simulator can drop, tear
 * and fail what was written and not synced. Calls block; one file is used by one thread at a time. */
#ifndef BELFRY_STORAGE_DISK_H
#define BELFRY_STORAGE_DISK_H

#include "node/base/bytes.h"
#include "node/base/err.h"

struct disk_file;

struct disk {
    /* Opens for reading and writing, creating when create is set. ERR_NOT_FOUND, ERR_IO. */
    enum err (*open)(struct disk *disk, const char *path, bool create, struct disk_file **out);
    void (*close)(struct disk_file *file);
    /* Reads up to len bytes; *out_len is smaller only at the end of the file. */
    enum err (*read)(struct disk_file *file, void *to, size_t len, uint64_t at, size_t *out_len);
    /* Writes all of it. ERR_DISK_FULL, ERR_IO. */
    enum err (*write)(struct disk_file *file, const void *from, size_t len, uint64_t at);
    enum err (*sync)(struct disk_file *file); /* fdatasync */
    enum err (*size)(struct disk_file *file, uint64_t *out);
    enum err (*remove)(struct disk *disk, const char *path);
    enum err (*rename)(struct disk *disk, const char *from, const char *to);
    enum err (*sync_dir)(struct disk *disk, const char *path);
    enum err (*make_dir)(struct disk *disk, const char *path); /* OK when it is there */
    /* Bytes that can still be written in the file system of path. */
    enum err (*space)(struct disk *disk, const char *path, uint64_t *out_bytes);
    /* Calls each with every name in the directory, in no order. */
    enum err (*list)(struct disk *disk, const char *path, void (*each)(void *ctx, const char *name), void *ctx);
    /* Bytes of the whole file system of path. */
    enum err (*capacity)(struct disk *disk, const char *path, uint64_t *out_bytes);
};

/* The machine's file system. */
struct disk *disk_posix(void);

/* Writes a small file so that after a crash it is either the old or the new one:
 * temporary file, sync, rename, sync of the directory. */
enum err disk_replace(struct disk *disk, const char *dir, const char *name, struct bytes content) MUST_USE;
/* Reads a small file of at most max bytes. ERR_NOT_FOUND, ERR_TOO_LARGE, ERR_IO. */
enum err disk_load(struct disk *disk, const char *path, size_t max, struct buf *out) MUST_USE;

#endif
