/* A disk in memory that tears: each file as it is, and as it was synced. One thread. */
#ifndef BELFRY_TESTS_SUPPORT_TORN_DISK_H
#define BELFRY_TESTS_SUPPORT_TORN_DISK_H

#include "node/base/random.h"
#include "storage/disk.h"

enum { TORN_FILES = 64 };

struct torn_file {
    char path[128];
    struct buf now, synced;
    bool used;
};

struct torn_disk {
    struct disk disk;
    struct torn_file files[TORN_FILES];
    struct random *random;
    int fail_in; /* operations until a crash; -1: never */
    bool crashed;
    uint64_t space, capacity; /* what the disk says is free, and its size; nothing is taken from either */
};

void torn_disk_init(struct torn_disk *disk, struct random *random);
void torn_disk_close(struct torn_disk *disk);
/* NULL when there is none. */
struct torn_file *torn_disk_find(struct torn_disk *disk, const char *path);
void torn_file_forget(struct torn_file *file);
/* The power fails: of every sector written and not synced, the old or the new one is left. */
void torn_disk_power_fails(struct torn_disk *disk);

#endif
