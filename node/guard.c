#include "node/guard.h"

#include <stdlib.h>

#include "actors/system/system.h"
#include "node/base/map.h"

struct guard {
    pthread_rwlock_t lock;
    struct map map; /* of struct revocation, by account or session */
    atomic_uint_fast64_t generation;
};

static struct id subject(const struct revocation *revocation)
{
    return id_is_none(revocation->account) ? revocation->session : revocation->account;
}

static bool same_subject(const void *item, const void *raw)
{
    return id_eq(subject(item), *(const struct id *)raw);
}

struct guard *guard_new(void)
{
    struct guard *guard = mem_zalloc(sizeof *guard);
    CHECK(pthread_rwlock_init(&guard->lock, NULL) == 0);
    map_init(&guard->map, same_subject);
    atomic_init(&guard->generation, 1);
    return guard;
}

void guard_free(struct guard *guard)
{
    if (guard != NULL) {
        size_t at = 0;
        for (struct revocation *row = map_next(&guard->map, &at); row != NULL; row = map_next(&guard->map, &at)) {
            free(row);
        }
        map_close(&guard->map);
        (void)pthread_rwlock_destroy(&guard->lock);
        free(guard);
    }
}

uint64_t guard_generation(const struct guard *guard)
{
    return atomic_load_explicit(&guard->generation, memory_order_acquire);
}

static struct revocation *find(const struct guard *guard, struct id id)
{
    return map_find(&guard->map, map_hash(id_bytes(&id)), &id);
}

/* With the lock held for writing: rows whose tokens have all died by themselves go. */
static void forget_expired(struct guard *guard, int64_t now_ms)
{
    size_t at = 0;
    struct revocation *dead[64];
    size_t count = 0;
    for (struct revocation *row = map_next(&guard->map, &at); row != NULL && count < ARRAY_LEN(dead);
         row = map_next(&guard->map, &at)) {
        if (row->until_ms < now_ms) {
            dead[count++] = row;
        }
    }
    for (size_t i = 0; i < count; i++) {
        struct id id = subject(dead[i]);
        map_remove(&guard->map, map_hash(id_bytes(&id)), dead[i]);
        free(dead[i]);
    }
}

static void add(struct guard *guard, const struct revocation *revocation, int64_t now_ms)
{
    struct id id = subject(revocation);
    CHECK(pthread_rwlock_wrlock(&guard->lock) == 0);
    if ((guard->map.len & 63) == 63) {
        forget_expired(guard, now_ms);
    }
    struct revocation *row = find(guard, id);
    if (row == NULL) {
        row = mem_alloc(sizeof *row);
        *row = *revocation;
        map_add(&guard->map, map_hash(id_bytes(&id)), row);
    } else {
        *row = *revocation;
    }
    atomic_fetch_add_explicit(&guard->generation, 1, memory_order_release);
    CHECK(pthread_rwlock_unlock(&guard->lock) == 0);
}

bool guard_allows(struct guard *guard, const struct claims *claims)
{
    CHECK(pthread_rwlock_rdlock(&guard->lock) == 0);
    const struct revocation *account = find(guard, claims->account);
    bool in_session = !id_is_none(claims->session); /* a facade's token is of none, so none excepts it */
    bool allowed = (!in_session || find(guard, claims->session) == NULL) &&
                   (account == NULL || id_ms(claims->jti) > account->cutoff_ms ||
                    (in_session && id_eq(account->except, claims->session)));
    CHECK(pthread_rwlock_unlock(&guard->lock) == 0);
    return allowed;
}

int64_t guard_cutoff_ms(struct guard *guard, struct id account)
{
    CHECK(pthread_rwlock_rdlock(&guard->lock) == 0);
    const struct revocation *row = find(guard, account);
    int64_t cutoff = row == NULL ? 0 : row->cutoff_ms;
    CHECK(pthread_rwlock_unlock(&guard->lock) == 0);
    return cutoff;
}

static enum err add_packed_key(struct node *node, struct bytes packed)
{
    struct signing_key key = {0};
    TRY(field_unpack(signing_key_fields, packed, &key));
    keyring_add(node->keyring, key.kid, key.secret, key.created_at);
    return OK;
}

void guard_notice(struct node *node, const struct notice *notice)
{
    struct revocation row = {0};
    switch ((enum notice_topic)notice->topic) {
    case NOTICE_REVOKED:
        CHECK(field_unpack(revocation_fields, notice->payload, &row) == OK);
        add(node->guard, &row, clock_wall_ms(node->clock));
        return;
    case NOTICE_KEYS: CHECK(add_packed_key(node, notice->payload) == OK); return;
    case NOTICE_TOUCHED:
    case NOTICE_NONE: return;
    }
}

enum err guard_load(struct node *node)
{
    struct state_reader *reader;
    struct bytes key, value;
    uint8_t from[LIMIT_KEY_BYTES + 1] = {0};
    size_t len = 0;
    TRY(state_reader_new(node->state, &reader));
    enum err err = state_reader_renew(reader);
    struct rows *rows = err == OK ? state_reader_rows(reader, 0) : NULL;
    uint8_t table = TABLE_REVOKED;
    while (err == OK) {
        err = rows_ceil(rows, table, bytes_of(from, len), &key, &value);
        if (err == ERR_NOT_FOUND && table == TABLE_REVOKED) {
            table = TABLE_KEYS;
            len = 0;
            err = OK;
            continue;
        }
        if (err != OK) {
            break;
        }
        struct revocation row = {0};
        err = table == TABLE_KEYS ? add_packed_key(node, value) : field_unpack(revocation_fields, value, &row);
        if (err == OK && table == TABLE_REVOKED) {
            add(node->guard, &row, 0);
        }
        memcpy(from, key.ptr, key.len);
        from[key.len] = 0;
        len = key.len + 1;
    }
    state_reader_free(reader);
    return err == ERR_NOT_FOUND ? OK : err;
}
