/* What of a request is read by hand, beside the operations' tables of fields. */
#ifndef BELFRY_DECODE_H
#define BELFRY_DECODE_H

#include "node/codec/field.h"

/* The media type of a Content-Type, without its parameters. */
bool decode_is_media_type(struct bytes header, const char *type);
/* ?consistency= is every read's: local is this replica as it is, without asking whether it is fresh. Takes it out of
 * the query. Errors: ERR_INVALID_FIELDS. */
enum err decode_consistency(struct bytes *query, struct arena *arena, bool *out_local,
                            struct field_errors *errors) MUST_USE;

#endif
