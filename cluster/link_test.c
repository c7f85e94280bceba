/* Two links against each other, and a link against a peer that knows the secret and says what it should
 * not (tests/support/link_peer.h). */
#include "cluster/link.h"

#include "node/codec/field.h"
#include "tests/support/link_peer.h"
#include "tests/support/test.h"

#if defined(__SANITIZE_ADDRESS__)
size_t __sanitizer_get_current_allocated_bytes(void); /* gcc has no header for it */
#endif

enum {
    TAG_MESSAGE = crypto_secretstream_xchacha20poly1305_TAG_MESSAGE,
    TAG_HELLO = crypto_secretstream_xchacha20poly1305_TAG_PUSH,
    TAG_REKEY = crypto_secretstream_xchacha20poly1305_TAG_REKEY,
    TAG_FINAL = crypto_secretstream_xchacha20poly1305_TAG_FINAL,
    SEAL = crypto_secretstream_xchacha20poly1305_ABYTES
};

static const uint8_t secret[LINK_SECRET_BYTES] = {1, 2, 3}, other_secret[LINK_SECRET_BYTES] = {1, 2, 4};

/* ---- one side ---- */

struct side {
    struct link *link;
    enum err met_says, frame_says;
    const char *met_why;
    unsigned met, frames;
    struct buf got; /* of all frames, each with a | behind */
};

static enum err on_met(void *ctx, const struct link_hello *peer, char *why)
{
    struct side *side = ctx;
    side->met++;
    assert_true(peer == link_peer(side->link));
    assert_false(link_is_up(side->link));
    if (side->met_why != NULL) {
        (void)snprintf(why, LINK_REASON_BYTES, "%s", side->met_why);
    }
    return side->met_says;
}

static enum err on_frame(void *ctx, struct bytes frame)
{
    struct side *side = ctx;
    side->frames++;
    buf_add_bytes(&side->got, frame);
    buf_add_char(&side->got, '|');
    return side->frame_says;
}

static void open_side(struct side *side, bool dials, const uint8_t *key)
{
    struct link_options options = {.dials = dials, .secret = key, .met = on_met, .frame = on_frame, .ctx = side};
    options.hello = (struct link_hello){.node = {{dials ? 1 : 2}},
                                        .cluster = {{9}},
                                        .run = dials ? UINT64_MAX : 7,
                                        .workers = 4,
                                        .worker = dials ? 3 : 1,
                                        .address = "node.example:7000",
                                        .software = "1.2"};
    (void)snprintf(options.hello.address, sizeof options.hello.address, dials ? "d:1" : "a:2");
    side->link = link_new(&options);
}

static void close_side(struct side *side)
{
    link_free(side->link);
    buf_free(&side->got);
}

static struct bytes output(struct side *side)
{
    return buf_bytes(link_output(side->link));
}

/* All that one side has to say to the other, in pieces of that size. */
static enum err carry(struct side *from, struct side *to, size_t piece)
{
    struct bytes left = output(from);
    enum err err = OK;
    for (size_t at = 0; at < left.len; at += piece) {
        err = link_input(to->link, bytes_of(left.ptr + at, left.len - at < piece ? left.len - at : piece));
    }
    link_output(from->link)->len = 0;
    return err;
}

static void shake_hands(struct side *dialing, struct side *accepting, size_t piece)
{
    while (output(dialing).len > 0 || output(accepting).len > 0) {
        (void)carry(dialing, accepting, piece);
        (void)carry(accepting, dialing, piece);
    }
}

static void open_pair(struct side *dialing, struct side *accepting)
{
    open_side(dialing, true, secret);
    open_side(accepting, false, secret);
    shake_hands(dialing, accepting, SIZE_MAX / 2);
    assert_true(link_is_up(dialing->link) && link_is_up(accepting->link));
}

static void close_pair(struct side *dialing, struct side *accepting)
{
    close_side(dialing);
    close_side(accepting);
}

static void expect_end(struct side *side, enum err err, const char *reason)
{
    assert_string_equal(link_reason(side->link), reason);
    assert_int_equal(link_input(side->link, BYTES_LIT("x")), err);
    assert_false(link_is_up(side->link));
}

static void expect_got(const struct side *side, const char *text)
{
    assert_true(bytes_is(buf_bytes(&side->got), text));
}

/* ---- against the peer that knows ---- */

