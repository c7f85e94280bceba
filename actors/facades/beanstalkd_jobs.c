/* Commands that change something: putting, reserving, settling, kicking, pausing. */
#include "actors/facades/beanstalkd_script.h"

enum { SOON_MS = 1000, LOOK_MS = 60000 /* without a ring, by then it is looked anew */, ROUNDS = 1000 };

/* ---- what the scripts share ---- */

enum err tube_say(struct script *s, const char *text)
{
    buf_add_str(&s->reply->body, text);
    return script_done(s);
}

enum err tube_say_job(struct script *s, const char *word, uint64_t id, struct bytes body)
{
    struct buf *out = &s->reply->body;
    buf_add_str(out, word);
    buf_add_char(out, ' ');
    buf_add_u64(out, id);
    buf_add_char(out, ' ');
    buf_add_u64(out, body.len);
    buf_add_lit(out, "\r\n");
    buf_add_bytes(out, body);
    buf_add_lit(out, "\r\n");
    return script_done(s);
}

static const struct tube_in *input(const struct script *s)
{
    return s->in;
}

/* The topic that the client's functions are about. */
static void set_topic(struct script *s, struct bytes name)
{
    struct tube_state *st = s->state;
    input(s)->self->topic = name;
    st->client.home = partition_of_name(name, s->partitions);
}

enum err tube_shard_open(struct script *s, struct bytes name, unsigned shard, struct tube_shard *out)
{
    struct bytes ignored;
    uint32_t gid;
    out->partition = (partition_of_name(name, s->partitions) - 1 + shard) % s->partitions + 1;
    out->rows = script_rows(s, out->partition);
    TRY(topic_find(out->rows, name, &out->topic));
    TRY(topic_allows(&out->topic, &s->caller, USE_CONSUME) ? OK : ERR_NOT_FOUND);
    out->tid = (uint64_t)out->topic.tid;
    TRY(topic_state_find(out->rows, out->tid, &out->state, &ignored));
    out->group = (struct group){.name = bytes_str(tube_group)};
    enum err err = group_find_gid(out->rows, out->tid, bytes_str(tube_group), &gid);
    err = err == OK ? group_find(out->rows, out->tid, gid, &out->group.state, &ignored) : err;
    if (err == OK) {
        out->group.gid = gid;
    } else {
        TRY(err == ERR_NOT_FOUND ? OK : err);
        out->group.state = (struct group_state){.start = out->state.first,
                                                .cursor = out->state.first,
                                                .passed = out->state.available - out->state.retained};
    }
    out->turn = (struct turn){.rows = out->rows, .arena = s->arena, .now_ms = s->now_ms};
    out->queue = (struct queue){.turn = &out->turn,
                                .rows = out->rows,
                                .topic = out->topic,
                                .tid = out->tid,
                                .state = out->state,
                                .groups = &out->group,
                                .all = true};
    return OK;
}

enum err tube_of_job(struct script *s, const struct job_name *job, struct bytes *out_name, struct topic *out)
{
    struct rows *rows = script_rows(s, job->partition);
    struct topic_state state;
    struct bytes name;
    uint64_t tid;
    TRY(ordinal_find(rows, job->ordinal, &tid));
    TRY(topic_state_find(rows, tid, &state, &name));
    *out_name = arena_copy(s->arena, name);
    TRY(topic_find(rows, *out_name, out));
    return (uint64_t)out->tid == tid && topic_allows(out, &s->caller, USE_CONSUME) ? OK : ERR_NOT_FOUND;
}

/* A delivery of one job: it is the connection's. Errors: ERR_NOT_FOUND: its time is over already. */
static enum err take_delivered(struct script *s, unsigned partition, const struct received *received)
{
    const struct tube_in *in = input(s);
    struct rows *rows = script_rows(s, partition);
    struct topic topic;
    struct topic_state state;
    struct delivery delivery;
    struct message message;
    struct bytes name, row;
    TRY(topic_find(rows, in->topic, &topic));
    TRY(topic_state_find(rows, (uint64_t)topic.tid, &state, &name));
    TRY(delivery_find(rows, s->arena, (uint64_t)topic.tid, received->gid, received->smallest, received->id, &delivery));
    const struct delivery_entry *entry = &delivery.entries[0];
    struct queue_key key = message_key((uint64_t)topic.tid, entry->number);
    TRY(rows_get(rows, TABLE_MESSAGE, key_of(&key), &row));
    TRY(message_read(row, &message));
    struct job_name job = {partition, state.ordinal, message.id};
    struct held_job held = {.id = job_id(job, s->partitions),
                            .receipt = {partition, received->gid, received->smallest, received->id, entry->number},
                            .tube = {.len = (uint8_t)in->topic.len},
                            .ttr_ms = message.lease_s > 0 ? (int64_t)message.lease_s * 1000 : topic.visibility_ms,
                            .until_ms = entry->deadline};
    memcpy(held.tube.text, in->topic.ptr, in->topic.len);
    tube_hold(in->session, &held);
    return tube_say_job(s, "RESERVED", held.id, message.body);
}

