#include "tests/support/link_peer.h"

enum {
    STREAM = crypto_secretstream_xchacha20poly1305_HEADERBYTES,
    SEAL = crypto_secretstream_xchacha20poly1305_ABYTES
};

/* out = BLAKE2b(label | shared | said), keyed with the root. */
static void hash(const struct link_peer *peer, const char *label, struct bytes shared, size_t said, uint8_t *out,
                 size_t out_len)
{
    struct buf text = {0};
    buf_add_str(&text, label);
    buf_add_bytes(&text, shared);
    buf_add(&text, peer->greetings, said);
    CHECK(crypto_generichash(out, out_len, text.ptr, text.len, peer->root, sizeof peer->root) == 0);
    buf_free(&text);
}

static void mac(const struct link_peer *peer, bool dials, uint8_t *out)
{
    hash(peer, dials ? "belfry.link.dials" : "belfry.link.accepts", BYTES_LIT(""),
         (dials ? 0 : LINK_PEER_GREETING) + LINK_PEER_MAC, out, 32);
}

void link_peer_init(struct link_peer *peer, bool dials, const uint8_t *secret)
{
    static const uint8_t label[] = "belfry.link.root";
    *peer = (struct link_peer){.dials = dials};
    CHECK(sodium_init() >= 0);
    CHECK(crypto_generichash(peer->root, 32, label, sizeof label - 1, secret, secret == NULL ? 0 : 32) == 0);
    randombytes_buf(peer->ephemeral, 32);
    uint8_t *greeting = link_peer_greeting(peer);
    memcpy(greeting, "blfrlink\1\0\1\0\0\0", 14);
    greeting[14] = dials ? 1 : 2;
    CHECK(crypto_scalarmult_base(greeting + LINK_PEER_POINT, peer->ephemeral) == 0);
}

uint8_t *link_peer_greeting(struct link_peer *peer)
{
    return peer->greetings + (peer->dials ? 0 : LINK_PEER_GREETING);
}

void link_peer_seal(struct link_peer *peer)
{
    mac(peer, peer->dials, link_peer_greeting(peer) + LINK_PEER_MAC);
}

bool link_peer_read_greeting(struct link_peer *peer, struct bytes greeting)
{
    uint8_t wanted[32];
    uint8_t *to = peer->greetings + (peer->dials ? LINK_PEER_GREETING : 0);
    CHECK(greeting.len >= LINK_PEER_GREETING);
    memcpy(to, greeting.ptr, LINK_PEER_GREETING);
    mac(peer, !peer->dials, wanted);
    return to[14] == (peer->dials ? 2 : 1) && memcmp(to + LINK_PEER_MAC, wanted, 32) == 0;
}

void link_peer_start(struct link_peer *peer, struct buf *out)
{
    uint8_t shared[32], keys[64];
    const uint8_t *other = peer->greetings + (peer->dials ? LINK_PEER_GREETING : 0);
    CHECK(crypto_scalarmult(shared, peer->ephemeral, other + LINK_PEER_POINT) == 0);
    hash(peer, "belfry.link.keys", bytes_of(shared, sizeof shared), sizeof peer->greetings, keys, sizeof keys);
    CHECK(crypto_secretstream_xchacha20poly1305_init_push(&peer->send, buf_room(out, STREAM),
                                                          keys + (peer->dials ? 0 : 32)) == 0);
    out->len += STREAM;
    memcpy(peer->receive_key, keys + (peer->dials ? 32 : 0), 32);
}

void link_peer_push(struct link_peer *peer, uint8_t tag, struct bytes plaintext, struct buf *out)
{
    uint32_t sealed = (uint32_t)plaintext.len + SEAL;
    uint8_t *to = buf_room(out, 4 + sealed);
    memcpy(to, &sealed, 4);
    CHECK(crypto_secretstream_xchacha20poly1305_push(&peer->send, to + 4, NULL, plaintext.ptr, plaintext.len, to, 4,
                                                     tag) == 0);
    out->len += 4 + sealed;
}

bool link_peer_pull(struct link_peer *peer, struct bytes *input, uint8_t *out_tag, struct buf *out)
{
    uint32_t sealed;
    if (!peer->opened && input->len >= STREAM) {
        CHECK(crypto_secretstream_xchacha20poly1305_init_pull(&peer->receive, input->ptr, peer->receive_key) == 0);
        *input = bytes_of(input->ptr + STREAM, input->len - STREAM);
        peer->opened = true;
    }
    if (!peer->opened || input->len < 4 || (memcpy(&sealed, input->ptr, 4), sealed) > input->len - 4 || sealed < SEAL) {
        return false;
    }
    uint8_t *to = buf_room(out, sealed);
    if (crypto_secretstream_xchacha20poly1305_pull(&peer->receive, to, NULL, out_tag, input->ptr + 4, sealed,
                                                   input->ptr, 4) != 0) {
        return false;
    }
    out->len += sealed - SEAL;
    *input = bytes_of(input->ptr + 4 + sealed, input->len - 4 - sealed);
    return true;
}
