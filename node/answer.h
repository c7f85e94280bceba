/* What answers are made of: lists, the header lines that lead on, problem documents (RFC 9457). */
#ifndef BELFRY_ANSWER_H
#define BELFRY_ANSWER_H

#include "node/http/http.h"

/* Appends the JSON of a list. Errors: ERR_CORRUPT. */
enum err answer_list(struct buf *body, const struct reply *reply) MUST_USE;
/* allowed: bits of the methods that the path has; HEAD comes with GET, OPTIONS is everywhere. */
void answer_allow(struct buf *headers, unsigned allowed);
/* Link: rel=next is the same query with the cursor put in place of the old one (RFC 8288). */
void answer_link(struct buf *headers, const struct http_request *http, struct bytes cursor);
/* The location of what was made: the path, and the id behind it. */
void answer_location(struct buf *headers, const struct http_request *http, struct id id);
/* Appends the problem document. errors: what was wrong with the fields; NULL: nothing. */
void answer_problem(struct buf *body, enum err err, const char *detail, const char *request_id,
                    const struct field_errors *errors);

#endif
