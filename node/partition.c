#include "node/partition.h"

#include <stdio.h>
#include <stdlib.h>

#include "cluster/wire.h"
#include "node/alarms.h"
#include "node/command.h"
#include "node/damage.h"
#include "node/guard.h"
#include "node/install.h"
#include "node/log_loader.h"
#include "node/metrics.h"
#include "node/peers.h"
#include "node/turn_log.h"
#include "node/watch.h"

enum { PROPOSALS = LIMIT_INFLIGHT_ENTRIES + 64 };

/* ---- what the group asks for ---- */

static void on_hard_state(void *ctx, struct group *group, uint64_t term, uint64_t vote)
{
    struct partition *partition = ctx;
    struct segment_record record = {
        .type = RECORD_HARD_STATE, .group = (uint16_t)partition->number, .term = term, .index = vote};
    turn_log_add(partition, &record, group_writes(group));
}

static void note_stamp(struct partition *partition, const struct group_entry *entry)
{
    int64_t stamped = entry->kind == ENTRY_COMMAND ? command_stamped(entry->payload) : 0;
    if (stamped > partition->stamped_ms) {
        partition->stamped_ms = stamped;
        partition->stamped = LIMIT_STAMPED; /* by whom and how often, nobody knows: the next is a new one */
    }
}

static void on_append(void *ctx, struct group *group, const struct group_entry *entry)
{
    struct partition *partition = ctx;
    note_stamp(partition, entry);
    struct segment_record record = {.type = RECORD_ENTRY,
                                    .kind = entry->kind,
                                    .group = (uint16_t)partition->number,
                                    .index = entry->index,
                                    .term = entry->term,
                                    .payload = entry->payload};
    turn_log_add(partition, &record, group_writes(group));
}

struct node_apply {
    struct apply_batch batch;
    struct message told, done; /* to the home worker, in this order */
    struct partition *partition;
    struct outcome **outcomes; /* by entry; NULL when it failed before there were any */
};

static void answer(struct submission *submission, enum err err, struct outcome *outcome);

/* Who proposed that entry, if anybody waits for it here. */
static struct submission *take_proposal(struct partition *partition, uint64_t index)
{
    struct submission **place = &partition->proposals[index % PROPOSALS], *submission = *place;
    *place = NULL;
    if (submission != NULL) {
        actor_answered(&partition->home->actors, submission->actor, partition->home->worker.now_ms);
    }
    return submission;
}

/* On the home worker: what came of the entries is known. */
static void outcomes_known(struct worker *base, struct message *message)
{
    struct node_apply *apply = container_of(message, struct node_apply, told);
    (void)base;
    for (size_t i = 0; i < apply->batch.len; i++) {
        struct submission *submission = take_proposal(apply->partition, apply->batch.entries[i].index);
        if (submission == NULL) {
            outcome_free(apply->outcomes[i]); /* proposed elsewhere, or before a start */
        } else {
            answer(submission, OK, apply->outcomes[i]);
        }
    }
    free(apply->outcomes);
}

/* On the home worker: the entries are applied. */
static void entries_applied(struct worker *base, struct message *message)
{
    struct node_apply *apply = container_of(message, struct node_apply, done);
    struct apply_batch *batch = &apply->batch;
    (void)base;
    for (size_t i = 0; i < batch->len && !batch->told; i++) {
        struct submission *submission = take_proposal(apply->partition, batch->entries[i].index);
        if (submission != NULL) {
            answer(submission, ERR_TIMEOUT, NULL); /* a later start will apply it, so nobody can say yet */
        }
    }
    if (batch->err == OK && batch->len > 0) {
        group_applied(apply->partition->group, batch->entries[batch->len - 1].index);
    }
    free(batch->entries);
    free(apply);
}

