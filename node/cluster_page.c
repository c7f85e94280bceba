#include "node/cluster_page.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "node/base/when.h"
#include "node/codec/field.h"
#include "node/members.h"
#include "node/partition.h"
#include "node/peers.h"

enum {
    TELL_EVERY = 5 /* calls of statuses_tend */,
    FRESH_MS = 3000,
    ID_AT = 18 /* of a path: after /v1/cluster/nodes/ */
};

struct status {
    uint64_t replica;
    struct id node;
    char address[LINK_ADDRESS_BYTES], software[32];
    int64_t started_ms, heard_ms;
    double cpu_percent;
    uint64_t memory_bytes;
    bool draining;
    uint64_t *applied; /* by partition */
};

struct statuses {
    pthread_mutex_t mutex;
    unsigned partitions;
    struct status list[LIMIT_PEERS];
    unsigned len;
    unsigned calls;
    int64_t cpu_ns, cpu_at_ns; /* of this process, as of the last look */
    double cpu_percent;
};

/* PEER_STATUS. applied: 8 bytes a partition. */
struct status_message {
    struct fieldset set;
    int64_t started_ms, cpu_permille, memory_bytes;
    bool draining;
    struct bytes applied;
};
static const struct field status_fields[] = {FIELD_INT(1, status_message, started_ms, 0, INT64_MAX, 0),
                                             FIELD_INT(2, status_message, cpu_permille, 0, INT32_MAX, 0),
                                             FIELD_INT(3, status_message, memory_bytes, 0, INT64_MAX, 0),
                                             FIELD_BOOL(4, status_message, draining, 0),
                                             FIELD_BLOB(5, status_message, applied, 0),
                                             FIELDS_END};

/* PEER_DRAIN. */
struct drain_message {
    struct fieldset set;
    struct id node;
    bool drain;
};
static const struct field drain_fields[] = {FIELD_ID(1, drain_message, node, 0), FIELD_BOOL(2, drain_message, drain, 0),
                                            FIELDS_END};

struct statuses *statuses_new(unsigned partitions)
{
    struct statuses *statuses = mem_zalloc(sizeof *statuses);
    statuses->partitions = partitions;
    CHECK(pthread_mutex_init(&statuses->mutex, NULL) == 0);
    return statuses;
}

void statuses_free(struct statuses *statuses)
{
    for (unsigned i = 0; i < statuses->len; i++) {
        free(statuses->list[i].applied);
    }
    (void)pthread_mutex_destroy(&statuses->mutex);
    free(statuses);
}

/* ---- telling ---- */

static uint64_t own_memory(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/self/status", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "RssAnon: %llu", &kib) == 1) {
            break;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return (uint64_t)kib * 1024;
}