/* Greetings and streams are done; the link's hello, where it has said it, is in out_hello. */
static void greet_peer(struct side *side, struct link_peer *peer, struct buf *hello)
{
    struct buf out = {0};
    struct bytes said;
    uint8_t tag;
    if (peer->dials) {
        link_peer_seal(peer);
        assert_int_equal(link_input(side->link, bytes_of(link_peer_greeting(peer), LINK_PEER_GREETING)), OK);
    }
    said = output(side);
    assert_true(link_peer_read_greeting(peer, said));
    said = bytes_of(said.ptr + LINK_PEER_GREETING, said.len - LINK_PEER_GREETING);
    if (!peer->dials) {
        link_peer_seal(peer);
        buf_add(&out, link_peer_greeting(peer), LINK_PEER_GREETING);
    }
    link_peer_start(peer, &out);
    assert_int_equal(link_input(side->link, buf_bytes(&out)), OK);
    if (!peer->dials) {
        said = output(side);
        said = bytes_of(said.ptr + LINK_PEER_GREETING, said.len - LINK_PEER_GREETING);
        assert_true(link_peer_pull(peer, &said, &tag, hello));
        assert_int_equal(tag, TAG_HELLO);
        assert_int_equal(said.len, 0);
        link_output(side->link)->len = 0;
    }
    buf_free(&out);
}

static void open_with_peer(struct side *side, struct link_peer *peer, bool peer_dials, struct buf *hello)
{
    open_side(side, !peer_dials, secret);
    link_peer_init(peer, peer_dials, secret);
    link_peer_greeting(peer)[12] = peer_dials ? 3 : 1;
    greet_peer(side, peer, hello);
}

static enum err peer_says(struct side *side, struct link_peer *peer, uint8_t tag, struct bytes plaintext)
{
    struct buf out = {0};
    link_peer_push(peer, tag, plaintext, &out);
    enum err err = link_input(side->link, buf_bytes(&out));
    buf_free(&out);
    return err;
}

/* A hello's fields as they are on the wire: tags stay what they are. */
struct wire_hello {
    struct fieldset set;
    struct bytes node, cluster, address, software;
    int64_t run, workers, worker;
};

static const struct field wire_hello_fields[] = {FIELD_BLOB(1, wire_hello, node, 0),
                                                 FIELD_BLOB(2, wire_hello, cluster, 0),
                                                 FIELD_INT(3, wire_hello, run, 0, 0, 0),
                                                 FIELD_INT(4, wire_hello, workers, 0, 0, 0),
                                                 FIELD_INT(5, wire_hello, worker, 0, 0, 0),
                                                 FIELD_STRING(6, wire_hello, address, 0, 0, 0),
                                                 FIELD_STRING(7, wire_hello, software, 0, 0, 0),
                                                 FIELDS_END};

static struct wire_hello good_hello(void)
{
    return (struct wire_hello){.set = {.has = 127},
                               .node = BYTES_LIT("0123456789abcdef"),
                               .cluster = BYTES_LIT("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
                               .run = -1,
                               .workers = 4,
                               .worker = 3,
                               .address = BYTES_LIT("a:1"),
                               .software = BYTES_LIT("9")};
}

static enum err say_hello(struct side *side, struct link_peer *peer, const struct wire_hello *hello)
{
    struct buf packed = {0};
    field_pack(&packed, wire_hello_fields, hello);
    enum err err = peer_says(side, peer, TAG_HELLO, buf_bytes(&packed));
    buf_free(&packed);
    return err;
}

/* The last word that the link has for the peer. */
static void expect_last_word(struct side *side, struct link_peer *peer, const char *text)
{
    struct bytes said = output(side);
    struct buf word = {0};
    uint8_t tag = 0;
    if (peer->dials && !peer->opened) {
        said = bytes_of(said.ptr + LINK_PEER_GREETING, said.len - LINK_PEER_GREETING);
    }
    do {
        word.len = 0;
        assert_true(link_peer_pull(peer, &said, &tag, &word));
    } while (said.len > 0);
    assert_int_equal(tag, TAG_FINAL);
    assert_true(bytes_is(buf_bytes(&word), text));
    buf_free(&word);
}

/* ---- handshake ---- */

static void test_handshake_in_pieces_of_any_size_comes_up(void **state)
{
    (void)state;
    static const size_t pieces[] = {1, 2, 3, 7, 16, 17, 79, 81, 1000};
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        struct side d = {0}, a = {0};
        open_side(&d, true, secret);
        open_side(&a, false, secret);
        shake_hands(&d, &a, pieces[i]);
        assert_true(link_is_up(d.link) && link_is_up(a.link));
        assert_true(d.met == 1 && a.met == 1);
        const struct link_hello *of_d = link_peer(a.link), *of_a = link_peer(d.link);
        assert_true(of_d->node.b[0] == 1 && of_a->node.b[0] == 2 && of_d->cluster.b[0] == 9);
        assert_true(of_d->run == UINT64_MAX && of_a->run == 7 && of_d->workers == 4);
        assert_true(of_d->worker == 3 && of_a->worker == 1);
        assert_string_equal(of_d->address, "d:1");
        assert_string_equal(of_a->software, "1.2");
        link_send(d.link, BYTES_LIT("one"));
        link_send(d.link, BYTES_NONE);
        assert_int_equal(carry(&d, &a, pieces[i]), OK);
        expect_got(&a, "one||");
        assert_true(output(&a).len == 0 && link_reason(a.link)[0] == 0);
        close_pair(&d, &a);
    }
}

