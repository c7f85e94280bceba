#include "tests/support/torn_disk.h"

#include "tests/support/test.h"

enum { SECTOR = 512 };

struct disk_file {
    struct torn_disk *disk;
    struct torn_file *file;
};

static bool crash_now(struct torn_disk *disk)
{
    if (disk->fail_in > 0 && --disk->fail_in == 0) {
        disk->crashed = true;
    }
    return disk->crashed;
}

struct torn_file *torn_disk_find(struct torn_disk *disk, const char *path)
{
    for (size_t i = 0; i < TORN_FILES; i++) {
        if (disk->files[i].used && strcmp(disk->files[i].path, path) == 0) {
            return &disk->files[i];
        }
    }
    return NULL;
}

static enum err torn_open(struct disk *base, const char *path, bool create, struct disk_file **out)
{
    struct torn_disk *disk = container_of(base, struct torn_disk, disk);
    struct torn_file *file = torn_disk_find(disk, path);
    if (crash_now(disk)) {
        return ERR_IO;
    }
    if (file == NULL && !create) {
        return ERR_NOT_FOUND;
    }
    for (size_t i = 0; file == NULL && i < TORN_FILES; i++) {
        if (!disk->files[i].used) {
            file = &disk->files[i];
            *file = (struct torn_file){.used = true};
            (void)snprintf(file->path, sizeof file->path, "%s", path);
        }
    }
    assert_non_null(file);
    *out = mem_alloc(sizeof **out);
    **out = (struct disk_file){disk, file};
    return OK;
}

static void torn_close(struct disk_file *file)
{
    free(file);
}

static enum err torn_read(struct disk_file *file, void *to, size_t len, uint64_t at, size_t *out_len)
{
    const struct buf *now = &file->file->now;
    size_t have = at >= now->len ? 0 : now->len - (size_t)at;
    *out_len = have < len ? have : len;
    if (*out_len > 0) {
        memcpy(to, now->ptr + at, *out_len);
    }
    return OK;
}

static void write_at(struct buf *buf, const void *from, size_t len, uint64_t at)
{
    if (buf->len < at + len) {
        size_t more = (size_t)(at + len) - buf->len;
        memset(buf_room(buf, more), 0, more);
        buf->len += more;
    }
    memcpy(buf->ptr + at, from, len);
}

static enum err torn_write(struct disk_file *file, const void *from, size_t len, uint64_t at)
{
    if (crash_now(file->disk)) {
        len = below(file->disk->random, len + 1);
    }
    write_at(&file->file->now, from, len, at);
    return file->disk->crashed ? ERR_IO : OK;
}

static enum err torn_sync(struct disk_file *file)
{
    if (crash_now(file->disk)) {
        return ERR_IO;
    }
    file->file->synced.len = 0;
    buf_add_bytes(&file->file->synced, buf_bytes(&file->file->now));
    return OK;
}

static enum err torn_size(struct disk_file *file, uint64_t *out)
{
    *out = file->file->now.len;
    return OK;
}

void torn_file_forget(struct torn_file *file)
{
    buf_free(&file->now);
    buf_free(&file->synced);
    file->used = false;
}

static enum err torn_remove(struct disk *base, const char *path)
{
    struct torn_disk *disk = container_of(base, struct torn_disk, disk);
    struct torn_file *file = torn_disk_find(disk, path);
    if (crash_now(disk)) {
        return ERR_IO;
    }
    if (file == NULL) {
        return ERR_NOT_FOUND;
    }
    torn_file_forget(file);
    return OK;
}

static enum err torn_rename(struct disk *base, const char *from, const char *to)
{
    struct torn_disk *disk = container_of(base, struct torn_disk, disk);
    struct torn_file *file = torn_disk_find(disk, from), *target = torn_disk_find(disk, to);
    if (crash_now(disk)) {
        return ERR_IO;
    }
    if (target != NULL) {
        torn_file_forget(target);
    }
    (void)snprintf(file->path, sizeof file->path, "%s", to);
    return OK;
}

static enum err torn_dir(struct disk *base, const char *path)
{
    (void)path;
    return crash_now(container_of(base, struct torn_disk, disk)) ? ERR_IO : OK;
}

static enum err torn_space(struct disk *base, const char *path, uint64_t *out_bytes)
{
    (void)path;
    *out_bytes = container_of(base, struct torn_disk, disk)->space;
    return OK;
}

static enum err torn_capacity(struct disk *base, const char *path, uint64_t *out_bytes)
{
    (void)path;
    *out_bytes = container_of(base, struct torn_disk, disk)->capacity;
    return OK;
}

static enum err torn_list(struct disk *base, const char *path, void (*each)(void *ctx, const char *name), void *ctx)
{
    struct torn_disk *disk = container_of(base, struct torn_disk, disk);
    (void)path;
    for (size_t i = 0; i < TORN_FILES; i++) {
        if (disk->files[i].used) {
            each(ctx, strrchr(disk->files[i].path, '/') + 1);
        }
    }
    return OK;
}

void torn_disk_power_fails(struct torn_disk *disk)
{
    for (size_t i = 0; i < TORN_FILES; i++) {
        struct torn_file *file = &disk->files[i];
        for (size_t at = 0; file->used && at < file->now.len; at += SECTOR) {
            size_t len = file->now.len - at < SECTOR ? file->now.len - at : SECTOR;
            if (below(disk->random, 2) == 0) {
                if (file->synced.len >= at + len) {
                    memcpy(file->now.ptr + at, file->synced.ptr + at, len);
                } else {
                    memset(file->now.ptr + at, 0, len);
                }
            }
        }
        if (file->used) {
            file->synced.len = 0;
            buf_add_bytes(&file->synced, buf_bytes(&file->now));
        }
    }
    disk->crashed = false;
    disk->fail_in = -1;
}

void torn_disk_init(struct torn_disk *disk, struct random *random)
{
    *disk = (struct torn_disk){.disk = {torn_open, torn_close, torn_read, torn_write, torn_sync, torn_size, torn_remove,
                                        torn_rename, torn_dir, torn_dir, torn_space, torn_list, torn_capacity},
                               .space = UINT64_MAX,
                               .capacity = UINT64_MAX,
                               .random = random,
                               .fail_in = -1};
}

void torn_disk_close(struct torn_disk *disk)
{
    for (size_t i = 0; i < TORN_FILES; i++) {
        if (disk->files[i].used) {
            torn_file_forget(&disk->files[i]);
        }
    }
}
