/* Messages of a group: in through the guards to the engine, out once what they rest on is synced. */
#include <stdlib.h>

#include "cluster/group_engine.h"

/* ---- out ---- */

static void fill_append(const struct group *group, const struct raft_append_entries *from, struct group_message *to)
{
    to->term = from->term;
    to->index = from->prev_log_index;
    to->index_term = from->prev_log_term;
    to->commit = from->leader_commit;
    to->entries_len = from->n_entries;
    to->stamp_ns = group->now_ns;
}

/* G14: the engine looks for where the logs part one entry at a time. A follower that has many to give up
 * names an index twice as far back with each refusal, but none before what it knows to share. */
static uint64_t part_at(struct group *group, const struct raft_append_entries_result *result)
{
    const struct raft *raft = &group->raft;
    if (result->rejected == 0) {
        group->refusals = 0;
    }
    if (result->rejected == 0 || result->last_log_index + 1 != result->rejected || !GUARD(14)) {
        return result->last_log_index; /* where its log is shorter, the leader goes to its end at once */
    }
    uint64_t back = (uint64_t)1 << (group->refusals < 32 ? group->refusals++ : 32);
    uint64_t shared = raft->follower_state.match > raft->commit_index ? raft->follower_state.match : raft->commit_index;
    uint64_t index = result->rejected > back ? result->rejected - back : 0;
    index = index > shared ? index : shared;
    return index < result->last_log_index ? index : result->last_log_index;
}

static void fill_append_result(struct group *group, const struct raft_append_entries_result *from,
                               struct group_message *to)
{
    to->term = from->term;
    to->index = part_at(group, from);
    to->rejected = from->rejected;
    group->refused = from->rejected > 0;
    to->stamp_ns = group->heard_term == from->term ? group->heard_stamp_ns : 0;
}

static void fill_vote(struct group *group, const struct raft_request_vote *from, struct group_message *to)
{
    to->term = from->term;
    to->index = from->last_log_index;
    to->index_term = from->last_log_term;
    to->pre_vote = from->pre_vote;
    /* G8: the engine keeps the flag for all elections that follow one asked for by a leader; it would
     * break leases. */
    to->disrupt = from->disrupt_leader && (!GUARD(8) || from->term == group->disrupt_term);
}

static void fill_vote_result(const struct group *group, const struct raft_request_vote_result *from,
                             struct group_message *to)
{
    to->term = from->term;
    to->granted = from->vote_granted;
    to->pre_vote = from->pre_vote;
    /* G1: a pre-vote that is refused repeats the asker's term; with an old one it would never learn ours. */
    if (GUARD(1) && from->pre_vote && !from->vote_granted && raft_current_term(&group->raft) > to->term) {
        to->term = raft_current_term(&group->raft);
    }
}

static bool may_leave(const struct group *group, const struct held_message *held)
{
    return held->number <= group->entries.synced;
}

static void hold(struct group *group, const struct group_message *message, uint64_t number)
{
    if (group->held_len == group->held_cap) {
        group->held_cap = group->held_cap == 0 ? 8 : group->held_cap * 2;
        group->held = mem_realloc(group->held, group->held_cap * sizeof *group->held);
    }
    group->held[group->held_len++] = (struct held_message){*message, number};
}

