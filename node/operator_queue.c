/* The operator's view of the queue: what the API says, as tables. */
#include <jansson.h>
#include <stdio.h>

#include "node/operator.h"

struct column {
    const char *title, *member;
    int width; /* negative: to the left */
};

static void print_heads(const struct column *columns)
{
    for (; columns->title != NULL; columns++) {
        (void)printf("%*s%s", columns->width, columns->title, columns[1].title == NULL ? "\n" : "  ");
    }
}

static void print_cell(const struct column *column, const json_t *value)
{
    if (json_is_integer(value)) {
        (void)printf("%*lld", column->width, (long long)json_integer_value(value));
    } else if (json_is_string(value)) {
        (void)printf("%*s", column->width, json_string_value(value));
    } else {
        (void)printf("%*s", column->width, "-");
    }
}

static void print_row(const struct column *columns, const json_t *row)
{
    for (; columns->title != NULL; columns++) {
        print_cell(columns, json_object_get(row, columns->member));
        (void)fputs(columns[1].title == NULL ? "\n" : "  ", stdout);
    }
}

/* One page of a list. The cursor of the next one, to be freed by json_decref with the page; NULL: it was the last. */
static const char *print_page(const struct column *columns, const json_t *page)
{
    const json_t *items = json_object_get(page, "items");
    for (size_t i = 0; i < json_array_size(items); i++) {
        print_row(columns, json_array_get(items, i));
    }
    return json_string_value(json_object_get(page, "next_cursor"));
}

