#include "cluster/group_engine.h"

#include <stdlib.h>

#include "node/limits.h"

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

bool group_is_sole_voter(const struct group *group)
{
    return is_sole_voter_of(&group->raft.configuration, group->options.replica);
}

/* ---- effects ---- */

static void write_hard_state(struct group *group, uint64_t term, uint64_t vote)
{
    group_entries_hard_state(&group->entries);
    group->hard_number = group->entries.number;
    group->options.ops->hard_state(group->options.ctx, group, term, vote);
}

/* G2: the engine lets a sole voter elect itself without a new term; entries of the old term that it
 * had proposed and lost could then be replaced under the same index and term. So it takes a new
 * term first, and votes for itself, in the log ahead of everything that follows. */
static void guard_sole_voter_term(struct group *group)
{
    group->raft.current_term++;
    group->raft.voted_for = group->options.replica;
    write_hard_state(group, group->raft.current_term, group->raft.voted_for);
}

/* Committed entries that are synced here go to apply, in order. Never beyond what is synced. */
static void hand_over(struct group *group)
{
    if (group->installing) {
        return;
    }
    uint64_t commit = raft_commit_index(&group->raft);
    uint64_t upto = commit < group->persisted ? commit : group->persisted;
    while (group->handed < upto) {
        const struct group_entry *entry = group_entries_find(&group->entries, ++group->handed);
        CHECK(entry != NULL);
        group->options.ops->apply(group->options.ctx, group, entry);
    }
}

