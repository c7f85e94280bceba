/* Looking: topics, groups, messages, dead letters. */
#include <stdlib.h>

#include "actors/queue/client.h"
#include "node/limits.h"

/* ---- behind a barrier of all the topic's partitions, one after the other ---- */

enum { INSPECT_READ = 2 };

/* Who may not consume does not see what is in it; who may do neither does not see it. */
static enum err inspect_found(struct script *s)
{
    TRY(client_found(s));
    if (client_may(s, USE_CONSUME) != OK) {
        return client_may(s, USE_PUBLISH) == OK ? ERR_FORBIDDEN : ERR_NOT_FOUND;
    }
    return OK;
}

static enum err inspect_read(struct script *s)
{
    const struct client *st = s->state;
    script_read(s, client_partition(s, st->shard));
    return OK;
}

static struct rows *shard_rows(struct script *s)
{
    const struct client *st = s->state;
    return script_rows(s, client_partition(s, st->shard));
}

static bool next_shard(struct script *s)
{
    struct client *st = s->state;
    if (++st->shard == st->shards) {
        return false;
    }
    script_goto(s, INSPECT_READ);
    return true;
}

/* The topic as the shard at hand has it. */
static enum err open_shard(struct script *s, uint64_t *out_tid, struct topic_state *out)
{
    const struct topic_in *in = s->in;
    struct topic topic;
    struct bytes name;
    TRY(topic_find(shard_rows(s), in->topic, &topic));
    *out_tid = (uint64_t)topic.tid;
    return topic_state_find(shard_rows(s), *out_tid, out, &name);
}

/* ---- a topic ---- */

#define OUT(member, value) FIELD_SET(topic_out_fields, out, struct topic_out, member, value)

void client_settings(struct topic_out *out, const struct topic *topic)
{
    OUT(name, topic->name);
    OUT(visibility_ms, topic->visibility_ms);
    OUT(max_attempts, topic->max_attempts);
    OUT(retention_ms, topic->retention_ms);
    OUT(max_messages, topic->max_messages);
    OUT(overflow, topic->overflow);
    OUT(dedup_window_ms, topic->dedup_window_ms);
    OUT(retain_acked, topic->retain_acked);
    OUT(partitions, topic->partitions);
    OUT(publish, topic->publish);
    OUT(consume, topic->consume);
    OUT(created_at, topic->created_at);
    OUT(updated_at, topic->updated_at);
    if (!id_is_none(topic->owner)) {
        OUT(owner, topic->owner);
    }
}

static void add_numbers(struct topic_out *out, const struct topic_state *state)
{
    int64_t groups = state->groups;
    OUT(messages, out->messages + (int64_t)state->retained);
    OUT(delayed, out->delayed + (int64_t)state->delayed);
    OUT(bytes, out->bytes + (int64_t)state->bytes);
    OUT(published, out->published + (int64_t)state->published);
    OUT(duplicates, out->duplicates + (int64_t)state->duplicates);
    OUT(dropped, out->dropped + (int64_t)state->dropped);
    OUT(groups, out->groups > groups ? out->groups : groups);
}

static enum err get_found(struct script *s)
{
    TRY(client_found(s));
    return client_may(s, USE_CONSUME) == OK || client_may(s, USE_PUBLISH) == OK ? OK : ERR_NOT_FOUND;
}

static enum err topic_look(struct script *s)
{
    struct client *st = s->state;
    struct topic_state state;
    uint64_t tid;
    TRY(open_shard(s, &tid, &state));
    add_numbers(&st->out, &state);
    if (!next_shard(s)) {
        client_settings(&st->out, &st->topic);
        reply_struct(s->reply, topic_out_fields, &st->out);
    }
    return OK;
}

const struct step get_topic_steps[] = {{"find", client_find_fresh, false},
                                       {"found", get_found, false},
                                       {"read", inspect_read, false},
                                       {"look", topic_look, false},
                                       {0}};

/* ---- all topics, by name ---- */

struct found_topic {
    struct bytes name;
    unsigned partition;
};

static int by_name(const void *a, const void *b)
{
    return bytes_cmp(((const struct found_topic *)a)->name, ((const struct found_topic *)b)->name);
}

