#include "actors/events/stream.h"

#include "actors/events/cursor.h"
#include "actors/events/events.h"

enum { CURSOR_CHARS = 64 };

const struct field events_stream_fields[] = {FIELD_STRING(1, events_stream_in, cursor, 0, CURSOR_CHARS, FIELD_QUERY),
                                             FIELDS_END};

enum err events_stream(struct look *look, const void *raw, uint64_t *cursor, size_t room, struct buf *out)
{
    const struct events_stream_in *in = raw;
    struct id account = look->caller.account;
    struct rows *rows = look->rows(look, id_partition(account));
    if (*cursor == STREAM_BEGIN && in->cursor.len > 0) {
        TRY(cursor_parse(in->cursor, cursor));
    } else if (*cursor == STREAM_BEGIN) {
        TRY(events_newest(rows, account, cursor));
    }
    return events_write(rows, account, cursor, room, out);
}