static void test_handshake_without_any_secret_comes_up(void **state)
{
    (void)state;
    struct side d = {0}, a = {0};
    open_side(&d, true, NULL);
    open_side(&a, false, NULL);
    shake_hands(&d, &a, 1000);
    assert_true(link_is_up(d.link) && link_is_up(a.link));
    close_pair(&d, &a);
}

static void test_handshake_with_another_secret_is_refused_in_silence(void **state)
{
    (void)state;
    static const uint8_t zeros[LINK_SECRET_BYTES];
    const uint8_t *const pairs[][2] = {{secret, other_secret}, {NULL, secret}, {secret, NULL}, {zeros, NULL}};
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct side d = {0}, a = {0};
        open_side(&d, true, pairs[i][0]);
        open_side(&a, false, pairs[i][1]);
        assert_int_equal(carry(&d, &a, 5), ERR_FORBIDDEN);
        expect_end(&a, ERR_FORBIDDEN, "the peer does not know the cluster's secret");
        assert_int_equal(output(&a).len, 0);
        assert_int_equal(a.met, 0);
        close_pair(&d, &a);
    }
}

static void test_handshake_with_an_acceptor_of_another_secret_is_refused(void **state)
{
    (void)state;
    struct side d = {0};
    struct link_peer peer;
    open_side(&d, true, secret);
    link_peer_init(&peer, false, other_secret);
    assert_false(link_peer_read_greeting(&peer, output(&d)));
    link_peer_seal(&peer);
    link_output(d.link)->len = 0;
    assert_int_equal(link_input(d.link, bytes_of(link_peer_greeting(&peer), LINK_PEER_GREETING)), ERR_FORBIDDEN);
    expect_end(&d, ERR_FORBIDDEN, "the peer does not know the cluster's secret");
    assert_int_equal(output(&d).len, 0);
    close_side(&d);
}

static void test_handshake_with_a_newer_peer_agrees_on_what_both_speak(void **state)
{
    (void)state;
    struct side a = {0};
    struct link_peer peer;
    struct buf hello = {0};
    struct wire_hello good = good_hello();
    open_side(&a, false, secret);
    link_peer_init(&peer, true, secret);
    link_peer_greeting(&peer)[10] = 9;
    link_peer_greeting(&peer)[12] = 3;
    greet_peer(&a, &peer, &hello);
    assert_int_equal(say_hello(&a, &peer, &good), OK);
    assert_true(link_is_up(a.link));
    assert_true(link_peer(a.link)->run == UINT64_MAX && id_is_none(link_peer(a.link)->cluster));
    close_side(&a);
}

