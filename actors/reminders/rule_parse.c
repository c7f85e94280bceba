/* The text of a recurrence rule. */
#include "actors/reminders/rule.h"
#include "node/base/when.h"

static const char NOT_A_RULE[] =
    "A recurrence is FREQ=... with the parts of RFC 5545, or lines RRULE:... and EXDATE:...";
static const char OUT_OF_RANGE[] = "A number of the recurrence is out of its range";

/* ---- small readers ---- */

/* Cuts off what is before the separator. */
static struct bytes cut(struct bytes *rest, char separator)
{
    const uint8_t *at = rest->len == 0 ? NULL : memchr(rest->ptr, separator, rest->len);
    struct bytes found = bytes_of(rest->ptr, at == NULL ? rest->len : (size_t)(at - rest->ptr));
    *rest = at == NULL ? BYTES_NONE : bytes_of(at + 1, rest->len - found.len - 1);
    return found;
}

/* Digits with an optional sign; more than most is refused by value. */
static bool number(struct bytes text, bool is_signed, int64_t most, int64_t *out)
{
    bool minus = text.len > 0 && text.ptr[0] == '-';
    size_t at = is_signed && text.len > 0 && (minus || text.ptr[0] == '+') ? 1 : 0;
    int64_t value = 0;
    if (at == text.len) {
        return false;
    }
    for (; at < text.len; at++) {
        if (text.ptr[at] < '0' || text.ptr[at] > '9' || value > most) {
            return false;
        }
        value = value * 10 + (text.ptr[at] - '0');
    }
    *out = is_signed && minus ? -value : value;
    return value <= most;
}

static int weekday(struct bytes text)
{
    static const char *const names[] = {"MO", "TU", "WE", "TH", "FR", "SA", "SU"};
    for (int i = 0; i < (int)ARRAY_LEN(names); i++) {
        if (bytes_is_nocase(text, names[i])) {
            return i;
        }
    }
    return -1;
}

/* `list` is a comma-separated list of 0 or low to most; a bit each. */
static bool bits(struct bytes list, int64_t low, int64_t most, uint64_t *out)
{
    int64_t value;
    do {
        if (!number(cut(&list, ','), false, most, &value) || value < low) {
            return false;
        }
        *out |= 1ULL << value;
    } while (list.ptr != NULL);
    return true;
}

static bool set_add(struct number_set *set, int64_t value)
{
    uint64_t *side = value > 0 ? set->front : set->back;
    int64_t at = value > 0 ? value : -value;
    side[at / 64] |= 1ULL << at % 64;
    return value != 0;
}

static bool numbers(struct bytes list, int64_t most, struct number_set *out)
{
    int64_t value;
    do {
        if (!number(cut(&list, ','), true, most, &value) || !set_add(out, value)) {
            return false;
        }
    } while (list.ptr != NULL);
    return true;
}

/* ---- the parts ---- */

static const char *take_freq(struct rule *rule, struct bytes value)
{
    static const struct {
        const char *name;
        enum freq freq;
    } names[] = {{"HOURLY", HOURLY}, {"DAILY", DAILY}, {"WEEKLY", WEEKLY}, {"MONTHLY", MONTHLY}, {"YEARLY", YEARLY}};
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        if (bytes_is_nocase(value, names[i].name)) {
            rule->freq = names[i].freq;
            return NULL;
        }
    }
    bool finer = bytes_is_nocase(value, "MINUTELY") || bytes_is_nocase(value, "SECONDLY");
    return finer ? "A recurrence comes once an hour at most" : NOT_A_RULE;
}

static const char *take_interval(struct rule *rule, struct bytes value)
{
    int64_t interval = 0;
    bool good = number(value, false, RULE_INTERVAL_MAX, &interval) && interval > 0;
    rule->interval = (int)interval;
    return good ? NULL : OUT_OF_RANGE;
}

static const char *take_count(struct rule *rule, struct bytes value)
{
    return number(value, false, RULE_COUNT_MAX, &rule->count) && rule->count > 0 ? NULL : OUT_OF_RANGE;
}