/* On the state writer's thread. */
static void apply_told(struct apply_batch *batch)
{
    struct node_apply *apply = container_of(batch, struct node_apply, batch);
    struct node *node = apply->partition->node;
    apply->outcomes = mem_alloc(batch->len * sizeof(struct outcome *));
    for (size_t i = 0; i < batch->len; i++) {
        struct outcome *outcome = batch->entries[i].outcome;
        apply->outcomes[i] = outcome;
        batch->entries[i].outcome = NULL;
        if (outcome != NULL) {
            metrics_command(node->metrics, outcome->kind, outcome->op, outcome->err);
            for (size_t at = 0; at < outcome->notices_len; at++) {
                guard_notice(node, &outcome->notices[at]);
                watch_notice(node, &outcome->notices[at]);
            }
        }
    }
    atomic_store_explicit(&apply->partition->answered, batch->entries[batch->len - 1].index, memory_order_release);
    worker_post(&apply->partition->home->worker, &apply->told);
}

/* On the state writer's thread, after the commit. */
static void apply_done(struct apply_batch *batch)
{
    struct node_apply *apply = container_of(batch, struct node_apply, batch);
    struct node *node = apply->partition->node;
    if (batch->err == ERR_CORRUPT && atomic_load(&state_writer_stats(node->state_writer)->failed_in) == batch->group) {
        char text[64];
        (void)snprintf(text, sizeof text, "partition %u: a command met a damaged row", batch->group);
        damage_add(node->damage, DAMAGE_STATE, batch->group, text);
        node_met_damage(node);
    }
    watch_committed(node); /* what was told after the commit */
    worker_post(&apply->partition->home->worker, &apply->done);
}

static void on_apply(void *ctx, struct group *group, const struct group_entry *entry)
{
    struct partition *partition = ctx;
    if (partition->building == NULL) {
        struct node_apply *apply = mem_zalloc(sizeof *apply);
        apply->partition = partition;
        apply->told.run = outcomes_known;
        apply->done.run = entries_applied;
        apply->batch.group = (uint16_t)partition->number;
        apply->batch.early = !group_is_sole_voter(group); /* who is alone reads what it has, whatever fails */
        apply->batch.outcomes = apply_told;
        apply->batch.done = apply_done;
        partition->building = &apply->batch;
        partition->building_cap = 0;
    }
    struct apply_batch *batch = partition->building;
    if (batch->len == partition->building_cap) {
        partition->building_cap = partition->building_cap == 0 ? 16 : partition->building_cap * 2;
        batch->entries = mem_realloc(batch->entries, partition->building_cap * sizeof *batch->entries);
    }
    batch->entries[batch->len++] = (struct apply_entry){entry->kind, entry->index, entry->term, entry->payload, NULL};
}

/* Whether they are carried out is up to the next leader, who may be asked again: a request id is carried
 * out once. */
static void fail_proposals(struct partition *partition)
{
    for (size_t i = 0; i < PROPOSALS; i++) {
        struct submission *submission = partition->proposals[i];
        if (submission != NULL) {
            partition->proposals[i] = NULL;
            actor_answered(&partition->home->actors, submission->actor, partition->home->worker.now_ms);
            answer(submission, ERR_NOT_LEADER, NULL);
        }
    }
}

static void on_role(void *ctx, struct group *group, bool leader)
{
    struct partition *partition = ctx;
    (void)group;
    atomic_store(&partition->leader, leader);
    if (!leader) {
        fail_proposals(partition);
    }
}

static void send_message(struct partition *partition, const struct group_message *message,
                         const struct group_entry *entries)
{
    struct buf body = {0};
    wire_group_pack(&body, partition->number, message, entries);
    (void)peers_send(partition->home, message->to, PEER_GROUP, buf_bytes(&body));
    buf_free(&body);
}

/* In pieces: a message may stand for thousands of entries. */
void partition_send_entries(struct partition *partition, struct group_message message,
                            const struct group_entry *entries, size_t len)
{
    for (size_t at = 0; at < len;) {
        size_t n = 0, bytes = 0;
        while (at + n < len && n < WIRE_ENTRIES_MAX &&
               (n == 0 || bytes + entries[at + n].payload.len <= LIMIT_APPEND_BYTES)) {
            bytes += entries[at + n++].payload.len;
        }
        message.entries_len = n;
        send_message(partition, &message, entries + at);
        at += n;
        message.index = entries[at - 1].index;
        message.index_term = entries[at - 1].term;
    }
}

