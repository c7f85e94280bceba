/* Facades' tokens: good where they were made for, and nowhere else; and what revocations do to them. */
#include "node/crypto/token.h"

#include "actors/system/system.h"
#include "node/base/text.h"
#include "node/guard.h"
#include "tests/support/test.h"

enum { NOW_S = 1800000000 };

static struct keyring *keyring_with(const char *kid, uint8_t seed_byte)
{
    uint8_t public[crypto_sign_PUBLICKEYBYTES], secret[crypto_sign_SECRETKEYBYTES],
        seed[crypto_sign_SEEDBYTES] = {seed_byte};
    struct keyring *keyring = keyring_new();
    assert_int_equal(crypto_sign_seed_keypair(public, secret, seed), 0);
    keyring_add(keyring, bytes_str(kid), bytes_of(secret, sizeof secret), 1);
    return keyring;
}

static struct claims claims_of(const char *facade)
{
    struct claims claims = {.account = id_make(NOW_S * 1000LL, 3, 42),
                            .jti = id_make(NOW_S * 1000LL, 3, 43),
                            .role = ROLE_USER,
                            .expires_s = NOW_S + 100,
                            .facade = facade};
    return claims;
}

static struct buf sign(struct keyring *keyring, const char *facade)
{
    struct buf token = {0};
    struct claims claims = claims_of(facade);
    assert_int_equal(token_sign_foreign(keyring, &claims, BYTES_LIT("\"_id\":\"5\","), NOW_S, &token), OK);
    return token;
}

static void test_foreign_token_is_good_for_its_facade_alone(void **state)
{
    (void)state;
    struct keyring *keyring = keyring_with("k", 1), *other = keyring_with("k", 2), *empty = keyring_new();
    struct buf token = sign(keyring, "tasks"), none = {0};
    struct claims claims, made = claims_of("tasks");
    assert_int_equal(token_verify_foreign(keyring, "tasks", buf_bytes(&token), NOW_S, &claims), OK);
    assert_true(id_eq(claims.account, made.account) && id_eq(claims.jti, made.jti) && id_is_none(claims.session));
    assert_int_equal(claims.role, ROLE_USER);
    assert_int_equal(claims.expires_s, NOW_S + 100);
    assert_string_equal(claims.facade, "tasks");
    assert_int_equal(token_verify_foreign(keyring, "remindme", buf_bytes(&token), NOW_S, &claims), ERR_UNAUTHORIZED);
    assert_int_equal(token_verify(keyring, buf_bytes(&token), NOW_S, &claims), ERR_UNAUTHORIZED);
    assert_int_equal(token_verify_foreign(other, "tasks", buf_bytes(&token), NOW_S, &claims), ERR_UNAUTHORIZED);
    assert_int_equal(token_verify_foreign(keyring, "tasks", buf_bytes(&token), NOW_S + 100, &claims), ERR_UNAUTHORIZED);
    assert_int_equal(token_verify_foreign(keyring, "tasks", buf_bytes(&token), NOW_S - 100, &claims), ERR_UNAUTHORIZED);
    assert_int_equal(token_sign_foreign(empty, &made, BYTES_NONE, NOW_S, &none), ERR_NOT_LEADER);
    buf_free(&token);
    keyring_free(keyring);
    keyring_free(other);
    keyring_free(empty);
}

static void test_v1_token_is_no_foreign_token(void **state)
{
    (void)state;
    struct keyring *keyring = keyring_with("k", 1);
    struct claims claims = claims_of(NULL);
    struct buf token = {0};
    claims.session = claims.jti;
    assert_int_equal(token_sign(keyring, &claims, NOW_S, &token), OK);
    assert_int_equal(token_verify(keyring, buf_bytes(&token), NOW_S, &claims), OK);
    assert_null(claims.facade);
    assert_int_equal(token_verify_foreign(keyring, "tasks", buf_bytes(&token), NOW_S, &claims), ERR_UNAUTHORIZED);
    buf_free(&token);
    keyring_free(keyring);
}

static void test_every_changed_character_is_noticed(void **state)
{
    (void)state;
    struct keyring *keyring = keyring_with("k", 1);
    struct buf token = sign(keyring, "tasks");
    struct claims claims;
    for (size_t i = 0; i < token.len; i++) {
        uint8_t kept = token.ptr[i];
        token.ptr[i] = kept == 'A' ? 'B' : 'A';
        assert_int_equal(token_verify_foreign(keyring, "tasks", buf_bytes(&token), NOW_S, &claims), ERR_UNAUTHORIZED);
        token.ptr[i] = kept;
        assert_int_equal(token_verify_foreign(keyring, "tasks", bytes_of(token.ptr, i), NOW_S, &claims),
                         ERR_UNAUTHORIZED);
    }
    buf_free(&token);
    keyring_free(keyring);
}

/* A revocation as the system partition announces it. */
static void announce(struct node *node, const struct revocation *row)
{
    struct buf packed = {0};
    field_pack(&packed, revocation_fields, row);
    struct notice notice = {NOTICE_REVOKED, buf_bytes(&packed)};
    guard_notice(node, &notice);
    buf_free(&packed);
}

static void test_revocations_end_foreign_tokens_whatever_they_except(void **state)
{
    (void)state;
    struct node node = {.clock = clock_system(), .guard = guard_new()};
    struct claims claims = claims_of("tasks"), later = claims;
    struct revocation row = {
        .set.has = 1 | 8 | 16, .account = claims.account, .cutoff_ms = id_ms(claims.jti), .until_ms = INT64_MAX / 2};
    struct revocation none = {.set.has = 2 | 16, .until_ms = INT64_MAX / 2};
    later.jti = id_make(id_ms(claims.jti) + 1, 3, 1);
    assert_true(guard_allows(node.guard, &claims));
    announce(&node, &none); /* of a session that is none: whose tokens those of facades are not */
    assert_true(guard_allows(node.guard, &claims));
    announce(&node, &row); /* except no session: those of facades are of none too */
    assert_false(guard_allows(node.guard, &claims));
    assert_true(guard_allows(node.guard, &later));
    row.set.has |= 4;
    row.except = id_make(5, 1, 1);
    announce(&node, &row);
    assert_false(guard_allows(node.guard, &claims));
    guard_free(node.guard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_foreign_token_is_good_for_its_facade_alone),
                                       cmocka_unit_test(test_v1_token_is_no_foreign_token),
                                       cmocka_unit_test(test_every_changed_character_is_noticed),
                                       cmocka_unit_test(test_revocations_end_foreign_tokens_whatever_they_except)};
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
