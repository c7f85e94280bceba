/* A replica's log on disk: writes are synced in order, later; a power loss leaves a prefix of them. */
#include <stdlib.h>

#include "tests/sim/sim.h"

void log_put(struct sim_log *log, const struct group_entry *entry)
{
    CHECK(entry->index >= 1 && entry->index <= log->len + 1);
    if (entry->index > log->cap) {
        log->cap = log->cap == 0 ? 256 : 2 * log->cap;
        log->list = mem_realloc(log->list, log->cap * sizeof *log->list);
    }
    log->list[entry->index - 1] = *entry;
    log->len = entry->index;
    log->change = entry->kind == ENTRY_CHANGE ? entry->index : log->change;
    while (log->change > log->len || (log->change > 0 && log->list[log->change - 1].kind != ENTRY_CHANGE)) {
        log->change--; /* it was replaced */
    }
}

static void start_sync(struct replica *replica);

/* The group's payload must still be what it was when it was handed over. */
static void take_synced(struct replica *replica, const struct disk_write *write, bool group_lives)
{
    struct sim_disk *disk = &replica->disk;
    if (write->entry.index == 0) {
        if (write->term < disk->term || (write->term == disk->term && disk->vote != 0 && disk->vote != write->vote)) {
            sim_fail(replica->sim, "replica %llu: term %llu vote %llu after term %llu vote %llu",
                     (unsigned long long)replica->id, (unsigned long long)write->term, (unsigned long long)write->vote,
                     (unsigned long long)disk->term, (unsigned long long)disk->vote);
        }
        disk->term = write->term;
        disk->vote = write->vote;
        return;
    }
    struct bytes borrowed = {write->borrowed, write->entry.payload.len};
    if (group_lives && !bytes_eq(borrowed, write->entry.payload)) {
        sim_fail(replica->sim, "replica %llu: payload of %llu changed before it was synced",
                 (unsigned long long)replica->id, (unsigned long long)write->entry.index);
    }
    log_put(&disk->synced, &write->entry);
}

static void drop_first(struct sim_disk *disk, size_t len)
{
    disk->pending_len -= len;
    memmove(disk->pending, disk->pending + len, disk->pending_len * sizeof *disk->pending);
}

static void on_synced(struct sim *sim, struct sim_event *event)
{
    struct replica *replica = event->replica;
    struct sim_disk *disk = &replica->disk;
    size_t len = disk->syncing;
    if (len > 1 && sim_chance(sim, 200)) {
        len = 1 + (size_t)sim_below(sim, len); /* a part of the batch is reported first */
    }
    for (size_t i = 0; i < len; i++) {
        take_synced(replica, &disk->pending[i], true);
    }
    uint64_t number = disk->pending[len - 1].number;
    drop_first(disk, len);
    disk->syncing = 0;
    sim_trace(sim, "%llu synced to write %llu: term %llu vote %llu, last %zu", (unsigned long long)replica->id,
              (unsigned long long)number, (unsigned long long)disk->term, (unsigned long long)disk->vote,
              disk->synced.len);
    group_synced(replica->group, number, replica_clock_ns(replica));
    start_sync(replica);
}

static void start_sync(struct replica *replica)
{
    struct sim *sim = replica->sim;
    struct sim_disk *disk = &replica->disk;
    if (disk->syncing > 0 || disk->pending_len == 0) {
        return;
    }
    disk->syncing = disk->pending_len;
    int64_t delay_ns = sim_between(sim, 20, sim->plan.disk_us_max) * SIM_US * replica->disk_slow;
    sim_at(sim, delay_ns, on_synced, replica, 0, NULL);
}

static void add_pending(struct replica *replica, struct group *group, struct disk_write write)
{
    struct sim_disk *disk = &replica->disk;
    write.number = group_writes(group);
    if (write.number <= disk->number) {
        sim_fail(replica->sim, "replica %llu: write %llu after write %llu", (unsigned long long)replica->id,
                 (unsigned long long)write.number, (unsigned long long)disk->number);
    }
    disk->number = write.number;
    if (disk->pending_len == disk->pending_cap) {
        disk->pending_cap = disk->pending_cap == 0 ? 64 : 2 * disk->pending_cap;
        disk->pending = mem_realloc(disk->pending, disk->pending_cap * sizeof *disk->pending);
    }
    disk->pending[disk->pending_len++] = write;
    start_sync(replica);
}

void disk_write_hard_state(struct replica *replica, struct group *group, uint64_t term, uint64_t vote)
{
    sim_trace(replica->sim, "%llu writes term %llu vote %llu", (unsigned long long)replica->id,
              (unsigned long long)term, (unsigned long long)vote);
    add_pending(replica, group, (struct disk_write){.term = term, .vote = vote});
}

void disk_write_entry(struct replica *replica, struct group *group, const struct group_entry *entry)
{
    struct sim *sim = replica->sim;
    struct disk_write write = {.entry = *entry, .borrowed = entry->payload.ptr};
    if (entry->index <= replica->commit_seen || entry->index <= replica->handed ||
        entry->index > replica->disk.written.len + 1) {
        sim_fail(sim, "replica %llu writes entry %llu: committed to %llu, handed to %llu, last %zu",
                 (unsigned long long)replica->id, (unsigned long long)entry->index,
                 (unsigned long long)replica->commit_seen, (unsigned long long)replica->handed,
                 replica->disk.written.len);
    }
    write.entry.payload = arena_copy(&sim->arena, entry->payload);
    sim_trace(sim, "%llu writes entry %llu^%llu kind %u", (unsigned long long)replica->id,
              (unsigned long long)entry->index, (unsigned long long)entry->term, entry->kind);
    log_put(&replica->disk.written, &write.entry);
    add_pending(replica, group, write);
}

void disk_crash(struct replica *replica)
{
    struct sim_disk *disk = &replica->disk;
    size_t keep = (size_t)sim_below(replica->sim, disk->pending_len + 1);
    for (size_t i = 0; i < keep; i++) {
        take_synced(replica, &disk->pending[i], false);
    }
    disk->pending_len = disk->syncing = 0;
    disk->number = 0;
    disk->written.len = 0;
    disk->written.change = 0;
    for (size_t i = 0; i < disk->synced.len; i++) {
        log_put(&disk->written, &disk->synced.list[i]);
    }
}

void disk_close(struct sim_disk *disk)
{
    free(disk->synced.list);
    free(disk->written.list);
    free(disk->pending);
}
