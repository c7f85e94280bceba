/* Preloaded into a node by tests/e2e/power_test.py: writes down, in order, everything the node does to
 * the files below POWER_DIR, into the journal POWER_JOURNAL; and fails what POWER_FAULT says.
 *
 * A record: op (1), inode (8), offset (8), length (4), flags (4), length of the path (4), path, data.
 * A sync is two records, since it covers what was written before it began.
 * POWER_FAULT is a file "CALL PART ERRNO": calls of that name on paths that contain PART fail.
 * POWER_KILL_AT=N ends the process before its N-th sync or change of a directory. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum op { CREATE = 1, WRITE, SYNC_BEGIN, SYNC_END, DIR_SYNC_BEGIN, DIR_SYNC_END, RENAME, UNLINK, MKDIR, TRUNCATE };
enum { ZEROS = 1 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int journal = -1;
static char dir[PATH_MAX];

static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

#define REAL(name) ((__typeof__(&name))real(#name))

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("POWER_JOURNAL"), *root = getenv("POWER_DIR");
    if (path != NULL && root != NULL && realpath(root, dir) != NULL) {
        journal = REAL(open)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    }
}

static bool is_zero(const uint8_t *data, size_t len)
{
    return len > 0 && data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

static void note(enum op op, uint64_t inode, uint64_t at, const void *data, size_t len, const char *path)
{
    uint8_t head[29];
    uint32_t flags = data != NULL && is_zero(data, len) ? ZEROS : 0,
             path_len = path == NULL ? 0 : (uint32_t)strlen(path);
    uint32_t len32 = (uint32_t)len;
    head[0] = (uint8_t)op;
    memcpy(head + 1, &inode, 8);
    memcpy(head + 9, &at, 8);
    memcpy(head + 17, &len32, 4);
    memcpy(head + 21, &flags, 4);
    memcpy(head + 25, &path_len, 4);
    struct iovec parts[3] = {{head, sizeof head},
                             {(void *)(uintptr_t)path, path_len},
                             {(void *)(uintptr_t)data, flags == ZEROS || data == NULL ? 0 : len}};
    size_t want = parts[0].iov_len + parts[1].iov_len + parts[2].iov_len;
    if (REAL(writev)(journal, parts, 3) != (ssize_t)want) {
        abort();
    }
}

static void step(void)
{
    static atomic_int steps;
    const char *at = getenv("POWER_KILL_AT");
    if (at != NULL && atomic_fetch_add(&steps, 1) + 1 == atoi(at)) {
        _exit(137);
    }
}

/* The path behind a descriptor, when it is one of ours. */
static bool watched(int fd, char *path, uint64_t *inode)
{
    char link[64];
    struct stat st;
    if (journal < 0 || fd == journal) {
        return false;
    }
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    if (n <= 0) {
        return false;
    }
    path[n] = 0;
    if (strncmp(path, dir, strlen(dir)) != 0 || fstat(fd, &st) != 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))) {
        return false;
    }
    *inode = st.st_ino;
    return true;
}

