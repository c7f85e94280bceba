#include "node/crypto/token.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/base/json_text.h"
#include "node/base/map.h"
#include "node/base/text.h"
#include "node/limits.h"

enum { KEYS_MAX = 16, KID_MAX = 64, TOKEN_MAX = 2048, ISSUER_LEEWAY_S = 1 };

struct key {
    char kid[KID_MAX + 1];
    uint8_t secret[crypto_sign_SECRETKEYBYTES];
    uint8_t public[crypto_sign_PUBLICKEYBYTES];
    int64_t created_ms;
};

struct keyring {
    pthread_rwlock_t lock;
    struct key keys[KEYS_MAX]; /* oldest first */
    size_t len;
};

struct keyring *keyring_new(void)
{
    struct keyring *keyring = mem_zalloc(sizeof *keyring);
    CHECK(pthread_rwlock_init(&keyring->lock, NULL) == 0);
    return keyring;
}

void keyring_free(struct keyring *keyring)
{
    if (keyring != NULL) {
        (void)pthread_rwlock_destroy(&keyring->lock);
        sodium_memzero(keyring, sizeof *keyring);
        free(keyring);
    }
}

static struct key *find_key(struct keyring *keyring, struct bytes kid)
{
    for (size_t i = 0; i < keyring->len; i++) {
        if (bytes_is(kid, keyring->keys[i].kid)) {
            return &keyring->keys[i];
        }
    }
    return NULL;
}

void keyring_add(struct keyring *keyring, struct bytes kid, struct bytes secret, int64_t created_ms)
{
    CHECK(kid.len <= KID_MAX && secret.len == crypto_sign_SECRETKEYBYTES);
    CHECK(pthread_rwlock_wrlock(&keyring->lock) == 0);
    if (find_key(keyring, kid) == NULL) {
        if (keyring->len == KEYS_MAX) {
            memmove(keyring->keys, keyring->keys + 1, (KEYS_MAX - 1) * sizeof keyring->keys[0]);
            keyring->len--;
        }
        size_t at = keyring->len++;
        while (at > 0 && keyring->keys[at - 1].created_ms > created_ms) {
            keyring->keys[at] = keyring->keys[at - 1];
            at--;
        }
        struct key *key = &keyring->keys[at];
        *key = (struct key){.created_ms = created_ms};
        memcpy(key->kid, kid.ptr, kid.len);
        memcpy(key->secret, secret.ptr, secret.len);
        CHECK(crypto_sign_ed25519_sk_to_pk(key->public, key->secret) == 0);
    }
    CHECK(pthread_rwlock_unlock(&keyring->lock) == 0);
}

bool keyring_can_sign(struct keyring *keyring)
{
    CHECK(pthread_rwlock_rdlock(&keyring->lock) == 0);
    bool can = keyring->len > 0;
    CHECK(pthread_rwlock_unlock(&keyring->lock) == 0);
    return can;
}

void keyring_jwks(struct keyring *keyring, struct buf *out)
{
    CHECK(pthread_rwlock_rdlock(&keyring->lock) == 0);
    buf_add_lit(out, "{\"keys\":[");
    for (size_t i = 0; i < keyring->len; i++) {
        buf_printf(out,
                   "%s{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"use\":\"sig\",\"alg\":\"EdDSA\",\"kid\":\"%s\",\"x\":\"",
                   i > 0 ? "," : "", keyring->keys[i].kid);
        text_base64url_add(out, bytes_of(keyring->keys[i].public, sizeof keyring->keys[i].public));
        buf_add_lit(out, "\"}");
    }
    buf_add_lit(out, "]}");
    CHECK(pthread_rwlock_unlock(&keyring->lock) == 0);
}

static void add_id(struct buf *out, const char *name, struct id id)
{
    char text[ID_TEXT_BYTES];
    id_format(id, text);
    buf_printf(out, "\"%s\":\"%.36s\",", name, text);
}

static enum err newest_key(struct keyring *keyring, struct key *out)
{
    CHECK(pthread_rwlock_rdlock(&keyring->lock) == 0);
    bool can = keyring->len > 0;
    if (can) {
        *out = keyring->keys[keyring->len - 1];
    }
    CHECK(pthread_rwlock_unlock(&keyring->lock) == 0);
    return can ? OK : ERR_NOT_LEADER;
}

enum err token_sign(struct keyring *keyring, const struct claims *claims, int64_t now_s, struct buf *out)
{
    struct buf json = {0};
    uint8_t signature[crypto_sign_BYTES];
    struct key key;
    TRY(newest_key(keyring, &key));
    size_t start = out->len;
    buf_printf(&json, "{\"alg\":\"EdDSA\",\"typ\":\"JWT\",\"kid\":\"%s\"}", key.kid);
    text_base64url_add(out, buf_bytes(&json));
    buf_add_char(out, '.');
    json.len = 0;
    buf_add_lit(&json, "{\"iss\":\"belfry\",");
    add_id(&json, "sub", claims->account);
    add_id(&json, "sid", claims->session);
    add_id(&json, "jti", claims->jti);
    buf_printf(&json, "\"role\":\"%s\",\"iat\":%lld,\"exp\":%lld}", role_names[claims->role], (long long)now_s,
               (long long)claims->expires_s);
    text_base64url_add(out, buf_bytes(&json));
    buf_free(&json);
    CHECK(crypto_sign_detached(signature, NULL, out->ptr + start, out->len - start, key.secret) == 0);
    sodium_memzero(&key, sizeof key);
    buf_add_char(out, '.');
    text_base64url_add(out, bytes_of(signature, sizeof signature));
    return OK;
}

