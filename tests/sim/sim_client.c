/* Clients: unique submissions to whoever thinks it leads, and linearizable reads in three ways: under a
 * lease, confirmed by a majority, and on a follower with an index that it asks of the leader. */
#include <stdlib.h>

#include "tests/sim/sim.h"

enum { FILLER_MAX = 120 };

static struct bytes new_payload(struct sim *sim, uint64_t id)
{
    size_t len = sizeof id + (size_t)sim_below(sim, FILLER_MAX);
    uint8_t *ptr = mem_alloc(len);
    memset(ptr, (int)(id & 0xff), len);
    memcpy(ptr, &id, sizeof id);
    return bytes_of(ptr, len);
}

uint64_t client_id_of(struct bytes payload)
{
    uint64_t id = UINT64_MAX;
    if (payload.len >= sizeof id) {
        memcpy(&id, payload.ptr, sizeof id);
    }
    return id;
}

static uint64_t new_id(struct sim *sim)
{
    if (sim->ids_len == sim->ids_cap) {
        sim->ids_cap = sim->ids_cap == 0 ? 1024 : 2 * sim->ids_cap;
        sim->ids = mem_realloc(sim->ids, sim->ids_cap);
    }
    sim->ids[sim->ids_len] = SUBMISSION_OPEN;
    return sim->ids_len++;
}

/* Those at and above index were replaced: whoever waits for them hears nothing. */
static void remember(struct replica *replica, struct submission submission)
{
    while (replica->submissions_len > 0 &&
           replica->submissions[replica->submissions_len - 1].index >= submission.index) {
        replica->submissions_len--;
    }
    if (replica->submissions_len == replica->submissions_cap) {
        replica->submissions_cap = replica->submissions_cap == 0 ? 64 : 2 * replica->submissions_cap;
        replica->submissions =
            mem_realloc(replica->submissions, replica->submissions_cap * sizeof *replica->submissions);
    }
    replica->submissions[replica->submissions_len++] = submission;
}

static void submit_to(struct replica *replica)
{
    struct sim *sim = replica->sim;
    struct bytes payloads[64];
    uint64_t first = 0, id = sim->ids_len, term = group_term(replica->group);
    size_t len = 1 + (sim_chance(sim, 300) ? (size_t)sim_below(sim, sim->plan.batch_max) : 0);
    CHECK(len <= ARRAY_LEN(payloads));
    for (size_t i = 0; i < len; i++) {
        payloads[i] = new_payload(sim, new_id(sim));
    }
    bool leader = group_is_leader(replica->group);
    enum err err = group_submit(replica->group, payloads, len, replica_clock_ns(replica), &first);
    if (err == OK && !leader) {
        sim_fail(sim, "replica %llu takes submissions without leading", (unsigned long long)replica->id);
    }
    for (size_t i = 0; i < len && err == OK; i++) {
        remember(replica, (struct submission){id + i, first + i, term});
    }
    check_replica(replica);
}

static void on_submit(struct sim *sim, struct sim_event *event)
{
    (void)event;
    struct replica *replica = sim_chance(sim, 950) ? sim_leader(sim) : sim_pick(sim, REPLICA_UP);
    if (replica != NULL && replica_runs(replica)) {
        submit_to(replica);
    }
    int64_t wait_ns = sim_wait_ns(sim, sim->plan.submit_ms_mean);
    if (!sim->quiet) {
        sim_at(sim, wait_ns < 2 * SIM_S ? wait_ns : 2 * SIM_S, on_submit, NULL, 0, NULL);
    }
}

/* Acknowledged: applied where it was proposed, in the term it was proposed in. */
void client_applied(struct replica *replica)
{
    struct sim *sim = replica->sim;
    size_t done = 0;
    uint64_t seen = 0;
    for (; done < replica->submissions_len && replica->submissions[done].index <= replica->applied; done++) {
        const struct submission *submission = &replica->submissions[done];
        const struct group_entry *entry = check_committed(sim, submission->index);
        if (entry == NULL || entry->term != submission->term) {
            continue; /* lost, or of another term */
        }
        if (entry->kind != ENTRY_COMMAND || client_id_of(entry->payload) != submission->id ||
            sim->ids[submission->id] != SUBMISSION_COMMITTED) {
            sim_fail(sim, "submission %llu is not at index %llu in term %llu", (unsigned long long)submission->id,
                     (unsigned long long)submission->index, (unsigned long long)submission->term);
        }
        sim->ids[submission->id] = SUBMISSION_ACKNOWLEDGED;
        sim->calm_acks += sim->calm;
        seen = submission->index;
    }
    if (done > 0) {
        replica->submissions_len -= done;
        memmove(replica->submissions, replica->submissions + done,
                replica->submissions_len * sizeof *replica->submissions);
    }
    check_visible(sim, seen);
}

