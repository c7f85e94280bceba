#include "cluster/group.h"

#include <raft.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/limits.h"

_Static_assert(RAFT_VERSION_NUMBER == 2201, "the engine must be libraft 0.22.1: see cluster/README.md");
_Static_assert((int)ENTRY_COMMAND == (int)RAFT_COMMAND && (int)ENTRY_BARRIER == (int)RAFT_BARRIER &&
                   (int)ENTRY_CHANGE == (int)RAFT_CHANGE,
               "entry kinds are the engine's");

struct group {
    struct group_options options;
    struct raft raft;
    /* Entries not yet handed to apply, by index: ring[(index - 1) % ring_cap]. */
    struct group_entry *ring;
    size_t ring_cap;
    uint64_t handed;    /* entries up to here were handed to apply */
    uint64_t persisted; /* synced in our log */
    uint64_t applied;   /* in our state */
    bool leader;
};

enum { RING = LIMIT_INFLIGHT_ENTRIES + 64 };

static struct group_entry *slot(struct group *group, uint64_t index)
{
    return &group->ring[(index - 1) % group->ring_cap];
}

static bool is_sole_voter_of(const struct raft_configuration *c, uint64_t replica)
{
    unsigned voters = 0;
    bool self = false;
    for (unsigned i = 0; i < c->n; i++) {
        voters += c->servers[i].role == RAFT_VOTER;
        self = self || (c->servers[i].role == RAFT_VOTER && c->servers[i].id == replica);
    }
    return self && voters == 1;
}

static bool is_sole_voter(const struct group *group)
{
    return is_sole_voter_of(&group->raft.configuration, group->options.replica);
}

/* G2: the engine lets a sole voter elect itself without a new term; entries of the old term that it
 * had proposed and lost could then be replaced under the same index and term. So it takes a new
 * term first, and votes for itself, in the log ahead of everything that follows. */
static void guard_sole_voter_term(struct group *group)
{
    group->raft.current_term++;
    group->raft.voted_for = group->options.replica;
    group->options.ops->hard_state(group->options.ctx, group, group->raft.current_term, group->raft.voted_for);
}

/* Committed entries that are synced here go to apply, in order. Never beyond what is synced. */
static void hand_over(struct group *group)
{
    uint64_t commit = raft_commit_index(&group->raft);
    uint64_t upto = commit < group->persisted ? commit : group->persisted;
    while (group->handed < upto) {
        struct group_entry *entry = slot(group, ++group->handed);
        CHECK(entry->index == group->handed);
        struct group_entry moved = *entry;
        *entry = (struct group_entry){0};
        group->options.ops->apply(group->options.ctx, group, moved);
    }
}

static void take_entries(struct group *group, const struct raft_update *update)
{
    for (unsigned i = 0; i < update->entries.n; i++) {
        const struct raft_entry *raw = &update->entries.batch[i];
        uint64_t index = update->entries.index + i;
        struct group_entry *entry = slot(group, index);
        CHECK(entry->payload.ptr == NULL);
        *entry = (struct group_entry){index, raw->term, (uint8_t)raw->type, bytes_of(raw->buf.base, raw->buf.len)};
        group->options.ops->append(group->options.ctx, group, entry);
    }
}

static void update_role(struct group *group)
{
    bool leader = raft_state(&group->raft) == RAFT_LEADER;
    if (leader != group->leader) {
        group->leader = leader;
        group->options.ops->role(group->options.ctx, group, leader);
    }
}

static int step(struct group *group, struct raft_event *event, int64_t now_ms)
{
    struct raft_update update;
    event->time = (raft_time)now_ms;
    int rc = raft_step(&group->raft, event, &update);
    if (rc != 0) {
        return rc;
    }
    if ((update.flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR)) != 0) {
        group->options.ops->hard_state(group->options.ctx, group, raft_current_term(&group->raft),
                                       raft_voted_for(&group->raft));
    }
    if ((update.flags & RAFT_UPDATE_ENTRIES) != 0) {
        take_entries(group, &update);
    }
    update_role(group);
    hand_over(group);
    return 0;
}

