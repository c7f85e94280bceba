#include "actors/reminders/feed.h"

#include "actors/auth/auth.h"
#include "actors/reminders/ics.h"
#include "node/base/text.h"
#include "node/limits.h"

const struct field feed_fields[] = {FIELD_BLOB(1, feed, secret, DIGEST_BYTES), FIELD_TIME(2, feed, created_at, 0),
                                    FIELDS_END};
const struct field feed_made_fields[] = {FIELD_STRING(1, feed_made, token, 0, 0, FIELD_SECRET),
                                         FIELD_STRING(2, feed_made, url, 0, 0, FIELD_SECRET), FIELDS_END};
/* Any length, and not required: what is no token is not found. */
const struct field feed_query_fields[] = {FIELD_STRING(1, feed_query_in, token, 0, 0, FIELD_QUERY | FIELD_SECRET),
                                          FIELDS_END};
const struct field feed_none_fields[] = {FIELDS_END};

struct feed_token {
    struct id account;
    uint8_t secret[32];
};

/* Of the script that makes one. */
struct feed_state {
    struct feed_token token;
    struct feed in;
    struct digest digest;
};
_Static_assert(sizeof(struct feed_state) <= FEED_STATE_BYTES, "room for the script's state");

static struct digest digest_of_token(const struct feed_token *token)
{
    return digest_of(BYTES_LIT("feed"), bytes_of(token->secret, sizeof token->secret));
}

static bool parse_token(struct bytes text, struct feed_token *out)
{
    size_t len;
    _Static_assert(sizeof *out == 48, "a token has no padding");
    return text_base64url_decode(text, (uint8_t *)out, sizeof *out, &len) && len == sizeof *out;
}

/* ---- making and ending it ---- */

static struct address address_of(const struct caller *caller)
{
    return (struct address){id_partition(caller->account), id_bytes(&caller->account)};
}

static enum err make_command(struct script *s)
{
    struct feed_state *st = s->state;
    if (!id_is_placed(s->caller.account, s->partitions)) {
        return ERR_UNAUTHORIZED;
    }
    st->token.account = s->caller.account;
    s->services->random(s, st->token.secret, sizeof st->token.secret);
    st->digest = digest_of_token(&st->token);
    FIELD_SET(feed_fields, &st->in, struct feed, secret, digest_bytes(&st->digest));
    script_command(s, KIND_REMINDERS, FEED_DO_PUT, address_of(&s->caller), &st->in, true);
    return OK;
}

static enum err make_answer(struct script *s)
{
    struct feed_state *st = s->state;
    struct feed_made out = {0};
    struct buf url = {0};
    buf_add_lit(&url, "/v1/reminders.ics?token=");
    size_t before = url.len;
    text_base64url_add(&url, bytes_of(&st->token, sizeof st->token));
    FIELD_SET(feed_made_fields, &out, struct feed_made, token, bytes_of(url.ptr + before, url.len - before));
    FIELD_SET(feed_made_fields, &out, struct feed_made, url, buf_bytes(&url));
    reply_struct(s->reply, feed_made_fields, &out);
    buf_free(&url);
    return OK;
}

const struct step feed_make_steps[] = {{"command", make_command, false}, {"answer", make_answer, false}, {0}};

static enum err drop_command(struct script *s)
{
    static const struct feed_none none;
    if (!id_is_placed(s->caller.account, s->partitions)) {
        return ERR_UNAUTHORIZED;
    }
    script_command(s, KIND_REMINDERS, FEED_DO_DROP, address_of(&s->caller), &none, true);
    return OK;
}

static enum err drop_answer(struct script *s)
{
    (void)s; /* 204 */
    return OK;
}

const struct step feed_drop_steps[] = {{"command", drop_command, false}, {"answer", drop_answer, false}, {0}};

enum err feed_put_reduce(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct feed *in = raw;
    struct account account = {0};
    struct feed feed = {0};
    struct buf packed = {0};
    (void)reply;
    enum err err = account_find(turn->rows, turn->caller.account, &account);
    if (err != OK) {
        return err == ERR_NOT_FOUND ? ERR_UNAUTHORIZED : err;
    }
    if (in->secret.len != DIGEST_BYTES) {
        return ERR_BAD_REQUEST;
    }
    FIELD_SET(feed_fields, &feed, struct feed, secret, in->secret);
    FIELD_SET(feed_fields, &feed, struct feed, created_at, turn->now_ms);
    field_pack(&packed, feed_fields, &feed);
    err = rows_put(turn->rows, TABLE_FEED, id_bytes(&turn->caller.account), buf_bytes(&packed));
    buf_free(&packed);
    return err;
}

enum err feed_drop_reduce(struct turn *turn, const void *in, struct reply *reply)
{
    (void)in;
    (void)reply;
    return rows_del(turn->rows, TABLE_FEED, id_bytes(&turn->caller.account));
}

