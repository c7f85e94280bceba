#include "node/operator.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "node/archive.h"
#include "node/base/bytes.h"
#include "node/crypto/key_file.h"
#include "node/repair.h"

enum { ANSWER_MAX = 32 << 20 };

static int connect_node(const char *data)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int n = snprintf(address.sun_path, sizeof address.sun_path, "%s/belfry.sock", data);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && n > 0 && (size_t)n < sizeof address.sun_path &&
        connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
        return fd;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    (void)fprintf(stderr, "belfry: no node answers at %s/belfry.sock: %s\n", data, strerror(errno));
    return -1;
}

int operator_ask(const char *data, struct bytes request, struct buf *out)
{
    struct buf answer = {0};
    int status = 0, fd = connect_node(data);
    if (fd < 0) {
        return 0;
    }
    ssize_t n = write(fd, request.ptr, request.len) == (ssize_t)request.len ? 1 : -1;
    while (n > 0 && answer.len < ANSWER_MAX) {
        n = read(fd, buf_room(&answer, 4096), 4096);
        answer.len += n > 0 ? (size_t)n : 0;
    }
    (void)close(fd);
    buf_add_char(&answer, 0);
    const char *body = strstr((const char *)answer.ptr, "\r\n\r\n");
    if (sscanf((const char *)answer.ptr, "HTTP/1.1 %d", &status) == 1 && body != NULL) {
        buf_add_str(out, body + 4);
    }
    buf_free(&answer);
    return status;
}

/* Sends one request and prints the answer's body. Returns the HTTP status, or 0. */
static int ask(const char *data, struct bytes request, FILE *out)
{
    struct buf body = {0};
    int status = operator_ask(data, request, &body);
    if (status != 0) {
        (void)fprintf(out, "%.*s\n", (int)body.len, (const char *)body.ptr);
    }
    buf_free(&body);
    return status;
}

const char *operator_option(int *argc, char **argv, const char *name)
{
    for (int i = 0; i + 1 < *argc; i++) {
        if (strcmp(argv[i], name) == 0) {
            const char *value = argv[i + 1];
            memmove(argv + i, argv + i + 2, (size_t)(*argc - i - 2) * sizeof *argv);
            *argc -= 2;
            return value;
        }
    }
    return NULL;
}

static bool take_switch(int *argc, char **argv, const char *name)
{
    for (int i = 0; i < *argc; i++) {
        if (strcmp(argv[i], name) == 0) {
            memmove(argv + i, argv + i + 1, (size_t)(*argc - i - 1) * sizeof *argv);
            *argc -= 1;
            return true;
        }
    }
    return false;
}

const char *operator_data(int *argc, char **argv)
{
    const char *data = operator_option(argc, argv, "--data");
    const char *set = getenv("BELFRY_DATA");
    return data != NULL ? data : set != NULL ? set : "./belfry-data";
}

int operator_complain(const char *usage)
{
    (void)fprintf(stderr, "usage: %s\n", usage);
    return 2;
}

void operator_escape(struct buf *out, const char *text)
{
    for (; *text != 0; text++) {
        buf_printf(out, "%%%02X", (unsigned)(unsigned char)*text);
    }
}

int operator_admin(int argc, char **argv)
{
    const char *data = operator_data(&argc, argv);
    const char *role = take_switch(&argc, argv, "--revoke") ? "user" : "admin";
    if (argc != 1 || argv[0][0] == '-') {
        return operator_complain("belfry admin [--data DIR] USERNAME [--revoke]");
    }
    struct buf request = {0};
    size_t body = strlen("{\"role\":\"\"}") + strlen(role);
    buf_add_str(&request, "PATCH /v1/users/");
    operator_escape(&request, argv[0]);
    buf_printf(&request,
               " HTTP/1.1\r\nHost: node\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: "
               "%zu\r\n\r\n{\"role\":\"%s\"}",
               body, role);
    int status = ask(data, buf_bytes(&request), stdout);
    buf_free(&request);
    return status == 200 ? 0 : 1;
}

int operator_status(int argc, char **argv)
{
    const char *data = operator_data(&argc, argv);
    if (argc != 0) {
        return operator_complain("belfry status [--data DIR]");
    }
    int status =
        ask(data, BYTES_LIT("GET /readyz?verbose HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"), stdout);
    return status == 200 ? 0 : 1;
}

