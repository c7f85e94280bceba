/* Access tokens. First byte 0: the rest is the token's text. 255: members that a facade puts into a token of its own.
 * Else: the rest is a header and a payload in JSON with a line break between, which the keyring's own key signs, so
 * that the claims are read. */
#include "node/base/text.h"
#include "node/crypto/token.h"
#include "tests/fuzz/fuzz.h"

enum { NOW_S = 1700000000, TOKEN_MAX = 2048 };

static struct keyring *keyring;
static uint8_t public[crypto_sign_PUBLICKEYBYTES], secret[crypto_sign_SECRETKEYBYTES];

static void sign_parts(struct bytes header, struct bytes payload, struct buf *out)
{
    uint8_t signature[crypto_sign_BYTES];
    text_base64url_add(out, header);
    buf_add_char(out, '.');
    text_base64url_add(out, payload);
    CHECK(crypto_sign_detached(signature, NULL, out->ptr, out->len, secret) == 0);
    buf_add_char(out, '.');
    text_base64url_add(out, bytes_of(signature, sizeof signature));
}

/* Ed25519 signs the same bytes the same way: a good token's signature is the one we would make. */
static void check_signed_by_us(struct bytes token)
{
    uint8_t signature[crypto_sign_BYTES];
    struct buf text = {0};
    const uint8_t *dot = memrchr(token.ptr, '.', token.len);
    CHECK(dot != NULL);
    size_t len = (size_t)(dot - token.ptr);
    CHECK(crypto_sign_detached(signature, NULL, token.ptr, len, secret) == 0);
    text_base64url_add(&text, bytes_of(signature, sizeof signature));
    CHECK(bytes_eq(buf_bytes(&text), bytes_of(dot + 1, token.len - len - 1)));
    buf_free(&text);
}

static void check_token(struct bytes token)
{
    struct claims claims = {0}, again = {0};
    struct buf text = {0};
    enum err err = token_verify_foreign(keyring, "tasks", token, NOW_S, &claims);
    CHECK(err == ERR_UNAUTHORIZED); /* nobody guesses its code */
    err = token_verify(keyring, token, NOW_S, &claims);
    CHECK(err == OK || err == ERR_UNAUTHORIZED);
    if (err != OK) {
        return;
    }
    CHECK(token.len <= TOKEN_MAX && claims.expires_s > NOW_S);
    CHECK(claims.role == ROLE_USER || claims.role == ROLE_ADMIN);
    check_signed_by_us(token);
    CHECK(token_sign(keyring, &claims, NOW_S, &text) == OK);
    CHECK(token_verify(keyring, buf_bytes(&text), NOW_S, &again) == OK);
    CHECK(id_eq(claims.account, again.account) && id_eq(claims.session, again.session));
    CHECK(id_eq(claims.jti, again.jti) && claims.role == again.role && claims.expires_s == again.expires_s);
    buf_free(&text);
}

/* Whatever stands beside them, the claims are those that were signed. */
static void check_foreign(struct bytes more)
{
    struct claims made = {.account = id_make(NOW_S, 3, 99), .jti = id_make(NOW_S, 3, 98), .facade = "tasks"}, claims;
    struct buf token = {0};
    made.expires_s = NOW_S + 900;
    CHECK(token_sign_foreign(keyring, &made, more, NOW_S, &token) == OK);
    CHECK(token_verify(keyring, buf_bytes(&token), NOW_S, &claims) == ERR_UNAUTHORIZED);
    CHECK(token_verify_foreign(keyring, "remindme", buf_bytes(&token), NOW_S, &claims) == ERR_UNAUTHORIZED);
    enum err err = token_verify_foreign(keyring, "tasks", buf_bytes(&token), NOW_S, &claims);
    CHECK(err == (more.len == 0 ? OK : err) && (err == OK || err == ERR_UNAUTHORIZED));
    if (err == OK) {
        CHECK(id_eq(claims.account, made.account) && id_eq(claims.jti, made.jti) && id_is_none(claims.session));
        CHECK(claims.expires_s == made.expires_s && claims.role == ROLE_USER);
    }
    buf_free(&token);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes input = bytes_of(data, len);
    uint64_t choice = fuzz_take(&input, 1);
    if (choice == 0 || choice == 255) {
        (choice == 0 ? check_token : check_foreign)(input);
        return 0;
    }
    struct buf token = {0};
    const uint8_t *line = input.len == 0 ? NULL : memchr(input.ptr, '\n', input.len);
    size_t header = line == NULL ? input.len : (size_t)(line - input.ptr);
    sign_parts(bytes_of(input.ptr, header), line == NULL ? BYTES_NONE : bytes_of(line + 1, input.len - header - 1),
               &token);
    check_token(buf_bytes(&token));
    buf_free(&token);
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const uint8_t seed[crypto_sign_SEEDBYTES] = {7};
    (void)argc;
    (void)argv;
    CHECK(sodium_init() >= 0 && crypto_sign_seed_keypair(public, secret, seed) == 0);
    keyring = keyring_new();
    keyring_add(keyring, BYTES_LIT("k1"), bytes_of(secret, sizeof secret), 1);
    if (fuzz_wants_seeds()) {
        struct id id = id_make(NOW_S * 1000LL, 3, 99);
        struct claims claims = {.account = id, .session = id, .jti = id, .role = ROLE_ADMIN, .expires_s = NOW_S + 900};
        struct buf token = {0};
        buf_add_char(&token, 0);
        CHECK(token_sign(keyring, &claims, NOW_S, &token) == OK);
        fuzz_seed("token", buf_bytes(&token));
        buf_free(&token);
        fuzz_seeds_end();
    }
    return 0;
}
