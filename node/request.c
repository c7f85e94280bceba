#include "node/request.h"

#include <stdio.h>
#include <stdlib.h>

#include "node/answer.h"
#include "node/authenticate.h"
#include "node/base/text.h"
#include "node/call.h"
#include "node/cors.h"
#include "node/damage.h"
#include "node/decode.h"
#include "node/etag.h"
#include "node/flow.h"
#include "node/foreign.h"
#include "node/idempotency.h"
#include "node/metrics.h"
#include "node/partition.h"
#include "node/peers.h"
#include "node/router.h"
#include "node/streams.h"

enum { REQUEST_ID_MAX = 64, RETRY_AFTER_S = 1, KEEP_BYTES = 4096 };
enum { BY_LINE_BYTES = sizeof "X-Belfry-Node: \r\n" - 1 + ID_TEXT_BYTES };

struct request {
    struct flow flow;
    struct node_worker *worker;
    struct http_conn *conn;
    struct http_request *http;
    const struct facade *facade; /* that the listener carries; NULL: none */
    struct arena arena;
    struct route_match match;
    struct caller caller;
    void *in;
    struct field_errors errors;
    struct claims claims; /* of the caller's token */
    struct call call;
    bool calling;
    struct stream *stream; /* the answer goes on; NULL: it does not */
    char id[REQUEST_ID_MAX + 1];
    int status;
    struct buf headers, body;
    const char *type;
};

static struct node *node_of(const struct request *request)
{
    return request->worker->node;
}

static struct request *request_of(struct flow *flow)
{
    return container_of(flow, struct request, flow);
}

/* ---- route ---- */

static enum flow_next route_foreign(struct request *request)
{
    const struct http_request *http = request->http;
    foreign_match(node_of(request)->router, request->facade, http, &request->match);
    if (request->match.route != NULL) {
        return FLOW_NEXT;
    }
    if (request->match.allowed != 0) {
        answer_allow(&request->headers, request->match.allowed);
        request->status = 204;
        bool preflight = http->method == METHOD_OPTIONS && http_header(http, "origin").len > 0;
        return preflight ? FLOW_FAIL : flow_fail(&request->flow, ERR_METHOD_NOT_ALLOWED);
    }
    request->status = 301;
    bool redirects = foreign_redirects(node_of(request)->router, request->facade, http, &request->headers);
    return redirects ? FLOW_FAIL : flow_fail(&request->flow, ERR_NOT_FOUND);
}

static enum flow_next request_route(struct flow *flow)
{
    struct request *request = request_of(flow);
    if (request->facade != NULL) {
        return route_foreign(request);
    }
    router_match(node_of(request)->router, NULL, request->http->method, request->http->path, &request->match);
    if (request->match.route != NULL) {
        return FLOW_NEXT;
    }
    if (request->http->method == METHOD_OPTIONS &&
        (request->match.allowed != 0 || bytes_is(request->http->path, "*"))) {
        answer_allow(&request->headers, request->match.allowed);
        request->status = 204;
        return FLOW_FAIL; /* nothing further to do: straight to the answer */
    }
    if (request->match.allowed != 0) {
        answer_allow(&request->headers, request->match.allowed);
        return flow_fail(flow, ERR_METHOD_NOT_ALLOWED);
    }
    return flow_fail(flow, ERR_NOT_FOUND);
}

/* ---- auth: the token is verified without touching the account ---- */

static const struct token_entry *token_owner(struct request *request, struct bytes token)
{
    const char *facade = request->facade == NULL ? NULL : request->facade->name;
    return authenticate(request->worker, facade, token, clock_wall_ms(node_of(request)->clock) / 1000);
}

static enum flow_next auth_optional(struct request *request)
{
    struct bytes token = foreign_token(request->facade, request->http);
    const struct token_entry *entry = token.len == 0 ? NULL : token_owner(request, token);
    if (entry != NULL) {
        request->caller = (struct caller){entry->claims.account, entry->claims.session, entry->claims.role};
    }
    return FLOW_NEXT;
}