/* ---- put ---- */

enum { PUT_MAKE = 1, PUT_NUMBER = 3, PUT_SEND = 4 };

static enum err put_begin(struct script *s)
{
    struct tube_state *st = s->state;
    set_topic(s, tube_text(&input(s)->session->used));
    st->client.shards = 0;
    return client_find(s);
}

static enum err put_make(struct script *s)
{
    struct tube_state *st = s->state;
    enum err err = client_found(s);
    if (err == OK) {
        st->client.shard = client_some_shard(s);
        script_goto(s, PUT_NUMBER);
        return OK;
    }
    TRY(err == ERR_NOT_FOUND ? OK : err);
    tube_settings(s, input(s)->topic, &st->client.put);
    script_command(s, KIND_QUEUE, QUEUE_DO_PUT, (struct address){st->client.home, input(s)->topic}, &st->client.put,
                   false);
    return OK;
}

static enum err put_made(struct script *s)
{
    struct tube_state *st = s->state;
    st->client.shards = 1;
    st->client.shard = 0;
    script_applied(s, st->client.home, s->answer.index);
    return OK;
}

/* Ids of jobs name their topic by a number, which this replica may not know yet. */
static enum err put_number(struct script *s)
{
    struct tube_state *st = s->state;
    struct topic topic;
    struct topic_state state;
    struct bytes name;
    unsigned partition = client_partition(s, st->client.shard);
    enum err err = topic_find(script_rows(s, partition), input(s)->topic, &topic);
    err = err == OK ? topic_state_find(script_rows(s, partition), (uint64_t)topic.tid, &state, &name) : err;
    if (err == OK) {
        st->ordinal = state.ordinal;
        return OK;
    }
    TRY(err == ERR_NOT_FOUND && st->client.tries++ < 2 ? OK : err);
    script_read(s, partition);
    script_goto(s, PUT_NUMBER);
    return OK;
}

static enum err put_send(struct script *s)
{
    struct tube_state *st = s->state;
    const struct tube_command *command = &input(s)->command;
    struct buf item = {0};
    struct publish_head head = {.delay_ms = (int64_t)command->delay_s * 1000};
    struct message message = {.flags = MESSAGE_BASE64,
                              .priority = command->priority,
                              .lease_s = command->ttr_s > 0 ? command->ttr_s : 1,
                              .body = command->body};
    publish_add(&item, head, &message);
    st->client.item = arena_copy(s->arena, buf_bytes(&item));
    buf_free(&item);
    script_join(s, KIND_QUEUE, QUEUE_DO_PUBLISH, client_address(s, st->client.shard), st->client.item);
    return OK;
}

static enum err put_sent(struct script *s)
{
    struct tube_state *st = s->state;
    struct id_run run;
    if (s->err == ERR_NOT_FOUND && st->client.tries++ < 2) { /* it was deleted meanwhile */
        st->client.shards = 0;
        script_read(s, st->client.home);
        script_goto(s, PUT_MAKE);
        return OK;
    }
    TRY(s->err);
    TRY(s->answer.body.len == sizeof run ? OK : ERR_INTERNAL);
    memcpy(&run, s->answer.body.ptr, sizeof run);
    struct job_name job = {client_partition(s, st->client.shard), st->ordinal, run.first};
    buf_add_lit(&s->reply->body, "INSERTED ");
    buf_add_u64(&s->reply->body, job_id(job, s->partitions));
    return tube_say(s, "\r\n");
}

const struct step tube_put_steps[] = {{"begin", put_begin, false},
                                      {"make", put_make, false},
                                      {"made", put_made, false},
                                      {"number", put_number, false},
                                      {"send", put_send, false},
                                      {"sent", put_sent, true},
                                      {0}};

/* ---- reserve ---- */

