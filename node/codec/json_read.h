/* JSON text (RFC 8259), read once from front to back: the reader hands out one value at a time and builds no tree. A
 * body of 1,000 messages costs a tenth of what parsing it with libjansson did (bench/README.md).
 *
 * What is wrong is sticky: from then on there are no members and no items, and `why` says what it was. Who reads must
 * look at the end alone. */
#ifndef BELFRY_CODEC_JSON_READ_H
#define BELFRY_CODEC_JSON_READ_H

#include "node/base/bytes.h"

enum read_type { READ_NULL, READ_BOOL, READ_INT, READ_REAL, READ_TEXT, READ_ARRAY, READ_OBJECT };

struct read_value {
    enum read_type type;
    int64_t number;    /* of an int; 0 or 1 of a bool */
    struct bytes text; /* UTF-8, any code point; good until the next value of the reader is read */
};

struct json_reader {
    const uint8_t *start, *at, *end;
    const char *why; /* NULL: all good so far; static text */
    unsigned depth;
    struct buf name, text; /* texts with escapes in them; the others stand in the input */
};

void json_read_begin(struct json_reader *reader, struct bytes text);
/* A value: whole, or the beginning of an array or object, whose rest must be read or skipped. */
struct read_value json_read_value(struct json_reader *reader);
/* Goes to the next member of the object just begun, or item of the array; false: it is over. *first is true before the
 * first. A member's name is good until the next name is read. Names may come twice: that is for the caller to refuse.
 */
bool json_read_member(struct json_reader *reader, bool *first, struct bytes *out_name) MUST_USE;
bool json_read_item(struct json_reader *reader, bool *first) MUST_USE;
/* Reads over what is inside of a value. */
void json_read_skip(struct json_reader *reader, struct read_value value);
/* Nothing but white space may be left. */
void json_read_end(struct json_reader *reader);
/* Something is wrong here that the reader cannot see; static text. */
void json_read_refuse(struct json_reader *reader, const char *why);
/* Where the reader stands: lines and code points of the line, from 1. */
void json_read_where(const struct json_reader *reader, size_t *out_line, size_t *out_column);
void json_read_close(struct json_reader *reader);

#endif
