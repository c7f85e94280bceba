#include "node/codec/json_read.h"

#include "node/base/text.h"
#include "node/limits.h"

void json_read_begin(struct json_reader *reader, struct bytes text)
{
    static const uint8_t nothing = 0;
    const uint8_t *start = text.ptr != NULL ? text.ptr : &nothing;
    *reader = (struct json_reader){.start = start, .at = start, .end = start + text.len};
}

void json_read_close(struct json_reader *reader)
{
    buf_free(&reader->name);
    buf_free(&reader->text);
}

void json_read_refuse(struct json_reader *reader, const char *why)
{
    reader->why = reader->why == NULL ? why : reader->why;
}

void json_read_where(const struct json_reader *reader, size_t *out_line, size_t *out_column)
{
    *out_line = 1;
    *out_column = 1;
    for (const uint8_t *c = reader->start; c < reader->at; c++) {
        *out_column = *c == '\n' ? 1 : *out_column + ((*c & 0xc0) != 0x80);
        *out_line += *c == '\n';
    }
}

/* The next byte that is not white space, without taking it; 0 at the end (where NUL itself stands nothing fits either).
 */
static uint8_t peek(struct json_reader *reader)
{
    while (reader->at < reader->end &&
           (*reader->at == ' ' || *reader->at == '\n' || *reader->at == '\t' || *reader->at == '\r')) {
        reader->at++;
    }
    return reader->why == NULL && reader->at < reader->end ? *reader->at : 0;
}

static bool take(struct json_reader *reader, uint8_t c)
{
    bool there = peek(reader) == c;
    reader->at += there;
    return there;
}

static void unexpected(struct json_reader *reader)
{
    json_read_refuse(reader, reader->at < reader->end ? "unexpected character" : "the text ends too early");
}

/* ---- texts ---- */

/* Length of the longest prefix without quote, backslash and control characters; is it ASCII alone? Eight bytes at a
 * time (Hacker's Delight, 6-1: a zero byte of x shows in (x - 0x01…) & ~x & 0x80…). */
static size_t plain_prefix(struct bytes text, bool *out_ascii)
{
    uint64_t all = 0;
    const uint64_t ones = 0x0101010101010101ULL, highs = 0x8080808080808080ULL;
    size_t at = 0;
    while (text.len - at >= 8) {
        uint64_t word;
        memcpy(&word, text.ptr + at, 8);
        uint64_t quote = word ^ ones * '"', slash = word ^ ones * '\\';
        uint64_t found = ((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((word - ones * 0x20) & ~word);
        if ((found & highs) != 0) {
            break;
        }
        all |= word;
        at += 8;
    }
    while (at < text.len && text.ptr[at] >= 0x20 && text.ptr[at] != '"' && text.ptr[at] != '\\') {
        all |= text.ptr[at++];
    }
    *out_ascii = (all & highs) == 0;
    return at;
}

/* The four digits of \u; -1: they are none. */
static int32_t hex4(struct json_reader *reader)
{
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        int c = reader->at < reader->end ? *reader->at : 0, low = c | 0x20;
        int digit = c >= '0' && c <= '9' ? c - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
        if (digit < 0) {
            json_read_refuse(reader, "a bad escape");
            return -1;
        }
        value = value << 4 | digit;
        reader->at++;
    }
    return value;
}

static void add_utf8(struct buf *out, int32_t code)
{
    uint32_t c = (uint32_t)code;
    uint8_t four[4] = {(uint8_t)(0xf0 | c >> 18), (uint8_t)(0x80 | (c >> 12 & 63)), (uint8_t)(0x80 | (c >> 6 & 63)),
                       (uint8_t)(0x80 | (c & 63))};
    if (c < 0x80) {
        four[3] = (uint8_t)c;
        buf_add(out, four + 3, 1);
    } else if (c < 0x800) {
        four[2] = (uint8_t)(0xc0 | c >> 6);
        buf_add(out, four + 2, 2);
    } else if (c < 0x10000) {
        four[1] = (uint8_t)(0xe0 | c >> 12);
        buf_add(out, four + 1, 3);
    } else {
        buf_add(out, four, 4);
    }
}

/* Behind \u. Half a surrogate pair is no text. */
static void read_code(struct json_reader *reader, struct buf *out)
{
    int32_t code = hex4(reader);
    if (code >= 0xd800 && code < 0xdc00 && reader->end - reader->at >= 2 && reader->at[0] == '\\' &&
        reader->at[1] == 'u') {
        reader->at += 2;
        int32_t low = hex4(reader);
        code = low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00) : code;
    }
    if (code >= 0xd800 && code < 0xe000) {
        json_read_refuse(reader, "half a surrogate pair");
    } else if (code >= 0) {
        add_utf8(out, code);
    }
}

/* Behind a backslash. */
static void read_escape(struct json_reader *reader, struct buf *out)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    uint8_t c = reader->at < reader->end ? *reader->at++ : 0;
    const char *name = c == 0 ? NULL : strchr(names, c);
    if (c == 'u') {
        read_code(reader, out);
    } else if (name != NULL) {
        buf_add_char(out, values[name - names]);
    } else {
        json_read_refuse(reader, "a bad escape");
    }
}

/* Characters up to the next quote or escape. */
static struct bytes read_run(struct json_reader *reader)
{
    struct bytes left = bytes_of(reader->at, (size_t)(reader->end - reader->at));
    bool ascii;
    struct bytes run = bytes_of(left.ptr, plain_prefix(left, &ascii));
    size_t valid = ascii ? run.len : text_utf8_prefix(run);
    reader->at += valid;
    if (valid < run.len) {
        json_read_refuse(reader, "bytes that are not UTF-8");
    } else if (run.len == left.len) {
        json_read_refuse(reader, "a text without an end");
    } else if (*reader->at < 0x20) {
        json_read_refuse(reader, "a control character in a text");
    }
    return run;
}