/* The next name that concerns the caller in a partition; administrators see all. */
static enum err next_name(struct look *look, unsigned partition, struct bytes after, struct bytes *out)
{
    bool all = look->caller.role == ROLE_ADMIN;
    struct queue_key key = {.len = 0};
    struct bytes found, value;
    if (!all) {
        key_bytes_add(&key, id_bytes(&look->caller.account));
    }
    size_t prefix = key.len;
    key_bytes_add(&key, after);
    if (after.len > 0) {
        key_bytes_add(&key, bytes_of("", 1));
    }
    TRY(queue_ceil(look->rows(look, partition), all ? TABLE_TOPIC : TABLE_TOPIC_USER, &key, prefix, &found, &value));
    *out = arena_copy(look->arena, bytes_of(found.ptr + prefix, found.len - prefix));
    return OK;
}

static enum err add_topic(struct look *look, const struct found_topic *found, struct reply *reply)
{
    struct topic topic;
    struct topic_out out = {0};
    struct buf packed = {0};
    TRY(topic_find(look->rows(look, found->partition), found->name, &topic));
    for (unsigned shard = 0; shard < (unsigned)topic.partitions; shard++) {
        unsigned partition = (found->partition - 1 + shard) % look->partitions + 1;
        struct topic of_shard;
        struct topic_state state;
        struct bytes name;
        enum err err = topic_find(look->rows(look, partition), found->name, &of_shard);
        if (err == OK) {
            err = topic_state_find(look->rows(look, partition), (uint64_t)of_shard.tid, &state, &name);
        }
        if (err == OK) {
            add_numbers(&out, &state);
        } else if (err != ERR_NOT_FOUND) {
            return err;
        }
    }
    TRY(topic_find(look->rows(look, found->partition), found->name, &topic));
    client_settings(&out, &topic);
    field_pack(&packed, topic_out_fields, &out);
    reply_item(reply, topic_out_fields, buf_bytes(&packed));
    buf_free(&packed);
    return OK;
}

enum err list_topics_query(struct look *look, const void *raw, struct reply *reply)
{
    const struct list_topics *in = raw;
    size_t limit = in->limit > 0 ? (size_t)in->limit : LIMIT_PAGE_DEFAULT, len = 0;
    struct found_topic *all = arena_alloc(look->arena, look->partitions * (limit + 1) * sizeof *all);
    struct bytes end = BYTES_NONE, last = BYTES_NONE; /* end: where a partition was not looked through */
    if (in->cursor.len > 0 && !topic_name_is_good(in->cursor)) {
        return ERR_INVALID_CURSOR;
    }
    reply->list = true;
    reply->fields = topic_out_fields;
    for (unsigned p = 1; p <= look->partitions; p++) {
        struct bytes after = in->cursor;
        size_t looked = 0;
        for (size_t n = 0; n <= limit;) {
            if (looked++ == LIMIT_SCAN_ROWS) { /* of others nothing is known behind the first such place */
                end = end.len == 0 || bytes_cmp(after, end) < 0 ? after : end;
                break;
            }
            enum err err = next_name(look, p, after, &after);
            if (err == ERR_NOT_FOUND) {
                break;
            }
            TRY(err);
            all[len] = (struct found_topic){after, p};
            bool home = partition_of_name(after, look->partitions) == p; /* else one of its other partitions */
            len += home;
            n += home;
        }
    }
    qsort(all, len, sizeof *all, by_name);
    for (size_t i = 0; i < len && i < limit && (end.len == 0 || bytes_cmp(all[i].name, end) <= 0); i++) {
        TRY(add_topic(look, &all[i], reply));
        last = all[i].name;
    }
    if (end.len > 0 && (len <= limit || bytes_cmp(end, all[limit - 1].name) < 0)) {
        buf_add_bytes(&reply->cursor, end);
    } else if (len > limit) {
        buf_add_bytes(&reply->cursor, last);
    }
    return OK;
}

/* ---- groups ---- */

#undef OUT
#define OUT(member, value) FIELD_SET(group_out_fields, out, struct group_out, member, value)