static void test_handshake_of_versions_not_spoken_tells_both_sides(void **state)
{
    (void)state;
    struct side d = {0}, a = {0};
    open_side(&d, true, secret);
    open_side(&a, false, secret);
    link_output(d.link)->ptr[8] = 2;
    link_output(d.link)->ptr[10] = 5;
    assert_int_equal(carry(&d, &a, 16), ERR_NOT_IMPLEMENTED);
    expect_end(&a, ERR_NOT_IMPLEMENTED, "the peer speaks versions 2 to 5, this node 1 to 1");
    assert_int_equal(carry(&a, &d, 1), ERR_NOT_IMPLEMENTED);
    expect_end(&d, ERR_NOT_IMPLEMENTED, "the peer speaks versions 1 to 1, this node 1 to 1");
    assert_int_equal(output(&d).len, 0);
    close_pair(&d, &a);
    static const uint8_t ranges[][2] = {{0, 0}, {2, 1}, {7, 9}};
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        struct side side = {0};
        struct link_peer peer;
        open_side(&side, true, secret);
        link_peer_init(&peer, false, secret);
        assert_true(link_peer_read_greeting(&peer, output(&side)));
        link_peer_greeting(&peer)[8] = ranges[i][0];
        link_peer_greeting(&peer)[10] = ranges[i][1];
        link_peer_seal(&peer);
        assert_int_equal(link_input(side.link, bytes_of(link_peer_greeting(&peer), 80)), ERR_NOT_IMPLEMENTED);
        close_side(&side);
    }
}

static void test_greeting_sent_back_is_refused(void **state)
{
    (void)state;
    for (int forged = 0; forged < 2; forged++) {
        struct side d = {0};
        open_side(&d, true, secret);
        struct buf *out = link_output(d.link);
        uint8_t echo[LINK_PEER_GREETING];
        assert_int_equal(out->len, sizeof echo);
        memcpy(echo, out->ptr, sizeof echo);
        echo[14] = forged ? 2 : 1;
        enum err wanted = forged ? ERR_FORBIDDEN : ERR_BAD_REQUEST;
        assert_int_equal(link_input(d.link, bytes_of(echo, sizeof echo)), wanted);
        assert_int_equal(d.met, 0);
        close_side(&d);
    }
}

static void test_greeting_recorded_before_opens_nothing(void **state)
{
    (void)state;
    struct side d = {0}, a = {0}, again = {0};
    struct buf record = {0};
    open_side(&d, true, secret);
    open_side(&a, false, secret);
    open_side(&again, false, secret);
    buf_add_bytes(&record, output(&d));
    (void)carry(&d, &a, 1000);
    (void)carry(&a, &d, 1000);
    buf_add_bytes(&record, output(&d)); /* hello */
    assert_int_equal(link_input(again.link, buf_bytes(&record)), ERR_FORBIDDEN);
    assert_int_equal(again.met, 0);
    buf_free(&record);
    close_side(&again);
    close_pair(&d, &a);
}

static void test_greeting_with_a_weak_key_is_refused(void **state)
{
    (void)state;
    struct side a = {0};
    struct link_peer peer;
    open_side(&a, false, secret);
    link_peer_init(&peer, true, secret);
    memset(link_peer_greeting(&peer) + LINK_PEER_POINT, 0, 32);
    link_peer_seal(&peer);
    assert_int_equal(link_input(a.link, bytes_of(link_peer_greeting(&peer), LINK_PEER_GREETING)), ERR_FORBIDDEN);
    expect_end(&a, ERR_FORBIDDEN, "the peer's key is a weak one");
    assert_int_equal(output(&a).len, 0);
    close_side(&a);
}

static void test_greeting_of_something_else_is_refused(void **state)
{
    (void)state;
    struct side a = {0};
    open_side(&a, false, secret);
    assert_int_equal(link_input(a.link, BYTES_LIT("GET / HTTP/1.1\r\n\r\n")), ERR_BAD_REQUEST);
    expect_end(&a, ERR_BAD_REQUEST, "the peer does not greet as a node does");
    assert_int_equal(output(&a).len, 0);
    close_side(&a);
}

static void test_peek_of_a_greeting_tells_the_worker(void **state)
{
    (void)state;
    struct side d = {0}, a = {0};
    open_side(&d, true, secret);
    open_side(&a, false, secret);
    struct bytes greeting = output(&d);
    assert_int_equal(link_peek_worker(bytes_of(greeting.ptr, LINK_PEEK_BYTES), 4), 3);
    assert_int_equal(link_peek_worker(bytes_of(greeting.ptr, LINK_PEEK_BYTES), 2), 1);
    assert_int_equal(link_peek_worker(bytes_of(greeting.ptr, LINK_PEEK_BYTES - 1), 4), -1);
    assert_int_equal(link_peek_worker(BYTES_LIT("GET / HTTP/1.1\r\n\r\n"), 4), -1);
    link_output(d.link)->ptr[12] = link_output(d.link)->ptr[13] = 0xff;
    link_output(d.link)->ptr[8] = 77; /* of whatever version */
    assert_int_equal(link_peek_worker(output(&d), 65536), 65535);
    (void)carry(&d, &a, 1000);
    assert_int_equal(link_peek_worker(output(&a), 4), -1); /* a refusal */
    close_pair(&d, &a);
}

