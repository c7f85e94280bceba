#include "node/authenticate.h"

#include "node/guard.h"

const struct token_entry *authenticate(struct node_worker *worker, const char *facade, struct bytes token,
                                       int64_t now_s)
{
    struct token_entry *entry = token_cache_find(worker->tokens, token);
    if (entry != NULL && entry->claims.facade != facade) {
        return NULL; /* good elsewhere */
    }
    if (entry == NULL) {
        struct claims claims;
        struct keyring *keyring = worker->node->keyring;
        enum err err = facade == NULL ? token_verify(keyring, token, now_s, &claims)
                                      : token_verify_foreign(keyring, facade, token, now_s, &claims);
        if (err != OK || !id_is_placed(claims.account, worker->node->data_partitions)) {
            return NULL;
        }
        entry = token_cache_add(worker->tokens, token, &claims);
    }
    uint64_t generation = guard_generation(worker->node->guard);
    if (entry->generation != generation) {
        if (!guard_allows(worker->node->guard, &entry->claims)) {
            return NULL;
        }
        entry->generation = generation;
    }
    return now_s < entry->claims.expires_s ? entry : NULL;
}
