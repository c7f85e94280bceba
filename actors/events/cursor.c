#include "actors/events/cursor.h"

#include "node/base/text.h"

/* Cursors are milliseconds and a number: those of the log are far below that. */
#define CURSOR_MOST ((uint64_t)INT64_MAX)

enum err cursor_parse(struct bytes text, uint64_t *out)
{
    uint64_t value;
    bool padded = text.len > 1 && text.ptr[0] == '0';
    if (padded || !text_parse_u64(text, &value) || value > CURSOR_MOST) {
        return ERR_INVALID_CURSOR;
    }
    *out = value;
    return OK;
}