enum { RESERVE_LOOK = 1, RESERVE_ASK = 2, RESERVE_WAIT = 5 };

static struct bytes group_item(struct script *s, const void *ask, size_t len)
{
    struct buf item = {0};
    buf_add(&item, ask, len);
    buf_add_str(&item, tube_group);
    struct bytes out = arena_copy(s->arena, buf_bytes(&item));
    buf_free(&item);
    return out;
}

static enum err reserve_begin(struct script *s)
{
    const struct tube_in *in = input(s);
    struct tube_state *st = s->state;
    const struct receive_ask ask = {.max = 1, .visibility_ms = -1};
    bool timed = in->command.verb == TUBE_RESERVE_TIMED;
    st->client.until_ms = timed ? s->now_ms + (int64_t)in->command.timeout_s * 1000 : INT64_MAX;
    st->client.item = group_item(s, &ask, sizeof ask);
    st->tried = arena_zalloc(s->arena, in->session->watched_len);
    st->waits = !timed || in->command.timeout_s > 0;
    for (size_t i = 0; i < in->session->watched_len && st->waits; i++) {
        script_watch(s, topic_watch_id(tube_text(&in->session->watched[i])));
    }
    return OK;
}

/* Of jobs in several tubes the most urgent is taken, of those the oldest. */
struct best {
    bool is;
    size_t at;
    unsigned shard, shards;
    uint32_t priority;
    int64_t since;
};

