#include "node/base/when.h"

enum { DAY_MS = 86400000 };

/* Hinnant, "chrono-compatible low-level date algorithms". */
int64_t civil_days(struct civil c)
{
    int64_t year = c.month <= 2 ? c.year - 1 : c.year;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (c.month + (c.month > 2 ? -3 : 9)) + 2) / 5 + c.day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

struct civil civil_of(int64_t days)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t doe = days - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    int month = (int)(mp < 10 ? mp + 3 : mp - 9);
    return (struct civil){yoe + era * 400 + (month <= 2), month, (int)(doy - (153 * mp + 2) / 5 + 1)};
}

static void put_digits(char *out, int64_t value, int digits)
{
    for (int i = digits - 1; i >= 0; i--) {
        out[i] = (char)('0' + value % 10);
        value /= 10;
    }
}

/* Years 0000 to 9999: what is outside, of damaged data perhaps, shows as the first or the last moment. */
static int64_t clamp(int64_t ms)
{
    const int64_t first = -62167219200000, last = 253402300799999;
    return ms < first ? first : ms > last ? last : ms;
}

void when_format(int64_t given, char *out)
{
    int64_t ms = clamp(given);
    int64_t days = floor_div(ms, DAY_MS);
    int64_t in_day = ms - days * DAY_MS;
    struct civil c = civil_of(days);
    memcpy(out, "0000-00-00T00:00:00.000Z", WHEN_TEXT_BYTES);
    put_digits(out, c.year, 4);
    put_digits(out + 5, c.month, 2);
    put_digits(out + 8, c.day, 2);
    put_digits(out + 11, in_day / 3600000, 2);
    put_digits(out + 14, in_day / 60000 % 60, 2);
    put_digits(out + 17, in_day / 1000 % 60, 2);
    put_digits(out + 20, in_day % 1000, 3);
}

void when_format_http(int64_t given, char *out)
{
    int64_t ms = clamp(given);
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    int64_t day = floor_div(ms, DAY_MS);
    int64_t in_day = ms - day * DAY_MS;
    struct civil c = civil_of(day);
    memcpy(out, "Sun, 00 Jan 0000 00:00:00 GMT", WHEN_HTTP_BYTES);
    memcpy(out, days + 3 * ((day % 7 + 11) % 7), 3);
    put_digits(out + 5, c.day, 2);
    memcpy(out + 8, months + 3 * (c.month - 1), 3);
    put_digits(out + 12, c.year, 4);
    put_digits(out + 17, in_day / 3600000, 2);
    put_digits(out + 20, in_day / 60000 % 60, 2);
    put_digits(out + 23, in_day / 1000 % 60, 2);
}

/* Reads exactly n digits at *at; -1 when there are none. */
static int64_t take_digits(struct bytes text, size_t *at, size_t n)
{
    int64_t value = 0;
    if (text.len - *at < n) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t c = text.ptr[(*at)++];
        if (c < '0' || c > '9') {
            return -1;
        }
        value = value * 10 + (c - '0');
    }
    return value;
}

static bool take_char(struct bytes text, size_t *at, char a, char b)
{
    if (*at < text.len && (text.ptr[*at] == (uint8_t)a || text.ptr[*at] == (uint8_t)b)) {
        (*at)++;
        return true;
    }
    return false;
}

static bool take_fraction(struct bytes text, size_t *at, int64_t *out_ms)
{
    int64_t ms = 0, scale = 100;
    size_t start = *at;
    while (*at < text.len && text.ptr[*at] >= '0' && text.ptr[*at] <= '9') {
        ms += (text.ptr[(*at)++] - '0') * scale;
        scale /= 10;
    }
    *out_ms = ms;
    return *at > start && *at - start <= 9;
}

static bool take_offset(struct bytes text, size_t *at, int64_t *out_ms)
{
    *out_ms = 0;
    if (take_char(text, at, 'Z', 'z')) {
        return true;
    }
    bool minus = take_char(text, at, '-', '-');
    if (!minus && !take_char(text, at, '+', '+')) {
        return false;
    }
    int64_t hours = take_digits(text, at, 2);
    if (!take_char(text, at, ':', ':')) {
        return false;
    }
    int64_t minutes = take_digits(text, at, 2);
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) {
        return false;
    }
    *out_ms = (hours * 60 + minutes) * (minus ? -60000 : 60000);
    return true;
}

int civil_month_days(struct civil c)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (c.year % 4 == 0 && c.year % 100 != 0) || c.year % 400 == 0;
    return days[c.month - 1] + (c.month == 2 && leap);
}

static bool take_date(struct bytes text, size_t *at, struct civil *out)
{
    out->year = take_digits(text, at, 4);
    if (!take_char(text, at, '-', '-')) {
        return false;
    }
    out->month = (int)take_digits(text, at, 2);
    if (!take_char(text, at, '-', '-')) {
        return false;
    }
    out->day = (int)take_digits(text, at, 2);
    return out->year >= 0 && out->month >= 1 && out->month <= 12 && out->day >= 1 && out->day <= civil_month_days(*out);
}

static bool take_time(struct bytes text, size_t *at, int64_t *out_ms)
{
    int64_t hour = take_digits(text, at, 2);
    if (!take_char(text, at, ':', ':')) {
        return false;
    }
    int64_t minute = take_digits(text, at, 2);
    if (!take_char(text, at, ':', ':')) {
        return false;
    }
    int64_t second = take_digits(text, at, 2), ms = 0;
    if (take_char(text, at, '.', '.') && !take_fraction(text, at, &ms)) {
        return false;
    }
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60) {
        return false;
    }
    *out_ms = (hour * 60 + minute) * 60000 + (second == 60 ? 59999 : second * 1000 + ms);
    return true;
}

bool when_parse(struct bytes text, int64_t *out_ms)
{
    size_t at = 0;
    struct civil date;
    int64_t in_day, offset;
    if (!take_date(text, &at, &date) || !take_char(text, &at, 'T', 't') || !take_time(text, &at, &in_day) ||
        !take_offset(text, &at, &offset) || at != text.len) {
        return false;
    }
    *out_ms = civil_days(date) * DAY_MS + in_day - offset;
    return *out_ms >= -62167219200000 && *out_ms <= 253402300799999;
}