static void take_entries(struct group *group, const struct raft_update *update)
{
    CHECK(update->entries.index > group->handed);
    group->taken_index = update->entries.index;
    if (update->entries.index <= group->persisted) {
        group->persisted = update->entries.index - 1; /* replaced */
    }
    for (unsigned i = 0; i < update->entries.n; i++) {
        const struct raft_entry *raw = &update->entries.batch[i];
        uint64_t index = update->entries.index + i;
        if (raft_state(&group->raft) == RAFT_LEADER && group->own_index == 0) {
            group->own_index = index;
        }
        struct group_entry entry = {index, raw->term, (uint8_t)raw->type, bytes_of(raw->buf.base, raw->buf.len)};
        group->options.ops->append(group->options.ctx, group, group_entries_append(&group->entries, entry));
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

/* A leader may serve what it finds in its log only when it knows that it is committed. */
static void note_election(struct group *group, bool was_leader, uint64_t last_before)
{
    if (!was_leader && raft_state(&group->raft) == RAFT_LEADER) {
        group->leader_floor = last_before;
        group->own_index = 0;
    }
}

static void copy_configuration(const struct raft_configuration *from, struct raft_configuration *to)
{
    struct raft_buffer encoded;
    CHECK(raft_configuration_encode(from, &encoded) == 0);
    raft_configuration_init(to);
    CHECK(raft_configuration_decode(&encoded, to) == 0);
    raft_free(encoded.base);
}

/* G13: a membership is proposed only once the one before is committed. A follower may receive it before
 * it has learned of that commit; the engine would forget the one between, and roll back beyond it. */
static void settle_superseded(struct group *group, uint64_t index, struct raft_configuration *superseded)
{
    struct raft *raft = &group->raft;
    if (GUARD(13) && index != 0 && raft->configuration_uncommitted_index > index) {
        raft_configuration_close(&raft->configuration_committed);
        raft->configuration_committed = *superseded;
        raft->configuration_committed_index = index;
        return;
    }
    raft_configuration_close(superseded);
}

static int step_once(struct group *group, struct raft_event *event)
{
    struct raft_update update;
    struct raft_configuration before = {NULL, 0};
    uint64_t uncommitted = group->raft.configuration_uncommitted_index;
    bool was_leader = raft_state(&group->raft) == RAFT_LEADER;
    uint64_t last_before = event->type == RAFT_START ? 0 : raft_last_index(&group->raft);
    event->time = group_now_ms(group);
    if (uncommitted != 0 && event->type == RAFT_RECEIVE) {
        copy_configuration(&group->raft.configuration, &before);
    }
    int rc = raft_step(&group->raft, event, &update);
    settle_superseded(group, event->type == RAFT_RECEIVE ? uncommitted : 0, &before);
    if (rc != 0) {
        return rc;
    }
    if ((update.flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR)) != 0) {
        write_hard_state(group, raft_current_term(&group->raft), raft_voted_for(&group->raft));
    }
    note_election(group, was_leader, event->type == RAFT_START ? raft_last_index(&group->raft) : last_before);
    if ((update.flags & RAFT_UPDATE_ENTRIES) != 0) {
        take_entries(group, &update);
    }
    if ((update.flags & RAFT_UPDATE_SNAPSHOT) != 0) {
        group->installing = true;
        group->install = update.snapshot.metadata;
        raft_free(update.snapshot.chunk.base);
    }
    if ((update.flags & RAFT_UPDATE_MESSAGES) != 0) {
        for (unsigned i = 0; i < update.messages.n; i++) {
            group_send(group, &update.messages.batch[i]);
        }
    }
    return 0;
}

/* The engine is told of a committed membership at once, not when it is applied: a follower that catches
 * up receives the next one before, and would roll back to one that is too old. */
static int settle_membership(struct group *group)
{
    struct raft *raft = &group->raft;
    if (raft->configuration_uncommitted_index == 0 || raft->configuration_uncommitted_index > raft->commit_index) {
        return 0;
    }
    struct raft_event event = {.type = RAFT_CONFIGURATION};
    event.configuration.index = raft->configuration_uncommitted_index;
    copy_configuration(&raft->configuration, &event.configuration.conf);
    return step_once(group, &event);
}

/* What this log is known to share with the leader's, and the leader has committed, is committed. */
static void take_hint(struct group *group)
{
    struct raft *raft = &group->raft;
    if (raft_state(raft) != RAFT_FOLLOWER || group->hint_term != raft->current_term) {
        return;
    }
    uint64_t match = raft->follower_state.match;
    uint64_t commit = match < group->hint_index ? match : group->hint_index;
    if (commit > raft->commit_index) {
        raft->commit_index = commit;
    }
}

int group_step(struct group *group, struct raft_event *event)
{
    int rc = step_once(group, event);
    take_hint(group);
    if (rc == 0) {
        rc = settle_membership(group);
    }
    update_role(group);
    hand_over(group);
    return rc;
}

/* ---- start ---- */

static enum err check_start(const struct group_start *start)
{
    uint64_t index = start->applied_index, term = start->applied_term;
    for (size_t i = 0; i < start->entries_len; i++) {
        if (start->entries[i].index != ++index || start->entries[i].term < term) {
            return ERR_CORRUPT;
        }
        term = start->entries[i].term;
    }
    bool founded = start->applied_index > 0 || start->entries_len == 0 || start->entries[0].kind == ENTRY_CHANGE;
    bool known = start->runs_len == 0 || (start->first_index > 0 && start->first_index <= start->applied_index &&
                                          start->runs[start->runs_len - 1].last == start->applied_index);
    return term <= start->term && founded && known ? OK : ERR_CORRUPT;
}

/* The configuration the engine will start with: that of the newest change in the log, or the
 * snapshot's. */
static enum err starts_as_sole_voter(const struct group_start *start, uint64_t replica, bool *out)
{
    struct bytes encoded = start->configuration;
    struct raft_configuration configuration;
    for (size_t i = 0; i < start->entries_len; i++) {
        if (start->entries[i].kind == ENTRY_CHANGE) {
            encoded = start->entries[i].payload;
        }
    }
    *out = false;
    if (encoded.len == 0) {
        return start->applied_index > 0 || start->entries_len > 0 ? ERR_CORRUPT : OK;
    }
    TRY(group_members_to_engine(encoded, &configuration));
    *out = is_sole_voter_of(&configuration, replica);
    raft_configuration_close(&configuration);
    return OK;
}

/* The older part of the log: the engine wants to know the terms alone. Then what follows the state. */
static void add_entries(const struct group_start *start, struct raft_event *event)
{
    uint64_t first = start->runs_len == 0 ? start->applied_index + 1 : start->first_index;
    size_t older = start->applied_index + 1 - first, n = older + start->entries_len, run = 0;
    struct raft_entry *entries = raft_calloc(n + 1, sizeof *entries);
    CHECK(entries != NULL);
    for (size_t i = 0; i < older; i++) {
        run += first + i > start->runs[run].last;
        entries[i] = (struct raft_entry){.term = start->runs[run].term, .type = RAFT_COMMAND};
    }
    for (size_t i = 0; i < start->entries_len; i++) {
        const struct group_entry *from = &start->entries[i];
        entries[older + i] = (struct raft_entry){.term = from->term,
                                                 .type = (enum raft_entry_type)from->kind,
                                                 .buf = {(void *)(uintptr_t)from->payload.ptr, from->payload.len}};
    }
    event->start.start_index = first;
    event->start.entries = entries;
    event->start.n_entries = (unsigned)n;
}

static void init_raft(struct group *group)
{
    const struct group_options *options = &group->options;
    struct raft *raft = &group->raft;
    CHECK(raft_init(raft, NULL, NULL, options->replica, "self") == 0);
    raft->tracer = NULL; /* it formats every step into one static buffer, shared by all threads */
    raft_seed(raft, (unsigned)options->seed);
    raft_set_election_timeout(raft, options->election_ms);
    raft_set_heartbeat_timeout(raft, options->heartbeat_ms);
    raft_set_pre_vote(raft, true);
    raft_set_max_inflight_entries(raft, LIMIT_INFLIGHT_ENTRIES);
}

static struct group *new_group(const struct group_options *options, const struct group_start *start, int64_t now_ns)
{
    struct group *group = mem_zalloc(sizeof *group);
    group->options = *options;
    group->now_ns = now_ns;
    group->heard_ns = INT64_MIN / 2;
    /* A vote asked of a node that has just started could break a lease it granted before. */
    group->quarantine_ends_ns = now_ns + (int64_t)options->election_ms * 1000000;
    group->handed = group->applied = start->applied_index;
    group->persisted = start->applied_index + start->entries_len;
    group_entries_init(&group->entries, start->applied_index, options->keep_bytes);
    for (size_t i = 0; i < start->entries_len; i++) {
        group_entries_load(&group->entries, start->entries[i]);
    }
    init_raft(group);
    return group;
}

enum err group_open(const struct group_options *options, const struct group_start *start, int64_t now_ns,
                    struct group **out)
{
    struct raft_snapshot_metadata metadata = {
        .index = start->applied_index, .term = start->applied_term, .configuration_index = start->configuration_index};
    struct raft_event event = {.type = RAFT_START};
    bool sole;
    TRY(check_start(start));
    TRY(starts_as_sole_voter(start, options->replica, &sole));
    if (start->applied_index > 0) { /* the engine is shown a snapshot; restoring it is a no-op */
        TRY(group_members_to_engine(start->configuration, &metadata.configuration));
        event.start.metadata = &metadata;
    }
    struct group *group = new_group(options, start, now_ns);
    event.start.term = start->term;
    event.start.voted_for = start->vote;
    if (sole) { /* G2, for the election that the engine holds within the start */
        event.start.term++;
        event.start.voted_for = options->replica;
        write_hard_state(group, event.start.term, event.start.voted_for);
    }
    add_entries(start, &event);
    struct raft_entry *entries = event.start.entries;
    int rc = group_step(group, &event);
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
        if (group->installing) {
            raft_configuration_close(&group->install.configuration);
        }
        raft_close(&group->raft, NULL);
        group_entries_close(&group->entries);
        free(group->held);
        free(group);
    }
}