static enum flow_next request_auth(struct flow *flow)
{
    struct request *request = request_of(flow);
    const struct route *route = request->match.route;
    enum role role = route->op != NULL ? (enum role)route->op->role : route->role;
    if (http_conn_is_local(request->conn)) {
        request->caller.role = ROLE_ADMIN; /* who may open the node's socket is its operator */
        return FLOW_NEXT;
    }
    if (request->facade != NULL && facade_route_of(route->op)->optional) {
        return auth_optional(request);
    }
    if (role == ROLE_NONE) {
        return FLOW_NEXT;
    }
    struct bytes token = foreign_token(request->facade, request->http);
    if (token.len == 0) {
        return flow_fail(flow, ERR_UNAUTHORIZED);
    }
    const struct token_entry *entry = token_owner(request, token);
    if (entry == NULL) {
        /* Without the system partition nobody can say whose token it is. */
        const struct node *node = node_of(request);
        bool keys = node->state != NULL && damage_spares(node->damage, 0);
        return flow_fail(flow, keys ? ERR_UNAUTHORIZED : ERR_QUARANTINED);
    }
    request->claims = entry->claims;
    request->caller = (struct caller){entry->claims.account, entry->claims.session, entry->claims.role};
    return request->caller.role >= role ? FLOW_NEXT : flow_fail(flow, ERR_FORBIDDEN);
}

static enum flow_next request_admit(struct flow *flow)
{
    struct request *request = request_of(flow);
    bool page = request->match.route->op == NULL;
    return atomic_load_explicit(&node_of(request)->stopping, memory_order_relaxed) && !page
               ? flow_fail(flow, ERR_SHUTTING_DOWN)
               : FLOW_NEXT;
}

/* ---- decode ---- */

static enum err decode_body(struct request *request, const struct op *op)
{
    struct bytes type = http_header(request->http, "content-type");
    if ((op->flags & OP_RAW) != 0) {
        return decode_raw(op->in, request->http, &request->arena, request->in, &request->errors);
    }
    if (request->http->body.len == 0) {
        return OK;
    }
    if (!decode_is_media_type(type, "application/json") &&
        !((op->flags & OP_MERGE_PATCH) != 0 && decode_is_media_type(type, "application/merge-patch+json"))) {
        return ERR_UNSUPPORTED_MEDIA_TYPE;
    }
    static const struct field none[] = {FIELDS_END};
    return field_decode_json(op->in != NULL ? op->in : none, request->http->body, &request->arena, request->in,
                             &request->errors);
}

static enum err decode_path(struct request *request, const struct op *op)
{
    for (unsigned i = 0; i < ROUTE_PARAMS && request->match.params[i].ptr != NULL; i++) {
        enum err err = field_decode_param(op->in, route_param_name(op->path, i), request->match.params[i],
                                          &request->arena, request->in, &request->errors);
        if (err != OK) {
            request->errors.len = 0; /* a path that names no possible thing names nothing */
            return ERR_NOT_FOUND;
        }
    }
    return OK;
}

/* A stream that was cut off: the client's query is the old one, its header says how far it came. */
static enum err decode_last_event(struct request *request, const struct op *op)
{
    struct bytes last = http_header(request->http, "last-event-id");
    return op->type != OP_STREAM || op->steps != NULL || last.len == 0
               ? OK
               : field_decode_param(op->in, BYTES_LIT("cursor"), last, &request->arena, request->in, &request->errors);
}

static enum err decode(struct request *request, const struct op *op)
{
    static const struct field none[] = {FIELDS_END};
    const struct field *fields = op->in != NULL ? op->in : none;
    request->in = arena_zalloc(&request->arena, op->in_size > 0 ? op->in_size : sizeof(struct fieldset));
    struct bytes query = request->http->query;
    if (op->type == OP_QUERY || op->method == METHOD_GET) {
        TRY(decode_consistency(&query, &request->arena, &request->call.local, &request->errors));
    }
    TRY(decode_path(request, op));
    TRY(field_decode_query(fields, query, &request->arena, request->in, &request->errors));
    TRY(decode_last_event(request, op));
    TRY(decode_body(request, op));
    TRY(field_check_required(fields, request->in, &request->arena, &request->errors));
    TRY(etag_parse(http_header(request->http, "if-match"), &request->call.if_match));
    return idempotency_digests(request->http, op, request->in, request->caller.account, &request->arena,
                               &request->call.idem_key, &request->call.idem_body);
}

