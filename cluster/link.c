/* A greeting: magic (8) | oldest version (2) | newest (2) | worker (2) | side (1) | 0 (1) | key (32) | MAC (32).
 * The first LINK_PEEK_BYTES are the same in every version. Then, each way: the stream's header (24) and
 * frames. What a frame is, its tag says, which is authenticated with it, as is the length before it. */
#include "cluster/link.h"

#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/base/text.h"
#include "node/codec/field.h"

enum {
    HEAD_BYTES = LINK_PEEK_BYTES,
    POINT_BYTES = crypto_scalarmult_BYTES,
    MAC_BYTES = crypto_generichash_BYTES,
    GREETING_BYTES = HEAD_BYTES + POINT_BYTES + MAC_BYTES,
    KEY_BYTES = crypto_secretstream_xchacha20poly1305_KEYBYTES,
    STREAM_BYTES = crypto_secretstream_xchacha20poly1305_HEADERBYTES,
    SEAL_BYTES = crypto_secretstream_xchacha20poly1305_ABYTES, /* a frame is longer than its plaintext */
    LENGTH_BYTES = 4,
    KEEP_BYTES = 64 << 10 /* of a buffer, for the next frame: a large one is rare */
};

/* Where the parts of a greeting's head stand. */
enum { AT_OLDEST = 8, AT_NEWEST = 10, AT_WORKER = 12, AT_SIDE = 14 };
static const uint8_t magic[8] = {'b', 'l', 'f', 'r', 'l', 'i', 'n', 'k'};

/* Who greets; so that a greeting cannot be sent back to where it came from. A refusal is a head alone. */
enum side { SIDE_DIALS = 1, SIDE_ACCEPTS = 2, SIDE_REFUSES = 3 };

enum tag {
    TAG_MESSAGE = crypto_secretstream_xchacha20poly1305_TAG_MESSAGE,
    TAG_HELLO = crypto_secretstream_xchacha20poly1305_TAG_PUSH,
    TAG_LAST_WORD = crypto_secretstream_xchacha20poly1305_TAG_FINAL /* plaintext: why the link ends */
};

struct link {
    struct link_options options;
    enum err (*take)(struct link *link, struct bytes piece); /* the step that is next */
    size_t need;                                             /* bytes it takes */
    bool met, up;
    enum err err; /* anything but OK: the link is over */
    uint8_t length[LENGTH_BYTES];
    uint8_t greetings[2][GREETING_BYTES]; /* the dialing side's, the accepting side's */
    uint8_t root[KEY_BYTES];              /* made of the secret; this and what follows is wiped after use */
    uint8_t ephemeral[crypto_scalarmult_SCALARBYTES];
    uint8_t receive_key[KEY_BYTES];
    crypto_secretstream_xchacha20poly1305_state send, receive;
    struct buf in, plain, out;
    struct link_hello peer;
    char reason[LINK_REASON_BYTES];
};

/* A step takes a piece of input of a size known before, and says which one comes next. */
static enum err take_head(struct link *link, struct bytes piece);
static enum err take_greeting(struct link *link, struct bytes piece);
static enum err take_stream(struct link *link, struct bytes piece);
static enum err take_length(struct link *link, struct bytes piece);
static enum err take_frame(struct link *link, struct bytes piece);

static void expect(struct link *link, enum err (*take)(struct link *, struct bytes), size_t need)
{
    link->take = take;
    link->need = need;
}

static enum err PRINTF_LIKE(3, 4) end(struct link *link, enum err err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(link->reason, sizeof link->reason, fmt, args);
    va_end(args);
    return err;
}

static void put_le(uint8_t *to, size_t size, uint64_t value)
{
    for (size_t i = 0; i < size; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint32_t get_le(const uint8_t *from, size_t size)
{
    uint32_t value = 0;
    for (size_t i = 0; i < size; i++) {
        value |= (uint32_t)from[i] << (8 * i);
    }
    return value;
}

/* ---- keys ---- */

static void forget_keys(struct link *link)
{
    sodium_memzero(link->root, sizeof link->root);
    sodium_memzero(link->ephemeral, sizeof link->ephemeral);
    sodium_memzero(link->receive_key, sizeof link->receive_key);
    sodium_memzero(&link->send, sizeof link->send);
    sodium_memzero(&link->receive, sizeof link->receive);
}

/* BLAKE2b, keyed with the root, over what it is for and the first bytes of both greetings. No label is
 * the beginning of another one followed by the magic, so none of these is ever taken for another. */
static void derive(const struct link *link, const char *label, struct bytes shared, size_t said, uint8_t *out,
                   size_t out_len)
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, link->root, sizeof link->root, out_len);
    crypto_generichash_update(&state, (const uint8_t *)label, strlen(label));
    crypto_generichash_update(&state, shared.ptr, shared.len);
    crypto_generichash_update(&state, link->greetings[0], said);
    crypto_generichash_final(&state, out, out_len);
    sodium_memzero(&state, sizeof state);
}

