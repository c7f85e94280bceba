#include "actors/events/relay.h"

#include "actors/events/log.h"
#include "actors/queue/slip.h"
#include "node/limits.h"

/* TABLE_OUTBOX: target partition (2) | number (8) -> what is for it. TABLE_INBOX: source partition (2) -> the last
 * number taken. Numbers are made of stamped time, so that they rise for ever, also behind a restored backup. */
enum { KEY_BYTES = 10, SENDS_MAX = 256, SEQUENCE_MAX = 4096, RELAY_BYTES = 256 * 1024 };

struct parcel {
    struct fieldset set;
    struct id account;
    int64_t type;
    struct bytes data;
};
static const struct field parcel_fields[] = {FIELD_ID(1, parcel, account, 0), FIELD_INT(2, parcel, type, 1, 255, 0),
                                             FIELD_BLOB(3, parcel, data, LIMIT_COMMAND_BYTES), FIELDS_END};
const struct field relay_deliver_fields[] = {FIELD_INT(1, relay_deliver, source, 1, ID_PARTITION_MAX, 0),
                                             FIELD_INT(2, relay_deliver, last, 1, INT64_MAX, 0),
                                             FIELD_BLOB(3, relay_deliver, rows, 8 * LIMIT_BODY_BYTES), FIELDS_END};
const struct field relay_delivered_fields[] = {FIELD_INT(1, relay_delivered, target, 1, ID_PARTITION_MAX, 0),
                                               FIELD_INT(2, relay_delivered, last, 1, INT64_MAX, 0), FIELDS_END};

struct outbox_key {
    uint8_t b[KEY_BYTES];
};

static struct outbox_key outbox_key(unsigned target, uint64_t number)
{
    struct outbox_key key = {{(uint8_t)(target >> 8), (uint8_t)target}};
    key_put_u64(key.b + 2, number);
    return key;
}

static struct bytes key_bytes(const struct outbox_key *key)
{
    return bytes_of(key->b, sizeof key->b);
}

static unsigned key_target(struct bytes key)
{
    return (unsigned)key.ptr[0] << 8 | key.ptr[1];
}