static enum flow_next request_decode(struct flow *flow)
{
    struct request *request = request_of(flow);
    const struct op *op = request->match.route->op;
    if (op == NULL) {
        return FLOW_NEXT;
    }
    enum err err = request->facade == NULL
                       ? decode(request, op)
                       : foreign_decode(request->facade, &request->match, request->http, &request->arena, &request->in,
                                        &request->errors.json_detail);
    return err == OK ? FLOW_NEXT : flow_fail(flow, err);
}

/* ---- submit ---- */

static void call_done(struct call *call)
{
    struct request *request = container_of(call, struct request, call);
    request->calling = false;
    if (request->flow.waiting) {
        flow_resume(&request->flow, &request->worker->resumed, call->err);
    }
}

static enum flow_next run_page(struct request *request)
{
    struct page_out out = {.type = "application/json", .body = request->body};
    request->status = request->match.route->page(node_of(request), request->http, &out);
    request->type = out.type;
    request->body = out.body;
    return out.err == OK ? FLOW_NEXT : flow_fail(&request->flow, out.err);
}

static enum flow_next request_submit(struct flow *flow)
{
    struct request *request = request_of(flow);
    const struct route *route = request->match.route;
    if (route->op == NULL) {
        return run_page(request);
    }
    /* A token may have been revoked since: who does not hear of that believes none. */
    if (!id_is_none(request->caller.account) && !request->call.local && !partition_is_in_contact(node_of(request))) {
        return flow_fail(flow, ERR_NO_QUORUM);
    }
    struct call *call = &request->call;
    call->worker = request->worker;
    call->kind = route->kind;
    call->op = route->op;
    call->caller = request->caller;
    call->arena = &request->arena;
    call->in = request->in;
    call->remote = http_conn_remote(request->conn);
    call->request_text = bytes_str(request->id);
    call->done = call_done;
    if (route->op->type == OP_STREAM && route->op->steps != NULL && request->http->method != METHOD_HEAD) {
        call->cursor = random_u64(&request->worker->worker.random) | 1;
    }
    request->calling = true;
    call_start(call);
    if (request->calling) {
        return FLOW_WAIT;
    }
    return call->err == OK ? FLOW_NEXT : flow_fail(flow, call->err);
}

/* ---- encode ---- */

static void add_etag(struct request *request, uint64_t version)
{
    enum method method = request->http->method;
    bool matches = etag_add(&request->headers, version, http_header(request->http, "if-none-match"));
    if (matches && (method == METHOD_GET || method == METHOD_HEAD)) {
        request->status = 304;
    }
}

static enum flow_next request_encode(struct flow *flow)
{
    struct request *request = request_of(flow);
    const struct reply *reply = &request->call.reply;
    const struct op *op = request->match.route->op;
    if (op == NULL) {
        return FLOW_NEXT;
    }
    request->type = "application/json";
    request->status = reply->status != 0 ? reply->status : op->success;
    if (request->status == 204) {
        request->type = "";
    }
    if (reply->version != 0) {
        add_etag(request, reply->version);
    }
    if (!id_is_none(reply->location)) {
        answer_location(&request->headers, request->http, reply->location);
    }
    if (request->call.replayed) {
        buf_add_lit(&request->headers, "Idempotency-Replayed: true\r\n");
    }
    if (request->call.local) {
        buf_add_lit(&request->headers, "X-Belfry-Consistency: local\r\n");
    }
    if ((op->flags & OP_SECRET) != 0 || op->type == OP_STREAM) {
        buf_add_lit(&request->headers, "Cache-Control: no-store\r\n");
    }
    if (op->type == OP_STREAM) {
        buf_add_lit(&request->headers, "X-Accel-Buffering: no\r\n"); /* for a proxy that would hold it back */
        buf_add_lit(&request->body, "retry: 1000\n\n");
    }
    enum err err = OK;
    if (reply->list) {
        err = answer_list(&request->body, reply);
        if (reply->cursor.len > 0) {
            answer_link(&request->headers, request->http, buf_bytes(&reply->cursor));
        }
    } else if (reply->type != NULL) {
        request->type = reply->type;
        buf_add_bytes(&request->headers, buf_bytes(&reply->headers));
        if (request->status != 304) {
            buf_add_bytes(&request->body, buf_bytes(&reply->body));
        }
    } else if (request->status != 304 && request->status != 204 && reply->fields != NULL && reply->body.len > 0) {
        err = field_json_from_pack(&request->body, reply->fields, buf_bytes(&reply->body));
    }
    return err == OK ? FLOW_NEXT : flow_fail(flow, ERR_INTERNAL);
}