/* Over all that was said before it. */
static void derive_mac(const struct link *link, bool of_dialing, uint8_t *out)
{
    if (of_dialing) {
        derive(link, "belfry.link.dials", BYTES_LIT(""), GREETING_BYTES - MAC_BYTES, out, MAC_BYTES);
    } else {
        derive(link, "belfry.link.accepts", BYTES_LIT(""), 2 * GREETING_BYTES - MAC_BYTES, out, MAC_BYTES);
    }
}

/* One key a direction, the dialing side's first; our stream's header goes out. */
static void start_streams(struct link *link, struct bytes shared)
{
    uint8_t keys[2 * KEY_BYTES];
    derive(link, "belfry.link.keys", shared, sizeof link->greetings, keys, sizeof keys);
    const uint8_t *send_key = keys + (link->options.dials ? 0 : KEY_BYTES);
    memcpy(link->receive_key, keys + (link->options.dials ? KEY_BYTES : 0), KEY_BYTES);
    uint8_t *header = buf_room(&link->out, STREAM_BYTES);
    CHECK(crypto_secretstream_xchacha20poly1305_init_push(&link->send, header, send_key) == 0);
    link->out.len += STREAM_BYTES;
    sodium_memzero(keys, sizeof keys);
    sodium_memzero(link->root, sizeof link->root);
    sodium_memzero(link->ephemeral, sizeof link->ephemeral);
}

/* ---- out ---- */

static void put_head(const struct link *link, enum side side, uint8_t *to)
{
    memcpy(to, magic, sizeof magic);
    put_le(to + AT_OLDEST, 2, LINK_VERSION_MIN);
    put_le(to + AT_NEWEST, 2, LINK_VERSION);
    put_le(to + AT_WORKER, 2, link->options.hello.worker);
    put_le(to + AT_SIDE, 2, side);
}

static void greet(struct link *link)
{
    bool dials = link->options.dials;
    uint8_t *greeting = link->greetings[dials ? 0 : 1];
    put_head(link, dials ? SIDE_DIALS : SIDE_ACCEPTS, greeting);
    CHECK(crypto_scalarmult_base(greeting + HEAD_BYTES, link->ephemeral) == 0);
    derive_mac(link, dials, greeting + HEAD_BYTES + POINT_BYTES);
    buf_add(&link->out, greeting, GREETING_BYTES);
}

static void push(struct link *link, enum tag tag, struct bytes plaintext)
{
    size_t sealed = plaintext.len + SEAL_BYTES;
    uint8_t *to = buf_room(&link->out, LENGTH_BYTES + sealed);
    put_le(to, LENGTH_BYTES, sealed);
    CHECK(crypto_secretstream_xchacha20poly1305_push(&link->send, to + LENGTH_BYTES, NULL, plaintext.ptr, plaintext.len,
                                                     to, LENGTH_BYTES, (uint8_t)tag) == 0);
    link->out.len += LENGTH_BYTES + sealed;
}

/* The peer learns what our log says. */
static enum err end_telling(struct link *link, enum err err, const char *why)
{
    push(link, TAG_LAST_WORD, bytes_str(why));
    return end(link, err, "%s", why);
}

/* ---- hello ---- */

struct hello_body {
    struct fieldset set;
    struct id node, cluster;
    int64_t run; /* the bits of an unsigned one */
    int64_t workers, worker;
    struct bytes address, software;
    int64_t partitions;
    bool has_leader;
};

