#include "actors/queue/slip.h"

#include "actors/events/relay.h"
#include "node/limits.h"

enum { PUBLISHER_BYTES = 17, SENDS_MOST = 200 /* of one command: the relay numbers 256 */ };

struct bytes slip_make(struct bytes names, struct arena *arena)
{
    struct buf out = {0};
    static const uint8_t nobody[PUBLISHER_BYTES];
    buf_add(&out, nobody, sizeof nobody);
    buf_add_bytes(&out, names);
    struct bytes copy = arena_copy(arena, buf_bytes(&out));
    buf_free(&out);
    return copy;
}

struct bytes slip_sign(struct bytes destinations, const struct caller *caller, struct arena *arena)
{
    uint8_t *copy = arena_alloc(arena, destinations.len);
    memcpy(copy, destinations.ptr, destinations.len);
    if (destinations.len >= PUBLISHER_BYTES) {
        memcpy(copy, caller->account.b, sizeof caller->account.b);
        /* An account's role may be another one when the message goes on. */
        copy[PUBLISHER_BYTES - 1] = (uint8_t)(id_is_none(caller->account) ? caller->role : ROLE_USER);
    }
    return bytes_of(copy, destinations.len);
}

enum err slip_read(struct bytes destinations, struct arena *arena, struct slip_publisher *out_publisher,
                   struct bytes **out_names, size_t *out_len)
{
    if (destinations.len < PUBLISHER_BYTES || destinations.ptr[PUBLISHER_BYTES - 1] > ROLE_ADMIN) {
        return ERR_CORRUPT;
    }
    memcpy(out_publisher->account.b, destinations.ptr, sizeof out_publisher->account.b);
    out_publisher->role = destinations.ptr[PUBLISHER_BYTES - 1];
    struct bytes names = bytes_of(destinations.ptr + PUBLISHER_BYTES, destinations.len - PUBLISHER_BYTES);
    return field_strings(names, arena, out_names, out_len);
}

/* ---- parcels ---- */

struct parcel {
    struct fieldset set;
    int64_t source, tid, gid, number; /* where it comes from */
    struct bytes topic, image;        /* where it goes; its first destination is that topic */
};
static const struct field parcel_fields[] = {FIELD_INT(1, parcel, source, 1, ID_PARTITION_MAX, 0),
                                             FIELD_INT(2, parcel, tid, 0, INT64_MAX, 0),
                                             FIELD_INT(3, parcel, gid, 0, UINT32_MAX, 0),
                                             FIELD_INT(4, parcel, number, 0, INT64_MAX, 0),
                                             FIELD_BLOB(5, parcel, topic, LIMIT_TOPIC_BYTES),
                                             FIELD_BLOB(6, parcel, image, LIMIT_COMMAND_BYTES),
                                             FIELDS_END};
#define SET(member, value) FIELD_SET(parcel_fields, &parcel, struct parcel, member, value)

static enum err send(struct turn *turn, unsigned target, int64_t type, const struct parcel *parcel)
{
    struct buf packed = {0};
    field_pack(&packed, parcel_fields, parcel);
    enum err err = relay_send(turn, id_make(turn->now_ms, target, (uint64_t)parcel->number), type, buf_bytes(&packed));
    buf_free(&packed);
    return err;
}

static enum err first_name(struct queue *queue, struct bytes image, struct bytes *out)
{
    struct message message;
    struct slip_publisher publisher;
    struct bytes *names;
    size_t len;
    TRY(message_read(image, &message));
    TRY(slip_read(message.destinations, queue->turn->arena, &publisher, &names, &len));
    *out = len > 0 ? names[0] : BYTES_NONE;
    return len > 0 ? OK : ERR_CORRUPT;
}

static enum err send_on(struct queue *queue, struct group *group, uint64_t number, unsigned target, struct bytes image)
{
    struct parcel parcel = {0};
    struct bytes name;
    TRY(first_name(queue, image, &name));
    SET(source, (int64_t)queue->turn->partition);
    SET(tid, (int64_t)queue->tid);
    SET(gid, (int64_t)group->gid);
    SET(number, (int64_t)number);
    SET(topic, name);
    SET(image, image);
    return send(queue->turn, target, RELAY_SLIP, &parcel);
}

