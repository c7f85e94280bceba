#include "actors/reminders/zone.h"

#include <stdio.h>
#include <stdlib.h>

#include "actors/reminders/zone_rule.h"
#include "node/base/when.h"
#include "node/limits.h"

enum { FILE_BYTES_MAX = 64 * 1024, HEADER_BYTES = 44, TYPE_BYTES = 6, OFFSET_MAX = 26 * 3600 };

/* Everything points into the file. */
struct zone {
    uint8_t *file;
    size_t len;
    const uint8_t *times, *indexes, *types; /* 8 bytes, 1 byte, TYPE_BYTES each */
    struct bytes names;
    uint32_t changes, type_count;
    bool has_rule;
    struct zone_rule rule;
};

/* ---- reading the file ---- */

static uint32_t u32_at(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int64_t time_at(const struct zone *zone, uint32_t i)
{
    const uint8_t *p = zone->times + (size_t)i * 8;
    return (int64_t)((uint64_t)u32_at(p) << 32 | u32_at(p + 4));
}

/* Letters and what else IANA's names have; so no path leads out of the database. */
static bool is_name(struct bytes name)
{
    bool good = name.len > 0 && name.len <= LIMIT_ZONE_BYTES;
    uint8_t before = '/';
    for (size_t i = 0; good && i < name.len; i++) {
        uint8_t c = name.ptr[i], lower = c | 0x20;
        good = (lower >= 'a' && lower <= 'z') ||
               (before != '/' && ((c >= '0' && c <= '9') || c == '_' || c == '-' || c == '+' || c == '/'));
        before = c;
    }
    return good && before != '/';
}

/* Not zones of IANA's: what this machine is set to, a stand-in, and the trees that count leap seconds or repeat all. */
static bool is_special(struct bytes name)
{
    return bytes_is(name, "localtime") || bytes_is(name, "posixrules") || bytes_is(name, "Factory") ||
           bytes_start_with(name, BYTES_LIT("right/")) || bytes_start_with(name, BYTES_LIT("posix/"));
}

static bool read_file(struct zone *zone, struct bytes name)
{
    char path[sizeof "/usr/share/zoneinfo/" + LIMIT_ZONE_BYTES];
    snprintf(path, sizeof path, "/usr/share/zoneinfo/%.*s", (int)name.len, (const char *)name.ptr);
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return false;
    }
    zone->file = mem_alloc(FILE_BYTES_MAX);
    zone->len = fread(zone->file, 1, FILE_BYTES_MAX, f);
    bool good = ferror(f) == 0 && zone->len < FILE_BYTES_MAX;
    fclose(f);
    return good;
}

/* A header's six counts, each bounded by the file's size. */
struct counts {
    uint32_t utc, standard, leaps, times, types, chars;
};

static bool read_header(const struct zone *zone, size_t at, struct counts *out)
{
    const uint8_t *p = zone->file + at;
    uint32_t counts[6];
    if (zone->len < at + HEADER_BYTES || memcmp(p, "TZif", 4) != 0 || p[4] < '2') {
        return false; /* version 1 ends in 2037; nobody has shipped it alone for years */
    }
    for (unsigned i = 0; i < ARRAY_LEN(counts); i++) {
        counts[i] = u32_at(p + 20 + 4 * i);
        if (counts[i] > FILE_BYTES_MAX) {
            return false;
        }
    }
    *out = (struct counts){counts[0], counts[1], counts[2], counts[3], counts[4], counts[5]};
    return true;
}

static size_t block_bytes(const struct counts *c, size_t time_bytes)
{
    return c->times * (time_bytes + 1) + c->types * (size_t)TYPE_BYTES + c->chars + c->leaps * (time_bytes + 4) +
           c->standard + c->utc;
}

static bool check_indexes(const struct zone *zone)
{
    for (uint32_t i = 0; i < zone->changes; i++) {
        if (zone->indexes[i] >= zone->type_count || (i > 0 && time_at(zone, i - 1) >= time_at(zone, i))) {
            return false;
        }
    }
    for (uint32_t i = 0; i < zone->type_count; i++) {
        int32_t offset = (int32_t)u32_at(zone->types + i * (size_t)TYPE_BYTES);
        if (offset < -OFFSET_MAX || offset > OFFSET_MAX || zone->types[i * (size_t)TYPE_BYTES + 5] >= zone->names.len) {
            return false;
        }
    }
    return zone->type_count > 0 && zone->names.ptr[zone->names.len - 1] == 0;
}

static bool read_rule(struct zone *zone, size_t at)
{
    if (at >= zone->len || zone->file[at] != '\n' || zone->file[zone->len - 1] != '\n' || at + 1 >= zone->len) {
        return false;
    }
    struct bytes text = bytes_of(zone->file + at + 1, zone->len - at - 2);
    zone->has_rule = text.len > 0;
    return !zone->has_rule || zone_rule_parse(text, &zone->rule);
}

static bool parse(struct zone *zone)
{
    struct counts c;
    if (!read_header(zone, 0, &c)) {
        return false;
    }
    size_t at = HEADER_BYTES + block_bytes(&c, 4); /* behind what version 1 had */
    if (!read_header(zone, at, &c) || c.leaps != 0) {
        return false;
    }
    at += HEADER_BYTES;
    size_t end = at + block_bytes(&c, 8);
    if (end > zone->len) {
        return false;
    }
    zone->changes = c.times;
    zone->type_count = c.types;
    zone->times = zone->file + at;
    zone->indexes = zone->times + (size_t)c.times * 8;
    zone->types = zone->indexes + c.times;
    zone->names = bytes_of(zone->types + c.types * (size_t)TYPE_BYTES, c.chars);
    return c.chars > 0 && check_indexes(zone) && read_rule(zone, end);
}

