#include "node/members.h"

#include <stdio.h>
#include <stdlib.h>

#include "actors/system/system.h"
#include "cluster/placement.h"
#include "node/cluster_page.h"
#include "node/forward.h"
#include "node/install.h"
#include "node/peers.h"
#include "node/skew.h"

enum {
    JOINING_MAX = 16,
    JOINING_MS = 3000,  /* a node that wants in asks again and again */
    ASK_MS = 300,       /* how often */
    RETIRE_MS = 1000,   /* between attempts to retire a node whose place is taken */
    HAND_OVER_MS = 200, /* between leaderships handed over to spread them */
    SETTLE_MS = 3000,   /* after the start leaders are left where they are */
    UNEVEN_MS = 1000,   /* they are spread when they were uneven so long: who leads nothing may be about to stop */
    REFUSED_MS = 1000,  /* who did not take over is not told again so soon: another may be able to */
    NEARLY = 64         /* entries a learner may lack when it becomes a voter */
};

struct joining {
    uint64_t replica;
    char address[LINK_ADDRESS_BYTES];
    int64_t until_ms;
};

struct members {
    pthread_mutex_t mutex;
    struct group_members list; /* of the system group, committed here */
    bool fresh;                /* as of the last look */
    bool retired;              /* this node is one that was removed */
    struct {
        uint64_t replicas[GROUP_MEMBERS_MAX];
        uint8_t roles[GROUP_MEMBERS_MAX];
        unsigned len;
    } * groups; /* of every partition, as known here */
    struct joining joining[JOINING_MAX];
    unsigned joining_len;
    int64_t asked_ms, retired_ms;
    atomic_int_fast64_t handed_over_ms;
};

/* PEER_JOIN. */
struct join_message {
    struct fieldset set;
    struct id node;
    struct bytes address;
};
static const struct field join_fields[] = {FIELD_ID(1, join_message, node, 0), FIELD_BLOB(2, join_message, address, 0),
                                           FIELDS_END};

struct members *members_new(unsigned partitions)
{
    struct members *members = mem_zalloc(sizeof *members);
    members->groups = mem_zalloc(partitions * sizeof *members->groups);
    CHECK(pthread_mutex_init(&members->mutex, NULL) == 0);
    return members;
}

void members_free(struct members *members)
{
    (void)pthread_mutex_destroy(&members->mutex);
    free(members->groups);
    free(members);
}

static void lock(struct members *members)
{
    CHECK(pthread_mutex_lock(&members->mutex) == 0);
}
static void unlock(struct members *members)
{
    CHECK(pthread_mutex_unlock(&members->mutex) == 0);
}

void members_list(struct members *members, struct group_members *out)
{
    lock(members);
    *out = members->list;
    unlock(members);
}

/* ---- joining ---- */

/* To everybody in reach: whoever leads the system group, now or soon, takes it up. */
static void ask_to_join(struct node_worker *worker)
{
    struct node *node = worker->node;
    struct join_message message = {
        .set.has = field_bit(2) - 1, .node = node->id, .address = bytes_str(node->advertise)};
    struct buf body = {0};
    field_pack(&body, join_fields, &message);
    peer_net_each(link, &worker->peers)
    {
        (void)peer_net_send(&worker->peers, peer_dial_of(link), PEER_JOIN, buf_bytes(&body));
    }
    buf_free(&body);
}

void members_on_join(struct node_worker *worker, const struct link_hello *from, struct bytes body)
{
    struct node *node = worker->node;
    struct members *members = node->members;
    struct join_message message = {0};
    if (field_unpack(join_fields, body, &message) != OK || !id_eq(message.node, from->node) ||
        message.address.len >= LINK_ADDRESS_BYTES) {
        return;
    }
    int64_t now_ms = clock_boot_ms(node->clock);
    struct joining joining = {.replica = replica_of(message.node), .until_ms = now_ms + JOINING_MS};
    memcpy(joining.address, message.address.ptr, message.address.len);
    lock(members);
    /* Whoever asked from that address before is gone: it must not take the place of this one. */
    unsigned kept = 0;
    for (unsigned i = 0; i < members->joining_len; i++) {
        const struct joining *old = &members->joining[i];
        if (old->replica != joining.replica && strcmp(old->address, joining.address) != 0 && now_ms <= old->until_ms) {
            members->joining[kept++] = *old;
        }
    }
    if (kept < JOINING_MAX) {
        members->joining[kept++] = joining;
    }
    members->joining_len = kept;
    unlock(members);
}

