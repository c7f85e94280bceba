/* The network: messages are copied, lost, doubled, delayed and overtaken. Nothing is promised. */
#include <stdlib.h>

#include "tests/sim/sim.h"

struct packet {
    struct group_message message;
    struct group_entry entries[];
};

/* Most arrive soon; some very late, long after what they speak of. */
static int64_t delay_ns(struct sim *sim)
{
    int64_t base_ns = sim_between(sim, 50, sim->plan.delay_us_max) * SIM_US;
    if (!sim->calm && sim_chance(sim, sim->plan.late_permille)) {
        return base_ns + sim_between(sim, 0, sim_chance(sim, 100) ? 8 * SIM_S : 300 * SIM_MS);
    }
    return base_ns;
}

static bool is_lost(struct sim *sim, uint64_t from, uint64_t to)
{
    return sim->cut[from][to] || (!sim->calm && sim_chance(sim, sim->plan.drop_permille));
}

/* The receiver owns entries and payloads. */
static void deliver(struct sim *sim, struct sim_event *event)
{
    struct packet *packet = event->data;
    struct replica *to = event->replica;
    struct group_message message = packet->message;
    if (to->state != REPLICA_UP || sim->cut[message.from][message.to]) {
        return;
    }
    if (message.entries_len > 0) {
        message.entries = mem_copy(packet->entries, message.entries_len * sizeof *message.entries);
        for (size_t i = 0; i < message.entries_len; i++) {
            struct bytes payload = message.entries[i].payload;
            message.entries[i].payload = bytes_of(mem_copy(payload.ptr, payload.len), payload.len);
        }
    }
    sim->stats.messages++;
    sim_trace(sim, "%llu -> %llu type %u term %llu index %llu^%llu commit %llu rejected %llu entries %llu%s%s%s",
              (unsigned long long)message.from, (unsigned long long)message.to, message.type,
              (unsigned long long)message.term, (unsigned long long)message.index,
              (unsigned long long)message.index_term, (unsigned long long)message.commit,
              (unsigned long long)message.rejected, (unsigned long long)message.entries_len,
              message.granted ? " granted" : "", message.pre_vote ? " pre-vote" : "",
              message.disrupt ? " disrupt" : "");
    enum err err = group_receive(to->group, &message, replica_clock_ns(to));
    if (err != OK) {
        sim_fail(sim, "replica %llu refuses a message of type %u from %llu: %s", (unsigned long long)to->id,
                 packet->message.type, (unsigned long long)packet->message.from, err_code(err));
    }
}

/* What the group keeps no more is loaded from the log. */
static void fetch_entries(struct replica *from, const struct group *group, struct packet *packet)
{
    const struct sim_log *log = &from->disk.written;
    uint64_t first = packet->message.index + 1, len = packet->message.entries_len;
    if (first - 1 + len > log->len) {
        sim_fail(from->sim, "replica %llu sends entries to %llu of %zu", (unsigned long long)from->id,
                 (unsigned long long)(first - 1 + len), log->len);
    }
    bool kept = group_entries(group, first, (size_t)len, packet->entries);
    for (uint64_t i = 0; i < len; i++) {
        const struct group_entry *entry = &log->list[first - 1 + i];
        if (kept && (packet->entries[i].index != entry->index || packet->entries[i].term != entry->term ||
                     packet->entries[i].kind != entry->kind || !bytes_eq(packet->entries[i].payload, entry->payload))) {
            sim_fail(from->sim, "replica %llu keeps another entry %llu than it wrote", (unsigned long long)from->id,
                     (unsigned long long)entry->index);
        }
        packet->entries[i] = *entry; /* its payload outlives the message */
    }
}

void net_send(struct replica *from, struct group *group, const struct group_message *message)
{
    struct sim *sim = from->sim;
    if (message->from != from->id || message->to == 0 || message->to > SIM_IDS || message->to == from->id ||
        message->type == MESSAGE_INSTALL) {
        sim_fail(sim, "replica %llu sends type %u from %llu to %llu", (unsigned long long)from->id, message->type,
                 (unsigned long long)message->from, (unsigned long long)message->to);
    }
    check_send(from, message);
    if (is_lost(sim, message->from, message->to)) {
        return;
    }
    unsigned copies = !sim->calm && sim_chance(sim, sim->plan.double_permille) ? 2 : 1;
    size_t len = message->type == MESSAGE_APPEND ? (size_t)message->entries_len : 0;
    size_t size = sizeof(struct packet) + len * sizeof(struct group_entry);
    struct packet *packet = mem_alloc(size);
    packet->message = *message;
    packet->message.entries_len = len;
    if (len > 0) {
        fetch_entries(from, group, packet);
    }
    struct replica *to = &sim->replicas[message->to];
    for (unsigned i = 0; i < copies; i++) {
        /* It may reach a later incarnation. */
        queue_push(&sim->queue, (struct sim_event){.at_ns = sim->now_ns + delay_ns(sim),
                                                   .run = deliver,
                                                   .replica = to,
                                                   .data = i == 0 ? packet : mem_copy(packet, size)});
    }
}

void net_send_read(struct replica *from, struct replica *to, void (*run)(struct sim *, struct sim_event *),
                   const struct read_wait *read)
{
    struct sim *sim = from->sim;
    if (to != from && !is_lost(sim, from->id, to->id)) {
        sim_at(sim, delay_ns(sim), run, to, from->id, mem_copy(read, sizeof *read));
    }
}

void net_heal(struct sim *sim)
{
    memset(sim->cut, 0, sizeof sim->cut);
    sim_trace(sim, "all cuts are healed");
}