struct bytes group_configuration_sole(uint64_t replica, const char *address)
{
    struct raft_configuration configuration;
    struct raft_buffer encoded;
    raft_configuration_init(&configuration);
    CHECK(raft_configuration_add(&configuration, replica, address, RAFT_VOTER) == 0);
    CHECK(raft_configuration_encode(&configuration, &encoded) == 0);
    raft_configuration_close(&configuration);
    struct bytes copy = bytes_of(mem_copy(encoded.base, encoded.len), encoded.len);
    raft_free(encoded.base);
    return copy;
}

/* At start the engine is shown a snapshot at the applied index; restoring it is a no-op. */
static enum err start_snapshot(const struct group_start *start, struct raft_snapshot_metadata *out)
{
    struct raft_buffer buffer = {(void *)(uintptr_t)start->configuration.ptr, start->configuration.len};
    *out = (struct raft_snapshot_metadata){
        .index = start->applied_index, .term = start->applied_term, .configuration_index = start->configuration_index};
    raft_configuration_init(&out->configuration);
    return raft_configuration_decode(&buffer, &out->configuration) == 0 ? OK : ERR_CORRUPT;
}

static struct raft_entry *start_entries(const struct group_start *start)
{
    struct raft_entry *entries = raft_malloc((start->entries_len + 1) * sizeof *entries);
    CHECK(entries != NULL);
    for (size_t i = 0; i < start->entries_len; i++) {
        const struct group_entry *from = &start->entries[i];
        entries[i] = (struct raft_entry){.term = from->term,
                                         .type = (enum raft_entry_type)from->kind,
                                         .buf = {(void *)(uintptr_t)from->payload.ptr, from->payload.len}};
    }
    return entries;
}

static enum err check_start(const struct group_start *start)
{
    uint64_t index = start->applied_index, term = start->applied_term;
    for (size_t i = 0; i < start->entries_len; i++) {
        if (start->entries[i].index != ++index || start->entries[i].term < term) {
            return ERR_CORRUPT;
        }
        term = start->entries[i].term;
    }
    bool founded = start->applied_index > 0 || (start->entries_len > 0 && start->entries[0].kind == ENTRY_CHANGE);
    return term <= start->term && founded ? OK : ERR_CORRUPT;
}

/* The configuration the engine will start with: that of the newest change in the log, or the
 * snapshot's. */
static enum err starts_as_sole_voter(const struct group_start *start, uint64_t replica, bool *out)
{
    struct bytes encoded = start->configuration;
    for (size_t i = 0; i < start->entries_len; i++) {
        if (start->entries[i].kind == ENTRY_CHANGE) {
            encoded = start->entries[i].payload;
        }
    }
    struct raft_buffer buffer = {(void *)(uintptr_t)encoded.ptr, encoded.len};
    struct raft_configuration configuration;
    raft_configuration_init(&configuration);
    if (raft_configuration_decode(&buffer, &configuration) != 0) {
        return ERR_CORRUPT;
    }
    *out = is_sole_voter_of(&configuration, replica);
    raft_configuration_close(&configuration);
    return OK;
}

static void free_ring(struct group *group)
{
    for (size_t i = 0; i < group->ring_cap; i++) {
        free((void *)(uintptr_t)group->ring[i].payload.ptr);
    }
    free(group->ring);
}

enum err group_open(const struct group_options *options, const struct group_start *start, int64_t now_ms,
                    struct group **out)
{
    bool sole;
    TRY(check_start(start));
    TRY(starts_as_sole_voter(start, options->replica, &sole));
    struct raft_snapshot_metadata metadata;
    if (start->applied_index > 0) {
        TRY(start_snapshot(start, &metadata));
    }
    struct group *group = mem_zalloc(sizeof *group);
    group->options = *options;
    group->handed = group->applied = start->applied_index;
    group->persisted = start->applied_index + start->entries_len;
    /* What is replayed may be more than what is ever in flight later. */
    group->ring_cap = RING + start->entries_len;
    group->ring = mem_zalloc(group->ring_cap * sizeof *group->ring);
    CHECK(raft_init(&group->raft, NULL, NULL, options->replica, "self") == 0);
    group->raft.tracer = NULL; /* it formats every step into one static buffer, shared by all threads */
    raft_seed(&group->raft, (unsigned)options->seed);
    raft_set_election_timeout(&group->raft, options->election_ms);
    raft_set_heartbeat_timeout(&group->raft, options->heartbeat_ms);
    raft_set_pre_vote(&group->raft, true);
    raft_set_max_inflight_entries(&group->raft, LIMIT_INFLIGHT_ENTRIES);
    for (size_t i = 0; i < start->entries_len; i++) {
        *slot(group, start->entries[i].index) = start->entries[i];
    }
    struct raft_event event = {.type = RAFT_START};
    event.start.term = start->term;
    event.start.voted_for = start->vote;
    if (sole) { /* G2, for the election that the engine holds within the start */
        event.start.term++;
        event.start.voted_for = options->replica;
        options->ops->hard_state(options->ctx, group, event.start.term, event.start.voted_for);
    }
    event.start.metadata = start->applied_index > 0 ? &metadata : NULL;
    event.start.start_index = start->applied_index + 1;
    event.start.entries = start_entries(start);
    event.start.n_entries = (unsigned)start->entries_len;
    struct raft_entry *entries = event.start.entries;
    int rc = step(group, &event, now_ms);
    raft_free(entries);
    if (rc != 0) {
        group_close(group);
        return ERR_CORRUPT;
    }
    *out = group;
    return OK;
}

