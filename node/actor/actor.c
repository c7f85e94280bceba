#include "node/actor/actor.h"

#include <stdlib.h>

struct actor {
    struct list idle; /* in actors.idle while nothing waits or is under way */
    struct list run;  /* in a run queue */
    struct list mailbox;
    int64_t used_ms;
    uint32_t waiting, under_way;
    uint16_t partition, key_len;
    uint8_t kind;
    uint8_t key[];
};

struct address_key {
    uint16_t partition;
    uint8_t kind;
    struct bytes key;
};

static bool same_address(const void *item, const void *raw)
{
    const struct actor *actor = item;
    const struct address_key *key = raw;
    return actor->partition == key->partition && actor->kind == key->kind &&
           bytes_eq(bytes_of(actor->key, actor->key_len), key->key);
}

static uint64_t hash_of(uint16_t partition, uint8_t kind, struct bytes key)
{
    return map_hash(key) + ((uint64_t)partition << 8 | kind) * 0x9e3779b97f4a7c15ULL;
}

void actors_init(struct actors *actors, unsigned mailbox_limit)
{
    *actors = (struct actors){.mailbox_limit = mailbox_limit};
    map_init(&actors->map, same_address);
    list_init(&actors->idle);
}

void actors_close(struct actors *actors)
{
    size_t at = 0;
    for (struct actor *actor = map_next(&actors->map, &at); actor != NULL; actor = map_next(&actors->map, &at)) {
        free(actor);
    }
    map_close(&actors->map);
}

size_t actors_live(const struct actors *actors)
{
    return actors->map.len;
}

struct actor *actors_get(struct actors *actors, unsigned partition, uint8_t kind, struct bytes key, int64_t now_ms)
{
    struct address_key address = {(uint16_t)partition, kind, key};
    uint64_t hash = hash_of(address.partition, kind, key);
    struct actor *actor = map_find(&actors->map, hash, &address);
    if (actor == NULL) {
        actor = mem_zalloc(sizeof *actor + key.len);
        actor->partition = address.partition;
        actor->kind = kind;
        actor->key_len = (uint16_t)key.len;
        memcpy(actor->key, key.ptr, key.len);
        actor->used_ms = now_ms;
        list_init(&actor->run);
        list_init(&actor->mailbox);
        list_add_tail(&actors->idle, &actor->idle);
        map_add(&actors->map, hash, actor);
        actors->activated++;
    }
    return actor;
}

bool actor_push(struct actors *actors, struct actor *actor, struct mail *mail, struct list *run_queue)
{
    if (actor->waiting + actor->under_way >= actors->mailbox_limit) {
        actors->overloaded++;
        return false;
    }
    list_add_tail(&actor->mailbox, &mail->link);
    actor->waiting++;
    actors->mails++;
    list_remove(&actor->idle);
    if (list_empty(&actor->run)) {
        list_add_tail(run_queue, &actor->run);
    }
    return true;
}

struct actor *actors_next(struct list *run_queue)
{
    struct list *link = list_pop(run_queue);
    return link == NULL ? NULL : container_of(link, struct actor, run);
}

void actor_requeue(struct actor *actor, struct list *run_queue)
{
    if (list_empty(&actor->run)) {
        list_add_tail(run_queue, &actor->run);
    }
}

bool actor_has_mail(const struct actor *actor)
{
    return !list_empty(&actor->mailbox);
}

struct mail *actor_pop(struct actors *actors, struct actor *actor)
{
    struct list *link = list_pop(&actor->mailbox);
    if (link == NULL) {
        return NULL;
    }
    actor->waiting--;
    actor->under_way++;
    actors->mails--;
    return container_of(link, struct mail, link);
}

void actor_answered(struct actors *actors, struct actor *actor, int64_t now_ms)
{
    CHECK(actor->under_way > 0);
    actor->under_way--;
    if (actor->under_way == 0 && actor->waiting == 0) {
        actor->used_ms = now_ms;
        list_remove(&actor->idle);
        list_add_tail(&actors->idle, &actor->idle);
    }
}

unsigned actors_passivate(struct actors *actors, int64_t before_ms, unsigned most)
{
    unsigned count = 0;
    while (count < most && !list_empty(&actors->idle)) {
        struct actor *actor = container_of(actors->idle.next, struct actor, idle);
        if (actor->used_ms > before_ms) {
            break;
        }
        CHECK(actor->waiting == 0 && actor->under_way == 0);
        list_remove(&actor->idle);
        list_remove(&actor->run);
        map_remove(&actors->map, hash_of(actor->partition, actor->kind, bytes_of(actor->key, actor->key_len)), actor);
        free(actor);
        actors->passivated++;
        count++;
    }
    return count;
}
