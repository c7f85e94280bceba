#include "node/balance.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "node/limits.h"

enum { SELF, ROWS_MAX = 1 + LIMIT_PEERS, HALF_LIFE_MS = 2000 };
static const double weight_of_newest = 0.2, patience = 4;

struct row {
    uint64_t replica;
    struct balance_load load;
    int64_t reported_ms;
    unsigned outstanding;
    unsigned serving; /* hashes of its under way here */
    double response_ms;
    int64_t sampled_ms; /* when an answer or a failure last told about it */
    unsigned failures;  /* in a row */
    unsigned trips;     /* of the breaker, in a row */
    int64_t open_until_ms;
    bool tripped, trial;
    uint64_t turn;
    uint64_t sent, failed, served;
};

struct balance {
    pthread_mutex_t mutex;
    enum balance_policy policy;
    uint64_t turns;
    size_t len;
    struct row rows[ROWS_MAX]; /* this node first */
};

bool balance_policy_find(const char *name, enum balance_policy *out)
{
    static const char *const names[] = {"round_robin", "least_connections", "weighted_response_time"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (enum balance_policy)i;
            return true;
        }
    }
    return false;
}

struct balance *balance_new(enum balance_policy policy, uint64_t self, unsigned processes)
{
    struct balance *balance = mem_zalloc(sizeof *balance);
    CHECK(pthread_mutex_init(&balance->mutex, NULL) == 0);
    balance->policy = policy;
    balance->len = 1;
    balance->rows[SELF] = (struct row){.replica = self, .load.processes = processes};
    return balance;
}

void balance_free(struct balance *balance)
{
    if (balance != NULL) {
        (void)pthread_mutex_destroy(&balance->mutex);
        free(balance);
    }
}

static void lock(struct balance *balance)
{
    CHECK(pthread_mutex_lock(&balance->mutex) == 0);
}
static void unlock(struct balance *balance)
{
    CHECK(pthread_mutex_unlock(&balance->mutex) == 0);
}

static struct row *find(struct balance *balance, uint64_t replica)
{
    for (size_t i = 0; i < balance->len; i++) {
        if (balance->rows[i].replica == replica) {
            return &balance->rows[i];
        }
    }
    return NULL;
}

/* ---- what a node is good for ---- */

static unsigned load_of(const struct balance *balance, const struct row *row)
{
    if (row == &balance->rows[SELF]) {
        return row->load.hashes;
    }
    return row->outstanding + (row->load.hashes > row->load.yours ? row->load.hashes - row->load.yours : 0);
}

static enum balance_breaker breaker_of(const struct row *row, int64_t now_ms)
{
    return !row->tripped ? BREAKER_CLOSED : now_ms < row->open_until_ms ? BREAKER_OPEN : BREAKER_HALF_OPEN;
}

static bool takes_work(const struct balance *balance, const struct row *row, int64_t now_ms)
{
    enum balance_breaker breaker = breaker_of(row, now_ms);
    /* What it reports also has those that were given up here and are still in its queue. */
    if (load_of(balance, row) >= LIMIT_COMPUTE_QUEUE || row->load.hashes >= LIMIT_COMPUTE_QUEUE) {
        return false;
    }
    return row == &balance->rows[SELF] ||
           (now_ms - row->reported_ms < LIMIT_LOAD_FRESH_MS && !row->load.stopping && row->load.processes > 0 &&
            (breaker == BREAKER_CLOSED || (breaker == BREAKER_HALF_OPEN && !row->trial)));
}

/* Of all that are known; 0 when none is. */
static double best_response(const struct balance *balance, int64_t now_ms)
{
    double best = 0;
    for (size_t i = 0; i < balance->len; i++) {
        const struct row *row = &balance->rows[i];
        bool heard = i == SELF || now_ms - row->reported_ms < LIMIT_LOAD_FRESH_MS;
        if (heard && row->response_ms > 0 && (best == 0 || row->response_ms < best)) {
            best = row->response_ms;
        }
    }
    return best;
}

/* What is known of a node loses weight while it gets nothing to do: it is thought to be ever closer to the
 * best, and so is tried again. One that is new is thought to be like the best. */
static double response_of(const struct row *row, double best, int64_t now_ms)
{
    if (row->response_ms == 0 || best == 0) {
        return best;
    }
    int64_t idle_ms = row->outstanding > 0 ? 0 : now_ms - row->sampled_ms;
    return best + (row->response_ms - best) * exp2(-(double)idle_ms / HALF_LIFE_MS);
}

