#include "actors/facades/facade.h"

#include "actors/auth/auth.h"
#include "actors/page.h"
#include "actors/reminders/record.h"
#include "node/base/text.h"

const struct facade *const facades[] = {&remindme_facade, &tasks_facade, &beanstalkd_facade, NULL};

const struct facade *facade_find(struct bytes name)
{
    for (size_t i = 0; facades[i] != NULL; i++) {
        if (bytes_is(name, facades[i]->name)) {
            return facades[i];
        }
    }
    return NULL;
}

struct buf *facade_json(struct reply *reply, int status)
{
    reply->status = (uint16_t)status;
    reply->type = "application/json; charset=utf-8";
    reply->body.len = 0;
    return &reply->body;
}

void facade_text(struct reply *reply, int status, const char *type, const char *text)
{
    reply->status = (uint16_t)status;
    reply->type = type;
    reply->body.len = 0;
    buf_add_str(&reply->body, text);
}

static struct rows *look_rows(struct look *look, unsigned partition)
{
    return script_rows(container_of(look, struct facade_look, look)->script, partition);
}

struct look *facade_look(struct facade_look *out, struct script *s)
{
    out->look = (struct look){s->arena, s->caller, s->now_ms, s->partitions, look_rows};
    out->script = s;
    return &out->look;
}

/* ---- text ---- */

static size_t character(struct bytes text)
{
    size_t len = 1;
    while (len < text.len && (text.ptr[len] & 0xc0) == 0x80) {
        len++;
    }
    return len;
}

struct bytes facade_line(struct bytes text, struct arena *arena)
{
    uint8_t *to = arena_alloc(arena, text.len + 1);
    size_t len = 0;
    if (!text_has_controls(text)) {
        return text;
    }
    while (text.len > 0) {
        struct bytes one = bytes_of(text.ptr, character(text));
        if (text_has_controls(one)) {
            to[len++] = ' ';
        } else {
            memcpy(to + len, one.ptr, one.len);
            len += one.len;
        }
        text = bytes_of(text.ptr + one.len, text.len - one.len);
    }
    return bytes_of(to, len);
}

struct bytes facade_cut(struct bytes text, size_t most)
{
    size_t len = text.len < most ? text.len : most;
    while (len > 0 && len < text.len && (text.ptr[len] & 0xc0) == 0x80) {
        len--;
    }
    return bytes_of(text.ptr, len);
}

/* ---- lists ---- */

bool facade_sees(const struct look *look, const struct reminder *r)
{
    return r->public || id_eq(r->owner, look->caller.account) || id_eq(r->assignee_id, look->caller.account);
}

static bool want_reminder(void *ctx, struct rows *rows, struct id id, struct bytes *out_packed, enum err *out_err)
{
    struct facade_ids *ids = ctx;
    struct reminder r = {0};
    *out_err = reminder_load(rows, id, &r, out_packed);
    *out_packed = BYTES_NONE;
    if (*out_err != OK || !facade_sees(ids->look, &r)) {
        return false;
    }
    ids->list[ids->len++] = id;
    return true;
}

static bool want_account(void *ctx, struct rows *rows, struct id id, struct bytes *out_packed, enum err *out_err)
{
    struct facade_ids *ids = ctx;
    struct account account = {0};
    enum err err = account_find(rows, id, &account);
    *out_err = err == ERR_NOT_FOUND ? OK : err;
    *out_packed = BYTES_NONE;
    if (err == OK) {
        ids->list[ids->len++] = id;
    }
    return err == OK;
}

static enum err collect(struct page *page, struct facade_ids *out,
                        bool (*want)(void *ctx, struct rows *rows, struct id id, struct bytes *out_packed,
                                     enum err *out_err))
{
    struct reply unused = {0};
    *out = (struct facade_ids){page->look, arena_alloc(page->look->arena, page->limit * sizeof(struct id)), 0};
    enum err err = page_fill(page, NULL, want, out, &unused);
    reply_close(&unused);
    return err;
}

enum err facade_reminders(struct look *look, unsigned from, struct id who, unsigned limit, unsigned *budget,
                          struct facade_ids *out)
{
    struct page page;
    struct bytes prefix = arena_copy(look->arena, id_bytes(&who));
    TRY(page_open(&page, look, limit, BYTES_NONE));
    page.budget = budget;
    if ((from & FACADE_OWN) != 0) {
        page_add(&page, id_partition(who), TABLE_MINE, prefix);
    }
    if ((from & FACADE_PUBLIC) != 0) {
        page_add_all(&page, TABLE_PUBLIC, BYTES_NONE);
    }
    if ((from & FACADE_ASSIGNED) != 0) {
        page_add_all(&page, TABLE_ASSIGNED, prefix);
    }
    return collect(&page, out, want_reminder);
}

enum err facade_accounts(struct look *look, unsigned limit, unsigned *budget, struct facade_ids *out)
{
    struct page page;
    TRY(page_open(&page, look, limit, BYTES_NONE));
    page.budget = budget;
    page_add_all(&page, TABLE_ACCOUNT, BYTES_NONE);
    return collect(&page, out, want_account);
}
