#include "storage/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PAGE = TREE_PAGE_BYTES,
    HEAD = 16,     /* page header */
    NODE_HEAD = 8, /* node header */
    BRANCH = 1,
    LEAF = 2,
    OVERFLOW = 4,
    META = 8,
    NODE_BIG = 1, /* the value is in overflow pages */
    DEPTH_MAX = 32,
    KEY_MAX = 511,
    FAULTS_MAX = 50,
    META_FIXED_END = 32, /* magic, version, address: the same in both meta pages */
    META_DBS = 40,
    META_END = 152,
    INTEGER_KEYS = 8 /* the keys of the free tree are page numbers */
};
static const uint64_t no_page = UINT64_MAX;
static const uint32_t meta_magic = 0xBEEFC0DE;

struct db { /* as in the file */
    uint32_t pad;
    uint16_t flags, depth;
    uint64_t branch, leaf, overflow, entries, root;
};
_Static_assert(sizeof(struct db) == 48, "MDB_db is 48 bytes");

struct meta {
    struct db free, main;
    uint64_t last_page, txn;
};

struct task { /* a child of the root */
    uint64_t page;
    struct bytes from, before;
};

/* What the threads share. */
struct file {
    const struct tree_visit *visit;
    int fd;
    struct meta meta;
    uint64_t pages;
    uint8_t *used;         /* a bit a page, atomic */
    pthread_mutex_t mutex; /* over faults */
    unsigned faults;
    struct task *tasks;
    size_t tasks_len;
    atomic_size_t next_task;
};

struct walk {
    struct file *file;
    unsigned thread;
    uint8_t *levels[DEPTH_MAX];
    struct buf big; /* a value from overflow pages */
    /* of the tree being walked */
    struct db seen;
    unsigned depth;
    void (*row)(struct walk *walk, struct bytes key, struct bytes value);
    bool integer_keys;
    uint64_t pages;
    uint64_t unwritten; /* free, and behind the end of the file */
};

