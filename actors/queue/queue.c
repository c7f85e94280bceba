#include "actors/queue/queue.h"

#include "actors/join.h"
#include "actors/queue/client.h"
#include "actors/queue/job.h"
#include "node/limits.h"

#define NAME_QUERY (FIELD_QUERY | FIELD_REQUIRED | FIELD_IN_BYTES)
const struct field topic_in_fields[] = {FIELD_STRING(1, topic_in, topic, 1, LIMIT_TOPIC_BYTES, NAME_QUERY), FIELDS_END};
const struct field group_in_fields[] = {FIELD_STRING(1, group_in, topic, 1, LIMIT_TOPIC_BYTES, NAME_QUERY),
                                        FIELD_STRING(2, group_in, group, 1, LIMIT_TOPIC_BYTES, NAME_QUERY), FIELDS_END};

const struct field put_in_fields[] = {FIELD_STRING(1, put_in, topic, 1, LIMIT_TOPIC_BYTES, NAME_QUERY),
                                      FIELD_INT(2, put_in, visibility_ms, 0, LIMIT_VISIBILITY_MS, 0),
                                      FIELD_INT(3, put_in, max_attempts, 0, LIMIT_ATTEMPTS, 0),
                                      FIELD_INT(4, put_in, retention_ms, 1000, LIMIT_RETENTION_MS, 0),
                                      FIELD_INT(5, put_in, max_messages, 1, LIMIT_TOPIC_MESSAGES, 0),
                                      FIELD_ENUM(6, put_in, overflow, topic_overflows, 0),
                                      FIELD_INT(7, put_in, dedup_window_ms, 0, LIMIT_DEDUP_MS, 0),
                                      FIELD_BOOL(8, put_in, retain_acked, 0),
                                      FIELD_INT(9, put_in, partitions, 1, ID_PARTITION_MAX, 0),
                                      FIELD_STRINGS(10, put_in, publish, 0),
                                      FIELD_STRINGS(11, put_in, consume, 0),
                                      FIELDS_END};

const struct field topic_out_fields[] = {FIELD_STRING(1, topic_out, name, 0, 0, 0),
                                         FIELD_INT(2, topic_out, visibility_ms, 0, INT64_MAX, 0),
                                         FIELD_INT(3, topic_out, max_attempts, 0, INT64_MAX, 0),
                                         FIELD_INT(4, topic_out, retention_ms, 0, INT64_MAX, 0),
                                         FIELD_INT(5, topic_out, max_messages, 0, INT64_MAX, 0),
                                         FIELD_ENUM(6, topic_out, overflow, topic_overflows, 0),
                                         FIELD_INT(7, topic_out, dedup_window_ms, 0, INT64_MAX, 0),
                                         FIELD_BOOL(8, topic_out, retain_acked, 0),
                                         FIELD_INT(9, topic_out, partitions, 1, INT64_MAX, 0),
                                         FIELD_STRINGS(10, topic_out, publish, 0),
                                         FIELD_STRINGS(11, topic_out, consume, 0),
                                         FIELD_TIME(12, topic_out, created_at, 0),
                                         FIELD_TIME(13, topic_out, updated_at, 0),
                                         FIELD_ID(14, topic_out, owner, 0),
                                         FIELD_INT(20, topic_out, messages, 0, INT64_MAX, 0),
                                         FIELD_INT(21, topic_out, delayed, 0, INT64_MAX, 0),
                                         FIELD_INT(22, topic_out, bytes, 0, INT64_MAX, 0),
                                         FIELD_INT(23, topic_out, published, 0, INT64_MAX, 0),
                                         FIELD_INT(24, topic_out, duplicates, 0, INT64_MAX, 0),
                                         FIELD_INT(25, topic_out, dropped, 0, INT64_MAX, 0),
                                         FIELD_INT(26, topic_out, groups, 0, INT64_MAX, 0),
                                         FIELDS_END};

