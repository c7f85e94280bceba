/* What /metrics says of topics and groups: the numbers of this replica. */
#include "actors/queue/client.h"
#include "node/limits.h"

struct row { /* of a group; without a name: of the topic itself */
    struct bytes topic, group;
    unsigned partition;
    struct topic_state state;
    struct group_state g;
    int64_t oldest_at;
};

struct rows_of {
    struct row *list;
    size_t len;
};

/* The next text behind one that was seen, below a prefix of the keys. */
static enum err next_text(struct rows *rows, uint8_t table, struct queue_key key, struct bytes after, bool first,
                          struct arena *arena, struct bytes *out, struct bytes *out_value)
{
    const size_t prefix = key.len;
    struct bytes found;
    key_bytes_add(&key, after);
    if (!first) {
        key_bytes_add(&key, bytes_of("", 1));
    }
    TRY(queue_ceil(rows, table, &key, prefix, &found, out_value));
    *out = arena_copy(arena, bytes_of(found.ptr + prefix, found.len - prefix));
    return OK;
}

static void gather_groups(struct look *look, unsigned partition, const struct topic *topic, struct rows_of *all)
{
    struct rows *rows = look->rows(look, partition);
    uint64_t tid = (uint64_t)topic->tid;
    struct bytes name = BYTES_NONE, value, ignored;
    const struct row *of_topic = &all->list[all->len - 1];
    for (bool first = true; all->len < LIMIT_METRICS_ROWS; first = false) {
        struct row *row = &all->list[all->len];
        uint32_t gid;
        if (next_text(rows, TABLE_QUEUE, queue_key(tid, ROW_GROUP_NAME), name, first, look->arena, &name, &value) !=
                OK ||
            value.len != sizeof gid) {
            return;
        }
        memcpy(&gid, value.ptr, sizeof gid);
        *row = *of_topic;
        row->group = name;
        if (group_find(rows, tid, gid, &row->g, &ignored) != OK ||
            group_oldest_at(rows, tid, gid, &row->g, &row->state, &row->oldest_at) != OK) {
            return;
        }
        all->len++;
    }
}

static void gather(struct look *look, unsigned partition, struct rows_of *all)
{
    struct rows *rows = look->rows(look, partition);
    struct bytes name = BYTES_NONE, value, ignored;
    for (bool first = true; all->len < LIMIT_METRICS_ROWS; first = false) {
        struct topic topic = {0};
        struct row *row = &all->list[all->len];
        if (next_text(rows, TABLE_TOPIC, (struct queue_key){.len = 0}, name, first, look->arena, &name, &value) != OK ||
            field_unpack(topic_fields, value, &topic) != OK) {
            return;
        }
        *row = (struct row){.topic = name, .partition = partition};
        if (topic_state_find(rows, (uint64_t)topic.tid, &row->state, &ignored) != OK) {
            return;
        }
        all->len++;
        gather_groups(look, partition, &topic, all);
    }
}

static double depth(const struct row *row, int64_t now_ms)
{
    (void)now_ms;
    return (double)(row->state.available - row->g.passed + row->g.ready + row->g.parked);
}

static double oldest(const struct row *row, int64_t now_ms)
{
    return row->oldest_at == 0 || row->oldest_at > now_ms ? 0 : (double)(now_ms - row->oldest_at) / 1000;
}

#define NUMBER(function, expression)                              \
    static double function(const struct row *row, int64_t now_ms) \
    {                                                             \
        (void)now_ms;                                             \
        return (double)(expression);                              \
    }
NUMBER(in_flight, row->g.in_flight)
NUMBER(waiting, row->g.waiting)
NUMBER(dead, row->g.dead + row->g.returned)
NUMBER(delivered, row->g.delivered)
NUMBER(redelivered, row->g.redelivered)
NUMBER(acked, row->g.acked)
NUMBER(expired, row->g.expired)
NUMBER(dropped, row->g.dropped)
NUMBER(died, row->g.died)
NUMBER(messages, row->state.retained)
NUMBER(delayed, row->state.delayed)
NUMBER(bytes, row->state.bytes)
NUMBER(published, row->state.published)
NUMBER(duplicates, row->state.duplicates)

static const struct {
    const char *name, *type, *help;
    double (*value)(const struct row *row, int64_t now_ms);
    bool of_topic;
} families[] = {
    {"belfry_queue_messages", "gauge", "Messages kept in the topic.", messages, true},
    {"belfry_queue_delayed", "gauge", "Messages that are not available yet.", delayed, true},
    {"belfry_queue_bytes", "gauge", "Bytes of the messages kept.", bytes, true},
    {"belfry_queue_published_total", "counter", "Messages published.", published, true},
    {"belfry_queue_duplicates_total", "counter", "Messages not stored again, by dedup_id.", duplicates, true},
    {"belfry_queue_depth", "gauge", "Messages the group may receive.", depth, false},
    {"belfry_queue_in_flight", "gauge", "Messages delivered and not settled.", in_flight, false},
    {"belfry_queue_waiting", "gauge", "Messages refused with a delay.", waiting, false},
    {"belfry_queue_dead_letters", "gauge", "Dead letters of the group.", dead, false},
    {"belfry_queue_oldest_age_seconds", "gauge", "Age of the oldest message that is not settled.", oldest, false},
    {"belfry_queue_delivered_total", "counter", "Deliveries.", delivered, false},
    {"belfry_queue_redelivered_total", "counter", "Deliveries after the first of a message.", redelivered, false},
    {"belfry_queue_acked_total", "counter", "Messages acknowledged.", acked, false},
    {"belfry_queue_expired_total", "counter", "Messages whose time to live ended first.", expired, false},
    {"belfry_queue_dropped_total", "counter", "Messages that retention took before the group was through.", dropped,
     false},
    {"belfry_queue_dead_total", "counter", "Messages that became dead letters.", died, false}};

void queue_metrics(struct look *look, struct buf *out)
{
    struct rows_of all = {arena_alloc(look->arena, LIMIT_METRICS_ROWS * sizeof(struct row)), 0};
    for (unsigned p = 1; p <= look->partitions; p++) {
        gather(look, p, &all);
    }
    for (size_t f = 0; f < ARRAY_LEN(families); f++) {
        buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", families[f].name, families[f].help, families[f].name,
                   families[f].type);
        for (size_t i = 0; i < all.len; i++) {
            const struct row *row = &all.list[i];
            if (families[f].of_topic != (row->group.len == 0)) {
                continue;
            }
            buf_printf(out, "%s{topic=\"%.*s\",partition=\"%u\"", families[f].name, (int)row->topic.len,
                       (const char *)row->topic.ptr, row->partition);
            if (!families[f].of_topic) {
                buf_printf(out, ",group=\"%.*s\"", (int)row->group.len, (const char *)row->group.ptr);
            }
            buf_printf(out, "} %.12g\n", families[f].value(row, look->now_ms));
        }
    }
}
