/* Commands that only look: peeking, statistics, lists. */
#include <stdlib.h>

#include "actors/facades/beanstalkd_script.h"

static enum err not_found(struct script *s)
{
    return tube_say(s, "NOT_FOUND\r\n");
}

/* ---- YAML, as the protocol has it: "OK bytes", and the text ---- */

static void add(struct buf *yaml, const char *name, uint64_t value)
{
    buf_add_str(yaml, name);
    buf_add_lit(yaml, ": ");
    buf_add_u64(yaml, value);
    buf_add_char(yaml, '\n');
}

static void add_text(struct buf *yaml, const char *name, struct bytes text)
{
    buf_add_str(yaml, name);
    buf_add_lit(yaml, ": ");
    buf_add_bytes(yaml, text);
    buf_add_char(yaml, '\n');
}

static enum err say_yaml(struct script *s, struct buf *yaml)
{
    struct buf *out = &s->reply->body;
    buf_add_lit(out, "OK ");
    buf_add_u64(out, yaml->len);
    buf_add_lit(out, "\r\n");
    buf_add_bytes(out, buf_bytes(yaml));
    buf_free(yaml);
    return tube_say(s, "\r\n");
}

/* ---- a job, by its id ---- */

/* The job, as the partition's rows have it. */
struct looked {
    struct bytes tube;
    struct tube_shard shard;
    struct job_found job;
};

static enum err id_begin(struct script *s)
{
    struct tube_state *st = s->state;
    if (!job_id_parse(tube_input(s)->command.id, s->partitions, &st->name)) {
        return not_found(s);
    }
    script_read(s, st->name.partition);
    return OK;
}

static enum err look_at_job(struct script *s, struct looked *out)
{
    struct tube_state *st = s->state;
    struct topic topic;
    TRY(tube_of_job(s, &st->name, &out->tube, &topic));
    unsigned home = partition_of_name(out->tube, s->partitions);
    unsigned shard = (st->name.partition + s->partitions - home) % s->partitions;
    TRY(tube_shard_open(s, out->tube, shard, &out->shard));
    return job_find(&out->shard.queue, &out->shard.group, st->name.message, &out->job);
}

static enum err peek_look(struct script *s)
{
    struct looked looked;
    enum err err = look_at_job(s, &looked);
    if (err == OK) {
        return tube_say_job(s, "FOUND", tube_input(s)->command.id, looked.job.message.body);
    }
    return err == ERR_NOT_FOUND ? not_found(s) : err;
}

const struct step tube_peek_steps[] = {{"begin", id_begin, false}, {"look", peek_look, false}, {0}};

/* ---- stats-job ---- */

struct job_numbers {
    const char *state;
    uint32_t attempts, priority;
    int64_t until; /* 0: no time counts */
};

/* How often it was delivered, and to when it is held. A job's delivery is of that job alone. */
static enum err flight_of(struct looked *looked, struct job_numbers *out)
{
    const struct tube_shard *shard = &looked->shard;
    struct queue_key key = group_key(shard->tid, shard->group.gid, ROW_DELIVERY);
    struct bytes found, value;
    struct delivery delivery;
    size_t prefix = key.len;
    key_u64_add(&key, looked->job.number);
    enum err err = queue_ceil(shard->rows, TABLE_GROUP, &key, key.len, &found, &value);
    if (err != OK) { /* it was taken with others, under /v1 */
        out->attempts = 1;
        return err == ERR_NOT_FOUND ? OK : err;
    }
    TRY(delivery_find(shard->rows, shard->turn.arena, shard->tid, shard->group.gid, looked->job.number,
                      key_read_u64(found.ptr + prefix + 8), &delivery));
    out->attempts = delivery.entries[0].attempts;
    out->priority = delivery.entries[0].priority;
    out->until = delivery.entries[0].deadline;
    return OK;
}