/* ---- hello ---- */

static void test_met_refuses_on_the_accepting_side_and_the_peer_learns_why(void **state)
{
    (void)state;
    struct side d = {0}, a = {.met_says = ERR_CONFLICT, .met_why = "another cluster"};
    open_side(&d, true, secret);
    open_side(&a, false, secret);
    shake_hands(&d, &a, 1);
    expect_end(&a, ERR_CONFLICT, "another cluster");
    expect_end(&d, ERR_FORBIDDEN, "the peer refused: another cluster");
    assert_true(d.met == 0 && a.met == 1);
    close_pair(&d, &a);
}

static void test_met_refuses_on_the_dialing_side_and_the_peer_learns_why(void **state)
{
    (void)state;
    struct side d = {.met_says = ERR_FORBIDDEN}, a = {0};
    open_side(&d, true, secret);
    open_side(&a, false, secret);
    shake_hands(&d, &a, 1000);
    expect_end(&d, ERR_FORBIDDEN, err_title(ERR_FORBIDDEN));
    expect_end(&a, ERR_FORBIDDEN, "the peer refused: Not allowed");
    assert_int_equal(a.frames, 0);
    close_pair(&d, &a);
}

static void test_hello_that_is_not_sound_is_refused(void **state)
{
    (void)state;
    struct wire_hello bad[16];
    size_t len = 0;
    char longest[LINK_ADDRESS_BYTES];
    memset(longest, 'a', sizeof longest);
    for (unsigned i = 0; i < 7; i++) {
        bad[len] = good_hello();
        bad[len++].set.has &= ~(1ULL << i);
    }
    for (size_t i = len; i < ARRAY_LEN(bad); i++) {
        bad[i] = good_hello();
    }
    bad[len++].node = good_hello().cluster;
    bad[len++].node = BYTES_LIT("0123456789abcde");
    bad[len++].workers = 3;
    bad[len].worker = 3 + 65536;
    bad[len++].workers = 4 + 65536;
    bad[len++].worker = -1;
    bad[len++].address = bytes_of(longest, sizeof longest);
    bad[len++].address = BYTES_LIT("a\n:1");
    bad[len++].software = BYTES_LIT("\xff");
    bad[len++].software = BYTES_LIT("0123456789012345678901234567890\0");
    assert_int_equal(len, ARRAY_LEN(bad));
    for (size_t i = 0; i < len; i++) {
        struct side a = {0};
        struct link_peer peer;
        open_with_peer(&a, &peer, true, NULL);
        assert_int_equal(say_hello(&a, &peer, &bad[i]), ERR_BAD_REQUEST);
        expect_end(&a, ERR_BAD_REQUEST, "the hello is not well-formed");
        expect_last_word(&a, &peer, "the hello is not well-formed");
        assert_int_equal(a.met, 0);
        close_side(&a);
    }
}

static void test_hello_of_another_worker_than_greeted_is_refused(void **state)
{
    (void)state;
    struct side a = {0};
    struct link_peer peer;
    struct wire_hello hello = good_hello();
    hello.worker = 2;
    open_with_peer(&a, &peer, true, NULL);
    assert_int_equal(say_hello(&a, &peer, &hello), ERR_BAD_REQUEST);
    expect_end(&a, ERR_BAD_REQUEST, "the hello is of another worker than the greeting");
    close_side(&a);
}

static void test_hello_said_twice_ends_the_link(void **state)
{
    (void)state;
    for (int dials = 0; dials < 2; dials++) {
        struct side side = {0};
        struct link_peer peer;
        struct buf ignored = {0};
        struct wire_hello hello = good_hello();
        hello.worker = dials ? 3 : 1;
        open_with_peer(&side, &peer, dials, &ignored);
        assert_int_equal(say_hello(&side, &peer, &hello), OK);
        assert_true(link_is_up(side.link));
        assert_int_equal(say_hello(&side, &peer, &hello), ERR_BAD_REQUEST);
        expect_end(&side, ERR_BAD_REQUEST, "a second hello");
        expect_last_word(&side, &peer, "a second hello");
        assert_int_equal(side.met, 1);
        buf_free(&ignored);
        close_side(&side);
    }
}