/* The last number taken from a source; 0: none yet. */
static enum err inbox_load(struct rows *rows, struct bytes key, uint64_t *out)
{
    struct bytes value;
    *out = 0;
    enum err err = rows_get(rows, TABLE_INBOX, key, &value);
    if (err == OK) {
        TRY(value.len == sizeof *out ? OK : ERR_CORRUPT);
        memcpy(out, value.ptr, sizeof *out);
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static uint64_t next_number(struct turn *turn)
{
    CHECK(turn->sends < SENDS_MAX && turn->sequence < SEQUENCE_MAX);
    return ((uint64_t)turn->now_ms * SEQUENCE_MAX + turn->sequence) * SENDS_MAX + turn->sends++;
}

enum err relay_send(struct turn *turn, struct id account, int64_t type, struct bytes data)
{
    struct parcel parcel = {0};
    struct buf packed = {0};
    unsigned target = id_partition(account);
    FIELD_SET(parcel_fields, &parcel, struct parcel, account, account);
    FIELD_SET(parcel_fields, &parcel, struct parcel, type, type);
    FIELD_SET(parcel_fields, &parcel, struct parcel, data, data);
    field_pack(&packed, parcel_fields, &parcel);
    struct outbox_key key = outbox_key(target, next_number(turn));
    enum err err = rows_put(turn->rows, TABLE_OUTBOX, key_bytes(&key), buf_bytes(&packed));
    buf_free(&packed);
    return err;
}

int64_t relay_due(struct rows *rows)
{
    struct bytes key, value;
    return rows_ceil(rows, TABLE_OUTBOX, BYTES_NONE, &key, &value) == OK ? 0 : INT64_MAX;
}

/* ---- the script ---- */

static enum err look(struct script *s)
{
    const struct alarm_in *in = s->in;
    script_read(s, in->partition);
    return OK;
}

/* Gathers what the first target from that key on is to get. */
static enum err gather(struct script *s, struct rows *rows, struct bytes from, struct buf *out)
{
    struct relay_state *st = s->state;
    struct bytes key, value;
    struct outbox_key next;
    enum err err = OK;
    for (unsigned n = 0; n < LIMIT_RELAY_BATCH && out->len < RELAY_BYTES; n++) {
        err = rows_ceil(rows, TABLE_OUTBOX, from, &key, &value);
        if (err != OK || (n > 0 && key_target(key) != st->target)) {
            break;
        }
        uint64_t number = key_u64(bytes_of(key.ptr + 2, 8));
        uint32_t len = (uint32_t)value.len;
        st->target = key_target(key);
        FIELD_SET(relay_deliver_fields, &st->deliver, struct relay_deliver, last, (int64_t)number);
        buf_add(out, &number, sizeof number);
        buf_add(out, &len, sizeof len);
        buf_add_bytes(out, value);
        next = outbox_key(st->target, number + 1);
        from = key_bytes(&next);
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err deliver(struct script *s)
{
    const struct alarm_in *in = s->in;
    struct relay_state *st = s->state;
    struct buf rows = {0};
    uint64_t chance;
    s->services->random(s, &chance, sizeof chance);
    /* From any target on: one that takes nothing at the moment does not hold up the others. */
    struct outbox_key start = outbox_key(1 + (unsigned)(chance % s->partitions), 0);
    enum err err = gather(s, script_rows(s, in->partition), key_bytes(&start), &rows);
    if (err == OK && rows.len == 0) {
        err = gather(s, script_rows(s, in->partition), BYTES_NONE, &rows);
    }
    struct bytes copy = arena_copy(s->arena, buf_bytes(&rows));
    buf_free(&rows);
    TRY(err);
    if (copy.len == 0) {
        return script_done(s);
    }
    FIELD_SET(relay_deliver_fields, &st->deliver, struct relay_deliver, source, (int64_t)in->partition);
    FIELD_SET(relay_deliver_fields, &st->deliver, struct relay_deliver, rows, copy);
    script_command(s, KIND_EVENTS, RELAY_DELIVER, (struct address){st->target, BYTES_LIT("inbox")}, &st->deliver,
                   false);
    return OK;
}

static enum err delivered(struct script *s)
{
    const struct alarm_in *in = s->in;
    struct relay_state *st = s->state;
    FIELD_SET(relay_delivered_fields, &st->delivered, struct relay_delivered, target, (int64_t)st->target);
    FIELD_SET(relay_delivered_fields, &st->delivered, struct relay_delivered, last, st->deliver.last);
    script_command(s, KIND_EVENTS, RELAY_DELIVERED, (struct address){in->partition, BYTES_LIT("outbox")},
                   &st->delivered, false);
    return OK;
}

const struct step relay_steps[] = {
    {"look", look, false}, {"deliver", deliver, false}, {"delivered", delivered, false}, {0}};

/* ---- at the target ---- */

static bool is_whole(struct bytes rows)
{
    while (rows.len > 0) {
        uint32_t len, head = sizeof(uint64_t) + sizeof len;
        if (rows.len < head) {
            return false;
        }
        memcpy(&len, rows.ptr + sizeof(uint64_t), sizeof len);
        if (len > rows.len - head) {
            return false;
        }
        rows = bytes_of(rows.ptr + head + len, rows.len - head - len);
    }
    return true;
}

/* The first of the rows, which begin behind it afterwards. */
static enum err take(struct turn *turn, struct bytes *rows, uint64_t taken)
{
    struct parcel parcel = {0};
    uint64_t number;
    uint32_t len;
    memcpy(&number, rows->ptr, sizeof number);
    memcpy(&len, rows->ptr + sizeof number, sizeof len);
    struct bytes packed = bytes_of(rows->ptr + sizeof number + sizeof len, len);
    *rows = bytes_of(packed.ptr + len, rows->len - sizeof number - sizeof len - len);
    if (number <= taken) {
        return OK;
    }
    TRY(field_unpack(parcel_fields, packed, &parcel));
    switch (parcel.type) {
    case RELAY_SLIP: return slip_arrive(turn, parcel.data);
    case RELAY_SLIP_BACK: return slip_come_back(turn, parcel.data);
    default: return event_log_add(turn, parcel.account, parcel.type, parcel.data);
    }
}

enum err relay_deliver_reduce(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct relay_deliver *in = raw;
    const uint8_t key[] = {(uint8_t)(in->source >> 8), (uint8_t)in->source};
    struct bytes rest = in->rows;
    uint64_t taken;
    (void)reply;
    if (!is_whole(rest)) {
        return ERR_BAD_REQUEST; /* of another version */
    }
    TRY(inbox_load(turn->rows, bytes_of(key, sizeof key), &taken));
    while (rest.len > 0) {
        TRY(take(turn, &rest, taken));
    }
    if ((uint64_t)in->last <= taken) {
        return OK;
    }
    taken = (uint64_t)in->last;
    return rows_put(turn->rows, TABLE_INBOX, bytes_of(key, sizeof key), bytes_of(&taken, sizeof taken));
}

/* ---- at the source again ---- */

enum err relay_delivered_reduce(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct relay_delivered *in = raw;
    struct bytes key, value;
    struct outbox_key from = outbox_key((unsigned)in->target, 0);
    (void)reply;
    for (;;) {
        enum err err = rows_ceil(turn->rows, TABLE_OUTBOX, key_bytes(&from), &key, &value);
        if (err == ERR_NOT_FOUND ||
            (err == OK && (key_target(key) != in->target || key_u64(bytes_of(key.ptr + 2, 8)) > (uint64_t)in->last))) {
            return OK;
        }
        TRY(err);
        struct outbox_key found = outbox_key((unsigned)in->target, key_u64(bytes_of(key.ptr + 2, 8)));
        TRY(rows_del(turn->rows, TABLE_OUTBOX, key_bytes(&found)));
    }
}

/* ---- invariants ---- */

enum err relay_check(struct rows *rows)
{
    struct bytes key, value, from = BYTES_NONE;
    struct outbox_key next;
    enum err err;
    while ((err = rows_ceil(rows, TABLE_OUTBOX, from, &key, &value)) == OK) {
        struct parcel parcel = {0};
        if (key.len != KEY_BYTES) {
            return ERR_CORRUPT;
        }
        next = outbox_key(key_target(key), key_u64(bytes_of(key.ptr + 2, 8)) + 1);
        from = key_bytes(&next);
        TRY(field_unpack(parcel_fields, value, &parcel));
        TRY(id_partition(parcel.account) == key_target(key) ? OK : ERR_CORRUPT);
    }
    return err == ERR_NOT_FOUND ? OK : err;
}