enum err feed_forget(struct turn *turn, struct id account, unsigned limit, unsigned *out_erased)
{
    if (*out_erased >= limit) {
        return OK;
    }
    enum err err = rows_del(turn->rows, TABLE_FEED, id_bytes(&account));
    *out_erased += err == OK;
    return err == ERR_NOT_FOUND ? OK : err;
}

enum err feed_check(struct rows *rows, struct arena *arena)
{
    struct bytes key, value, from = BYTES_NONE;
    enum err err;
    while ((err = rows_ceil(rows, TABLE_FEED, from, &key, &value)) == OK) {
        struct feed feed = {0};
        from = bytes_of(arena_copy(arena, key).ptr, key.len + 1); /* the copy ends with a zero */
        TRY(field_unpack(feed_fields, value, &feed));
        if (key.len != sizeof(struct id) || feed.secret.len != DIGEST_BYTES) {
            return ERR_CORRUPT;
        }
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

/* ---- reading it ---- */

enum err feed_get_query(struct look *look, const void *in, struct reply *reply)
{
    struct id account = look->caller.account;
    struct feed feed = {0};
    struct bytes value;
    (void)in;
    TRY(rows_get(look->rows(look, id_partition(account)), TABLE_FEED, id_bytes(&account), &value));
    TRY(field_unpack(feed_fields, value, &feed));
    reply_struct(reply, feed_fields, &feed);
    return OK;
}

enum err feed_token_address(const struct caller *caller, const void *raw, struct arena *arena, unsigned partitions,
                            struct address *out)
{
    const struct feed_query_in *in = raw;
    struct feed_token token;
    (void)caller;
    if (!parse_token(in->token, &token) || !id_is_placed(token.account, partitions)) {
        return ERR_NOT_FOUND;
    }
    *out = (struct address){id_partition(token.account), arena_copy(arena, id_bytes(&token.account))};
    return OK;
}

/* No feed, a deleted account and a wrong secret are told apart neither by the answer nor by its time: there is always a
 * digest to compare, and it is compared whole. */
static enum err check_token(struct rows *rows, const struct feed_token *token)
{
    static const uint8_t nothing[DIGEST_BYTES];
    struct feed feed = {0};
    struct account account = {0};
    struct bytes value = BYTES_NONE, kept = bytes_of(nothing, sizeof nothing);
    struct digest given = digest_of_token(token);
    enum err err = rows_get(rows, TABLE_FEED, id_bytes(&token->account), &value);
    if (err == OK) {
        err = field_unpack(feed_fields, value, &feed);
        kept = feed.secret.len == sizeof nothing ? feed.secret : kept;
    }
    enum err found = account_find(rows, token->account, &account);
    uint8_t difference = 0;
    for (size_t i = 0; i < sizeof given.b; i++) {
        difference |= given.b[i] ^ kept.ptr[i];
    }
    err = err == OK ? found : err;
    return err == OK && difference != 0 ? ERR_NOT_FOUND : err;
}

/* The newest of the account's reminders, of a bounded number of rows. */
static enum err add_reminders(struct rows *rows, struct id account, struct ics *ics)
{
    struct id_pair at = id_pair(account, account);
    struct bytes key, value;
    enum err err = OK;
    memset(at.b + sizeof account.b, 0xff, sizeof account.b);
    for (unsigned n = 0; n < LIMIT_SCAN_ROWS && err == OK; n++) {
        struct reminder r = {0};
        struct id id;
        err = rows_below(rows, TABLE_MINE, id_pair_bytes(&at), &key, &value);
        if (err != OK || !bytes_start_with(key, id_bytes(&account))) {
            break;
        }
        memcpy(id.b, key.ptr + sizeof account.b, sizeof id.b);
        at = id_pair(account, id);
        err = reminder_load(rows, id, &r, &value);
        if (err == OK) {
            ics_add(ics, &r);
        }
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

enum err feed_ics_query(struct look *look, const void *raw, struct reply *reply)
{
    const struct feed_query_in *in = raw;
    struct feed_token token;
    if (!parse_token(in->token, &token)) {
        return ERR_NOT_FOUND;
    }
    struct rows *rows = look->rows(look, id_partition(token.account));
    TRY(check_token(rows, &token));
    struct ics *ics = ics_new(look->now_ms);
    enum err err = add_reminders(rows, token.account, ics);
    ics_write_free(ics, &reply->body);
    struct digest digest = digest_of(BYTES_LIT("ics"), buf_bytes(&reply->body));
    memcpy(&reply->version, digest.b, sizeof reply->version); /* the ETag: the text itself decides */
    reply->type = "text/calendar; charset=utf-8";
    return err;
}