static json_t *load_part(struct bytes part)
{
    uint8_t raw[TOKEN_MAX];
    size_t len;
    if (!text_base64url_decode(part, raw, sizeof raw, &len)) {
        return NULL;
    }
    return json_loadb((const char *)raw, len, JSON_REJECT_DUPLICATES, NULL);
}

static struct bytes text_of(json_t *json, const char *name)
{
    json_t *value = json_object_get(json, name);
    return json_is_string(value) ? bytes_of(json_string_value(value), json_string_length(value)) : BYTES_NONE;
}

/* The key that a header names, if the header is of that algorithm. */
static bool header_key(struct keyring *keyring, struct bytes header, const char *algorithm, struct key *out)
{
    json_t *json = load_part(header);
    bool good = json != NULL && bytes_is(text_of(json, "alg"), algorithm) && json_object_get(json, "crit") == NULL;
    if (good) {
        CHECK(pthread_rwlock_rdlock(&keyring->lock) == 0);
        const struct key *key = find_key(keyring, text_of(json, "kid"));
        good = key != NULL;
        if (good) {
            *out = *key;
        }
        CHECK(pthread_rwlock_unlock(&keyring->lock) == 0);
    }
    json_decref(json);
    return good;
}

static bool read_claims(struct bytes payload, int64_t now_s, struct claims *out)
{
    json_t *json = load_part(payload);
    struct bytes role = text_of(json, "role");
    json_t *expires = json_object_get(json, "exp"), *issued = json_object_get(json, "iat");
    bool good = json != NULL && bytes_is(text_of(json, "iss"), "belfry") &&
                id_parse(text_of(json, "sub"), &out->account) && id_parse(text_of(json, "sid"), &out->session) &&
                id_parse(text_of(json, "jti"), &out->jti) && json_is_integer(expires) && json_is_integer(issued) &&
                (bytes_is(role, "user") || bytes_is(role, "admin"));
    if (good) {
        out->role = bytes_is(role, "admin") ? ROLE_ADMIN : ROLE_USER;
        out->expires_s = json_integer_value(expires);
        good = now_s < out->expires_s && json_integer_value(issued) <= now_s + ISSUER_LEEWAY_S;
    }
    json_decref(json);
    return good;
}

struct token_parts {
    struct bytes header, payload, signed_part, signature;
};

static bool split(struct bytes token, struct token_parts *out)
{
    const uint8_t *first = token.len > 0 && token.len <= TOKEN_MAX ? memchr(token.ptr, '.', token.len) : NULL;
    const uint8_t *end = token.ptr + token.len;
    const uint8_t *second = first == NULL ? NULL : memchr(first + 1, '.', (size_t)(end - first - 1));
    if (second == NULL) {
        return false;
    }
    out->header = bytes_of(token.ptr, (size_t)(first - token.ptr));
    out->payload = bytes_of(first + 1, (size_t)(second - first - 1));
    out->signed_part = bytes_of(token.ptr, (size_t)(second - token.ptr));
    out->signature = bytes_of(second + 1, (size_t)(end - second - 1));
    return true;
}

enum err token_verify(struct keyring *keyring, struct bytes token, int64_t now_s, struct claims *out)
{
    struct token_parts parts;
    struct key key;
    uint8_t raw[crypto_sign_BYTES];
    size_t len;
    bool good = split(token, &parts) && text_base64url_decode(parts.signature, raw, sizeof raw, &len) &&
                len == sizeof raw && header_key(keyring, parts.header, "EdDSA", &key);
    if (good) {
        sodium_memzero(key.secret, sizeof key.secret);
        good = crypto_sign_verify_detached(raw, parts.signed_part.ptr, parts.signed_part.len, key.public) == 0;
    }
    *out = (struct claims){0};
    return good && read_claims(parts.payload, now_s, out) ? OK : ERR_UNAUTHORIZED;
}

/* ---- facades' tokens ---- */

enum { MAC_TEXT_MAX = 64 };

static void mac(struct key *key, const char *facade, struct bytes text, uint8_t out[crypto_auth_hmacsha256_BYTES])
{
    uint8_t derived[crypto_auth_hmacsha256_KEYBYTES];
    char context[MAC_TEXT_MAX];
    (void)snprintf(context, sizeof context, "belfry facade token, %s", facade);
    CHECK(crypto_generichash(derived, sizeof derived, (const uint8_t *)context, strlen(context), key->secret,
                             sizeof key->secret) == 0);
    CHECK(crypto_auth_hmacsha256(out, text.ptr, text.len, derived) == 0);
    sodium_memzero(derived, sizeof derived);
    sodium_memzero(key, sizeof *key);
}