static const char *take_until(struct rule *rule, struct bytes value)
{
    enum rule_time is = rule_time(value, &rule->until);
    rule->until_is = is == RULE_TIME_UTC ? UNTIL_UTC : UNTIL_LOCAL;
    if (is == RULE_TIME_DATE) {
        rule->until += 86399; /* the whole day */
    }
    return is != RULE_TIME_BAD ? NULL : "UNTIL must be a date or a date and time, as 20260321T023000Z";
}

static const char *take_week_start(struct rule *rule, struct bytes value)
{
    rule->week_start = weekday(value);
    return rule->week_start >= 0 ? NULL : NOT_A_RULE;
}

static const char *take_weekdays(struct rule *rule, struct bytes list)
{
    do {
        struct bytes text = cut(&list, ',');
        int64_t nth = 0;
        if (text.len < 2) {
            return NOT_A_RULE;
        }
        struct bytes before = bytes_of(text.ptr, text.len - 2);
        int day = weekday(bytes_of(text.ptr + before.len, 2));
        if (day < 0 || (before.len > 0 && !number(before, true, 53, &nth))) {
            return NOT_A_RULE;
        }
        if (before.len == 0) {
            rule->weekdays |= 1U << day;
        } else if (!set_add(&rule->nth[day], nth)) {
            return OUT_OF_RANGE;
        }
        rule->has_nth |= before.len > 0;
    } while (list.ptr != NULL);
    return NULL;
}

static const char *take_months(struct rule *rule, struct bytes value)
{
    uint64_t found = 0;
    bool good = bits(value, 1, 12, &found);
    rule->months = (uint32_t)found;
    return good ? NULL : OUT_OF_RANGE;
}

static const char *take_hours(struct rule *rule, struct bytes value)
{
    uint64_t found = 0;
    bool good = bits(value, 0, 23, &found);
    rule->hours = (uint32_t)found;
    return good ? NULL : OUT_OF_RANGE;
}

static const char *take_minutes(struct rule *rule, struct bytes value)
{
    return bits(value, 0, 59, &rule->minutes) ? NULL : OUT_OF_RANGE;
}

static const char *take_seconds(struct rule *rule, struct bytes value)
{
    return bits(value, 0, 59, &rule->seconds) ? NULL : OUT_OF_RANGE;
}

static const char *take_month_days(struct rule *rule, struct bytes value)
{
    rule->has_month_days = true;
    return numbers(value, 31, &rule->month_days) ? NULL : OUT_OF_RANGE;
}

static const char *take_year_days(struct rule *rule, struct bytes value)
{
    rule->has_year_days = true;
    return numbers(value, 366, &rule->year_days) ? NULL : OUT_OF_RANGE;
}

static const char *take_weeks(struct rule *rule, struct bytes value)
{
    rule->has_weeks = true;
    return numbers(value, 53, &rule->weeks) ? NULL : OUT_OF_RANGE;
}

static const char *take_positions(struct rule *rule, struct bytes list)
{
    int64_t value;
    do {
        if (rule->positions_len == RULE_POSITIONS_MAX) {
            return "BYSETPOS has too many numbers";
        }
        if (!number(cut(&list, ','), true, 366, &value) || value == 0) {
            return OUT_OF_RANGE;
        }
        rule->positions[rule->positions_len++] = (int16_t)value;
    } while (list.ptr != NULL);
    return NULL;
}

static const struct part {
    const char *name;
    const char *(*take)(struct rule *rule, struct bytes value);
} parts[] = {{"FREQ", take_freq},        {"INTERVAL", take_interval},     {"COUNT", take_count},
             {"UNTIL", take_until},      {"WKST", take_week_start},       {"BYDAY", take_weekdays},
             {"BYMONTH", take_months},   {"BYHOUR", take_hours},          {"BYMINUTE", take_minutes},
             {"BYSECOND", take_seconds}, {"BYMONTHDAY", take_month_days}, {"BYYEARDAY", take_year_days},
             {"BYWEEKNO", take_weeks},   {"BYSETPOS", take_positions}};

