#include "node/idempotency.h"

#include "node/decode.h"

enum err idempotency_digests(const struct http_request *http, const struct op *op, void *in, struct id account,
                             struct arena *arena, struct bytes *out_key, struct bytes *out_body)
{
    struct bytes key = http_header(http, "idempotency-key");
    if (key.ptr == NULL || http->method != METHOD_POST || id_is_none(account)) {
        return OK;
    }
    if (key.len == 0 || key.len > LIMIT_IDEMPOTENCY_KEY_BYTES) {
        return ERR_BAD_REQUEST;
    }
    struct digest scope = digest_of(bytes_str(http_method_name(http->method)), http->path);
    struct digest key_digest = digest_of(digest_bytes(&scope), key);
    struct digest body_digest = digest_of(id_bytes(&account), http->body);
    if ((op->flags & OP_RAW) != 0) { /* its headers say as much as its body */
        body_digest = decode_raw_digest(op->in, in, &body_digest);
    }
    *out_key = arena_copy(arena, digest_bytes(&key_digest));
    *out_body = arena_copy(arena, digest_bytes(&body_digest));
    return OK;
}
