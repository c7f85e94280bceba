#include "node/hints.h"

#include <stdlib.h>

#include "node/forward.h"
#include "node/partition.h"
#include "node/peers.h"

enum { SAY_MS = 500, BELIEVE_MS = 2000 };

struct listener {
    uint64_t replica;
    int64_t until_ms;
};

struct hints {
    pthread_mutex_t lock;
    struct listener list[LIMIT_PEERS];
    size_t len;
    atomic_int_fast64_t until_ms; /* of all of them the latest: nobody listens after that */
};

struct hints *hints_new(void)
{
    struct hints *hints = mem_zalloc(sizeof *hints);
    CHECK(pthread_mutex_init(&hints->lock, NULL) == 0);
    return hints;
}

void hints_free(struct hints *hints)
{
    if (hints != NULL) {
        (void)pthread_mutex_destroy(&hints->lock);
        free(hints);
    }
}

/* ---- where something is watched ---- */

void hints_want(struct node_worker *worker)
{
    int64_t now_ms = clock_boot_ms(worker->node->clock);
    uint64_t up[LIMIT_PEERS];
    if (now_ms < worker->hints_said_ms + SAY_MS) {
        return;
    }
    worker->hints_said_ms = now_ms;
    size_t len = peers_list_up(worker, up);
    for (size_t i = 0; i < len; i++) {
        (void)peers_send(worker, up[i], PEER_WATCH, BYTES_NONE);
    }
}

/* ---- where it is led ---- */

/* With the lock held: its place, one that nobody needs any more, or a new one; NULL: there is none. */
static struct listener *place_of(struct hints *hints, uint64_t replica, int64_t now_ms)
{
    struct listener *place = NULL;
    for (size_t i = 0; i < hints->len; i++) {
        if (hints->list[i].replica == replica) {
            return &hints->list[i];
        }
        place = hints->list[i].until_ms < now_ms ? &hints->list[i] : place;
    }
    return place != NULL || hints->len == LIMIT_PEERS ? place : &hints->list[hints->len++];
}

void hints_on_watch(struct node_worker *worker, const struct link_hello *from)
{
    struct hints *hints = worker->node->hints;
    int64_t now_ms = clock_boot_ms(worker->node->clock);
    CHECK(pthread_mutex_lock(&hints->lock) == 0);
    struct listener *place = place_of(hints, replica_of(from->node), now_ms);
    if (place != NULL) {
        *place = (struct listener){replica_of(from->node), now_ms + BELIEVE_MS};
        atomic_store_explicit(&hints->until_ms, now_ms + BELIEVE_MS, memory_order_relaxed);
    }
    CHECK(pthread_mutex_unlock(&hints->lock) == 0);
}

static size_t listeners(struct hints *hints, int64_t now_ms, uint64_t out[LIMIT_PEERS])
{
    size_t len = 0;
    CHECK(pthread_mutex_lock(&hints->lock) == 0);
    for (size_t i = 0; i < hints->len; i++) {
        if (hints->list[i].until_ms >= now_ms) {
            out[len++] = hints->list[i].replica;
        }
    }
    CHECK(pthread_mutex_unlock(&hints->lock) == 0);
    return len;
}

void hints_turn_end(struct node_worker *worker)
{
    struct hints *hints = worker->node->hints;
    int64_t now_ms = clock_boot_ms(worker->node->clock);
    uint64_t to[LIMIT_PEERS];
    struct buf body = {0};
    if (LIKELY(atomic_load_explicit(&hints->until_ms, memory_order_relaxed) < now_ms)) {
        return;
    }
    list_each(link, &worker->partitions)
    {
        struct partition *partition = container_of(link, struct partition, link);
        uint64_t commit = atomic_load_explicit(&partition->commit, memory_order_relaxed);
        if (commit > partition->hinted && atomic_load_explicit(&partition->leader, memory_order_relaxed)) {
            forward_add_index(&body, partition, commit);
        }
        partition->hinted = commit;
    }
    size_t len = body.len == 0 ? 0 : listeners(hints, now_ms, to);
    for (size_t i = 0; i < len; i++) {
        (void)peers_send(worker, to[i], PEER_INDEX, buf_bytes(&body));
    }
    buf_free(&body);
}
