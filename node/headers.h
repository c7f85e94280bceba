/* Header lines of answers: appended to a buffer, each ended by CRLF. */
#ifndef BELFRY_HEADERS_H
#define BELFRY_HEADERS_H

#include "node/http/http.h"

/* allowed: bits of the methods that the path has; HEAD comes with GET, OPTIONS is everywhere. */
void headers_add_allow(struct buf *out, unsigned allowed);
/* Link: rel=next is the same query with the cursor put in place of the old one (RFC 8288). */
void headers_add_link(struct buf *out, const struct http_request *http, struct bytes cursor);
void headers_add_location(struct buf *out, const struct http_request *http, struct id id);
/* True: the client holds this version already, the answer is 304. */
bool headers_add_etag(struct buf *out, const struct http_request *http, uint64_t version) MUST_USE;

#endif
