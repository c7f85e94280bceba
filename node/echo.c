#include "node/echo.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/base/text.h"
#include "node/http/server.h"

struct echo {
    struct worker worker;
    struct http_server server;
    struct buf filler;
    uv_signal_t signals[2];
};

static void on_request(void *ctx, struct http_conn *conn, struct http_request *request)
{
    const struct echo *echo = ctx;
    struct bytes type = http_header(request, "content-type");
    struct http_reply reply = {.status = 200,
                               .type = type.len > 0 ? type : BYTES_LIT("text/plain"),
                               .body = request->has_body ? request->body : buf_bytes(&echo->filler)};
    http_reply(conn, &reply);
}

static void on_bad(void *ctx, struct http_conn *conn, struct http_request *request, enum err err)
{
    (void)ctx;
    (void)request;
    struct http_reply reply = {
        .status = err_status(err), .type = BYTES_LIT("text/plain"), .body = bytes_str(err_title(err)), .close = true};
    http_reply(conn, &reply);
}

static void on_gone(void *ctx, struct http_conn *conn)
{
    (void)ctx;
    (void)conn;
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct echo *echo = handle->data;
    (void)number;
    http_server_close(&echo->server);
    for (size_t i = 0; i < ARRAY_LEN(echo->signals); i++) {
        uv_close((uv_handle_t *)&echo->signals[i], NULL);
    }
    worker_stop(&echo->worker);
}

int echo_main(int argc, char **argv)
{
    const char *listen = "127.0.0.1:8080";
    uint64_t body = 0;
    for (int i = 0; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--listen") == 0) {
            listen = argv[i + 1];
        } else if (strcmp(argv[i], "--body-bytes") != 0 || !text_parse_u64(bytes_str(argv[i + 1]), &body) ||
                   body > LIMIT_BODY_BYTES) {
            argc = 1;
        }
    }
    if (argc % 2 != 0) {
        (void)fputs("usage: belfry echo [--listen ADDR:PORT] [--body-bytes N]\n", stderr);
        return 2;
    }
    struct echo *echo = mem_zalloc(sizeof *echo);
    struct http_handler handler = {on_request, on_bad, on_gone, NULL, NULL, echo};
    struct log *log = log_new(NULL, LOG_WARN, clock_system());
    unsigned port = 0;
    for (uint64_t i = 0; i < body; i++) {
        buf_add_char(&echo->filler, 'x');
    }
    worker_init(&echo->worker, 0, clock_system(), log);
    http_server_init(&echo->server, &echo->worker, &handler, LIMIT_CONNECTIONS);
    if (http_server_listen(&echo->server, listen, NULL, &port) != OK) {
        (void)fprintf(stderr, "belfry: cannot listen on %s\n", listen);
        return 1;
    }
    static const int numbers[] = {SIGINT, SIGTERM};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        CHECK(uv_signal_init(&echo->worker.loop, &echo->signals[i]) == 0);
        echo->signals[i].data = echo;
        CHECK(uv_signal_start(&echo->signals[i], on_signal, numbers[i]) == 0);
    }
    (void)printf("echo on port %u\n", port);
    (void)fflush(stdout);
    worker_start(&echo->worker);
    worker_join(&echo->worker);
    worker_close(&echo->worker);
    buf_free(&echo->filler);
    log_free(log);
    free(echo);
    return 0;
}
