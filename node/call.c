#include "node/call.h"

#include <stdlib.h>

#include "node/command.h"
#include "node/compute.h"
#include "node/damage.h"
#include "node/forward.h"
#include "node/signing.h"
#include "node/watch.h"

struct script_watch {
    struct watch watch;
    struct call *call;
    struct script_watch *next;
};

/* What a script watches. */
struct waiter {
    struct script_watch *watches;
    unsigned len;
    bool rung; /* since script_watch, or since the last wait was over */
};

static void run_script(struct call *call);
static void run_query(struct call *call);
static void end_wait(struct call *call);

static struct call *call_of(struct script *script)
{
    return container_of(script, struct call, script);
}

/* ---- ending ---- */

static void unwatch(struct call *call)
{
    struct script_watch *each = call->waiter == NULL ? NULL : call->waiter->watches;
    for (; each != NULL; each = each->next) {
        watch_remove(call->worker, &each->watch);
    }
    call->waiter = NULL;
    call->waits = false;
}

static void detach(struct call *call)
{
    timers_clear(&call->worker->worker.timers, &call->deadline);
    list_remove(&call->waiting);
    list_remove(&call->link);
    if (call->submission != NULL) {
        call->submission->data = NULL; /* its answer will be dropped */
        call->submission = NULL;
    }
    if (call->compute != NULL) {
        compute_abandon(call->compute);
        call->compute = NULL;
    }
    if (call->joining) {
        gather_drop(&call->join);
        call->joining = false;
    }
    unwatch(call);
    reply_close(&call->script.answer);
}

static void finish(struct call *call, enum err err)
{
    CHECK(!call->finished);
    call->finished = true;
    detach(call);
    call->err = err == ERR_CORRUPT && damage_any(call->worker->node->damage) ? ERR_QUARANTINED : err;
    call->done(call);
}

void call_abandon(struct call *call)
{
    if (!call->finished) {
        call->finished = true;
        detach(call);
        reply_close(&call->reply);
    }
}

static void on_deadline(struct timer *timer)
{
    struct call *call = container_of(timer, struct call, deadline);
    if (call->waits) {
        end_wait(call);
        return;
    }
    finish(call, call->reading ? ERR_NO_QUORUM : ERR_TIMEOUT);
}

static void set_deadline(struct call *call, int64_t ms)
{
    worker_timer(&call->worker->worker, &call->deadline, ms);
}

/* ---- reads ---- */

static struct rows *rows_of(struct node_worker *worker, unsigned partition)
{
    CHECK(partition < worker->node->partitions_len);
    return state_reader_rows(worker->reader, partition);
}

/* The snapshot must be of after the moment at which the partitions were seen to be fresh. */
static enum err renew_snapshot(struct node_worker *worker)
{
    uint64_t seq = atomic_load_explicit(&worker->node->commit_seq, memory_order_acquire);
    if (worker->reader_seq == seq) {
        return OK;
    }
    TRY(state_reader_renew(worker->reader));
    worker->reader_seq = seq;
    return OK;
}

/* Led here: what is committed now. Led elsewhere: the question to its leader. */
static void sample(struct call *call, unsigned partition, struct read_point *point)
{
    struct partition *from = &call->worker->node->partitions[partition];
    if (atomic_load_explicit(&from->leader, memory_order_relaxed)) {
        uint64_t term = atomic_load_explicit(&from->term, memory_order_acquire);
        *point = (struct read_point){.index = partition_read_index(from), .term = term};
    } else {
        *point = (struct read_point){.ask = forward_ask(call->worker, partition)};
    }
}

static bool is_fresh(struct call *call, unsigned p, struct read_point *point)
{
    struct partition *partition = &call->worker->node->partitions[p];
    bool leader = atomic_load_explicit(&partition->leader, memory_order_relaxed);
    bool same = atomic_load_explicit(&partition->term, memory_order_acquire) == point->term;
    if (leader != (point->ask == 0) || (leader && (!same || point->index == UINT64_MAX))) {
        sample(call, p, point); /* leadership came or went: an index sampled later serves as well */
    }
    if (point->ask == 0 ? !partition_is_confirmed(partition, call->read_began_ns)
                        : !forward_answered(call->worker, p, point->ask, &point->index)) {
        return false;
    }
    return atomic_load_explicit(&partition->applied, memory_order_acquire) >= point->index;
}