void group_send(struct group *group, const struct raft_message *from)
{
    struct group_message message = {.type = (uint8_t)from->type, .from = group->options.replica, .to = from->server_id};
    switch (from->type) {
    case RAFT_APPEND_ENTRIES: fill_append(group, &from->append_entries, &message); break;
    case RAFT_APPEND_ENTRIES_RESULT: fill_append_result(group, &from->append_entries_result, &message); break;
    case RAFT_REQUEST_VOTE: fill_vote(group, &from->request_vote, &message); break;
    case RAFT_REQUEST_VOTE_RESULT: fill_vote_result(group, &from->request_vote_result, &message); break;
    case RAFT_INSTALL_SNAPSHOT:
        message.term = from->install_snapshot.term;
        message.index = from->install_snapshot.last_index;
        message.index_term = from->install_snapshot.last_term;
        message.configuration_index = from->install_snapshot.conf_index;
        message.stamp_ns = group->now_ns;
        break;
    case RAFT_TIMEOUT_NOW:
        message.term = from->timeout_now.term;
        message.index = from->timeout_now.last_log_index;
        message.index_term = from->timeout_now.last_log_term;
        message.stamp_ns = group->now_ns;
        group_lease_told(group, from->server_id);
        break;
    }
    if (group->held_len > 0 || group->hard_number > group->entries.synced) {
        hold(group, &message, group->hard_number);
        return;
    }
    group->options.ops->send(group->options.ctx, group, &message);
}

void group_release_held(struct group *group)
{
    size_t done = 0;
    while (done < group->held_len && may_leave(group, &group->held[done])) {
        const struct group_message *message = &group->held[done++].message;
        bool leads = message->type != MESSAGE_APPEND && message->type != MESSAGE_INSTALL;
        /* The entries an older leadership spoke of may have been replaced. */
        if (leads || (group->leader && message->term == raft_current_term(&group->raft))) {
            group->options.ops->send(group->options.ctx, group, message);
        }
    }
    if (done > 0) {
        group->held_len -= done;
        memmove(group->held, group->held + done, group->held_len * sizeof *group->held);
    }
}

/* ---- in ---- */

static enum err receive(struct group *group, struct raft_message *message)
{
    struct raft_event event = {.type = RAFT_RECEIVE};
    event.receive.message = message;
    return group_step(group, &event) == 0 ? OK : ERR_CORRUPT;
}

static struct raft_message raft_message_of(const struct group_message *message)
{
    return (struct raft_message){
        .type = (enum raft_message_type)message->type, .server_id = message->from, .server_address = ""};
}

static void free_entries(struct group_message *message, size_t from)
{
    for (size_t i = from; i < message->entries_len; i++) {
        free((void *)(uintptr_t)message->entries[i].payload.ptr);
    }
    free(message->entries);
    message->entries = NULL;
}

/* G11: the engine takes the last entry of a message for its commit index when the leader's is beyond
 * both; a message that was overtaken would set it back. */
static uint64_t commit_for(const struct group *group, const struct group_message *message, uint64_t last)
{
    return GUARD(11) && last < raft_commit_index(&group->raft) ? 0 : message->commit;
}

/* Hands entries first ... first + n - 1 of the message to the engine; frees those it has no use for. */
static enum err receive_piece(struct group *group, const struct group_message *whole, size_t first, size_t n)
{
    struct raft_message message = raft_message_of(whole);
    struct raft_append_entries *append = &message.append_entries;
    struct raft_entry *entries = n == 0 ? NULL : mem_zalloc(n * sizeof *entries);
    append->version = 0;
    append->term = whole->term;
    append->prev_log_index = whole->index + first;
    append->prev_log_term = first == 0 ? whole->index_term : whole->entries[first - 1].term;
    append->leader_commit = commit_for(group, whole, whole->index + first + n);
    append->entries = entries;
    append->n_entries = (unsigned)n;
    for (size_t i = 0; i < n; i++) {
        const struct group_entry *from = &whole->entries[first + i];
        entries[i] = (struct raft_entry){.term = from->term,
                                         .type = (enum raft_entry_type)from->kind,
                                         .buf = {(void *)(uintptr_t)from->payload.ptr, from->payload.len}};
    }
    void *batch = n == 0 ? NULL : raft_malloc(1); /* the engine frees it when it takes nothing */
    if (n > 0) {
        entries[0].batch = batch;
    }
    group->taken_index = 0;
    enum err err = receive(group, &message);
    if (n > 0 && group->taken_index != 0) {
        raft_free(batch);
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t index = whole->index + first + i + 1;
        if (group->taken_index == 0 || index < group->taken_index) {
            free((void *)(uintptr_t)whole->entries[first + i].payload.ptr);
        }
    }
    free(entries);
    return err;
}

