#include "node/router.h"

#include <stdlib.h>

#include "actors/facades/facade.h"
#include "node/pages.h"

enum { SEGMENTS = 8, SECTIONS = 16 };

struct segment_list {
    struct bytes parts[SEGMENTS];
    unsigned len;
};

struct compiled {
    struct route route;
    struct segment_list segments;
};

/* The routes of the node (facade NULL), then of each facade: routes[from] to routes[to - 1]. */
struct section {
    const struct facade *facade;
    size_t from, to;
};

struct router {
    struct compiled *routes;
    size_t len;
    struct section sections[SECTIONS];
    unsigned sections_len;
    char **paths; /* by index; 0 is "unmatched" */
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
    CHECK(route.op == NULL || route.op->body_max == 0 ||
          (route.op->body_max >= LIMIT_BODY_BYTES_MIN && route.op->body_max <= LIMIT_BODY_BYTES_MAX));
    CHECK(split(bytes_str(route.path), &compiled->segments));
}

static char *label(const struct facade *facade, const char *path)
{
    struct buf text = {0};
    if (facade != NULL) {
        buf_printf(&text, "%s:", facade->name);
    }
    buf_add(&text, path, strlen(path) + 1);
    return (char *)text.ptr;
}

static void number_paths(struct router *router, const struct section *section)
{
    for (size_t i = section->from; i < section->to; i++) {
        struct route *route = &router->routes[i].route;
        if (i == section->from || strcmp(router->routes[i - 1].route.path, route->path) != 0) {
            router->paths[router->paths_len++] = label(section->facade, route->path);
        }
        route->index = router->paths_len - 1;
    }
}

static void end_section(struct router *router, const struct facade *facade, size_t from)
{
    CHECK(router->sections_len < SECTIONS);
    struct section *section = &router->sections[router->sections_len++];
    *section = (struct section){facade, from, router->len};
    qsort(router->routes + from, router->len - from, sizeof *router->routes, by_literal);
    number_paths(router, section);
}

static void add_own(struct router *router)
{
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
    end_section(router, NULL, 0);
}

static void add_facade(struct router *router, const struct facade *facade)
{
    size_t from = router->len;
    for (const struct facade_route *route = facade->routes; route->op.path != NULL; route++) {
        add(router, (struct route){.path = route->op.path, .method = route->op.method, .op = &route->op});
    }
    end_section(router, facade, from);
}

static size_t count_routes(void)
{
    size_t count = 0;
    for (size_t k = 0; kinds[k] != NULL; k++) {
        for (const struct op *op = kinds[k]->ops; op->tag != 0; op++) {
            count += op->path != NULL;
        }
    }
    for (const struct page_route *page = page_routes; page->path != NULL; page++) {
        count++;
    }
    for (size_t f = 0; facades[f] != NULL; f++) {
        for (const struct facade_route *route = facades[f]->routes; route->op.path != NULL; route++) {
            count++;
        }
    }
    return count;
}

struct router *router_new(void)
{
    struct router *router = mem_zalloc(sizeof *router);
    size_t count = count_routes();
    router->routes = mem_zalloc(count * sizeof *router->routes);
    router->paths = mem_zalloc((count + 1) * sizeof *router->paths);
    router->paths[router->paths_len++] = label(NULL, "unmatched");
    add_own(router);
    for (size_t f = 0; facades[f] != NULL; f++) {
        add_facade(router, facades[f]);
    }
    return router;
}

void router_free(struct router *router)
{
    if (router != NULL) {
        while (router->paths_len > 0) {
            free(router->paths[--router->paths_len]);
        }
        free(router->routes);
        free(router->paths);
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

static const struct section *section_of(const struct router *router, const struct facade *facade)
{
    const struct section *section = router->sections;
    while (section->facade != facade) {
        section++;
        CHECK(section < router->sections + router->sections_len);
    }
    return section;
}

void router_match(const struct router *router, const struct facade *facade, enum method method, struct bytes path,
                  struct route_match *out)
{
    struct segment_list parts;
    enum method wanted = method == METHOD_HEAD ? METHOD_GET : method;
    *out = (struct route_match){0};
    if (!split(path, &parts)) {
        return;
    }
    const struct section *section = section_of(router, facade);
    for (size_t i = section->from; i < section->to; i++) {
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
    size_t len = router->sections[0].to;
    struct route *list = mem_alloc(len * sizeof *list);
    for (size_t i = 0; i < len; i++) {
        list[i] = router->routes[i].route;
    }
    *out_len = len;
    return list;
}