static const char *take_part(struct bytes text, uint32_t *seen, struct rule *rule)
{
    struct bytes name = cut(&text, '=');
    for (unsigned i = 0; i < ARRAY_LEN(parts); i++) {
        if (bytes_is_nocase(name, parts[i].name)) {
            bool again = (*seen >> i & 1) != 0;
            *seen |= 1U << i;
            return again || text.len == 0 ? NOT_A_RULE : parts[i].take(rule, text);
        }
    }
    bool other = bytes_is_nocase(name, "RSCALE") || bytes_is_nocase(name, "SKIP");
    return other ? "Only the Gregorian calendar is supported: no RSCALE, no SKIP" : NOT_A_RULE;
}

/* ---- which parts go together: the table of RFC 5545, section 3.3.10 ---- */

static bool is_named(const struct rule *rule)
{
    return rule->months != 0 || rule->weekdays != 0 || rule->has_nth || rule->hours != 0 || rule->minutes != 0 ||
           rule->seconds != 0 || rule->has_month_days || rule->has_year_days || rule->has_weeks;
}

static const char *check_parts(const struct rule *rule)
{
    int minutes = __builtin_popcountll(rule->minutes), seconds = __builtin_popcountll(rule->seconds);
    if (rule->freq == FREQ_NONE) {
        return NOT_A_RULE;
    }
    if (rule->count > 0 && rule->until_is != UNTIL_NEVER) {
        return "COUNT and UNTIL do not go together";
    }
    if (rule->has_nth && (rule->freq < MONTHLY || rule->has_weeks)) {
        return "BYDAY takes numbers in monthly and yearly rules alone, without BYWEEKNO";
    }
    if ((rule->has_month_days && rule->freq == WEEKLY) || (rule->has_weeks && rule->freq != YEARLY) ||
        (rule->has_year_days && rule->freq >= DAILY && rule->freq <= MONTHLY)) {
        return "BYMONTHDAY, BYYEARDAY or BYWEEKNO does not go with this FREQ";
    }
    if (rule->positions_len > 0 && (rule->freq == HOURLY || !is_named(rule))) {
        return "BYSETPOS needs another BY part, and a FREQ above HOURLY";
    }
    if ((minutes > 0 ? minutes : 1) * (seconds > 0 ? seconds : 1) > RULE_HOURLY_MAX) {
        return "BYMINUTE and BYSECOND may name four moments of an hour at most";
    }
    return NULL;
}

const char *rule_parse(struct bytes text, struct rule *out)
{
    uint32_t seen = 0;
    const char *refusal = NULL;
    *out = (struct rule){.interval = 1};
    do {
        refusal = take_part(cut(&text, ';'), &seen, out);
    } while (refusal == NULL && text.ptr != NULL);
    return refusal != NULL ? refusal : check_parts(out);
}

/* ---- dates ---- */

static int64_t digits(struct bytes text, size_t at, size_t n)
{
    int64_t value;
    return number(bytes_of(text.ptr + at, n), false, 9999, &value) ? value : -1;
}

enum rule_time rule_time(struct bytes text, int64_t *out)
{
    bool utc = text.len == 16 && (text.ptr[15] | 0x20) == 'z';
    bool timed = utc || text.len == 15;
    if (!timed && text.len != 8) {
        return RULE_TIME_BAD;
    }
    struct civil date = {digits(text, 0, 4), (int)digits(text, 4, 2), (int)digits(text, 6, 2)};
    if (date.year < 1 || date.month < 1 || date.month > 12 || date.day < 1 || date.day > civil_month_days(date)) {
        return RULE_TIME_BAD;
    }
    *out = civil_days(date) * 86400;
    if (!timed) {
        return RULE_TIME_DATE;
    }
    int64_t hour = digits(text, 9, 2), minute = digits(text, 11, 2), second = digits(text, 13, 2);
    bool good = (text.ptr[8] | 0x20) == 't' && hour >= 0 && hour < 24 && minute >= 0 && minute < 60 && second >= 0 &&
                second < 61; /* a leap second is the one before it */
    *out += hour * 3600 + minute * 60 + (second < 60 ? second : 59);
    return !good ? RULE_TIME_BAD : utc ? RULE_TIME_UTC : RULE_TIME_LOCAL;
}
