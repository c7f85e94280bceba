#include "node/watch.h"

#include <stdlib.h>

#include "node/base/map.h"
#include "node/hints.h"

enum { HASHES = 4096, WORDS = HASHES / 64 };

struct watches {
    struct list hashes[HASHES]; /* of struct watch */
    unsigned len;
    atomic_uint here[HASHES]; /* written here, read by the state writer */
    atomic_uint_fast64_t count;
    bool late[HASHES];
    int64_t got_ms[HASHES];
    /* Written by the state writer, taken here. */
    atomic_uint_fast64_t touched[WORDS];
    atomic_bool any;
};

/* The state writer's alone. */
struct watch_marks {
    uint64_t bits[WORDS];
    bool any;
    bool urgent; /* one of them is watched */
};

static unsigned hash_of(struct bytes id)
{
    return (unsigned)(map_hash(id) % HASHES);
}

struct watch_marks *watch_marks_new(void)
{
    return mem_zalloc(sizeof(struct watch_marks));
}

void watch_marks_free(struct watch_marks *marks)
{
    free(marks);
}

/* ---- what commits bring ---- */

static bool is_watched(const struct node *node, unsigned hash)
{
    for (unsigned w = 0; w < node->workers_len; w++) {
        if (atomic_load_explicit(&node->workers[w].watches->here[hash], memory_order_relaxed) > 0) {
            return true;
        }
    }
    return false;
}

void watch_notice(struct node *node, const struct notice *notice)
{
    struct watch_marks *marks = node->watch_marks;
    if (notice->topic != NOTICE_TOUCHED) {
        return;
    }
    CHECK(notice->payload.len % sizeof(struct id) == 0);
    for (size_t at = 0; at < notice->payload.len; at += sizeof(struct id)) {
        unsigned hash = hash_of(bytes_of(notice->payload.ptr + at, sizeof(struct id)));
        marks->bits[hash / 64] |= 1ULL << hash % 64;
        marks->any = true;
        marks->urgent = marks->urgent || is_watched(node, hash);
    }
}

bool watch_wants_commit(const struct node *node)
{
    return node->watch_marks->urgent;
}

/* The marks whose hashes have a watch there. */
static uint64_t wanted(const struct watches *watches, size_t word, uint64_t marks)
{
    uint64_t out = 0;
    for (uint64_t left = marks; left != 0; left &= left - 1) {
        unsigned bit = (unsigned)__builtin_ctzll(left);
        if (atomic_load_explicit(&watches->here[word * 64 + bit], memory_order_relaxed) > 0) {
            out |= 1ULL << bit;
        }
    }
    return out;
}

static void tell(struct node_worker *worker, const uint64_t marks[WORDS])
{
    struct watches *watches = worker->watches;
    bool told = false;
    for (size_t w = 0; w < WORDS; w++) {
        uint64_t bits = marks[w] == 0 ? 0 : wanted(watches, w, marks[w]);
        if (bits != 0) {
            atomic_fetch_or_explicit(&watches->touched[w], bits, memory_order_relaxed);
            told = true;
        }
    }
    if (told && !atomic_exchange(&watches->any, true)) {
        worker_wake(&worker->worker);
    }
}

void watch_committed(struct node *node)
{
    struct watch_marks *marks = node->watch_marks;
    if (LIKELY(!marks->any)) {
        return;
    }
    atomic_thread_fence(memory_order_seq_cst); /* watch_add looks the other way round */
    for (unsigned w = 0; w < node->workers_len; w++) {
        if (atomic_load_explicit(&node->workers[w].watches->count, memory_order_relaxed) > 0) {
            tell(&node->workers[w], marks->bits);
        }
    }
    *marks = (struct watch_marks){0};
}

void watch_ring_all(struct node *node)
{
    uint64_t all[WORDS];
    memset(all, 0xff, sizeof all);
    atomic_thread_fence(memory_order_seq_cst);
    for (unsigned w = 0; w < node->workers_len; w++) {
        tell(&node->workers[w], all);
    }
}

/* ---- of a worker ---- */

static void set_count(struct watches *watches, unsigned hash, int by)
{
    watches->len += (unsigned)by;
    atomic_store_explicit(&watches->count, watches->len, memory_order_relaxed);
    unsigned here = atomic_load_explicit(&watches->here[hash], memory_order_relaxed);
    atomic_store_explicit(&watches->here[hash], here + (unsigned)by, memory_order_relaxed);
}

void watch_add(struct node_worker *worker, struct watch *watch)
{
    struct watches *watches = worker->watches;
    watch->hash = hash_of(id_bytes(&watch->id));
    list_add_tail(&watches->hashes[watch->hash], &watch->link);
    set_count(watches, watch->hash, 1);
    /* What is committed from here on rings; what was committed before is seen by who looks after this. */
    atomic_thread_fence(memory_order_seq_cst);
    hints_want(worker);
}

void watches_tick(struct node_worker *worker)
{
    if (worker->watches->len > 0) {
        hints_want(worker);
    }
}

void watch_remove(struct node_worker *worker, struct watch *watch)
{
    list_remove(&watch->link);
    set_count(worker->watches, watch->hash, -1);
}

/* Of several that ask together the first may get it. */
enum { TOGETHER_MS = 20 };

void watch_asked(struct node_worker *worker, struct id id, bool got)
{
    struct watches *watches = worker->watches;
    unsigned hash = hash_of(id_bytes(&id));
    int64_t now_ms = clock_boot_ms(worker->node->clock);
    if (got) {
        watches->late[hash] = false;
        watches->got_ms[hash] = now_ms;
    } else if (now_ms > watches->got_ms[hash] + TOGETHER_MS) {
        watches->late[hash] = true;
    }
}

bool watch_is_late(const struct node_worker *worker, const struct watch *watch)
{
    return worker->watches->late[watch->hash];
}

void watches_turn_end(struct node_worker *worker)
{
    struct watches *watches = worker->watches;
    if (!atomic_load_explicit(&watches->any, memory_order_relaxed) || !atomic_exchange(&watches->any, false)) {
        return;
    }
    for (size_t w = 0; w < WORDS; w++) {
        uint64_t bits = atomic_exchange_explicit(&watches->touched[w], 0, memory_order_relaxed);
        for (; bits != 0; bits &= bits - 1) {
            list_each(link, &watches->hashes[w * 64 + (unsigned)__builtin_ctzll(bits)])
            {
                struct watch *watch = container_of(link, struct watch, link);
                watch->rung(watch);
            }
        }
    }
}

struct watches *watches_new(void)
{
    struct watches *watches = mem_zalloc(sizeof *watches);
    for (size_t h = 0; h < HASHES; h++) {
        list_init(&watches->hashes[h]);
    }
    return watches;
}

void watches_free(struct watches *watches)
{
    if (watches != NULL) {
        CHECK(watches->len == 0);
        free(watches);
    }
}