static bool all_fresh(struct call *call)
{
    if (call->read_index != 0) {
        const struct partition *partition = &call->worker->node->partitions[call->read_first];
        return atomic_load_explicit(&partition->applied, memory_order_acquire) >= call->read_index;
    }
    for (unsigned p = call->read_first; p <= call->read_last; p++) {
        if (!is_fresh(call, p, &call->read_points[p - call->read_first])) {
            return false;
        }
    }
    return true;
}

/* Until all is fresh; true: it has become so meanwhile. */
static bool begin_waiting_to_read(struct call *call)
{
    call->reading = true;
    list_add_tail(&call->worker->read_waiters, &call->waiting);
    atomic_store(&call->worker->reads_wait, true);
    state_writer_hurry(call->worker->node->state_writer);
    set_deadline(call, LIMIT_READ_MS);
    return all_fresh(call) && (list_remove(&call->waiting), call->reading = false, true);
}

/* Where the partition is led the entry is committed; here that would be heard of with the next heartbeat. An answer to
 * any question says it. */
static void hear_of_commit(struct call *call)
{
    const struct partition *partition = &call->worker->node->partitions[call->read_first];
    if (atomic_load_explicit(&partition->commit, memory_order_relaxed) < call->read_index) {
        (void)forward_ask(call->worker, call->read_first);
    }
}

/* For all partitions: one for all reads of the call, of which there may be many. */
static struct read_point *read_room(struct call *call)
{
    if (call->read_room == NULL) {
        call->read_room = arena_alloc(call->arena, call->worker->node->partitions_len * sizeof *call->read_room);
    }
    return call->read_room;
}

/* Samples how far the read must see; it may run when that much is applied here. */
static bool begin_read(struct call *call, unsigned first, unsigned last)
{
    struct read_point one;
    call->read_first = first;
    call->read_last = last;
    if (call->read_index != 0) {
        return all_fresh(call) || (hear_of_commit(call), begin_waiting_to_read(call));
    }
    if (call->local) {
        return true; /* this replica as it is */
    }
    call->read_began_ns = clock_boot_ns(call->worker->node->clock);
    call->read_points = first == last ? &one : read_room(call);
    for (unsigned p = first; p <= last; p++) {
        sample(call, p, &call->read_points[p - first]);
    }
    if (all_fresh(call)) {
        return true;
    }
    if (first == last) {
        call->read_points = read_room(call);
        *call->read_points = one;
    }
    return begin_waiting_to_read(call);
}

void call_run_readers(struct node_worker *worker)
{
    struct list again;
    list_init(&again);
    /* Up while we look: a commit in between wakes us once more. */
    atomic_store(&worker->reads_wait, true);
    list_splice(&again, &worker->read_waiters);
    for (struct list *link = list_pop(&again); link != NULL; link = list_pop(&again)) {
        struct call *call = container_of(link, struct call, waiting);
        if (!all_fresh(call)) {
            list_add_tail(&worker->read_waiters, link);
            continue;
        }
        call->reading = false;
        timers_clear(&worker->worker.timers, &call->deadline);
        if (call->op->steps != NULL) {
            run_script(call);
        } else {
            run_query(call);
        }
    }
    if (list_empty(&worker->read_waiters)) {
        atomic_store(&worker->reads_wait, false);
    } else {
        state_writer_hurry(worker->node->state_writer);
    }
}

struct worker_look {
    struct look look;
    struct node_worker *worker;
};

static struct rows *look_rows(struct look *look, unsigned partition)
{
    return rows_of(container_of(look, struct worker_look, look)->worker, partition);
}

static struct worker_look look_of(struct node_worker *worker, const struct caller *caller, struct arena *arena)
{
    const struct node *node = worker->node;
    return (struct worker_look){{arena, *caller, clock_wall_ms(node->clock), node->data_partitions, look_rows}, worker};
}

enum err call_stream(struct node_worker *worker, const struct op *op, const struct caller *caller, const void *in,
                     struct arena *arena, uint64_t *cursor, size_t room, struct buf *out)
{
    struct worker_look look = look_of(worker, caller, arena);
    TRY(renew_snapshot(worker));
    return op->stream(&look.look, in, cursor, room, out);
}

static enum err query(struct call *call)
{
    struct worker_look look = look_of(call->worker, &call->caller, call->arena);
    TRY(renew_snapshot(call->worker));
    return call->op->query(&look.look, call->in, &call->reply);
}

static void run_query(struct call *call)
{
    if (call->op->type == OP_QUERY) {
        finish(call, query(call));
        return;
    }
    call->cursor = STREAM_BEGIN;
    call->reply.type = "text/event-stream";
    finish(call, call_stream(call->worker, call->op, &call->caller, call->in, call->arena, &call->cursor,
                             LIMIT_STREAM_BYTES, &call->reply.body));
}