static double cost_of(const struct balance *balance, const struct row *row, double best, int64_t now_ms)
{
    double processes = row->load.processes > 0 ? row->load.processes : 1;
    double response = response_of(row, best, now_ms);
    return (response > 0 ? response : 1) * (load_of(balance, row) + 1) / processes;
}

/* ---- the choice ---- */

static struct row *longest_ago(struct row *const *rows, size_t len)
{
    struct row *chosen = rows[0];
    for (size_t i = 1; i < len; i++) {
        chosen = rows[i]->turn < chosen->turn ? rows[i] : chosen;
    }
    return chosen;
}

static struct row *least_loaded(const struct balance *balance, struct row *const *rows, size_t len)
{
    struct row *chosen = rows[0];
    for (size_t i = 1; i < len; i++) {
        unsigned load = load_of(balance, rows[i]), least = load_of(balance, chosen);
        if (load < least || (load == least && rows[i]->turn < chosen->turn)) {
            chosen = rows[i];
        }
    }
    return chosen;
}

/* Two choices: nearly as good as the best of all, and several nodes that choose by what was reported a
 * moment ago do not all run to the same one. */
static struct row *better_of_two(const struct balance *balance, struct row *const *rows, size_t len, int64_t now_ms,
                                 struct random *random)
{
    uint64_t chance = random_u64(random);
    size_t first = (size_t)(chance % len), second = (first + 1 + (size_t)((chance >> 32) % (len - 1))) % len;
    double best = best_response(balance, now_ms);
    double one = cost_of(balance, rows[first], best, now_ms), other = cost_of(balance, rows[second], best, now_ms);
    return one < other || (one == other && rows[first]->turn < rows[second]->turn) ? rows[first] : rows[second];
}

static struct row *choose(struct balance *balance, struct row *const *rows, size_t len, int64_t now_ms,
                          struct random *random)
{
    if (len <= 1) {
        return len == 0 ? NULL : rows[0];
    }
    switch (balance->policy) {
    case BALANCE_ROUND_ROBIN: return longest_ago(rows, len);
    case BALANCE_LEAST_CONNECTIONS: return least_loaded(balance, rows, len);
    case BALANCE_WEIGHTED_RESPONSE_TIME: break;
    }
    return better_of_two(balance, rows, len, now_ms, random);
}

static int64_t patience_with(const struct balance *balance, const struct row *row)
{
    double processes = row->load.processes > 0 ? row->load.processes : 1;
    double expected = row->load.service_ms * (1 + load_of(balance, row) / processes);
    double ms = patience * (expected > row->response_ms ? expected : row->response_ms);
    return ms < LIMIT_HASH_RETRY_MS       ? LIMIT_HASH_RETRY_MS
           : ms > LIMIT_HASH_RETRY_MS_MAX ? LIMIT_HASH_RETRY_MS_MAX
                                          : (int64_t)ms;
}

struct balance_choice balance_choose(struct balance *balance, const uint64_t *reached, size_t reached_len,
                                     unsigned own_hashes, int64_t now_ms, struct random *random)
{
    struct row *able[ROWS_MAX];
    size_t len = 0;
    struct balance_choice choice = {0};
    lock(balance);
    balance->rows[SELF].load.hashes = own_hashes;
    if (takes_work(balance, &balance->rows[SELF], now_ms)) {
        able[len++] = &balance->rows[SELF];
    }
    for (size_t i = 0; i < reached_len; i++) {
        struct row *row = find(balance, reached[i]);
        if (row != NULL && row != &balance->rows[SELF] && takes_work(balance, row, now_ms)) {
            able[len++] = row;
        }
    }
    struct row *row = choose(balance, able, len, now_ms, random);
    if (row != NULL) {
        choice = (struct balance_choice){row->replica, patience_with(balance, row)};
        row->trial = breaker_of(row, now_ms) == BREAKER_HALF_OPEN;
        row->turn = ++balance->turns;
        row->outstanding++;
        row->sent++;
    }
    unlock(balance);
    return choice;
}

/* ---- what came of it ---- */

static void sample(const struct balance *balance, struct row *row, double took_ms, int64_t now_ms)
{
    double known = response_of(row, best_response(balance, now_ms), now_ms);
    took_ms = took_ms < 0.01 ? 0.01 : took_ms; /* 0 is not known */
    row->response_ms = row->response_ms == 0 ? took_ms : known + weight_of_newest * (took_ms - known);
    row->sampled_ms = now_ms;
}

