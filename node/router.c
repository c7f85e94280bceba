#include "node/router.h"

#include <stdlib.h>

#include "node/pages.h"

enum { SEGMENTS = 8 };

struct segment_list {
    struct bytes parts[SEGMENTS];
    unsigned len;
};

struct compiled {
    struct route route;
    struct segment_list segments;
};

struct router {
    struct compiled *routes;
    size_t len;
    const char **paths; /* by index; 0 is "unmatched" */
    unsigned paths_len;
};

static bool split(struct bytes path, struct segment_list *out)
{
    out->len = 0;
    if (path.len == 0 || path.ptr[0] != '/') {
        return false;
    }
    size_t start = 1;
    for (size_t i = 1; i <= path.len; i++) {
        if (i == path.len || path.ptr[i] == '/') {
            if (out->len == SEGMENTS) {
                return false;
            }
            out->parts[out->len++] = bytes_of(path.ptr + start, i - start);
            start = i + 1;
        }
    }
    return true;
}

static bool is_param(struct bytes part)
{
    return part.len > 2 && part.ptr[0] == '{';
}

/* Literal paths come before those with parameters, so /users/me wins over /users/{username}. */
static int by_literal(const void *a, const void *b)
{
    const struct compiled *x = a, *y = b;
    unsigned params[2] = {0};
    for (unsigned i = 0; i < x->segments.len; i++) {
        params[0] += is_param(x->segments.parts[i]);
    }
    for (unsigned i = 0; i < y->segments.len; i++) {
        params[1] += is_param(y->segments.parts[i]);
    }
    return params[0] != params[1] ? (int)params[0] - (int)params[1] : strcmp(x->route.path, y->route.path);
}

static void add(struct router *router, struct route route)
{
    struct compiled *compiled = &router->routes[router->len++];
    compiled->route = route;
    CHECK(split(bytes_str(route.path), &compiled->segments));
}

static void number_paths(struct router *router)
{
    router->paths = mem_zalloc((router->len + 1) * sizeof *router->paths);
    router->paths[0] = "unmatched";
    router->paths_len = 1;
    for (size_t i = 0; i < router->len; i++) {
        struct route *route = &router->routes[i].route;
        if (i == 0 || strcmp(router->routes[i - 1].route.path, route->path) != 0) {
            router->paths[router->paths_len++] = route->path;
        }
        route->index = router->paths_len - 1;
    }
}

struct router *router_new(void)
{
    struct router *router = mem_zalloc(sizeof *router);
    size_t count = 0;
    for (size_t k = 0; kinds[k] != NULL; k++) {
        for (const struct op *op = kinds[k]->ops; op->tag != 0; op++) {
            count += op->path != NULL;
        }
    }
    for (const struct page_route *page = page_routes; page->path != NULL; page++) {
        count++;
    }
    router->routes = mem_zalloc(count * sizeof *router->routes);
    for (size_t k = 0; kinds[k] != NULL; k++) {
        for (const struct op *op = kinds[k]->ops; op->tag != 0; op++) {
            if (op->path != NULL) {
                add(router, (struct route){.path = op->path, .method = op->method, .kind = kinds[k], .op = op});
            }
        }
    }
    for (const struct page_route *page = page_routes; page->path != NULL; page++) {
        add(router, (struct route){.path = page->path, .method = page->method, .page = page->page, .role = page->role});
    }
    qsort(router->routes, router->len, sizeof *router->routes, by_literal);
    number_paths(router);
    return router;
}

void router_free(struct router *router)
{
    if (router != NULL) {
        free(router->routes);
        free((void *)router->paths);
        free(router);
    }
}

static bool match(const struct segment_list *pattern, const struct segment_list *path, struct bytes *params)
{
    unsigned count = 0;
    if (pattern->len != path->len) {
        return false;
    }
    for (unsigned i = 0; i < pattern->len; i++) {
        if (is_param(pattern->parts[i])) {
            if (path->parts[i].len == 0 || count == ROUTE_PARAMS) {
                return false;
            }
            params[count++] = path->parts[i];
        } else if (!bytes_eq(pattern->parts[i], path->parts[i])) {
            return false;
        }
    }
    return true;
}

void router_match(const struct router *router, enum method method, struct bytes path, struct route_match *out)
{
    struct segment_list parts;
    enum method wanted = method == METHOD_HEAD ? METHOD_GET : method;
    *out = (struct route_match){0};
    if (!split(path, &parts)) {
        return;
    }
    for (size_t i = 0; i < router->len; i++) {
        const struct compiled *compiled = &router->routes[i];
        struct bytes params[ROUTE_PARAMS] = {{0}};
        if (out->path_index != 0 && compiled->route.index != out->path_index) {
            continue; /* the most literal path decides; its other methods stand beside it */
        }
        if (match(&compiled->segments, &parts, params)) {
            out->path_index = compiled->route.index;
            out->allowed |= 1U << compiled->route.method;
            if (compiled->route.method == wanted) {
                out->route = &compiled->route;
                memcpy(out->params, params, sizeof params);
                return;
            }
        }
    }
}

unsigned router_paths(const struct router *router)
{
    return router->paths_len;
}

const char *router_path(const struct router *router, unsigned index)
{
    CHECK(index < router->paths_len);
    return router->paths[index];
}

struct bytes route_param_name(const char *path, unsigned n)
{
    const char *at = path;
    for (unsigned i = 0; at != NULL; i++) {
        at = strchr(at, '{');
        if (at != NULL && i == n) {
            const char *end = strchr(at, '}');
            return bytes_of(at + 1, (size_t)(end - at - 1));
        }
        at = at == NULL ? NULL : at + 1;
    }
    return BYTES_NONE;
}

const struct route *router_routes(const struct router *router, size_t *out_len)
{
    struct route *list = mem_alloc(router->len * sizeof *list);
    for (size_t i = 0; i < router->len; i++) {
        list[i] = router->routes[i].route;
    }
    *out_len = router->len;
    return list;
}
