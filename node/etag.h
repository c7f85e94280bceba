/* Entity tags (RFC 9110 sections 8.8.3, 13.1): a version in hexadecimal, quoted, always strong. */
#ifndef BELFRY_ETAG_H
#define BELFRY_ETAG_H

#include "node/base/bytes.h"
#include "node/base/err.h"

/* If-Match: one strong entity tag; 0 for "*" and when there is no such header. Errors: ERR_PRECONDITION_FAILED. */
enum err etag_parse(struct bytes tag, uint64_t *out_version) MUST_USE;
/* Appends the header line; is If-None-Match, as sent, fulfilled by it? */
bool etag_add(struct buf *headers, uint64_t version, struct bytes if_none_match);

#endif
