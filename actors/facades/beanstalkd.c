/* Lines to commands, and what a connection knows. */
#include "actors/facades/beanstalkd_script.h"

#include <stdlib.h>

enum { LINE_BYTES = 224 /* with its end, as in beanstalkd */ };

/* ---- the connection ---- */

static const struct tube_name usual = {7, "default"};

/* Arrays grow by doubling, and shrink when three quarters of them are empty. */
static void *fit(void *list, size_t len, size_t size, size_t *cap)
{
    size_t want = len > *cap ? 2 * *cap + (*cap == 0) : *cap > 8 && len < *cap / 4 ? *cap / 2 : *cap;
    bool same = want == *cap;
    *cap = want;
    return same ? list : mem_realloc(list, want * size);
}

static void watch(struct tube_session *session, const struct tube_name *name)
{
    session->watched = fit(session->watched, ++session->watched_len, sizeof *session->watched, &session->watched_cap);
    session->watched[session->watched_len - 1] = *name;
}

void tube_session_init(struct tube_session *session)
{
    *session = (struct tube_session){.used = usual};
    watch(session, &usual);
}

void tube_session_close(struct tube_session *session)
{
    free(session->watched);
    free(session->held);
    *session = (struct tube_session){.watched = NULL};
}

struct held_job *tube_held(struct tube_session *session, uint64_t id, int64_t now_ms)
{
    for (size_t i = 0; i < session->held_len; i++) {
        if (session->held[i].id == id) {
            if (session->held[i].until_ms > now_ms) {
                return &session->held[i];
            }
            tube_unhold(session, &session->held[i]); /* its time is over: it is everybody's again */
            return NULL;
        }
    }
    return NULL;
}

void tube_hold(struct tube_session *session, const struct held_job *job)
{
    for (size_t i = 0; i < session->held_len; i++) {
        if (session->held[i].id == job->id) {
            session->held[i] = *job; /* its time was over, and it has come again */
            return;
        }
    }
    session->held = fit(session->held, ++session->held_len, sizeof *session->held, &session->held_cap);
    session->held[session->held_len - 1] = *job;
}

void tube_unhold(struct tube_session *session, struct held_job *job)
{
    *job = session->held[--session->held_len];
    session->held = fit(session->held, session->held_len, sizeof *session->held, &session->held_cap);
}

int64_t tube_first_deadline(struct tube_session *session, int64_t now_ms)
{
    int64_t first = INT64_MAX;
    for (size_t i = session->held_len; i > 0; i--) {
        int64_t until_ms = session->held[i - 1].until_ms;
        if (until_ms <= now_ms) {
            tube_unhold(session, &session->held[i - 1]);
        } else {
            first = until_ms < first ? until_ms : first;
        }
    }
    return first;
}

