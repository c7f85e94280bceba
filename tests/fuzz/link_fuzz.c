/* A link and what comes over its connection. The first byte says how (enum how), the second how the bytes
 * are cut into pieces. RAW: the rest are the peer's bytes; the random numbers are always the same, so a
 * recorded exchange is understood. Otherwise the peer knows the secret and the rest is what it does: first
 * changes to its greeting, then frames (enum deed), so that what is within the encryption is reached; what
 * it says to the listening side is read as a node would.
 *
 * Must hold: a link that is over stays over, with a reason; nothing is kept beyond what has come; what
 * the link says, the peer understands; frames come as they were sent, and only after a welcome hello. */
#include "cluster/link.h"

#include <stdio.h>

#include "cluster/wire.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/link_peer.h"

size_t __sanitizer_get_current_allocated_bytes(void);

enum how { DIALS = 1, RAW = 2, NO_SECRET = 4, MET_REFUSES = 8, WITH_HELLO = 16, SPOILT_GREETING = 32 };
/* Each: the deed (1), then as it says. All but RAW_BYTES take a length (2) and so many bytes of plaintext. */
enum deed { SAY = 0, SAY_TWICE, SAY_CHANGED, SAY_CUT, SAY_AS, RAW_BYTES, DEEDS };
enum { PLAIN_MAX = 1 << 16, ALLOWED_MORE = 4096, CHUNK_MAX = 64 };

static const uint8_t secret[LINK_SECRET_BYTES] = {5, 6, 7};

/* ---- random numbers that repeat ---- */

static uint64_t random_state;

static const char *random_name(void)
{
    return "repeatable";
}

static uint32_t random_number(void)
{
    return (uint32_t)fuzz_next(&random_state);
}

static void random_bytes(void *const to, const size_t len)
{
    for (size_t i = 0; i < len; i++) {
        ((uint8_t *)to)[i] = (uint8_t)random_number();
    }
}

static struct randombytes_implementation repeatable = {
    .implementation_name = random_name, .random = random_number, .buf = random_bytes};

/* ---- the link ---- */

struct side {
    struct link *link;
    unsigned how;
    uint64_t cut; /* a state of fuzz_next: where input is cut */
    unsigned met, frames;
    struct bytes wanted; /* the frame that may come, where it is known */
    bool known, spoilt;  /* spoilt: what comes next is not in its place, or a frame is not whole */
    enum err err;
};

static enum err on_met(void *ctx, const struct link_hello *peer, char *why)
{
    struct side *side = ctx;
    CHECK(side->met++ == 0 && !link_is_up(side->link));
    CHECK(!id_is_none(peer->node) && peer->worker < peer->workers && peer->workers <= UINT16_MAX);
    CHECK(memchr(peer->address, 0, sizeof peer->address) != NULL);
    CHECK(memchr(peer->software, 0, sizeof peer->software) != NULL);
    (void)snprintf(why, LINK_REASON_BYTES, (side->how & MET_REFUSES) != 0 ? "not welcome" : "");
    return (side->how & MET_REFUSES) != 0 ? ERR_FORBIDDEN : OK;
}

