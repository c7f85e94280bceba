#include "actors/reminders/zone_rule.h"

#include "node/base/when.h"

/* ---- the text; a mistake is kept and found at the end ---- */

struct reader {
    struct bytes text;
    size_t at;
    bool bad;
};

static uint8_t peek(const struct reader *r)
{
    return r->at < r->text.len ? r->text.ptr[r->at] : 0;
}

static bool take(struct reader *r, char c)
{
    bool is = peek(r) == (uint8_t)c;
    r->at += is;
    return is;
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static int number(struct reader *r, int low, int high)
{
    int value = 0;
    r->bad |= !is_digit(peek(r));
    while (is_digit(peek(r)) && value <= high) {
        value = value * 10 + (r->text.ptr[r->at++] - '0');
    }
    r->bad |= value < low || value > high;
    return value;
}

static struct bytes name(struct reader *r)
{
    bool quoted = take(r, '<');
    size_t from = r->at;
    while (quoted ? peek(r) != 0 && peek(r) != '>' : (peek(r) | 0x20) >= 'a' && (peek(r) | 0x20) <= 'z') {
        r->at++;
    }
    struct bytes found = bytes_of(r->text.ptr + from, r->at - from);
    r->bad |= found.len == 0 || (quoted && !take(r, '>'));
    return found;
}

/* [+-]hh[:mm[:ss]] in seconds. */
static int clock_time(struct reader *r)
{
    bool minus = take(r, '-');
    if (!minus) {
        take(r, '+');
    }
    int seconds = number(r, 0, 167) * 3600;
    if (take(r, ':')) {
        seconds += number(r, 0, 59) * 60;
    }
    if (take(r, ':')) {
        seconds += number(r, 0, 59);
    }
    return minus ? -seconds : seconds;
}

static void expect(struct reader *r, char c)
{
    r->bad |= !take(r, c);
}

static struct zone_when when(struct reader *r)
{
    struct zone_when w = {.form = '0', .time = 2 * 3600};
    expect(r, ',');
    if (take(r, 'M')) {
        w.form = 'M';
        w.month = number(r, 1, 12);
        expect(r, '.');
        w.week = number(r, 1, 5);
        expect(r, '.');
        w.weekday = number(r, 0, 6);
    } else if (take(r, 'J')) {
        w.form = 'J';
        w.day = number(r, 1, 365);
    } else {
        w.day = number(r, 0, 365);
    }
    if (take(r, '/')) {
        w.time = clock_time(r);
    }
    return w;
}

bool zone_rule_parse(struct bytes text, struct zone_rule *out)
{
    struct reader r = {.text = text};
    *out = (struct zone_rule){0};
    out->standard = name(&r);
    out->offset[0] = -clock_time(&r); /* POSIX counts westward */
    if (r.at == text.len) {
        return !r.bad;
    }
    out->daylight = name(&r);
    out->offset[1] = peek(&r) == ',' ? out->offset[0] + 3600 : -clock_time(&r);
    out->begin = when(&r);
    out->end = when(&r);
    return !r.bad && r.at == text.len;
}

/* ---- a year's changes ---- */

static int64_t day_of(const struct zone_when *w, int64_t year)
{
    struct civil first = {year, w->form == 'M' ? w->month : 1, 1};
    int64_t day = civil_days(first);
    if (w->form == 'J') {
        bool leap = civil_month_days((struct civil){year, 2, 1}) == 29;
        return day + w->day - 1 + (leap && w->day >= 60);
    }
    if (w->form == '0') {
        return day + w->day;
    }
    int64_t weekday = ((day + 4) % 7 + 7) % 7; /* 1970-01-01 was a Thursday: 4 */
    int64_t in_month = (w->weekday - weekday + 7) % 7 + 7 * (w->week - 1);
    while (in_month >= civil_month_days(first)) {
        in_month -= 7; /* week 5 is the last, be there five or four */
    }
    return day + in_month;
}

int64_t zone_rule_begin(const struct zone_rule *rule, int64_t year)
{
    return day_of(&rule->begin, year) * 86400 + rule->begin.time - rule->offset[0];
}

int64_t zone_rule_end(const struct zone_rule *rule, int64_t year)
{
    return day_of(&rule->end, year) * 86400 + rule->end.time - rule->offset[1];
}
