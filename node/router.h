/* Routes: the kinds' operations and the node's own pages, by method and path; and those of each facade, apart from
 * them. Built once. */
#ifndef BELFRY_ROUTER_H
#define BELFRY_ROUTER_H

#include "node/http/http.h"
#include "node/node.h"

/* A page the node serves itself: fills type and body, returns the HTTP status. */
struct page_out {
    const char *type;
    struct buf body;
    enum err err; /* not OK: a problem document is sent instead */
};
typedef int (*page_fn)(struct node *node, const struct http_request *request, struct page_out *out);

struct route {
    const char *path; /* with {parameters} */
    enum method method;
    const struct kind *kind;
    const struct op *op; /* or */
    page_fn page;
    enum role role; /* of a page; an operation has its own */
    unsigned index; /* of the path, for metrics */
};

enum { ROUTE_PARAMS = 4 };
struct route_match {
    const struct route *route;         /* NULL: not found, or not with this method */
    struct bytes params[ROUTE_PARAMS]; /* still percent-encoded */
    unsigned path_index;               /* of the path that matched; 0 is "unmatched" */
    unsigned allowed;                  /* bits of the methods the path has; 0: no such path */
};

struct facade;
struct router;
struct router *router_new(void);
void router_free(struct router *router);
/* Among the routes of a facade, or (NULL) of the node itself. */
void router_match(const struct router *router, const struct facade *facade, enum method method, struct bytes path,
                  struct route_match *out);
unsigned router_paths(const struct router *router);
/* For logs and metrics: "/path", of a facade "name:/path". */
const char *router_path(const struct router *router, unsigned index);
/* The name of the n-th {parameter} of a path. */
struct bytes route_param_name(const char *path, unsigned n);
/* The node's own routes, for OpenAPI. */
const struct route *router_routes(const struct router *router, size_t *out_len);

#endif