/* Behind the opening quote. */
static struct bytes read_text(struct json_reader *reader, struct buf *unescaped)
{
    struct bytes run = read_run(reader);
    if (reader->why == NULL && *reader->at == '"') {
        reader->at++;
        return run;
    }
    unescaped->len = 0;
    buf_add_bytes(unescaped, run);
    while (reader->why == NULL && *reader->at == '\\') {
        reader->at++;
        read_escape(reader, unescaped);
        if (reader->why == NULL) {
            buf_add_bytes(unescaped, read_run(reader));
        }
    }
    reader->at += reader->why == NULL;
    return reader->why == NULL ? buf_bytes(unescaped) : BYTES_NONE;
}

/* ---- numbers and words ---- */

static size_t digits(struct json_reader *reader)
{
    const uint8_t *from = reader->at;
    while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9') {
        reader->at++;
    }
    return (size_t)(reader->at - from);
}

static bool is_next(const struct json_reader *reader, char lower)
{
    return reader->at < reader->end && (*reader->at | 0x20) == lower;
}

/* A fraction and an exponent; true: there was one of them. */
static bool read_rest_of_real(struct json_reader *reader)
{
    bool real = false, good = true;
    if (reader->at < reader->end && *reader->at == '.') {
        reader->at++;
        good = digits(reader) > 0;
        real = true;
    }
    if (good && is_next(reader, 'e')) {
        reader->at++;
        reader->at += reader->at < reader->end && (*reader->at == '+' || *reader->at == '-');
        good = digits(reader) > 0;
        real = true;
    }
    if (!good) {
        unexpected(reader);
    }
    return real;
}

static struct read_value read_number(struct json_reader *reader)
{
    struct read_value value = {.type = READ_INT};
    bool minus = *reader->at == '-';
    reader->at += minus;
    struct bytes whole = bytes_of(reader->at, 0);
    whole.len = digits(reader);
    if (whole.len == 0 || (whole.len > 1 && whole.ptr[0] == '0')) {
        unexpected(reader);
        return value;
    }
    if (read_rest_of_real(reader)) {
        value.type = READ_REAL;
        return value;
    }
    uint64_t number = 0;
    if (!text_parse_u64(whole, &number) || number > (uint64_t)INT64_MAX + minus) {
        json_read_refuse(reader, "the integer is too large");
    }
    value.number = (int64_t)(minus ? 0 - number : number);
    return value;
}

static struct read_value read_word(struct json_reader *reader, struct bytes word, struct read_value value)
{
    struct bytes left = bytes_of(reader->at, (size_t)(reader->end - reader->at));
    if (bytes_start_with(left, word)) {
        reader->at += word.len;
    } else {
        unexpected(reader);
    }
    return value;
}

/* ---- values ---- */

static struct read_value begin(struct json_reader *reader, enum read_type type)
{
    reader->at++;
    if (++reader->depth > LIMIT_JSON_DEPTH) {
        json_read_refuse(reader, "nested too deeply");
    }
    return (struct read_value){.type = type};
}

struct read_value json_read_value(struct json_reader *reader)
{
    uint8_t c = peek(reader);
    switch (c) {
    case '"': reader->at++; return (struct read_value){.type = READ_TEXT, .text = read_text(reader, &reader->text)};
    case '{': return begin(reader, READ_OBJECT);
    case '[': return begin(reader, READ_ARRAY);
    case 't': return read_word(reader, BYTES_LIT("true"), (struct read_value){.type = READ_BOOL, .number = 1});
    case 'f': return read_word(reader, BYTES_LIT("false"), (struct read_value){.type = READ_BOOL});
    case 'n': return read_word(reader, BYTES_LIT("null"), (struct read_value){.type = READ_NULL});
    default: break;
    }
    if (c == '-' || (c >= '0' && c <= '9')) {
        return read_number(reader);
    }
    unexpected(reader);
    return (struct read_value){.type = READ_NULL};
}

/* To the next of what is between the brackets; false: the closing one was there, or something is wrong. */
static bool go_on(struct json_reader *reader, bool *first, uint8_t closing)
{
    bool was_first = *first;
    *first = false;
    if (take(reader, closing)) {
        reader->depth--;
        return false;
    }
    if (reader->why == NULL && !was_first && !take(reader, ',')) {
        unexpected(reader);
    }
    return reader->why == NULL;
}

bool json_read_item(struct json_reader *reader, bool *first)
{
    return go_on(reader, first, ']');
}

bool json_read_member(struct json_reader *reader, bool *first, struct bytes *out_name)
{
    *out_name = BYTES_NONE;
    if (!go_on(reader, first, '}')) {
        return false;
    }
    if (!take(reader, '"')) {
        unexpected(reader);
        return false;
    }
    *out_name = read_text(reader, &reader->name);
    if (reader->why == NULL && !take(reader, ':')) {
        unexpected(reader);
    }
    return reader->why == NULL;
}

/* Calls itself as deep as values may be nested. */
void json_read_skip(struct json_reader *reader, struct read_value value)
{
    struct bytes name;
    bool first = true;
    while ((value.type == READ_ARRAY && json_read_item(reader, &first)) ||
           (value.type == READ_OBJECT && json_read_member(reader, &first, &name))) {
        json_read_skip(reader, json_read_value(reader));
    }
}

void json_read_end(struct json_reader *reader)
{
    (void)peek(reader);
    if (reader->at < reader->end) {
        json_read_refuse(reader, "text behind the end");
    }
}
