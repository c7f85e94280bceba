#include "tests/sim/hand.h"

#include <stdio.h>
#include <stdlib.h>

enum { MS = 1000000, TICK_MS = 10 };

static void free_entries(struct group_message *message)
{
    for (size_t i = 0; i < message->entries_len && message->entries != NULL; i++) {
        free((void *)(uintptr_t)message->entries[i].payload.ptr);
    }
    free(message->entries);
    message->entries = NULL;
}

/* ---- what the groups ask for ---- */

static void put_entry(struct hand_replica *replica, const struct group_entry *entry)
{
    CHECK(entry->index <= replica->log_len + 1 && entry->index <= HAND_LOG_MAX);
    while (replica->log_len >= entry->index) {
        free((void *)(uintptr_t)replica->log[--replica->log_len].payload.ptr);
    }
    replica->log[replica->log_len] = *entry;
    replica->log[replica->log_len++].payload.ptr = mem_copy(entry->payload.ptr, entry->payload.len);
}

static void on_hard_state(void *ctx, struct group *group, uint64_t term, uint64_t vote)
{
    struct hand_replica *replica = ctx;
    (void)group;
    replica->term = term;
    replica->vote = vote;
}

static void on_append(void *ctx, struct group *group, const struct group_entry *entry)
{
    (void)group;
    put_entry(ctx, entry);
}

static void on_apply(void *ctx, struct group *group, const struct group_entry *entry)
{
    struct hand_replica *replica = ctx;
    (void)group;
    replica->handed = entry->index;
}

static void on_role(void *ctx, struct group *group, bool leader)
{
    (void)ctx;
    (void)group;
    (void)leader;
}

static void on_send(void *ctx, struct group *group, const struct group_message *message)
{
    struct hand_replica *replica = ctx;
    struct hand *hand = replica->hand;
    (void)group;
    CHECK(message->to > 0 && message->to <= HAND_IDS && hand->packets_len < HAND_PACKETS_MAX);
    struct hand_packet packet = {.message = *message, .at_ns = hand->now_ns + MS};
    if (hand->cut[message->from][message->to]) {
        return;
    }
    if (hand->copies != NULL && hand->copies(message)) {
        hand->copy = *message;
    }
    packet.kept = hand->keeps != NULL && hand->keeps(message);
    if (message->type == MESSAGE_APPEND && message->entries_len > 0) {
        const struct group_entry *first = &replica->log[message->index];
        CHECK(message->index + message->entries_len <= replica->log_len);
        packet.message.entries = mem_copy(first, message->entries_len * sizeof *first);
        for (size_t i = 0; i < message->entries_len; i++) {
            packet.message.entries[i].payload.ptr = mem_copy(first[i].payload.ptr, first[i].payload.len);
        }
    }
    hand->packets[hand->packets_len++] = packet;
}

/* No snapshots are taken here yet. */
static void on_restart(void *ctx, struct group *group, uint64_t index, uint64_t term)
{
    (void)ctx;
    (void)group;
    (void)index;
    (void)term;
    CHECK(false);
}

static const struct group_ops hand_ops = {on_hard_state, on_append, on_apply, on_role, on_restart, on_send};

/* ---- replicas ---- */

/* Disk and state machine do at once what they were asked for. */
static void keep_up(struct hand_replica *replica)
{
    uint64_t number, handed;
    do {
        number = group_writes(replica->group);
        handed = replica->handed;
        group_synced(replica->group, number, replica->hand->now_ns);
        if (handed > 0) {
            group_applied(replica->group, handed);
        }
    } while (number != group_writes(replica->group) || handed != replica->handed);
}

struct group *hand_group(struct hand *hand, uint64_t id)
{
    return hand->replicas[id].group;
}

void hand_open(struct hand *hand, uint64_t seed)
{
    *hand = (struct hand){.now_ns = 1000000LL * MS, .seed = seed};
    for (uint64_t id = 0; id <= HAND_IDS; id++) {
        hand->replicas[id].hand = hand;
        hand->replicas[id].id = id;
    }
}

void hand_close(struct hand *hand)
{
    for (uint64_t id = 0; id <= HAND_IDS; id++) {
        struct hand_replica *replica = &hand->replicas[id];
        group_close(replica->group);
        while (replica->log_len > 0) {
            free((void *)(uintptr_t)replica->log[--replica->log_len].payload.ptr);
        }
    }
    for (size_t i = 0; i < hand->packets_len; i++) {
        free_entries(&hand->packets[i].message);
    }
}

static struct group_member member_of(uint64_t id, enum group_role role)
{
    struct group_member member = {.replica = id, .role = (uint8_t)role};
    snprintf(member.address, sizeof member.address, "node%llu", (unsigned long long)id);
    return member;
}

struct group_members hand_voters(unsigned len)
{
    struct group_members members = {.len = len};
    for (unsigned i = 0; i < len; i++) {
        members.list[i] = member_of(i + 1, GROUP_VOTER);
    }
    return members;
}

void hand_prepare(struct hand *hand, uint64_t id, const struct group_members *members, uint64_t term,
                  const uint64_t *terms, size_t len)
{
    struct hand_replica *replica = &hand->replicas[id];
    struct bytes encoded = group_members_encode(members);
    replica->term = term;
    put_entry(replica, &(struct group_entry){1, 1, ENTRY_CHANGE, encoded});
    free((void *)(uintptr_t)encoded.ptr);
    for (size_t i = 0; i < len; i++) {
        put_entry(replica, &(struct group_entry){i + 2, terms[i], ENTRY_COMMAND, BYTES_LIT("before")});
    }
}

