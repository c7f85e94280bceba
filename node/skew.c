#include "node/skew.h"

#include <pthread.h>
#include <stdlib.h>

#include "node/base/bytes.h"
#include "node/limits.h"

enum { WINDOW_MS = 1000, FRESH_MS = 3000 };

/* A message says its sender's clock less the time it was under way, so the greatest of a while is nearest. */
struct offset {
    uint64_t replica;
    int64_t heard_ms, began_ms;
    int64_t growing, known; /* of the window under way, and of the one before */
    bool complete;          /* a whole window was heard */
};

struct skew {
    pthread_mutex_t lock;
    struct offset list[LIMIT_PEERS];
    unsigned len;
};

struct skew *skew_new(void)
{
    struct skew *skew = mem_zalloc(sizeof *skew);
    CHECK(pthread_mutex_init(&skew->lock, NULL) == 0);
    return skew;
}

void skew_free(struct skew *skew)
{
    if (skew != NULL) {
        (void)pthread_mutex_destroy(&skew->lock);
        free(skew);
    }
}

static struct offset *find(struct skew *skew, uint64_t replica)
{
    for (unsigned i = 0; i < skew->len; i++) {
        if (skew->list[i].replica == replica) {
            return &skew->list[i];
        }
    }
    return NULL;
}

/* Full: the one that was silent longest makes room. */
static struct offset *add(struct skew *skew, uint64_t replica)
{
    struct offset *to = skew->len < LIMIT_PEERS ? &skew->list[skew->len++] : &skew->list[0];
    for (unsigned i = 0; i < skew->len && to->replica != 0; i++) {
        to = skew->list[i].heard_ms < to->heard_ms ? &skew->list[i] : to;
    }
    *to = (struct offset){.replica = replica};
    return to;
}

void skew_note(struct skew *skew, uint64_t replica, int64_t their_wall_ms, int64_t wall_ms, int64_t now_ms)
{
    int64_t offset = their_wall_ms - wall_ms;
    CHECK(pthread_mutex_lock(&skew->lock) == 0);
    struct offset *o = find(skew, replica);
    if (o == NULL || now_ms - o->heard_ms > FRESH_MS) {
        o = o == NULL ? add(skew, replica) : o;
        *o = (struct offset){.replica = replica, .began_ms = now_ms, .growing = offset};
    } else if (now_ms - o->began_ms >= WINDOW_MS) {
        o->known = o->growing;
        o->complete = true;
        o->began_ms = now_ms;
        o->growing = offset;
    }
    o->growing = offset > o->growing ? offset : o->growing;
    o->heard_ms = now_ms;
    CHECK(pthread_mutex_unlock(&skew->lock) == 0);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static bool is_known(const struct offset *o, int64_t now_ms)
{
    return o->complete && now_ms - o->heard_ms <= FRESH_MS;
}

/* Of all clocks, this node's own included; false when there are too few to say who is right. */
static bool median(const struct skew *skew, int64_t now_ms, int64_t *out)
{
    int64_t list[LIMIT_PEERS + 1] = {0}; /* our own: no offset */
    size_t len = 1;
    for (unsigned i = 0; i < skew->len; i++) {
        if (is_known(&skew->list[i], now_ms)) {
            list[len++] = skew->list[i].known;
        }
    }
    qsort(list, len, sizeof *list, by_value);
    *out = list[len / 2];
    if (len % 2 == 0 && llabs(list[len / 2 - 1]) < llabs(*out)) {
        *out = list[len / 2 - 1]; /* in doubt we are right */
    }
    return len >= 3;
}

bool skew_is_off(struct skew *skew, int64_t now_ms)
{
    int64_t middle;
    CHECK(pthread_mutex_lock(&skew->lock) == 0);
    bool off = median(skew, now_ms, &middle) && llabs(middle) > LIMIT_CLOCK_SKEW_MS;
    CHECK(pthread_mutex_unlock(&skew->lock) == 0);
    return off;
}

bool skew_agrees(struct skew *skew, int64_t now_ms)
{
    bool agrees = false;
    CHECK(pthread_mutex_lock(&skew->lock) == 0);
    for (unsigned i = 0; i < skew->len && !agrees; i++) {
        const struct offset *o = &skew->list[i];
        int64_t offset = o->complete ? o->known : o->growing;
        agrees = now_ms - o->heard_ms <= FRESH_MS && llabs(offset) <= LIMIT_CLOCK_SKEW_MS;
    }
    CHECK(pthread_mutex_unlock(&skew->lock) == 0);
    return agrees;
}

bool skew_is_peer_right(struct skew *skew, uint64_t replica, int64_t now_ms)
{
    int64_t middle;
    CHECK(pthread_mutex_lock(&skew->lock) == 0);
    const struct offset *o = find(skew, replica);
    bool known = o != NULL && is_known(o, now_ms);
    bool right = known && (!median(skew, now_ms, &middle) || llabs(o->known - middle) <= LIMIT_CLOCK_SKEW_MS);
    CHECK(pthread_mutex_unlock(&skew->lock) == 0);
    return right;
}
