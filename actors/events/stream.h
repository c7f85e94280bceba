/* GET /v1/events: the caller's event log as a stream. A row of the kind's table of operations is
 * {STREAM, OP_STREAM, 0, ROLE_USER, 200, "stream", METHOD_GET, "/v1/events", "Live events", EVENTS_STREAM}. */
#ifndef BELFRY_ACTORS_EVENTS_STREAM_H
#define BELFRY_ACTORS_EVENTS_STREAM_H

#include "actors/kind.h"

/* Behind which event the stream begins; empty: from now on. */
struct events_stream_in {
    struct fieldset set;
    struct bytes cursor;
};
extern const struct field events_stream_fields[];
enum err events_stream(struct look *look, const void *in, uint64_t *cursor, size_t room, struct buf *out) MUST_USE;
#define EVENTS_STREAM                                                                               \
    .in = events_stream_fields, .in_size = sizeof(struct events_stream_in), .address = own_address, \
    .stream = events_stream

#endif
