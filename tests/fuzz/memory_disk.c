#include "tests/fuzz/memory_disk.h"

#include <stdio.h>
#include <stdlib.h>

struct disk_file {
    struct memory_file *file;
};

static struct memory_file *find(struct disk *base, const char *path)
{
    struct memory_disk *disk = container_of(base, struct memory_disk, disk);
    for (size_t i = 0; i < MEMORY_FILES; i++) {
        if (strcmp(disk->files[i].path, path) == 0) {
            return &disk->files[i];
        }
    }
    return NULL;
}

static enum err memory_open(struct disk *disk, const char *path, bool create, struct disk_file **out)
{
    struct memory_file *file = find(disk, path);
    if (file == NULL && !create) {
        return ERR_NOT_FOUND;
    }
    if (file == NULL) {
        file = find(disk, "");
        CHECK(file != NULL && strlen(path) < sizeof file->path);
        (void)snprintf(file->path, sizeof file->path, "%s", path);
    }
    *out = mem_alloc(sizeof **out);
    (*out)->file = file;
    return OK;
}

static void memory_close(struct disk_file *file)
{
    free(file);
}

static enum err memory_read(struct disk_file *file, void *to, size_t len, uint64_t at, size_t *out_len)
{
    const struct buf *content = &file->file->content;
    size_t have = at >= content->len ? 0 : content->len - (size_t)at;
    *out_len = have < len ? have : len;
    if (*out_len > 0) {
        memcpy(to, content->ptr + at, *out_len);
    }
    return OK;
}

static enum err memory_write(struct disk_file *file, const void *from, size_t len, uint64_t at)
{
    struct buf *content = &file->file->content;
    CHECK(at <= (1U << 24) && len <= (1U << 24));
    if (content->len < at + len) {
        size_t more = (size_t)at + len - content->len;
        memset(buf_room(content, more), 0, more);
        content->len += more;
    }
    if (len > 0) {
        memcpy(content->ptr + at, from, len);
    }
    return OK;
}

static enum err memory_sync(struct disk_file *file)
{
    (void)file;
    return OK;
}

static enum err memory_size(struct disk_file *file, uint64_t *out)
{
    *out = file->file->content.len;
    return OK;
}

static void forget(struct memory_file *file)
{
    buf_free(&file->content);
    file->path[0] = 0;
}

static enum err memory_remove(struct disk *disk, const char *path)
{
    struct memory_file *file = find(disk, path);
    if (file == NULL) {
        return ERR_NOT_FOUND;
    }
    forget(file);
    return OK;
}

static enum err memory_rename(struct disk *disk, const char *from, const char *to)
{
    struct memory_file *file = find(disk, from), *target = find(disk, to);
    if (file == NULL) {
        return ERR_NOT_FOUND;
    }
    if (target != NULL && target != file) {
        forget(target);
    }
    (void)snprintf(file->path, sizeof file->path, "%s", to);
    return OK;
}

static enum err memory_dir(struct disk *disk, const char *path)
{
    (void)disk;
    (void)path;
    return OK;
}

static enum err memory_space(struct disk *disk, const char *path, uint64_t *out_bytes)
{
    (void)disk;
    (void)path;
    *out_bytes = UINT64_MAX;
    return OK;
}

static enum err memory_list(struct disk *base, const char *path, void (*each)(void *ctx, const char *name), void *ctx)
{
    struct memory_disk *disk = container_of(base, struct memory_disk, disk);
    size_t len = strlen(path);
    for (size_t i = 0; i < MEMORY_FILES; i++) {
        const char *file = disk->files[i].path;
        if (strncmp(file, path, len) == 0 && file[len] == '/') {
            each(ctx, file + len + 1);
        }
    }
    return OK;
}

void memory_disk_init(struct memory_disk *disk)
{
    *disk = (struct memory_disk){.disk = {.open = memory_open,
                                          .close = memory_close,
                                          .read = memory_read,
                                          .write = memory_write,
                                          .sync = memory_sync,
                                          .size = memory_size,
                                          .remove = memory_remove,
                                          .rename = memory_rename,
                                          .sync_dir = memory_dir,
                                          .make_dir = memory_dir,
                                          .space = memory_space,
                                          .list = memory_list,
                                          .capacity = memory_space}};
}

void memory_disk_close(struct memory_disk *disk)
{
    for (size_t i = 0; i < MEMORY_FILES; i++) {
        forget(&disk->files[i]);
    }
}

struct buf *memory_disk_file(struct memory_disk *disk, const char *path)
{
    struct disk_file *file;
    CHECK(memory_open(&disk->disk, path, true, &file) == OK);
    struct buf *content = &file->file->content;
    memory_close(file);
    return content;
}