/* The errno with which this call is to fail; 0: none. */
static int fault(const char *call, const char *path)
{
    char line[256] = "", name[64], part[128];
    int number = 0;
    const char *file = getenv("POWER_FAULT");
    int fd = file == NULL ? -1 : REAL(open)(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t n = read(fd, line, sizeof line - 1);
    (void)close(fd);
    bool ours = n > 0 && sscanf(line, "%63s %127s %d", name, part, &number) == 3 && strcmp(name, call) == 0 &&
                strstr(path, part) != NULL;
    return ours ? number : 0;
}

/* ---- opening ---- */

static int open_any(int (*call)(const char *, int, ...), const char *path, int flags, mode_t mode)
{
    char full[PATH_MAX];
    uint64_t inode;
    if ((flags & O_CREAT) == 0 || journal < 0) {
        return call(path, flags, mode);
    }
    pthread_mutex_lock(&mutex);
    bool existed = access(path, F_OK) == 0;
    int fd = call(path, flags, mode);
    if (fd >= 0 && !existed && watched(fd, full, &inode)) {
        note(CREATE, inode, 0, NULL, 0, full);
    }
    pthread_mutex_unlock(&mutex);
    return fd;
}

#define OPEN(name)                                      \
    int name(const char *path, int flags, ...)          \
    {                                                   \
        va_list args;                                   \
        va_start(args, flags);                          \
        mode_t mode = (mode_t)va_arg(args, unsigned);   \
        va_end(args);                                   \
        return open_any(REAL(name), path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

/* ---- writing ---- */

static ssize_t wrote(int fd, const void *data, ssize_t n, off_t at)
{
    char path[PATH_MAX];
    uint64_t inode;
    if (n > 0 && watched(fd, path, &inode)) {
        note(WRITE, inode, (uint64_t)at, data, (size_t)n, path);
    }
    return n;
}

static bool fails(const char *call, int fd)
{
    char path[PATH_MAX];
    uint64_t inode;
    int number = getenv("POWER_FAULT") != NULL && watched(fd, path, &inode) ? fault(call, path) : 0;
    errno = number != 0 ? number : errno;
    return number != 0;
}

#define PWRITE(name, offset)                                            \
    ssize_t name(int fd, const void *data, size_t len, offset at)       \
    {                                                                   \
        if (fails("write", fd)) {                                       \
            return -1;                                                  \
        }                                                               \
        pthread_mutex_lock(&mutex);                                     \
        ssize_t n = wrote(fd, data, REAL(name)(fd, data, len, at), at); \
        pthread_mutex_unlock(&mutex);                                   \
        return n;                                                       \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

static ssize_t wrote_parts(int fd, const struct iovec *parts, int count, ssize_t n, off_t at)
{
    ssize_t left = n;
    for (int i = 0; i < count && left > 0; i++) {
        ssize_t part = left < (ssize_t)parts[i].iov_len ? left : (ssize_t)parts[i].iov_len;
        (void)wrote(fd, parts[i].iov_base, part, at);
        at += part;
        left -= part;
    }
    return n;
}

#define PWRITEV(name, offset)                                                            \
    ssize_t name(int fd, const struct iovec *parts, int count, offset at)                \
    {                                                                                    \
        if (fails("write", fd)) {                                                        \
            return -1;                                                                   \
        }                                                                                \
        pthread_mutex_lock(&mutex);                                                      \
        ssize_t n = wrote_parts(fd, parts, count, REAL(name)(fd, parts, count, at), at); \
        pthread_mutex_unlock(&mutex);                                                    \
        return n;                                                                        \
    }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    if (fails("write", fd)) {
        return -1;
    }
    pthread_mutex_lock(&mutex);
    off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t n = wrote_parts(fd, parts, count, REAL(writev)(fd, parts, count), at < 0 ? 0 : at);
    pthread_mutex_unlock(&mutex);
    return n;
}

ssize_t write(int fd, const void *data, size_t len)
{
    if (fails("write", fd)) {
        return -1;
    }
    pthread_mutex_lock(&mutex);
    off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t n = wrote(fd, data, REAL(write)(fd, data, len), at < 0 ? 0 : at);
    pthread_mutex_unlock(&mutex);
    return n;
}

int ftruncate(int fd, off_t size)
{
    char path[PATH_MAX];
    uint64_t inode;
    pthread_mutex_lock(&mutex);
    int rc = REAL(ftruncate)(fd, size);
    if (rc == 0 && watched(fd, path, &inode)) {
        note(TRUNCATE, inode, (uint64_t)size, NULL, 0, path);
    }
    pthread_mutex_unlock(&mutex);
    return rc;
}

/* ---- syncing: nothing need be waited for, the journal is the disk ---- */

static int sync_any(int fd, int (*call)(int))
{
    char path[PATH_MAX];
    uint64_t inode;
    struct stat st;
    step();
    if (!watched(fd, path, &inode) || fstat(fd, &st) != 0) {
        return call(fd);
    }
    int number = fault("sync", path);
    if (number != 0) {
        errno = number;
        return -1;
    }
    bool directory = S_ISDIR(st.st_mode);
    pthread_mutex_lock(&mutex);
    note(directory ? DIR_SYNC_BEGIN : SYNC_BEGIN, inode, 0, NULL, 0, path);
    pthread_mutex_unlock(&mutex);
    pthread_mutex_lock(&mutex);
    note(directory ? DIR_SYNC_END : SYNC_END, inode, 0, NULL, 0, path);
    pthread_mutex_unlock(&mutex);
    return 0;
}

int fdatasync(int fd)
{
    return sync_any(fd, REAL(fdatasync));
}

int fsync(int fd)
{
    return sync_any(fd, REAL(fsync));
}

/* ---- names ---- */

static bool below_dir(const char *path, char *out)
{
    char parent[PATH_MAX], full[PATH_MAX];
    (void)snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (journal < 0 || slash == NULL) {
        return false;
    }
    *slash = 0;
    if (realpath(parent, full) == NULL || strncmp(full, dir, strlen(dir)) != 0) {
        return false;
    }
    (void)snprintf(out, PATH_MAX, "%.2000s/%.1000s", full, slash + 1);
    return true;
}

int rename(const char *from, const char *to)
{
    char full_from[PATH_MAX], full_to[PATH_MAX];
    step();
    pthread_mutex_lock(&mutex);
    int rc = REAL(rename)(from, to);
    if (rc == 0 && below_dir(from, full_from) && below_dir(to, full_to)) {
        note(RENAME, 0, 0, full_to, strlen(full_to), full_from);
    }
    pthread_mutex_unlock(&mutex);
    return rc;
}

int unlink(const char *path)
{
    char full[PATH_MAX];
    step();
    pthread_mutex_lock(&mutex);
    int rc = REAL(unlink)(path);
    if (rc == 0 && below_dir(path, full)) {
        note(UNLINK, 0, 0, NULL, 0, full);
    }
    pthread_mutex_unlock(&mutex);
    return rc;
}

int mkdir(const char *path, mode_t mode)
{
    char full[PATH_MAX];
    step();
    pthread_mutex_lock(&mutex);
    int rc = REAL(mkdir)(path, mode);
    if (rc == 0 && below_dir(path, full)) {
        note(MKDIR, 0, 0, NULL, 0, full);
    }
    pthread_mutex_unlock(&mutex);
    return rc;
}