enum err group_oldest_at(struct rows *rows, uint64_t tid, uint32_t gid, const struct group_state *group,
                         const struct topic_state *topic, int64_t *out)
{
    static const enum group_row kinds_of[] = {ROW_DELIVERY, ROW_PENDING};
    uint64_t number = group->passed < topic->available ? group->cursor : UINT64_MAX;
    struct bytes found, value;
    struct message message;
    for (size_t i = 0; i < ARRAY_LEN(kinds_of); i++) {
        struct queue_key key = group_key(tid, gid, kinds_of[i]);
        enum err err = queue_ceil(rows, TABLE_GROUP, &key, key.len, &found, &value);
        TRY(err == ERR_NOT_FOUND ? OK : err);
        if (err == OK && key_read_u64(found.ptr + key.len) < number) {
            number = key_read_u64(found.ptr + key.len);
        }
    }
    struct queue_key key = message_key(tid, number);
    enum err err = number == UINT64_MAX ? ERR_NOT_FOUND : queue_ceil(rows, TABLE_MESSAGE, &key, 8, &found, &value);
    *out = 0;
    if (err == OK) {
        TRY(message_read(value, &message));
        *out = message.available_at;
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err add_group(struct script *s, uint64_t tid, uint32_t gid, const struct topic_state *topic,
                          struct group_out *out)
{
    struct group_state g;
    struct bytes name;
    int64_t oldest;
    TRY(group_find(shard_rows(s), tid, gid, &g, &name));
    OUT(group, arena_copy(s->arena, name));
    TRY(group_oldest_at(shard_rows(s), tid, gid, &g, topic, &oldest));
    OUT(depth, out->depth + (int64_t)(topic->available - g.passed + g.ready + g.parked));
    OUT(in_flight, out->in_flight + (int64_t)g.in_flight);
    OUT(waiting, out->waiting + (int64_t)g.waiting);
    OUT(dead_letters, out->dead_letters + (int64_t)(g.dead + g.returned));
    OUT(delivered, out->delivered + (int64_t)g.delivered);
    OUT(redelivered, out->redelivered + (int64_t)g.redelivered);
    OUT(acked, out->acked + (int64_t)g.acked);
    OUT(expired, out->expired + (int64_t)g.expired);
    OUT(dropped, out->dropped + (int64_t)g.dropped);
    OUT(died, out->died + (int64_t)g.died);
    OUT(created_at, out->created_at == 0 || g.created_at < out->created_at ? g.created_at : out->created_at);
    OUT(active_at, out->active_at > g.active_at ? out->active_at : g.active_at);
    if (oldest > 0 && (out->oldest_at == 0 || oldest < out->oldest_at)) {
        OUT(oldest_at, oldest);
        OUT(oldest_age_ms, s->now_ms > oldest ? s->now_ms - oldest : 0);
    }
    if (g.paused_until > s->now_ms) {
        OUT(paused_until, g.paused_until);
    }
    return OK;
}

static enum err groups_look(struct script *s)
{
    struct group_list *st = s->state;
    struct topic_state state;
    struct queue_key key;
    struct bytes found, value;
    uint64_t tid;
    TRY(open_shard(s, &tid, &state));
    if (st->groups == NULL) {
        st->groups = arena_zalloc(s->arena, (size_t)LIMIT_GROUPS * st->client.shards * sizeof *st->groups);
    }
    key = queue_key(tid, ROW_GROUP_NAME);
    const size_t prefix = key.len;
    enum err err;
    while ((err = queue_ceil(shard_rows(s), TABLE_QUEUE, &key, prefix, &found, &value)) == OK) {
        struct bytes name = arena_copy(s->arena, bytes_of(found.ptr + prefix, found.len - prefix));
        uint32_t gid;
        size_t at = 0;
        memcpy(&gid, value.ptr, sizeof gid);
        while (at < st->len && !bytes_eq(st->groups[at].group, name)) {
            at++;
        }
        st->len += at == st->len;
        TRY(st->len <= (size_t)LIMIT_GROUPS * st->client.shards ? OK : ERR_CORRUPT);
        TRY(add_group(s, tid, gid, &state, &st->groups[at]));
        key.len = prefix;
        key_bytes_add(&key, name);
        key_bytes_add(&key, bytes_of("", 1));
    }
    TRY(err == ERR_NOT_FOUND ? OK : err);
    next_shard(s);
    return OK;
}

static enum err groups_answer(struct script *s)
{
    struct group_list *st = s->state;
    s->reply->list = true;
    s->reply->fields = group_out_fields;
    for (size_t i = 0; i < st->len; i++) {
        struct buf packed = {0};
        field_pack(&packed, group_out_fields, &st->groups[i]);
        reply_item(s->reply, group_out_fields, buf_bytes(&packed));
        buf_free(&packed);
    }
    return script_done(s);
}

const struct step groups_steps[] = {{"find", client_find_fresh, false}, {"found", inspect_found, false},
                                    {"read", inspect_read, false},      {"look", groups_look, false},
                                    {"answer", groups_answer, false},   {0}};

static enum err group_look(struct script *s)
{
    const struct group_in *in = s->in;
    struct group_list *st = s->state;
    struct topic_state state;
    uint64_t tid;
    uint32_t gid;
    TRY(open_shard(s, &tid, &state));
    if (st->groups == NULL) {
        st->groups = arena_zalloc(s->arena, sizeof *st->groups);
    }
    enum err err = group_find_gid(shard_rows(s), tid, in->group, &gid);
    if (err == OK) {
        st->len = 1;
        TRY(add_group(s, tid, gid, &state, st->groups));
    } else if (err != ERR_NOT_FOUND) {
        return err;
    }
    next_shard(s);
    return OK;
}

static enum err group_answer(struct script *s)
{
    struct group_list *st = s->state;
    TRY(st->len > 0 ? OK : ERR_NOT_FOUND);
    reply_struct(s->reply, group_out_fields, st->groups);
    return script_done(s);
}

const struct step group_steps[] = {{"find", client_find_fresh, false}, {"found", inspect_found, false},
                                   {"read", inspect_read, false},      {"look", group_look, false},
                                   {"answer", group_answer, false},    {0}};

/* ---- messages ---- */

/* A list goes on in a shard, behind a number. */
static void add_next(struct buf *out, unsigned partition, uint64_t number)
{
    buf_add_lit(out, "],\"next_cursor\":\"");
    message_id_add(out, partition, number);
    buf_add_lit(out, "\"}");
}

static enum err begin_list(struct script *s, struct bytes cursor)
{
    struct client *st = s->state;
    unsigned partition;
    TRY(inspect_found(s));
    s->reply->type = "application/json";
    buf_add_lit(&s->reply->body, "{\"items\":[");
    if (cursor.len == 0) {
        return OK;
    }
    if (!message_id_parse(cursor, &partition, &st->at)) {
        return ERR_INVALID_CURSOR;
    }
    while (st->shard < st->shards && client_partition(s, st->shard) != partition) {
        st->shard++;
    }
    return st->shard < st->shards ? OK : ERR_INVALID_CURSOR;
}

static enum err end_list(struct script *s)
{
    buf_add_lit(&s->reply->body, "],\"next_cursor\":null}");
    return script_done(s);
}

/* True: the page is full, and says where it goes on. */
static bool page_ends(struct script *s, size_t limit, uint64_t number)
{
    struct client *st = s->state;
    if ((size_t)st->count < limit && s->reply->body.len < LIMIT_ANSWER_BYTES) {
        return false;
    }
    add_next(&s->reply->body, client_partition(s, st->shard), number);
    (void)script_done(s);
    return true;
}

static size_t limit_of(int64_t given)
{
    return given > 0 ? (size_t)given : LIMIT_PAGE_DEFAULT;
}

static enum err browse_begin(struct script *s)
{
    return begin_list(s, ((const struct browse_in *)s->in)->from);
}

static enum err browse_look(struct script *s)
{
    const struct browse_in *in = s->in;
    struct client *st = s->state;
    struct topic_state state;
    uint64_t tid;
    TRY(open_shard(s, &tid, &state));
    for (;;) {
        struct queue_key key = message_key(tid, st->at);
        struct bytes found, row;
        struct message message;
        enum err err = queue_ceil(shard_rows(s), TABLE_MESSAGE, &key, 8, &found, &row);
        if (err == ERR_NOT_FOUND) {
            break;
        }
        TRY(err);
        st->at = key_read_u64(found.ptr + 8);
        if (page_ends(s, limit_of(in->limit), st->at)) {
            return OK;
        }
        TRY(message_read(row, &message));
        buf_add_str(&s->reply->body, st->count++ > 0 ? "," : "");
        json_message(&s->reply->body, client_partition(s, st->shard), &message, NULL);
        st->at++;
    }
    st->at = 0;
    return next_shard(s) ? OK : end_list(s);
}

const struct step browse_steps[] = {{"find", client_find_fresh, false},
                                    {"begin", browse_begin, false},
                                    {"read", inspect_read, false},
                                    {"look", browse_look, false},
                                    {0}};

static enum err message_begin(struct script *s)
{
    const struct message_id_in *in = s->in;
    struct client *st = s->state;
    unsigned partition;
    TRY(inspect_found(s));
    if (!message_id_parse(in->id, &partition, &st->at)) {
        return ERR_NOT_FOUND;
    }
    while (st->shard < st->shards && client_partition(s, st->shard) != partition) {
        st->shard++;
    }
    return st->shard < st->shards ? OK : ERR_NOT_FOUND;
}

static enum err message_look(struct script *s)
{
    struct client *st = s->state;
    struct topic_state state;
    uint64_t tid, number;
    struct bytes row;
    struct message message;
    TRY(open_shard(s, &tid, &state));
    TRY(queue_number_of(shard_rows(s), tid, st->at, &number));
    struct queue_key key = message_key(tid, number);
    enum err err = rows_get(shard_rows(s), TABLE_MESSAGE, key_of(&key), &row);
    if (err == ERR_NOT_FOUND) { /* delayed, perhaps */
        key = queue_key(tid, ROW_DELAYED);
        key_u64_add(&key, st->at);
        err = rows_get(shard_rows(s), TABLE_QUEUE, key_of(&key), &row);
    }
    TRY(err);
    TRY(message_read(row, &message));
    s->reply->type = "application/json";
    json_message(&s->reply->body, client_partition(s, st->shard), &message, NULL);
    return script_done(s);
}

const struct step message_steps[] = {{"find", client_find_fresh, false},
                                     {"begin", message_begin, false},
                                     {"read", inspect_read, false},
                                     {"look", message_look, false},
                                     {0}};

/* ---- dead letters ---- */

static enum err dead_begin(struct script *s)
{
    return begin_list(s, ((const struct dead_in *)s->in)->cursor);
}

/* One that came back from its next topic is whole; of the others the message is kept. */
static enum err add_dead(struct script *s, uint64_t tid, uint64_t number, struct bytes value)
{
    struct client *st = s->state;
    struct queue_key key = message_key(tid, number);
    struct bytes row;
    struct message message;
    struct dead dead;
    TRY(value.len >= sizeof dead ? OK : ERR_CORRUPT);
    memcpy(&dead, value.ptr, sizeof dead);
    row = bytes_of(value.ptr + sizeof dead, value.len - sizeof dead);
    TRY(row.len > 0 ? OK : rows_get(shard_rows(s), TABLE_MESSAGE, key_of(&key), &row));
    TRY(message_read(row, &message));
    buf_add_str(&s->reply->body, st->count++ > 0 ? "," : "");
    json_message(&s->reply->body, client_partition(s, st->shard), &message, &dead);
    return OK;
}

/* A cursor among those that came back, which are shown behind the others. */
#define RETURNED (1ULL << 63)

static enum err dead_rows(struct script *s, uint64_t tid, uint32_t gid, size_t limit, bool returned, bool *out_ended)
{
    struct client *st = s->state;
    *out_ended = false;
    for (;;) {
        struct queue_key key = group_key(tid, gid, returned ? ROW_RETURNED : ROW_DEAD);
        const size_t prefix = key.len;
        struct bytes found, value;
        key_u64_add(&key, st->at & ~RETURNED);
        enum err err = queue_ceil(shard_rows(s), TABLE_GROUP, &key, prefix, &found, &value);
        if (err != OK) {
            return err == ERR_NOT_FOUND ? OK : err;
        }
        st->at = key_read_u64(found.ptr + prefix) | (returned ? RETURNED : 0);
        *out_ended = page_ends(s, limit, st->at);
        if (*out_ended) {
            return OK;
        }
        TRY(add_dead(s, tid, st->at++ & ~RETURNED, value));
    }
}

static enum err dead_of_group(struct script *s, uint64_t tid, uint32_t gid, size_t limit, bool *out_ended)
{
    struct client *st = s->state;
    *out_ended = false;
    if (st->at < RETURNED) {
        TRY(dead_rows(s, tid, gid, limit, false, out_ended));
        st->at = *out_ended ? st->at : RETURNED;
    }
    return *out_ended ? OK : dead_rows(s, tid, gid, limit, true, out_ended);
}

static enum err dead_look(struct script *s)
{
    const struct dead_in *in = s->in;
    struct client *st = s->state;
    struct topic_state state;
    uint64_t tid;
    uint32_t gid;
    bool ended = false;
    TRY(open_shard(s, &tid, &state));
    enum err err = group_find_gid(shard_rows(s), tid, in->group, &gid);
    if (err == OK) {
        st->fresh = true; /* the group is there */
        TRY(dead_of_group(s, tid, gid, limit_of(in->limit), &ended));
    } else if (err != ERR_NOT_FOUND) {
        return err;
    }
    if (ended) {
        return OK;
    }
    st->at = 0;
    return next_shard(s) ? OK : st->fresh ? end_list(s) : ERR_NOT_FOUND;
}

const struct step dead_steps[] = {{"find", client_find_fresh, false},
                                  {"begin", dead_begin, false},
                                  {"read", inspect_read, false},
                                  {"look", dead_look, false},
                                  {0}};