static double own_cpu(struct statuses *statuses, int64_t now_ns)
{
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    int64_t cpu_ns = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000LL +
                     (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000LL;
    int64_t wall_ns = now_ns - statuses->cpu_at_ns;
    double percent =
        statuses->cpu_at_ns == 0 || wall_ns <= 0 ? 0 : (double)(cpu_ns - statuses->cpu_ns) * 100 / (double)wall_ns;
    statuses->cpu_ns = cpu_ns;
    statuses->cpu_at_ns = now_ns;
    return percent;
}

static struct status *status_of(struct statuses *statuses, uint64_t replica)
{
    for (unsigned i = 0; i < statuses->len; i++) {
        if (statuses->list[i].replica == replica) {
            return &statuses->list[i];
        }
    }
    /* Full: the one that was silent longest makes room. */
    struct status *status = statuses->len < LIMIT_PEERS ? &statuses->list[statuses->len++] : &statuses->list[0];
    for (unsigned i = 0; i < statuses->len && statuses->len == LIMIT_PEERS && status->replica != 0; i++) {
        status = statuses->list[i].heard_ms < status->heard_ms ? &statuses->list[i] : status;
    }
    uint64_t *applied = status->applied;
    *status = (struct status){.replica = replica, .applied = applied};
    if (applied == NULL) {
        status->applied = mem_zalloc(statuses->partitions * sizeof *status->applied);
    }
    return status;
}

static void note_self(struct node *node, struct status *self, uint64_t memory_bytes, int64_t now_ns)
{
    self->node = node->id;
    (void)snprintf(self->address, sizeof self->address, "%s", node->advertise);
    (void)snprintf(self->software, sizeof self->software, "%s", BELFRY_VERSION);
    self->started_ms = node->started_ms;
    self->heard_ms = now_ns / 1000000;
    self->cpu_percent = own_cpu(node->statuses, now_ns);
    self->memory_bytes = memory_bytes;
    self->draining = atomic_load(&node->draining);
    for (unsigned p = 0; p < node->partitions_len; p++) {
        self->applied[p] = atomic_load(&node->partitions[p].applied);
    }
}

static void pack_self(struct node *node, struct buf *out)
{
    struct statuses *statuses = node->statuses;
    uint64_t memory_bytes = own_memory();
    CHECK(pthread_mutex_lock(&statuses->mutex) == 0);
    struct status *self = status_of(statuses, node->replica);
    note_self(node, self, memory_bytes, clock_boot_ns(node->clock));
    struct status_message message = {.set.has = field_bit(5) - 1,
                                     .started_ms = self->started_ms,
                                     .cpu_permille = (int64_t)(self->cpu_percent * 10),
                                     .memory_bytes = (int64_t)self->memory_bytes,
                                     .draining = self->draining,
                                     .applied = bytes_of(self->applied, statuses->partitions * sizeof *self->applied)};
    field_pack(out, status_fields, &message);
    CHECK(pthread_mutex_unlock(&statuses->mutex) == 0);
}

void statuses_tend(struct node_worker *worker)
{
    struct buf body = {0};
    struct node *node = worker->node;
    bool told = statuses_is_draining(node->statuses, node->replica) == atomic_load(&node->draining);
    if (node->statuses->calls++ % TELL_EVERY != 0 && told) {
        return;
    }
    pack_self(node, &body);
    peer_net_each(link, &worker->peers)
    {
        (void)peer_net_send(&worker->peers, peer_dial_of(link), PEER_STATUS, buf_bytes(&body));
    }
    buf_free(&body);
}

void statuses_on_status(struct node_worker *worker, const struct link_hello *from, struct bytes body)
{
    struct statuses *statuses = worker->node->statuses;
    struct status_message message = {0};
    if (field_unpack(status_fields, body, &message) != OK ||
        message.applied.len != statuses->partitions * sizeof(uint64_t)) {
        return;
    }
    CHECK(pthread_mutex_lock(&statuses->mutex) == 0);
    struct status *status = status_of(statuses, replica_of(from->node));
    status->node = from->node;
    (void)snprintf(status->address, sizeof status->address, "%s", from->address);
    (void)snprintf(status->software, sizeof status->software, "%s", from->software);
    status->started_ms = message.started_ms;
    status->heard_ms = clock_boot_ms(worker->node->clock);
    status->cpu_percent = (double)message.cpu_permille / 10;
    status->memory_bytes = (uint64_t)message.memory_bytes;
    status->draining = message.draining;
    memcpy(status->applied, message.applied.ptr, message.applied.len);
    CHECK(pthread_mutex_unlock(&statuses->mutex) == 0);
}

/* ---- draining ---- */

bool statuses_is_draining(struct statuses *statuses, uint64_t replica)
{
    bool draining = false;
    CHECK(pthread_mutex_lock(&statuses->mutex) == 0);
    for (unsigned i = 0; i < statuses->len; i++) {
        draining = draining || (statuses->list[i].replica == replica && statuses->list[i].draining);
    }
    CHECK(pthread_mutex_unlock(&statuses->mutex) == 0);
    return draining;
}

bool statuses_anyone_stays(struct node *node)
{
    struct statuses *statuses = node->statuses;
    int64_t now_ms = clock_boot_ms(node->clock);
    bool stays = false;
    CHECK(pthread_mutex_lock(&statuses->mutex) == 0);
    for (unsigned i = 0; i < statuses->len; i++) {
        const struct status *status = &statuses->list[i];
        stays =
            stays || (status->replica != node->replica && !status->draining && now_ms - status->heard_ms < FRESH_MS);
    }
    CHECK(pthread_mutex_unlock(&statuses->mutex) == 0);
    return stays;
}

void statuses_on_drain(struct node_worker *worker, struct bytes body)
{
    struct drain_message message = {0};
    struct node *node = worker->node;
    if (field_unpack(drain_fields, body, &message) == OK && id_eq(message.node, node->id) &&
        !atomic_load(&node->stopping)) {
        atomic_store(&node->draining, message.drain);
        log_text(node->log, LOG_INFO, message.drain ? "draining" : "no longer draining", "%s", "as an operator says");
    }
}

struct passed_drain {
    struct message message;
    struct drain_message drain;
};

static void send_drain(struct worker *base, struct message *message)
{
    struct passed_drain *passed = container_of(message, struct passed_drain, message);
    struct node_worker *worker = node_worker_of(base);
    struct buf body = {0};
    field_pack(&body, drain_fields, &passed->drain);
    if (id_eq(passed->drain.node, worker->node->id)) {
        statuses_on_drain(worker, buf_bytes(&body));
    } else {
        (void)peers_send(worker, replica_of(passed->drain.node), PEER_DRAIN, buf_bytes(&body));
    }
    buf_free(&body);
    free(passed);
}

static int drain(struct node *node, const struct http_request *request, struct page_out *out, bool drain)
{
    struct id id;
    char name[ID_TEXT_BYTES];
    bool known = request->path.len >= ID_AT + ID_TEXT_BYTES &&
                 id_parse(bytes_of(request->path.ptr + ID_AT, ID_TEXT_BYTES), &id) &&
                 peers_name(node->peers, replica_of(id), name);
    if (!known) {
        out->err = ERR_NOT_FOUND;
        return 404;
    }
    struct passed_drain *passed = mem_zalloc(sizeof *passed);
    passed->message.run = send_drain;
    passed->drain = (struct drain_message){.set.has = field_bit(2) - 1, .node = id, .drain = drain};
    worker_post(&node->workers[0].worker, &passed->message);
    buf_printf(&out->body, "{\"id\":\"%.36s\",\"draining\":%s}", name, drain ? "true" : "false");
    return 202;
}

int cluster_drain(struct node *node, const struct http_request *request, struct page_out *out)
{
    return drain(node, request, out, true);
}

int cluster_undrain(struct node *node, const struct http_request *request, struct page_out *out)
{
    return drain(node, request, out, false);
}

/* ---- the page ---- */

struct node_view {
    char id[ID_TEXT_BYTES + 1];
    const struct status *status; /* NULL: never heard of */
    const char *role;
    unsigned leads;
    uint64_t lag;
    bool reached;
};

static void view_node(struct node *node, const struct group_member *member, struct node_view *out)
{
    struct statuses *statuses = node->statuses;
    *out = (struct node_view){.role = members_votes_everywhere(node, member->replica) ? "voter" : "learner"};
    if (!peers_name(node->peers, member->replica, out->id)) {
        (void)snprintf(out->id, sizeof out->id, "replica %016llx", (unsigned long long)member->replica);
    }
    for (unsigned i = 0; i < statuses->len; i++) {
        out->status = statuses->list[i].replica == member->replica ? &statuses->list[i] : out->status;
    }
    for (unsigned p = 0; p < node->partitions_len; p++) {
        uint64_t commit = atomic_load(&node->partitions[p].commit);
        uint64_t applied = out->status == NULL ? 0 : out->status->applied[p];
        out->leads += atomic_load(&node->partitions[p].leader_replica) == member->replica;
        out->lag = commit > applied && commit - applied > out->lag ? commit - applied : out->lag;
    }
    out->reached = out->status != NULL && clock_boot_ms(node->clock) - out->status->heard_ms < FRESH_MS;
}

static void node_json(const struct node *node, const struct group_member *member, const struct node_view *view,
                      struct buf *out)
{
    const struct status *status = view->status;
    char since[WHEN_TEXT_BYTES + 1] = "";
    buf_printf(out, "{\"id\":\"%s\",\"self\":%s,\"role\":\"%s\",\"leads\":%u,\"lag\":%llu,\"reached\":%s", view->id,
               member->replica == node->replica ? "true" : "false", view->role, view->leads,
               (unsigned long long)view->lag, view->reached ? "true" : "false");
    if (status != NULL) {
        when_format(status->started_ms, since);
        buf_printf(out,
                   ",\"address\":\"%s\",\"version\":\"%s\",\"since\":\"%.24s\",\"draining\":%s,\"cpu_percent\":%.1f,"
                   "\"memory_bytes\":%llu",
                   status->address, status->software, since, status->draining ? "true" : "false", status->cpu_percent,
                   (unsigned long long)status->memory_bytes);
    }
    buf_add_char(out, '}');
}

static void node_line(const struct node *node, const struct group_member *member, const struct node_view *view,
                      struct buf *out)
{
    const struct status *status = view->status;
    char since[WHEN_TEXT_BYTES + 1] = "-";
    if (status != NULL) {
        when_format(status->started_ms, since);
    }
    buf_printf(out, "%c %-36s %-21s %-7s %5u %8llu %-8s %5.1f%% %7.1f %-24.24s %s\n",
               member->replica == node->replica ? '*' : ' ', view->id, status == NULL ? "-" : status->address,
               view->role, view->leads, (unsigned long long)view->lag,
               !view->reached     ? "lost"
               : status->draining ? "draining"
                                  : "up",
               status == NULL ? 0 : status->cpu_percent, status == NULL ? 0 : (double)status->memory_bytes / (1 << 20),
               since, status == NULL ? "-" : status->software);
}

static void partitions_json(struct node *node, struct buf *out)
{
    char name[ID_TEXT_BYTES + 1] = "";
    for (unsigned p = 0; p < node->partitions_len; p++) {
        struct partition *partition = &node->partitions[p];
        uint64_t leader = atomic_load(&partition->leader_replica);
        bool named = leader != 0 && peers_name(node->peers, leader, name);
        buf_printf(out, "%s{\"partition\":%u,\"leader\":%s%.36s%s,\"term\":%llu,\"commit\":%llu,\"applied\":%llu}",
                   p > 0 ? "," : "", p, named ? "\"" : "", named ? name : "null", named ? "\"" : "",
                   (unsigned long long)atomic_load(&partition->term),
                   (unsigned long long)atomic_load(&partition->commit),
                   (unsigned long long)atomic_load(&partition->applied));
    }
}

int cluster_page(struct node *node, const struct http_request *request, struct page_out *out)
{
    struct group_members members;
    char cluster[ID_TEXT_BYTES];
    bool table = bytes_is(request->query, "format=table");
    members_list(node->members, &members);
    id_format(node->cluster_id, cluster);
    if (table) {
        out->type = "text/plain; charset=utf-8";
        buf_printf(&out->body, "  %-36s %-21s %-7s %5s %8s %-8s %6s %7s %-24s %s\n", "node", "address", "role", "leads",
                   "lag", "state", "cpu", "MiB", "since", "version");
    } else {
        buf_printf(&out->body, "{\"cluster\":\"%.36s\",\"node\":\"%.36s\",\"nodes\":[", cluster, node->name);
    }
    CHECK(pthread_mutex_lock(&node->statuses->mutex) == 0);
    for (unsigned i = 0; i < members.len; i++) {
        struct node_view view;
        view_node(node, &members.list[i], &view);
        if (table) {
            node_line(node, &members.list[i], &view, &out->body);
        } else {
            buf_add_str(&out->body, i > 0 ? "," : "");
            node_json(node, &members.list[i], &view, &out->body);
        }
    }
    CHECK(pthread_mutex_unlock(&node->statuses->mutex) == 0);
    if (!table) {
        buf_add_lit(&out->body, "],\"partitions\":[");
        partitions_json(node, &out->body);
        buf_add_lit(&out->body, "]}");
    }
    return 200;
}