const struct field group_out_fields[] = {FIELD_STRING(1, group_out, group, 0, 0, 0),
                                         FIELD_INT(2, group_out, depth, 0, INT64_MAX, 0),
                                         FIELD_INT(3, group_out, in_flight, 0, INT64_MAX, 0),
                                         FIELD_INT(4, group_out, waiting, 0, INT64_MAX, 0),
                                         FIELD_INT(5, group_out, dead_letters, 0, INT64_MAX, 0),
                                         FIELD_TIME(6, group_out, oldest_at, 0),
                                         FIELD_INT(7, group_out, oldest_age_ms, 0, INT64_MAX, 0),
                                         FIELD_INT(8, group_out, delivered, 0, INT64_MAX, 0),
                                         FIELD_INT(9, group_out, redelivered, 0, INT64_MAX, 0),
                                         FIELD_INT(10, group_out, acked, 0, INT64_MAX, 0),
                                         FIELD_INT(11, group_out, expired, 0, INT64_MAX, 0),
                                         FIELD_INT(12, group_out, dropped, 0, INT64_MAX, 0),
                                         FIELD_INT(13, group_out, died, 0, INT64_MAX, 0),
                                         FIELD_TIME(14, group_out, created_at, 0),
                                         FIELD_TIME(15, group_out, active_at, 0),
                                         FIELD_TIME(16, group_out, paused_until, 0),
                                         FIELDS_END};

static const char *const encodings[] = {"utf8", "base64", NULL};
#define MESSAGE_FIELDS(body_flags, from)                                                                             \
    FIELD_STRING(1, message_in, body, 0, LIMIT_MESSAGE_BYTES / 3 * 4 + 4, FIELD_IN_BYTES | FIELD_TEXT | body_flags), \
        FIELD_ENUM(2, message_in, encoding, encodings, 0),                                                           \
        FIELD_STRING(3, message_in, key, 1, LIMIT_MESSAGE_KEY_BYTES, FIELD_IN_BYTES | from),                         \
        FIELD_INT(6, message_in, delay_ms, 0, LIMIT_DELAY_MS, from), FIELD_TIME(7, message_in, deliver_at, from),    \
        FIELD_INT(8, message_in, ttl_ms, 1, LIMIT_RETENTION_MS, from),                                               \
        FIELD_INT(9, message_in, priority, 0, UINT32_MAX, from),                                                     \
        FIELD_STRING(10, message_in, dedup_id, 1, LIMIT_DEDUP_ID_BYTES, FIELD_IN_BYTES | from)
const struct field message_in_fields[] = {MESSAGE_FIELDS(FIELD_REQUIRED, 0),
                                          FIELD_MAP(4, message_in, headers, LIMIT_MESSAGE_HEADERS, FIELD_TEXT),
                                          FIELD_STRINGS(5, message_in, destinations, 0), FIELDS_END};
const struct field publish_in_fields[] = {
    FIELD_STRING(1, publish_in, topic, 1, LIMIT_TOPIC_BYTES, NAME_QUERY),
    FIELD_OBJECTS(2, publish_in, messages, message_in_fields, struct message_in, 1, LIMIT_BATCH, FIELD_REQUIRED),
    FIELDS_END};
const struct field raw_in_fields[] = {
    FIELD_STRING(1, raw_in, topic, 1, LIMIT_TOPIC_BYTES, NAME_QUERY),
    FIELD_BLOB(2, raw_in, body, LIMIT_MESSAGE_BYTES),
    FIELD_MAP(3, raw_in, headers, LIMIT_MESSAGE_HEADERS, FIELD_TEXT),
    FIELD_STRING(4, raw_in, key, 1, LIMIT_MESSAGE_KEY_BYTES, FIELD_IN_BYTES | FIELD_HEADER),
    FIELD_INT(5, raw_in, delay_ms, 0, LIMIT_DELAY_MS, FIELD_HEADER),
    FIELD_TIME(6, raw_in, deliver_at, FIELD_HEADER),
    FIELD_INT(7, raw_in, ttl_ms, 1, LIMIT_RETENTION_MS, FIELD_HEADER),
    FIELD_INT(8, raw_in, priority, 0, UINT32_MAX, FIELD_HEADER),
    FIELD_STRING(9, raw_in, dedup_id, 1, LIMIT_DEDUP_ID_BYTES, FIELD_IN_BYTES | FIELD_HEADER),
    FIELDS_END};
