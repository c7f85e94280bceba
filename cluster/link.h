/* A link between two nodes: one TCP connection, over which the dialing side speaks and the accepting
 * side listens. Bytes in, bytes out: no I/O, no clock, no threads.
 *
 * Handshake: each side sends a greeting with its protocol versions, its worker, an ephemeral X25519 key
 * and a MAC keyed with the cluster's secret over all that was said so far, the dialing side first; both
 * derive one key a direction from the secret, the shared point and the transcript (BLAKE2b). All that
 * follows are frames of libsodium's secretstream: length (4, little endian, of what follows) | ciphertext;
 * the length is authenticated too. The first frame of each side is its hello, the accepting side's comes
 * once it has welcomed the other; the only other frame it ever sends is a last word that says why the
 * link ends. Nothing is allocated by the peer's word, only by what has come: before the peer's MAC is
 * checked that is a greeting, before its hello LINK_HELLO_BYTES, then one frame. Without a secret the
 * same code runs with an empty one: that is for trying out on loopback alone.
 *
 * Whatever is wrong ends the link with a reason that can be logged; a refused peer is told the reason
 * where that is safe: its versions in clear, all else within the encryption, nothing after a wrong MAC.
 * Time limits are the caller's, and so is an end of the connection within a frame. */
#ifndef BELFRY_CLUSTER_LINK_H
#define BELFRY_CLUSTER_LINK_H

#include "node/base/bytes.h"
#include "node/base/err.h"
#include "node/base/id.h"

enum {
    LINK_VERSION = 1,            /* what we speak */
    LINK_VERSION_MIN = 1,        /* the oldest we understand */
    LINK_SECRET_BYTES = 32,      /* made by `belfry secret` */
    LINK_HELLO_BYTES = 2048,     /* the first frame of either side, sealed, at most */
    LINK_FRAME_BYTES = 32 << 20, /* any other frame's plaintext, at most */
    LINK_ADDRESS_BYTES = 256,
    LINK_REASON_BYTES = 160
};

/* What a node says of itself. */
struct link_hello {
    struct id node;
    struct id cluster;                /* none: it belongs to no cluster yet */
    bool has_leader;                  /* of the system partition: its cluster has a quorum */
    uint32_t partitions;              /* of its cluster, data only; 0: it belongs to none */
    uint64_t run;                     /* drawn at its start: tells a restarted node from the one before */
    uint32_t workers;                 /* how many it has */
    uint32_t worker;                  /* which one of them speaks, or listens */
    char address[LINK_ADDRESS_BYTES]; /* where it is reached by its peers */
    char software[32];                /* its version, for people */
};

struct link_options {
    bool dials;
    const uint8_t *secret;   /* LINK_SECRET_BYTES, or NULL; read by link_new alone */
    struct link_hello hello; /* worker < workers <= 65535 */
    /* Neither may free the link or give it input. */
    /* The peer's hello has come: OK, or why it is not welcome (ERR_FORBIDDEN: another cluster, …), with
     * words into why (LINK_REASON_BYTES) for both logs. */
    enum err (*met)(void *ctx, const struct link_hello *peer, char *why);
    /* Accepting side: the plaintext of a frame; borrowed. Anything but OK ends the link. */
    enum err (*frame)(void *ctx, struct bytes frame);
    void *ctx;
};

struct link;
struct link *link_new(const struct link_options *options);
void link_free(struct link *link);

/* How many bytes of a greeting are needed to tell its worker, and which worker of ours it asks for (the
 * one of its own number, modulo ours): so that a connection can be handed to that worker before a link is
 * made. -1: too short, or no greeting of a dialing side; of whatever version. */
enum { LINK_PEEK_BYTES = 16 };
int link_peek_worker(struct bytes greeting, unsigned workers);

/* Bytes from the peer. On anything but OK the link is over, and says the same from then on: link_reason
 * says why; link_output may still hold a last word. Errors: ERR_FORBIDDEN (also: the peer refused us),
 * ERR_TOO_LARGE, ERR_BAD_REQUEST, ERR_NOT_IMPLEMENTED (version), or what met and frame said. */
enum err link_input(struct link *link, struct bytes input) MUST_USE;
/* What is to be sent; the caller takes it out with buf functions and sends it in order. */
struct buf *link_output(struct link *link);
/* The peer's hello is welcome; on the dialing side ours is too, and frames may be sent. False once over. */
bool link_is_up(const struct link *link);
const struct link_hello *link_peer(const struct link *link); /* valid once met was called */
const char *link_reason(const struct link *link);

/* Dialing side, once up: appends a frame to the output. The plaintext is at most LINK_FRAME_BYTES. */
void link_send(struct link *link, struct bytes plaintext);

#endif