/* ---- finish: always ---- */

static void problem(struct request *request, enum err err)
{
    const struct reply *reply = &request->call.reply;
    bool json = err == ERR_INVALID_JSON && request->errors.json_detail != NULL;
    if (reply->pointer != NULL && request->errors.len == 0) {
        field_errors_add(&request->errors, &request->arena, reply->pointer, reply->code, reply->detail);
    }
    request->type = "application/problem+json";
    request->status = err_status(err);
    request->body.len = 0;
    answer_problem(&request->body, err, json ? request->errors.json_detail : err_title(err), request->id,
                   err == ERR_INVALID_FIELDS ? &request->errors : NULL);
    if (request->status == 401) {
        buf_add_lit(&request->headers, "WWW-Authenticate: Bearer realm=\"belfry\"\r\n");
    }
    if (request->status == 503 || request->status == 429) {
        buf_printf(&request->headers, "Retry-After: %d\r\n", RETRY_AFTER_S);
    }
}

/* A failure in the words of the product whose client asked. */
static void foreign_problem(struct request *request, enum err err)
{
    const struct reply *failed = &request->call.reply;
    bool json = err == ERR_INVALID_JSON;
    struct facade_failure why = {.err = err,
                                 .method = request->http->method,
                                 .pointer = failed->pointer,
                                 .detail = json ? request->errors.json_detail : failed->detail};
    struct reply reply = {.status = (uint16_t)err_status(err)};
    request->facade->fail(&why, &reply);
    request->status = reply.status;
    request->type = reply.type;
    request->body.len = 0;
    buf_add_bytes(&request->body, buf_bytes(&reply.body));
    buf_add_bytes(&request->headers, buf_bytes(&reply.headers));
    if (request->status == 503) {
        buf_printf(&request->headers, "Retry-After: %d\r\n", RETRY_AFTER_S);
    }
    reply_close(&reply);
}

/* A failure of ours, that is; what a client did wrong is 500 in some products. */
static bool failed_here(const struct request *request)
{
    bool failed = request->flow.err != OK;
    int status = request->facade == NULL ? request->status : failed ? err_status(request->flow.err) : 200;
    return status >= 500 && status != 503;
}

static void write_log(struct request *request, int64_t ns)
{
    struct log *log = node_of(request)->log;
    enum log_level level = failed_here(request) ? LOG_ERROR : LOG_INFO;
    if (!log_wants(log, level)) {
        return;
    }
    struct log_line line = log_begin(log, level, "request");
    log_word(&line, "request_id", bytes_str(request->id));
    log_word(&line, "remote", http_conn_remote(request->conn));
    if (!id_is_none(request->caller.account)) {
        char user[ID_TEXT_BYTES];
        id_format(request->caller.account, user);
        log_word(&line, "user", bytes_of(user, sizeof user));
    }
    log_word(&line, "method", bytes_str(http_method_name(request->http->method)));
    log_word(&line, "route", bytes_str(router_path(node_of(request)->router, request->match.path_index)));
    log_int(&line, "status", request->status);
    log_int(&line, "bytes",
            request->stream != NULL ? (int64_t)http_stream_taken(request->conn) : (int64_t)request->body.len);
    if (request->stream != NULL) {
        log_word(&line, "ended", bytes_str(request->stream->reason == NULL ? "client" : request->stream->reason));
    }
    log_ms(&line, "duration_ms", ns);
    if (request->flow.err != OK) {
        log_word(&line, "error", bytes_str(err_code(request->flow.err)));
    }
    log_end(&line);
}

/* A request's memory is kept for the next one, warm: buffers that grew large are given back. */
static void keep_buf(struct buf *buf)
{
    if (buf->cap > KEEP_BYTES) {
        buf_free(buf);
    }
    buf->len = 0;
}