static enum err since_when(struct tube_shard *shard, uint64_t number, int64_t *out)
{
    struct message message;
    enum err err = number == 0 ? ERR_NOT_FOUND : queue_message(&shard->queue, number, &message);
    *out = err == OK ? message.published_at : 0;
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err compare(struct script *s, size_t at, unsigned which, struct tube_shard *shard, struct best *best)
{
    const struct group_state *group = &shard->group.state;
    struct best found = {true, at, which, (unsigned)shard->topic.partitions, PRIORITY_USUAL, 0};
    bool has = group->paused_until <= s->now_ms && (group->ready > 0 || group->passed < shard->state.available);
    if (has && (input(s)->session->watched_len > 1 || found.shards > 1)) {
        uint64_t number;
        enum err err = receive_peek(&shard->queue, &shard->group, &number, &found.priority);
        has = err == OK;
        TRY(err == ERR_NOT_FOUND ? OK : err);
        TRY(has ? since_when(shard, number, &found.since) : OK);
    }
    bool before = found.priority < best->priority || (found.priority == best->priority && found.since < best->since);
    if (has && (!best->is || before)) {
        *best = found;
    }
    return OK;
}

static enum err look_at_tube(struct script *s, size_t at, struct best *best)
{
    struct tube_shard shard;
    unsigned shards = 1;
    for (unsigned i = 0; i < shards; i++) {
        enum err err = tube_shard_open(s, tube_text(&input(s)->session->watched[at]), i, &shard);
        if (err == ERR_NOT_FOUND) {
            continue;
        }
        TRY(err);
        shards = (unsigned)shard.topic.partitions;
        TRY(compare(s, at, i, &shard, best));
    }
    return OK;
}

/* Nothing was found: who says so must know. */
static enum err look_fresh(struct script *s)
{
    const struct tube_session *session = input(s)->session;
    struct tube_state *st = s->state;
    struct bytes first = tube_text(&session->watched[0]);
    unsigned home = partition_of_name(first, s->partitions);
    struct topic topic;
    bool wide =
        session->watched_len > 1 || (topic_find(script_rows(s, home), first, &topic) == OK && topic.partitions > 1);
    st->fresh = true;
    script_read(s, wide ? SCRIPT_ALL_PARTITIONS : home);
    script_goto(s, RESERVE_LOOK);
    return OK;
}

static enum err reserve_look(struct script *s)
{
    const struct tube_session *session = input(s)->session;
    struct tube_state *st = s->state;
    struct best best = {.priority = UINT32_MAX};
    for (size_t i = 0; i < session->watched_len; i++) {
        TRY(st->tried[i] != 0 ? OK : look_at_tube(s, i, &best));
    }
    if (!best.is && !st->fresh) {
        return look_fresh(s);
    }
    if (!best.is) {
        script_goto(s, RESERVE_WAIT);
        return OK;
    }
    st->best = best.at;
    set_topic(s, tube_text(&session->watched[best.at]));
    st->client.shard = best.shard;
    st->client.shards = best.shards;
    return OK;
}

static enum err reserve_ask(struct script *s)
{
    const struct tube_state *st = s->state;
    script_join(s, KIND_QUEUE, QUEUE_DO_RECEIVE, client_address(s, st->client.shard), st->client.item);
    return OK;
}

static enum err reserve_got(struct script *s)
{
    struct tube_state *st = s->state;
    struct received *received = &st->client.received;
    bool refused = s->err == ERR_NOT_FOUND || s->err == ERR_FORBIDDEN || s->err == ERR_LIMIT_REACHED;
    TRY(refused ? OK : s->err);
    TRY(refused || s->answer.body.len == sizeof *received ? OK : ERR_INTERNAL);
    *received = (struct received){0};
    if (!refused) {
        memcpy(received, s->answer.body.ptr, sizeof *received);
    }
    if (received->id != 0) {
        script_applied(s, client_partition(s, st->client.shard), s->answer.index);
        return OK;
    }
    bool again = received->more && st->client.tries++ < ROUNDS;
    st->tried[st->best] = !again;
    script_goto(s, again ? RESERVE_ASK : RESERVE_LOOK);
    return OK;
}

static enum err reserve_deliver(struct script *s)
{
    const struct tube_state *st = s->state;
    enum err err = take_delivered(s, client_partition(s, st->client.shard), &st->client.received);
    if (err == ERR_NOT_FOUND) {
        script_goto(s, RESERVE_LOOK);
        return OK;
    }
    return err;
}

/* When the first job that the connection holds is about to be taken from it. */
static int64_t deadline_soon(struct tube_session *session, int64_t now_ms)
{
    int64_t first = INT64_MAX;
    for (size_t i = session->held_len; i > 0; i--) {
        struct held_job *job = &session->held[i - 1];
        if (job->until_ms <= now_ms) {
            tube_unhold(session, job);
        } else if (job->until_ms < first) {
            first = job->until_ms;
        }
    }
    return first == INT64_MAX ? first : first - SOON_MS;
}

static enum err reserve_wait(struct script *s)
{
    const struct tube_in *in = input(s);
    const struct tube_state *st = s->state;
    int64_t soon = deadline_soon(in->session, s->now_ms), until = st->client.until_ms;
    if (soon <= s->now_ms) {
        return tube_say(s, "DEADLINE_SOON\r\n");
    }
    if (until <= s->now_ms || s->draining) {
        return tube_say(s, "TIMED_OUT\r\n");
    }
    until = soon < until ? soon : until;
    until = s->now_ms + LOOK_MS < until ? s->now_ms + LOOK_MS : until;
    in->host->waits(in->host, in->session, true);
    script_wait(s, until - s->now_ms);
    return OK;
}

static enum err reserve_waited(struct script *s)
{
    const struct tube_in *in = input(s);
    struct tube_state *st = s->state;
    in->host->waits(in->host, in->session, false);
    memset(st->tried, 0, in->session->watched_len);
    st->fresh = s->rung; /* what rang is here already */
    st->client.tries = 0;
    script_goto(s, s->draining ? RESERVE_WAIT : RESERVE_LOOK);
    return OK;
}

const struct step tube_reserve_steps[] = {{"begin", reserve_begin, false},     {"look", reserve_look, false},
                                          {"ask", reserve_ask, false},         {"got", reserve_got, true},
                                          {"deliver", reserve_deliver, false}, {"wait", reserve_wait, false},
                                          {"waited", reserve_waited, false},   {0}};

/* ---- delete, release, bury and touch, of jobs that the connection holds ---- */

static void add_settle(struct buf *item, const struct settle_ask *ask)
{
    buf_add(item, ask, sizeof *ask);
    buf_add_str(item, tube_group);
}

static void add_receipt(struct buf *item, const struct receipt *receipt)
{
    struct settle_one one = {
        .gid = receipt->gid, .smallest = receipt->smallest, .id = receipt->id, .number = receipt->number};
    buf_add(item, &one, sizeof one);
}

static int64_t bounded_ms(int64_t ms)
{
    return ms < LIMIT_DELAY_MS ? ms : LIMIT_DELAY_MS;
}

static struct settle_ask what_to_do(const struct tube_command *command, const struct held_job *job)
{
    struct settle_ask ask = {.verb = SETTLE_ACK, .name_len = (uint32_t)strlen(tube_group), .priority = -1};
    if (command->verb == TUBE_RELEASE) {
        ask.verb = SETTLE_NACK;
        ask.ms = bounded_ms((int64_t)command->delay_s * 1000);
        ask.priority = command->priority;
    } else if (command->verb == TUBE_BURY) {
        ask.verb = SETTLE_BURY;
        ask.priority = command->priority;
    } else if (command->verb == TUBE_TOUCH) {
        ask.verb = SETTLE_EXTEND;
        ask.ms = bounded_ms(job->ttr_ms);
    }
    return ask;
}

static enum err settle_begin(struct script *s)
{
    const struct tube_in *in = input(s);
    struct tube_state *st = s->state;
    struct buf item = {0};
    st->job = tube_held(in->session, in->command.id, s->now_ms);
    if (st->job == NULL && in->command.verb != TUBE_DELETE) {
        return tube_say(s, "NOT_FOUND\r\n");
    }
    if (st->job == NULL) {
        script_chain(s, tube_job_steps);
        return OK;
    }
    set_topic(s, arena_copy(s->arena, tube_text(&st->job->tube)));
    const struct settle_ask ask = what_to_do(&in->command, st->job);
    add_settle(&item, &ask);
    add_receipt(&item, &st->job->receipt);
    st->client.item = arena_copy(s->arena, buf_bytes(&item));
    buf_free(&item);
    script_join(s, KIND_QUEUE, QUEUE_DO_SETTLE, (struct address){st->job->receipt.partition, in->topic},
                st->client.item);
    return OK;
}

/* The message goes on to another topic: that takes what acknowledging takes under /v1. */
static enum err go_on(struct script *s)
{
    const struct tube_state *st = s->state;
    struct settle_in *in = arena_zalloc(s->arena, sizeof *in);
    struct settle_state *settle = arena_zalloc(s->arena, sizeof *settle);
    struct buf receipts = {0}, receipt = {0};
    receipt_add(&receipt, &st->job->receipt);
    field_strings_begin(&receipts, 1);
    field_strings_add(&receipts, buf_bytes(&receipt));
    in->topic = input(s)->topic;
    in->group = bytes_str(tube_group);
    in->receipts = arena_copy(s->arena, buf_bytes(&receipts));
    buf_free(&receipts);
    buf_free(&receipt);
    settle->ok = "DELETED\r\n";
    settle->gone = "NOT_FOUND\r\n";
    tube_unhold(input(s)->session, st->job);
    s->in = in;
    s->state = settle;
    script_chain(s, ack_steps);
    return OK;
}

static enum err settle_sent(struct script *s)
{
    static const char *const done[TUBE_VERBS] = {[TUBE_DELETE] = "DELETED\r\n",
                                                 [TUBE_RELEASE] = "RELEASED\r\n",
                                                 [TUBE_BURY] = "BURIED\r\n",
                                                 [TUBE_TOUCH] = "TOUCHED\r\n"};
    const struct tube_in *in = input(s);
    struct tube_state *st = s->state;
    TRY(s->answer.body.len == 1 ? OK : ERR_INTERNAL);
    enum settle_result result = s->answer.body.ptr[0];
    if (result == SETTLED_SLIP) {
        return go_on(s);
    }
    if (result == SETTLED_OK && in->command.verb == TUBE_TOUCH) {
        st->job->until_ms = s->now_ms + st->job->ttr_ms;
        return tube_say(s, done[TUBE_TOUCH]);
    }
    tube_unhold(in->session, st->job);
    if (result == SETTLED_GONE && in->command.verb == TUBE_DELETE) {
        script_chain(s, tube_job_steps); /* it may be anybody's again */
        return OK;
    }
    return tube_say(s, result == SETTLED_OK ? done[in->command.verb] : "NOT_FOUND\r\n");
}

const struct step tube_settle_steps[] = {{"begin", settle_begin, false}, {"sent", settle_sent, false}, {0}};

/* ---- the connection is gone: its jobs are ready again ---- */

enum { RETURN_SEND = 0 };

/* Those of the last one's topic and partition. */
static enum err return_send(struct script *s)
{
    struct tube_session *session = input(s)->session;
    struct tube_state *st = s->state;
    struct buf item = {0};
    const struct settle_ask ask = {.verb = SETTLE_RETURN, .name_len = (uint32_t)strlen(tube_group), .priority = -1};
    if (session->held_len == 0) {
        return script_done(s);
    }
    const struct held_job last = session->held[session->held_len - 1];
    add_settle(&item, &ask);
    for (size_t i = session->held_len, n = 0; i > 0 && n < LIMIT_BATCH; i--) {
        struct held_job *job = &session->held[i - 1];
        if (job->receipt.partition == last.receipt.partition &&
            bytes_eq(tube_text(&job->tube), tube_text(&last.tube))) {
            add_receipt(&item, &job->receipt);
            tube_unhold(session, job);
            n++;
        }
    }
    set_topic(s, arena_copy(s->arena, tube_text(&last.tube)));
    st->client.item = arena_copy(s->arena, buf_bytes(&item));
    buf_free(&item);
    script_join(s, KIND_QUEUE, QUEUE_DO_SETTLE, (struct address){last.receipt.partition, input(s)->topic},
                st->client.item);
    return OK;
}

/* What failed comes back when its time is over. */
static enum err return_sent(struct script *s)
{
    script_goto(s, RETURN_SEND);
    return OK;
}

const struct step tube_return_steps[] = {{"send", return_send, false}, {"sent", return_sent, true}, {0}};

/* ---- delete, kick-job and reserve-job, of jobs that nobody holds ---- */

enum { JOB_SEND = 2 };

static enum err job_begin(struct script *s)
{
    struct tube_state *st = s->state;
    if (!job_id_parse(input(s)->command.id, s->partitions, &st->name)) {
        return tube_say(s, "NOT_FOUND\r\n");
    }
    script_read(s, st->name.partition);
    return OK;
}

#define ASK(member, value) FIELD_SET(job_ask_fields, &st->ask, struct job_ask, member, value)

static enum err job_named(struct script *s)
{
    struct tube_state *st = s->state;
    struct topic topic;
    struct bytes name;
    enum tube_verb verb = input(s)->command.verb;
    enum err err = tube_of_job(s, &st->name, &name, &topic);
    if (err == ERR_NOT_FOUND) {
        return tube_say(s, "NOT_FOUND\r\n");
    }
    TRY(err);
    set_topic(s, name);
    ASK(group, bytes_str(tube_group));
    ASK(verb, verb == TUBE_DELETE ? JOB_DELETE : verb == TUBE_KICK_JOB ? JOB_KICK : JOB_RESERVE);
    ASK(message, (int64_t)st->name.message);
    return OK;
}

static enum err job_send(struct script *s)
{
    struct tube_state *st = s->state;
    script_command(s, KIND_QUEUE, QUEUE_DO_JOB, (struct address){st->name.partition, input(s)->topic}, &st->ask, false);
    return OK;
}

static enum err job_sent(struct script *s)
{
    struct tube_state *st = s->state;
    struct job_done done = {0};
    TRY(s->err == ERR_NOT_FOUND ? OK : s->err); /* the topic is gone */
    TRY(s->err == OK ? field_unpack(job_done_fields, buf_bytes(&s->answer.body), &done) : OK);
    if (done.more && st->client.tries++ < ROUNDS) {
        script_goto(s, JOB_SEND);
        return OK;
    }
    enum tube_verb verb = input(s)->command.verb;
    if (done.count == 0 || (verb == TUBE_RESERVE_JOB && done.id == 0)) {
        return tube_say(s, "NOT_FOUND\r\n");
    }
    if (verb != TUBE_RESERVE_JOB) {
        return tube_say(s, verb == TUBE_DELETE ? "DELETED\r\n" : "KICKED\r\n");
    }
    st->client.received =
        (struct received){.smallest = (uint64_t)done.smallest, .id = (uint64_t)done.id, .gid = (uint32_t)done.gid};
    script_applied(s, st->name.partition, s->answer.index);
    return OK;
}

static enum err job_deliver(struct script *s)
{
    const struct tube_state *st = s->state;
    enum err err = take_delivered(s, st->name.partition, &st->client.received);
    return err == ERR_NOT_FOUND ? tube_say(s, "NOT_FOUND\r\n") : err;
}

const struct step tube_job_steps[] = {{"begin", job_begin, false},     {"named", job_named, false},
                                      {"send", job_send, false},       {"sent", job_sent, true},
                                      {"deliver", job_deliver, false}, {0}};

/* ---- kick ---- */

enum { KICK_SEND = 2 };

static enum err kick_begin(struct script *s)
{
    set_topic(s, tube_text(&input(s)->session->used));
    return client_find_fresh(s);
}

static enum err kick_found(struct script *s)
{
    struct tube_state *st = s->state;
    enum err err = client_found(s);
    TRY(err == ERR_NOT_FOUND ? OK : err);
    return err == OK && topic_allows(&st->client.topic, &s->caller, USE_CONSUME) ? OK : tube_say(s, "KICKED 0\r\n");
}

static enum err kick_send(struct script *s)
{
    struct tube_state *st = s->state;
    uint64_t left = input(s)->command.bound - st->kicked;
    ASK(group, bytes_str(tube_group));
    ASK(verb, JOB_KICK_SOME);
    ASK(max, left < LIMIT_RING_MOVES ? (int64_t)left : LIMIT_RING_MOVES);
    script_command(s, KIND_QUEUE, QUEUE_DO_JOB, client_address(s, st->client.shard), &st->ask, false);
    return OK;
}

static enum err kick_sent(struct script *s)
{
    struct tube_state *st = s->state;
    struct job_done done = {0};
    TRY(s->err == ERR_NOT_FOUND ? OK : s->err);
    TRY(s->err == OK ? field_unpack(job_done_fields, buf_bytes(&s->answer.body), &done) : OK);
    st->kicked += (uint64_t)done.count;
    st->client.shard += !done.more;
    if (st->kicked < input(s)->command.bound && st->client.shard < st->client.shards) {
        script_goto(s, KICK_SEND);
        return OK;
    }
    buf_add_lit(&s->reply->body, "KICKED ");
    buf_add_u64(&s->reply->body, st->kicked);
    return tube_say(s, "\r\n");
}

const struct step tube_kick_steps[] = {{"begin", kick_begin, false},
                                       {"found", kick_found, false},
                                       {"send", kick_send, false},
                                       {"sent", kick_sent, true},
                                       {0}};

/* ---- pause-tube ---- */

enum { PAUSE_GROUP = 2 };

static enum err pause_begin(struct script *s)
{
    set_topic(s, input(s)->command.tube);
    return client_find_fresh(s);
}

/* A tube that is only used or watched is no topic yet. */
static enum err pause_make(struct script *s)
{
    struct tube_state *st = s->state;
    struct tube_users users;
    enum err err = client_found(s);
    if (err == OK) {
        return topic_allows(&st->client.topic, &s->caller, USE_CONSUME) ? OK : tube_say(s, "NOT_FOUND\r\n");
    }
    TRY(err == ERR_NOT_FOUND ? OK : err);
    if (!input(s)->host->users(input(s)->host, input(s)->command.tube, &users)) {
        return tube_say(s, "NOT_FOUND\r\n");
    }
    st->client.shards = 1;
    tube_settings(s, input(s)->topic, &st->client.put);
    script_command(s, KIND_QUEUE, QUEUE_DO_PUT, (struct address){st->client.home, input(s)->topic}, &st->client.put,
                   false);
    return OK;
}

/* Nothing is kicked, but afterwards there is a group that can be paused. */
static enum err pause_group(struct script *s)
{
    struct tube_state *st = s->state;
    ASK(group, bytes_str(tube_group));
    ASK(verb, JOB_KICK_SOME);
    ASK(max, 0);
    script_command(s, KIND_QUEUE, QUEUE_DO_JOB, client_address(s, st->client.shard), &st->ask, false);
    return OK;
}

static enum err pause_send(struct script *s)
{
    struct tube_state *st = s->state;
    struct group_ask *ask = &st->client.ask;
    int64_t until = s->now_ms + bounded_ms((int64_t)input(s)->command.delay_s * 1000);
    FIELD_SET(group_ask_fields, ask, struct group_ask, group, bytes_str(tube_group));
    FIELD_SET(group_ask_fields, ask, struct group_ask, verb, GROUP_PAUSE);
    FIELD_SET(group_ask_fields, ask, struct group_ask, at, until);
    script_command(s, KIND_QUEUE, QUEUE_DO_GROUP, client_address(s, st->client.shard), ask, false);
    return OK;
}

static enum err pause_sent(struct script *s)
{
    struct tube_state *st = s->state;
    if (++st->client.shard < st->client.shards) {
        script_goto(s, PAUSE_GROUP);
        return OK;
    }
    return tube_say(s, "PAUSED\r\n");
}

const struct step tube_pause_steps[] = {{"begin", pause_begin, false}, {"make", pause_make, false},
                                        {"group", pause_group, false}, {"send", pause_send, false},
                                        {"sent", pause_sent, false},   {0}};
