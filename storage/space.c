#include "storage/space.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "node/limits.h"
#include "storage/disk.h"

enum { SPARE_BYTES = LIMIT_DISK_SPARE_BYTES, LAST_BYTES = 1 << 20 };

static void spare_path(const struct space *space, char *out)
{
    (void)snprintf(out, PATH_MAX, "%s/spare", space->dir);
}

static void give_back(struct space *space)
{
    char path[PATH_MAX];
    spare_path(space, path);
    (void)unlink(path);
    space->spared = false;
}

/* Not where the file system cannot set blocks aside. */
static void set_aside(struct space *space)
{
    char path[PATH_MAX];
    spare_path(space, path);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    space->spared = fd >= 0 && fallocate(fd, 0, 0, SPARE_BYTES) == 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    if (!space->spared) {
        (void)unlink(path);
    }
}

void space_init(struct space *space, const char *dir, uint64_t low_bytes)
{
    *space = (struct space){.dir = dir, .low_bytes = low_bytes};
    give_back(space);
}

bool space_is_low(struct space *space)
{
    uint64_t bytes;
    if (disk_posix()->space(disk_posix(), space->dir, &bytes) != OK) {
        return false; /* the writes will say what is wrong */
    }
    if (space->spared && bytes < LAST_BYTES) {
        give_back(space);
    } else if (!space->spared && bytes > space->low_bytes + (uint64_t)SPARE_BYTES + LAST_BYTES) {
        set_aside(space);
        bytes -= space->spared ? SPARE_BYTES : 0;
    }
    /* What was given back is not for new data. */
    return bytes < space->low_bytes + (space->spared ? 0 : (uint64_t)SPARE_BYTES);
}
