#include <stdio.h>
#include <stdlib.h>

#include "cluster/group_engine.h"

/* The engine wants addresses that differ; ours are hints and may be the same for a node and for the one
 * whose place it takes. So the replica stands before each: 16 hex digits and a space. */
enum { PREFIX = 17 };

struct bytes group_members_encode(const struct group_members *members)
{
    struct raft_configuration configuration;
    struct raft_buffer encoded;
    raft_configuration_init(&configuration);
    for (unsigned i = 0; i < members->len; i++) {
        const struct group_member *member = &members->list[i];
        char address[PREFIX + GROUP_ADDRESS_BYTES];
        (void)snprintf(address, sizeof address, "%016llx %s", (unsigned long long)member->replica, member->address);
        CHECK(raft_configuration_add(&configuration, member->replica, address,
                                     member->role == GROUP_VOTER ? RAFT_VOTER : RAFT_STANDBY) == 0);
    }
    CHECK(raft_configuration_encode(&configuration, &encoded) == 0);
    raft_configuration_close(&configuration);
    struct bytes copy = bytes_of(mem_copy(encoded.base, encoded.len), encoded.len);
    raft_free(encoded.base);
    return copy;
}

void group_members_from_engine(const struct raft_configuration *configuration, struct group_members *out)
{
    *out = (struct group_members){0};
    for (unsigned i = 0; i < configuration->n && i < GROUP_MEMBERS_MAX; i++) {
        const struct raft_server *server = &configuration->servers[i];
        struct group_member *member = &out->list[out->len++];
        member->replica = server->id;
        member->role = server->role == RAFT_VOTER ? GROUP_VOTER : GROUP_LEARNER;
        if (strlen(server->address) >= PREFIX) {
            (void)snprintf(member->address, sizeof member->address, "%s", server->address + PREFIX);
        }
    }
}

/* The engine's decoder trusts the lengths it reads. Its form: version (1) | count (8) | each: id (8),
 * address, 0, role (1) | padding. */
static bool is_well_formed(struct bytes encoded)
{
    uint64_t count, id;
    size_t at = 1 + sizeof count;
    if (encoded.len < at || encoded.ptr[0] != 1) {
        return false;
    }
    memcpy(&count, encoded.ptr + 1, sizeof count);
    if (count == 0 || count > GROUP_MEMBERS_MAX) {
        return false;
    }
    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *end =
            encoded.len - at < sizeof id ? NULL : memchr(encoded.ptr + at + sizeof id, 0, encoded.len - at - sizeof id);
        if (end == NULL) {
            return false;
        }
        memcpy(&id, encoded.ptr + at, sizeof id);
        size_t address_len = (size_t)(end - (encoded.ptr + at + sizeof id));
        at = (size_t)(end - encoded.ptr) + 2;
        if (id == 0 || address_len >= PREFIX + GROUP_ADDRESS_BYTES || at > encoded.len || end[1] > RAFT_SPARE) {
            return false;
        }
    }
    return true;
}

enum err group_members_to_engine(struct bytes encoded, struct raft_configuration *out)
{
    struct raft_buffer buffer = {(void *)(uintptr_t)encoded.ptr, encoded.len};
    raft_configuration_init(out);
    return is_well_formed(encoded) && raft_configuration_decode(&buffer, out) == 0 ? OK : ERR_CORRUPT;
}

enum err group_members_decode(struct bytes encoded, struct group_members *out)
{
    struct raft_configuration configuration;
    TRY(group_members_to_engine(encoded, &configuration));
    group_members_from_engine(&configuration, out);
    raft_configuration_close(&configuration);
    return OK;
}

const struct group_member *group_members_find(const struct group_members *members, uint64_t replica)
{
    for (unsigned i = 0; i < members->len; i++) {
        if (members->list[i].replica == replica) {
            return &members->list[i];
        }
    }
    return NULL;
}
