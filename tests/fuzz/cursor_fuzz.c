/* The text of a cursor: what is taken is the decimal of its value and nothing else. */
#include "actors/events/cursor.h"
#include "tests/fuzz/fuzz.h"

/* A cursor by the letter: no sign, no leading zero, no more than the greatest. */
static bool is_cursor(struct bytes text)
{
    static const char most[] = "9223372036854775807";
    size_t len = sizeof most - 1;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') {
            return false;
        }
    }
    bool leads = text.len > 1 && text.ptr[0] == '0';
    return text.len > 0 && !leads && (text.len < len || (text.len == len && memcmp(text.ptr, most, len) <= 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes text = bytes_of(data, len);
    struct buf again = {0};
    uint64_t value = 0;
    enum err err = cursor_parse(text, &value);
    CHECK(err == OK || err == ERR_INVALID_CURSOR);
    CHECK((err == OK) == is_cursor(text));
    if (err == OK) {
        buf_add_u64(&again, value);
        CHECK(bytes_eq(buf_bytes(&again), text));
    }
    buf_free(&again);
    return 0;
}
