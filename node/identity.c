#include "node/identity.h"

#include <limits.h>
#include <stdio.h>

#include "node/base/random.h"

static enum err found(struct node *node)
{
    struct random random;
    struct buf text = {0};
    char cluster[ID_TEXT_BYTES], self[ID_TEXT_BYTES];
    random_init(&random);
    int64_t now = clock_wall_ms(node->clock);
    id_format(id_make(now, 0, random_u64(&random)), cluster);
    id_format(id_make(now, 0, random_u64(&random)), self);
    buf_printf(&text, "belfry 1\ncluster %.36s\nnode %.36s\npartitions %lld\n", cluster, self,
               (long long)node->config.partitions);
    enum err err = disk_replace(disk_posix(), node->config.data, "identity", buf_bytes(&text));
    buf_free(&text);
    return err;
}

static enum err read_file(struct node *node, struct buf *out)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/identity", node->config.data);
    TRY(disk_load(disk_posix(), path, 4096, out));
    buf_add_char(out, 0);
    return OK;
}

static enum err parse(struct node *node, const char *text)
{
    char cluster[ID_TEXT_BYTES + 1], self[ID_TEXT_BYTES + 1];
    int partitions, end = 0;
    if (sscanf(text, "belfry 1\ncluster %36s\nnode %36s\npartitions %d\n%n", cluster, self, &partitions, &end) != 3 ||
        text[end] != 0 || partitions < 1 || partitions > ID_PARTITION_MAX ||
        !id_parse(bytes_str(cluster), &node->cluster_id) || !id_parse(bytes_str(self), &node->id)) {
        return ERR_CORRUPT;
    }
    memcpy(node->name, self, sizeof self);
    node->data_partitions = (unsigned)partitions;
    node->partitions_len = node->data_partitions + 1;
    log_set_node(node->log, node->name);
    if (partitions != node->config.partitions) {
        log_text(node->log, LOG_WARN, "the number of partitions is fixed", "founded with %d; --partitions is ignored",
                 partitions);
    }
    return OK;
}

enum err identity_load(struct node *node)
{
    struct buf text = {0};
    enum err err = read_file(node, &text);
    if (err == ERR_NOT_FOUND) {
        err = found(node);
        if (err == OK) {
            err = read_file(node, &text);
        }
    }
    if (err == OK) {
        err = parse(node, (const char *)text.ptr);
    }
    buf_free(&text);
    return err;
}
