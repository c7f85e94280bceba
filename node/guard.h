/* Revocations in memory: which tokens are refused although their signature holds. Filled from the
 * system partition at start and by notices after; read on every authenticated request, so readers
 * first compare a generation and look further only when it moved. */
#ifndef BELFRY_GUARD_H
#define BELFRY_GUARD_H

#include "node/crypto/token.h"
#include "node/node.h"

struct guard;

struct guard *guard_new(void);
void guard_free(struct guard *guard);
/* Rises with every revocation. */
uint64_t guard_generation(const struct guard *guard);
bool guard_allows(struct guard *guard, const struct claims *claims);
/* Tokens of the account must carry a later time than this. */
int64_t guard_cutoff_ms(struct guard *guard, struct id account);
/* A reducer's notice, on the state writer's thread. */
void guard_notice(struct node *node, const struct notice *notice);
/* Reads all revocations and keys from the system partition. */
enum err guard_load(struct node *node) MUST_USE;

#endif