enum err token_sign_foreign(struct keyring *keyring, const struct claims *claims, struct bytes more, int64_t now_s,
                            struct buf *out)
{
    struct key key;
    struct buf json = {0};
    uint8_t code[crypto_auth_hmacsha256_BYTES];
    TRY(newest_key(keyring, &key));
    size_t start = out->len;
    buf_printf(&json, "{\"alg\":\"HS256\",\"typ\":\"JWT\",\"kid\":\"%s\"}", key.kid);
    text_base64url_add(out, buf_bytes(&json));
    buf_add_char(out, '.');
    json.len = 0;
    buf_add_char(&json, '{');
    buf_add_bytes(&json, more);
    buf_printf(&json, "\"iss\":\"belfry/%s\",", claims->facade);
    add_id(&json, "sub", claims->account);
    add_id(&json, "jti", claims->jti);
    buf_printf(&json, "\"iat\":%lld,\"exp\":%lld}", (long long)now_s, (long long)claims->expires_s);
    text_base64url_add(out, buf_bytes(&json));
    buf_free(&json);
    mac(&key, claims->facade, bytes_of(out->ptr + start, out->len - start), code);
    buf_add_char(out, '.');
    text_base64url_add(out, bytes_of(code, sizeof code));
    return OK;
}

static bool read_foreign_claims(struct bytes payload, int64_t now_s, struct claims *out)
{
    char issuer[MAC_TEXT_MAX];
    json_t *json = load_part(payload);
    json_t *expires = json_object_get(json, "exp"), *issued = json_object_get(json, "iat");
    (void)snprintf(issuer, sizeof issuer, "belfry/%s", out->facade);
    bool good = json != NULL && bytes_is(text_of(json, "iss"), issuer) &&
                id_parse(text_of(json, "sub"), &out->account) && id_parse(text_of(json, "jti"), &out->jti) &&
                json_is_integer(expires) && json_is_integer(issued);
    if (good) {
        out->role = ROLE_USER;
        out->expires_s = json_integer_value(expires);
        good = now_s < out->expires_s && json_integer_value(issued) <= now_s + ISSUER_LEEWAY_S;
    }
    json_decref(json);
    return good;
}

enum err token_verify_foreign(struct keyring *keyring, const char *facade, struct bytes token, int64_t now_s,
                              struct claims *out)
{
    struct token_parts parts;
    struct key key;
    uint8_t raw[crypto_auth_hmacsha256_BYTES], code[crypto_auth_hmacsha256_BYTES];
    size_t len;
    bool good = split(token, &parts) && text_base64url_decode(parts.signature, raw, sizeof raw, &len) &&
                len == sizeof raw && header_key(keyring, parts.header, "HS256", &key);
    if (good) {
        mac(&key, facade, parts.signed_part, code);
        good = sodium_memcmp(raw, code, sizeof code) == 0;
    }
    *out = (struct claims){.facade = facade};
    return good && read_foreign_claims(parts.payload, now_s, out) ? OK : ERR_UNAUTHORIZED;
}

/* ---- cache ---- */

struct cached {
    struct token_entry entry;
    size_t len;
    uint8_t token[];
};

struct token_cache {
    struct map map;
};

static bool same_token(const void *item, const void *raw)
{
    const struct cached *cached = item;
    const struct bytes *token = raw;
    return bytes_eq(bytes_of(cached->token, cached->len), *token);
}

struct token_cache *token_cache_new(void)
{
    struct token_cache *cache = mem_zalloc(sizeof *cache);
    map_init(&cache->map, same_token);
    return cache;
}

static void clear(struct token_cache *cache)
{
    size_t at = 0;
    for (struct cached *item = map_next(&cache->map, &at); item != NULL; item = map_next(&cache->map, &at)) {
        free(item);
    }
    map_close(&cache->map);
}

void token_cache_free(struct token_cache *cache)
{
    if (cache != NULL) {
        clear(cache);
        free(cache);
    }
}

struct token_entry *token_cache_find(struct token_cache *cache, struct bytes token)
{
    struct cached *cached = map_find(&cache->map, map_hash(token), &token);
    return cached == NULL ? NULL : &cached->entry;
}

struct token_entry *token_cache_add(struct token_cache *cache, struct bytes token, const struct claims *claims)
{
    if (cache->map.len >= LIMIT_TOKEN_CACHE) {
        clear(cache);
        map_init(&cache->map, same_token);
    }
    struct cached *cached = mem_zalloc(sizeof *cached + token.len);
    cached->entry.claims = *claims;
    cached->len = token.len;
    memcpy(cached->token, token.ptr, token.len);
    map_add(&cache->map, map_hash(token), cached);
    return &cached->entry;
}
