/* The node's own log: JSON lines on stderr or a rotated file. Any thread may write.
 * Lines below error level are buffered and leave with the next log_flush; never put tokens,
 * passwords or bodies into a line. */
#ifndef BELFRY_BASE_LOG_H
#define BELFRY_BASE_LOG_H

#include "node/base/bytes.h"
#include "node/base/clock.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

struct log; /* opaque */

/* path NULL: stderr. A file is rotated to .1 … .5 at 64 MiB. NULL when it cannot be opened. */
struct log *log_new(const char *path, enum log_level level, struct clock *clock);
void log_free(struct log *log);
/* The node's name for the `node` member; copied. */
void log_set_node(struct log *log, const char *node);
void log_flush(struct log *log);
bool log_wants(const struct log *log, enum log_level level);
bool log_level_parse(const char *name, enum log_level *out) MUST_USE;

/* One line: begin, members, end. The buffer is the thread's own. */
struct log_line {
    struct log *log;
    struct buf *buf;
    enum log_level level;
};
struct log_line log_begin(struct log *log, enum log_level level, const char *msg);
void log_str(struct log_line *line, const char *name, struct bytes value);
/* Text of our own that needs no escaping: names, ids. */
void log_word(struct log_line *line, const char *name, struct bytes value);
void log_int(struct log_line *line, const char *name, int64_t value);
void log_ms(struct log_line *line, const char *name, int64_t ns); /* milliseconds, 3 decimals */
void log_end(struct log_line *line);

/* A line with one free text member `detail`. */
void log_text(struct log *log, enum log_level level, const char *msg, const char *fmt, ...) PRINTF_LIKE(4, 5);

#endif