const struct field ids_out_fields[] = {FIELD_STRINGS(1, ids_out, ids, 0), FIELDS_END};

const struct field receive_in_fields[] = {FIELD_STRING(1, receive_in, topic, 1, LIMIT_TOPIC_BYTES, NAME_QUERY),
                                          FIELD_STRING(2, receive_in, group, 1, LIMIT_TOPIC_BYTES, NAME_QUERY),
                                          FIELD_INT(3, receive_in, max, 1, LIMIT_RECEIVE, 0),
                                          FIELD_INT(4, receive_in, wait_ms, 0, LIMIT_WAIT_MS, 0),
                                          FIELD_INT(5, receive_in, visibility_ms, 0, LIMIT_VISIBILITY_MS, 0),
                                          FIELDS_END};
const struct field subscribe_in_fields[] = {
    FIELD_STRING(1, subscribe_in, topic, 1, LIMIT_TOPIC_BYTES, NAME_QUERY),
    FIELD_STRING(2, subscribe_in, group, 1, LIMIT_TOPIC_BYTES, NAME_QUERY),
    FIELD_INT(3, subscribe_in, credit, 1, LIMIT_RECEIVE, FIELD_QUERY),
    FIELD_INT(4, subscribe_in, visibility_ms, 0, LIMIT_VISIBILITY_MS, FIELD_QUERY), FIELDS_END};
const struct field message_out_fields[] = {FIELD_STRING(1, message_out, id, 0, 0, 0),
                                           FIELD_STRING(2, message_out, body, 0, 0, FIELD_TEXT),
                                           FIELD_ENUM(3, message_out, encoding, encodings, 0),
                                           FIELD_STRING(4, message_out, key, 0, 0, 0),
                                           FIELD_MAP(5, message_out, headers, 0, FIELD_TEXT),
                                           FIELD_INT(6, message_out, attempt, 1, INT64_MAX, 0),
                                           FIELD_STRING(7, message_out, receipt, 0, 0, 0),
                                           FIELD_TIME(8, message_out, published_at, 0),
                                           FIELD_INT(9, message_out, priority, 0, UINT32_MAX, 0),
                                           FIELD_TIME(10, message_out, expires_at, 0),
                                           FIELDS_END};
const struct field messages_out_fields[] = {
    FIELD_OBJECTS(1, messages_out, messages, message_out_fields, struct message_out, 0, LIMIT_RECEIVE, 0), FIELDS_END};

const struct field ack_one_fields[] = {
    FIELD_STRING(1, ack_one, receipt, 1, 128, FIELD_REQUIRED | FIELD_IN_BYTES),
    FIELD_STRING(2, ack_one, body, 0, LIMIT_MESSAGE_BYTES / 3 * 4 + 4, FIELD_IN_BYTES | FIELD_TEXT),
    FIELD_ENUM(3, ack_one, encoding, encodings, 0), FIELD_MAP(4, ack_one, headers, LIMIT_MESSAGE_HEADERS, FIELD_TEXT),
    FIELDS_END};
#define SETTLE_FIELDS                                                    \
    FIELD_STRING(1, settle_in, topic, 1, LIMIT_TOPIC_BYTES, NAME_QUERY), \
        FIELD_STRING(2, settle_in, group, 1, LIMIT_TOPIC_BYTES, NAME_QUERY), FIELD_STRINGS(3, settle_in, receipts, 0)
const struct field ack_in_fields[] = {
    SETTLE_FIELDS, FIELD_OBJECTS(6, settle_in, acks, ack_one_fields, struct ack_one, 1, LIMIT_BATCH, 0), FIELDS_END};
const struct field nack_in_fields[] = {SETTLE_FIELDS, FIELD_INT(4, settle_in, delay_ms, 0, LIMIT_DELAY_MS, 0),
                                       FIELDS_END};
