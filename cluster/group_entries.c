#include "cluster/group_entries.h"

#include <stdlib.h>

enum { RING_MIN = 64, WRITES_MIN = 64 };

static void free_payload(struct bytes payload)
{
    free((void *)(uintptr_t)payload.ptr);
}

static struct group_entry *slot(const struct group_entries *entries, uint64_t index)
{
    return &entries->ring[index & (entries->cap - 1)];
}

static struct group_write *write_at(const struct group_entries *entries, size_t i)
{
    return &entries->writes[(entries->writes_at + i) & (entries->writes_cap - 1)];
}

void group_entries_init(struct group_entries *entries, uint64_t last, size_t keep_bytes)
{
    *entries = (struct group_entries){.first = last + 1, .last = last, .applied = last, .keep_bytes = keep_bytes};
    entries->cap = RING_MIN;
    entries->ring = mem_zalloc(entries->cap * sizeof *entries->ring);
    entries->writes_cap = WRITES_MIN;
    entries->writes = mem_zalloc(entries->writes_cap * sizeof *entries->writes);
}

void group_entries_close(struct group_entries *entries)
{
    for (uint64_t index = entries->first; entries->ring != NULL && index <= entries->last; index++) {
        free_payload(slot(entries, index)->payload);
    }
    for (size_t i = 0; i < entries->writes_len; i++) {
        free_payload(write_at(entries, i)->buried);
    }
    free(entries->ring);
    free(entries->writes);
    *entries = (struct group_entries){0};
}

const struct group_entry *group_entries_find(const struct group_entries *entries, uint64_t index)
{
    return index >= entries->first && index <= entries->last ? slot(entries, index) : NULL;
}

static void grow_ring(struct group_entries *entries)
{
    size_t cap = entries->cap * 2;
    struct group_entry *ring = mem_zalloc(cap * sizeof *ring);
    for (uint64_t index = entries->first; index <= entries->last; index++) {
        ring[index & (cap - 1)] = *slot(entries, index);
    }
    free(entries->ring);
    entries->ring = ring;
    entries->cap = cap;
}

void group_entries_load(struct group_entries *entries, struct group_entry entry)
{
    CHECK(entry.index == entries->last + 1);
    if (entries->last - entries->first + 1 == entries->cap) {
        grow_ring(entries);
    }
    entries->last++;
    *slot(entries, entry.index) = entry;
}

static void add_write(struct group_entries *entries, uint64_t index)
{
    if (entries->writes_len == entries->writes_cap) {
        size_t cap = entries->writes_cap * 2;
        struct group_write *writes = mem_zalloc(cap * sizeof *writes);
        for (size_t i = 0; i < entries->writes_len; i++) {
            writes[i] = *write_at(entries, i);
        }
        free(entries->writes);
        entries->writes = writes;
        entries->writes_cap = cap;
        entries->writes_at = 0;
    }
    *write_at(entries, entries->writes_len++) = (struct group_write){.number = ++entries->number, .index = index};
}

/* Entries at and above index are replaced. What the log writer still reads is kept until it is done. */
static void truncate(struct group_entries *entries, uint64_t index)
{
    CHECK(index > entries->applied && index >= entries->first);
    for (size_t i = 0; i < entries->writes_len; i++) {
        struct group_write *write = write_at(entries, i);
        if (write->index >= index) {
            struct group_entry *entry = slot(entries, write->index);
            write->buried = entry->payload;
            entry->payload = BYTES_NONE;
            write->index = 0;
        }
    }
    while (entries->last >= index) {
        free_payload(slot(entries, entries->last)->payload);
        *slot(entries, entries->last--) = (struct group_entry){0};
    }
}

const struct group_entry *group_entries_append(struct group_entries *entries, struct group_entry entry)
{
    if (entry.index <= entries->last) {
        truncate(entries, entry.index);
    }
    group_entries_load(entries, entry);
    add_write(entries, entry.index);
    return slot(entries, entry.index);
}

void group_entries_hard_state(struct group_entries *entries)
{
    add_write(entries, 0);
}

uint64_t group_entries_synced(struct group_entries *entries, uint64_t number)
{
    uint64_t highest = 0;
    CHECK(number <= entries->number);
    while (entries->writes_len > 0 && write_at(entries, 0)->number <= number) {
        struct group_write *write = write_at(entries, 0);
        highest = write->index > highest ? write->index : highest;
        free_payload(write->buried);
        *write = (struct group_write){0};
        entries->writes_at = (entries->writes_at + 1) & (entries->writes_cap - 1);
        entries->writes_len--;
    }
    entries->synced = number > entries->synced ? number : entries->synced;
    return highest;
}

void group_entries_applied(struct group_entries *entries, uint64_t index)
{
    CHECK(index >= entries->applied && index <= entries->last);
    while (entries->applied < index) {
        const struct group_entry *entry = group_entries_find(entries, ++entries->applied);
        entries->applied_bytes += entry == NULL ? 0 : entry->payload.len + sizeof *entry;
    }
    while (entries->applied_bytes > entries->keep_bytes && entries->first <= entries->applied) {
        struct group_entry *oldest = slot(entries, entries->first++);
        entries->applied_bytes -= oldest->payload.len + sizeof *oldest;
        free_payload(oldest->payload);
        *oldest = (struct group_entry){0};
    }
}

void group_entries_reset(struct group_entries *entries, uint64_t last)
{
    size_t keep_bytes = entries->keep_bytes;
    uint64_t number = entries->number;
    CHECK(entries->writes_len == 0);
    group_entries_close(entries);
    group_entries_init(entries, last, keep_bytes);
    entries->number = entries->synced = number;
}
