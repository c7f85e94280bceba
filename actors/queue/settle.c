/* DO_SETTLE: acknowledgements, refusals and longer leases. */
#include "actors/join.h"
#include "actors/queue/queue.h"
#include "actors/queue/slip.h"
#include "node/limits.h"

bool settle_next(struct bytes *rest, struct settle_one *out, struct bytes *out_image)
{
    if (rest->len < sizeof *out) {
        return false;
    }
    memcpy(out, rest->ptr, sizeof *out);
    if (out->image_len > rest->len - sizeof *out) {
        return false;
    }
    *out_image = bytes_of(rest->ptr + sizeof *out, out->image_len);
    *rest = bytes_of(out_image->ptr + out_image->len, rest->len - sizeof *out - out_image->len);
    return true;
}

/* The delivery that receipts are looked up in: those that follow each other mostly name the same one. */
struct open_delivery {
    struct group *group;
    struct delivery delivery;
    bool open, changed;
};

static enum err close_delivery(struct queue *queue, struct open_delivery *open)
{
    bool changed = open->open && open->changed;
    open->open = false;
    enum err err = changed ? delivery_update(queue, open->group, &open->delivery) : OK;
    return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
}

static enum err open_delivery(struct queue *queue, struct group *group, const struct settle_one *one,
                              struct open_delivery *open)
{
    if (open->open && open->group == group && open->delivery.id == one->id &&
        open->delivery.smallest == one->smallest) {
        return OK;
    }
    TRY(close_delivery(queue, open));
    TRY(delivery_open(queue, group->gid, one->smallest, one->id, &open->delivery));
    open->group = group;
    open->open = true;
    open->changed = false;
    return OK;
}

static struct delivery_entry *find_entry(struct delivery *delivery, uint64_t number)
{
    for (size_t i = 0; i < delivery->len; i++) {
        if (delivery->entries[i].number == number) {
            return &delivery->entries[i];
        }
    }
    return NULL;
}

static void remove_entry(struct delivery *delivery, struct delivery_entry *entry)
{
    size_t behind = delivery->len - (size_t)(entry - delivery->entries) - 1;
    memmove(entry, entry + 1, behind * sizeof *entry);
    delivery->len--;
}

static enum err settle_entry(struct queue *queue, struct group *group, const struct settle_ask *ask,
                             struct delivery *delivery, struct delivery_entry *entry)
{
    struct taken taken = {entry->number, entry->key_hash, entry->attempts, entry->priority};
    if (ask->verb == SETTLE_EXTEND) {
        entry->deadline = queue->turn->now_ms + (ask->ms < 0 ? queue->topic.visibility_ms : ask->ms);
        return OK;
    }
    if (ask->priority >= 0) {
        taken.priority = (uint32_t)ask->priority;
    }
    remove_entry(delivery, entry);
    switch ((enum settle_verb)ask->verb) {
    case SETTLE_NACK: return group_retry(queue, group, taken, ask->ms, PAST_RELEASE);
    case SETTLE_RETURN: return group_retry(queue, group, taken, 0, PAST_NOTHING);
    case SETTLE_BURY: return group_bury(queue, group, taken, DEATH_BURIED);
    case SETTLE_ACK:
    case SETTLE_EXTEND: break;
    }
    return group_finish(queue, group, taken);
}

/* A lease that is over counts until the message is taken back: nobody else has it yet. */
static enum err settle_one(struct queue *queue, const struct settle_ask *ask, struct bytes name,
                           const struct settle_one *one, struct bytes image, struct open_delivery *open,
                           enum settle_result *out)
{
    struct group *group;
    *out = SETTLED_GONE;
    enum err err = queue_group(queue, one->gid, &group);
    if (err == OK && bytes_eq(group->name, name)) {
        err = open_delivery(queue, group, one, open);
    } else if (err == OK) {
        err = ERR_NOT_FOUND;
    }
    if (err != OK) {
        return err == ERR_NOT_FOUND ? OK : err;
    }
    struct delivery_entry *entry = find_entry(&open->delivery, one->number);
    if (entry == NULL) {
        return OK;
    }
    if (ask->verb == SETTLE_ACK && queue->state.slips > 0) {
        bool waits;
        TRY(slip_go_on(queue, group, one, image, &waits));
        if (waits) {
            *out = SETTLED_SLIP;
            return OK;
        }
    }
    *out = SETTLED_OK;
    open->changed = true;
    group->state.active_at = queue->turn->now_ms;
    group->changed = true;
    err = settle_entry(queue, group, ask, &open->delivery, entry);
    return err == ERR_NOT_FOUND ? ERR_CORRUPT : err; /* of what the entry says all must be there */
}

static enum err settle(struct queue *queue, const struct caller *caller, struct bytes item, struct buf *out)
{
    struct settle_ask ask;
    struct open_delivery open = {0};
    memcpy(&ask, item.ptr, sizeof ask);
    if (!topic_allows(&queue->topic, caller, USE_CONSUME)) {
        return ERR_FORBIDDEN;
    }
    struct bytes name = bytes_of(item.ptr + sizeof ask, ask.name_len);
    struct bytes rest = bytes_of(name.ptr + name.len, item.len - sizeof ask - name.len);
    struct settle_one one;
    struct bytes image;
    while (settle_next(&rest, &one, &image)) {
        enum settle_result settled;
        TRY(settle_one(queue, &ask, name, &one, image, &open, &settled));
        buf_add_char(out, (char)settled);
    }
    return close_delivery(queue, &open);
}

static bool is_whole(struct bytes item)
{
    struct settle_ask ask;
    if (item.len < sizeof ask) {
        return false;
    }
    memcpy(&ask, item.ptr, sizeof ask);
    if (ask.verb < SETTLE_ACK || ask.verb > SETTLE_RETURN || ask.name_len > item.len - sizeof ask || ask.ms < -1 ||
        ask.ms > LIMIT_DELAY_MS || ask.priority > UINT32_MAX) {
        return false;
    }
    struct settle_one one;
    struct bytes image, rest = bytes_of(item.ptr + sizeof ask + ask.name_len, item.len - sizeof ask - ask.name_len);
    while (settle_next(&rest, &one, &image)) {
    }
    return rest.len == 0;
}

enum err settle_reduce(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct joined *in = raw;
    struct bytes rest = in->items, item;
    struct caller caller;
    struct queue queue;
    struct buf part = {0};
    enum err opened = queue_open(&queue, turn, turn->key), err = OK;
    if (opened != OK && opened != ERR_NOT_FOUND) {
        return opened;
    }
    while (joined_next(&rest, &caller, &item)) {
        part.len = 0;
        err = !is_whole(item) ? ERR_BAD_REQUEST : opened == OK ? settle(&queue, &caller, item, &part) : opened;
        if (err != OK && err != ERR_FORBIDDEN && err != ERR_NOT_FOUND && err != ERR_BAD_REQUEST) {
            break;
        }
        joined_answer(reply, err, err == OK ? buf_bytes(&part) : BYTES_NONE);
        err = OK;
    }
    buf_free(&part);
    TRY(err);
    return opened == OK ? queue_save(&queue) : OK;
}
