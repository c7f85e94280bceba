/* OpenAPI 3.1 and its readable page, both from the operations' own tables. */
#include <stdlib.h>

#include "node/codec/field_map.h"
#include "node/pages.h"

static bool in_path(const struct op *op, const char *name)
{
    for (unsigned i = 0; i < ROUTE_PARAMS; i++) {
        if (bytes_is(route_param_name(op->path, i), name)) {
            return true;
        }
    }
    return false;
}

static bool has_body(const struct op *op)
{
    for (const struct field *field = op->in; field != NULL && field->name != NULL; field++) {
        if ((field->flags & (FIELD_QUERY | FIELD_HEADER | FIELD_HIDDEN)) == 0) {
            return true;
        }
    }
    return false;
}

/* One field's schema: that of a table with this field alone, without its frame. */
static void add_parameter(struct buf *out, const struct op *op, const struct field *field, bool first)
{
    struct field alone[2] = {*field, FIELDS_END};
    struct buf schema = {0};
    char header[FIELD_HEADER_BYTES];
    bool is_header = (field->flags & FIELD_HEADER) != 0;
    field_header_name(field, header);
    alone[0].flags = (uint8_t)(alone[0].flags & ~(FIELD_QUERY | FIELD_HEADER));
    field_schema(&schema, alone, true);
    struct bytes text = buf_bytes(&schema);
    size_t from =
        strlen("{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"\":") + strlen(field->name);
    size_t tail = strlen("},\"required\":[]}") + ((field->flags & FIELD_REQUIRED) != 0 ? strlen(field->name) + 2 : 0);
    bool path = in_path(op, field->name);
    bool required = path || (is_header && (field->flags & FIELD_REQUIRED) != 0);
    buf_printf(out, "%s{\"name\":\"%s\",\"in\":\"%s\",\"required\":%s,\"schema\":%.*s}", first ? "" : ",",
               is_header ? header : field->name,
               path        ? "path"
               : is_header ? "header"
                           : "query",
               required ? "true" : "false", (int)(text.len - from - tail), (const char *)text.ptr + from);
    buf_free(&schema);
}

/* There is no way to say it but as one of them. */
#define MAP_HEADER                                                                                                 \
    "{\"name\":\"Belfry-Header-NAME\",\"in\":\"header\",\"required\":false,\"description\":\"Headers by names of " \
    "your own "                                                                                                    \
    "choice behind Belfry-Header-, each once, %d at most\",\"schema\":{\"type\":\"string\",\"maxLength\":%d}}"

static void add_parameters(struct buf *out, const struct op *op)
{
    bool first = true;
    buf_add_lit(out, "\"parameters\":[");
    for (const struct field *field = op->in; field != NULL && field->name != NULL; field++) {
        if ((field->flags & (FIELD_QUERY | FIELD_HEADER)) != 0) {
            add_parameter(out, op, field, first);
            first = false;
        }
        if ((op->flags & OP_RAW) != 0 && strcmp(field->name, "headers") == 0) {
            buf_printf(out, "%s" MAP_HEADER, first ? "" : ",", (int)field_map_max(field), LIMIT_MAP_VALUE_BYTES);
            first = false;
        }
    }
    if (op->type == OP_STREAM) {
        buf_printf(out,
                   "%s{\"name\":\"Last-Event-ID\",\"in\":\"header\",\"required\":false,\"description\":\"The id of the "
                   "last event that was seen; it counts more than the query\",\"schema\":{\"type\":\"string\"}}",
                   first ? "" : ",");
    }
    buf_add_char(out, ']');
}

static bool is_list(const struct op *op)
{
    return op->type == OP_QUERY && ((op->flags & OP_ALL_PARTITIONS) != 0 || strcmp(op->name, "sessions") == 0);
}

static void add_reply(struct buf *out, const struct op *op)
{
    buf_printf(out, "\"responses\":{\"%d\":{\"description\":\"%s\"", op->success, http_status_text(op->success));
    if (op->out != NULL && op->success != 204) {
        buf_add_lit(out, ",\"content\":{\"application/json\":{\"schema\":");
        if (is_list(op)) {
            buf_add_lit(out, "{\"type\":\"object\",\"properties\":{\"items\":{\"type\":\"array\",\"items\":");
            field_schema(out, op->out, true);
            buf_add_lit(
                out, "},\"next_cursor\":{\"type\":[\"string\",\"null\"]}},\"required\":[\"items\",\"next_cursor\"]}");
        } else {
            field_schema(out, op->out, true);
        }
        buf_add_lit(out, "}}");
    }
    if (op->type == OP_STREAM) {
        buf_add_lit(out, ",\"content\":{\"text/event-stream\":{\"schema\":{\"type\":\"string\"}}}");
    }
    buf_add_lit(out, "},\"default\":{\"$ref\":\"#/components/responses/Problem\"}}");
}

static const char *const lower[] = {"get", "head", "post", "put", "patch", "delete", "options", "trace"};