static void test_frame_before_the_hello_ends_the_link(void **state)
{
    (void)state;
    struct side a = {0};
    struct link_peer peer;
    open_with_peer(&a, &peer, true, NULL);
    assert_int_equal(peer_says(&a, &peer, TAG_MESSAGE, BYTES_LIT("early")), ERR_BAD_REQUEST);
    expect_end(&a, ERR_BAD_REQUEST, "a frame before the hello");
    expect_last_word(&a, &peer, "a frame before the hello");
    assert_int_equal(a.frames, 0);
    close_side(&a);
}

/* ---- frames ---- */

static void test_frame_from_the_listening_side_ends_the_link(void **state)
{
    (void)state;
    struct side d = {0};
    struct link_peer peer;
    struct buf ignored = {0};
    struct wire_hello hello = good_hello();
    hello.worker = 1;
    open_with_peer(&d, &peer, false, &ignored);
    assert_int_equal(say_hello(&d, &peer, &hello), OK);
    assert_int_equal(peer_says(&d, &peer, TAG_MESSAGE, BYTES_LIT("psst")), ERR_BAD_REQUEST);
    expect_end(&d, ERR_BAD_REQUEST, "a frame from the side that listens");
    assert_int_equal(d.frames, 0);
    buf_free(&ignored);
    close_side(&d);
}

static void test_frame_of_an_unknown_kind_ends_the_link(void **state)
{
    (void)state;
    struct side a = {0};
    struct link_peer peer;
    struct wire_hello hello = good_hello();
    open_with_peer(&a, &peer, true, NULL);
    assert_int_equal(say_hello(&a, &peer, &hello), OK);
    assert_int_equal(peer_says(&a, &peer, TAG_REKEY, BYTES_LIT("x")), ERR_BAD_REQUEST);
    expect_end(&a, ERR_BAD_REQUEST, "a frame of an unknown kind");
    close_side(&a);
}

static void test_last_word_is_made_fit_for_a_log(void **state)
{
    (void)state;
    struct side a = {0};
    struct link_peer peer;
    char text[500], wanted[LINK_REASON_BYTES] = "the peer refused: bad?line?";
    memset(text, 'x', sizeof text);
    memcpy(text, "bad\nline\0", 9);
    memset(wanted + strlen(wanted), 'x', sizeof wanted - 1 - strlen(wanted));
    open_with_peer(&a, &peer, true, NULL);
    assert_int_equal(peer_says(&a, &peer, TAG_FINAL, bytes_of(text, sizeof text)), ERR_FORBIDDEN);
    expect_end(&a, ERR_FORBIDDEN, wanted);
    close_side(&a);
}

static void test_frame_refused_by_its_reader_tells_the_peer(void **state)
{
    (void)state;
    struct side d = {0}, a = {.frame_says = ERR_CORRUPT};
    open_pair(&d, &a);
    link_send(d.link, BYTES_LIT("one"));
    link_send(d.link, BYTES_LIT("two"));
    assert_int_equal(carry(&d, &a, 1000), ERR_CORRUPT);
    expect_got(&a, "one|");
    assert_int_equal(carry(&a, &d, 1000), ERR_FORBIDDEN);
    expect_end(&d, ERR_FORBIDDEN, "the peer refused: Stored data is damaged");
    close_pair(&d, &a);
}

static void test_frames_in_one_input_come_one_by_one(void **state)
{
    (void)state;
    struct side d = {0}, a = {0};
    open_pair(&d, &a);
    link_send(d.link, BYTES_LIT("one"));
    link_send(d.link, BYTES_LIT("two"));
    assert_int_equal(carry(&d, &a, 1000), OK);
    assert_int_equal(a.frames, 2);
    expect_got(&a, "one|two|");
    close_pair(&d, &a);
}