/* ---- events ---- */

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

int group_propose(struct group *group, enum raft_entry_type type, struct bytes *payloads, size_t len)
{
    struct raft_entry *entries = mem_alloc(len * sizeof *entries);
    for (size_t i = 0; i < len; i++) {
        void *ptr = (void *)(uintptr_t)payloads[i].ptr;
        entries[i] = (struct raft_entry){
            .term = raft_current_term(&group->raft), .type = type, .buf = {ptr, payloads[i].len}, .batch = ptr};
    }
    struct raft_event event = {.type = RAFT_SUBMIT};
    event.submit.entries = entries;
    event.submit.n = (unsigned)len;
    int rc = group_step(group, &event);
    free(entries);
    if (rc != 0) {
        free_payloads(payloads, len);
    }
    return rc;
}

enum err group_submit(struct group *group, struct bytes *payloads, size_t len, int64_t now_ns,
                      uint64_t *out_first_index)
{
    group->now_ns = now_ns;
    if (!group->leader || len > group_room(group)) {
        free_payloads(payloads, len);
        return group->leader ? ERR_OVERLOADED : ERR_NOT_LEADER;
    }
    *out_first_index = group_last_index(group) + 1;
    /* The engine refuses while it hands leadership over. */
    return group_propose(group, RAFT_COMMAND, payloads, len) == 0 ? OK : ERR_NOT_LEADER;
}