static void fault(struct walk *walk, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void fault(struct walk *walk, const char *fmt, ...)
{
    char text[200];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    struct file *file = walk->file;
    CHECK(pthread_mutex_lock(&file->mutex) == 0);
    if (file->faults++ < FAULTS_MAX) {
        file->visit->fault(file->visit->ctx, text);
    }
    CHECK(pthread_mutex_unlock(&file->mutex) == 0);
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint16_t get16(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* Reads pages; false, with a fault told, when they are not all there. */
static bool read_pages(struct walk *walk, uint64_t page, uint64_t count, uint8_t *out)
{
    size_t done = 0, len = (size_t)count * PAGE;
    while (done < len) {
        ssize_t n = pread(walk->file->fd, out + done, len - done, (off_t)(page * PAGE + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            fault(walk, "page %llu cannot be read: %s", (unsigned long long)page,
                  n == 0 ? "the file is too short" : strerror(errno));
            return false;
        }
        done += (size_t)n;
    }
    return true;
}

/* Marks pages as used by the tree; false when one of them cannot be, or is already. */
static bool claim(struct walk *walk, uint64_t page, uint64_t count, const char *as)
{
    if (page < 2 || page > walk->file->meta.last_page || page >= walk->file->pages ||
        count > walk->file->pages - page) {
        fault(walk, "page %llu (%s) is not within the file", (unsigned long long)page, as);
        return false;
    }
    for (uint64_t i = page; i < page + count; i++) {
        uint8_t bit = (uint8_t)(1U << i % 8);
        if ((__atomic_fetch_or(&walk->file->used[i / 8], bit, __ATOMIC_RELAXED) & bit) != 0) {
            fault(walk, "page %llu (%s) is used twice", (unsigned long long)i, as);
            return false;
        }
    }
    walk->pages += count;
    return true;
}

/* ---- nodes ---- */

struct node {
    const uint8_t *at;
    uint16_t flags, key_len;
    const uint8_t *key;
};

static unsigned key_count(const uint8_t *page)
{
    return (unsigned)(get16(page + 12) - HEAD) / 2;
}

/* The i-th node; false when it is not within the page. */
static bool node_at(const uint8_t *page, unsigned i, struct node *out)
{
    uint16_t offset = get16(page + HEAD + 2 * i);
    if (offset < get16(page + 14) || offset > PAGE - NODE_HEAD) {
        return false;
    }
    out->at = page + offset;
    out->flags = get16(out->at + 4);
    out->key_len = get16(out->at + 6);
    out->key = out->at + NODE_HEAD;
    return out->key_len <= KEY_MAX && offset + NODE_HEAD + out->key_len <= PAGE;
}

static int compare(const struct walk *walk, struct bytes a, struct bytes b)
{
    if (walk->integer_keys && a.len == 8 && b.len == 8) {
        uint64_t x = get64(a.ptr), y = get64(b.ptr);
        return (x > y) - (x < y);
    }
    return bytes_cmp(a, b);
}

static bool big_value(struct walk *walk, uint64_t page, size_t len, struct bytes *out)
{
    uint64_t count = (HEAD - 1 + (uint64_t)len) / PAGE + 1;
    if (!claim(walk, page, count, "overflow")) {
        return false;
    }
    walk->big.len = 0;
    uint8_t *to = buf_room(&walk->big, (size_t)count * PAGE);
    if (!read_pages(walk, page, count, to)) {
        return false;
    }
    /* More pages than it takes: a longer value was overwritten by it within one transaction. */
    uint64_t pages = get32(to + 12);
    if (get64(to) != page || get16(to + 10) != OVERFLOW || pages < count) {
        fault(walk, "page %llu (overflow): its header is damaged", (unsigned long long)page);
        return false;
    }
    if (pages > count && !claim(walk, page + count, pages - count, "overflow")) {
        return false;
    }
    walk->seen.overflow += pages;
    *out = bytes_of(to + HEAD, len);
    return true;
}

static void leaf_row(struct walk *walk, uint64_t page, const uint8_t *data, const struct node *node, unsigned i)
{
    size_t len = (size_t)get32(node->at), room = (size_t)(data + PAGE - node->key) - node->key_len;
    struct bytes value = bytes_of(node->key + node->key_len, len);
    if ((node->flags & ~NODE_BIG) != 0 || ((node->flags & NODE_BIG) != 0 ? room < 8 : room < len)) {
        fault(walk, "page %llu (leaf): entry %u is damaged", (unsigned long long)page, i);
        return;
    }
    if ((node->flags & NODE_BIG) != 0 && !big_value(walk, get64(value.ptr), len, &value)) {
        return;
    }
    walk->seen.entries++;
    walk->row(walk, bytes_of(node->key, node->key_len), value);
}

/* ---- pages ---- */

static void walk_page(struct walk *walk, uint64_t page, unsigned level, struct bytes from, struct bytes before);

/* Every key below a child is at or after its separator and before the next one. */
static void branch_children(struct walk *walk, uint64_t page, const uint8_t *data, unsigned level, struct bytes from,
                            struct bytes before)
{
    struct node node, next;
    unsigned count = key_count(data);
    for (unsigned i = 0; i < count; i++) {
        if (!node_at(data, i, &node) || (i + 1 < count && !node_at(data, i + 1, &next))) {
            fault(walk, "page %llu (branch): entry %u is not within the page", (unsigned long long)page, i);
            return;
        }
        struct bytes low = i == 0 ? from : bytes_of(node.key, node.key_len);
        struct bytes high = i + 1 < count ? bytes_of(next.key, next.key_len) : before;
        bool ordered = (low.ptr == NULL || high.ptr == NULL || compare(walk, low, high) < 0) &&
                       (low.ptr == NULL || from.ptr == NULL || compare(walk, from, low) <= 0);
        if (!ordered) {
            fault(walk, "page %llu (branch): the keys are not in order at entry %u", (unsigned long long)page, i);
        }
        uint64_t child = get32(node.at) | (uint64_t)node.flags << 32;
        if (level == 0 && walk->file->tasks != NULL) {
            walk->file->tasks[walk->file->tasks_len++] = (struct task){child, low, high};
        } else {
            walk_page(walk, child, level + 1, low, high);
        }
    }
}

/* In order, each key behind the one before; the first and the last within what the branch says: so no
 * key need be compared with those of other pages. */
static void leaf_rows(struct walk *walk, uint64_t page, const uint8_t *data, struct bytes from, struct bytes before)
{
    struct node node;
    unsigned count = key_count(data);
    struct bytes low = from;
    for (unsigned i = 0; i < count; i++) {
        if (!node_at(data, i, &node)) {
            fault(walk, "page %llu (leaf): entry %u is not within the page", (unsigned long long)page, i);
            continue;
        }
        struct bytes key = bytes_of(node.key, node.key_len);
        int order = low.ptr == NULL ? -1 : compare(walk, low, key);
        if (order > 0 || (order == 0 && i > 0) ||
            (i + 1 == count && before.ptr != NULL && compare(walk, key, before) >= 0)) {
            fault(walk, "page %llu (leaf): the keys are not in order at entry %u", (unsigned long long)page, i);
            continue;
        }
        low = key;
        leaf_row(walk, page, data, &node, i);
    }
}

static void walk_page(struct walk *walk, uint64_t page, unsigned level, struct bytes from, struct bytes before)
{
    bool leaf = level + 1 == walk->depth;
    const char *as = leaf ? "leaf" : "branch";
    if (!claim(walk, page, 1, as)) {
        return;
    }
    if (walk->levels[level] == NULL) {
        walk->levels[level] = mem_alloc(PAGE);
    }
    uint8_t *data = walk->levels[level];
    if (!read_pages(walk, page, 1, data)) {
        return;
    }
    uint16_t lower = get16(data + 12), upper = get16(data + 14);
    bool good = get64(data) == page && get16(data + 10) == (leaf ? LEAF : BRANCH) && lower >= HEAD && lower <= upper &&
                upper <= PAGE && lower % 2 == 0 && key_count(data) >= 1;
    if (!good) {
        fault(walk, "page %llu (%s): its header is damaged", (unsigned long long)page, as);
        return;
    }
    if (leaf) {
        walk->seen.leaf++;
        leaf_rows(walk, page, data, from, before);
    } else {
        walk->seen.branch++;
        branch_children(walk, page, data, level, from, before);
    }
}

/* ---- trees ---- */

static void begin_tree(struct walk *walk, const struct db *db, void (*row)(struct walk *, struct bytes, struct bytes))
{
    walk->seen = (struct db){0};
    walk->depth = db->depth;
    walk->row = row;
    walk->integer_keys = db == &walk->file->meta.free;
}

static bool has_root(struct walk *walk, const struct db *db, const char *name)
{
    bool good = (db->root == no_page) == (db->depth == 0) && db->depth <= DEPTH_MAX;
    if (!good) {
        fault(walk, "meta page: the root of the %s tree is damaged", name);
    }
    return good && db->depth > 0;
}

static void compare_counts(struct walk *walk, const struct db *db, const char *name)
{
    const struct db *seen = &walk->seen;
    if (seen->branch != db->branch || seen->leaf != db->leaf || seen->overflow != db->overflow ||
        seen->entries != db->entries) {
        fault(walk,
              "the %s tree has %llu branch, %llu leaf, %llu overflow pages and %llu entries; its meta page says "
              "%llu, %llu, %llu and %llu",
              name, (unsigned long long)seen->branch, (unsigned long long)seen->leaf,
              (unsigned long long)seen->overflow, (unsigned long long)seen->entries, (unsigned long long)db->branch,
              (unsigned long long)db->leaf, (unsigned long long)db->overflow, (unsigned long long)db->entries);
    }
}

static void main_row(struct walk *walk, struct bytes key, struct bytes value)
{
    walk->file->visit->row(walk->file->visit->ctx, walk->thread, key, value);
}

/* A record of free pages: how many, then their numbers, highest first. */
static void free_row(struct walk *walk, struct bytes key, struct bytes value)
{
    uint64_t count = value.len < 8 ? 0 : get64(value.ptr);
    if (key.len != 8 || value.len < 8 || count > (value.len - 8) / 8 || get64(key.ptr) > walk->file->meta.txn) {
        fault(walk, "the list of free pages is damaged");
        return;
    }
    for (uint64_t i = 1; i <= count; i++) {
        uint64_t page = get64(value.ptr + 8 * i);
        if (page >= walk->file->pages && page <= walk->file->meta.last_page) {
            walk->unwritten++;
        } else if (!claim(walk, page, 1, "free")) {
            return;
        }
    }
}

static void *run_tasks(void *arg)
{
    struct walk *walk = arg;
    struct file *file = walk->file;
    for (size_t i = atomic_fetch_add(&file->next_task, 1); i < file->tasks_len;
         i = atomic_fetch_add(&file->next_task, 1)) {
        walk_page(walk, file->tasks[i].page, 1, file->tasks[i].from, file->tasks[i].before);
    }
    return NULL;
}

static void add_seen(struct walk *walk, const struct walk *from)
{
    walk->seen.branch += from->seen.branch;
    walk->seen.leaf += from->seen.leaf;
    walk->seen.overflow += from->seen.overflow;
    walk->seen.entries += from->seen.entries;
    walk->pages += from->pages;
}

static void close_walk(struct walk *walk)
{
    for (size_t i = 0; i < DEPTH_MAX; i++) {
        free(walk->levels[i]);
    }
    buf_free(&walk->big);
}

/* The subtrees below the root, in several threads. */
static void walk_main(struct walk *walk)
{
    struct file *file = walk->file;
    const struct db *db = &file->meta.main;
    struct walk others[TREE_THREADS_MAX] = {{0}};
    pthread_t threads[TREE_THREADS_MAX];
    unsigned count = file->visit->threads > 1 && db->depth > 1 ? file->visit->threads : 1;
    CHECK(count <= TREE_THREADS_MAX);
    begin_tree(walk, db, main_row);
    if (!has_root(walk, db, "main")) {
        return;
    }
    file->tasks = count > 1 ? mem_zalloc(PAGE * sizeof *file->tasks) : NULL;
    walk_page(walk, db->root, 0, BYTES_NONE, BYTES_NONE);
    for (unsigned i = 1; i < count; i++) {
        others[i] = (struct walk){.file = file, .thread = i};
        begin_tree(&others[i], db, main_row);
        CHECK(pthread_create(&threads[i], NULL, run_tasks, &others[i]) == 0);
    }
    if (count > 1) {
        (void)run_tasks(walk);
    }
    for (unsigned i = 1; i < count; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        add_seen(walk, &others[i]);
        close_walk(&others[i]);
    }
    free(file->tasks);
    file->tasks = NULL;
    compare_counts(walk, db, "main");
}

static void walk_free(struct walk *walk)
{
    const struct db *db = &walk->file->meta.free;
    begin_tree(walk, db, free_row);
    if (has_root(walk, db, "free")) {
        walk_page(walk, db->root, 0, BYTES_NONE, BYTES_NONE);
        compare_counts(walk, db, "free");
    }
}

/* ---- meta pages ---- */

static bool parse_meta(const uint8_t *page, struct meta *out)
{
    if (get16(page + 10) != META || get32(page + 16) != meta_magic || get32(page + 20) != 1) {
        return false;
    }
    memcpy(&out->free, page + META_DBS, sizeof out->free);
    memcpy(&out->main, page + META_DBS + sizeof out->free, sizeof out->main);
    out->last_page = get64(page + 136);
    out->txn = get64(page + 144);
    /* Flags say how keys are ordered: with others, LMDB would look in the wrong places and find nothing. */
    return out->free.flags == INTEGER_KEYS && out->main.flags == 0;
}

bool tree_meta_txn(struct bytes meta, uint64_t *out)
{
    struct meta parsed;
    bool good = meta.len == PAGE && parse_meta(meta.ptr, &parsed);
    *out = good ? parsed.txn : 0;
    return good;
}

static bool is_blank(const uint8_t *from, const uint8_t *to)
{
    while (from < to && *from == 0) {
        from++;
    }
    return from == to;
}

/* Both meta pages must be right, and of neighbouring transactions in their own slots: otherwise LMDB
 * might open an older one than was written, and nobody would know. */
static bool read_meta(struct walk *walk)
{
    uint8_t pages[2 * PAGE];
    struct meta metas[2];
    if (!read_pages(walk, 0, 2, pages)) {
        return false;
    }
    for (uint64_t i = 0; i < 2; i++) {
        const uint8_t *page = pages + i * PAGE;
        bool good = parse_meta(page, &metas[i]) && get64(page) == i && is_blank(page + META_END, page + PAGE) &&
                    metas[i].free.pad == PAGE && metas[i].last_page >= 1 &&
                    memcmp(page + HEAD, pages + HEAD, META_FIXED_END - HEAD) == 0;
        if (!good) {
            fault(walk, "page %llu (meta) is damaged", (unsigned long long)i);
            return false;
        }
    }
    uint64_t zero = metas[0].txn, one = metas[1].txn;
    bool fresh = zero == 0 && one == 0;
    bool neighbours = zero % 2 == 0 && one % 2 == 1 && (zero + 1 == one || one + 1 == zero);
    if (!fresh && !neighbours) {
        fault(walk, "the meta pages are of transactions %llu and %llu: one of them is damaged",
              (unsigned long long)zero, (unsigned long long)one);
        return false;
    }
    walk->file->meta = metas[one > zero];
    return true;
}

static bool take_meta(struct walk *walk, struct bytes given)
{
    if (given.len == 0) {
        return read_meta(walk);
    }
    bool good = given.len == PAGE && parse_meta(given.ptr, &walk->file->meta);
    if (!good) {
        fault(walk, "the saved meta page is damaged");
    }
    return good;
}

/* Part of a page at the end is what a write that met a full disk leaves: no page of the tree. */
static bool measure_file(struct walk *walk)
{
    struct file *file = walk->file;
    struct stat st;
    if (fstat(file->fd, &st) != 0) {
        fault(walk, "the file cannot be measured: %s", strerror(errno));
        return false;
    }
    file->pages = (uint64_t)st.st_size / PAGE;
    file->used = mem_zalloc((size_t)(file->pages / 8) + 1);
    return true;
}

/* Pages behind the end of the file were freed before they were ever written: all of them are free. */
static void check_tail(struct walk *walk)
{
    const struct file *file = walk->file;
    uint64_t pages = file->meta.last_page + 1;
    uint64_t behind = pages > file->pages ? pages - file->pages : 0;
    if (file->faults == 0 && behind != walk->unwritten) {
        fault(walk, "meta page: it counts %llu pages, the file has %llu", (unsigned long long)pages,
              (unsigned long long)file->pages);
    }
}

enum err tree_walk(const char *path, const struct tree_visit *visit, struct tree_stats *out)
{
    struct file file = {.visit = visit, .fd = open(path, O_RDONLY | O_CLOEXEC)};
    struct walk walk = {.file = &file};
    *out = (struct tree_stats){0};
    if (file.fd < 0) {
        return errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
    }
    CHECK(pthread_mutex_init(&file.mutex, NULL) == 0);
    if (measure_file(&walk) && take_meta(&walk, visit->meta)) {
        walk_main(&walk);
        *out = (struct tree_stats){file.meta.txn, walk.pages, walk.seen.entries, file.pages * PAGE};
        walk_free(&walk);
        check_tail(&walk);
    }
    close_walk(&walk);
    free(file.used);
    (void)pthread_mutex_destroy(&file.mutex);
    (void)close(file.fd);
    return OK;
}