static void request_close(struct request *request)
{
    reply_close(&request->call.reply);
    buf_free(&request->headers);
    buf_free(&request->body);
    arena_close(&request->arena);
    free(request);
}

static void request_free(struct request *request)
{
    struct node_worker *worker = request->worker;
    if (worker->spare_len == SPARE_REQUESTS) {
        request_close(request);
        return;
    }
    struct buf reply_body = request->call.reply.body;
    request->call.reply.body = (struct buf){0};
    reply_close(&request->call.reply);
    keep_buf(&reply_body);
    keep_buf(&request->headers);
    keep_buf(&request->body);
    arena_reset(&request->arena);
    struct buf headers = request->headers, body = request->body;
    struct arena arena = request->arena;
    *request = (struct request){.headers = headers, .body = body, .arena = arena, .call.reply.body = reply_body};
    worker->spare[worker->spare_len++] = request;
}

void requests_close(struct node_worker *worker)
{
    while (worker->spare_len > 0) {
        request_close(worker->spare[--worker->spare_len]);
    }
}

/* Who did the work: computed the hash, or carried out the command. */
static void add_node(struct request *request)
{
    const struct node *node = node_of(request);
    uint64_t by = request->call.by;
    char name[ID_TEXT_BYTES];
    if (LIKELY(by == 0 || by == node->replica) || !peers_name(node->peers, by, name)) {
        buf_add(&request->headers, node->by_line, BY_LINE_BYTES);
        return;
    }
    buf_add_lit(&request->headers, "X-Belfry-Node: ");
    buf_add(&request->headers, name, sizeof name);
    buf_add_lit(&request->headers, "\r\n");
}

static int64_t ns_since_start(const struct request *request)
{
    return clock_boot_ns(node_of(request)->clock) - http_conn_started_ns(request->conn);
}

/* The answer as the connection takes it; it counts as given. */
static struct http_reply reply_of(struct request *request)
{
    buf_add_lit(&request->headers, "X-Request-Id: ");
    buf_add_str(&request->headers, request->id);
    buf_add_lit(&request->headers, "\r\n");
    add_node(request);
    cors_add(node_of(request)->config.cors_origins, request->http, &request->headers);
    metrics_request(node_of(request)->metrics, request->match.path_index, request->http->method, request->status,
                    ns_since_start(request));
    return (struct http_reply){.status = request->status,
                               .type = bytes_str(request->type),
                               .headers = buf_bytes(&request->headers),
                               .body = buf_bytes(&request->body)};
}

/* ---- an answer that goes on ---- */

static void stream_ended(struct stream *stream)
{
    struct request *request = stream->owner;
    flow_resume(&request->flow, &request->worker->resumed, OK);
}

static bool is_stream(const struct request *request)
{
    const struct route *route = request->match.route;
    return route != NULL && route->op != NULL && route->op->type == OP_STREAM;
}

static enum flow_next request_stream(struct flow *flow)
{
    struct request *request = request_of(flow);
    if (!is_stream(request) || request->http->method == METHOD_HEAD) {
        return FLOW_NEXT;
    }
    struct stream *stream = mem_zalloc(sizeof *stream);
    *stream = (struct stream){.worker = request->worker,
                              .conn = request->conn,
                              .kind = request->match.route->kind,
                              .op = request->match.route->op,
                              .in = request->in,
                              .claims = request->claims,
                              .local = request->call.local,
                              .cursor = request->call.cursor,
                              .ended = stream_ended,
                              .owner = request};
    enum err err = stream_open(stream);
    if (err != OK) {
        free(stream);
        return flow_fail(flow, err);
    }
    request->stream = stream;
    struct http_reply reply = reply_of(request);
    http_stream_begin(request->conn, &reply);
    keep_buf(&request->headers);
    keep_buf(&request->body);
    return FLOW_WAIT;
}

static void stream_done(struct request *request)
{
    write_log(request, ns_since_start(request));
    stream_close(request->stream);
    free(request->stream);
    request->stream = NULL;
}