uint64_t group_writes(const struct group *group)
{
    return group->entries.number;
}

/* The log begins anew behind what was installed. */
static void finish_install(struct group *group)
{
    struct raft_event event = {.type = RAFT_PERSISTED_SNAPSHOT};
    uint64_t index = group->install.index;
    event.persisted_snapshot.metadata = group->install;
    event.persisted_snapshot.last = true;
    group->installing = false;
    group->restart_number = 0;
    group->handed = group->applied = group->persisted = index;
    group_entries_reset(&group->entries, index);
    CHECK(group_step(group, &event) == 0);
}

enum err group_install(struct group *group, const struct group_message *message, int64_t now_ns, bool *out_begun)
{
    struct raft_message raw = {.type = RAFT_INSTALL_SNAPSHOT, .server_id = message->from, .server_address = ""};
    struct raft_install_snapshot *install = &raw.install_snapshot;
    struct raft_event event = {.type = RAFT_RECEIVE};
    group->now_ns = now_ns;
    *out_begun = false;
    if (message->term < raft_current_term(&group->raft)) {
        return OK; /* its sender leads no more */
    }
    if (group->installing || group->leader || group->entries.writes_len > 0 || group->handed != group->applied) {
        return ERR_CONFLICT;
    }
    TRY(group_members_to_engine(message->configuration, &install->conf));
    install->version = 0;
    install->term = message->term;
    install->last_index = message->index;
    install->last_term = message->index_term;
    install->conf_index = message->configuration_index;
    install->data = (struct raft_buffer){raft_malloc(1), 1};
    event.receive.message = &raw;
    group_note_leader(group, message);
    if (group_step(group, &event) != 0) {
        return ERR_CORRUPT;
    }
    *out_begun = group->installing;
    return OK;
}

void group_switched(struct group *group, int64_t now_ns)
{
    CHECK(group->installing && group->restart_number == 0);
    group->now_ns = now_ns;
    group_entries_hard_state(&group->entries); /* a write like it: a number, and no entry */
    group->restart_number = group->entries.number;
    group->options.ops->restart(group->options.ctx, group, group->install.index, group->install.term);
}

void group_synced(struct group *group, uint64_t number, int64_t now_ns)
{
    group->now_ns = now_ns;
    uint64_t index = group_entries_synced(&group->entries, number);
    group_release_held(group);
    if (group->restart_number != 0 && number >= group->restart_number) {
        finish_install(group);
        return;
    }
    if (index > group->persisted) {
        group->persisted = index;
        struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES};
        event.persisted_entries.index = index;
        CHECK(group_step(group, &event) == 0);
    }
}

void group_applied(struct group *group, uint64_t index)
{
    CHECK(index >= group->applied && index <= group->handed);
    group->applied = index;
    group_entries_applied(&group->entries, index);
}

/* G3: a follower without a vote keeps a leader in mind that is long gone; its time-out resets its timer
 * and nothing else. */
static void forget_silent_leader(struct group *group)
{
    struct raft *raft = &group->raft;
    if (GUARD(3) && raft_state(raft) == RAFT_FOLLOWER && raft->follower_state.current_leader.id != 0 &&
        group->now_ns - group->heard_ns >= 2LL * group->options.election_ms * 1000000) {
        group_forget_leader(group);
    }
}

/* G15: at each heartbeat the engine takes for lost who has not answered since the one before, and sends it
 * one message a heartbeat from then on. It is to look back a whole election time-out, as Raft says. */
static void widen_contact(struct group *group)
{
    struct raft *raft = &group->raft;
    uint64_t now_ms = group_now_ms(group), election_ms = group->options.election_ms;
    if (GUARD(15) && raft_state(raft) == RAFT_LEADER && now_ms > election_ms &&
        raft->election_timer_start > now_ms - election_ms + 1) {
        raft->election_timer_start = now_ms - election_ms + 1;
    }
}