/* ---- who is wanted ---- */

static bool is_retired(struct rows *rows, uint64_t replica)
{
    struct bytes value;
    return rows_get(rows, TABLE_RETIRED, bytes_of(&replica, sizeof replica), &value) == OK;
}

/* Its address answers with another id: its disk was wiped. */
static void retire(struct node_worker *worker, uint64_t replica)
{
    struct node *node = worker->node;
    struct retire in = {0};
    FIELD_SET(retire_fields, &in, struct retire, replica, bytes_of(&replica, sizeof replica));
    forward_system(worker, SYSTEM_RETIRE, &in);
    log_text(node->log, LOG_WARN, "a node's place is taken by another: it is removed", "replica %016llx",
             (unsigned long long)replica);
}

/* The member whose place a newcomer takes: same address, out of reach; 0: none. */
static uint64_t place_taken(struct node_worker *worker, const struct group_members *list, const struct joining *joining)
{
    char address[LINK_ADDRESS_BYTES];
    for (unsigned i = 0; i < list->len; i++) {
        uint64_t replica = list->list[i].replica;
        if (replica != joining->replica && replica != worker->node->replica &&
            peers_address(worker->node->peers, replica, address) && strcmp(address, joining->address) == 0 &&
            !peers_reach(worker, replica)) {
            return replica;
        }
    }
    return 0;
}

static void add_joining(struct node_worker *worker, struct rows *rows, struct group_members *wanted)
{
    struct members *members = worker->node->members;
    int64_t now_ms = clock_boot_ms(worker->node->clock);
    uint64_t gone = 0;
    lock(members);
    for (unsigned i = 0; i < members->joining_len; i++) {
        struct joining *joining = &members->joining[i];
        if (now_ms > joining->until_ms || is_retired(rows, joining->replica)) {
            members->joining[i--] = members->joining[--members->joining_len];
            continue;
        }
        uint64_t place = place_taken(worker, wanted, joining);
        gone = place != 0 ? place : gone;
        if (place == 0 && group_members_find(wanted, joining->replica) == NULL && wanted->len < GROUP_MEMBERS_MAX) {
            struct group_member *member = &wanted->list[wanted->len++];
            *member = (struct group_member){.replica = joining->replica};
            (void)snprintf(member->address, sizeof member->address, "%s", joining->address);
        }
    }
    bool due = gone != 0 && now_ms - members->retired_ms >= RETIRE_MS;
    members->retired_ms = due ? now_ms : members->retired_ms;
    unlock(members);
    if (due) {
        retire(worker, gone);
    }
}

/* The system group lets go of a node last: until then it follows what becomes of the others. With the lock. */
static bool is_held_elsewhere(struct node *node, uint64_t replica)
{
    for (unsigned p = 1; p < node->partitions_len; p++) {
        for (unsigned i = 0; i < node->members->groups[p].len; i++) {
            if (node->members->groups[p].replicas[i] == replica) {
                return true;
            }
        }
    }
    return false;
}

/* Of the system group, on its leader: what there is, less what is retired, and who asks to come in. */
static void wanted_in_system(struct node_worker *worker, struct rows *rows, const struct group_members *current,
                             struct group_members *out)
{
    struct node *node = worker->node;
    *out = (struct group_members){0};
    lock(node->members);
    for (unsigned i = 0; i < current->len; i++) {
        uint64_t replica = current->list[i].replica;
        /* Of ourselves we would never hear that the others have let go: another has to lead. */
        bool held = replica != node->replica && is_held_elsewhere(node, replica);
        if (!is_retired(rows, replica) || held) {
            out->list[out->len++] = current->list[i];
        }
    }
    unlock(node->members);
    add_joining(worker, rows, out);
}

/* Of the others: what the system group has, less what is retired. False: that is not known well enough. */
static bool wanted_elsewhere(struct members *members, struct rows *rows, struct group_members *out)
{
    *out = (struct group_members){0};
    lock(members);
    bool fresh = members->fresh;
    for (unsigned i = 0; i < members->list.len; i++) {
        if (!is_retired(rows, members->list.list[i].replica)) {
            out->list[out->len++] = members->list.list[i];
        }
    }
    unlock(members);
    return fresh && out->len > 0;
}

/* What this node knows of the system group, for the leaders of the others. */
static void publish_system(struct node *node, struct partition *system, struct rows *rows)
{
    struct members *members = node->members;
    bool settled = !group_is_changing(system->group) && atomic_load(&system->leader_replica) != 0 &&
                   atomic_load(&system->commit) == atomic_load(&system->last);
    lock(members);
    members->fresh = settled;
    members->retired = is_retired(rows, node->replica);
    if (settled) {
        group_members(system->group, &members->list);
    }
    unlock(members);
}