void hand_start(struct hand *hand, uint64_t id)
{
    struct hand_replica *replica = &hand->replicas[id];
    struct group_options options = {.replica = id,
                                    .election_ms = HAND_ELECTION_MS,
                                    .heartbeat_ms = HAND_ELECTION_MS / 4,
                                    .seed = hand->seed * 16 + id,
                                    .keep_bytes = 1 << 20,
                                    .ops = &hand_ops,
                                    .ctx = replica};
    struct group_start start = {.term = replica->term, .vote = replica->vote, .entries_len = replica->log_len};
    struct group_entry entries[HAND_LOG_MAX];
    for (size_t i = 0; i < replica->log_len; i++) {
        entries[i] = replica->log[i];
        entries[i].payload.ptr = mem_copy(entries[i].payload.ptr, entries[i].payload.len);
    }
    start.entries = entries;
    replica->handed = 0;
    CHECK(replica->group == NULL && group_open(&options, &start, hand->now_ns, &replica->group) == OK);
    keep_up(replica);
}

void hand_crash(struct hand *hand, uint64_t id)
{
    group_close(hand->replicas[id].group);
    hand->replicas[id].group = NULL;
}

uint64_t hand_found(struct hand *hand, unsigned len)
{
    struct group_members members = hand_voters(len);
    for (uint64_t id = 1; id <= len; id++) {
        hand_prepare(hand, id, &members, 1, NULL, 0);
        hand_start(hand, id);
    }
    for (unsigned ms = 0; ms < 5000 && hand_leader(hand) == 0; ms++) {
        hand_run(hand, 1);
    }
    CHECK(hand_leader(hand) != 0);
    hand_run(hand, 2 * HAND_ELECTION_MS); /* and until the quarantine after a start is over */
    return hand_leader(hand);
}

/* ---- time and messages ---- */

static void deliver(struct hand *hand, struct group_message message)
{
    struct hand_replica *to = &hand->replicas[message.to];
    if (to->group == NULL || hand->cut[message.from][message.to]) {
        free_entries(&message);
        return;
    }
    CHECK(group_receive(to->group, &message, hand->now_ns) == OK);
    keep_up(to);
}

static void deliver_due(struct hand *hand)
{
    for (size_t i = 0; i < hand->packets_len;) {
        if (hand->packets[i].kept || hand->packets[i].at_ns > hand->now_ns) {
            i++;
            continue;
        }
        struct group_message message = hand->packets[i].message;
        memmove(&hand->packets[i], &hand->packets[i + 1], (--hand->packets_len - i) * sizeof hand->packets[i]);
        deliver(hand, message);
    }
}

void hand_run(struct hand *hand, unsigned ms)
{
    for (unsigned i = 0; i < ms; i++) {
        hand->now_ns += MS;
        deliver_due(hand);
        for (uint64_t id = 1; id <= HAND_IDS && hand->now_ns / MS % TICK_MS == 0; id++) {
            if (hand->replicas[id].group != NULL) {
                group_tick(hand->replicas[id].group, hand->now_ns);
                keep_up(&hand->replicas[id]);
            }
        }
    }
}

void hand_receive(struct hand *hand, const struct group_message *message)
{
    CHECK(message->type != 0 && message->entries_len == 0);
    deliver(hand, *message);
}

void hand_cut(struct hand *hand, uint64_t a, uint64_t b, bool cut)
{
    hand->cut[a][b] = hand->cut[b][a] = cut;
}

void hand_isolate(struct hand *hand, uint64_t id, bool cut)
{
    for (uint64_t other = 1; other <= HAND_IDS; other++) {
        hand_cut(hand, id, other, cut);
    }
}

void hand_release(struct hand *hand)
{
    hand->keeps = NULL;
    for (size_t i = 0; i < hand->packets_len; i++) {
        hand->packets[i].kept = false;
    }
}

size_t hand_kept(const struct hand *hand)
{
    size_t kept = 0;
    for (size_t i = 0; i < hand->packets_len; i++) {
        kept += hand->packets[i].kept;
    }
    return kept;
}

/* ---- asking ---- */

uint64_t hand_leader(const struct hand *hand)
{
    uint64_t found = 0, term = 0;
    for (uint64_t id = 1; id <= HAND_IDS; id++) {
        const struct group *group = hand->replicas[id].group;
        if (group != NULL && group_is_leader(group) && group_term(group) > term) {
            found = id;
            term = group_term(group);
        }
    }
    return found;
}

bool hand_submit(struct hand *hand, uint64_t id, unsigned len)
{
    enum err err = OK;
    for (unsigned i = 0; i < len && err == OK; i++) {
        struct bytes payload = bytes_of(mem_copy("command", 7), 7);
        uint64_t index;
        err = group_submit(hand_group(hand, id), &payload, 1, hand->now_ns, &index);
        keep_up(&hand->replicas[id]);
    }
    return err == OK;
}

enum err hand_change(struct hand *hand, uint64_t id, uint64_t member, enum group_role role)
{
    struct group_members members;
    group_members(hand_group(hand, id), &members);
    unsigned at = 0;
    while (at < members.len && members.list[at].replica != member) {
        at++;
    }
    members.list[at] = member_of(member, role);
    members.len += at == members.len;
    enum err err = group_change(hand_group(hand, id), &members, hand->now_ns);
    keep_up(&hand->replicas[id]);
    return err;
}

bool hand_holds_lease(const struct hand *hand, uint64_t id)
{
    const struct group *group = hand->replicas[id].group;
    return group != NULL && hand->now_ns < group_lease_end_ns(group);
}