const struct field extend_in_fields[] = {SETTLE_FIELDS,
                                         FIELD_INT(5, settle_in, visibility_ms, 0, LIMIT_VISIBILITY_MS, 0), FIELDS_END};
const struct field results_out_fields[] = {FIELD_STRINGS(1, results_out, results, 0), FIELDS_END};

const struct field browse_in_fields[] = {FIELD_STRING(1, browse_in, topic, 1, LIMIT_TOPIC_BYTES, NAME_QUERY),
                                         FIELD_STRING(2, browse_in, from, 1, 64, FIELD_QUERY),
                                         FIELD_INT(3, browse_in, limit, 1, LIMIT_PAGE, FIELD_QUERY), FIELDS_END};
const struct field message_id_fields[] = {FIELD_STRING(1, message_id_in, topic, 1, LIMIT_TOPIC_BYTES, NAME_QUERY),
                                          FIELD_STRING(2, message_id_in, id, 1, 64, FIELD_QUERY | FIELD_REQUIRED),
                                          FIELDS_END};
const struct field dead_in_fields[] = {FIELD_STRING(1, dead_in, topic, 1, LIMIT_TOPIC_BYTES, NAME_QUERY),
                                       FIELD_STRING(2, dead_in, group, 1, LIMIT_TOPIC_BYTES, NAME_QUERY),
                                       FIELD_STRING(3, dead_in, cursor, 1, 64, FIELD_QUERY),
                                       FIELD_INT(4, dead_in, limit, 1, LIMIT_PAGE, FIELD_QUERY), FIELDS_END};
const struct field redrive_in_fields[] = {FIELD_STRING(1, redrive_in, topic, 1, LIMIT_TOPIC_BYTES, NAME_QUERY),
                                          FIELD_STRING(2, redrive_in, group, 1, LIMIT_TOPIC_BYTES, NAME_QUERY),
                                          FIELD_STRINGS(3, redrive_in, ids, 0),
                                          FIELD_INT(4, redrive_in, max, 1, LIMIT_REDRIVE, 0), FIELDS_END};
static const char *const seeks[] = {"start", "end", "time", NULL};
const struct field seek_in_fields[] = {FIELD_STRING(1, seek_in, topic, 1, LIMIT_TOPIC_BYTES, NAME_QUERY),
                                       FIELD_STRING(2, seek_in, group, 1, LIMIT_TOPIC_BYTES, NAME_QUERY),
                                       FIELD_ENUM(3, seek_in, to, seeks, FIELD_REQUIRED),
                                       FIELD_TIME(4, seek_in, time, 0), FIELDS_END};
const struct field list_topics_fields[] = {
    FIELD_INT(1, list_topics, limit, 1, LIMIT_PAGE, FIELD_QUERY),
    FIELD_STRING(2, list_topics, cursor, 0, LIMIT_TOPIC_BYTES, FIELD_QUERY | FIELD_IN_BYTES), FIELDS_END};

static const struct table tables[] = {{TABLE_TOPIC, "topics", true},
                                      {TABLE_TOPIC_USER, "topic_users", false},
                                      {TABLE_QUEUE, "queue_rows", false},
                                      {TABLE_MESSAGE, "messages", true},
                                      {TABLE_GROUP, "group_rows", false},
                                      {TABLE_QUEUE_TIME, "queue_times", false},
                                      {0}};