static enum err numbers_of(struct looked *looked, struct job_numbers *out)
{
    const struct job_found *job = &looked->job;
    *out = (struct job_numbers){"ready", 0, job->message.priority, 0};
    switch (job->place) {
    case JOB_UNTAKEN: return OK;
    case JOB_READY:
    case JOB_PARKED:
    case JOB_WAITING:
        *out = (struct job_numbers){job->place == JOB_WAITING ? "delayed" : "ready", job->pending.attempts,
                                    job->pending.priority, job->place == JOB_WAITING ? job->pending.until : 0};
        return OK;
    case JOB_DEAD: *out = (struct job_numbers){"buried", job->dead.attempts, job->dead.priority, 0}; return OK;
    case JOB_DELAYED:
        out->state = "delayed";
        out->until = job->message.available_at;
        return OK;
    case JOB_AWAY: break;
    }
    out->state = "reserved";
    return flight_of(looked, out);
}

static uint64_t seconds(int64_t ms)
{
    return ms > 0 ? (uint64_t)(ms / 1000) : 0;
}

static enum err say_job(struct script *s, struct looked *looked)
{
    const struct message *message = &looked->job.message;
    int64_t published_at = message->published_at, available_at = message->available_at;
    uint32_t lease_s = looked->job.lease_s;
    struct job_numbers numbers;
    struct past past = {0};
    struct buf yaml = {0};
    TRY(numbers_of(looked, &numbers));
    TRY(looked->job.number == 0
            ? OK
            : past_find(looked->shard.rows, looked->shard.tid, looked->shard.group.gid, looked->job.number, &past));
    bool put = past.releases == 0 && past.delay_s == 0;
    buf_add_lit(&yaml, "---\n");
    add(&yaml, "id", tube_input(s)->command.id);
    add_text(&yaml, "tube", looked->tube);
    add_text(&yaml, "state", bytes_str(numbers.state));
    add(&yaml, "pri", numbers.priority);
    add(&yaml, "age", seconds(s->now_ms - published_at));
    add(&yaml, "delay", put ? seconds(available_at - published_at) : past.delay_s);
    add(&yaml, "ttr", lease_s > 0 ? lease_s : seconds(looked->shard.topic.visibility_ms));
    add(&yaml, "time-left", seconds(numbers.until - s->now_ms));
    add(&yaml, "file", 0);
    add(&yaml, "reserves", (uint64_t)past.reserves + numbers.attempts);
    add(&yaml, "timeouts", past.timeouts);
    add(&yaml, "releases", past.releases);
    add(&yaml, "buries", past.buries);
    add(&yaml, "kicks", past.kicks);
    return say_yaml(s, &yaml);
}

static enum err stats_job_look(struct script *s)
{
    struct looked looked;
    enum err err = look_at_job(s, &looked);
    if (err == OK) {
        return say_job(s, &looked);
    }
    return err == ERR_NOT_FOUND ? not_found(s) : err;
}

const struct step tube_stats_job_steps[] = {{"begin", id_begin, false}, {"look", stats_job_look, false}, {0}};

/* ---- all partitions of a tube ---- */

static enum err read_all(struct script *s)
{
    script_read(s, SCRIPT_ALL_PARTITIONS);
    return OK;
}

/* ---- peek-ready, peek-delayed, peek-buried ---- */

static enum err first_of(struct tube_shard *shard, enum tube_verb verb, uint64_t *out_message)
{
    struct message message;
    uint64_t number;
    uint32_t priority;
    if (verb == TUBE_PEEK_DELAYED) {
        struct job_delayed *all;
        size_t len;
        TRY(job_all_delayed(&shard->queue, &shard->group, &all, &len));
        TRY(len > 0 ? OK : ERR_NOT_FOUND);
        *out_message = all[0].message;
        number = all[0].number;
        if (number == 0) {
            return OK;
        }
    } else if (verb == TUBE_PEEK_BURIED) {
        TRY(job_first_dead(&shard->queue, &shard->group, &number));
    } else {
        TRY(receive_peek(&shard->queue, &shard->group, &number, &priority));
    }
    TRY(queue_message(&shard->queue, number, &message));
    *out_message = message.id;
    return OK;
}