static void on_restart(void *ctx, struct group *group, uint64_t index, uint64_t term)
{
    struct partition *partition = ctx;
    struct segment_record record = {
        .type = RECORD_LAST, .group = (uint16_t)partition->number, .index = index, .term = term};
    turn_log_add(partition, &record, group_writes(group));
}

static void on_send(void *ctx, struct group *group, const struct group_message *message)
{
    struct partition *partition = ctx;
    if (!peers_reach(partition->home, message->to)) {
        return;
    }
    if (message->type == MESSAGE_INSTALL) {
        install_send(partition, message);
        return;
    }
    if (message->type != MESSAGE_APPEND || message->entries_len == 0) {
        send_message(partition, message, NULL);
        return;
    }
    struct group_entry *entries = mem_alloc(message->entries_len * sizeof *entries);
    if (group_entries(group, message->index + 1, message->entries_len, entries)) {
        partition_send_entries(partition, *message, entries, message->entries_len);
    } else {
        log_loader_send(partition, message);
    }
    free(entries);
}

struct received {
    struct message message;
    struct partition *partition;
    struct group_message group_message;
};

void partition_log_damaged(struct partition *partition)
{
    char text[96];
    (void)snprintf(text, sizeof text, "partition %u: the log contradicts its checksums, or what a leader sends",
                   partition->number);
    log_text(partition->node->log, LOG_ERROR, "the log is damaged: read-only", "%s", text);
    damage_add(partition->node->damage, DAMAGE_LOG, (int)partition->number, text);
    node_met_damage(partition->node);
}

static void take_message(struct partition *partition, struct group_message *message)
{
    struct node *node = partition->node;
    if (partition->group == NULL) {
        wire_group_free(message);
        return;
    }
    if (group_receive(partition->group, message, clock_boot_ns(node->clock)) != OK) {
        partition_log_damaged(partition);
    }
    partition_publish(partition);
}

static void run_received(struct worker *worker, struct message *message)
{
    struct received *received = container_of(message, struct received, message);
    (void)worker;
    take_message(received->partition, &received->group_message);
    free(received);
}

void partition_receive(struct node_worker *worker, struct bytes body)
{
    struct group_message message;
    unsigned number;
    if (wire_group_unpack(body, &number, &message) != OK || number >= worker->node->partitions_len ||
        message.type == MESSAGE_INSTALL) {
        return;
    }
    struct partition *partition = &worker->node->partitions[number];
    if (partition->home == worker) {
        take_message(partition, &message);
        return;
    }
    struct received *received = mem_zalloc(sizeof *received);
    received->message.run = run_received;
    received->partition = partition;
    received->group_message = message;
    worker_post(&partition->home->worker, &received->message);
}

struct commit_hint {
    struct message message;
    struct partition *partition;
    uint64_t term, index;
};

static void take_hint(struct partition *partition, uint64_t term, uint64_t index)
{
    group_hint_commit(partition->group, term, index, clock_boot_ns(partition->node->clock));
    partition_publish(partition);
}

static void run_hint(struct worker *worker, struct message *message)
{
    struct commit_hint *hint = container_of(message, struct commit_hint, message);
    (void)worker;
    take_hint(hint->partition, hint->term, hint->index);
    free(hint);
}

void partition_hint_commit(struct partition *partition, struct node_worker *worker, uint64_t term, uint64_t index)
{
    if (atomic_load_explicit(&partition->commit, memory_order_relaxed) >= index) {
        return;
    }
    if (partition->home == worker) {
        take_hint(partition, term, index);
        return;
    }
    struct commit_hint *hint = mem_zalloc(sizeof *hint);
    hint->message.run = run_hint;
    hint->partition = partition;
    hint->term = term;
    hint->index = index;
    worker_post(&partition->home->worker, &hint->message);
}