/* Damage in the node: why this read is not served; OK when it is. */
static enum err refusal(const struct call *call, unsigned first, unsigned last)
{
    const struct node *node = call->worker->node;
    if (!damage_any(node->damage)) {
        return OK;
    }
    bool whole = call->local && node->state != NULL;
    for (unsigned p = first; p <= last && whole; p++) {
        whole = damage_spares(node->damage, p);
    }
    return whole ? OK : ERR_QUARANTINED;
}

static void start_query(struct call *call)
{
    struct node *node = call->worker->node;
    struct address address = {0};
    unsigned first = 1, last = node->data_partitions;
    if ((call->op->flags & OP_ALL_PARTITIONS) == 0) {
        enum err err = call->op->address(&call->caller, call->in, call->arena, node->data_partitions, &address);
        if (err != OK) {
            finish(call, err);
            return;
        }
        first = last = address.partition;
    }
    enum err refused = refusal(call, first, last);
    if (refused != OK) {
        finish(call, refused);
        return;
    }
    if (begin_read(call, first, last)) {
        run_query(call);
    }
}

/* ---- commands ---- */

static void command_done(struct submission *submission)
{
    struct call *call = submission->data;
    if (call == NULL) {
        submission_free(submission);
        return;
    }
    call->submission = NULL;
    call->by = call->hashed ? call->by : submission->by;
    timers_clear(&call->worker->worker.timers, &call->deadline);
    struct outcome *outcome = submission->outcome;
    call->script.err = submission->err != OK ? submission->err : outcome->err;
    if (outcome != NULL) {
        reply_close(&call->script.answer);
        call->script.answer = outcome->reply;
        outcome->reply = (struct reply){0};
        call->replayed = call->replayed || outcome->replayed;
    }
    if (call->script.err == ERR_INVALID_FIELDS) {
        call->reply.pointer = arena_text(call->arena, call->script.answer.pointer);
        call->reply.code = arena_text(call->arena, call->script.answer.code);
        call->reply.detail = arena_text(call->arena, call->script.answer.detail);
    }
    submission_free(submission);
    run_script(call);
}

static void service_command(struct script *script, uint8_t kind_id, uint8_t op_tag, struct address address,
                            const void *in, bool main)
{
    struct call *call = call_of(script);
    struct node *node = call->worker->node;
    const struct op *op = kind_op(kind_find(kind_id), op_tag);
    struct buf params = {0};
    CHECK(op != NULL && op->type == OP_COMMAND && address.partition < node->partitions_len && call->submission == NULL);
    if (op->in != NULL) {
        field_pack(&params, op->in, in);
    }
    struct command command = {.key = address.key,
                              .account = script->caller.account,
                              .session = script->caller.session,
                              .role = (int64_t)script->caller.role,
                              .params = buf_bytes(&params),
                              .kind = kind_id,
                              .op = op_tag,
                              .request_id = partition_request_id(&node->partitions[address.partition],
                                                                 random_u64(&call->worker->worker.random)),
                              .seed = random_u64(&call->worker->worker.random)};
    if (main) {
        command.if_match = (int64_t)call->if_match;
        command.idem_key = call->idem_key;
        command.idem_body = call->idem_body;
    }
    call->submission =
        submission_new(&node->partitions[address.partition], kind_id, address.key, command_encode(&command));
    buf_free(&params);
    call->submission->from = call->worker;
    call->submission->frees = (op->flags & OP_FREES) != 0;
    call->submission->done = command_done;
    call->submission->data = call;
}

static void join_done(struct join *join, enum err err, struct bytes part, uint64_t index, uint64_t by)
{
    struct call *call = container_of(join, struct call, join);
    call->joining = false;
    call->by = call->hashed ? call->by : by;
    timers_clear(&call->worker->worker.timers, &call->deadline);
    call->script.err = err;
    reply_close(&call->script.answer);
    buf_add_bytes(&call->script.answer.body, part);
    call->script.answer.index = index;
    run_script(call);
}

static void service_join(struct script *script, uint8_t kind_id, uint8_t op_tag, struct address address,
                         struct bytes item)
{
    struct call *call = call_of(script);
    const struct op *op = kind_op(kind_find(kind_id), op_tag);
    struct gather_key key = {address.partition, kind_id, op_tag, address.key};
    CHECK(op != NULL && op->type == OP_COMMAND && op->in == joined_fields && !call->joining &&
          address.partition < call->worker->node->partitions_len);
    call->join = (struct join){.caller = script->caller, .item = item, .done = join_done};
    call->refused = gather_add(call->worker->gathers, &key, &call->join);
    call->joining = call->refused == OK;
}

