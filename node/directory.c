#include "node/directory.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "node/archive.h"
#include "node/identity.h"
#include "node/join.h"

static void path_in(const struct node *node, const char *name, char *out)
{
    (void)snprintf(out, PATH_MAX, "%s/%s", node->config.data, name);
}

enum err directory_lock(struct node *node, char *why, size_t why_cap)
{
    char path[PATH_MAX];
    struct disk *disk = disk_posix();
    (void)snprintf(why, why_cap, "the data directory %s cannot be made or used", node->config.data);
    TRY(disk->make_dir(disk, node->config.data));
    path_in(node, "lock", path);
    node->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (node->lock_fd < 0) {
        return ERR_IO;
    }
    if (flock(node->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        (void)snprintf(why, why_cap, "another belfry uses the data directory %s", node->config.data);
        return ERR_CONFLICT;
    }
    return OK;
}

/* A new node draws its id; without --join it is a cluster of its own at once. */
static enum err begin_identity(struct node *node, struct identity *out)
{
    const struct config *config = &node->config;
    int64_t now_ms = clock_wall_ms(node->clock);
    identity_draw(out, now_ms);
    if (config->join[0] == 0) {
        identity_found_alone(out, (unsigned)config->partitions, config->advertise, now_ms);
    }
    return identity_write(disk_posix(), config->data, "identity", out);
}

enum err directory_identify(struct node *node, char *why, size_t why_cap)
{
    struct identity identity;
    struct disk *disk = disk_posix();
    enum err err = identity_read(disk, node->config.data, "identity", &identity);
    char log[PATH_MAX], state[PATH_MAX], unfinished[PATH_MAX];
    path_in(node, "log", log);
    path_in(node, "state", state);
    path_in(node, RESTORE_MARK, unfinished);
    if (access(unfinished, F_OK) == 0) {
        (void)snprintf(why, why_cap, "a restore into %s was cut short: run it again", node->config.data);
        return ERR_CONFLICT;
    }
    if (err == ERR_NOT_FOUND && (access(log, F_OK) == 0 || access(state, F_OK) == 0)) {
        err = ERR_CORRUPT; /* it is written before anything else */
    }
    if (err == ERR_NOT_FOUND) {
        (void)snprintf(why, why_cap, "the file %s/identity cannot be written", node->config.data);
        err = begin_identity(node, &identity);
    }
    if (err == OK && id_is_none(identity.cluster)) {
        TRY(join_run(&node->config, node->log, &identity, why, why_cap));
    }
    (void)snprintf(why, why_cap, "the file %s/identity is damaged or missing", node->config.data);
    TRY(err);
    node->id = identity.node;
    node->cluster_id = identity.cluster;
    node->replica = replica_of(identity.node);
    id_format(node->id, node->name);
    (void)snprintf(node->by_line, sizeof node->by_line, "X-Belfry-Node: %s\r\n", node->name);
    node->data_partitions = identity.partitions;
    node->partitions_len = identity.partitions + 1;
    log_set_node(node->log, node->name);
    if (identity.partitions != node->config.partitions) {
        log_text(node->log, LOG_WARN, "the number of partitions is fixed", "founded with %u; --partitions is ignored",
                 identity.partitions);
    }
    return OK;
}