/* No more can be sent with this command; if there is room, so many bytes of it are taken. */
static bool is_full(struct queue *queue, size_t bytes)
{
    if (queue->turn->sends >= SENDS_MOST || (queue->sent > 0 && queue->sent + bytes > LIMIT_COMMAND_BYTES)) {
        return true;
    }
    queue->sent += bytes;
    return false;
}

static struct queue_key returned_key(const struct queue *queue, const struct group *group, uint64_t number)
{
    struct queue_key key = group_key(queue->tid, group->gid, ROW_RETURNED);
    key_u64_add(&key, number);
    return key;
}

/* There are many: the oldest of them is forgotten. */
static enum err forget_returned(struct queue *queue, struct group *group)
{
    struct queue_key key = group_key(queue->tid, group->gid, ROW_RETURNED);
    struct bytes found, value;
    TRY(queue_ceil(queue->rows, TABLE_GROUP, &key, key.len, &found, &value));
    key_u64_add(&key, key_read_u64(found.ptr + key.len));
    group->state.returned--;
    group->state.dropped++;
    return rows_del(queue->rows, TABLE_GROUP, key_of(&key));
}

static enum err put_returned(struct queue *queue, struct group *group, uint64_t number, struct bytes image)
{
    struct queue_key key = returned_key(queue, group, number);
    TRY(group->state.returned >= LIMIT_RETURNED ? forget_returned(queue, group) : OK);
    struct dead dead = {.at = queue->turn->now_ms, .reason = DEATH_UNDELIVERABLE};
    struct buf value = {0};
    struct bytes before;
    enum err err = rows_get(queue->rows, TABLE_GROUP, key_of(&key), &before);
    bool again = err == OK; /* after damage a message may be acknowledged twice */
    TRY(again || err == ERR_NOT_FOUND ? OK : err);
    buf_add(&value, &dead, sizeof dead);
    buf_add_bytes(&value, image);
    err = rows_put(queue->rows, TABLE_GROUP, key_of(&key), buf_bytes(&value));
    buf_free(&value);
    group->state.returned += !again;
    group->state.died++;
    group->changed = true;
    return err;
}

enum err slip_go_on(struct queue *queue, struct group *group, const struct settle_one *one, struct bytes image,
                    bool *out_waits)
{
    struct message message;
    *out_waits = false;
    enum err err = queue_message(queue, one->number, &message);
    if (err != OK) {
        return err == ERR_NOT_FOUND ? OK : err; /* retention has taken it */
    }
    if (message.destinations.len == 0) {
        return OK;
    }
    *out_waits = one->target == 0 || image.len == 0 || is_full(queue, image.len);
    if (*out_waits) {
        return OK;
    }
    if (one->target == SLIP_NOWHERE || one->target > queue->turn->partitions) {
        return put_returned(queue, group, one->number, image);
    }
    return send_on(queue, group, one->number, one->target, image);
}

enum err slip_settle_returned(struct queue *queue, struct group *group, const struct dead_ask *in, uint64_t number)
{
    struct queue_key key = returned_key(queue, group, number);
    struct bytes value, name;
    TRY(rows_get(queue->rows, TABLE_GROUP, key_of(&key), &value));
    if (value.len <= sizeof(struct dead)) {
        return ERR_CORRUPT;
    }
    size_t len = value.len - sizeof(struct dead);
    if (in->verb == DEAD_REDRIVE && is_full(queue, len)) {
        return ERR_NOT_FOUND; /* it stays where it is, and is asked for again */
    }
    struct bytes image = in->verb == DEAD_PURGE
                             ? BYTES_NONE
                             : arena_copy(queue->turn->arena, bytes_of(value.ptr + sizeof(struct dead), len));
    TRY(rows_del(queue->rows, TABLE_GROUP, key_of(&key)));
    group->state.returned--;
    group->changed = true;
    if (in->verb == DEAD_PURGE) {
        return OK;
    }
    TRY(first_name(queue, image, &name));
    return send_on(queue, group, number, partition_of_name(name, queue->turn->partitions), image);
}

