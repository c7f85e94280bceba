#include "actors/events/cursor.h"

#include <inttypes.h>

/* Cursors are milliseconds and a number: those of the log are far below that. */
#define CURSOR_MOST ((uint64_t)INT64_MAX)

enum err cursor_parse(struct bytes text, uint64_t *out)
{
    uint64_t value = 0;
    if (text.len == 0 || (text.len > 1 && text.ptr[0] == '0')) {
        return ERR_INVALID_CURSOR;
    }
    for (size_t i = 0; i < text.len; i++) {
        unsigned digit = (unsigned)text.ptr[i] - '0';
        if (digit > 9 || value > (CURSOR_MOST - digit) / 10) {
            return ERR_INVALID_CURSOR;
        }
        value = value * 10 + digit;
    }
    *out = value;
    return OK;
}