void group_tick(struct group *group, int64_t now_ns)
{
    group->now_ns = now_ns;
    forget_silent_leader(group);
    bool sole = group_is_sole_voter(group), defers = raft_state(&group->raft) != RAFT_LEADER && !sole;
    if (group_now_ms(group) < raft_timeout(&group->raft) + (defers ? group->defer_ms : 0)) {
        return;
    }
    if (raft_state(&group->raft) == RAFT_FOLLOWER && sole && group->persisted == group_last_index(group)) {
        guard_sole_voter_term(group);
    }
    widen_contact(group);
    struct raft_event event = {.type = RAFT_TIMEOUT};
    CHECK(group_step(group, &event) == 0);
}

void group_defer(struct group *group, unsigned ms)
{
    group->defer_ms = ms;
}

enum err group_transfer(struct group *group, uint64_t replica, int64_t now_ns)
{
    group->now_ns = now_ns;
    if (!group->leader) {
        return ERR_NOT_LEADER;
    }
    struct raft_event event = {.type = RAFT_TRANSFER};
    event.transfer.server_id = replica;
    int rc = group_step(group, &event);
    return rc == 0 ? OK : rc == RAFT_NOTLEADER ? ERR_NOT_LEADER : ERR_NOT_FOUND;
}

void group_hint_commit(struct group *group, uint64_t term, uint64_t index, int64_t now_ns)
{
    group->now_ns = now_ns;
    if (term > group->hint_term || (term == group->hint_term && index > group->hint_index)) {
        group->hint_term = term;
        group->hint_index = index;
        take_hint(group);
        CHECK(settle_membership(group) == 0);
        update_role(group);
        hand_over(group);
    }
}

void group_forget(struct group *group, uint64_t index, int64_t now_ns)
{
    struct raft *raft = &group->raft;
    group->now_ns = now_ns;
    /* G7: not while a snapshot is being installed; the engine would take ours for it. */
    if ((GUARD(7) && raft->snapshot.installing) || index <= raft->trail.offset || index > group->applied ||
        group->applied < raft->trail.snapshot.index) {
        return;
    }
    if (group->applied == raft->trail.snapshot.index) {
        if (!GUARD(16)) {
            return;
        }
        /* G16: the engine shortens its log with a new snapshot alone, and takes none at the index of the last
         * one. Where nothing new was applied it would go on offering entries that are gone. */
        raft->trail.snapshot.index = raft->trail.offset;
    }
    struct raft_event event = {.type = RAFT_SNAPSHOT};
    event.snapshot.metadata.index = group->applied;
    event.snapshot.metadata.configuration_index = raft->configuration_committed_index;
    event.snapshot.trailing = (unsigned)(group->applied - index);
    copy_configuration(&raft->configuration_committed, &event.snapshot.metadata.configuration);
    CHECK(group_step(group, &event) == 0);
}

/* ---- looking ---- */

bool group_is_leader(const struct group *group)
{
    return group->leader;
}
uint64_t group_term(const struct group *group)
{
    return raft_current_term(&group->raft);
}

uint64_t group_leader(const struct group *group)
{
    raft_id id = 0;
    const char *address;
    raft_leader((struct raft *)(uintptr_t)&group->raft, &id, &address);
    return id;
}

uint64_t group_commit_index(const struct group *group)
{
    return raft_commit_index(&group->raft);
}
uint64_t group_last_index(const struct group *group)
{
    return raft_last_index((struct raft *)(uintptr_t)&group->raft);
}

uint64_t group_match_index(const struct group *group, uint64_t replica)
{
    raft_index index = 0;
    return raft_match_index(&group->raft, replica, &index) == 0 ? index : 0;
}

int64_t group_heard_ns(const struct group *group)
{
    return group->heard_ns;
}

void group_members(const struct group *group, struct group_members *out)
{
    group_members_from_engine(&group->raft.configuration, out);
}

bool group_is_changing(const struct group *group)
{
    return group->raft.configuration_uncommitted_index != 0;
}

bool group_is_handing_over(const struct group *group)
{
    return raft_transferee(&group->raft) != 0;
}

bool group_entries(const struct group *group, uint64_t first, size_t len, struct group_entry *out)
{
    for (size_t i = 0; i < len; i++) {
        const struct group_entry *entry = group_entries_find(&group->entries, first + i);
        if (entry == NULL) {
            return false;
        }
        out[i] = *entry;
    }
    return true;
}