struct zone *zone_open(struct bytes name)
{
    struct zone *zone = mem_zalloc(sizeof *zone);
    if (name.len == 0) {
        zone->has_rule = zone_rule_parse(BYTES_LIT("UTC0"), &zone->rule);
        return zone;
    }
    if (is_name(name) && !is_special(name) && read_file(zone, name) && parse(zone)) {
        return zone;
    }
    zone_free(zone);
    return NULL;
}

void zone_free(struct zone *zone)
{
    if (zone != NULL) {
        free(zone->file);
        free(zone);
    }
}

/* ---- asking it ---- */

static struct zone_span typed_span(const struct zone *zone, uint32_t type, int64_t from, int64_t until)
{
    const uint8_t *p = zone->types + type * (size_t)TYPE_BYTES;
    return (struct zone_span){from, until, (int32_t)u32_at(p), p[4] != 0,
                              bytes_str((const char *)zone->names.ptr + p[5])};
}

static struct zone_span rule_span(const struct zone_rule *rule, bool daylight)
{
    return (struct zone_span){INT64_MIN, INT64_MAX, rule->offset[daylight], daylight,
                              daylight ? rule->daylight : rule->standard};
}

/* Takes one change of the rule into account: it begins the span, or ends it. */
static void meet_change(const struct zone_rule *rule, struct zone_span *span, int64_t utc, int64_t change,
                        bool daylight)
{
    if (change <= utc && change >= span->from) {
        struct zone_span next = rule_span(rule, daylight);
        next.from = change;
        next.until = span->until;
        *span = next;
    } else if (change > utc && change < span->until) {
        span->until = change;
    }
}

/* By the rule alone; the year before and the one behind, as their changes may be just over the border. */
static struct zone_span ruled_span(const struct zone_rule *rule, int64_t utc)
{
    struct zone_span span = rule_span(rule, false);
    int64_t year = civil_of(utc / 86400 - (utc % 86400 < 0)).year;
    for (int64_t y = year - 1; rule->daylight.len > 0 && y <= year + 1; y++) {
        int64_t begin = zone_rule_begin(rule, y), end = zone_rule_end(rule, y);
        bool begin_first = begin < end;
        meet_change(rule, &span, utc, begin_first ? begin : end, begin_first);
        meet_change(rule, &span, utc, begin_first ? end : begin, !begin_first);
    }
    return span;
}

static struct zone_span last_span(const struct zone *zone, int64_t from, int64_t utc)
{
    if (!zone->has_rule) {
        return typed_span(zone, zone->changes > 0 ? zone->indexes[zone->changes - 1] : 0, from, INT64_MAX);
    }
    struct zone_span span = ruled_span(&zone->rule, utc);
    span.from = span.from > from ? span.from : from;
    return span;
}

struct zone_span zone_span(const struct zone *zone, int64_t utc)
{
    uint32_t low = 0, high = zone->changes; /* the changes at or before utc: low of them */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (time_at(zone, middle) <= utc) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == zone->changes) {
        return last_span(zone, low > 0 ? time_at(zone, low - 1) : INT64_MIN, utc);
    }
    if (low == 0) {
        return typed_span(zone, 0, INT64_MIN, time_at(zone, 0));
    }
    return typed_span(zone, zone->indexes[low - 1], time_at(zone, low - 1), time_at(zone, low));
}

static bool is_plain(const struct zone_when *when)
{
    return when->form == 'M' && when->time >= 0 && when->time < 86400;
}

/* Some files list changes up to 2037 that the rule names as well: it goes back as far as they agree. */
const struct zone_rule *zone_tail(const struct zone *zone, int64_t *out_from)
{
    const struct zone_rule *rule = &zone->rule;
    if (!zone->has_rule || rule->daylight.len == 0 || !is_plain(&rule->begin) || !is_plain(&rule->end)) {
        return NULL;
    }
    uint32_t first = zone->changes;
    while (first > 0) {
        int64_t change = time_at(zone, first - 1);
        struct zone_span span = ruled_span(rule, change);
        if (span.from != change || span.offset != typed_span(zone, zone->indexes[first - 1], 0, 0).offset) {
            break;
        }
        first--;
    }
    int64_t behind = first > 0 ? time_at(zone, first - 1) : 0;
    *out_from = first < zone->changes ? time_at(zone, first) : ruled_span(rule, behind).until;
    return rule;
}

int64_t zone_local(const struct zone *zone, int64_t utc)
{
    return utc + zone_span(zone, utc).offset;
}

int64_t zone_utc(const struct zone *zone, int64_t local)
{
    struct zone_span span = zone_span(zone, local - OFFSET_MAX - 3600);
    int before = span.offset;
    while (span.until != INT64_MAX && local - span.offset >= span.until) {
        before = span.offset;
        span = zone_span(zone, span.until);
    }
    int64_t utc = local - span.offset;
    return utc >= span.from ? utc : local - before; /* skipped by the change at span.from */
}
