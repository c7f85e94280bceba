#include "node/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/base/json_text.h"
#include "node/base/when.h"

enum { FLUSH_BYTES = 32 * 1024, ROTATE_BYTES = 64 * 1024 * 1024, ROTATE_KEEP = 5 };

struct log {
    pthread_mutex_t mutex;
    struct buf pending;
    char *path; /* NULL: stderr */
    int fd;
    int64_t written; /* bytes in the present file */
    enum log_level level;
    struct clock *clock;
    char node[64];
};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

bool log_level_parse(const char *name, enum log_level *out)
{
    for (unsigned i = 0; i < ARRAY_LEN(level_names); i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

static bool open_file(struct log *log)
{
    log->fd = open(log->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    struct stat st;
    log->written = log->fd >= 0 && fstat(log->fd, &st) == 0 ? st.st_size : 0;
    return log->fd >= 0;
}

struct log *log_new(const char *path, enum log_level level, struct clock *clock)
{
    struct log *log = mem_zalloc(sizeof *log);
    CHECK(pthread_mutex_init(&log->mutex, NULL) == 0);
    log->level = level;
    log->clock = clock;
    log->fd = STDERR_FILENO;
    if (path != NULL) {
        log->path = mem_copy(path, strlen(path) + 1);
        if (!open_file(log)) {
            log_free(log);
            return NULL;
        }
    }
    return log;
}

void log_set_node(struct log *log, const char *node)
{
    (void)snprintf(log->node, sizeof log->node, "%s", node);
}

static void rotate(struct log *log)
{
    char from[4096], to[4096];
    for (int i = ROTATE_KEEP - 1; i >= 1; i--) {
        (void)snprintf(from, sizeof from, "%s.%d", log->path, i);
        (void)snprintf(to, sizeof to, "%s.%d", log->path, i + 1);
        (void)rename(from, to);
    }
    (void)snprintf(to, sizeof to, "%s.1", log->path);
    (void)rename(log->path, to);
    int old = log->fd;
    if (open_file(log)) {
        (void)close(old);
    } else {
        log->fd = old; /* keep writing to the renamed file rather than losing lines */
        log->written = 0;
    }
}

static void flush_locked(struct log *log)
{
    size_t at = 0;
    while (at < log->pending.len) {
        ssize_t n = write(log->fd, log->pending.ptr + at, log->pending.len - at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break; /* a log that cannot be written must not stop the node */
        }
        at += (size_t)n;
    }
    log->written += (int64_t)at;
    log->pending.len = 0;
    if (log->path != NULL && log->written >= ROTATE_BYTES) {
        rotate(log);
    }
}

void log_flush(struct log *log)
{
    CHECK(pthread_mutex_lock(&log->mutex) == 0);
    if (log->pending.len > 0) {
        flush_locked(log);
    }
    CHECK(pthread_mutex_unlock(&log->mutex) == 0);
}

void log_free(struct log *log)
{
    if (log == NULL) {
        return;
    }
    log_flush(log);
    if (log->path != NULL && log->fd >= 0) {
        (void)close(log->fd);
    }
    free(log->path);
    buf_free(&log->pending);
    (void)pthread_mutex_destroy(&log->mutex);
    free(log);
}

bool log_wants(const struct log *log, enum log_level level)
{
    return level >= log->level;
}

/* A thread's line buffer is small and stays for the thread's life; a pthread key frees it. */
static pthread_key_t line_key;
static pthread_once_t line_once = PTHREAD_ONCE_INIT;

static void line_free(void *ptr)
{
    struct buf *buf = ptr;
    buf_free(buf);
    free(buf);
}

static void line_key_make(void)
{
    CHECK(pthread_key_create(&line_key, line_free) == 0);
}

static struct buf *line_buf(void)
{
    CHECK(pthread_once(&line_once, line_key_make) == 0);
    struct buf *buf = pthread_getspecific(line_key);
    if (buf == NULL) {
        buf = mem_zalloc(sizeof *buf);
        CHECK(pthread_setspecific(line_key, buf) == 0);
    }
    buf->len = 0;
    return buf;
}

struct log_line log_begin(struct log *log, enum log_level level, const char *msg)
{
    struct log_line line = {log, line_buf(), level};
    char ts[WHEN_TEXT_BYTES];
    when_format(clock_wall_ms(log->clock), ts);
    buf_add_lit(line.buf, "{\"ts\":\"");
    buf_add(line.buf, ts, sizeof ts);
    buf_add_lit(line.buf, "\",\"level\":\"");
    buf_add_str(line.buf, level_names[level]);
    buf_add_lit(line.buf, "\",\"node\":\"");
    buf_add_str(line.buf, log->node);
    buf_add_lit(line.buf, "\",\"msg\":\"");
    buf_add_str(line.buf, msg);
    buf_add_char(line.buf, '"');
    return line;
}

static void add_name(struct log_line *line, const char *name)
{
    buf_add_lit(line->buf, ",\"");
    buf_add_str(line->buf, name);
    buf_add_lit(line->buf, "\":");
}

void log_str(struct log_line *line, const char *name, struct bytes value)
{
    add_name(line, name);
    json_text_add_safe(line->buf, value);
}

void log_word(struct log_line *line, const char *name, struct bytes value)
{
    add_name(line, name);
    buf_add_char(line->buf, '"');
    buf_add_bytes(line->buf, value);
    buf_add_char(line->buf, '"');
}

void log_int(struct log_line *line, const char *name, int64_t value)
{
    add_name(line, name);
    buf_add_i64(line->buf, value);
}

void log_ms(struct log_line *line, const char *name, int64_t ns)
{
    int64_t us = ns / 1000;
    char decimals[4] = {'.', (char)('0' + us % 1000 / 100), (char)('0' + us % 100 / 10), (char)('0' + us % 10)};
    log_int(line, name, us / 1000);
    buf_add(line->buf, decimals, sizeof decimals);
}

void log_end(struct log_line *line)
{
    struct log *log = line->log;
    if (line->level < log->level) {
        return;
    }
    buf_add_lit(line->buf, "}\n");
    CHECK(pthread_mutex_lock(&log->mutex) == 0);
    buf_add_bytes(&log->pending, buf_bytes(line->buf));
    if (line->level >= LOG_WARN || log->pending.len >= FLUSH_BYTES) {
        flush_locked(log);
    }
    CHECK(pthread_mutex_unlock(&log->mutex) == 0);
}

void log_text(struct log *log, enum log_level level, const char *msg, const char *fmt, ...)
{
    if (!log_wants(log, level)) {
        return;
    }
    char text[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    struct log_line line = log_begin(log, level, msg);
    log_str(&line, "detail", bytes_str(text));
    log_end(&line);
}