static enum err on_frame(void *ctx, struct bytes frame)
{
    struct side *side = ctx;
    struct bytes body;
    uint8_t type;
    enum err err;
    CHECK((side->how & DIALS) == 0 && side->met == 1 && link_is_up(side->link));
    CHECK(!side->known || bytes_eq(frame, side->wanted));
    side->frames++;
    while ((err = wire_next(&frame, &type, &body)) == OK) {
        struct group_message message;
        unsigned group;
        err = wire_group_unpack(body, &group, &message);
        wire_group_free(&message);
        if (err != OK) {
            return err;
        }
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static void open_side(struct side *side, unsigned how, uint64_t cut)
{
    struct link_options options = {
        .dials = (how & DIALS) != 0, .secret = (how & NO_SECRET) != 0 ? NULL : secret, .met = on_met};
    options.frame = on_frame;
    options.ctx = side;
    options.hello = (struct link_hello){
        .node = {{1}}, .cluster = {{2}}, .run = 3, .workers = 2, .worker = 1, .address = "a:1", .software = "1"};
    *side = (struct side){.how = how, .cut = cut};
    side->link = link_new(&options);
}

static void check_link(struct side *side, enum err err)
{
    CHECK(side->err == OK || err == side->err);
    side->err = err;
    CHECK((err == OK) == (link_reason(side->link)[0] == 0) && strlen(link_reason(side->link)) < LINK_REASON_BYTES);
    CHECK(!link_is_up(side->link) || (err == OK && side->met == 1));
}

/* Gives bytes to the link, in pieces when the second byte of the input was not 0. */
static void give(struct side *side, struct bytes bytes)
{
    while (bytes.len > 0) {
        size_t piece = side->cut == 0 ? bytes.len : 1 + (size_t)(fuzz_next(&side->cut) % CHUNK_MAX);
        piece = piece < bytes.len ? piece : bytes.len;
        check_link(side, link_input(side->link, bytes_of(bytes.ptr, piece)));
        bytes = bytes_of(bytes.ptr + piece, bytes.len - piece);
    }
}

/* ---- a peer that does not know, or repeats what it heard ---- */

static void run_raw(struct side *side, struct bytes input)
{
    struct buf bytes = {0};
    fuzz_expand(input, PLAIN_MAX, &bytes);
    (void)link_peek_worker(buf_bytes(&bytes), 3);
    size_t before = __sanitizer_get_current_allocated_bytes();
    give(side, buf_bytes(&bytes));
    size_t more = __sanitizer_get_current_allocated_bytes() - before;
    CHECK(more <= 4 * bytes.len + ALLOWED_MORE);
    buf_free(&bytes);
}

/* ---- a peer that knows ---- */

static const uint8_t hello[] = "\x87\1\xc4\x10"
                               "0123456789abcdef\2\xc4\x10"
                               "0123456789abcdef\3\1\4\3\5\2\6\xa3"
                               "b:2\7\xa1"
                               "2";

/* Pairs of an offset and a change to what stands there. */
static void spoil_greeting(struct link_peer *peer, struct bytes *input)
{
    size_t changes = (size_t)fuzz_take(input, 1) % 8;
    for (size_t i = 0; i < changes; i++) {
        size_t at = (size_t)fuzz_take(input, 1) % LINK_PEER_MAC;
        link_peer_greeting(peer)[at] ^= (uint8_t)fuzz_take(input, 1);
    }
}

/* True once both have greeted and the streams run. */
static bool greet(struct side *side, struct link_peer *peer, struct bytes *input)
{
    struct buf out = {0};
    uint8_t before[LINK_PEER_MAC];
    memcpy(before, link_peer_greeting(peer), sizeof before);
    if ((side->how & SPOILT_GREETING) != 0) {
        spoil_greeting(peer, input);
    }
    bool honest = memcmp(before + LINK_PEER_POINT, link_peer_greeting(peer) + LINK_PEER_POINT, 32) == 0;
    if (!peer->dials) {
        CHECK(link_peer_read_greeting(peer, buf_bytes(link_output(side->link))));
    }
    link_peer_seal(peer);
    give(side, bytes_of(link_peer_greeting(peer), LINK_PEER_GREETING));
    CHECK(side->met == 0);
    if (side->err != OK || !honest) { /* with another point the peer has no key to go on with */
        return false;
    }
    if (peer->dials) {
        CHECK(link_peer_read_greeting(peer, buf_bytes(link_output(side->link))));
    }
    link_peer_start(peer, &out);
    give(side, buf_bytes(&out));
    buf_free(&out);
    CHECK(side->err == OK);
    return true;
}

/* A frame as it is sealed, then perhaps not as it was. */
static void say(struct side *side, struct link_peer *peer, enum deed deed, struct bytes *input)
{
    struct buf plain = {0}, frame = {0};
    uint8_t tag = crypto_secretstream_xchacha20poly1305_TAG_MESSAGE;
    if (deed == SAY_AS) {
        tag = (uint8_t)fuzz_take(input, 1);
    }
    size_t len = (size_t)fuzz_take(input, 2);
    len = len < input->len ? len : input->len;
    fuzz_expand(bytes_of(input->ptr, len), PLAIN_MAX, &plain);
    *input = bytes_of(input->ptr + len, input->len - len);
    link_peer_push(peer, tag, buf_bytes(&plain), &frame);
    side->known = true;
    side->wanted = buf_bytes(&plain);
    unsigned frames = side->frames;
    bool was_up = link_is_up(side->link);
    if (deed == SAY_CHANGED) {
        frame.ptr[fuzz_take(input, 2) % frame.len] ^= (uint8_t)(fuzz_take(input, 1) | 1);
    }
    size_t cut = deed == SAY_CUT ? (size_t)fuzz_take(input, 2) % frame.len : frame.len;
    give(side, bytes_of(frame.ptr, cut));
    if (deed == SAY_TWICE) {
        give(side, buf_bytes(&frame));
        CHECK(side->spoilt || side->err != OK);
    }
    CHECK(deed != SAY_CHANGED || side->frames == frames);
    CHECK(side->frames <= frames + 1 && (was_up || side->frames == frames));
    buf_free(&plain);
    buf_free(&frame);
}

static void do_deeds(struct side *side, struct link_peer *peer, struct bytes input)
{
    while (input.len > 0 && side->err == OK) {
        enum deed deed = (enum deed)(fuzz_take(&input, 1) % DEEDS);
        unsigned frames = side->frames;
        if (deed == RAW_BYTES) {
            size_t len = (size_t)fuzz_take(&input, 1);
            len = len < input.len ? len : input.len;
            give(side, bytes_of(input.ptr, len));
            input = bytes_of(input.ptr + len, input.len - len);
            side->spoilt = side->spoilt || len > 0;
        } else {
            say(side, peer, deed, &input);
        }
        CHECK(!side->spoilt || side->frames == frames);
        side->spoilt = side->spoilt || deed == SAY_CHANGED || deed == SAY_CUT;
    }
}

/* Everything the link has said reads as frames: a hello, and a last word when it is over for a reason
 * that the peer may know. */
static void read_answers(struct side *side, struct link_peer *peer)
{
    struct bytes said = buf_bytes(link_output(side->link));
    struct buf plain = {0};
    uint8_t tag;
    said = bytes_of(said.ptr + LINK_PEER_GREETING, said.len - LINK_PEER_GREETING);
    for (unsigned i = 0; said.len > 0 && !(peer->opened && said.len == 0); i++) {
        plain.len = 0;
        if (!peer->opened && said.len == crypto_secretstream_xchacha20poly1305_HEADERBYTES) {
            break;
        }
        CHECK(i < 2 && link_peer_pull(peer, &said, &tag, &plain));
        bool is_last = tag == crypto_secretstream_xchacha20poly1305_TAG_FINAL;
        CHECK(is_last || (tag == crypto_secretstream_xchacha20poly1305_TAG_PUSH && i == 0));
        CHECK(!is_last || (said.len == 0 && side->err != OK && bytes_is(buf_bytes(&plain), link_reason(side->link))));
    }
    buf_free(&plain);
}

static void run_knowing(struct side *side, struct bytes input)
{
    struct link_peer peer;
    link_peer_init(&peer, (side->how & DIALS) == 0, (side->how & NO_SECRET) != 0 ? NULL : secret);
    link_peer_greeting(&peer)[12] = 2;
    if (!greet(side, &peer, &input)) {
        return;
    }
    if ((side->how & WITH_HELLO) != 0) {
        struct buf frame = {0};
        link_peer_push(&peer, crypto_secretstream_xchacha20poly1305_TAG_PUSH, bytes_of(hello, sizeof hello - 1),
                       &frame);
        give(side, buf_bytes(&frame));
        buf_free(&frame);
        bool same_worker = link_peer_greeting(&peer)[12] == 2 && link_peer_greeting(&peer)[13] == 0;
        CHECK((side->met == 1) == same_worker);
    }
    do_deeds(side, &peer, input);
    read_answers(side, &peer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes input = bytes_of(data, len);
    struct side side;
    unsigned how = (unsigned)fuzz_take(&input, 1);
    uint64_t cut = fuzz_take(&input, 1);
    random_state = 1;
    open_side(&side, how, cut);
    if ((how & RAW) != 0) {
        run_raw(&side, input);
    } else {
        run_knowing(&side, input);
    }
    check_link(&side, link_input(side.link, BYTES_NONE));
    link_free(side.link);
    return 0;
}

/* ---- seeds ---- */

/* What an honest peer says to such a link, with the random numbers that it will have. */
static void record(unsigned how, const char *name)
{
    struct side side;
    struct link_peer peer;
    struct buf seed = {0}, said = {0};
    uint8_t head[] = {(uint8_t)how, 0};
    buf_add(&seed, head, sizeof head);
    random_state = 1;
    open_side(&side, how, 0);
    link_peer_init(&peer, (how & DIALS) == 0, secret);
    link_peer_greeting(&peer)[12] = 2;
    if (!peer.dials) {
        CHECK(link_peer_read_greeting(&peer, buf_bytes(link_output(side.link))));
    }
    link_peer_seal(&peer);
    buf_add(&said, link_peer_greeting(&peer), LINK_PEER_GREETING);
    give(&side, buf_bytes(&said));
    if (peer.dials) {
        CHECK(link_peer_read_greeting(&peer, buf_bytes(link_output(side.link))));
    }
    said.len = 0;
    link_peer_start(&peer, &said);
    link_peer_push(&peer, crypto_secretstream_xchacha20poly1305_TAG_PUSH, bytes_of(hello, sizeof hello - 1), &said);
    if (peer.dials) {
        link_peer_push(&peer, crypto_secretstream_xchacha20poly1305_TAG_MESSAGE, BYTES_NONE, &said);
    }
    give(&side, buf_bytes(&said));
    CHECK(side.err == OK && link_is_up(side.link) && side.frames == (peer.dials ? 1 : 0));
    struct buf all = {0};
    buf_add(&all, link_peer_greeting(&peer), LINK_PEER_GREETING);
    buf_add_bytes(&all, buf_bytes(&said));
    for (size_t i = 0; i < all.len; i++) { /* what fuzz_expand turns back */
        buf_add(&seed, all.ptr + i, 1);
        if (all.ptr[i] == 0xff) {
            buf_add(&seed, "\xff", 2);
        }
    }
    fuzz_seed(name, buf_bytes(&seed));
    link_free(side.link);
    buf_free(&seed);
    buf_free(&said);
    buf_free(&all);
}

static void add_deed(struct buf *seed, enum deed deed, struct bytes plaintext)
{
    uint8_t head[] = {(uint8_t)deed, (uint8_t)plaintext.len, (uint8_t)(plaintext.len >> 8)};
    uint8_t as_hello[] = {SAY_AS, crypto_secretstream_xchacha20poly1305_TAG_PUSH, head[1], head[2]};
    buf_add(seed, deed == SAY_AS ? as_hello : head, deed == SAY_AS ? sizeof as_hello : sizeof head);
    buf_add_bytes(seed, plaintext);
}

static void script(unsigned how, enum deed deed, struct bytes plaintext, const char *name)
{
    struct buf seed = {0};
    uint8_t head[] = {(uint8_t)how, 0};
    buf_add(&seed, head, sizeof head);
    add_deed(&seed, deed, plaintext);
    add_deed(&seed, SAY, BYTES_LIT(""));
    fuzz_seed(name, buf_bytes(&seed));
    buf_free(&seed);
}

static void write_seeds(void)
{
    struct group_message vote = {.type = MESSAGE_VOTE, .from = 1, .to = 2, .term = 4, .index = 3, .index_term = 3};
    struct group_message append = {.type = MESSAGE_APPEND, .from = 1, .to = 2, .term = 4, .entries_len = 1};
    struct group_entry entry = {1, 1, ENTRY_COMMAND, {(const uint8_t *)"do", 2}};
    struct buf body = {0}, frame = {0};
    wire_group_pack(&body, 1, &vote, NULL);
    wire_add(&frame, 1, buf_bytes(&body));
    body.len = 0;
    wire_group_pack(&body, 1, &append, &entry);
    wire_add(&frame, 1, buf_bytes(&body));
    record(RAW, "recorded_dial");
    record(RAW | DIALS, "recorded_accept");
    script(WITH_HELLO, SAY, buf_bytes(&frame), "frame");
    script(WITH_HELLO | NO_SECRET, SAY_TWICE, BYTES_LIT(""), "repeated");
    script(WITH_HELLO, SAY_CHANGED, BYTES_LIT("abc"), "changed");
    script(WITH_HELLO | MET_REFUSES, SAY, BYTES_LIT("x"), "refused");
    script(WITH_HELLO, SAY, BYTES_LIT("\xff\0\x10"), "large");
    script(0, SAY_AS, bytes_of(hello, sizeof hello - 1), "hello");
    script(DIALS, SAY_AS, bytes_of(hello, sizeof hello - 1), "hello_to_dialing");
    script(DIALS | WITH_HELLO, SAY, BYTES_LIT("psst"), "frame_to_dialing");
    fuzz_seed("newer_version", BYTES_LIT("\x20\0\1\x0a\7"));
    buf_free(&body);
    buf_free(&frame);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    CHECK(randombytes_set_implementation(&repeatable) == 0 && sodium_init() >= 0);
    if (fuzz_wants_seeds()) {
        write_seeds();
        fuzz_seeds_end();
    }
    return 0;
}