/* And of every group. */
static void publish_group(struct node *node, const struct partition *partition)
{
    struct group_members current;
    group_members(partition->group, &current);
    lock(node->members);
    node->members->groups[partition->number].len = current.len;
    for (unsigned i = 0; i < current.len; i++) {
        node->members->groups[partition->number].replicas[i] = current.list[i].replica;
        node->members->groups[partition->number].roles[i] = current.list[i].role;
    }
    unlock(node->members);
    for (unsigned i = 0; i < current.len; i++) {
        peers_note(node->peers, current.list[i].replica, current.list[i].address);
    }
}

/* ---- changing ---- */

struct look_at {
    struct node_worker *worker;
    struct partition *partition;
};

static bool is_ready(void *ctx, uint64_t replica)
{
    const struct look_at *at = ctx;
    uint64_t match = group_match_index(at->partition->group, replica);
    struct node *node = at->worker->node;
    return peers_reach(at->worker, replica) && skew_is_peer_right(node->skew, replica, clock_boot_ms(node->clock)) &&
           match + NEARLY >= group_last_index(at->partition->group);
}

/* Who has just started takes nothing over (cluster/README.md), and meanwhile nothing could be written; nor does who
 * stops (partition_tick). */
static bool is_there(void *ctx, uint64_t replica)
{
    const struct look_at *at = ctx;
    struct node *node = at->worker->node;
    return peers_reach_since(at->worker, replica, node->config.election_timeout_ms) &&
           !statuses_is_draining(node->statuses, replica);
}

static bool can_lead(void *ctx, uint64_t replica)
{
    const struct look_at *at = ctx;
    const struct partition *partition = at->partition;
    bool refused =
        partition->refused == replica && clock_boot_ms(at->worker->node->clock) - partition->refused_ms < REFUSED_MS;
    return !refused && is_there(ctx, replica) && is_ready(ctx, replica);
}

/* 0: nobody can take it over now. */
static void hand_over(struct partition *partition, uint64_t to)
{
    if (to == 0) {
        return;
    }
    atomic_store(&partition->lease_end_ns, INT64_MIN); /* before anybody can be told */
    atomic_store(&partition->heir, to);
    enum err err = group_transfer(partition->group, to, clock_boot_ns(partition->node->clock));
    if (err != OK) {
        log_text(partition->node->log, LOG_DEBUG, "leadership is not handed over", "partition %u: %s",
                 partition->number, err_code(err));
    }
    partition_publish(partition);
}

/* Whoever leads each partition or is told to; false: somebody is being elected. */
static bool list_leaders(const struct node *node, uint64_t *out)
{
    bool all = true;
    for (unsigned p = 0; p < node->partitions_len; p++) {
        uint64_t heir = atomic_load(&node->partitions[p].heir);
        out[p] = heir != 0 ? heir : atomic_load(&node->partitions[p].leader_replica);
        all = all && out[p] != 0;
    }
    return all;
}

static uint64_t find_heir(struct look_at *at, const struct group_members *members)
{
    struct node *node = at->worker->node;
    uint64_t leaders[ID_PARTITION_MAX + 1];
    (void)list_leaders(node, leaders);
    return placement_heir(
        &(struct placement_leaders){members, leaders, node->partitions_len, node->replica, can_lead, at});
}

static void spread_leaders(struct look_at *at, const struct group_members *members)
{
    struct node *node = at->worker->node;
    struct partition *partition = at->partition;
    uint64_t list[ID_PARTITION_MAX + 1];
    struct placement_leaders leaders = {members, list, node->partitions_len, node->replica, is_there, at};
    int64_t now_ms = clock_boot_ms(node->clock), last_ms = atomic_load(&node->members->handed_over_ms);
    if (!list_leaders(node, list) || placement_lead(&leaders) == 0) {
        partition->uneven_ms = 0;
        return;
    }
    partition->uneven_ms = partition->uneven_ms == 0 ? now_ms : partition->uneven_ms;
    if (now_ms - node->boot_ms < SETTLE_MS || now_ms - partition->uneven_ms < UNEVEN_MS ||
        now_ms - last_ms < HAND_OVER_MS) {
        return;
    }
    leaders.can_lead = can_lead;
    uint64_t to = placement_lead(&leaders);
    if (to != 0 && atomic_compare_exchange_strong(&node->members->handed_over_ms, &last_ms, now_ms)) {
        hand_over(partition, to);
    }
}

