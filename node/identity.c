#include "node/identity.h"

#include <limits.h>
#include <stdio.h>

#include "node/base/crc32c.h"
#include "node/base/random.h"

enum { FILE_MAX = 4096 };

enum err identity_found(struct disk *disk, const char *dir, unsigned partitions, int64_t now_ms)
{
    struct random random;
    struct buf text = {0};
    char cluster[ID_TEXT_BYTES], node[ID_TEXT_BYTES];
    random_init(&random);
    id_format(id_make(now_ms, 0, random_u64(&random)), cluster);
    id_format(id_make(now_ms, 0, random_u64(&random)), node);
    buf_printf(&text, "belfry 1\ncluster %.36s\nnode %.36s\npartitions %u\n", cluster, node, partitions);
    buf_printf(&text, "crc32c %08x\n", crc32c(0, text.ptr, text.len));
    enum err err = disk_replace(disk, dir, "identity", buf_bytes(&text));
    buf_free(&text);
    return err;
}

static enum err parse(const char *text, struct identity *out)
{
    char cluster[ID_TEXT_BYTES + 1], node[ID_TEXT_BYTES + 1];
    unsigned crc;
    int body = 0, end = 0;
    if (sscanf(text, "belfry 1\ncluster %36s\nnode %36s\npartitions %u\n%ncrc32c %8x\n%n", cluster, node,
               &out->partitions, &body, &crc, &end) != 4 ||
        text[end] != 0 || crc != crc32c(0, text, (size_t)body) || out->partitions < 1 ||
        out->partitions > ID_PARTITION_MAX || !id_parse(bytes_str(cluster), &out->cluster) ||
        !id_parse(bytes_str(node), &out->node)) {
        return ERR_CORRUPT;
    }
    return OK;
}

enum err identity_read(struct disk *disk, const char *dir, struct identity *out)
{
    char path[PATH_MAX];
    struct buf text = {0};
    (void)snprintf(path, sizeof path, "%s/identity", dir);
    enum err err = disk_load(disk, path, FILE_MAX, &text);
    if (err == OK) {
        buf_add_char(&text, 0);
        err = parse((const char *)text.ptr, out);
    }
    buf_free(&text);
    return err == ERR_TOO_LARGE ? ERR_CORRUPT : err;
}