static void test_frames_out_of_place_end_the_link(void **state)
{
    (void)state;
    enum { ONE = 4 + SEAL + 3 };
    static const char orders[][3] = {{0, 0, 2}, {0, 2, 1}, {1, 0, 2}, {2, 1, 0}};
    for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
        struct side d = {0}, a = {0};
        open_pair(&d, &a);
        link_send(d.link, BYTES_LIT("0--"));
        link_send(d.link, BYTES_LIT("1--"));
        link_send(d.link, BYTES_LIT("2--"));
        assert_int_equal(output(&d).len, 3 * ONE);
        enum err err = OK;
        for (size_t k = 0; k < 3; k++) {
            err = link_input(a.link, bytes_of(output(&d).ptr + orders[i][k] * ONE, ONE));
        }
        assert_int_equal(err, ERR_FORBIDDEN);
        expect_got(&a, orders[i][0] == 0 ? "0--|" : "");
        expect_end(&a, ERR_FORBIDDEN, "a frame was changed, repeated, or is not in its place");
        assert_int_equal(output(&a).len, 0);
        close_pair(&d, &a);
    }
}

static void test_frame_of_the_largest_size_comes_whole(void **state)
{
    (void)state;
    struct side d = {0}, a = {0};
    struct buf large = {0};
    open_pair(&d, &a);
    memset(buf_room(&large, LINK_FRAME_BYTES), 'x', LINK_FRAME_BYTES);
    large.len = LINK_FRAME_BYTES;
    large.ptr[LINK_FRAME_BYTES - 1] = 'y';
    link_send(d.link, buf_bytes(&large));
    link_send(d.link, BYTES_LIT("after"));
    assert_int_equal(carry(&d, &a, 65536), OK);
    buf_add_lit(&large, "|after|");
    assert_true(bytes_eq(buf_bytes(&a.got), buf_bytes(&large)));
    buf_free(&large);
    close_pair(&d, &a);
}

static void expect_length_refused(struct side *side, uint32_t length, enum err wanted)
{
    assert_int_equal(link_input(side->link, bytes_of(&length, 4)), wanted);
    assert_int_equal(output(side).len == 0 || wanted == OK, 1);
    close_side(side);
}

static void test_length_out_of_bounds_ends_the_link(void **state)
{
    (void)state;
    static const struct {
        uint32_t length;
        enum err hello, up, listening;
    } cases[] = {{0, ERR_BAD_REQUEST, ERR_BAD_REQUEST, ERR_BAD_REQUEST},
                 {SEAL - 1, ERR_BAD_REQUEST, ERR_BAD_REQUEST, ERR_BAD_REQUEST},
                 {SEAL, OK, OK, OK},
                 {LINK_HELLO_BYTES, OK, OK, OK},
                 {LINK_HELLO_BYTES + 1, ERR_TOO_LARGE, OK, ERR_TOO_LARGE},
                 {LINK_FRAME_BYTES + SEAL, ERR_TOO_LARGE, OK, ERR_TOO_LARGE},
                 {LINK_FRAME_BYTES + SEAL + 1, ERR_TOO_LARGE, ERR_TOO_LARGE, ERR_TOO_LARGE},
                 {UINT32_MAX, ERR_TOO_LARGE, ERR_TOO_LARGE, ERR_TOO_LARGE}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct side a = {0}, d = {0}, greeted = {0};
        struct link_peer peer;
        open_with_peer(&greeted, &peer, true, NULL);
        link_output(greeted.link)->len = 0;
        open_pair(&d, &a);
        expect_length_refused(&greeted, cases[i].length, cases[i].hello);
        expect_length_refused(&a, cases[i].length, cases[i].up);
        expect_length_refused(&d, cases[i].length, cases[i].listening);
    }
}

static void test_length_announced_takes_no_memory(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__)
    struct side d = {0}, a = {0};
    uint32_t length = LINK_FRAME_BYTES;
    uint8_t some[1000] = {0};
    open_pair(&d, &a);
    size_t before = __sanitizer_get_current_allocated_bytes();
    assert_int_equal(link_input(a.link, bytes_of(&length, 4)), OK);
    assert_int_equal(link_input(a.link, bytes_of(some, sizeof some)), OK);
    assert_true(__sanitizer_get_current_allocated_bytes() - before <= 2 * sizeof some + 256);
    close_pair(&d, &a);
#endif
}

/* ---- everything tampered with ---- */

/* Runs handshake and two frames with one byte changed: that of the number `at` among those of the
 * dialing side, or of the accepting side. False when there are not so many. */