/* ---- arguments ---- */

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* Digits behind any number of spaces. */
static bool take_number(struct bytes *rest, uint64_t most, uint64_t *out)
{
    size_t i = 0;
    uint64_t value = 0;
    while (i < rest->len && rest->ptr[i] == ' ') {
        i++;
    }
    size_t begin = i;
    for (; i < rest->len && is_digit(rest->ptr[i]); i++) {
        uint64_t digit = (uint64_t)(rest->ptr[i] - '0');
        if (value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *rest = bytes_of(rest->ptr + i, rest->len - i);
    *out = value;
    return i > begin && value <= most;
}

/* As strtoul takes it: what follows does not matter, a sign is allowed. False: there is none, or it is too long. */
static bool take_loose(struct bytes *rest, uint64_t *out, bool *out_negative)
{
    size_t i = 0;
    while (i < rest->len && (rest->ptr[i] == ' ' || (rest->ptr[i] >= '\t' && rest->ptr[i] <= '\r'))) {
        i++;
    }
    bool sign = i < rest->len && (rest->ptr[i] == '-' || rest->ptr[i] == '+');
    *out_negative = sign && rest->ptr[i] == '-';
    i += sign;
    struct bytes digits = bytes_of(rest->ptr + i, rest->len - i);
    return digits.len > 0 && is_digit(digits.ptr[0]) && take_number(&digits, UINT64_MAX, out);
}

/* Anything that is no number is 0; less than 0 is for ever. */
static bool take_timeout(struct bytes *rest, struct tube_command *out)
{
    uint64_t value = 0;
    bool negative = false, number = take_loose(rest, &value, &negative);
    bool digits = number || (rest->len > 0 && is_digit(rest->ptr[0]));
    out->timeout_s = number ? (uint32_t)value : 0;
    out->verb = number && negative && value > 0 ? TUBE_RESERVE : TUBE_RESERVE_TIMED;
    return (number || !digits) && value <= INT64_MAX;
}

static bool take_bound(struct bytes *rest, struct tube_command *out)
{
    uint64_t value = 0;
    bool negative = false, number = take_loose(rest, &value, &negative);
    out->bound = (negative && value > 0) || value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
    return number;
}

static bool take_u32(struct bytes *rest, uint32_t most, uint32_t *out)
{
    uint64_t value = 0;
    bool good = take_number(rest, most, &value);
    *out = (uint32_t)value;
    return good;
}

/* The rest of the line, or, if something follows, up to the next space. */
static bool take_name(struct bytes *rest, bool last, struct bytes *out)
{
    size_t len = 0;
    while (len < rest->len && (last || rest->ptr[len] != ' ')) {
        len++;
    }
    *out = bytes_of(rest->ptr, len);
    *rest = bytes_of(rest->ptr + len, rest->len - len);
    return topic_name_is_good(*out);
}

/* ---- commands ---- */

enum { ARGS_MAX = 5 };
enum arg { ARG_END, ARG_ID, ARG_PRIORITY, ARG_DELAY, ARG_TTR, ARG_SIZE, ARG_BOUND, ARG_TIMEOUT, ARG_NAME, ARG_NEVER };
static const struct syntax {
    const char *name; /* what the line begins with */
    enum tube_verb verb;
    uint8_t args[ARGS_MAX];
    bool loose; /* what follows the last argument does not matter, as in beanstalkd */
} syntaxes[] = {
    {"put ", TUBE_PUT, {ARG_PRIORITY, ARG_DELAY, ARG_TTR, ARG_SIZE}, false},
    {"peek ", TUBE_PEEK, {ARG_ID}, false},
    {"peek-ready", TUBE_PEEK_READY, {0}, false},
    {"peek-delayed", TUBE_PEEK_DELAYED, {0}, false},
    {"peek-buried", TUBE_PEEK_BURIED, {0}, false},
    {"reserve-with-timeout ", TUBE_RESERVE_TIMED, {ARG_TIMEOUT}, true},
    {"reserve-job ", TUBE_RESERVE_JOB, {ARG_ID}, false},
    {"reserve", TUBE_RESERVE, {0}, false},
    {"delete ", TUBE_DELETE, {ARG_ID}, false},
    {"release ", TUBE_RELEASE, {ARG_ID, ARG_PRIORITY, ARG_DELAY}, false},
    {"bury ", TUBE_BURY, {ARG_ID, ARG_PRIORITY}, false},
    {"kick ", TUBE_KICK, {ARG_BOUND}, true},
    {"kick-job ", TUBE_KICK_JOB, {ARG_ID}, false},
    {"touch ", TUBE_TOUCH, {ARG_ID}, false},
    {"stats-job ", TUBE_STATS_JOB, {ARG_ID}, false},
    {"stats-tube ", TUBE_STATS_TUBE, {ARG_NAME}, false},
    {"stats", TUBE_STATS, {0}, false},
    {"use ", TUBE_USE, {ARG_NAME}, false},
    {"watch ", TUBE_WATCH, {ARG_NAME}, false},
    {"ignore ", TUBE_IGNORE, {ARG_NAME}, false},
    {"list-tubes-watched", TUBE_LIST_WATCHED, {0}, false},
    {"list-tube-used", TUBE_LIST_USED, {0}, false},
    {"list-tubes", TUBE_LIST, {0}, false},
    {"quit", TUBE_QUIT, {0}, true},
    {"pause-tube ", TUBE_PAUSE, {ARG_NAME, ARG_DELAY}, false},
    {"pause-tube", TUBE_PAUSE, {ARG_NEVER}, false},
};

const char *const tube_verb_names[TUBE_VERBS] = {"put",
                                                 "use",
                                                 "reserve",
                                                 "reserve-with-timeout",
                                                 "reserve-job",
                                                 "delete",
                                                 "release",
                                                 "bury",
                                                 "touch",
                                                 "watch",
                                                 "ignore",
                                                 "peek",
                                                 "peek-ready",
                                                 "peek-delayed",
                                                 "peek-buried",
                                                 "kick",
                                                 "kick-job",
                                                 "stats",
                                                 "stats-job",
                                                 "stats-tube",
                                                 "list-tubes",
                                                 "list-tube-used",
                                                 "list-tubes-watched",
                                                 "pause-tube",
                                                 "quit"};

static bool take(enum arg arg, bool last, struct bytes *rest, struct tube_command *out, uint32_t *size)
{
    switch (arg) {
    case ARG_ID: return take_number(rest, UINT64_MAX, &out->id);
    case ARG_PRIORITY: return take_u32(rest, UINT32_MAX, &out->priority);
    case ARG_DELAY: return take_u32(rest, UINT32_MAX, &out->delay_s);
    case ARG_TTR: return take_u32(rest, UINT32_MAX, &out->ttr_s);
    case ARG_SIZE: return take_u32(rest, UINT32_MAX, size);
    case ARG_BOUND: return take_bound(rest, out);
    case ARG_TIMEOUT: return take_timeout(rest, out);
    case ARG_NAME: return take_name(rest, last, &out->tube);
    case ARG_NEVER: return false;
    case ARG_END: break;
    }
    return true;
}

static const struct syntax *syntax_of(struct bytes line)
{
    for (size_t i = 0; i < ARRAY_LEN(syntaxes); i++) {
        if (bytes_start_with(line, bytes_str(syntaxes[i].name))) {
            return &syntaxes[i];
        }
    }
    return NULL;
}

static enum tube_parse refused(struct tube_session *session, const char *answer)
{
    session->refusal = answer;
    return TUBE_REFUSED;
}

/* A put: its body follows the line. */
static enum tube_parse take_body(struct tube_session *session, struct bytes in, size_t line, uint32_t size,
                                 struct tube_command *out, size_t *used)
{
    if (in.len - line < (size_t)size + 2) {
        *used = 0;
        return TUBE_MORE;
    }
    out->body = bytes_of(in.ptr + line, size);
    *used = line + size + 2;
    return memcmp(in.ptr + line + size, "\r\n", 2) == 0 ? TUBE_COMMAND : refused(session, "EXPECTED_CRLF\r\n");
}

static enum tube_parse parse_line(struct tube_session *session, struct bytes in, size_t len, struct tube_command *out,
                                  size_t *used)
{
    struct bytes line = bytes_of(in.ptr, len);
    const struct syntax *syntax = syntax_of(line);
    uint32_t size = 0;
    *used = len + 2;
    if (len > 0 && memchr(line.ptr, 0, len) != NULL) {
        return refused(session, "BAD_FORMAT\r\n");
    }
    if (syntax == NULL) {
        return refused(session, "UNKNOWN_COMMAND\r\n");
    }
    *out = (struct tube_command){.verb = syntax->verb};
    struct bytes rest = bytes_of(line.ptr + strlen(syntax->name), len - strlen(syntax->name));
    for (unsigned i = 0; i < ARGS_MAX && syntax->args[i] != ARG_END; i++) {
        bool last = i + 1 == ARGS_MAX || syntax->args[i + 1] == ARG_END;
        if (!take((enum arg)syntax->args[i], last, &rest, out, &size)) {
            return refused(session, "BAD_FORMAT\r\n");
        }
    }
    if (syntax->verb == TUBE_PUT && size > LIMIT_MESSAGE_BYTES) {
        session->skip = (uint64_t)size + 2;
        session->refusal = "JOB_TOO_BIG\r\n";
        return TUBE_SKIP;
    }
    if (rest.len > 0 && !syntax->loose) {
        return refused(session, "BAD_FORMAT\r\n");
    }
    return syntax->verb == TUBE_PUT ? take_body(session, in, *used, size, out, used) : TUBE_COMMAND;
}

/* How long the line is, without its end; SIZE_MAX: it has none yet. */
static size_t line_len(struct bytes in)
{
    for (size_t i = 0; i + 1 < in.len;) {
        const uint8_t *end = memchr(in.ptr + i, '\r', in.len - 1 - i);
        if (end == NULL) {
            break;
        }
        if (end[1] == '\n') {
            return (size_t)(end - in.ptr);
        }
        i = (size_t)(end - in.ptr) + 1;
    }
    return SIZE_MAX;
}

/* What is left of a command that was refused. */
static enum tube_parse skip(struct tube_session *session, struct bytes in, size_t *used)
{
    if (session->skip_line) {
        size_t len = line_len(in);
        session->skip_line = len == SIZE_MAX;
        /* The last byte may be half of its end. */
        *used = len == SIZE_MAX ? in.len - (in.len > 0 && in.ptr[in.len - 1] == '\r') : len + 2;
        return len != SIZE_MAX ? TUBE_REFUSED : *used > 0 ? TUBE_SKIP : TUBE_MORE;
    }
    *used = session->skip < in.len ? (size_t)session->skip : in.len;
    session->skip -= *used;
    return session->skip == 0 ? TUBE_REFUSED : *used > 0 ? TUBE_SKIP : TUBE_MORE;
}

enum tube_parse tube_parse(struct tube_session *session, struct bytes in, struct tube_command *out, size_t *used)
{
    *used = 0;
    if (session->skip > 0 || session->skip_line) {
        return skip(session, in, used);
    }
    session->refusal = NULL;
    size_t len = line_len(bytes_of(in.ptr, in.len < LINE_BYTES ? in.len : LINE_BYTES));
    if (len != SIZE_MAX) {
        return parse_line(session, in, len, out, used);
    }
    if (in.len < LINE_BYTES) {
        return TUBE_MORE;
    }
    session->refusal = "BAD_FORMAT\r\n";
    session->skip_line = true;
    return skip(session, in, used);
}

/* ---- commands about the connection alone ---- */

static size_t watched_at(const struct tube_session *session, struct bytes name)
{
    size_t i = 0;
    while (i < session->watched_len && !bytes_eq(tube_text(&session->watched[i]), name)) {
        i++;
    }
    return i;
}

static struct tube_name name_of(struct bytes text)
{
    struct tube_name name = {.len = (uint8_t)text.len};
    memcpy(name.text, text.ptr, text.len);
    return name;
}

static void watching(const struct tube_session *session, struct buf *out)
{
    buf_add_lit(out, "WATCHING ");
    buf_add_u64(out, session->watched_len);
    buf_add_lit(out, "\r\n");
}

static void begin_watching(struct tube_session *session, struct bytes text, struct buf *out)
{
    struct tube_name name = name_of(text);
    bool is = watched_at(session, text) < session->watched_len;
    if (!is && session->watched_len >= LIMIT_WATCHES) {
        buf_add_lit(out, "OUT_OF_MEMORY\r\n");
        return;
    }
    if (!is) {
        watch(session, &name);
    }
    watching(session, out);
}

static void ignore(struct tube_session *session, struct bytes text, struct buf *out)
{
    size_t at = watched_at(session, text);
    if (at < session->watched_len && session->watched_len < 2) {
        buf_add_lit(out, "NOT_IGNORED\r\n");
        return;
    }
    if (at < session->watched_len) {
        session->watched[at] = session->watched[--session->watched_len];
        session->watched = fit(session->watched, session->watched_len, sizeof *session->watched, &session->watched_cap);
    }
    watching(session, out);
}

static void list_watched(const struct tube_session *session, struct buf *out)
{
    struct buf list = {0};
    buf_add_lit(&list, "---\n");
    for (size_t i = 0; i < session->watched_len; i++) {
        buf_add_lit(&list, "- ");
        buf_add_bytes(&list, tube_text(&session->watched[i]));
        buf_add_char(&list, '\n');
    }
    buf_printf(out, "OK %zu\r\n", list.len);
    buf_add_bytes(out, buf_bytes(&list));
    buf_add_lit(out, "\r\n");
    buf_free(&list);
}

static void using(const struct tube_session *session, struct buf *out)
{
    buf_add_lit(out, "USING ");
    buf_add_bytes(out, tube_text(&session->used));
    buf_add_lit(out, "\r\n");
}

bool tube_local(struct tube_session *session, const struct tube_command *command, struct buf *out)
{
    switch ((int)command->verb) {
    case TUBE_USE:
        session->used = name_of(command->tube);
        using(session, out);
        return true;
    case TUBE_LIST_USED: using(session, out); return true;
    case TUBE_WATCH: begin_watching(session, command->tube, out); return true;
    case TUBE_IGNORE: ignore(session, command->tube, out); return true;
    case TUBE_LIST_WATCHED: list_watched(session, out); return true;
    default: return false;
    }
}

/* ---- scripts ---- */

static const struct facade_route no_routes[] = {{{0}}};
const struct facade beanstalkd_facade = {.name = "beanstalkd", .plain = true, .routes = no_routes};

const char tube_group[] = "beanstalkd";

struct caller tube_caller(void)
{
    static const struct id account = {{0, 0, 0, 0, 0, 0, 0x80, 0, 0x80, 0, 'b', 'e', 'a', 'n', 's', 't'}};
    return (struct caller){.account = account, .role = ROLE_USER};
}

void tube_settings(struct script *s, struct bytes name, struct put_topic *out)
{
    struct topic topic = {0};
    struct buf packed = {0};
#define SET(member, value) FIELD_SET(topic_fields, &topic, struct topic, member, value)
    SET(name, name);
    SET(visibility_ms, LIMIT_VISIBILITY_USUAL_MS);
    SET(max_attempts, 0);
    SET(retention_ms, LIMIT_RETENTION_MS);
    SET(max_messages, LIMIT_TOPIC_MESSAGES);
    SET(overflow, OVERFLOW_REJECT);
    SET(dedup_window_ms, 0);
    SET(retain_acked, false);
    SET(partitions, 1);
    SET(owner, tube_caller().account);
#undef SET
    field_pack(&packed, topic_fields, &topic);
    FIELD_SET(put_topic_fields, out, struct put_topic, topic, arena_copy(s->arena, buf_bytes(&packed)));
    buf_free(&packed);
}

/* What may have been done all the same is an error of ours: a client that is told to try again would do it twice. */
const char *tube_failure(enum tube_verb verb, enum err err)
{
    bool full = err == ERR_OVERLOADED || err == ERR_DISK_FULL || err == ERR_TOPIC_FULL || err == ERR_LIMIT_REACHED ||
                err == ERR_READ_ONLY || err == ERR_TOO_LARGE;
    if (err == ERR_SHUTTING_DOWN && verb == TUBE_PUT) {
        return "DRAINING\r\n";
    }
    return full ? "OUT_OF_MEMORY\r\n" : "INTERNAL_ERROR\r\n";
}

#define TUBE_OP(title, table)                                                                     \
    {                                                                                             \
        .type = OP_SCRIPT, .name = title, .state_size = sizeof(struct tube_state), .steps = table \
    }

const struct op tube_return_op = TUBE_OP("return", tube_return_steps);

const struct op *tube_op(enum tube_verb verb)
{
    static const struct op ops[TUBE_VERBS] = {[TUBE_PUT] = TUBE_OP("put", tube_put_steps),
                                              [TUBE_RESERVE] = TUBE_OP("reserve", tube_reserve_steps),
                                              [TUBE_RESERVE_TIMED] = TUBE_OP("reserve", tube_reserve_steps),
                                              [TUBE_RESERVE_JOB] = TUBE_OP("reserve-job", tube_job_steps),
                                              [TUBE_DELETE] = TUBE_OP("delete", tube_settle_steps),
                                              [TUBE_RELEASE] = TUBE_OP("release", tube_settle_steps),
                                              [TUBE_BURY] = TUBE_OP("bury", tube_settle_steps),
                                              [TUBE_TOUCH] = TUBE_OP("touch", tube_settle_steps),
                                              [TUBE_PEEK] = TUBE_OP("peek", tube_peek_steps),
                                              [TUBE_PEEK_READY] = TUBE_OP("peek-ready", tube_peek_tube_steps),
                                              [TUBE_PEEK_DELAYED] = TUBE_OP("peek-delayed", tube_peek_tube_steps),
                                              [TUBE_PEEK_BURIED] = TUBE_OP("peek-buried", tube_peek_tube_steps),
                                              [TUBE_KICK] = TUBE_OP("kick", tube_kick_steps),
                                              [TUBE_KICK_JOB] = TUBE_OP("kick-job", tube_job_steps),
                                              [TUBE_STATS] = TUBE_OP("stats", tube_stats_steps),
                                              [TUBE_STATS_JOB] = TUBE_OP("stats-job", tube_stats_job_steps),
                                              [TUBE_STATS_TUBE] = TUBE_OP("stats-tube", tube_stats_tube_steps),
                                              [TUBE_LIST] = TUBE_OP("list-tubes", tube_list_steps),
                                              [TUBE_PAUSE] = TUBE_OP("pause-tube", tube_pause_steps)};
    return ops[verb].steps == NULL ? NULL : &ops[verb];
}
