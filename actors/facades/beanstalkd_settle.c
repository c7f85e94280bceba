/* What is done with jobs: deleting, releasing, burying, kicking, giving back; and pausing tubes. */
#include "actors/facades/beanstalkd_script.h"

enum { ROUNDS = 1000 };

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
    const struct tube_in *in = tube_input(s);
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
    tube_set_topic(s, arena_copy(s->arena, tube_text(&st->job->tube)));
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
    in->topic = tube_input(s)->topic;
    in->group = bytes_str(tube_group);
    in->receipts = arena_copy(s->arena, buf_bytes(&receipts));
    buf_free(&receipts);
    buf_free(&receipt);
    settle->ok = "DELETED\r\n";
    settle->gone = "NOT_FOUND\r\n";
    tube_unhold(tube_input(s)->session, st->job);
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
    const struct tube_in *in = tube_input(s);
    struct tube_state *st = s->state;
    bool gone = s->err == ERR_NOT_FOUND || s->err == ERR_FORBIDDEN; /* the topic, or it is for others now */
    TRY(gone ? OK : s->err);
    TRY(gone || s->answer.body.len == 1 ? OK : ERR_INTERNAL);
    enum settle_result result = gone ? SETTLED_GONE : s->answer.body.ptr[0];
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

const struct step tube_settle_steps[] = {{"begin", settle_begin, false}, {"sent", settle_sent, true}, {0}};

/* ---- the connection is gone: its jobs are ready again ---- */

enum { RETURN_SEND = 0 };

/* Those of the last one's topic and partition. */
static enum err return_send(struct script *s)
{
    struct tube_session *session = tube_input(s)->session;
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
    tube_set_topic(s, arena_copy(s->arena, tube_text(&last.tube)));
    st->client.item = arena_copy(s->arena, buf_bytes(&item));
    buf_free(&item);
    script_join(s, KIND_QUEUE, QUEUE_DO_SETTLE, (struct address){last.receipt.partition, tube_input(s)->topic},
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
    if (!job_id_parse(tube_input(s)->command.id, s->partitions, &st->name)) {
        return tube_say(s, "NOT_FOUND\r\n");
    }
    (void)tube_first_deadline(tube_input(s)->session, s->now_ms);
    if (tube_input(s)->command.verb == TUBE_RESERVE_JOB && tube_input(s)->session->held_len >= LIMIT_HELD_JOBS) {
        return tube_say(s, "OUT_OF_MEMORY\r\n");
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
    enum tube_verb verb = tube_input(s)->command.verb;
    enum err err = tube_of_job(s, &st->name, &name, &topic);
    if (err == ERR_NOT_FOUND) {
        return tube_say(s, "NOT_FOUND\r\n");
    }
    TRY(err);
    tube_set_topic(s, name);
    ASK(group, bytes_str(tube_group));
    ASK(verb, verb == TUBE_DELETE ? JOB_DELETE : verb == TUBE_KICK_JOB ? JOB_KICK : JOB_RESERVE);
    ASK(message, (int64_t)st->name.message);
    return OK;
}

static enum err job_send(struct script *s)
{
    struct tube_state *st = s->state;
    script_command(s, KIND_QUEUE, QUEUE_DO_JOB, (struct address){st->name.partition, tube_input(s)->topic}, &st->ask,
                   false);
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
    enum tube_verb verb = tube_input(s)->command.verb;
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
    enum err err = tube_deliver(s, st->name.partition, &st->client.received);
    return err == ERR_NOT_FOUND ? tube_say(s, "NOT_FOUND\r\n") : err;
}

const struct step tube_job_steps[] = {{"begin", job_begin, false},     {"named", job_named, false},
                                      {"send", job_send, false},       {"sent", job_sent, true},
                                      {"deliver", job_deliver, false}, {0}};

/* ---- kick ---- */

enum { KICK_SEND = 2 };

static enum err kick_begin(struct script *s)
{
    tube_set_topic(s, tube_text(&tube_input(s)->session->used));
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
    uint64_t left = tube_input(s)->command.bound - st->kicked;
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
    if (st->kicked < tube_input(s)->command.bound && st->client.shard < st->client.shards) {
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
    tube_set_topic(s, tube_input(s)->command.tube);
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
    if (!tube_input(s)->host->users(tube_input(s)->host, tube_input(s)->command.tube, &users)) {
        return tube_say(s, "NOT_FOUND\r\n");
    }
    st->client.shards = 1;
    tube_settings(s, tube_input(s)->topic, &st->client.put);
    script_command(s, KIND_QUEUE, QUEUE_DO_PUT, (struct address){st->client.home, tube_input(s)->topic},
                   &st->client.put, false);
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
    int64_t until = s->now_ms + bounded_ms((int64_t)tube_input(s)->command.delay_s * 1000);
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
