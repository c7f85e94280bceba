#include "node/log_loader.h"

#include <stdlib.h>

#include "node/background.h"

struct load {
    struct background_job job;
    struct partition *partition;
    struct group_message message;
    struct group_entry *entries; /* payloads are ours */
    size_t len;
    enum err err;
};

static void keep_entry(void *ctx, const struct segment_record *record)
{
    struct load *load = ctx;
    load->entries[load->len++] =
        (struct group_entry){record->index, record->term, record->kind,
                             bytes_of(mem_copy(record->payload.ptr, record->payload.len), record->payload.len)};
}

static void read_entries(struct background_job *job)
{
    struct load *load = container_of(job, struct load, job);
    const struct partition *partition = load->partition;
    load->err = segments_read(partition->node->segments, (uint16_t)partition->number, load->message.index + 1,
                              load->message.entries_len, LIMIT_APPEND_BYTES, keep_entry, load);
}

static void send_loaded(struct background_job *job)
{
    struct load *load = container_of(job, struct load, job);
    struct partition *partition = load->partition;
    bool leads = group_is_leader(partition->group) && group_term(partition->group) == load->message.term;
    partition->loads--;
    if (leads && load->len > 0) {
        load->message.stamp_ns = 0; /* it was made before the reading */
        partition_send_entries(partition, load->message, load->entries, load->len);
    }
    if (load->err == ERR_CORRUPT) {
        partition_log_damaged(partition);
    }
    for (size_t i = 0; i < load->len; i++) {
        free((void *)(uintptr_t)load->entries[i].payload.ptr);
    }
    free(load->entries);
    free(load);
}

void log_loader_send(struct partition *partition, const struct group_message *message)
{
    if (partition->loads >= LIMIT_LOADS) {
        return;
    }
    struct load *load = mem_zalloc(sizeof *load);
    load->job = (struct background_job){.worker = &partition->home->worker, .work = read_entries, .done = send_loaded};
    load->partition = partition;
    load->message = *message;
    load->entries = mem_alloc(message->entries_len * sizeof *load->entries);
    partition->loads++;
    background_run(partition->node->background, &load->job);
}