static const struct field hello_fields[] = {FIELD_ID(1, hello_body, node, FIELD_REQUIRED),
                                            FIELD_ID(2, hello_body, cluster, FIELD_REQUIRED),
                                            FIELD_INT(3, hello_body, run, INT64_MIN, INT64_MAX, FIELD_REQUIRED),
                                            FIELD_INT(4, hello_body, workers, 1, UINT16_MAX, FIELD_REQUIRED),
                                            FIELD_INT(5, hello_body, worker, 0, UINT16_MAX, FIELD_REQUIRED),
                                            FIELD_STRING(6, hello_body, address, 0, 0, FIELD_REQUIRED),
                                            FIELD_STRING(7, hello_body, software, 0, 0, FIELD_REQUIRED),
                                            FIELD_INT(8, hello_body, partitions, 0, UINT16_MAX, 0),
                                            FIELD_BOOL(9, hello_body, has_leader, 0),
                                            FIELDS_END};
enum { HELLO_FIELDS = ARRAY_LEN(hello_fields) - 1, HELLO_MANDATORY = 7 /* the first ones */ };

static void send_hello(struct link *link)
{
    const struct link_hello *hello = &link->options.hello;
    struct hello_body body = {{field_bit(HELLO_FIELDS) - 1, 0},
                              hello->node,
                              hello->cluster,
                              (int64_t)hello->run,
                              hello->workers,
                              hello->worker,
                              bytes_str(hello->address),
                              bytes_str(hello->software),
                              hello->partitions,
                              hello->has_leader};
    struct buf packed = {0};
    field_pack(&packed, hello_fields, &body);
    CHECK(packed.len + SEAL_BYTES <= LINK_HELLO_BYTES);
    push(link, TAG_HELLO, buf_bytes(&packed));
    buf_free(&packed);
}

/* Texts end up in logs and in calls of the resolver. */
static bool take_text(struct bytes text, char *to, size_t size)
{
    if (text.len >= size || text_utf8_prefix(text) != text.len || text_has_controls(text)) {
        return false;
    }
    memcpy(to, text.ptr, text.len);
    to[text.len] = 0;
    return true;
}

static bool decode_hello(struct bytes packed, struct link_hello *out)
{
    struct hello_body body = {0};
    if (field_unpack(hello_fields, packed, &body) != OK ||
        (body.set.has & (field_bit(HELLO_MANDATORY) - 1)) != field_bit(HELLO_MANDATORY) - 1 || body.partitions < 0 ||
        body.partitions > UINT16_MAX || body.workers < 1 || body.workers > UINT16_MAX || body.worker < 0 ||
        body.worker >= body.workers || id_is_none(body.node)) {
        return false;
    }
    *out = (struct link_hello){.node = body.node,
                               .partitions = (uint32_t)body.partitions,
                               .has_leader = body.has_leader,
                               .cluster = body.cluster,
                               .run = (uint64_t)body.run,
                               .workers = (uint32_t)body.workers,
                               .worker = (uint32_t)body.worker};
    return take_text(body.address, out->address, sizeof out->address) &&
           take_text(body.software, out->software, sizeof out->software);
}

/* ---- in: greeting ---- */

static uint8_t *peer_greeting(struct link *link)
{
    return link->greetings[link->options.dials ? 1 : 0];
}

int link_peek_worker(struct bytes greeting, unsigned workers)
{
    CHECK(workers > 0);
    if (greeting.len < HEAD_BYTES || memcmp(greeting.ptr, magic, sizeof magic) != 0 ||
        get_le(greeting.ptr + AT_SIDE, 1) != SIDE_DIALS) {
        return -1;
    }
    return (int)(get_le(greeting.ptr + AT_WORKER, 2) % workers);
}

/* The newest version both speak is 1 as long as there is one; a second one will have to look here. */
_Static_assert(LINK_VERSION == 1 && LINK_VERSION_MIN == 1, "keep the version agreed upon, and speak it");

static enum err take_head(struct link *link, struct bytes piece)
{
    if (memcmp(piece.ptr, magic, sizeof magic) != 0) {
        return end(link, ERR_BAD_REQUEST, "the peer does not greet as a node does");
    }
    unsigned oldest = get_le(piece.ptr + AT_OLDEST, 2), newest = get_le(piece.ptr + AT_NEWEST, 2);
    unsigned side = piece.ptr[AT_SIDE];
    if (side == SIDE_REFUSES || oldest > LINK_VERSION || newest < LINK_VERSION_MIN || oldest > newest) {
        if (side != SIDE_REFUSES) { /* said in clear: it was not asked who they are, and is no secret */
            put_head(link, SIDE_REFUSES, buf_room(&link->out, HEAD_BYTES));
            link->out.len += HEAD_BYTES;
        }
        return end(link, ERR_NOT_IMPLEMENTED, "the peer speaks versions %u to %u, this node %d to %d", oldest, newest,
                   LINK_VERSION_MIN, LINK_VERSION);
    }
    if (side != (link->options.dials ? SIDE_ACCEPTS : SIDE_DIALS)) {
        return end(link, ERR_BAD_REQUEST, "the peer greets as if it were on this side of the link");
    }
    memcpy(peer_greeting(link), piece.ptr, HEAD_BYTES);
    expect(link, take_greeting, GREETING_BYTES - HEAD_BYTES);
    return OK;
}

