/* The other end of a link, written a second time from the description in cluster/link.h and link.c: it
 * checks that both mean the same bytes, and says what an honest node never would. It knows the secret. */
#ifndef BELFRY_TESTS_SUPPORT_LINK_PEER_H
#define BELFRY_TESTS_SUPPORT_LINK_PEER_H

#include <sodium.h>

#include "node/base/bytes.h"

enum { LINK_PEER_GREETING = 80, LINK_PEER_POINT = 16, LINK_PEER_MAC = 48 };

struct link_peer {
    bool dials, opened;
    uint8_t root[32], ephemeral[32], receive_key[32];
    uint8_t greetings[2 * LINK_PEER_GREETING]; /* of the dialing side, of the accepting side */
    crypto_secretstream_xchacha20poly1305_state send, receive;
};

void link_peer_init(struct link_peer *peer, bool dials, const uint8_t *secret);
/* The peer's own greeting but for its MAC, to be spoilt; link_peer_seal adds the MAC. An accepting side
 * must have read the other one before. */
uint8_t *link_peer_greeting(struct link_peer *peer);
void link_peer_seal(struct link_peer *peer);
/* The other side's greeting; checked are the MAC and the side. */
bool link_peer_read_greeting(struct link_peer *peer, struct bytes greeting) MUST_USE;
/* Once both greetings are there; appends the header of the peer's stream. */
void link_peer_start(struct link_peer *peer, struct buf *out);
/* Appends a frame. */
void link_peer_push(struct link_peer *peer, uint8_t tag, struct bytes plaintext, struct buf *out);
/* Takes the next frame off what the link has sent after its greeting; false: not whole or not right. */
bool link_peer_pull(struct link_peer *peer, struct bytes *input, uint8_t *out_tag, struct buf *out) MUST_USE;

#endif
