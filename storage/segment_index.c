#include "storage/segment_index.h"

#include <pthread.h>
#include <stdlib.h>

#include "storage/record.h"

enum { STEP_BYTES = 64 * 1024, STEP_BYTES_A_GROUP = 4 * 1024 };

struct run {
    uint64_t first, number, at;
};

struct group_runs {
    struct run *runs; /* in order of `first`, and so of number and at */
    size_t len, cap;
    uint64_t last; /* entry; the group's newest */
    uint64_t version;
};

struct segment_index {
    pthread_mutex_t mutex;
    unsigned groups;
    uint64_t step;               /* bytes of file between two runs of a group */
    uint64_t newest, newest_len; /* the file added to last, and where what was added ends */
    struct group_runs *list;
};

struct segment_index *segment_index_new(unsigned groups)
{
    struct segment_index *index = mem_zalloc(sizeof *index);
    uint64_t step = (uint64_t)groups * STEP_BYTES_A_GROUP;
    CHECK(pthread_mutex_init(&index->mutex, NULL) == 0);
    index->groups = groups;
    index->step = step > STEP_BYTES ? step : STEP_BYTES;
    index->list = mem_zalloc(groups * sizeof *index->list);
    return index;
}

void segment_index_free(struct segment_index *index)
{
    if (index == NULL) {
        return;
    }
    for (unsigned g = 0; g < index->groups; g++) {
        free(index->list[g].runs);
    }
    free(index->list);
    (void)pthread_mutex_destroy(&index->mutex);
    free(index);
}

static void push(struct group_runs *group, struct run run)
{
    if (group->len == group->cap) {
        group->cap = group->cap == 0 ? 8 : group->cap * 2;
        group->runs = mem_realloc(group->runs, group->cap * sizeof *group->runs);
    }
    group->runs[group->len++] = run;
}

/* Entries from this one on are replaced, or do not follow what is known. */
static void cut(struct group_runs *group, uint64_t entry)
{
    while (group->len > 0 && group->runs[group->len - 1].first >= entry) {
        group->len--;
    }
    group->version++;
}

static void note_entry(const struct segment_index *index, struct group_runs *group, struct run run)
{
    bool follows = run.first > 0 && run.first - 1 == group->last;
    if (!follows) {
        cut(group, run.first <= group->last ? run.first : 0);
    }
    const struct run *newest = group->len == 0 ? NULL : &group->runs[group->len - 1];
    if (!follows || newest == NULL || newest->number != run.number || run.at - newest->at >= index->step) {
        push(group, run);
    }
    group->last = run.first;
}

/* What a segment begins with says nothing new; where the oldest was dropped, that a group begins elsewhere. */
static void note_last(struct group_runs *group, uint64_t last, bool anew)
{
    if (group->last != last || anew) {
        cut(group, 0);
        group->last = last;
    }
}

void segment_index_add(struct segment_index *index, uint64_t number, uint64_t at, struct bytes records)
{
    struct record_header header;
    CHECK(pthread_mutex_lock(&index->mutex) == 0);
    for (size_t offset = 0; offset < records.len; offset += record_bytes(header.length)) {
        CHECK(records.len - offset >= sizeof header);
        memcpy(&header, records.ptr + offset, sizeof header);
        CHECK(header.group < index->groups);
        if (header.type == RECORD_ENTRY) {
            note_entry(index, &index->list[header.group], (struct run){header.index, number, at + offset});
        } else if (header.type == RECORD_LAST) {
            note_last(&index->list[header.group], header.index, header.kind == RECORD_LAST_ANEW);
        }
    }
    index->newest = number;
    index->newest_len = at + records.len;
    CHECK(pthread_mutex_unlock(&index->mutex) == 0);
}

void segment_index_drop(struct segment_index *index, uint64_t number)
{
    CHECK(pthread_mutex_lock(&index->mutex) == 0);
    for (unsigned g = 0; g < index->groups; g++) {
        struct group_runs *group = &index->list[g];
        size_t gone = 0;
        while (gone < group->len && group->runs[gone].number <= number) {
            gone++;
        }
        if (gone > 0) {
            group->len -= gone;
            memmove(group->runs, group->runs + gone, group->len * sizeof *group->runs);
        }
    }
    CHECK(pthread_mutex_unlock(&index->mutex) == 0);
}

bool segment_index_find(struct segment_index *index, uint16_t number, uint64_t entry, struct segment_place *out)
{
    CHECK(number < index->groups);
    CHECK(pthread_mutex_lock(&index->mutex) == 0);
    const struct group_runs *group = &index->list[number];
    size_t low = 0, high = group->len; /* runs before low begin at or before the entry */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (group->runs[middle].first <= entry) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool found = low > 0 && entry <= group->last && group->last < UINT64_MAX;
    if (found) {
        const struct run *run = &group->runs[low - 1];
        uint64_t end = low < group->len ? group->runs[low].first : group->last + 1;
        uint64_t limit = run->number == index->newest ? index->newest_len : UINT64_MAX;
        *out = (struct segment_place){run->number, run->at, run->first, end, limit, group->version};
    }
    CHECK(pthread_mutex_unlock(&index->mutex) == 0);
    return found;
}

uint64_t segment_index_first(struct segment_index *index, uint16_t number)
{
    CHECK(number < index->groups);
    CHECK(pthread_mutex_lock(&index->mutex) == 0);
    const struct group_runs *group = &index->list[number];
    uint64_t first = group->len > 0 ? group->runs[0].first : group->last + 1;
    CHECK(pthread_mutex_unlock(&index->mutex) == 0);
    return first;
}