int operator_nodes(int argc, char **argv)
{
    const char *data = operator_data(&argc, argv), *form = operator_option(&argc, argv, "-o");
    bool json = form != NULL && strcmp(form, "json") == 0;
    if (argc != 0 || (form != NULL && !json && strcmp(form, "table") != 0)) {
        return operator_complain("belfry nodes [--data DIR] [-o table|json]");
    }
    struct buf request = {0};
    buf_printf(&request, "GET /v1/cluster%s HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n",
               json ? "" : "?format=table");
    int status = ask(data, buf_bytes(&request), stdout);
    buf_free(&request);
    return status == 200 ? 0 : 1;
}

/* One request about a node, by its id. */
static int tell(const char *data, const char *method, const char *id, const char *rest, int expected)
{
    struct buf request = {0};
    if (strspn(id, "0123456789abcdef-") != strlen(id)) {
        return operator_complain("the id of a node, as belfry nodes shows it");
    }
    buf_printf(&request,
               "%s /v1/cluster/nodes/%s%s HTTP/1.1\r\nHost: node\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
               method, id, rest);
    int status = ask(data, buf_bytes(&request), stdout);
    buf_free(&request);
    return status == expected ? 0 : 1;
}

int operator_drain(int argc, char **argv)
{
    const char *data = operator_data(&argc, argv);
    bool off = take_switch(&argc, argv, "--off");
    if (argc != 1 || argv[0][0] == '-') {
        return operator_complain(
            "belfry drain [--data DIR] NODE-ID [--off]\n  it hands its leaderships over, and gets none");
    }
    return tell(data, off ? "DELETE" : "POST", argv[0], "/drain", 202);
}

int operator_remove(int argc, char **argv)
{
    const char *data = operator_data(&argc, argv);
    if (argc != 1 || argv[0][0] == '-') {
        return operator_complain(
            "belfry remove [--data DIR] NODE-ID\n  for good: it is never taken in again under this id");
    }
    return tell(data, "DELETE", argv[0], "", 204);
}

int operator_verify(int argc, char **argv)
{
    const char *key = operator_option(&argc, argv, "--key-file"), *data = operator_data(&argc, argv);
    if (argc == 0 && key == NULL) {
        return repair_verify(data);
    }
    return argc == 1 && key != NULL && argv[0][0] != '-'
               ? archive_verify(argv[0], key)
               : operator_complain("belfry verify [--data DIR]\n"
                                   "       belfry verify FILE --key-file KEY");
}

int operator_backup(int argc, char **argv)
{
    const char *key = operator_option(&argc, argv, "--key-file"), *data = operator_data(&argc, argv);
    return argc == 1 && key != NULL && argv[0][0] != '-'
               ? archive_backup(data, argv[0], key)
               : operator_complain("belfry backup FILE --key-file KEY [--data DIR]");
}

int operator_restore(int argc, char **argv)
{
    const char *key = operator_option(&argc, argv, "--key-file"), *data = operator_data(&argc, argv);
    return argc == 1 && key != NULL && argv[0][0] != '-'
               ? archive_restore(argv[0], key, data)
               : operator_complain("belfry restore FILE --key-file KEY [--data DIR]");
}

int operator_secret(int argc, char **argv)
{
    if (argc != 1 || argv[0][0] == '-') {
        return operator_complain("belfry secret FILE\n  writes a new random key; keep it where the backups are not");
    }
    enum err err = key_file_create(argv[0]);
    if (err != OK) {
        (void)fprintf(stderr, "belfry: %s %s\n", argv[0], err == ERR_CONFLICT ? "exists" : "cannot be written");
    }
    return err == OK ? 0 : 1;
}

int operator_recover(int argc, char **argv)
{
    const char *data = operator_data(&argc, argv);
    bool accepted = take_switch(&argc, argv, "--accept-loss");
    if (argc != 0 || !accepted) {
        return operator_complain(
            "belfry recover [--data DIR] --accept-loss\n"
            "  what is damaged is given up, what is whole is kept; restoring a backup may keep more");
    }
    return repair_recover(data);
}
