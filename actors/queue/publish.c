/* DO_PUBLISH: messages of many publishers, each request all or nothing. */
#include "actors/join.h"
#include "actors/queue/queue.h"
#include "actors/queue/slip.h"
#include "node/limits.h"

/* ---- deduplication ---- */

static struct queue_key dedup_key(const struct queue *queue, const uint8_t digest[16])
{
    struct queue_key key = queue_key(queue->tid, ROW_DEDUP);
    key_bytes_add(&key, bytes_of(digest, 16));
    return key;
}

static bool dedups(const struct queue *queue, const struct publish_head *head)
{
    return head->has_dedup != 0 && queue->topic.dedup_window_ms > 0;
}

/* The id it was published under within the window; 0: it was not. */
static enum err find_duplicate(struct queue *queue, const struct publish_head *head, uint64_t *out)
{
    struct queue_key key = dedup_key(queue, head->dedup);
    struct dedup_row row;
    struct bytes value;
    *out = 0;
    if (!dedups(queue, head)) {
        return OK;
    }
    enum err err = rows_get(queue->rows, TABLE_QUEUE, key_of(&key), &value);
    if (err == OK) {
        TRY(value.len == sizeof row ? OK : ERR_CORRUPT);
        memcpy(&row, value.ptr, sizeof row);
        *out = row.at + queue->topic.dedup_window_ms > queue->turn->now_ms ? row.id : 0;
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static struct queue_key dedup_time_key(const struct queue *queue, int64_t at, const uint8_t digest[16])
{
    struct queue_key key = queue_key(queue->tid, ROW_DEDUP_TIME);
    key_u64_add(&key, (uint64_t)at);
    key_bytes_add(&key, bytes_of(digest, 16));
    return key;
}

static enum err keep_dedup(struct queue *queue, const struct publish_head *head, uint64_t id)
{
    struct queue_key key = dedup_key(queue, head->dedup);
    struct dedup_row row = {queue->turn->now_ms, id}, old;
    struct bytes value;
    enum err err = rows_get(queue->rows, TABLE_QUEUE, key_of(&key), &value);
    if (err == OK) { /* its window is over, and it was not erased yet */
        TRY(value.len == sizeof old ? OK : ERR_CORRUPT);
        memcpy(&old, value.ptr, sizeof old);
        struct queue_key time = dedup_time_key(queue, old.at, head->dedup);
        TRY(rows_del(queue->rows, TABLE_QUEUE, key_of(&time)));
    } else if (err == ERR_NOT_FOUND) {
        TRY(queue->state.dedups++ == 0 ? queue_dedup_at(queue, row.at + queue->topic.dedup_window_ms) : OK);
    } else {
        return err;
    }
    struct queue_key time = dedup_time_key(queue, row.at, head->dedup);
    TRY(rows_put(queue->rows, TABLE_QUEUE, key_of(&key), bytes_of(&row, sizeof row)));
    return rows_put(queue->rows, TABLE_QUEUE, key_of(&time), BYTES_NONE);
}

/* ---- what a request needs of the topic ---- */

struct need {
    uint64_t count;  /* messages; one whose dedup_id comes twice in the request counts twice */
    uint32_t *lanes; /* priorities that the topic has no lane for; room for LIMIT_PRIORITIES */
    size_t lanes_len;
};

static bool is_counted(const struct need *need, uint32_t priority)
{
    for (size_t i = 0; i < need->lanes_len; i++) {
        if (need->lanes[i] == priority) {
            return true;
        }
    }
    return false;
}

static enum err count_lane(struct queue *queue, struct need *need, uint32_t priority)
{
    bool has = priority == PRIORITY_USUAL || is_counted(need, priority);
    TRY(has ? OK : queue_has_lane(queue, priority, &has));
    if (has) {
        return OK;
    }
    if (queue->state.lanes + need->lanes_len >= LIMIT_PRIORITIES) {
        return ERR_LIMIT_REACHED;
    }
    if (need->lanes == NULL) {
        need->lanes = arena_alloc(queue->turn->arena, LIMIT_PRIORITIES * sizeof *need->lanes);
    }
    need->lanes[need->lanes_len++] = priority;
    return OK;
}

/* need: of the request before, its room is used again. Errors: ERR_LIMIT_REACHED. */
static enum err count_need(struct queue *queue, struct bytes rest, struct need *need)
{
    struct publish_head head;
    struct bytes row;
    need->count = need->lanes_len = 0;
    while (publish_next(&rest, &head, &row)) {
        struct message message;
        uint64_t duplicate;
        TRY(message_read(row, &message));
        TRY(find_duplicate(queue, &head, &duplicate));
        if (duplicate == 0) { /* what was published already needs no room */
            need->count++;
            TRY(message.lease_s > 0 ? OK : count_lane(queue, need, message.priority)); /* a job's gives way */
        }
    }
    return OK;
}

static uint64_t over(const struct queue *queue, uint64_t count)
{
    uint64_t kept = queue->state.retained + queue->state.delayed + count, max = (uint64_t)queue->topic.max_messages;
    return kept > max ? kept - max : 0;
}

/* From the oldest on, whoever had not seen it. */
static enum err drop_oldest(struct queue *queue, uint64_t most)
{
    for (uint64_t n = 0; n < most; n++) {
        struct queue_key key = message_key(queue->tid, queue->state.first);
        struct bytes found, row;
        enum err err = queue_ceil(queue->rows, TABLE_MESSAGE, &key, 8, &found, &row);
        if (err != OK) {
            return err == ERR_NOT_FOUND ? OK : err;
        }
        uint64_t number = key_read_u64(found.ptr + 8);
        TRY(queue_drop(queue, number));
        queue->state.first = number + 1;
    }
    return OK;
}

/* A topic whose settings allow it less than it holds comes down to it in steps: a command erases what it adds, and so
 * much more. */
static uint64_t steps_left(const struct queue *queue)
{
    return queue->moves < LIMIT_RING_MOVES ? LIMIT_RING_MOVES - queue->moves : 0;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

enum err queue_make_room(struct queue *queue, uint64_t count)
{
    uint64_t missing = over(queue, count);
    if (missing == 0) {
        return OK;
    }
    /* What all groups are through with goes first, some of it ahead. */
    TRY(queue_reclaim(queue, smaller(missing + LIMIT_RECLAIM_STEP, count + steps_left(queue))));
    missing = over(queue, count);
    if (missing == 0) {
        return OK;
    }
    if (queue->topic.overflow != OVERFLOW_DROP_OLDEST || queue->state.retained < missing) {
        return ERR_TOPIC_FULL;
    }
    return drop_oldest(queue, smaller(missing, count + steps_left(queue)));
}

/* ---- publishing ---- */

/* available_at says when it will be. */
static enum err put_delayed(struct queue *queue, const struct message *message)
{
    struct queue_key key = queue_key(queue->tid, ROW_DELAYED);
    struct queue_key time = time_key(message->available_at, TIME_DELAYED, queue->tid);
    struct buf image = {0};
    key_u64_add(&key, message->id);
    key_u64_add(&time, message->id);
    message_add(&image, message);
    enum err err = rows_put(queue->rows, TABLE_QUEUE, key_of(&key), buf_bytes(&image));
    buf_free(&image);
    queue->state.delayed++;
    queue->changed = true;
    TRY(err);
    return rows_put(queue->rows, TABLE_QUEUE_TIME, key_of(&time), BYTES_NONE);
}

/* Scripts see to it that times are within their bounds; a command that comes otherwise does no harm. */
static int64_t between(int64_t low, int64_t value, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

static enum err publish_new(struct queue *queue, const struct caller *caller, const struct publish_head *head,
                            struct bytes row, uint64_t *out_id)
{
    int64_t now = queue->turn->now_ms;
    int64_t at = now + between(0, head->delay_ms, LIMIT_DELAY_MS);
    at = between(at, head->deliver_at, now + LIMIT_DELAY_MS);
    struct message message;
    TRY(message_read(row, &message));
    message.id = 0;
    message.published_at = now;
    if (message.destinations.len > 0) {
        message.destinations = slip_sign(message.destinations, caller, queue->turn->arena);
    }
    message.available_at = at;
    message.expires_at = message.expires_at > 0 ? at + between(0, message.expires_at, LIMIT_RETENTION_MS) : 0;
    queue->state.published++;
    *out_id = queue->state.next;
    if (at <= now) {
        return queue_append(queue, message);
    }
    message.id = queue->state.next++;
    return put_delayed(queue, &message);
}

static enum err publish_one(struct queue *queue, const struct caller *caller, const struct publish_head *head,
                            struct bytes row, uint64_t *out_id)
{
    TRY(find_duplicate(queue, head, out_id));
    if (*out_id != 0) {
        queue->state.duplicates++;
        queue->changed = true;
        return OK;
    }
    TRY(publish_new(queue, caller, head, row, out_id));
    return dedups(queue, head) ? keep_dedup(queue, head, *out_id) : OK;
}

static void add_run(struct id_run *run, uint64_t id, struct buf *out)
{
    if (run->count > 0 && id == run->first + run->count) {
        run->count++;
        return;
    }
    if (run->count > 0) {
        buf_add(out, run, sizeof *run);
    }
    *run = (struct id_run){id, 1};
}

/* A request: what may refuse it is looked at first. */
static enum err publish(struct queue *queue, const struct caller *caller, struct bytes all, struct need *need,
                        struct buf *out)
{
    struct publish_head head;
    struct bytes row, rest = all;
    struct id_run run = {0};
    if (!topic_allows(&queue->topic, caller, USE_PUBLISH)) {
        return ERR_FORBIDDEN;
    }
    if (!publish_check(all)) {
        return ERR_BAD_REQUEST;
    }
    TRY(count_need(queue, all, need));
    TRY(queue_make_room(queue, need->count));
    while (publish_next(&rest, &head, &row)) {
        uint64_t id = 0;
        TRY(publish_one(queue, caller, &head, row, &id));
        add_run(&run, id, out);
    }
    if (run.count > 0) {
        buf_add(out, &run, sizeof run);
    }
    return OK;
}

static bool is_refusal(enum err err)
{
    return err == ERR_FORBIDDEN || err == ERR_LIMIT_REACHED || err == ERR_TOPIC_FULL || err == ERR_BAD_REQUEST;
}

enum err publish_reduce(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct joined *in = raw;
    struct bytes rest = in->items, item;
    struct caller caller;
    struct queue queue;
    struct need need = {0};
    struct buf part = {0};
    enum err opened = queue_open(&queue, turn, turn->key), err = OK;
    if (opened != OK && opened != ERR_NOT_FOUND) {
        return opened;
    }
    while (joined_next(&rest, &caller, &item)) {
        part.len = 0;
        err = opened == OK ? publish(&queue, &caller, item, &need, &part) : opened;
        if (err != OK && opened == OK && !is_refusal(err)) {
            err = err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
            break;
        }
        joined_answer(reply, err, err == OK ? buf_bytes(&part) : BYTES_NONE);
        err = OK;
    }
    buf_free(&part);
    TRY(err);
    return opened == OK ? queue_save(&queue) : OK;
}