static enum flow_next request_finish(struct flow *flow)
{
    struct request *request = request_of(flow);
    struct http_conn *conn = request->conn;
    if (request->stream != NULL) {
        stream_done(request);
        http_conn_set_data(conn, NULL);
        http_stream_end(conn, STREAM_LAST_MS);
        request_free(request);
        return FLOW_DONE;
    }
    if (flow->err != OK && request->facade != NULL) {
        foreign_problem(request, flow->err);
    } else if (flow->err != OK) {
        problem(request, flow->err);
    }
    struct http_reply reply = reply_of(request);
    reply.streams = flow->err == OK && is_stream(request);
    write_log(request, ns_since_start(request));
    http_conn_set_data(conn, NULL);
    http_reply(conn, &reply);
    request_free(request);
    return FLOW_DONE;
}

static const struct flow_state request_states[] = {
    {"route", request_route},   {"auth", request_auth},     {"admit", request_admit},
    {"decode", request_decode}, {"submit", request_submit}, {"encode", request_encode},
    {"stream", request_stream}, {"finish", request_finish}, {0}};

/* ---- from the connection ---- */

static bool good_request_id(struct bytes id)
{
    for (size_t i = 0; i < id.len; i++) {
        if (id.ptr[i] <= ' ' || id.ptr[i] >= 0x7f || id.ptr[i] == '"' || id.ptr[i] == '\\') {
            return false;
        }
    }
    return id.len > 0 && id.len <= REQUEST_ID_MAX;
}

static struct request *request_new(struct node_worker *worker, struct http_conn *conn, struct http_request *http)
{
    struct request *request = worker->spare_len > 0 ? worker->spare[--worker->spare_len] : mem_zalloc(sizeof *request);
    struct bytes id = http_header(http, "x-request-id");
    request->worker = worker;
    request->conn = conn;
    request->http = http;
    request->facade = http_conn_serves(conn);
    request->type = "";
    list_init(&request->call.waiting);
    list_init(&request->call.link);
    if (good_request_id(id)) {
        memcpy(request->id, id.ptr, id.len);
    } else {
        id_format(id_make(clock_wall_ms(worker->node->clock), 0, random_u64(&worker->worker.random)), request->id);
    }
    flow_init(&request->flow, request_states);
    http_conn_set_data(conn, request);
    return request;
}

static void on_request(void *ctx, struct http_conn *conn, struct http_request *http)
{
    flow_run(&request_new(ctx, conn, http)->flow);
}

/* A facade's own limit is looked at when the body is there (foreign.c). */
static size_t body_limit(void *ctx, const struct http_conn *conn, const struct http_request *http)
{
    const struct node_worker *worker = ctx;
    struct route_match match = {0};
    if (http_conn_serves(conn) == NULL) {
        router_match(worker->node->router, NULL, http->method, http->path, &match);
    }
    const struct op *op = match.route == NULL ? NULL : match.route->op;
    return op != NULL && op->body_max != 0 ? op->body_max : LIMIT_BODY_BYTES;
}

static void on_bad(void *ctx, struct http_conn *conn, struct http_request *http, enum err err)
{
    http->headers_len = 0; /* nothing in it can be trusted */
    http->method = METHOD_OTHER;
    struct request *request = request_new(ctx, conn, http);
    request->flow.at = ARRAY_LEN(request_states) - 2;
    request->flow.err = err;
    flow_run(&request->flow);
}

static void on_gone(void *ctx, struct http_conn *conn)
{
    struct request *request = http_conn_data(conn);
    (void)ctx;
    if (request != NULL) {
        call_abandon(&request->call);
        flow_cancel(&request->flow);
        if (request->stream != NULL) {
            stream_done(request);
        }
        request_free(request);
    }
}

/* Who polls and goes would get what others could have. */
static bool on_left(void *ctx, struct http_conn *conn)
{
    struct request *request = http_conn_data(conn);
    (void)ctx;
    return request != NULL && call_leave(&request->call);
}

static void on_taken(void *ctx, struct http_conn *conn)
{
    struct request *request = http_conn_data(conn);
    (void)ctx;
    stream_taken(request->stream);
}

struct http_handler request_handler(struct node_worker *worker)
{
    return (struct http_handler){.request = on_request,
                                 .body_limit = body_limit,
                                 .bad = on_bad,
                                 .gone = on_gone,
                                 .left = on_left,
                                 .taken = on_taken,
                                 .ctx = worker};
}