/* G4: the engine records a membership at the index of the first new entry of its message. So it is made
 * the first of a message of its own. */
static size_t piece_length(const struct group_message *message, size_t first)
{
    size_t n = message->entries_len - first;
    for (size_t i = 1; i < n && GUARD(4); i++) {
        if (message->entries[first + i].kind == ENTRY_CHANGE) {
            return i;
        }
    }
    return n;
}

static bool is_sound_append(const struct group *group, const struct group_message *message)
{
    struct raft_configuration configuration;
    if (group->leader && message->term == raft_current_term(&group->raft)) {
        return false; /* two leaders in one term */
    }
    for (size_t i = 0; i < message->entries_len; i++) {
        const struct group_entry *entry = &message->entries[i];
        if (entry->kind == ENTRY_CHANGE) {
            if (group_members_to_engine(entry->payload, &configuration) != OK) {
                return false;
            }
            raft_configuration_close(&configuration);
        }
    }
    return true;
}

void group_note_leader(struct group *group, const struct group_message *message)
{
    if (message->term < raft_current_term(&group->raft)) {
        return;
    }
    if (message->term > group->heard_term) {
        group->heard_term = message->term;
        group->heard_stamp_ns = 0;
    }
    group->heard_ns = group->now_ns;
    group->heard_stamp_ns = message->stamp_ns > group->heard_stamp_ns ? message->stamp_ns : group->heard_stamp_ns;
}

/* G12: to a leader of an old term the engine answers without setting the index; when the message was to
 * begin at index 1 that is no refusal, and if the asker leads in our term by then, it takes whatever
 * stands there for what we have. Our term is all it needs to learn. */
static void answer_old_term(struct group *group, const struct group_message *message)
{
    struct raft_message answer = raft_message_of(message);
    answer.type = RAFT_APPEND_ENTRIES_RESULT;
    answer.append_entries_result = (struct raft_append_entries_result){.term = raft_current_term(&group->raft)};
    group_send(group, &answer);
}

static enum err receive_append(struct group *group, struct group_message *message)
{
    size_t first = 0;
    if (!is_sound_append(group, message)) {
        free_entries(message, 0);
        return ERR_CORRUPT;
    }
    if (GUARD(12) && message->term < raft_current_term(&group->raft)) {
        answer_old_term(group, message);
        free_entries(message, 0);
        return OK;
    }
    group_note_leader(group, message);
    enum err err;
    group->refused = false;
    do {
        size_t n = piece_length(message, first);
        err = receive_piece(group, message, first, n);
        first += n;
    } while (err == OK && !group->refused && first < message->entries_len);
    free_entries(message, first);
    return err;
}

static enum err receive_append_result(struct group *group, const struct group_message *from)
{
    struct raft_message message = raft_message_of(from);
    struct raft_append_entries_result *result = &message.append_entries_result;
    uint64_t match = 0;
    if (group->leader && from->term == raft_current_term(&group->raft)) {
        group_lease_stamp(group, from->from, from->stamp_ns);
        match = GUARD(5) ? group_match_index(group, from->from) : 0;
    }
    /* G5: a refusal of what the peer is known to have is an old one, or the peer has lost what it had; the
     * engine would count below zero. Nor does it need to look for common ground below that. */
    if (from->rejected > 0 && from->rejected <= match) {
        return OK;
    }
    result->version = 1;
    result->term = from->term;
    result->rejected = from->rejected;
    result->last_log_index = from->rejected > 0 && from->index < match ? match : from->index;
    result->features = 0;
    result->capacity = 0;
    return receive(group, &message);
}

/* With its address, or the engine would answer nobody once what it wrote for that leader is synced. */
void group_forget_leader(struct group *group)
{
    struct raft *raft = &group->raft;
    CHECK(raft_state(raft) == RAFT_FOLLOWER);
    raft_free(raft->follower_state.current_leader.address);
    raft->follower_state.current_leader.address = NULL;
    raft->follower_state.current_leader.id = 0;
}

