/* Whose token it is, without touching the account: signature, life time and revocations. */
#ifndef BELFRY_AUTHENTICATE_H
#define BELFRY_AUTHENTICATE_H

#include "node/crypto/token.h"
#include "node/node.h"

/* facade: the name of the one whose token it must be; NULL: of /v1. NULL: it is not valid. Good until the worker's next
 * token. */
const struct token_entry *authenticate(struct node_worker *worker, const char *facade, struct bytes token,
                                       int64_t now_s) MUST_USE;

#endif
