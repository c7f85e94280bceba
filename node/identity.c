#include "node/identity.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/base/crc32c.h"
#include "node/base/random.h"

enum { FILE_MAX = 64 * 1024 };

uint64_t replica_of(struct id node)
{
    uint64_t replica;
    memcpy(&replica, node.b + 8, sizeof replica);
    return replica;
}

void identity_draw(struct identity *out, int64_t now_ms)
{
    struct random random;
    random_init(&random);
    *out = (struct identity){.node = id_make(now_ms, 0, random_u64(&random))};
}

void identity_found_alone(struct identity *identity, unsigned partitions, const char *address, int64_t now_ms)
{
    struct random random;
    random_init(&random);
    identity->cluster = id_make(now_ms, 0, random_u64(&random));
    identity->partitions = partitions;
    identity->founders =
        (struct group_members){.len = 1, .list[0] = {.replica = replica_of(identity->node), .role = GROUP_VOTER}};
    (void)snprintf(identity->founders.list[0].address, GROUP_ADDRESS_BYTES, "%s", address);
}

enum err identity_write(struct disk *disk, const char *dir, const char *name, const struct identity *identity)
{
    struct buf text = {0};
    char cluster[ID_TEXT_BYTES], node[ID_TEXT_BYTES];
    id_format(identity->cluster, cluster);
    bool member = !id_is_none(identity->cluster);
    id_format(identity->node, node);
    buf_printf(&text, "belfry 1\ncluster %.36s\nnode %.36s\npartitions %u\nfounders %u\n", member ? cluster : "none",
               node, identity->partitions, identity->founders.len);
    for (unsigned i = 0; i < identity->founders.len; i++) {
        const struct group_member *founder = &identity->founders.list[i];
        buf_printf(&text, "founder %016llx %u %s\n", (unsigned long long)founder->replica, founder->role,
                   founder->address);
    }
    buf_printf(&text, "crc32c %08x\n", crc32c(0, text.ptr, text.len));
    enum err err = disk_replace(disk, dir, name, buf_bytes(&text));
    buf_free(&text);
    return err;
}

/* Lines "founder REPLICA ROLE ADDRESS"; the address may be empty. */
static bool parse_founders(const char **text, unsigned count, struct group_members *out)
{
    for (unsigned i = 0; i < count; i++) {
        struct group_member *founder = &out->list[out->len++];
        unsigned long long replica;
        unsigned role;
        int at = 0;
        const char *end = strchr(*text, '\n');
        if (end == NULL || sscanf(*text, "founder %16llx %u%n", &replica, &role, &at) != 2 || at <= 0 ||
            (*text)[at] != ' ' || end - *text - at - 1 >= GROUP_ADDRESS_BYTES || role > GROUP_VOTER || replica == 0) {
            return false;
        }
        founder->replica = replica;
        founder->role = (uint8_t)role;
        memcpy(founder->address, *text + at + 1, (size_t)(end - *text) - (size_t)at - 1);
        *text = end + 1;
    }
    return true;
}

static enum err parse(const char *text, struct identity *out)
{
    char cluster[ID_TEXT_BYTES + 1], node[ID_TEXT_BYTES + 1];
    unsigned crc, count = 0;
    int head = 0, end = 0;
    *out = (struct identity){0};
    if (sscanf(text, "belfry 1\ncluster %36s\nnode %36s\npartitions %u\nfounders %u\n%n", cluster, node,
               &out->partitions, &count, &head) != 4 ||
        head == 0 || count > GROUP_MEMBERS_MAX) {
        return ERR_CORRUPT;
    }
    const char *at = text + head;
    if (!parse_founders(&at, count, &out->founders) || sscanf(at, "crc32c %8x\n%n", &crc, &end) != 1 || end == 0 ||
        at[end] != 0 || crc != crc32c(0, text, (size_t)(at - text))) {
        return ERR_CORRUPT;
    }
    bool named = (strcmp(cluster, "none") == 0 || id_parse(bytes_str(cluster), &out->cluster)) &&
                 id_parse(bytes_str(node), &out->node);
    bool whole = id_is_none(out->cluster) || (out->partitions >= 1 && out->partitions <= ID_PARTITION_MAX);
    return named && whole ? OK : ERR_CORRUPT;
}

enum err identity_read(struct disk *disk, const char *dir, const char *name, struct identity *out)
{
    char path[PATH_MAX];
    struct buf text = {0};
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    enum err err = disk_load(disk, path, FILE_MAX, &text);
    if (err == OK) {
        buf_add_char(&text, 0);
        err = parse((const char *)text.ptr, out);
    }
    buf_free(&text);
    return err == ERR_TOO_LARGE ? ERR_CORRUPT : err;
}
