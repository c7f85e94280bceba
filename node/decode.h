/* What of a request is read by hand, beside the operations' tables of fields. */
#ifndef BELFRY_DECODE_H
#define BELFRY_DECODE_H

#include "node/base/digest.h"
#include "node/codec/field.h"
#include "node/http/http.h"

/* The media type of a Content-Type, without its parameters. */
bool decode_is_media_type(struct bytes header, const char *type);
/* ?consistency= is every read's: local is this replica as it is, without asking whether it is fresh. Takes it out of
 * the query. Errors: ERR_INVALID_FIELDS. */
enum err decode_consistency(struct bytes *query, struct arena *arena, bool *out_local,
                            struct field_errors *errors) MUST_USE;
/* The body and headers of a raw operation (OP_RAW in actors/kind.h). Strings and the body stay where they are, good
 * until the request is answered. Errors: ERR_INVALID_FIELDS; ERR_TOO_LARGE, the body is longer than its field. */
enum err decode_raw(const struct field *fields, const struct http_request *http, struct arena *arena, void *out,
                    struct field_errors *errors) MUST_USE;
/* What tells one raw request from another: the digest of its body, and the rest of its input. */
struct digest decode_raw_digest(const struct field *fields, void *in, const struct digest *body);

#endif