/* ---- waiting for what others do ---- */

static void on_rung(struct watch *watch)
{
    struct call *call = container_of(watch, struct script_watch, watch)->call;
    call->waiter->rung = true;
    if (call->waits && !watch_is_late(call->worker, watch)) {
        list_remove(&call->waiting);
        list_add_tail(&call->worker->rung, &call->waiting);
    } else if (call->waits && !call->late) {
        call->late = true;
        set_deadline(call, LIMIT_LATE_MS < call->wait_ms ? LIMIT_LATE_MS : call->wait_ms);
    }
}

static void service_asked(struct script *script, struct id id, bool got)
{
    watch_asked(call_of(script)->worker, id, got);
}

static void service_watch(struct script *script, struct id id)
{
    struct call *call = call_of(script);
    struct node_worker *worker = call->worker;
    if (call->waiter == NULL) {
        call->waiter = arena_zalloc(call->arena, sizeof *call->waiter);
    }
    struct waiter *waiter = call->waiter;
    CHECK(waiter->len++ < LIMIT_WATCHES);
    struct script_watch *added = arena_alloc(call->arena, sizeof *added);
    *added = (struct script_watch){{.id = id, .rung = on_rung}, call, waiter->watches};
    waiter->watches = added;
    watch_add(worker, &added->watch);
    /* The step's snapshot does not show what was committed in between, and the watch has not heard of it. */
    bool newer = atomic_load_explicit(&worker->node->commit_seq, memory_order_relaxed) != worker->reader_seq;
    waiter->rung = waiter->rung || newer;
}

static void service_wait(struct script *script, int64_t wait_ms)
{
    call_of(script)->wait_ms = wait_ms;
    call_of(script)->waits_next = true;
}

/* What the script is told of its wait. */
static void note_wait(struct call *call)
{
    call->script.rung = call->waiter != NULL && call->waiter->rung;
    call->script.draining = call->worker->draining || call->left;
    if (call->waiter != NULL) {
        call->waiter->rung = false;
    }
}

static void end_wait(struct call *call)
{
    list_remove(&call->waiting);
    timers_clear(&call->worker->worker.timers, &call->deadline);
    call->waits = false;
    note_wait(call);
    run_script(call);
}

/* False: it is over already. */
static bool begin_wait(struct call *call)
{
    bool again = call->script.draining;
    note_wait(call);
    if (call->script.draining && again) {
        finish(call, ERR_SHUTTING_DOWN);
        return true;
    }
    if (call->script.draining || call->script.rung || call->wait_ms <= 0) {
        return false;
    }
    call->waits = true;
    call->late = false;
    set_deadline(call, call->wait_ms);
    return true;
}

void calls_run_rung(struct node_worker *worker)
{
    struct clock *clock = worker->node->clock;
    int64_t until_ns = list_empty(&worker->rung) ? 0 : clock_boot_ns(clock) + LIMIT_RUNG_MS * 1000000LL;
    for (unsigned n = 0; n < LIMIT_RUNG && !list_empty(&worker->rung); n++) {
        end_wait(container_of(list_pop(&worker->rung), struct call, waiting));
        n = clock_boot_ns(clock) < until_ns ? n : LIMIT_RUNG;
    }
    if (!list_empty(&worker->rung)) {
        worker_wake(&worker->worker); /* other things' turn first */
    }
}

void calls_drain(struct node_worker *worker)
{
    worker->draining = true;
    list_each(link, &worker->calls)
    {
        struct call *call = container_of(link, struct call, link);
        if (call->waits) {
            list_remove(&call->waiting);
            list_add_tail(&worker->rung, &call->waiting);
        }
    }
}

bool call_leave(struct call *call)
{
    call->left = true;
    return call->waits;
}

void call_hurry(struct call *call)
{
    if (call_leave(call)) {
        list_remove(&call->waiting);
        list_add_tail(&call->worker->rung, &call->waiting);
        worker_wake(&call->worker->worker);
    }
}

/* ---- password hashes ---- */

static void password_done(void *data, const struct hash_job *result, uint64_t by)
{
    struct call *call = data;
    struct password_job *job = call->password;
    call->compute = NULL;
    timers_clear(&call->worker->worker.timers, &call->deadline);
    memcpy(job->phc, result->phc, sizeof job->phc);
    job->matches = result->matches;
    job->rehash = result->rehash;
    call->script.err = result->err;
    call->by = by;
    call->hashed = true;
    run_script(call);
}