const struct group_ops partition_group_ops = {on_hard_state, on_append, on_apply, on_role, on_restart, on_send};

/* ---- life ---- */

void partition_init(struct partition *partition, struct node *node, unsigned number, struct node_worker *home)
{
    partition->node = node;
    partition->home = home;
    partition->number = number;
    list_init(&partition->run_queue);
    list_init(&partition->senders);
    list_add_tail(&home->partitions, &partition->link);
    partition->proposals = mem_zalloc(PROPOSALS * sizeof(struct submission *));
    atomic_init(&partition->lease_end_ns, INT64_MIN);
    atomic_init(&partition->confirmed_ns, INT64_MIN);
    atomic_init(&partition->contact_ns, INT64_MIN / 2); /* a time can be taken from it */
}

enum err partition_open(struct partition *partition, const struct group_start *start)
{
    struct node *node = partition->node;
    struct group_options options = {.number = partition->number,
                                    .replica = node->replica,
                                    .keep_bytes = LIMIT_KEEP_BYTES,
                                    .election_ms = (unsigned)node->config.election_timeout_ms,
                                    .heartbeat_ms = (unsigned)node->config.heartbeat_ms,
                                    .seed = random_u64(&partition->home->worker.random),
                                    .ops = &partition_group_ops,
                                    .ctx = partition};
    partition->stamped_ms = state_partition(node->state, partition->number)->stamped_ms;
    partition->stamped = LIMIT_STAMPED;
    for (size_t i = 0; i < start->entries_len; i++) {
        note_stamp(partition, &start->entries[i]);
    }
    atomic_store(&partition->applied, start->applied_index);
    partition->at_start = start->applied_index + start->entries_len;
    TRY(group_open(&options, start, clock_boot_ns(node->clock), &partition->group));
    partition_publish(partition);
    return OK;
}

void partition_close(struct partition *partition)
{
    for (size_t i = 0; i < PROPOSALS; i++) {
        if (partition->proposals[i] != NULL) {
            submission_free(partition->proposals[i]); /* in the log, not applied: the next start does it */
        }
    }
    if (partition->building != NULL) {
        free(partition->building->entries);
        free(container_of(partition->building, struct node_apply, batch));
    }
    install_close(partition);
    group_close(partition->group);
    alarms_free(partition->alarms);
    free(partition->proposals);
}

/* A leader knows of itself; a follower has heard of a commit index, and applied it. What was known stays known: who
 * begins or ends to lead has not been out of contact. */
static void publish_contact(struct partition *partition)
{
    uint64_t commit = group_commit_index(partition->group);
    int64_t known_ns = atomic_load_explicit(&partition->contact_ns, memory_order_relaxed), ns = INT64_MIN;
    if (group_is_leader(partition->group)) {
        ns = group_confirmed_ns(partition->group);
    } else if (atomic_load_explicit(&partition->applied, memory_order_relaxed) >= commit ||
               atomic_load_explicit(&partition->answered, memory_order_relaxed) >= commit) {
        ns = group_heard_ns(partition->group);
    }
    if (known_ns == INT64_MAX && ns != INT64_MAX) {
        ns = clock_boot_ns(partition->node->clock); /* the sole voter until now */
        known_ns = INT64_MIN;
    }
    if (ns > known_ns) {
        atomic_store_explicit(&partition->contact_ns, ns, memory_order_relaxed);
    }
}

void partition_publish(struct partition *partition)
{
    publish_contact(partition);
    atomic_store_explicit(&partition->term, group_term(partition->group), memory_order_relaxed);
    atomic_store_explicit(&partition->last, group_last_index(partition->group), memory_order_relaxed);
    atomic_store_explicit(&partition->commit, group_commit_index(partition->group), memory_order_release);
    atomic_store_explicit(&partition->lease_end_ns, group_lease_end_ns(partition->group), memory_order_release);
    atomic_store_explicit(&partition->confirmed_ns, group_confirmed_ns(partition->group), memory_order_release);
    atomic_store_explicit(&partition->leader_replica, group_leader(partition->group), memory_order_relaxed);
}