static bool run_tampered(struct side *d, struct side *a, bool of_dialing, size_t at, uint8_t mask)
{
    size_t said[2] = {0};
    bool hit = false, sent = false;
    while (output(d).len > 0 || output(a).len > 0) {
        for (unsigned i = 0; i < 2; i++) {
            struct buf *out = link_output(i == 0 ? d->link : a->link);
            if ((i == 0) == of_dialing && at >= said[i] && at < said[i] + out->len) {
                out->ptr[at - said[i]] ^= mask;
                hit = true;
            }
            said[i] += out->len;
            (void)(i == 0 ? carry(d, a, 1000) : carry(a, d, 1000));
        }
        if (!sent && link_is_up(d->link)) {
            link_send(d->link, BYTES_LIT("first"));
            link_send(d->link, BYTES_LIT("second"));
            sent = true;
        }
    }
    return hit;
}

static void test_exchange_tampered_with_anywhere_gives_no_false_frame(void **state)
{
    (void)state;
    static const uint8_t masks[] = {1, 0x80, 0xff};
    size_t hits[2] = {0};
    for (size_t i = 0; i < 2 * ARRAY_LEN(masks); i++) {
        bool hit = true;
        for (size_t at = 0; hit; at++) {
            struct side d = {0}, a = {0};
            open_side(&d, true, secret);
            open_side(&a, false, secret);
            hit = run_tampered(&d, &a, i % 2 == 0, at, masks[i / 2]);
            struct bytes got = buf_bytes(&a.got);
            assert_true(bytes_start_with(BYTES_LIT("first|second|"), got));
            if (hit) {
                /* Not all came, or the accepting side's hello did not. */
                assert_true(a.frames < 2 && (a.frames == 0 || i % 2 == 0));
                assert_true(at >= LINK_PEER_GREETING || (i % 2 == 0 ? a.met : d.met) == 0);
                hits[i % 2]++;
            } else {
                assert_int_equal(a.frames, 2);
            }
            close_pair(&d, &a);
        }
    }
    /* Greeting, stream, hello, and of the dialing side the frames: nothing was left out. */
    assert_true(hits[0] == hits[1] + ARRAY_LEN(masks) * (4 + SEAL + 5 + 4 + SEAL + 6));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handshake_in_pieces_of_any_size_comes_up),
        cmocka_unit_test(test_handshake_without_any_secret_comes_up),
        cmocka_unit_test(test_handshake_with_another_secret_is_refused_in_silence),
        cmocka_unit_test(test_handshake_with_an_acceptor_of_another_secret_is_refused),
        cmocka_unit_test(test_handshake_with_a_newer_peer_agrees_on_what_both_speak),
        cmocka_unit_test(test_handshake_of_versions_not_spoken_tells_both_sides),
        cmocka_unit_test(test_greeting_sent_back_is_refused),
        cmocka_unit_test(test_greeting_recorded_before_opens_nothing),
        cmocka_unit_test(test_greeting_with_a_weak_key_is_refused),
        cmocka_unit_test(test_greeting_of_something_else_is_refused),
        cmocka_unit_test(test_peek_of_a_greeting_tells_the_worker),
        cmocka_unit_test(test_met_refuses_on_the_accepting_side_and_the_peer_learns_why),
        cmocka_unit_test(test_met_refuses_on_the_dialing_side_and_the_peer_learns_why),
        cmocka_unit_test(test_hello_that_is_not_sound_is_refused),
        cmocka_unit_test(test_hello_of_another_worker_than_greeted_is_refused),
        cmocka_unit_test(test_hello_said_twice_ends_the_link),
        cmocka_unit_test(test_frame_before_the_hello_ends_the_link),
        cmocka_unit_test(test_frame_from_the_listening_side_ends_the_link),
        cmocka_unit_test(test_frame_of_an_unknown_kind_ends_the_link),
        cmocka_unit_test(test_last_word_is_made_fit_for_a_log),
        cmocka_unit_test(test_frame_refused_by_its_reader_tells_the_peer),
        cmocka_unit_test(test_frames_in_one_input_come_one_by_one),
        cmocka_unit_test(test_frames_out_of_place_end_the_link),
        cmocka_unit_test(test_frame_of_the_largest_size_comes_whole),
        cmocka_unit_test(test_length_out_of_bounds_ends_the_link),
        cmocka_unit_test(test_length_announced_takes_no_memory),
        cmocka_unit_test(test_exchange_tampered_with_anywhere_gives_no_false_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