static void service_password(struct script *script, struct password_job *job, bool verify)
{
    struct call *call = call_of(script);
    call->password = job;
    call->compute = compute_start(call->worker, verify, job->password, job->phc, password_done, call);
    call->refused = call->compute == NULL ? ERR_OVERLOADED : OK;
}

/* ---- other services ---- */

static struct rows *service_rows(struct script *script, unsigned partition)
{
    return rows_of(call_of(script)->worker, partition);
}

static void service_read(struct script *script, unsigned partition)
{
    struct call *call = call_of(script);
    bool all = partition == SCRIPT_ALL_PARTITIONS;
    CHECK(all || partition < call->worker->node->partitions_len);
    call->read_first = all ? 1 : partition;
    call->read_last = all ? call->worker->node->data_partitions : partition;
    call->read_index = 0;
    call->reading = true; /* run_script begins it when the step is over */
}

static void service_applied(struct script *script, unsigned partition, uint64_t index)
{
    service_read(script, partition);
    call_of(script)->read_index = index; /* 0, of a node that does not say it yet: then it must be fresh */
}

static void service_random(struct script *script, void *to, size_t len)
{
    random_fill(&call_of(script)->worker->worker.random, to, len);
}

static void service_audit(struct script *script, const char *action, struct bytes user, struct bytes detail)
{
    struct call *call = call_of(script);
    struct log_line line = log_begin(call->worker->node->log, LOG_INFO, "audit");
    log_str(&line, "action", bytes_str(action));
    log_str(&line, "user", user);
    if (detail.len > 0) {
        log_str(&line, "detail", detail);
    }
    log_str(&line, "remote", call->remote);
    log_str(&line, "request_id", call->request_text);
    log_end(&line);
}

static const struct script_services services = {
    service_rows,  service_read,  service_command,      service_password, service_random,
    signing_sign,  service_audit, LIMIT_ACCESS_TOKEN_S, signing_stamp,    signing_sign_foreign,
    service_watch, service_wait,  service_applied,      service_join,     service_asked};

/* ---- scripts ---- */

static bool begins_waiting(struct call *call)
{
    if (call->submission != NULL) {
        set_deadline(call, LIMIT_COMMIT_MS);
        forward_submit(call->submission);
        return true;
    }
    if (call->compute != NULL) {
        set_deadline(call, LIMIT_COMPUTE_MS);
        return true;
    }
    if (call->joining) {
        set_deadline(call, LIMIT_COMMIT_MS);
        return true;
    }
    if (call->waits_next) {
        call->waits_next = false;
        return begin_wait(call);
    }
    if (call->reading) {
        call->reading = false;
        enum err refused = refusal(call, call->read_first, call->read_last);
        if (refused != OK) {
            finish(call, refused);
            return true;
        }
        return !begin_read(call, call->read_first, call->read_last);
    }
    return false;
}

static void run_script(struct call *call)
{
    struct script *script = &call->script;
    for (;;) {
        const struct step *step = &script->steps[script->next];
        if (step->name == NULL || script->done) {
            finish(call, script->err);
            return;
        }
        if (script->err != OK && !step->catches) {
            finish(call, script->err);
            return;
        }
        script->next++;
        enum err err = renew_snapshot(call->worker);
        if (err == OK) {
            script->now_ms = clock_wall_ms(call->worker->node->clock);
            err = step->run(script);
        }
        if (err != OK) {
            finish(call, err);
            return;
        }
        script->err = call->refused;
        call->refused = OK;
        if (begins_waiting(call)) {
            return;
        }
    }
}

void call_start(struct call *call)
{
    struct node *node = call->worker->node;
    list_init(&call->waiting);
    call->deadline.fire = on_deadline;
    list_add_tail(&call->worker->calls, &call->link);
    if (call->op->steps == NULL) {
        start_query(call);
        return;
    }
    if (damage_any(node->damage) && (node->state == NULL || !call->local)) {
        finish(call, call->op->method == METHOD_GET ? ERR_QUARANTINED : ERR_READ_ONLY);
        return;
    }
    call->script = (struct script){.arena = call->arena,
                                   .caller = call->caller,
                                   .partitions = node->data_partitions,
                                   .in = call->in,
                                   .state = arena_zalloc(call->arena, call->op->state_size + 1),
                                   .remote = call->remote,
                                   .reply = &call->reply,
                                   .services = &services,
                                   .stream = call->op->type == OP_STREAM ? call->cursor : 0,
                                   .steps = call->op->steps};
    run_script(call);
}
