/* Cross-origin requests (the Fetch standard, "HTTP CORS protocol"): what browsers of other origins may do. */
#ifndef BELFRY_CORS_H
#define BELFRY_CORS_H

#include "node/http/http.h"

/* Appends the header lines of an answer. origins: those allowed, separated by spaces, or "*". */
void cors_add(const char *origins, const struct http_request *http, struct buf *headers);

#endif