uint64_t partition_read_index(struct partition *partition)
{
    if (atomic_load_explicit(&partition->lease_end_ns, memory_order_acquire) == INT64_MAX) {
        uint64_t answered = atomic_load_explicit(&partition->answered, memory_order_acquire);
        return answered > partition->at_start ? answered : partition->at_start;
    }
    /* In this order: what is settled was committed before. */
    bool settled = atomic_load_explicit(&partition->confirmed_ns, memory_order_acquire) != INT64_MIN;
    uint64_t commit = atomic_load_explicit(&partition->commit, memory_order_acquire);
    return settled ? commit : UINT64_MAX;
}

bool partition_is_confirmed(struct partition *partition, int64_t began_ns)
{
    int64_t lease_end = atomic_load_explicit(&partition->lease_end_ns, memory_order_acquire);
    return lease_end == INT64_MAX || clock_boot_ns(partition->node->clock) < lease_end ||
           atomic_load_explicit(&partition->confirmed_ns, memory_order_acquire) >= began_ns;
}

bool partition_is_in_contact(const struct node *node)
{
    int64_t contact_ns = atomic_load_explicit(&node->partitions[0].contact_ns, memory_order_relaxed);
    return contact_ns == INT64_MAX || damage_any(node->damage) ||
           clock_boot_ns(node->clock) - contact_ns < LIMIT_CONTACT_MS * 1000000LL;
}

/* ---- commands ---- */

struct id partition_request_id(struct partition *partition, uint64_t random)
{
    int64_t now = clock_wall_ms(partition->node->clock);
    int64_t stamped = atomic_load_explicit(&partition->stamped_ms, memory_order_relaxed);
    return id_make(now > stamped ? now : stamped, partition->number, random);
}

struct submission *submission_new(struct partition *partition, uint8_t kind, struct bytes key, struct bytes payload)
{
    struct submission *submission = mem_zalloc(sizeof *submission + key.len);
    submission->partition = partition;
    submission->kind = kind;
    submission->payload = payload;
    submission->key_len = (uint16_t)key.len;
    memcpy(submission->key, key.ptr, key.len);
    return submission;
}

void submission_free(struct submission *submission)
{
    free((void *)(uintptr_t)submission->payload.ptr);
    outcome_free(submission->outcome);
    free(submission);
}

static void run_done(struct worker *worker, struct message *message)
{
    struct submission *submission = container_of(message, struct submission, message);
    (void)worker;
    submission->done(submission);
}

static void answer(struct submission *submission, enum err err, struct outcome *outcome)
{
    submission->err = err;
    submission->outcome = outcome;
    submission->by = submission->partition->node->replica;
    submission->message.run = run_done;
    worker_post(&submission->from->worker, &submission->message);
}

/* Why nothing may be proposed here now; OK when it may. */
static enum err refusal(struct node_worker *worker, struct partition *partition, const struct submission *submission)
{
    const struct node *node = worker->node;
    if (atomic_load_explicit(&worker->worker.stopping, memory_order_relaxed)) {
        return ERR_SHUTTING_DOWN;
    }
    if (atomic_load_explicit(&node->log_failed, memory_order_relaxed) || damage_any(node->damage)) {
        return ERR_READ_ONLY;
    }
    int state = atomic_load_explicit(&state_writer_stats(node->state_writer)->err, memory_order_relaxed);
    if (state != OK) {
        return state == ERR_DISK_FULL ? ERR_DISK_FULL : ERR_READ_ONLY;
    }
    bool full = atomic_load_explicit(&node->state_full, memory_order_relaxed) || node_disk_is_low(node);
    if (full && !submission->frees) {
        return ERR_DISK_FULL;
    }
    return group_is_leader(partition->group) ? OK : ERR_NOT_LEADER;
}