static enum err take_greeting(struct link *link, struct bytes piece)
{
    uint8_t mac[MAC_BYTES], shared[POINT_BYTES];
    uint8_t *greeting = peer_greeting(link);
    memcpy(greeting + HEAD_BYTES, piece.ptr, piece.len);
    derive_mac(link, !link->options.dials, mac);
    if (sodium_memcmp(mac, greeting + HEAD_BYTES + POINT_BYTES, sizeof mac) != 0) {
        return end(link, ERR_FORBIDDEN, "the peer does not know the cluster's secret");
    }
    /* Refuses an all-zero point: then anybody would know it (RFC 7748, section 6.1). */
    if (crypto_scalarmult(shared, link->ephemeral, greeting + HEAD_BYTES) != 0) {
        return end(link, ERR_FORBIDDEN, "the peer's key is a weak one");
    }
    if (!link->options.dials) {
        greet(link);
    }
    start_streams(link, bytes_of(shared, sizeof shared));
    sodium_memzero(shared, sizeof shared);
    if (link->options.dials) {
        send_hello(link);
    }
    expect(link, take_stream, STREAM_BYTES);
    return OK;
}

/* ---- in: frames ---- */

static enum err take_stream(struct link *link, struct bytes piece)
{
    CHECK(crypto_secretstream_xchacha20poly1305_init_pull(&link->receive, piece.ptr, link->receive_key) == 0);
    sodium_memzero(link->receive_key, sizeof link->receive_key);
    expect(link, take_length, LENGTH_BYTES);
    return OK;
}

static enum err take_length(struct link *link, struct bytes piece)
{
    /* Only a dialing side has more to say than hello and a last word. */
    bool speaks = link->met && !link->options.dials;
    uint32_t length = get_le(piece.ptr, LENGTH_BYTES), max = speaks ? LINK_FRAME_BYTES + SEAL_BYTES : LINK_HELLO_BYTES;
    if (length > max) {
        return end(link, ERR_TOO_LARGE, "a frame of %u bytes where %u are the most", length, max);
    }
    if (length < SEAL_BYTES) {
        return end(link, ERR_BAD_REQUEST, "a frame of %u bytes is too short to be one", length);
    }
    memcpy(link->length, piece.ptr, LENGTH_BYTES);
    expect(link, take_frame, length);
    return OK;
}

static enum err take_hello(struct link *link, struct bytes packed)
{
    char why[LINK_REASON_BYTES] = "";
    if (link->met) {
        return end_telling(link, ERR_BAD_REQUEST, "a second hello");
    }
    if (!decode_hello(packed, &link->peer)) {
        return end_telling(link, ERR_BAD_REQUEST, "the hello is not well-formed");
    }
    if (link->peer.worker != get_le(peer_greeting(link) + AT_WORKER, 2)) {
        return end_telling(link, ERR_BAD_REQUEST, "the hello is of another worker than the greeting");
    }
    link->met = true;
    enum err err = link->options.met(link->options.ctx, &link->peer, why);
    if (err != OK) {
        why[sizeof why - 1] = 0;
        return end_telling(link, err, why[0] != 0 ? why : err_title(err));
    }
    if (!link->options.dials) {
        send_hello(link);
    }
    link->up = true;
    return OK;
}

static enum err take_message(struct link *link, struct bytes plaintext)
{
    if (!link->met) {
        return end_telling(link, ERR_BAD_REQUEST, "a frame before the hello");
    }
    if (link->options.dials) {
        return end_telling(link, ERR_BAD_REQUEST, "a frame from the side that listens");
    }
    enum err err = link->options.frame(link->options.ctx, plaintext);
    sodium_memzero(link->plain.ptr, plaintext.len); /* there are passwords in some */
    return err == OK ? OK : end_telling(link, err, err_title(err));
}

