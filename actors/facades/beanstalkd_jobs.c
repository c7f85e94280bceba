/* Putting and reserving, and what all scripts share. */
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

const struct tube_in *tube_input(const struct script *s)
{
    return s->in;
}

void tube_set_topic(struct script *s, struct bytes name)
{
    struct tube_state *st = s->state;
    tube_input(s)->self->topic = name;
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

enum err tube_deliver(struct script *s, unsigned partition, const struct received *received)
{
    const struct tube_in *in = tube_input(s);
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
    const struct tube_command *command = &tube_input(s)->command;
    struct buf item = {0};
    struct publish_head head = {.delay_ms = (int64_t)command->delay_s * 1000};
    struct message message = {.flags = MESSAGE_BASE64,
                              .priority = command->priority,
                              .lease_s = command->ttr_s > 0 ? command->ttr_s : 1,
                              .body = command->body};
    publish_add(&item, head, &message);
    st->client.item = arena_copy(s->arena, buf_bytes(&item));
    buf_free(&item);
    tube_set_topic(s, tube_text(&tube_input(s)->session->used));
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
    tube_settings(s, tube_input(s)->topic, &st->client.put);
    script_command(s, KIND_QUEUE, QUEUE_DO_PUT, (struct address){st->client.home, tube_input(s)->topic},
                   &st->client.put, false);
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
    enum err err = topic_find(script_rows(s, partition), tube_input(s)->topic, &topic);
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
    const struct tube_state *st = s->state;
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
    uint64_t id = job_id(job, s->partitions);
    TRY(id != 0 ? OK : ERR_INTERNAL); /* there is no room for a number of it */
    buf_add_lit(&s->reply->body, "INSERTED ");
    buf_add_u64(&s->reply->body, id);
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
    const struct tube_in *in = tube_input(s);
    struct tube_state *st = s->state;
    const struct receive_ask ask = {.max = 1, .visibility_ms = -1};
    bool timed = in->command.verb == TUBE_RESERVE_TIMED;
    (void)tube_first_deadline(in->session, s->now_ms);
    if (in->session->held_len >= LIMIT_HELD_JOBS) {
        return tube_say(s, "OUT_OF_MEMORY\r\n");
    }
    st->client.until_ms = timed ? s->now_ms + (int64_t)in->command.timeout_s * 1000 : INT64_MAX;
    st->client.item = group_item(s, &ask, sizeof ask);
    st->tried = arena_zalloc(s->arena, in->session->watched_len);
    bool waits = !timed || in->command.timeout_s > 0;
    for (size_t i = 0; i < in->session->watched_len && waits; i++) {
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
    *out = err == OK ? message.published_at : INT64_MAX;
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err compare(struct script *s, size_t at, unsigned which, struct tube_shard *shard, struct best *best)
{
    const struct group_state *group = &shard->group.state;
    struct best found = {true, at, which, (unsigned)shard->topic.partitions, PRIORITY_USUAL, 0};
    bool has = group->paused_until <= s->now_ms && (group->ready > 0 || group->passed < shard->state.available);
    if (has && (tube_input(s)->session->watched_len > 1 || found.shards > 1)) {
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
        enum err err = tube_shard_open(s, tube_text(&tube_input(s)->session->watched[at]), i, &shard);
        if (err == ERR_NOT_FOUND) {
            continue;
        }
        TRY(err);
        shards = (unsigned)shard.topic.partitions;
        TRY(compare(s, at, i, &shard, best));
    }
    return OK;
}

/* Who says that there is nothing must know, and so must who chooses: a partition after the other, but all if there are
 * many, for which each of them must have a leader that is sure. */
enum { FRESH_TUBES = 8 };

static enum err look_fresh(struct script *s)
{
    const struct tube_session *session = tube_input(s)->session;
    struct tube_state *st = s->state;
    bool all = session->watched_len > FRESH_TUBES || st->wide;
    struct bytes name = tube_text(&session->watched[st->reads]);
    unsigned home = partition_of_name(name, s->partitions);
    struct topic topic;
    if (!all && topic_find(script_rows(s, home), name, &topic) == OK) {
        st->wide = topic.partitions > 1;
    }
    st->reads++;
    st->fresh = all || st->wide || st->reads == session->watched_len;
    script_read(s, all || st->wide ? SCRIPT_ALL_PARTITIONS : home);
    script_goto(s, RESERVE_LOOK);
    return OK;
}

static enum err reserve_look(struct script *s)
{
    const struct tube_session *session = tube_input(s)->session;
    struct tube_state *st = s->state;
    struct best best = {.priority = UINT32_MAX};
    if (session->watched_len > 1 && !st->fresh) {
        return look_fresh(s); /* a more urgent one may not be known here yet */
    }
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
    tube_set_topic(s, tube_text(&session->watched[best.at]));
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
    if (st->rung) {
        script_asked(s, topic_watch_id(tube_input(s)->topic), received->id != 0);
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
    enum err err = tube_deliver(s, client_partition(s, st->client.shard), &st->client.received);
    if (err == ERR_NOT_FOUND) {
        script_goto(s, RESERVE_LOOK);
        return OK;
    }
    return err;
}

/* When the first job that the connection holds is about to be taken from it. */
static int64_t deadline_soon(struct tube_session *session, int64_t now_ms)
{
    int64_t first = tube_first_deadline(session, now_ms);
    return first == INT64_MAX ? first : first - SOON_MS;
}

static enum err reserve_wait(struct script *s)
{
    const struct tube_in *in = tube_input(s);
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
    const struct tube_in *in = tube_input(s);
    struct tube_state *st = s->state;
    in->host->waits(in->host, in->session, false);
    memset(st->tried, 0, in->session->watched_len);
    st->fresh = st->rung = s->rung; /* what rang is here already */
    st->reads = 0;
    st->client.tries = 0;
    script_goto(s, s->draining ? RESERVE_WAIT : RESERVE_LOOK);
    return OK;
}

const struct step tube_reserve_steps[] = {{"begin", reserve_begin, false},     {"look", reserve_look, false},
                                          {"ask", reserve_ask, false},         {"got", reserve_got, true},
                                          {"deliver", reserve_deliver, false}, {"wait", reserve_wait, false},
                                          {"waited", reserve_waited, false},   {0}};
