#include "storage/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct disk_file {
    int fd;
};

static enum err err_of_errno(void)
{
    return errno == ENOENT ? ERR_NOT_FOUND : errno == ENOSPC || errno == EDQUOT ? ERR_DISK_FULL : ERR_IO;
}

static enum err posix_open(struct disk *disk, const char *path, bool create, struct disk_file **out)
{
    (void)disk;
    int fd = open(path, O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0640);
    if (fd < 0) {
        return err_of_errno();
    }
    *out = mem_alloc(sizeof **out);
    (*out)->fd = fd;
    return OK;
}

static void posix_close(struct disk_file *file)
{
    (void)close(file->fd);
    free(file);
}

static enum err posix_read(struct disk_file *file, void *to, size_t len, uint64_t at, size_t *out_len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = pread(file->fd, (char *)to + done, len - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return err_of_errno();
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    *out_len = done;
    return OK;
}

static enum err posix_write(struct disk_file *file, const void *from, size_t len, uint64_t at)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = pwrite(file->fd, (const char *)from + done, len - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return err_of_errno();
        }
        done += (size_t)n;
    }
    return OK;
}

static enum err posix_sync(struct disk_file *file)
{
    return fdatasync(file->fd) == 0 ? OK : err_of_errno();
}

static enum err posix_size(struct disk_file *file, uint64_t *out)
{
    struct stat st;
    if (fstat(file->fd, &st) != 0) {
        return err_of_errno();
    }
    *out = (uint64_t)st.st_size;
    return OK;
}

static enum err posix_remove(struct disk *disk, const char *path)
{
    (void)disk;
    return unlink(path) == 0 ? OK : err_of_errno();
}

static enum err posix_rename(struct disk *disk, const char *from, const char *to)
{
    (void)disk;
    return rename(from, to) == 0 ? OK : err_of_errno();
}

static enum err posix_sync_dir(struct disk *disk, const char *path)
{
    (void)disk;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return err_of_errno();
    }
    enum err err = fsync(fd) == 0 ? OK : err_of_errno();
    (void)close(fd);
    return err;
}

static enum err posix_make_dir(struct disk *disk, const char *path)
{
    (void)disk;
    return mkdir(path, 0750) == 0 || errno == EEXIST ? OK : err_of_errno();
}

static enum err posix_space(struct disk *disk, const char *path, uint64_t *out_bytes)
{
    struct statvfs st;
    (void)disk;
    if (statvfs(path, &st) != 0) {
        return err_of_errno();
    }
    *out_bytes = (uint64_t)st.f_bavail * st.f_frsize;
    return OK;
}

static enum err posix_capacity(struct disk *disk, const char *path, uint64_t *out_bytes)
{
    struct statvfs st;
    (void)disk;
    if (statvfs(path, &st) != 0) {
        return err_of_errno();
    }
    *out_bytes = (uint64_t)st.f_blocks * st.f_frsize;
    return OK;
}

static enum err posix_list(struct disk *disk, const char *path, void (*each)(void *ctx, const char *name), void *ctx)
{
    (void)disk;
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return err_of_errno();
    }
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (entry->d_name[0] != '.') {
            each(ctx, entry->d_name);
        }
    }
    (void)closedir(dir);
    return OK;
}

struct disk *disk_posix(void)
{
    static struct disk disk = {posix_open,  posix_close,  posix_read,    posix_write,    posix_sync,
                               posix_size,  posix_remove, posix_rename,  posix_sync_dir, posix_make_dir,
                               posix_space, posix_list,   posix_capacity};
    return &disk;
}

enum err disk_replace(struct disk *disk, const char *dir, const char *name, struct bytes content)
{
    char temporary[PATH_MAX], path[PATH_MAX];
    (void)snprintf(temporary, sizeof temporary, "%s/%s.tmp", dir, name);
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    struct disk_file *file;
    enum err gone = disk->remove(disk, temporary);
    if (gone != OK && gone != ERR_NOT_FOUND) {
        return gone;
    }
    TRY(disk->open(disk, temporary, true, &file));
    enum err err = disk->write(file, content.ptr, content.len, 0);
    if (err == OK) {
        err = disk->sync(file);
    }
    disk->close(file);
    if (err == OK) {
        err = disk->rename(disk, temporary, path);
    }
    return err == OK ? disk->sync_dir(disk, dir) : err;
}

enum err disk_load(struct disk *disk, const char *path, size_t max, struct buf *out)
{
    struct disk_file *file;
    uint64_t size;
    TRY(disk->open(disk, path, false, &file));
    enum err err = disk->size(file, &size);
    if (err == OK && size > max) {
        err = ERR_TOO_LARGE;
    }
    if (err == OK) {
        size_t len;
        err = disk->read(file, buf_room(out, (size_t)size), (size_t)size, 0, &len);
        out->len += err == OK ? len : 0;
    }
    disk->close(file);
    return err;
}
