/* GET …/stream: deliveries as Server-Sent Events. As many messages are on their way as the client gives credit for;
 * acknowledging them (POST …/ack) makes room for the next. */
#include "actors/join.h"
#include "actors/queue/client.h"
#include "node/limits.h"

struct id subscribe_watches(const void *in)
{
    return topic_watch_id(((const struct subscribe_in *)in)->topic);
}

enum { SUBSCRIBE_LOOK = 2 };

static enum err subscribe_begin(struct script *s)
{
    const struct subscribe_in *in = s->in;
    struct client *st = s->state;
    TRY(client_found(s));
    TRY(client_may(s, USE_CONSUME));
    if (!topic_name_is_good(in->group)) {
        return ERR_NOT_FOUND;
    }
    s->reply->type = "text/event-stream";
    TRY(id_is_none(s->caller.account) ? ERR_UNAUTHORIZED : OK);
    st->first = client_some_shard(s);
    return s->stream == 0 ? script_done(s) : OK;
}

/* How many more may be on their way, and whether there are any. */
static enum err credit_left(struct script *s, uint64_t *out)
{
    const struct subscribe_in *in = s->in;
    struct client *st = s->state;
    uint64_t credit = in->credit > 0 ? (uint64_t)in->credit : LIMIT_CREDIT_USUAL, flying = 0;
    for (unsigned shard = 0; shard < st->shards; shard++) {
        uint64_t of_shard;
        TRY(client_flying(s, shard, in->topic, in->group, s->stream, &of_shard));
        flying += of_shard;
    }
    *out = flying < credit ? credit - flying : 0;
    return OK;
}

/* They are gone through from any of them on, so that none is forgotten. */
static unsigned this_shard(const struct client *st)
{
    return (st->first + st->shard) % st->shards;
}

static enum err subscribe_look(struct script *s)
{
    const struct subscribe_in *in = s->in;
    struct client *st = s->state;
    struct buf item = {0};
    uint64_t left;
    bool may = false;
    TRY(credit_left(s, &left));
    for (; left > 0 && st->shard < st->shards && !may; st->shard += !may) {
        TRY(client_may_have(s, this_shard(st), in->topic, in->group, &may));
    }
    if (!may) {
        return script_done(s);
    }
    bool given = FIELD_HAS(subscribe_in_fields, in, struct subscribe_in, visibility_ms);
    struct receive_ask ask = {.max = left > LIMIT_RECEIVE ? LIMIT_RECEIVE : (uint32_t)left,
                              .visibility_ms = given ? in->visibility_ms : -1,
                              .consumer = s->stream};
    buf_add(&item, &ask, sizeof ask);
    buf_add_bytes(&item, in->group);
    st->item = arena_copy(s->arena, buf_bytes(&item));
    buf_free(&item);
    script_join(s, KIND_QUEUE, QUEUE_DO_RECEIVE, client_address(s, this_shard(st)), st->item);
    return OK;
}

static enum err subscribe_got(struct script *s)
{
    struct client *st = s->state;
    if (s->answer.body.len != sizeof st->received) {
        return ERR_INTERNAL;
    }
    memcpy(&st->received, s->answer.body.ptr, sizeof st->received);
    if (st->received.id != 0) {
        script_applied(s, client_partition(s, this_shard(st)), s->answer.index);
        return OK;
    }
    if (!st->received.more || ++st->tries > LIMIT_CREDIT_TRIES) {
        st->shard++; /* nothing there: the next shard */
    }
    script_goto(s, SUBSCRIBE_LOOK);
    return OK;
}

static enum err subscribe_deliver(struct script *s)
{
    const struct client *st = s->state;
    unsigned partition = client_partition(s, this_shard(st));
    return client_deliver(s, script_rows(s, partition), &st->received, partition, DELIVER_EVENTS, &s->reply->body);
}

const struct step subscribe_steps[] = {{"find", client_find, false},          {"begin", subscribe_begin, false},
                                       {"look", subscribe_look, false},       {"got", subscribe_got, false},
                                       {"deliver", subscribe_deliver, false}, {0}};