/* ---- reads ---- */

static void wait_for(struct replica *replica, struct read_wait read)
{
    if (replica->reads_len == replica->reads_cap) {
        replica->reads_cap = replica->reads_cap == 0 ? 16 : 2 * replica->reads_cap;
        replica->reads = mem_realloc(replica->reads, replica->reads_cap * sizeof *replica->reads);
    }
    replica->reads[replica->reads_len++] = read;
}

static void check_read(struct replica *replica, const struct read_wait *read)
{
    if (read->index < read->seen) {
        sim_fail(replica->sim, "replica %llu reads at index %llu; %llu was seen before",
                 (unsigned long long)replica->id, (unsigned long long)read->index, (unsigned long long)read->seen);
    }
}

static void on_answer(struct sim *sim, struct sim_event *event)
{
    struct read_wait *read = event->data;
    if (event->replica->state == REPLICA_UP) {
        sim->stats.index_reads++;
        if (sim_chance(sim, 700)) {
            group_hint_commit(event->replica->group, read->term, read->index, replica_clock_ns(event->replica));
        }
        wait_for(event->replica, *read);
    }
}

/* Each read waits for its leader's confirmation, then for the state; false when it is over. */
static bool still_waits(struct replica *replica, struct read_wait *read)
{
    if (!read->confirmed) {
        if (!group_is_leader(replica->group) || group_term(replica->group) != read->term) {
            return false;
        }
        if (group_confirmed_ns(replica->group) < read->began_ns) {
            return true;
        }
        read->confirmed = true;
        check_read(replica, read);
        if (read->by != replica) {
            net_send_read(replica, read->by, on_answer, read);
            return false;
        }
    }
    if (replica->applied < read->index) {
        return true;
    }
    check_visible(replica->sim, replica->applied);
    return false;
}

void client_serve(struct replica *replica)
{
    size_t kept = 0;
    for (size_t i = 0; i < replica->reads_len; i++) {
        if (still_waits(replica, &replica->reads[i])) {
            replica->reads[kept++] = replica->reads[i];
        }
    }
    replica->reads_len = kept;
}

/* On the leader. The commit index is taken first, whether it may be used is asked afterwards. */
static void begin_read(struct replica *replica, struct read_wait read, bool by_lease)
{
    struct sim *sim = replica->sim;
    struct group *group = replica->group;
    int64_t now_ns = replica_clock_ns(replica);
    read.index = group_commit_index(group);
    read.term = group_term(group);
    read.began_ns = now_ns;
    if (by_lease) {
        read.confirmed = now_ns < group_lease_end_ns(group);
    }
    if (group_confirmed_ns(group) == INT64_MIN || (by_lease && !read.confirmed)) {
        return;
    }
    if (read.confirmed) {
        sim->stats.lease_reads++;
        check_read(replica, &read);
        if (read.by != replica) {
            net_send_read(replica, read.by, on_answer, &read);
            return;
        }
    }
    wait_for(replica, read);
}

static void on_question(struct sim *sim, struct sim_event *event)
{
    struct read_wait *read = event->data;
    if (event->replica->state == REPLICA_UP) {
        begin_read(event->replica, *read, sim_chance(sim, 500));
    }
}

static void on_read(struct sim *sim, struct sim_event *event)
{
    (void)event;
    struct replica *replica = sim_chance(sim, 600) ? sim_leader(sim) : sim_pick(sim, REPLICA_UP);
    if (replica != NULL && replica_runs(replica)) {
        struct read_wait read = {.seen = sim->visible, .by = replica};
        uint64_t leader = group_leader(replica->group);
        if (group_is_leader(replica->group)) {
            begin_read(replica, read, sim_chance(sim, 500));
        } else if (leader > 0 && leader <= SIM_IDS) {
            net_send_read(replica, &sim->replicas[leader], on_question, &read);
        }
        check_replica(replica);
    }
    sim_at(sim, sim_wait_ns(sim, sim->plan.read_ms_mean), on_read, NULL, 0, NULL);
}

void client_forget(struct replica *replica)
{
    replica->submissions_len = replica->reads_len = 0;
}

void client_begin(struct sim *sim)
{
    sim_at(sim, 0, on_submit, NULL, 0, NULL);
    sim_at(sim, 0, on_read, NULL, 0, NULL);
}