/* G9: a leader that was silent for a whole election time-out holds no lease any more: no need to wait
 * for our own, longer timer before another may be elected. */
static void forget_expired_leader(struct group *group)
{
    struct raft *raft = &group->raft;
    if (GUARD(9) && raft_state(raft) == RAFT_FOLLOWER &&
        group->now_ns - group->heard_ns >= (int64_t)group->options.election_ms * 1000000) {
        group_forget_leader(group);
    }
}

static struct raft_server *own_server(struct group *group)
{
    struct raft_configuration *configuration = &group->raft.configuration;
    for (unsigned i = 0; i < configuration->n; i++) {
        if (configuration->servers[i].id == group->options.replica) {
            return &configuration->servers[i];
        }
    }
    return NULL;
}

static enum err receive_vote(struct group *group, const struct group_message *from)
{
    struct raft_message message = raft_message_of(from);
    struct raft_request_vote *vote = &message.request_vote;
    if (GUARD(0) && group->now_ns < group->quarantine_ends_ns) {
        return OK;
    }
    forget_expired_leader(group);
    vote->version = 2;
    vote->term = from->term;
    vote->candidate_id = from->from;
    vote->last_log_index = from->index;
    vote->last_log_term = from->index_term;
    vote->disrupt_leader = from->disrupt;
    vote->pre_vote = from->pre_vote;
    /* G3: one that has become a voter may not know it yet, and its vote may be needed. */
    struct raft_server *self = own_server(group);
    int role = self == NULL ? RAFT_VOTER : self->role;
    if (GUARD(3) && self != NULL) {
        self->role = RAFT_VOTER;
    }
    enum err err = receive(group, &message);
    self = own_server(group);
    if (self != NULL) {
        self->role = role;
    }
    return err;
}

static enum err receive_vote_result(struct group *group, const struct group_message *from)
{
    struct raft_message message = raft_message_of(from);
    struct raft_request_vote_result *result = &message.request_vote_result;
    if (GUARD(6) && raft_state(&group->raft) != RAFT_CANDIDATE) {
        return OK; /* G6: the engine reads a candidate's field that is not there */
    }
    result->version = 2;
    result->term = from->term;
    result->vote_granted = from->granted;
    result->pre_vote = from->pre_vote;
    result->features = 0;
    result->capacity = 0;
    return receive(group, &message);
}

static enum err receive_timeout_now(struct group *group, const struct group_message *from)
{
    struct raft_message message = raft_message_of(from);
    /* G17: one that was overtaken. Its sender has heard from us since, and may hold a lease again. */
    bool late = GUARD(17) && group->heard_term == from->term && group->heard_stamp_ns > from->stamp_ns;
    if (late || group->defer_ms > 0 || (GUARD(0) && group->now_ns < group->quarantine_ends_ns)) {
        return OK;
    }
    message.timeout_now.version = 1;
    message.timeout_now.term = from->term;
    message.timeout_now.last_log_index = from->index;
    message.timeout_now.last_log_term = from->index_term;
    group->disrupt_term = from->term + 1;
    return receive(group, &message);
}

enum err group_receive(struct group *group, struct group_message *message, int64_t now_ns)
{
    group->now_ns = now_ns;
    if (message->from == group->options.replica || message->to != group->options.replica) {
        free_entries(message, 0);
        return OK; /* meant for a replica that stood here before */
    }
    switch ((enum group_message_type)message->type) {
    case MESSAGE_APPEND: return receive_append(group, message);
    case MESSAGE_APPEND_RESULT: return receive_append_result(group, message);
    case MESSAGE_VOTE: return receive_vote(group, message);
    case MESSAGE_VOTE_RESULT: return receive_vote_result(group, message);
    case MESSAGE_TIMEOUT_NOW: return receive_timeout_now(group, message);
    case MESSAGE_INSTALL: return OK; /* group_install, once it is staged */
    }
    return OK;
}