static void receive(struct worker *base, struct message *message)
{
    struct submission *submission = container_of(message, struct submission, message);
    struct partition *partition = submission->partition;
    struct node_worker *worker = node_worker_of(base);
    enum err err = refusal(worker, partition, submission);
    if (err != OK) {
        answer(submission, err, NULL);
        return;
    }
    submission->actor = actors_get(&worker->actors, partition->number, submission->kind,
                                   bytes_of(submission->key, submission->key_len), base->now_ms);
    if (!actor_push(&worker->actors, submission->actor, &submission->mail, &partition->run_queue)) {
        answer(submission, ERR_OVERLOADED, NULL);
    }
}

void partition_submit(struct submission *submission)
{
    submission->message.run = receive;
    if (submission->from == submission->partition->home) {
        receive(&submission->from->worker, &submission->message);
    } else {
        worker_post(&submission->partition->home->worker, &submission->message);
    }
}

/* Takes commands out of mailboxes, actor by actor, each in its order. */
static size_t gather(struct partition *partition, struct submission **list, size_t room)
{
    struct actors *actors = &partition->home->actors;
    size_t count = 0;
    while (count < room) {
        struct actor *actor = actors_next(&partition->run_queue);
        if (actor == NULL) {
            break;
        }
        struct mail *mail = actor_pop(actors, actor);
        while (mail != NULL) {
            list[count++] = container_of(mail, struct submission, mail);
            mail = count < room ? actor_pop(actors, actor) : NULL;
        }
        if (actor_has_mail(actor)) {
            actor_requeue(actor, &partition->run_queue);
        }
    }
    return count;
}

/* Never falls, and moves on when a burst has used it up: what is numbered within a stamp stays small. */
static int64_t next_stamp(struct partition *partition, int64_t now)
{
    bool used_up = partition->stamped == LIMIT_STAMPED;
    if (now > partition->stamped_ms || used_up) {
        partition->stamped_ms = now > partition->stamped_ms ? now : partition->stamped_ms + 1;
        partition->stamped = 0;
    }
    partition->stamped++;
    return partition->stamped_ms;
}

static void propose(struct partition *partition)
{
    struct node *node = partition->node;
    struct submission *list[LIMIT_APPLY_BATCH];
    struct bytes payloads[LIMIT_APPLY_BATCH];
    uint64_t first;
    size_t room = group_room(partition->group);
    size_t count = gather(partition, list, room < LIMIT_APPLY_BATCH ? room : LIMIT_APPLY_BATCH);
    if (count == 0) {
        return;
    }
    int64_t now = clock_wall_ms(node->clock);
    for (size_t i = 0; i < count; i++) {
        command_stamp(list[i]->payload, next_stamp(partition, now));
        /* A copy: if we stop leading before it is applied, it is sent to the next leader. */
        payloads[i] = bytes_of(mem_copy(list[i]->payload.ptr, list[i]->payload.len), list[i]->payload.len);
    }
    enum err err = group_submit(partition->group, payloads, count, clock_boot_ns(node->clock), &first);
    for (size_t i = 0; i < count; i++) {
        if (err == OK) {
            partition->proposals[(first + i) % PROPOSALS] = list[i];
        } else {
            actor_answered(&partition->home->actors, list[i]->actor, partition->home->worker.now_ms);
            answer(list[i], err, NULL);
        }
    }
}

void partition_turn_end(struct partition *partition, struct list *batches)
{
    if (!list_empty(&partition->run_queue)) {
        propose(partition);
        partition_publish(partition);
    }
    if (partition->building != NULL) {
        list_add_tail(batches, &partition->building->link);
        partition->building = NULL;
    }
}

void partition_tick(struct partition *partition)
{
    bool defers = atomic_load_explicit(&partition->node->clock_doubt, memory_order_relaxed) ||
                  atomic_load_explicit(&partition->node->leaving, memory_order_relaxed);
    group_defer(partition->group, defers ? LIMIT_DEFER_MS : 0);
    group_tick(partition->group, clock_boot_ns(partition->node->clock));
    partition_publish(partition);
}
