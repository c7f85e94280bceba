/* Access tokens: JWT (RFC 7519) signed with Ed25519 (RFC 8037), algorithm pinned (RFC 8725). Any
 * node verifies any token alone, with the public keys of the system partition. */
#ifndef BELFRY_CRYPTO_TOKEN_H
#define BELFRY_CRYPTO_TOKEN_H

#include <sodium.h>

#include "actors/kind.h"
#include "node/base/random.h"

struct claims {
    struct id account, session, jti; /* jti carries the millisecond of issue */
    enum role role;
    int64_t expires_s;
    const char *facade; /* static text; NULL: a token of /v1. A facade's belongs to no session */
};

struct keyring;
struct keyring *keyring_new(void);
void keyring_free(struct keyring *keyring);
/* Any thread. The newest key signs. */
void keyring_add(struct keyring *keyring, struct bytes kid, struct bytes secret, int64_t created_ms);
bool keyring_can_sign(struct keyring *keyring);
/* Appends a JWK set (RFC 7517). */
void keyring_jwks(struct keyring *keyring, struct buf *out);

/* Appends the token. Errors: ERR_NOT_LEADER while there is no key yet. */
enum err token_sign(struct keyring *keyring, const struct claims *claims, int64_t now_s, struct buf *out) MUST_USE;
/* Checks form, key, signature and time. Errors: ERR_UNAUTHORIZED. */
enum err token_verify(struct keyring *keyring, struct bytes token, int64_t now_s, struct claims *out) MUST_USE;

/* The same for a facade's tokens: HS256 (RFC 7518 section 3.2), as those products' clients expect them. The key is
 * derived from the signing key and the facade's name, so that any node verifies any token alone, and none is good
 * elsewhere. more: JSON members, each with a comma behind it. */
enum err token_sign_foreign(struct keyring *keyring, const struct claims *claims, struct bytes more, int64_t now_s,
                            struct buf *out) MUST_USE;
enum err token_verify_foreign(struct keyring *keyring, const char *facade, struct bytes token, int64_t now_s,
                              struct claims *out) MUST_USE;

/* Tokens a worker has verified: not thread-safe. */
struct token_cache;
struct token_entry {
    struct claims claims;
    uint64_t generation; /* of the guard when it was last asked */
};
struct token_cache *token_cache_new(void);
void token_cache_free(struct token_cache *cache);
struct token_entry *token_cache_find(struct token_cache *cache, struct bytes token);
struct token_entry *token_cache_add(struct token_cache *cache, struct bytes token, const struct claims *claims);

#endif
