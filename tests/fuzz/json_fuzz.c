/* JSON bodies by field tables. The first byte names the table: 0 is one of all types below, the
 * others are the inputs of the kinds' operations. What is accepted goes to msgpack, back, to JSON,
 * and in again: nothing may change on the way but nulls, which JSON replies leave out. */
#include "actors/kind.h"
#include "node/base/text.h"
#include "tests/fuzz/fuzz.h"

struct inner {
    struct fieldset set;
    struct bytes word;
    int64_t number;
};

/* No nulls and no objects: what is packed stays as it is. */
struct item {
    struct fieldset set;
    struct bytes text, map, items;
    int64_t number;
};

struct all {
    struct fieldset set;
    struct bytes items, map, lines, names;
    struct bytes text, counted, secret, blob;
    bool flag;
    int64_t number, when;
    struct id id;
    int choice;
    struct inner inner, clearable;
};

static const char *const choices[] = {"red", "green", "blue", NULL};
static const struct field inner_fields[] = {FIELD_STRING(1, inner, word, 1, 20, FIELD_NULLABLE),
                                            FIELD_INT(7, inner, number, INT64_MIN, INT64_MAX, FIELD_REQUIRED),
                                            FIELDS_END};
static const struct field leaf_fields[] = {FIELD_INT(1, inner, number, -9, 9, FIELD_REQUIRED), FIELDS_END};
static const struct field item_fields[] = {FIELD_STRING(1, item, text, 0, 30, FIELD_REQUIRED),
                                           FIELD_MAP(2, item, map, 2, 0), FIELD_INT(3, item, number, 0, 99, 0),
                                           FIELD_OBJECTS(4, item, items, leaf_fields, struct inner, 0, 3, 0),
                                           FIELDS_END};
static const struct field all_fields[] = {FIELD_STRING(1, all, text, 0, 0, FIELD_NULLABLE | FIELD_TEXT),
                                          FIELD_STRING(2, all, counted, 2, 8, FIELD_REQUIRED),
                                          FIELD_STRING(3, all, secret, 0, 9, FIELD_SECRET | FIELD_IN_BYTES),
                                          FIELD_BLOB(4, all, blob, 16),
                                          FIELD_BOOL(5, all, flag, FIELD_NULLABLE),
                                          FIELD_INT(6, all, number, -5, 5000000000, 0),
                                          FIELD_TIME(7, all, when, FIELD_NULLABLE),
                                          FIELD_ID(8, all, id, 0),
                                          FIELD_ENUM(9, all, choice, choices, 0),
                                          FIELD_OBJECT(10, all, inner, inner_fields, 0),
                                          FIELD_OBJECT(300, all, clearable, inner_fields, FIELD_NULLABLE),
                                          FIELD_OBJECTS(11, all, items, item_fields, struct item, 1, 4, 0),
                                          FIELD_MAP(12, all, map, 0, FIELD_NULLABLE),
                                          FIELD_MAP(13, all, lines, 20, FIELD_TEXT),
                                          FIELD_STRINGS(14, all, names, FIELD_NULLABLE),
                                          FIELDS_END};

/* The n-th table, and the size of its struct. */
static const struct field *table(unsigned n, size_t *out_size)
{
    *out_size = sizeof(struct all);
    for (size_t k = 0; kinds[k] != NULL && n > 0; k++) {
        for (const struct op *op = kinds[k]->ops; op->tag != 0; op++) {
            if (op->in != NULL && --n == 0) {
                *out_size = op->in_size;
                return op->in;
            }
        }
    }
    return all_fields;
}

static void check_errors(enum err err, const struct field_errors *errors)
{
    CHECK(err == ERR_INVALID_JSON || err == ERR_INVALID_FIELDS);
    CHECK(errors->len <= FIELD_ERRORS_MAX);
    CHECK(err == ERR_INVALID_JSON ? errors->json_detail != NULL : errors->len > 0);
    for (size_t i = 0; i < errors->len; i++) {
        const struct field_error *row = &errors->rows[i];
        CHECK(strlen(row->pointer) < 512 && text_utf8_prefix(bytes_str(row->pointer)) == strlen(row->pointer));
        CHECK(strlen(row->code) > 0 && strlen(row->detail) > 0);
    }
}

/* JSON replies leave nulls out. */
static void drop_nulls(const struct field *fields, void *in)
{
    struct fieldset *set = in;
    set->null = 0;
    for (size_t i = 0; fields[i].name != NULL; i++) {
        if (fields[i].type == TYPE_OBJECT && (set->has & field_bit(i)) != 0) {
            drop_nulls(fields[i].sub, (char *)in + fields[i].offset);
        }
    }
}

static void check_round(const struct field *fields, size_t size, const void *in, struct arena *arena)
{
    struct buf packed = {0}, again = {0}, shown = {0}, json = {0};
    struct field_errors errors = {0};
    void *back = arena_zalloc(arena, size), *decoded = arena_zalloc(arena, size);
    field_pack(&packed, fields, in);
    CHECK(field_unpack(fields, buf_bytes(&packed), back) == OK);
    field_pack(&again, fields, back);
    CHECK(bytes_eq(buf_bytes(&packed), buf_bytes(&again)));
    CHECK(field_json_from_pack(&json, fields, buf_bytes(&packed)) == OK);
    CHECK(field_decode_json(fields, buf_bytes(&json), arena, decoded, &errors) == OK);
    drop_nulls(fields, back);
    field_pack(&shown, fields, back); /* whose strings point into packed */
    again.len = 0;
    field_pack(&again, fields, decoded);
    CHECK(bytes_eq(buf_bytes(&shown), buf_bytes(&again)));
    buf_free(&packed);
    buf_free(&again);
    buf_free(&shown);
    buf_free(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes input = bytes_of(data, len);
    struct arena arena = {0};
    struct field_errors errors = {0};
    size_t size;
    const struct field *fields = table((unsigned)fuzz_take(&input, 1), &size);
    void *out = arena_zalloc(&arena, size);
    enum err err = field_decode_json(fields, input, &arena, out, &errors);
    if (err == OK) {
        check_round(fields, size, out, &arena);
        err = field_check_required(fields, out, &arena, &errors);
    }
    if (err != OK) {
        check_errors(err, &errors);
    }
    arena_close(&arena);
    return 0;
}