enum err slip_all_returned(struct queue *queue, struct group *group, const struct dead_ask *in, int64_t *count)
{
    for (; *count < in->max && group->state.returned > 0; (*count)++) {
        struct queue_key key = group_key(queue->tid, group->gid, ROW_RETURNED);
        struct bytes found, value;
        enum err err = queue_ceil(queue->rows, TABLE_GROUP, &key, key.len, &found, &value);
        if (err == OK) {
            err = slip_settle_returned(queue, group, in, key_read_u64(found.ptr + key.len));
        }
        if (err != OK) {
            return err == ERR_NOT_FOUND ? OK : err;
        }
    }
    return OK;
}

/* ---- at the next topic ---- */

/* Where messages with that key are. */
static unsigned partition_of(const struct turn *turn, const struct topic *topic, uint64_t key_hash)
{
    unsigned home = partition_of_name(topic->name, turn->partitions);
    return (unsigned)((home - 1 + key_hash % (uint64_t)topic->partitions) % turn->partitions) + 1;
}

static enum err take_in(struct turn *turn, const struct parcel *parcel)
{
    struct queue queue;
    struct message message;
    struct slip_publisher publisher;
    struct bytes *names;
    struct buf rest = {0};
    size_t len;
    TRY(queue_open(&queue, turn, parcel->topic));
    TRY(message_read(parcel->image, &message));
    TRY(slip_read(message.destinations, turn->arena, &publisher, &names, &len));
    struct caller caller = {.account = publisher.account, .role = (enum role)publisher.role};
    if (!topic_allows(&queue.topic, &caller, USE_PUBLISH)) {
        return ERR_FORBIDDEN;
    }
    unsigned right = partition_of(turn, &queue.topic, message.key_hash);
    if (right != turn->partition && message.key_hash != 0) { /* sent by who did not know how wide it is */
        return send(turn, right, RELAY_SLIP, parcel);
    }
    enum err room = queue_make_room(&queue, 1);
    if (room == ERR_TOPIC_FULL) {
        TRY(queue_save(&queue));
    }
    TRY(room);
    if (len > 1) {
        field_strings_begin(&rest, (uint32_t)(len - 1));
        for (size_t i = 1; i < len; i++) {
            field_strings_add(&rest, names[i]);
        }
        message.destinations = slip_sign(slip_make(buf_bytes(&rest), turn->arena), &caller, turn->arena);
    } else {
        message.destinations = BYTES_NONE;
    }
    buf_free(&rest);
    message.id = 0;
    queue.state.published++;
    TRY(queue_append(&queue, message));
    return queue_save(&queue);
}

enum err slip_arrive(struct turn *turn, struct bytes data)
{
    struct parcel parcel = {0};
    TRY(field_unpack(parcel_fields, data, &parcel));
    enum err err = take_in(turn, &parcel);
    if (err != ERR_NOT_FOUND && err != ERR_FORBIDDEN && err != ERR_TOPIC_FULL) {
        return err;
    }
    return send(turn, (unsigned)parcel.source, RELAY_SLIP_BACK, &parcel);
}

/* ---- back where it was acknowledged ---- */

enum err slip_come_back(struct turn *turn, struct bytes data)
{
    struct parcel parcel = {0};
    struct queue queue;
    struct group *group;
    TRY(field_unpack(parcel_fields, data, &parcel));
    enum err err = queue_open_tid(&queue, turn, (uint64_t)parcel.tid);
    if (err == OK) {
        err = queue_group(&queue, (uint32_t)parcel.gid, &group);
    }
    if (err != OK) {
        return err == ERR_NOT_FOUND ? OK : err; /* the topic or group was deleted meanwhile */
    }
    TRY(put_returned(&queue, group, (uint64_t)parcel.number, parcel.image));
    return queue_save(&queue);
}
