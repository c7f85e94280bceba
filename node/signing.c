#include "node/signing.h"

#include "actors/facades/facade.h"
#include "node/call.h"
#include "node/guard.h"

static struct node_worker *worker_of(struct script *script)
{
    return container_of(script, struct call, script)->worker;
}

enum err signing_sign(struct script *script, struct id account, struct id session, enum role role, int64_t stamp_ms,
                      struct buf *out)
{
    struct node_worker *worker = worker_of(script);
    int64_t now_ms = clock_wall_ms(worker->node->clock);
    struct claims claims = {account, session,
                            id_make(stamp_ms, id_partition(account), random_u64(&worker->worker.random)), role,
                            now_ms / 1000 + LIMIT_ACCESS_TOKEN_S};
    return token_sign(worker->node->keyring, &claims, now_ms / 1000, out);
}

int64_t signing_stamp(struct script *script, struct id account)
{
    struct node *node = worker_of(script)->node;
    int64_t now_ms = clock_wall_ms(node->clock), cutoff = guard_cutoff_ms(node->guard, account);
    return now_ms > cutoff ? now_ms : cutoff + 1;
}

enum err signing_sign_foreign(struct script *script, const struct foreign_claims *foreign, struct buf *out)
{
    struct node_worker *worker = worker_of(script);
    int64_t now_ms = clock_wall_ms(worker->node->clock);
    /* A revocation is kept for a token's lifetime: one from before it must not end later. A stamp may be ahead of now.
     */
    int64_t from_s = (foreign->stamp_ms < now_ms ? foreign->stamp_ms : now_ms) / 1000;
    struct claims claims = {
        .account = foreign->account,
        .jti = id_make(foreign->stamp_ms, id_partition(foreign->account), random_u64(&worker->worker.random)),
        .role = ROLE_USER,
        .expires_s = from_s + foreign->lifetime_s,
        .facade = foreign->facade};
    return token_sign_foreign(worker->node->keyring, &claims, foreign->more, from_s, out);
}