#define IN(table, type) .in = table, .in_size = sizeof(struct type)
#define STATE .state_size = sizeof(struct client)
#define TOPIC "/v1/topics/{topic}"
#define GROUP TOPIC "/groups/{group}"
static const struct op ops[] = {
    {QUEUE_PUT, OP_SCRIPT, 0, ROLE_USER, 200, "put", METHOD_PUT, TOPIC, "Create a topic, or change its settings",
     IN(put_in_fields, put_in), STATE, .out = topic_out_fields, .steps = put_topic_steps},
    {QUEUE_GET, OP_SCRIPT, 0, ROLE_USER, 200, "get", METHOD_GET, TOPIC, "A topic: settings and numbers",
     IN(topic_in_fields, topic_in), STATE, .out = topic_out_fields, .steps = get_topic_steps},
    {QUEUE_LIST, OP_QUERY, OP_ALL_PARTITIONS, ROLE_USER, 200, "list", METHOD_GET, "/v1/topics",
     "The topics that one may use", IN(list_topics_fields, list_topics), .out = topic_out_fields,
     .query = list_topics_query},
    {QUEUE_DELETE, OP_SCRIPT, 0, ROLE_USER, 204, "delete", METHOD_DELETE, TOPIC,
     "Delete a topic with all that is in it", IN(topic_in_fields, topic_in), STATE, .steps = delete_topic_steps},
    {QUEUE_PUBLISH, OP_SCRIPT, 0, ROLE_USER, 201, "publish", METHOD_POST, TOPIC "/messages",
     "Publish messages, all or none", IN(publish_in_fields, publish_in), .state_size = sizeof(struct publish_state),
     .out = ids_out_fields, .steps = publish_steps, .body_max = LIMIT_PUBLISH_BYTES},
    {QUEUE_PUBLISH_RAW, OP_SCRIPT, OP_RAW, ROLE_USER, 201, "publish_raw", METHOD_POST, TOPIC "/messages/raw",
     "Publish the body as one message", IN(raw_in_fields, raw_in), .state_size = sizeof(struct publish_state),
     .out = ids_out_fields, .steps = publish_raw_steps, .body_max = LIMIT_MESSAGE_BYTES},
    {QUEUE_BROWSE, OP_SCRIPT, 0, ROLE_USER, 200, "browse", METHOD_GET, TOPIC "/messages",
     "Look at kept messages without taking them", IN(browse_in_fields, browse_in), STATE, .out = message_out_fields,
     .steps = browse_steps},
    {QUEUE_MESSAGE, OP_SCRIPT, 0, ROLE_USER, 200, "message", METHOD_GET, TOPIC "/messages/{id}", "One kept message",
     IN(message_id_fields, message_id_in), STATE, .out = message_out_fields, .steps = message_steps},
    {QUEUE_GROUPS, OP_SCRIPT, 0, ROLE_USER, 200, "groups", METHOD_GET, TOPIC "/groups", "The groups of a topic",
     IN(topic_in_fields, topic_in), .state_size = sizeof(struct group_list), .out = group_out_fields,
     .steps = groups_steps},
    {QUEUE_GROUP, OP_SCRIPT, 0, ROLE_USER, 200, "group", METHOD_GET, GROUP, "A group: its numbers",
     IN(group_in_fields, group_in), .state_size = sizeof(struct group_list), .out = group_out_fields,
     .steps = group_steps},
    {QUEUE_GROUP_DELETE, OP_SCRIPT, 0, ROLE_USER, 204, "delete_group", METHOD_DELETE, GROUP, "Delete a group",
     IN(group_in_fields, group_in), STATE, .steps = delete_group_steps},
    {QUEUE_RECEIVE, OP_SCRIPT, 0, ROLE_USER, 200, "receive", METHOD_POST, GROUP "/receive",
     "Take messages; waits for some if there are none", IN(receive_in_fields, receive_in), STATE,
     .out = messages_out_fields, .steps = receive_steps},
    {QUEUE_ACK, OP_SCRIPT, 0, ROLE_USER, 200, "ack", METHOD_POST, GROUP "/ack", "Messages are done with",
     IN(ack_in_fields, settle_in), .state_size = sizeof(struct settle_state), .out = results_out_fields,
     .steps = ack_steps},
    {QUEUE_NACK, OP_SCRIPT, 0, ROLE_USER, 200, "nack", METHOD_POST, GROUP "/nack", "Messages are to be delivered again",
     IN(nack_in_fields, settle_in), .state_size = sizeof(struct settle_state), .out = results_out_fields,
     .steps = nack_steps},
    {QUEUE_EXTEND, OP_SCRIPT, 0, ROLE_USER, 200, "extend", METHOD_POST, GROUP "/extend",
     "Messages are kept for longer before they are delivered again", IN(extend_in_fields, settle_in),
     .state_size = sizeof(struct settle_state), .out = results_out_fields, .steps = extend_steps},
    {QUEUE_DEAD, OP_SCRIPT, 0, ROLE_USER, 200, "dead_letters", METHOD_GET, GROUP "/dead-letters", "Dead letters",
     IN(dead_in_fields, dead_in), STATE, .out = message_out_fields, .steps = dead_steps},
    {QUEUE_REDRIVE, OP_SCRIPT, 0, ROLE_USER, 200, "redrive", METHOD_POST, GROUP "/dead-letters/redrive",
     "Dead letters are to be delivered again", IN(redrive_in_fields, redrive_in), STATE, .out = dead_done_fields,
     .steps = redrive_steps},
    {QUEUE_PURGE, OP_SCRIPT, 0, ROLE_USER, 200, "purge", METHOD_DELETE, GROUP "/dead-letters", "Forget dead letters",
     IN(group_in_fields, group_in), STATE, .out = dead_done_fields, .steps = purge_steps},
    {QUEUE_SEEK, OP_SCRIPT, 0, ROLE_USER, 204, "seek", METHOD_POST, GROUP "/seek", "A group begins anew somewhere",
     IN(seek_in_fields, seek_in), STATE, .steps = seek_steps},
    {QUEUE_SUBSCRIBE, OP_STREAM, 0, ROLE_USER, 200, "subscribe", METHOD_GET, GROUP "/stream",
     "Messages as they come (text/event-stream)", IN(subscribe_in_fields, subscribe_in), STATE,
     .steps = subscribe_steps, .watches = subscribe_watches},
    {QUEUE_RING, OP_SCRIPT, .name = "ring", .steps = ring_steps},
    {QUEUE_DO_PUT, OP_COMMAND, .name = "do_put", IN(put_topic_fields, put_topic), .out = topic_fields,
     .reduce = put_topic_reduce},
    {QUEUE_DO_DELETE, OP_COMMAND, .flags = OP_FREES, .name = "do_delete", IN(no_input_fields, no_input),
     .reduce = delete_topic_reduce},
    {QUEUE_DO_PUBLISH, OP_COMMAND, .name = "do_publish", IN(joined_fields, joined), .reduce = publish_reduce},
    {QUEUE_DO_RECEIVE, OP_COMMAND, .flags = OP_FREES, .name = "do_receive", IN(joined_fields, joined),
     .reduce = receive_reduce},
    {QUEUE_DO_SETTLE, OP_COMMAND, .flags = OP_FREES, .name = "do_settle", IN(joined_fields, joined),
     .reduce = settle_reduce},
    {QUEUE_DO_DEAD, OP_COMMAND, .flags = OP_FREES, .name = "do_dead", IN(dead_ask_fields, dead_ask),
     .out = dead_done_fields, .reduce = dead_reduce},
    {QUEUE_DO_GROUP, OP_COMMAND, .flags = OP_FREES, .name = "do_group", IN(group_ask_fields, group_ask),
     .reduce = group_reduce},
    {QUEUE_DO_JOB, OP_COMMAND, .flags = OP_FREES, .name = "do_job", IN(job_ask_fields, job_ask), .out = job_done_fields,
     .reduce = job_reduce},
    {QUEUE_DO_RING, OP_COMMAND, .flags = OP_FREES, .name = "do_ring", IN(ring_ask_fields, ring_ask),
     .reduce = ring_reduce},
    {0}};

static const struct alarm alarms[] = {{"queue", QUEUE_RING, ring_due}, {0}};

const struct kind queue_kind = {.id = KIND_QUEUE,
                                .name = "queue",
                                .tables = tables,
                                .ops = ops,
                                .alarms = alarms,
                                .forget = queue_forget,
                                .check = queue_check,
                                .mend = queue_mend,
                                .metrics = queue_metrics};
