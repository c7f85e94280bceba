#include "actors/kind.h"

#include <sodium.h>
#include <stdlib.h>

#include "actors/auth/auth.h"
#include "actors/events/events.h"
#include "actors/queue/queue.h"
#include "actors/reminders/reminders.h"
#include "actors/system/system.h"
#include "node/limits.h"

const char *const role_names[] = {"", "user", "admin", NULL};

#ifdef TEST_KIND /* one more, in a binary for tests alone (tests/waits) */
extern const struct kind TEST_KIND;
#define TEST_KINDS &TEST_KIND,
#else
#define TEST_KINDS
#endif
const struct kind *const kinds[] = {&system_kind, &auth_kind,  &reminders_kind,
                                    &events_kind, &queue_kind, TEST_KINDS NULL};

const struct kind *kind_find(uint8_t id)
{
    for (size_t i = 0; kinds[i] != NULL; i++) {
        if (kinds[i]->id == id) {
            return kinds[i];
        }
    }
    return NULL;
}

const struct op *kind_op(const struct kind *kind, uint8_t tag)
{
    for (const struct op *op = kind->ops; op->tag != 0; op++) {
        if (op->tag == tag) {
            return op;
        }
    }
    return NULL;
}

void reply_close(struct reply *reply)
{
    buf_free(&reply->body);
    buf_free(&reply->cursor);
    buf_free(&reply->headers);
    buf_free(&reply->record_key);
    *reply = (struct reply){0};
}

void reply_struct(struct reply *reply, const struct field *fields, const void *in)
{
    reply->fields = fields;
    reply->body.len = 0;
    field_pack(&reply->body, fields, in);
}

void reply_record(struct reply *reply, const struct field *fields, struct bytes packed, uint64_t version, uint8_t table,
                  struct bytes key)
{
    reply->fields = fields;
    reply->version = version;
    reply->body.len = 0;
    buf_add_bytes(&reply->body, packed);
    reply->record_table = table;
    reply->record_key.len = 0;
    buf_add_bytes(&reply->record_key, key);
}

void reply_item(struct reply *reply, const struct field *fields, struct bytes packed)
{
    uint32_t len = (uint32_t)packed.len;
    reply->fields = fields;
    reply->list = true;
    buf_add(&reply->body, &len, sizeof len);
    buf_add_bytes(&reply->body, packed);
}

enum err reply_invalid(struct reply *reply, const char *pointer, const char *code, const char *detail)
{
    reply->pointer = pointer;
    reply->code = code;
    reply->detail = detail;
    return ERR_INVALID_FIELDS;
}

struct id turn_new_id(struct turn *turn)
{
    /* splitmix64 of the seed: distinct for each id of the turn */
    uint64_t z = turn->seed + 0x9e3779b97f4a7c15ULL * ++turn->ids;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    z ^= z >> 31;
    /* Within a millisecond ids sort as they were made (RFC 9562 section 6.2, method 1): 14 bits of
     * sequence ahead of 48 random ones. */
    enum { SEQUENCE_MAX = (1 << 14) - 1, RANDOM_BITS = 48 };
    uint64_t sequence = turn->sequence < SEQUENCE_MAX ? turn->sequence : SEQUENCE_MAX;
    return id_make(turn->now_ms, turn->partition, sequence << RANDOM_BITS | (z & ((1ULL << RANDOM_BITS) - 1)));
}

void turn_notify(struct turn *turn, enum notice_topic topic, struct bytes payload)
{
    CHECK(turn->notices_len < NOTICES_MAX);
    turn->notices[turn->notices_len++] = (struct notice){(uint8_t)topic, arena_copy(turn->arena, payload)};
}

enum err turn_check_version(const struct turn *turn, uint64_t version)
{
    return turn->if_match == 0 || turn->if_match == version ? OK : ERR_PRECONDITION_FAILED;
}

void turn_touch(struct turn *turn, struct id id)
{
    size_t len = turn->touched.len;
    if (len < sizeof id || memcmp(turn->touched.ptr + len - sizeof id, id.b, sizeof id) != 0) {
        buf_add_bytes(&turn->touched, id_bytes(&id));
    }
}

unsigned partition_of_name(struct bytes name, unsigned partitions)
{
    struct digest digest = digest_of(BYTES_LIT("name"), name);
    return 1 + (unsigned)(key_u64(digest_bytes(&digest)) % partitions);
}

enum err own_address(const struct caller *caller, const void *in, struct arena *arena, unsigned partitions,
                     struct address *out)
{
    (void)in;
    (void)arena;
    if (!id_is_placed(caller->account, partitions)) {
        return ERR_UNAUTHORIZED;
    }
    *out = address_of_account(&caller->account);
    return OK;
}

bool id_is_placed(struct id id, unsigned partitions)
{
    return id_partition(id) >= 1 && id_partition(id) <= partitions;
}

void key_put_u64(uint8_t to[8], uint64_t value)
{
    for (int i = 0; i < 8; i++) {
        to[i] = (uint8_t)(value >> (56 - 8 * i));
    }
}

void key_add_u64(struct buf *key, uint64_t value)
{
    uint8_t raw[8];
    key_put_u64(raw, value);
    buf_add(key, raw, sizeof raw);
}

uint64_t key_u64(struct bytes key)
{
    uint64_t value = 0;
    CHECK(key.len >= 8);
    for (size_t i = 0; i < 8; i++) {
        value = value << 8 | key.ptr[i];
    }
    return value;
}

enum err table_erase(struct rows *rows, uint8_t table)
{
    struct bytes key, value;
    uint8_t copy[LIMIT_KEY_BYTES];
    enum err err;
    while ((err = rows_ceil(rows, table, BYTES_NONE, &key, &value)) == OK) {
        CHECK(key.len <= sizeof copy);
        memcpy(copy, key.ptr, key.len);
        TRY(rows_del(rows, table, bytes_of(copy, key.len)));
    }
    return err == ERR_NOT_FOUND ? OK : err;
}
