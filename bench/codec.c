/* What it costs to decode the body of a batch: messages of 200 bytes, checked and packed for the log. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "node/base/clock.h"
#include "node/codec/field.h"

enum { ITEMS_MAX = 1000, BODY_BYTES = 200, ROUNDS = 1000, DEAREST_BYTES = 2 << 20 };

struct message {
    struct fieldset set;
    struct bytes key, body, headers;
    int64_t delay_ms;
};
static const struct field message_fields[] = {
    FIELD_STRING(1, message, key, 0, 128, FIELD_IN_BYTES),
    FIELD_STRING(2, message, body, 0, 262144, FIELD_REQUIRED | FIELD_TEXT | FIELD_IN_BYTES),
    FIELD_MAP(3, message, headers, 0, 0), FIELD_INT(4, message, delay_ms, 0, 86400000, 0), FIELDS_END};

struct batch {
    struct fieldset set;
    struct bytes messages;
};
static const struct field batch_fields[] = {
    FIELD_OBJECTS(1, batch, messages, message_fields, struct message, 1, ITEMS_MAX, FIELD_REQUIRED), FIELDS_END};

static void write_batch(struct buf *out, int items, bool rich)
{
    buf_add_lit(out, "{\"messages\":[");
    for (int i = 0; i < items; i++) {
        buf_printf(out, "%s{\"body\":\"%0*d\"", i > 0 ? "," : "", BODY_BYTES, i);
        if (rich) {
            buf_printf(out, ",\"key\":\"k%d\",\"headers\":{\"trace\":\"%d\"},\"delay_ms\":%d", i, i, i);
        }
        buf_add_char(out, '}');
    }
    buf_add_lit(out, "]}");
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void measure(int items, bool rich)
{
    struct clock *clock = clock_system();
    struct arena arena = {0};
    struct buf body = {0};
    static int64_t took[ROUNDS];
    size_t packed = 0;
    write_batch(&body, items, rich);
    for (int i = 0; i < ROUNDS; i++) {
        struct batch batch = {0};
        struct field_errors errors = {0};
        int64_t from = clock_boot_ns(clock);
        CHECK(field_decode_json(batch_fields, buf_bytes(&body), &arena, &batch, &errors) == OK);
        took[i] = clock_boot_ns(clock) - from;
        packed = batch.messages.len;
        arena_reset(&arena);
    }
    qsort(took, ROUNDS, sizeof *took, by_size);
    printf("%d messages%s: %zu bytes of JSON to %zu packed, median %.3f ms, best %.3f ms\n", items,
           rich ? " with keys, headers, delays" : "", body.len, packed, (double)took[ROUNDS / 2] / 1e6,
           (double)took[0] / 1e6);
    buf_free(&body);
    arena_close(&arena);
}

static long peak_kib(void)
{
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    return usage.ru_maxrss;
}

/* What takes most memory for its length, and is refused. */
static void measure_dearest(void)
{
    struct clock *clock = clock_system();
    struct arena arena = {0};
    struct field_errors errors = {0};
    struct batch batch = {0};
    struct buf body = {0};
    buf_add_lit(&body, "{\"x\":[{}");
    while (body.len < DEAREST_BYTES - 5) {
        buf_add_lit(&body, ",{}");
    }
    buf_add_lit(&body, "]}");
    long before = peak_kib();
    int64_t from = clock_boot_ns(clock);
    CHECK(field_decode_json(batch_fields, buf_bytes(&body), &arena, &batch, &errors) == ERR_INVALID_FIELDS);
    printf("objects of nothing: %zu bytes of JSON, %.0f ms, %ld MiB of memory\n", body.len,
           (double)(clock_boot_ns(clock) - from) / 1e6, (peak_kib() - before) / 1024);
    buf_free(&body);
    arena_close(&arena);
}

int main(void)
{
    for (int items = 100; items <= ITEMS_MAX; items *= 10) {
        measure(items, false);
        measure(items, true);
    }
    measure_dearest();
    return 0;
}