static enum err peek_tube(struct script *s)
{
    struct bytes name = tube_text(&tube_input(s)->session->used);
    struct tube_shard shard;
    unsigned shards = 1;
    for (unsigned i = 0; i < shards; i++) {
        struct job_found job;
        uint64_t message = 0;
        enum err err = tube_shard_open(s, name, i, &shard);
        shards = err == OK ? (unsigned)shard.topic.partitions : shards;
        err = err == OK ? first_of(&shard, tube_input(s)->command.verb, &message) : err;
        err = err == OK ? job_find(&shard.queue, &shard.group, message, &job) : err;
        if (err == OK) {
            struct job_name job_name = {shard.partition, shard.state.ordinal, message};
            return tube_say_job(s, "FOUND", job_id(job_name, s->partitions), job.message.body);
        }
        TRY(err == ERR_NOT_FOUND ? OK : err);
    }
    return not_found(s);
}

const struct step tube_peek_tube_steps[] = {{"read", read_all, false}, {"peek", peek_tube, false}, {0}};

/* ---- numbers of tubes ---- */

struct tube_numbers {
    unsigned looked; /* rows, for the urgent ones of all tubes: they are counted up to a bound */
    uint64_t urgent, ready, reserved, delayed, buried, total, deleted, pauses, timeouts;
    int64_t paused_at, paused_until;
};

