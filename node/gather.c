#include "node/gather.h"

#include <stdlib.h>

#include "node/base/map.h"
#include "node/limits.h"

struct gatherer {
    struct list due; /* in gathers->due: looked at when the turn ends */
    struct list waiting;
    size_t waiting_len;
    unsigned flights;
    uint64_t hash;
    struct gather_key key;
    uint8_t text[]; /* of the key */
};

struct gathers {
    struct map map;
    struct list due, flights;
    gather_send *send;
    void *ctx;
};

static bool same_key(const void *item, const void *key)
{
    const struct gather_key *a = &((const struct gatherer *)item)->key, *b = key;
    return a->partition == b->partition && a->kind == b->kind && a->op == b->op && bytes_eq(a->key, b->key);
}

static uint64_t hash_of(const struct gather_key *key)
{
    return map_hash(key->key) ^
           (((uint64_t)key->partition << 16 | (uint64_t)key->kind << 8 | key->op) * 0x9e3779b97f4a7c15ULL);
}

struct gathers *gathers_new(gather_send *send, void *ctx)
{
    struct gathers *gathers = mem_zalloc(sizeof *gathers);
    map_init(&gathers->map, same_key);
    list_init(&gathers->due);
    list_init(&gathers->flights);
    gathers->send = send;
    gathers->ctx = ctx;
    return gathers;
}

void gathers_free(struct gathers *gathers)
{
    size_t at = 0;
    if (gathers == NULL) {
        return;
    }
    for (struct gatherer *each = map_next(&gathers->map, &at); each != NULL; each = map_next(&gathers->map, &at)) {
        CHECK(list_empty(&each->waiting));
        free(each);
    }
    for (struct list *link = list_pop(&gathers->flights); link != NULL; link = list_pop(&gathers->flights)) {
        free(container_of(link, struct flight, link));
    }
    map_close(&gathers->map);
    free(gathers);
}

size_t gathers_len(const struct gathers *gathers)
{
    return gathers->map.len;
}

static struct gatherer *gatherer_new(struct gathers *gathers, const struct gather_key *key, uint64_t hash)
{
    CHECK(key->key.len <= LIMIT_ACTOR_KEY_BYTES);
    struct gatherer *gatherer = mem_zalloc(sizeof *gatherer + key->key.len);
    memcpy(gatherer->text, key->key.ptr, key->key.len);
    gatherer->key = *key;
    gatherer->key.key = bytes_of(gatherer->text, key->key.len);
    gatherer->hash = hash;
    list_init(&gatherer->waiting);
    list_init(&gatherer->due);
    map_add(&gathers->map, hash, gatherer);
    return gatherer;
}

static void set_due(struct gathers *gathers, struct gatherer *gatherer)
{
    list_remove(&gatherer->due);
    list_add_tail(&gathers->due, &gatherer->due);
}

enum err gather_add(struct gathers *gathers, const struct gather_key *key, struct join *join)
{
    uint64_t hash = hash_of(key);
    if (join->item.len > LIMIT_JOINED_ITEM_BYTES) {
        return ERR_TOO_LARGE;
    }
    struct gatherer *gatherer = map_find(&gathers->map, hash, key);
    if (gatherer == NULL) {
        gatherer = gatherer_new(gathers, key, hash);
    }
    if (gatherer->waiting_len >= LIMIT_JOINED_WAITING) {
        return ERR_OVERLOADED;
    }
    join->gatherer = gatherer;
    join->waits = true;
    list_add_tail(&gatherer->waiting, &join->link);
    gatherer->waiting_len++;
    set_due(gathers, gatherer);
    return OK;
}

static void leave(struct join *join)
{
    list_remove(&join->link);
    join->gatherer->waiting_len--;
    join->waits = false;
}

void gather_drop(struct join *join)
{
    if (join->waits) {
        leave(join); /* it is due, or becomes so when what is under way is answered */
    } else if (join->flight != NULL) {
        join->flight->joins[join->place] = NULL;
        join->flight = NULL;
    }
}

/* How many of those that wait go out together. */
static size_t count_next(const struct gatherer *gatherer)
{
    size_t count = 0, bytes = 0;
    list_each(link, &gatherer->waiting)
    {
        bytes += joined_size(container_of(link, struct join, link)->item);
        if (count == LIMIT_JOINED_ITEMS || (count > 0 && bytes > LIMIT_JOINED_BYTES)) {
            break;
        }
        count++;
    }
    return count;
}

static void send_next(struct gathers *gathers, struct gatherer *gatherer)
{
    size_t count = count_next(gatherer);
    struct flight *flight = mem_zalloc(sizeof *flight + count * sizeof flight->joins[0]);
    struct buf items = {0};
    flight->gatherer = gatherer;
    list_add_tail(&gathers->flights, &flight->link);
    for (; flight->len < count; flight->len++) {
        struct join *join = container_of(gatherer->waiting.next, struct join, link);
        leave(join);
        join->flight = flight;
        join->place = flight->len;
        flight->joins[flight->len] = join;
        joined_add(&items, &join->caller, join->item);
    }
    gatherer->flights++;
    gathers->send(gathers->ctx, &gatherer->key, buf_bytes(&items), flight);
    buf_free(&items);
}

void gathers_turn_end(struct gathers *gathers)
{
    for (struct list *link = list_pop(&gathers->due); link != NULL; link = list_pop(&gathers->due)) {
        struct gatherer *gatherer = container_of(link, struct gatherer, due);
        while (gatherer->flights < LIMIT_JOINED_FLIGHTS && gatherer->waiting_len > 0) {
            send_next(gathers, gatherer);
        }
        if (gatherer->flights == 0) {
            map_remove(&gathers->map, gatherer->hash, gatherer);
            free(gatherer);
        }
    }
}

void gather_landed(struct gathers *gathers, struct flight *flight, enum err err, struct bytes body, uint64_t index,
                   uint64_t by)
{
    struct gatherer *gatherer = flight->gatherer;
    gatherer->flights--;
    set_due(gathers, gatherer); /* so it stays until the turn's end, whatever is added or dropped below */
    for (size_t i = 0; i < flight->len; i++) {
        enum err own = err;
        struct bytes part = BYTES_NONE;
        if (err == OK && !joined_part(&body, &own, &part)) {
            own = ERR_INTERNAL; /* the reducer gave no answer for it */
        }
        struct join *join = flight->joins[i];
        if (join != NULL) {
            join->flight = NULL;
            join->done(join, own, part, index, by);
        }
    }
    list_remove(&flight->link);
    free(flight);
}
