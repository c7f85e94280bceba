#include "tests/support/model_rows.h"

#include <stdlib.h>

static int compare(const struct model_row *row, uint8_t table, struct bytes key)
{
    return row->table != table ? (int)row->table - (int)table : bytes_cmp(row->key, key);
}

/* Index of the first row at or after (table, key). */
static size_t place(const struct model_rows *model, uint8_t table, struct bytes key)
{
    size_t at = 0, end = model->len;
    while (at < end) {
        size_t middle = at + (end - at) / 2;
        bool before = compare(&model->list[middle], table, key) < 0;
        at = before ? middle + 1 : at;
        end = before ? end : middle;
    }
    return at;
}

static struct model_rows *model_of(struct rows *rows)
{
    return container_of(rows, struct model_rows, rows);
}

static enum err model_get(struct rows *rows, uint8_t table, struct bytes key, struct bytes *out)
{
    const struct model_rows *model = model_of(rows);
    size_t at = place(model, table, key);
    if (at == model->len || compare(&model->list[at], table, key) != 0) {
        return ERR_NOT_FOUND;
    }
    *out = model->list[at].value;
    return OK;
}

static enum err give(const struct model_rows *model, size_t at, uint8_t table, struct bytes *out_key,
                     struct bytes *out_value)
{
    if (at >= model->len || model->list[at].table != table) {
        return ERR_NOT_FOUND;
    }
    *out_key = model->list[at].key;
    *out_value = model->list[at].value;
    return OK;
}

static enum err model_ceil(struct rows *rows, uint8_t table, struct bytes from, struct bytes *out_key,
                           struct bytes *out_value)
{
    const struct model_rows *model = model_of(rows);
    return give(model, place(model, table, from), table, out_key, out_value);
}

static enum err model_below(struct rows *rows, uint8_t table, struct bytes before, struct bytes *out_key,
                            struct bytes *out_value)
{
    const struct model_rows *model = model_of(rows);
    return give(model, place(model, table, before) - 1, table, out_key, out_value);
}

static struct bytes copy(struct bytes from)
{
    return bytes_of(mem_copy(from.ptr, from.len), from.len);
}

static void drop(struct bytes owned)
{
    free((void *)(uintptr_t)owned.ptr);
}

static enum err model_put(struct rows *rows, uint8_t table, struct bytes key, struct bytes value)
{
    struct model_rows *model = model_of(rows);
    size_t at = place(model, table, key);
    struct bytes fresh = copy(value);
    if (at < model->len && compare(&model->list[at], table, key) == 0) {
        drop(model->list[at].value);
        model->list[at].value = fresh;
        return OK;
    }
    if (model->len == model->cap) {
        model->cap = model->cap == 0 ? 64 : model->cap * 2;
        model->list = mem_realloc(model->list, model->cap * sizeof *model->list);
    }
    memmove(model->list + at + 1, model->list + at, (model->len - at) * sizeof *model->list);
    model->list[at] = (struct model_row){table, copy(key), fresh};
    model->len++;
    return OK;
}

static enum err model_del(struct rows *rows, uint8_t table, struct bytes key)
{
    struct model_rows *model = model_of(rows);
    size_t at = place(model, table, key);
    if (at == model->len || compare(&model->list[at], table, key) != 0) {
        return ERR_NOT_FOUND;
    }
    drop(model->list[at].key);
    drop(model->list[at].value);
    memmove(model->list + at, model->list + at + 1, (model->len - at - 1) * sizeof *model->list);
    model->len--;
    return OK;
}

static const struct rows_ops ops = {model_get, model_ceil, model_below, model_put, model_del};

/* ---- strict ---- */

static void spoil(struct bytes *lent)
{
    if (lent->ptr != NULL) {
        memset((void *)(uintptr_t)lent->ptr, 0xa5, lent->len);
    }
    drop(*lent);
    *lent = BYTES_NONE;
}

static void take_back_values(struct model_rows *model)
{
    while (model->values_len > 0) {
        spoil(&model->values[--model->values_len]);
    }
}

static enum err lend_value(struct rows *rows, enum err err, struct bytes *value)
{
    struct model_rows *model = model_of(rows);
    if (err == OK) {
        if (model->values_len == model->values_cap) {
            model->values_cap = model->values_cap == 0 ? 64 : model->values_cap * 2;
            model->values = mem_realloc(model->values, model->values_cap * sizeof *model->values);
        }
        *value = copy(*value);
        model->values[model->values_len++] = *value;
    }
    return err;
}

static enum err lend(struct rows *rows, enum err err, struct bytes *key, struct bytes *value)
{
    struct model_rows *model = model_of(rows);
    spoil(&model->lent_key);
    if (err == OK) {
        *key = model->lent_key = copy(*key);
    }
    return lend_value(rows, err, value);
}

static enum err strict_get(struct rows *rows, uint8_t table, struct bytes key, struct bytes *out)
{
    return lend_value(rows, model_get(rows, table, key, out), out);
}

static enum err strict_ceil(struct rows *rows, uint8_t table, struct bytes from, struct bytes *out_key,
                            struct bytes *out_value)
{
    return lend(rows, model_ceil(rows, table, from, out_key, out_value), out_key, out_value);
}

static enum err strict_below(struct rows *rows, uint8_t table, struct bytes before, struct bytes *out_key,
                             struct bytes *out_value)
{
    return lend(rows, model_below(rows, table, before, out_key, out_value), out_key, out_value);
}

static enum err strict_put(struct rows *rows, uint8_t table, struct bytes key, struct bytes value)
{
    take_back_values(model_of(rows));
    return model_put(rows, table, key, value);
}

static enum err strict_del(struct rows *rows, uint8_t table, struct bytes key)
{
    take_back_values(model_of(rows));
    return model_del(rows, table, key);
}

static const struct rows_ops strict_ops = {strict_get, strict_ceil, strict_below, strict_put, strict_del};

void model_rows_init_strict(struct model_rows *model)
{
    *model = (struct model_rows){.rows = {&strict_ops}};
}

void model_rows_init(struct model_rows *model)
{
    *model = (struct model_rows){.rows = {&ops}};
}

void model_rows_close(struct model_rows *model)
{
    for (size_t i = 0; i < model->len; i++) {
        drop(model->list[i].key);
        drop(model->list[i].value);
    }
    free(model->list);
    take_back_values(model);
    spoil(&model->lent_key);
    free(model->values);
}
