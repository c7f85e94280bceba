/* Requests of a listener that carries a facade (actors/facades/facade.h): what differs from a request of /v1, in the
 * order in which the pipeline asks for it. */
#ifndef BELFRY_FOREIGN_H
#define BELFRY_FOREIGN_H

#include "actors/facades/facade.h"
#include "node/router.h"

void foreign_match(const struct router *router, const struct facade *facade, const struct http_request *http,
                   struct route_match *out);
/* GET /x, where the facade has /x/: adds the Location and is true. */
bool foreign_redirects(const struct router *router, const struct facade *facade, const struct http_request *http,
                       struct buf *headers);
/* The token as it was sent; empty: there is none. Without a facade that of /v1. */
struct bytes foreign_token(const struct facade *facade, const struct http_request *http);
/* Fills *out_in for the route's operation. Errors: ERR_INVALID_JSON with *out_why, ERR_TOO_LARGE,
 * ERR_UNSUPPORTED_MEDIA_TYPE. */
enum err foreign_decode(const struct facade *facade, const struct route_match *match, const struct http_request *http,
                        struct arena *arena, void **out_in, const char **out_why) MUST_USE;

#endif