static enum err take_last_word(struct link *link, struct bytes text)
{
    char why[LINK_REASON_BYTES];
    size_t len = text.len < sizeof why - 1 ? text.len : sizeof why - 1;
    for (size_t i = 0; i < len; i++) {
        why[i] = text.ptr[i] >= ' ' && text.ptr[i] <= '~' ? (char)text.ptr[i] : '?';
    }
    return end(link, ERR_FORBIDDEN, "the peer refused: %.*s", (int)len, why);
}

/* To where the frame's plaintext goes; it is checked as a whole before a byte of it is looked at. */
static enum err take_frame(struct link *link, struct bytes piece)
{
    unsigned char tag = 0;
    uint8_t *to = buf_room(&link->plain, piece.len - SEAL_BYTES);
    if (crypto_secretstream_xchacha20poly1305_pull(&link->receive, to, NULL, &tag, piece.ptr, piece.len, link->length,
                                                   LENGTH_BYTES) != 0) {
        return end(link, ERR_FORBIDDEN, "a frame was changed, repeated, or is not in its place");
    }
    struct bytes plaintext = bytes_of(to, piece.len - SEAL_BYTES);
    expect(link, take_length, LENGTH_BYTES);
    switch (tag) {
    case TAG_HELLO: return take_hello(link, plaintext);
    case TAG_MESSAGE: return take_message(link, plaintext);
    case TAG_LAST_WORD: return take_last_word(link, plaintext);
    }
    return end_telling(link, ERR_BAD_REQUEST, "a frame of an unknown kind");
}

/* Gathers what the step needs, and no more; what has come in one piece is not copied. Nothing grows
 * by what is announced, only by what is here. */
static bool next_piece(struct link *link, struct bytes *input, struct bytes *out)
{
    size_t missing = link->need - link->in.len, more = missing < input->len ? missing : input->len;
    struct bytes taken = bytes_of(input->ptr, more);
    if (more == 0) {
        return false;
    }
    *input = bytes_of(input->ptr + more, input->len - more);
    if (more == link->need) {
        *out = taken;
        return true;
    }
    buf_add_bytes(&link->in, taken);
    *out = buf_bytes(&link->in);
    return more == missing;
}

static void release(struct buf *buf)
{
    buf->len = 0;
    if (buf->cap > KEEP_BYTES) {
        buf_free(buf);
    }
}

enum err link_input(struct link *link, struct bytes input)
{
    struct bytes piece;
    while (link->err == OK && next_piece(link, &input, &piece)) {
        link->err = link->take(link, piece);
        release(&link->in);
        release(&link->plain);
    }
    if (link->err != OK) {
        link->up = false;
        forget_keys(link);
    }
    return link->err;
}

/* ---- life ---- */

struct link *link_new(const struct link_options *options)
{
    const struct link_hello *hello = &options->hello;
    CHECK(sodium_init() >= 0);
    CHECK(options->met != NULL && (options->dials || options->frame != NULL));
    CHECK(!id_is_none(hello->node) && hello->worker < hello->workers && hello->workers <= UINT16_MAX);
    CHECK(memchr(hello->address, 0, sizeof hello->address) != NULL);
    CHECK(memchr(hello->software, 0, sizeof hello->software) != NULL);
    struct link *link = mem_zalloc(sizeof *link);
    link->options = *options;
    link->options.secret = NULL; /* it is the caller's, and may be gone */
    static const char label[] = "belfry.link.root";
    CHECK(crypto_generichash(link->root, sizeof link->root, (const uint8_t *)label, sizeof label - 1, options->secret,
                             options->secret == NULL ? 0 : LINK_SECRET_BYTES) == 0);
    randombytes_buf(link->ephemeral, sizeof link->ephemeral);
    expect(link, take_head, HEAD_BYTES);
    if (options->dials) {
        greet(link);
    }
    return link;
}

void link_free(struct link *link)
{
    if (link != NULL) {
        forget_keys(link);
        buf_free(&link->in);
        buf_free(&link->plain);
        buf_free(&link->out);
        free(link);
    }
}

struct buf *link_output(struct link *link)
{
    return &link->out;
}

bool link_is_up(const struct link *link)
{
    return link->up;
}

const struct link_hello *link_peer(const struct link *link)
{
    CHECK(link->met);
    return &link->peer;
}

const char *link_reason(const struct link *link)
{
    return link->reason;
}

void link_send(struct link *link, struct bytes plaintext)
{
    CHECK(link->up && link->options.dials && plaintext.len <= LINK_FRAME_BYTES);
    push(link, TAG_MESSAGE, plaintext);
}
