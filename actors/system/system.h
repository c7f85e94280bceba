/* The system partition's kind: signing keys, revoked sessions, and nodes that are gone for good. One actor,
 * key "system". */
#ifndef BELFRY_ACTORS_SYSTEM_H
#define BELFRY_ACTORS_SYSTEM_H

#include "actors/kind.h"

extern const struct kind system_kind;

enum { SYSTEM_REVOKE = 1, SYSTEM_ADD_KEY = 2, SYSTEM_RETIRE = 3, SYSTEM_REMOVE_NODE = 4 };
static const struct address system_address = {0, {(const uint8_t *)"system", 6}};

/* Tokens of one session, or of an account issued up to now (except one session), are refused from
 * now on. Kept as long as such a token could live. */
struct revoke {
    struct fieldset set;
    struct id account, session; /* one of the two is set */
    struct id except;           /* with account: this session's tokens stay good */
    int64_t keep_ms;            /* the longest life of such a token; not given: an access token's */
};
extern const struct field revoke_fields[];

/* A stored and announced revocation. */
struct revocation {
    struct fieldset set;
    struct id account, session, except;
    int64_t cutoff_ms; /* tokens whose jti is from then or before; of an account */
    int64_t until_ms;  /* forgotten then */
};
extern const struct field revocation_fields[];

struct signing_key {
    struct fieldset set;
    struct bytes kid;    /* text */
    struct bytes secret; /* Ed25519, 64 bytes */
    struct bytes public; /* 32 bytes */
    int64_t created_at;
};
extern const struct field signing_key_fields[];

/* A node is never a member again; whoever leads a group takes it out of its membership. The row's key is
 * the replica, 8 bytes; its value the time. */
struct retire {
    struct fieldset set;
    struct bytes replica;
};
extern const struct field retire_fields[];
/* The replica of the node with that id: its random half (node/identity.h). */
static inline struct bytes system_replica(const struct id *node)
{
    return bytes_of(node->b + 8, 8);
}

#endif
