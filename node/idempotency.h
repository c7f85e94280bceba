/* Idempotency-Key (docs/http-api.md): what the key of a request stands for, and what tells the same request sent again
 * from another one with its key. */
#ifndef BELFRY_IDEMPOTENCY_H
#define BELFRY_IDEMPOTENCY_H

#include "node/http/http.h"

/* Digests in arena memory; left empty where the request has no key, or one that does not count. The key is of this
 * method and path (in the log it is the account's). in: of a raw operation, what was decoded. Errors: ERR_BAD_REQUEST.
 */
enum err idempotency_digests(const struct http_request *http, const struct op *op, void *in, struct id account,
                             struct arena *arena, struct bytes *out_key, struct bytes *out_body) MUST_USE;

#endif