void group_close(struct group *group)
{
    if (group != NULL) {
        raft_close(&group->raft, NULL);
        free_ring(group);
        free(group);
    }
}

size_t group_room(const struct group *group)
{
    uint64_t inflight = group_last_index(group) - group->applied;
    return inflight < LIMIT_INFLIGHT_ENTRIES ? LIMIT_INFLIGHT_ENTRIES - (size_t)inflight : 0;
}

static void free_payloads(struct bytes *payloads, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        free((void *)(uintptr_t)payloads[i].ptr);
    }
}

enum err group_submit(struct group *group, struct bytes *payloads, size_t len, int64_t now_ms,
                      uint64_t *out_first_index)
{
    if (!group->leader || len > group_room(group)) {
        free_payloads(payloads, len);
        return group->leader ? ERR_OVERLOADED : ERR_NOT_LEADER;
    }
    struct raft_entry *entries = mem_alloc(len * sizeof *entries);
    for (size_t i = 0; i < len; i++) {
        void *ptr = (void *)(uintptr_t)payloads[i].ptr;
        entries[i] = (struct raft_entry){
            .term = raft_current_term(&group->raft), .type = RAFT_COMMAND, .buf = {ptr, payloads[i].len}, .batch = ptr};
    }
    *out_first_index = group_last_index(group) + 1;
    struct raft_event event = {.type = RAFT_SUBMIT};
    event.submit.entries = entries;
    event.submit.n = (unsigned)len;
    int rc = step(group, &event, now_ms);
    free(entries);
    if (rc != 0) {
        free_payloads(payloads, len);
        return rc == RAFT_NOTLEADER ? ERR_NOT_LEADER : ERR_OVERLOADED;
    }
    return OK;
}

void group_persisted(struct group *group, uint64_t index, int64_t now_ms)
{
    if (index <= group->persisted) {
        return;
    }
    group->persisted = index;
    struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES};
    event.persisted_entries.index = index;
    CHECK(step(group, &event, now_ms) == 0);
}

void group_applied(struct group *group, uint64_t index)
{
    CHECK(index >= group->applied && index <= group->handed);
    group->applied = index;
}

void group_tick(struct group *group, int64_t now_ms)
{
    if ((raft_time)now_ms < raft_timeout(&group->raft)) {
        return;
    }
    if (raft_state(&group->raft) == RAFT_FOLLOWER && is_sole_voter(group)) {
        guard_sole_voter_term(group);
    }
    struct raft_event event = {.type = RAFT_TIMEOUT};
    CHECK(step(group, &event, now_ms) == 0);
}

bool group_is_leader(const struct group *group)
{
    return group->leader;
}
uint64_t group_term(const struct group *group)
{
    return raft_current_term(&group->raft);
}
uint64_t group_commit_index(const struct group *group)
{
    return raft_commit_index(&group->raft);
}
uint64_t group_last_index(const struct group *group)
{
    return raft_last_index((struct raft *)(uintptr_t)&group->raft);
}

int64_t group_lease_end_ns(const struct group *group)
{
    return group->leader && is_sole_voter(group) ? INT64_MAX : INT64_MIN;
}