static void trip(struct row *row, int64_t now_ms)
{
    int64_t pause_ms = LIMIT_BREAKER_MS;
    for (unsigned i = 0; i < row->trips && pause_ms < LIMIT_BREAKER_MS_MAX; i++) {
        pause_ms *= 2;
    }
    row->tripped = true;
    row->trips++;
    row->open_until_ms = now_ms + (pause_ms < LIMIT_BREAKER_MS_MAX ? pause_ms : LIMIT_BREAKER_MS_MAX);
}

static void failed(const struct balance *balance, struct row *row, int64_t took_ms, int64_t now_ms)
{
    row->failed++;
    row->failures++;
    if ((double)took_ms > row->response_ms) {
        sample(balance, row, (double)took_ms, now_ms);
    }
    if (row->tripped ? now_ms >= row->open_until_ms : row->failures >= LIMIT_BREAKER_FAILURES) {
        trip(row, now_ms);
    }
}

void balance_ended(struct balance *balance, uint64_t replica, enum balance_end end, int64_t took_ms, int64_t now_ms)
{
    lock(balance);
    struct row *row = find(balance, replica);
    if (row != NULL) {
        row->outstanding -= row->outstanding > 0;
        switch (end) {
        case BALANCE_DONE:
            sample(balance, row, (double)took_ms, now_ms);
            row->failures = row->trips = 0;
            row->tripped = false;
            break;
        case BALANCE_REFUSED:
            row->failed++;
            row->load.hashes = LIMIT_COMPUTE_QUEUE;
            row->load.yours = 0;
            break;
        case BALANCE_FAILED: failed(balance, row, took_ms, now_ms); break;
        case BALANCE_DROPPED: break;
        }
        row->trial = false;
    }
    unlock(balance);
}

/* ---- reports ---- */

static void forget_silent(struct balance *balance, int64_t now_ms)
{
    for (size_t i = balance->len - 1; i > SELF; i--) {
        const struct row *row = &balance->rows[i];
        if (now_ms - row->reported_ms > LIMIT_LOAD_KEEP_MS && row->outstanding == 0 && row->serving == 0) {
            balance->rows[i] = balance->rows[--balance->len];
        }
    }
}

void balance_report(struct balance *balance, uint64_t replica, const struct balance_load *load, int64_t now_ms)
{
    lock(balance);
    forget_silent(balance, now_ms);
    struct row *row = find(balance, replica);
    if (row == NULL && balance->len < ROWS_MAX) {
        row = &balance->rows[balance->len++];
        *row = (struct row){.replica = replica};
    }
    if (row != NULL && row != &balance->rows[SELF]) {
        row->load = *load;
        row->reported_ms = now_ms;
    }
    unlock(balance);
}

bool balance_is_silent(struct balance *balance, uint64_t replica, int64_t now_ms)
{
    lock(balance);
    const struct row *row = find(balance, replica);
    bool silent = row == NULL || now_ms - row->reported_ms > LIMIT_LOAD_LOST_MS;
    unlock(balance);
    return silent;
}

void balance_serve(struct balance *balance, uint64_t replica)
{
    lock(balance);
    struct row *row = find(balance, replica);
    if (row != NULL) {
        row->serving++;
    }
    unlock(balance);
}

void balance_served(struct balance *balance, uint64_t replica, double service_ms)
{
    lock(balance);
    struct row *row = find(balance, replica);
    if (row != NULL) {
        row->serving -= row->serving > 0;
        row->served += service_ms > 0;
    }
    if (service_ms > 0) {
        double *known = &balance->rows[SELF].load.service_ms;
        *known = *known == 0 ? service_ms : *known + weight_of_newest * (service_ms - *known);
    }
    unlock(balance);
}

struct balance_load balance_load_for(struct balance *balance, uint64_t replica, unsigned own_hashes, bool stopping)
{
    lock(balance);
    const struct row *row = find(balance, replica);
    struct balance_load load = balance->rows[SELF].load;
    load.hashes = own_hashes;
    load.yours = row == NULL ? 0 : row->serving;
    load.stopping = stopping;
    unlock(balance);
    return load;
}

size_t balance_views(struct balance *balance, int64_t now_ms, struct balance_view *out, size_t cap)
{
    size_t len = 0;
    lock(balance);
    for (size_t i = 0; i < balance->len && len < cap; i++) {
        const struct row *row = &balance->rows[i];
        out[len++] = (struct balance_view){.replica = row->replica,
                                           .sent = row->sent,
                                           .failed = row->failed,
                                           .served = row->served,
                                           .outstanding = row->outstanding,
                                           .response_ms = row->response_ms,
                                           .breaker = breaker_of(row, now_ms),
                                           .load = row->load};
    }
    unlock(balance);
    return len;
}