static void add_op(struct buf *out, const struct kind *kind, const struct op *op)
{
    buf_printf(out, "\"%s\":{\"operationId\":\"%s_%s\",\"tags\":[\"%s\"],\"summary\":\"%s\",", lower[op->method],
               kind->name, op->name, kind->name, op->summary);
    if (op->role != ROLE_NONE) {
        buf_add_lit(out, "\"security\":[{\"bearer\":[]}],");
    }
    add_parameters(out, op);
    buf_add_char(out, ',');
    if ((op->flags & OP_RAW) != 0) {
        buf_add_lit(out, "\"requestBody\":{\"required\":true,\"content\":{\"application/octet-stream\":{}}},");
    } else if (has_body(op)) {
        buf_printf(out, "\"requestBody\":{\"required\":true,\"content\":{\"%s\":{\"schema\":",
                   (op->flags & OP_MERGE_PATCH) != 0 ? "application/merge-patch+json" : "application/json");
        field_schema(out, op->in, false);
        buf_add_lit(out, "}}},");
    }
    add_reply(out, op);
    buf_add_char(out, '}');
}

static void add_page(struct buf *out, const struct page_route *page)
{
    int status = page->method == METHOD_POST ? 202 : 200;
    buf_printf(out,
               "\"%s\":{\"summary\":\"%s\",%s\"responses\":{\"%d\":{\"description\":\"%s\",\"content\":{\"%s\":{}}}}}",
               lower[page->method], page->summary, page->role == ROLE_NONE ? "" : "\"security\":[{\"bearer\":[]}],",
               status, http_status_text(status), page->type);
}

static const struct page_route *page_of(const struct route *route)
{
    const struct page_route *page = page_routes;
    while (page->path != NULL && (page->method != route->method || strcmp(page->path, route->path) != 0)) {
        page++;
    }
    return page;
}

void openapi_write(const struct router *router, struct buf *out)
{
    size_t len;
    const struct route *routes = router_routes(router, &len);
    buf_add_lit(out, "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"belfry\",\"version\":\"1\",\"license\":{\"name\":"
                     "\"Apache-2.0\",\"identifier\":\"Apache-2.0\"}},\"paths\":{");
    for (size_t i = 0; i < len; i++) {
        bool again = i > 0 && strcmp(routes[i - 1].path, routes[i].path) == 0;
        if (!again) {
            buf_printf(out, "%s\"%s\":{", i > 0 ? "}," : "", routes[i].path);
        } else {
            buf_add_char(out, ',');
        }
        if (routes[i].op != NULL) {
            add_op(out, routes[i].kind, routes[i].op);
        } else {
            add_page(out, page_of(&routes[i]));
        }
    }
    buf_add_lit(out, "}},\"components\":{\"securitySchemes\":{\"bearer\":{\"type\":\"http\",\"scheme\":\"bearer\","
                     "\"bearerFormat\":\"JWT\"}},"
                     "\"responses\":{\"Problem\":{\"description\":\"A problem (RFC "
                     "9457)\",\"content\":{\"application/problem+json\":{\"schema\":{"
                     "\"type\":\"object\",\"properties\":{\"type\":{\"type\":\"string\"},\"title\":{\"type\":"
                     "\"string\"},\"status\":{\"type\":\"integer\"},"
                     "\"detail\":{\"type\":\"string\"},\"code\":{\"type\":\"string\"},\"request_id\":{\"type\":"
                     "\"string\"},\"retryable\":{\"type\":\"boolean\"},"
                     "\"errors\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"pointer\":{"
                     "\"type\":\"string\"},\"code\":{\"type\":\"string\"},"
                     "\"detail\":{\"type\":\"string\"}}}}},\"required\":[\"type\",\"title\",\"status\",\"code\","
                     "\"request_id\",\"retryable\"]}}}}}}}");
    free((void *)(uintptr_t)routes);
}

static void docs_fields(struct buf *out, const struct op *op)
{
    if (op->in == NULL) {
        return;
    }
    buf_add_lit(out, "<ul>");
    for (const struct field *field = op->in; field->name != NULL; field++) {
        if ((field->flags & FIELD_HIDDEN) == 0) {
            buf_printf(out, "<li><code>%s</code>%s%s</li>", field->name,
                       in_path(op, field->name)             ? " in the path"
                       : (field->flags & FIELD_QUERY) != 0  ? " in the query"
                       : (field->flags & FIELD_HEADER) != 0 ? " in a header"
                                                            : "",
                       (field->flags & FIELD_REQUIRED) != 0 ? ", required" : "");
        }
    }
    buf_add_lit(out, "</ul>");
}

void docs_write(const struct router *router, struct buf *out)
{
    size_t len;
    const struct route *routes = router_routes(router, &len);
    buf_add_lit(
        out, "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>belfry: the HTTP API</title>"
             "<style>body{font:16px/1.5 sans-serif;max-width:50em;margin:2em auto;padding:0 1em}code{background:#eee}"
             "h2{margin-top:1.5em;font-size:1.1em}</style><h1>belfry: the HTTP API</h1>"
             "<p>The machine-readable form is <a href=\"/openapi.json\">/openapi.json</a>.</p>");
    for (size_t i = 0; i < len; i++) {
        const struct op *op = routes[i].op;
        enum role role = op != NULL ? (enum role)op->role : routes[i].role;
        buf_printf(out, "<h2><code>%s %s</code></h2><p>%s%s.</p>", http_method_name(routes[i].method), routes[i].path,
                   op != NULL ? op->summary : page_of(&routes[i])->summary,
                   role == ROLE_NONE    ? ""
                   : role == ROLE_ADMIN ? " (admin token)"
                                        : " (token)");
        if (op != NULL) {
            docs_fields(out, op);
        }
    }
    buf_add_lit(out, "</html>");
    free((void *)(uintptr_t)routes);
}