/* Ready jobs more urgent than usual stand in lanes, or were taken before. */
static enum err count_urgent(struct tube_shard *shard, struct tube_numbers *sum)
{
    struct queue_key key = queue_key(shard->tid, ROW_LANE), ready = group_key(shard->tid, shard->group.gid, ROW_READY);
    struct bytes found, value;
    const size_t prefix = key.len, ready_prefix = ready.len;
    enum err err = OK;
    for (; sum->looked < JOB_LOOKS && shard->state.apart > 0; sum->looked++) {
        struct message message;
        bool taken;
        err = queue_ceil(shard->rows, TABLE_QUEUE, &key, prefix, &found, &value);
        if (err != OK || key_read_u32(found.ptr + prefix) >= PRIORITY_USUAL) {
            break;
        }
        key.len = 0;
        key_bytes_add(&key, found);
        uint64_t number = key_read_u64(key.b + prefix + 4);
        key_bytes_add(&key, bytes_of("", 1));
        TRY(queue_message(&shard->queue, number, &message));
        TRY(group_has_taken(&shard->queue, &shard->group, number, &message, &taken));
        sum->urgent += !taken;
    }
    TRY(err == ERR_NOT_FOUND ? OK : err);
    for (; sum->looked < 2 * JOB_LOOKS && shard->group.state.ready > 0; sum->looked++) {
        err = queue_ceil(shard->rows, TABLE_GROUP, &ready, ready_prefix, &found, &value);
        if (err != OK || key_read_u32(found.ptr + ready_prefix) >= PRIORITY_USUAL) {
            break;
        }
        ready.len = 0;
        key_bytes_add(&ready, found);
        key_bytes_add(&ready, bytes_of("", 1));
        sum->urgent++;
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err add_shard(struct tube_shard *shard, struct tube_numbers *sum)
{
    const struct group_state *group = &shard->group.state;
    TRY(count_urgent(shard, sum));
    sum->ready += shard->state.available - group->passed + group->ready + group->parked;
    sum->reserved += group->in_flight;
    sum->delayed += shard->state.delayed + group->waiting;
    sum->buried += group->dead + group->returned;
    sum->total += shard->state.published;
    sum->deleted += group->acked + group->deleted;
    sum->timeouts += group->timeouts;
    sum->pauses = group->pauses > sum->pauses ? group->pauses : sum->pauses;
    sum->paused_at = group->paused_at;
    sum->paused_until = group->paused_until;
    return OK;
}

/* Errors: ERR_NOT_FOUND. */
static enum err add_tube(struct script *s, struct bytes name, struct tube_numbers *sum)
{
    struct tube_shard shard;
    unsigned shards = 1;
    bool found = false;
    for (unsigned i = 0; i < shards; i++) {
        enum err err = tube_shard_open(s, name, i, &shard);
        TRY(err == ERR_NOT_FOUND ? OK : err);
        if (err == OK) {
            shards = (unsigned)shard.topic.partitions;
            found = true;
            TRY(add_shard(&shard, sum));
        }
    }
    return found ? OK : ERR_NOT_FOUND;
}

static void add_jobs(struct buf *yaml, const struct tube_numbers *numbers)
{
    add(yaml, "current-jobs-urgent", numbers->urgent);
    add(yaml, "current-jobs-ready", numbers->ready);
    add(yaml, "current-jobs-reserved", numbers->reserved);
    add(yaml, "current-jobs-delayed", numbers->delayed);
    add(yaml, "current-jobs-buried", numbers->buried);
}

static enum err stats_tube_look(struct script *s)
{
    const struct tube_in *in = tube_input(s);
    struct tube_numbers numbers = {0};
    struct tube_users users = {0};
    struct buf yaml = {0};
    bool known = in->host->users(in->host, in->command.tube, &users);
    enum err err = add_tube(s, in->command.tube, &numbers);
    if (err == ERR_NOT_FOUND && !known) {
        return not_found(s);
    }
    TRY(err == ERR_NOT_FOUND ? OK : err);
    bool paused = numbers.paused_until > s->now_ms;
    buf_add_lit(&yaml, "---\n");
    add_text(&yaml, "name", in->command.tube);
    add_jobs(&yaml, &numbers);
    add(&yaml, "total-jobs", numbers.total);
    add(&yaml, "current-using", users.using);
    add(&yaml, "current-watching", users.watching);
    add(&yaml, "current-waiting", users.waiting);
    add(&yaml, "cmd-delete", numbers.deleted);
    add(&yaml, "cmd-pause-tube", numbers.pauses);
    add(&yaml, "pause", paused ? seconds(numbers.paused_until - numbers.paused_at + 500) : 0);
    add(&yaml, "pause-time-left", paused ? seconds(numbers.paused_until - s->now_ms) : 0);
    return say_yaml(s, &yaml);
}

const struct step tube_stats_tube_steps[] = {{"read", read_all, false}, {"look", stats_tube_look, false}, {0}};

/* ---- all tubes: topics that the facade has made, and what its connections here use or watch ---- */

struct tube_names {
    struct bytes *list;
    size_t len, cap;
};

static void add_name(struct script *s, struct tube_names *names, struct bytes name)
{
    if (names->len >= LIMIT_TUBES_LISTED) {
        return;
    }
    if (names->len == names->cap) {
        size_t cap = names->cap == 0 ? 64 : 2 * names->cap;
        struct bytes *list = arena_alloc(s->arena, cap * sizeof *list);
        if (names->len > 0) {
            memcpy(list, names->list, names->len * sizeof *list);
        }
        names->list = list;
        names->cap = cap;
    }
    names->list[names->len++] = arena_copy(s->arena, name);
}

static enum err names_of_partition(struct script *s, unsigned partition, struct tube_names *names)
{
    struct queue_key key = {.len = 0};
    struct bytes found, value;
    enum err err = OK;
    key_bytes_add(&key, id_bytes(&s->caller.account));
    const size_t prefix = key.len;
    for (unsigned n = 0; n < LIMIT_TUBES_LISTED / s->partitions; n++) {
        err = queue_ceil(script_rows(s, partition), TABLE_TOPIC_USER, &key, prefix, &found, &value);
        if (err != OK) {
            break;
        }
        key.len = 0;
        key_bytes_add(&key, found);
        struct bytes name = bytes_of(key.b + prefix, key.len - prefix);
        if (partition_of_name(name, s->partitions) == partition) { /* else of a wide topic another part */
            add_name(s, names, name);
        }
        key_bytes_add(&key, bytes_of("", 1));
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static int by_text(const void *a, const void *b)
{
    return bytes_cmp(*(const struct bytes *)a, *(const struct bytes *)b);
}

static enum err all_names(struct script *s, struct tube_names *names)
{
    const struct tube_host *host = tube_input(s)->host;
    struct bytes *others;
    size_t len = host->tubes(host, s->arena, &others), kept = 0;
    for (unsigned p = 1; p <= s->partitions; p++) {
        TRY(names_of_partition(s, p, names));
    }
    for (size_t i = 0; i < len; i++) {
        add_name(s, names, others[i]);
    }
    add_name(s, names, BYTES_LIT("default"));
    qsort(names->list, names->len, sizeof *names->list, by_text);
    for (size_t i = 0; i < names->len; i++) {
        if (kept == 0 || !bytes_eq(names->list[kept - 1], names->list[i])) {
            names->list[kept++] = names->list[i];
        }
    }
    names->len = kept;
    return OK;
}

static enum err list_look(struct script *s)
{
    struct tube_names names = {0};
    struct buf yaml = {0};
    TRY(all_names(s, &names));
    buf_add_lit(&yaml, "---\n");
    for (size_t i = 0; i < names.len; i++) {
        buf_add_lit(&yaml, "- ");
        buf_add_bytes(&yaml, names.list[i]);
        buf_add_char(&yaml, '\n');
    }
    return say_yaml(s, &yaml);
}

const struct step tube_list_steps[] = {{"read", read_all, false}, {"look", list_look, false}, {0}};

/* ---- stats ---- */

static void add_commands(struct buf *yaml, const struct tube_totals *totals)
{
    static const enum tube_verb shown[] = {
        TUBE_PUT,           TUBE_PEEK,      TUBE_PEEK_READY,   TUBE_PEEK_DELAYED, TUBE_PEEK_BURIED, TUBE_RESERVE,
        TUBE_RESERVE_TIMED, TUBE_DELETE,    TUBE_RELEASE,      TUBE_USE,          TUBE_WATCH,       TUBE_IGNORE,
        TUBE_BURY,          TUBE_KICK,      TUBE_TOUCH,        TUBE_STATS,        TUBE_STATS_JOB,   TUBE_STATS_TUBE,
        TUBE_LIST,          TUBE_LIST_USED, TUBE_LIST_WATCHED, TUBE_PAUSE};
    for (size_t i = 0; i < ARRAY_LEN(shown); i++) {
        buf_add_lit(yaml, "cmd-");
        add(yaml, tube_verb_names[shown[i]], totals->commands[shown[i]]);
    }
}

static void add_process(struct buf *yaml, const struct tube_totals *totals)
{
    add(yaml, "current-connections", totals->connections);
    add(yaml, "current-producers", totals->producers);
    add(yaml, "current-workers", totals->workers);
    add(yaml, "current-waiting", totals->waiting);
    add(yaml, "total-connections", totals->total_connections);
    add(yaml, "pid", (uint64_t)totals->pid);
    buf_add_lit(yaml, "version: \"1.12\"\n");
    buf_printf(yaml, "rusage-utime: %.6f\nrusage-stime: %.6f\n", totals->user_s, totals->system_s);
    add(yaml, "uptime", (uint64_t)totals->uptime_s);
    buf_add_lit(yaml, "binlog-oldest-index: 0\nbinlog-current-index: 0\nbinlog-records-migrated: 0\n"
                      "binlog-records-written: 0\nbinlog-max-size: 0\n");
    add_text(yaml, "draining", bytes_str(totals->draining ? "true" : "false"));
    add_text(yaml, "id", bytes_str(totals->name));
    buf_add_lit(yaml, "hostname: belfry\nos: Linux\nplatform: belfry\n");
}

static enum err stats_look(struct script *s)
{
    const struct tube_host *host = tube_input(s)->host;
    struct tube_names names = {0};
    struct tube_numbers sum = {0};
    struct tube_totals totals = {0};
    struct buf yaml = {0};
    TRY(all_names(s, &names));
    for (size_t i = 0; i < names.len; i++) {
        enum err err = add_tube(s, names.list[i], &sum);
        TRY(err == ERR_NOT_FOUND ? OK : err);
    }
    host->totals(host, &totals);
    buf_add_lit(&yaml, "---\n");
    add_jobs(&yaml, &sum);
    add_commands(&yaml, &totals);
    add(&yaml, "job-timeouts", sum.timeouts);
    add(&yaml, "total-jobs", sum.total);
    add(&yaml, "max-job-size", LIMIT_MESSAGE_BYTES);
    add(&yaml, "current-tubes", names.len);
    add_process(&yaml, &totals);
    return say_yaml(s, &yaml);
}

const struct step tube_stats_steps[] = {{"read", read_all, false}, {"look", stats_look, false}, {0}};
