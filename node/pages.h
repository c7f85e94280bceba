/* The pages a node serves about itself: health, metrics, keys, OpenAPI and its readable form. */
#ifndef BELFRY_PAGES_H
#define BELFRY_PAGES_H

#include "node/router.h"

struct page_route {
    const char *path; /* NULL ends the table */
    enum method method;
    enum role role;
    page_fn page;
    const char *summary;
    const char *type;
};
extern const struct page_route page_routes[];

/* The OpenAPI 3.1 document, from the tables that route and validate (openapi.c). */
void openapi_write(const struct router *router, struct buf *out);
/* The same as one HTML page without outside assets. */
void docs_write(const struct router *router, struct buf *out);

#endif
