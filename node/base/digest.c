#include "node/base/digest.h"

#include <sodium.h>

struct digest digest_of(struct bytes first, struct bytes second)
{
    struct digest out;
    crypto_generichash_state state;
    uint64_t len = first.len;
    CHECK(crypto_generichash_init(&state, NULL, 0, sizeof out.b) == 0);
    CHECK(crypto_generichash_update(&state, (const uint8_t *)&len, sizeof len) == 0);
    CHECK(crypto_generichash_update(&state, first.ptr, first.len) == 0);
    CHECK(crypto_generichash_update(&state, second.ptr, second.len) == 0);
    CHECK(crypto_generichash_final(&state, out.b, sizeof out.b) == 0);
    return out;
}
