/* A disk in memory that never fails: what the storage harnesses open. */
#ifndef BELFRY_TESTS_FUZZ_MEMORY_DISK_H
#define BELFRY_TESTS_FUZZ_MEMORY_DISK_H

#include "storage/disk.h"

enum { MEMORY_FILES = 16 };

struct memory_file {
    char path[128]; /* empty: free */
    struct buf content;
};

struct memory_disk {
    struct disk disk;
    struct memory_file files[MEMORY_FILES];
};

void memory_disk_init(struct memory_disk *disk);
void memory_disk_close(struct memory_disk *disk);
/* The file of this path, made when it is not there. */
struct buf *memory_disk_file(struct memory_disk *disk, const char *path);

#endif
