#include "actors/page.h"

#include "node/base/text.h"
#include "node/limits.h"

struct page_source {
    unsigned partition;
    uint8_t table;
    struct bytes prefix;
    struct id at; /* the newest id not yet taken */
    bool done;
};

enum err page_open(struct page *page, struct look *look, int64_t limit, struct bytes cursor)
{
    size_t len;
    *page = (struct page){.look = look, .limit = limit > 0 ? (unsigned)limit : LIMIT_PAGE_DEFAULT};
    if (cursor.len == 0) {
        memset(page->before.b, 0xff, sizeof page->before.b);
        return OK;
    }
    return text_base64url_decode(cursor, page->before.b, sizeof page->before.b, &len) && len == sizeof page->before.b
               ? OK
               : ERR_INVALID_CURSOR;
}

/* Moves a source to its newest id before `before`. */
static enum err seek(struct page *page, struct page_source *source, struct id before)
{
    struct bytes key, value;
    struct buf bound = {0};
    buf_add_bytes(&bound, source->prefix);
    buf_add_bytes(&bound, id_bytes(&before));
    struct rows *rows = page->look->rows(page->look, source->partition);
    enum err err = rows_below(rows, source->table, buf_bytes(&bound), &key, &value);
    buf_free(&bound);
    source->done = err == ERR_NOT_FOUND || (err == OK && !bytes_start_with(key, source->prefix));
    if (err == OK && !source->done) {
        if (key.len != source->prefix.len + sizeof source->at.b) {
            return ERR_CORRUPT;
        }
        memcpy(source->at.b, key.ptr + source->prefix.len, sizeof source->at.b);
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

void page_add(struct page *page, unsigned partition, uint8_t table, struct bytes prefix)
{
    if (page->len == page->cap) {
        size_t cap = page->cap == 0 ? 2 * (size_t)page->look->partitions + 2 : page->cap * 2;
        struct page_source *grown = arena_zalloc(page->look->arena, cap * sizeof *grown);
        if (page->len > 0) {
            memcpy(grown, page->sources, page->len * sizeof *grown);
        }
        page->sources = grown;
        page->cap = cap;
    }
    page->sources[page->len++] = (struct page_source){.partition = partition, .table = table, .prefix = prefix};
}

void page_add_all(struct page *page, uint8_t table, struct bytes prefix)
{
    for (unsigned partition = 1; partition <= page->look->partitions; partition++) {
        page_add(page, partition, table, prefix);
    }
}

static struct page_source *newest(struct page *page)
{
    struct page_source *best = NULL;
    for (size_t i = 0; i < page->len; i++) {
        struct page_source *source = &page->sources[i];
        if (!source->done && (best == NULL || memcmp(source->at.b, best->at.b, sizeof best->at.b) > 0)) {
            best = source;
        }
    }
    return best;
}

static enum err pass(struct page *page, struct id id)
{
    for (size_t i = 0; i < page->len; i++) {
        struct page_source *source = &page->sources[i];
        if (!source->done && id_eq(source->at, id)) {
            TRY(seek(page, source, id));
        }
    }
    return OK;
}

/* How many rows may be looked at. Beginning counts too: an index begun costs a fraction of a row. */
static unsigned rows_left(const struct page *page)
{
    unsigned begun = (unsigned)(page->len + 3) / 4;
    if (page->budget == NULL) {
        return LIMIT_SCAN_ROWS;
    }
    *page->budget -= *page->budget < begun ? *page->budget : begun;
    return *page->budget < LIMIT_SCAN_ROWS ? *page->budget : LIMIT_SCAN_ROWS;
}

enum err page_fill(struct page *page, const struct field *fields,
                   bool (*want)(void *ctx, struct rows *rows, struct id id, struct bytes *out_packed,
                                enum err *out_err),
                   void *ctx, struct reply *reply)
{
    unsigned taken = 0, scanned = 0, most = rows_left(page);
    reply->list = true;
    reply->fields = fields;
    for (size_t i = 0; i < page->len && most > 0; i++) {
        TRY(seek(page, &page->sources[i], page->before));
    }
    struct page_source *source = most > 0 ? newest(page) : NULL;
    struct id id = {{0}};
    while (source != NULL && taken < page->limit && scanned < most) {
        struct bytes packed;
        enum err err = OK;
        id = source->at;
        if (!id_is_placed(id, page->look->partitions)) {
            return ERR_CORRUPT;
        }
        if (want(ctx, page->look->rows(page->look, id_partition(id)), id, &packed, &err)) {
            reply_item(reply, fields, packed);
            taken++;
        }
        if (err != OK) {
            return err;
        }
        scanned++;
        TRY(pass(page, id));
        source = newest(page);
    }
    if (page->budget != NULL) {
        *page->budget -= scanned;
    }
    if (source != NULL) {
        text_base64url_add(&reply->cursor, id_bytes(&id));
    }
    return OK;
}