static void tend_group(struct look_at *at, struct rows *rows)
{
    struct partition *partition = at->partition;
    struct node *node = at->worker->node;
    struct group_members current, wanted, next;
    if (group_is_handing_over(partition->group)) {
        return;
    }
    group_members(partition->group, &current);
    if (atomic_load(&node->draining) || atomic_load(&node->clock_off)) {
        hand_over(partition, find_heir(at, &current));
        return;
    }
    bool known = true;
    if (partition->number == 0) {
        wanted_in_system(at->worker, rows, &current, &wanted);
    } else {
        known = wanted_elsewhere(node->members, rows, &wanted);
    }
    struct placement placement = {&current, &wanted, node->replica, partition->number != 0, is_ready, at};
    enum placement_step step =
        known && !group_is_changing(partition->group) ? placement_next(&placement, &next) : PLACEMENT_NOTHING;
    if (step == PLACEMENT_CHANGE) {
        if (group_change(partition->group, &next, clock_boot_ns(node->clock)) == OK) {
            log_text(node->log, LOG_INFO, "a membership changes", "partition %u: %u members", partition->number,
                     next.len);
        }
        partition_publish(partition);
    } else if (step == PLACEMENT_HAND_OVER) {
        hand_over(partition, find_heir(at, &current));
    } else {
        spread_leaders(at, &current);
    }
}

static bool is_member(const struct partition *partition, uint64_t replica)
{
    struct group_members current;
    group_members(partition->group, &current);
    return group_members_find(&current, replica) != NULL;
}

/* What the log has no more is not sent any more: who needs it gets the state instead. */
static void forget_dropped(struct partition *partition)
{
    uint64_t first = segments_first(partition->node->segments, (uint16_t)partition->number);
    if (first > 1) {
        group_forget(partition->group, first - 1, clock_boot_ns(partition->node->clock));
    }
}

/* It has taken over, or will not. */
static void forget_heir(struct partition *partition, int64_t now_ms)
{
    uint64_t heir = atomic_load(&partition->heir);
    bool leads = group_is_leader(partition->group);
    if (heir != 0 &&
        (leads ? !group_is_handing_over(partition->group) : atomic_load(&partition->leader_replica) != 0)) {
        partition->refused = leads ? heir : 0;
        partition->refused_ms = now_ms;
        atomic_store(&partition->heir, 0);
    }
}

void members_tend(struct node_worker *worker)
{
    struct node *node = worker->node;
    int64_t now_ms = clock_boot_ms(node->clock);
    if (list_empty(&worker->partitions) || state_reader_renew(worker->reader) != OK) {
        return;
    }
    worker->reader_seq = 1; /* open: closed at the turn's end; a call renews it */
    struct rows *rows = state_reader_rows(worker->reader, 0);
    list_each(link, &worker->partitions)
    {
        struct partition *partition = container_of(link, struct partition, link);
        struct look_at at = {worker, partition};
        publish_group(node, partition);
        forget_dropped(partition);
        install_tend(partition);
        if (partition->number == 0) {
            publish_system(node, partition, rows);
            bool asks = !is_member(partition, node->replica) && !members_is_retired(node->members);
            if (asks && now_ms - node->members->asked_ms >= ASK_MS) {
                node->members->asked_ms = now_ms;
                ask_to_join(worker);
            }
        }
        forget_heir(partition, now_ms);
        if (group_is_leader(partition->group) && !atomic_load(&node->stopping)) {
            tend_group(&at, rows);
        } else {
            partition->uneven_ms = 0;
        }
    }
}

bool members_votes_everywhere(struct node *node, uint64_t replica)
{
    struct members *members = node->members;
    unsigned votes = 0;
    lock(members);
    for (unsigned p = 0; p < node->partitions_len; p++) {
        for (unsigned i = 0; i < members->groups[p].len; i++) {
            votes += members->groups[p].replicas[i] == replica && members->groups[p].roles[i] == GROUP_VOTER;
        }
    }
    unlock(members);
    return votes == node->partitions_len;
}

bool members_is_retired(struct members *members)
{
    lock(members);
    bool retired = members->retired;
    unlock(members);
    return retired;
}

bool members_lead_nothing(struct node *node)
{
    for (unsigned p = 0; p < node->partitions_len; p++) {
        if (atomic_load(&node->partitions[p].leader)) {
            return false;
        }
    }
    return true;
}