static int get(const char *data, const struct buf *path, struct buf *out)
{
    struct buf request = {0};
    buf_add_lit(&request, "GET ");
    buf_add_bytes(&request, buf_bytes(path));
    buf_add_lit(&request, " HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
    int status = operator_ask(data, buf_bytes(&request), out);
    buf_free(&request);
    return status;
}

static int print_as_it_is(int status, struct buf *body)
{
    (void)fprintf(status == 200 ? stdout : stderr, "%.*s\n", (int)body->len, (const char *)body->ptr);
    return status == 200 ? 0 : 1;
}

/* A list of the API, page by page. json: the first page, as it is. most: rows; 0: all. */
static int list(const char *data, const char *path, const char *query, const char *from, const struct column *columns,
                bool json, bool one_page)
{
    struct buf cursor = {0};
    buf_add_str(&cursor, from == NULL ? "" : from);
    buf_add_char(&cursor, 0);
    int code = 0;
    bool more = true;
    for (bool first = true; more && code == 0; first = false) {
        struct buf target = {0}, body = {0};
        buf_add_str(&target, path);
        buf_add_str(&target, query);
        operator_escape(&target, (const char *)cursor.ptr);
        int status = get(data, &target, &body);
        json_t *page = status == 200 && !json ? json_loadb((const char *)body.ptr, body.len, 0, NULL) : NULL;
        if (page == NULL) {
            code = status == 0 ? 1 : print_as_it_is(status, &body);
            more = false;
        } else {
            if (first) {
                print_heads(columns);
            }
            const char *next = print_page(columns, page);
            more = next != NULL && !one_page;
            cursor.len = 0;
            buf_add_str(&cursor, more ? next : "");
            buf_add_char(&cursor, 0);
        }
        json_decref(page);
        buf_free(&target);
        buf_free(&body);
    }
    buf_free(&cursor);
    return code;
}

/* -o table|json; false: neither. */
static bool take_form(int *argc, char **argv, bool *out_json)
{
    const char *form = operator_option(argc, argv, "-o");
    *out_json = form != NULL && strcmp(form, "json") == 0;
    return form == NULL || *out_json || strcmp(form, "table") == 0;
}

int operator_topics(int argc, char **argv)
{
    static const struct column columns[] = {
        {"TOPIC", "name", -30},    {"PARTITIONS", "partitions", 10}, {"MESSAGES", "messages", 9},
        {"DELAYED", "delayed", 8}, {"BYTES", "bytes", 12},           {"PUBLISHED", "published", 10},
        {"DROPPED", "dropped", 8}, {"GROUPS", "groups", 6},          {0}};
    const char *data = operator_data(&argc, argv);
    bool json;
    if (!take_form(&argc, argv, &json) || argc != 0) {
        return operator_complain("belfry topics [--data DIR] [-o table|json]");
    }
    return list(data, "/v1/topics", "?limit=200&cursor=", NULL, columns, json, false);
}

int operator_groups(int argc, char **argv)
{
    static const struct column columns[] = {{"GROUP", "group", -30},       {"DEPTH", "depth", 9},
                                            {"IN-FLIGHT", "in_flight", 9}, {"WAITING", "waiting", 8},
                                            {"DEAD", "dead_letters", 8},   {"OLDEST-MS", "oldest_age_ms", 10},
                                            {"ACKED", "acked", 10},        {"REDELIVERED", "redelivered", 11},
                                            {"DROPPED", "dropped", 8},     {0}};
    const char *data = operator_data(&argc, argv);
    struct buf path = {0};
    bool json;
    if (!take_form(&argc, argv, &json) || argc != 1 || argv[0][0] == '-') {
        return operator_complain("belfry groups [--data DIR] TOPIC [-o table|json]");
    }
    buf_add_lit(&path, "/v1/topics/");
    operator_escape(&path, argv[0]);
    buf_add_lit(&path, "/groups");
    buf_add_char(&path, 0);
    int code = list(data, (const char *)path.ptr, "?", NULL, columns, json, true);
    buf_free(&path);
    return code;
}

static bool is_number(const char *text)
{
    return text[0] != 0 && strspn(text, "0123456789") == strlen(text);
}

int operator_peek(int argc, char **argv)
{
    static const struct column columns[] = {{"ID", "id", -14},
                                            {"PUBLISHED", "published_at", -24},
                                            {"PRIORITY", "priority", 10},
                                            {"KEY", "key", -16},
                                            {"BODY", "body", 0},
                                            {0}};
    const char *data = operator_data(&argc, argv), *from = operator_option(&argc, argv, "--from");
    const char *limit = operator_option(&argc, argv, "--limit");
    struct buf path = {0}, query = {0};
    bool json;
    if (!take_form(&argc, argv, &json) || argc != 1 || argv[0][0] == '-' || (limit != NULL && !is_number(limit))) {
        return operator_complain("belfry peek [--data DIR] TOPIC [--from ID] [--limit N] [-o table|json]");
    }
    buf_add_lit(&path, "/v1/topics/");
    operator_escape(&path, argv[0]);
    buf_add_lit(&path, "/messages");
    buf_add_char(&path, 0);
    buf_printf(&query, "?limit=%s%s", limit == NULL ? "10" : limit, from == NULL ? "" : "&from=");
    buf_add_char(&query, 0);
    int code = list(data, (const char *)path.ptr, (const char *)query.ptr, from, columns, json, true);
    buf_free(&path);
    buf_free(&query);
    return code;
}

int operator_redrive(int argc, char **argv)
{
    const char *data = operator_data(&argc, argv), *max = operator_option(&argc, argv, "--max");
    struct buf request = {0}, body = {0}, answer = {0};
    if (argc != 2 || argv[0][0] == '-' || argv[1][0] == '-' || (max != NULL && !is_number(max))) {
        return operator_complain("belfry redrive [--data DIR] TOPIC GROUP [--max N]");
    }
    if (max == NULL) {
        buf_add_lit(&body, "{}");
    } else {
        buf_printf(&body, "{\"max\":%s}", max);
    }
    buf_add_lit(&request, "POST /v1/topics/");
    operator_escape(&request, argv[0]);
    buf_add_lit(&request, "/groups/");
    operator_escape(&request, argv[1]);
    buf_printf(&request,
               "/dead-letters/redrive HTTP/1.1\r\nHost: node\r\nConnection: close\r\n"
               "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
               body.len);
    buf_add_bytes(&request, buf_bytes(&body));
    int status = operator_ask(data, buf_bytes(&request), &answer);
    int code = status == 0 ? 1 : print_as_it_is(status, &answer);
    buf_free(&request);
    buf_free(&body);
    buf_free(&answer);
    return code;
}
