#include "actors/reminders/rule.h"

#include "node/base/when.h"

static int weekday_of(int64_t day) /* 0: Monday */
{
    return (int)(((day + 3) % 7 + 7) % 7);
}

/* ---- sets of numbers ---- */

static bool set_has(const struct number_set *set, int64_t front, int64_t length)
{
    int64_t back = length + 1 - front;
    return (set->front[front / 64] >> front % 64 & 1) != 0 || (set->back[back / 64] >> back % 64 & 1) != 0;
}

/* ---- what is left open ---- */

static void complete_days(struct rule *rule, int64_t start_day)
{
    struct civil date = civil_of(start_day);
    bool has_days = rule->weekdays != 0 || rule->has_nth || rule->has_month_days || rule->has_year_days;
    if (has_days || rule->freq <= DAILY) {
        return;
    }
    if (rule->freq == WEEKLY || rule->has_weeks) {
        rule->weekdays = 1U << weekday_of(start_day);
        return;
    }
    if (rule->freq == YEARLY && rule->months == 0) {
        rule->months = 1U << date.month;
    }
    rule->has_month_days = true;
    rule->month_days.front[0] = 1ULL << date.day;
}

void rule_complete(struct rule *rule, int64_t start_local)
{
    int64_t day = floor_div(start_local, 86400), second = start_local - day * 86400;
    complete_days(rule, day);
    if (rule->hours == 0 && rule->freq != HOURLY) {
        rule->hours = 1U << second / 3600;
    }
    if (rule->minutes == 0) {
        rule->minutes = 1ULL << second / 60 % 60;
    }
    if (rule->seconds == 0) {
        rule->seconds = 1ULL << second % 60;
    }
}

/* ---- units ---- */

/* Week 1 is the first with four days of the year in it. */
static int64_t week_year_first(const struct rule *rule, int64_t year)
{
    int64_t fourth = civil_days((struct civil){year, 1, 4});
    return fourth - (weekday_of(fourth) - rule->week_start + 7) % 7;
}

static int64_t week_year(const struct rule *rule, int64_t day, int64_t year)
{
    if (day >= week_year_first(rule, year + 1)) {
        return year + 1;
    }
    return day >= week_year_first(rule, year) ? year : year - 1;
}

int64_t rule_unit(const struct rule *rule, int64_t day)
{
    if (rule->freq <= DAILY) {
        return day;
    }
    if (rule->freq == WEEKLY) {
        return floor_div(day + 3 - rule->week_start, 7);
    }
    struct civil date = civil_of(day);
    if (rule->freq == MONTHLY) {
        return date.year * 12 + date.month - 1;
    }
    return rule->has_weeks ? week_year(rule, day, date.year) : date.year;
}

int64_t rule_unit_first(const struct rule *rule, int64_t unit)
{
    if (rule->freq <= DAILY) {
        return unit;
    }
    if (rule->freq == WEEKLY) {
        return unit * 7 - 3 + rule->week_start;
    }
    if (rule->freq == MONTHLY) {
        int64_t year = floor_div(unit, 12);
        return civil_days((struct civil){year, (int)(unit - year * 12) + 1, 1});
    }
    return rule->has_weeks ? week_year_first(rule, unit) : civil_days((struct civil){unit, 1, 1});
}

/* ---- days ---- */

static bool has_week(const struct rule *rule, int64_t day, struct civil date)
{
    int64_t year = week_year(rule, day, date.year);
    int64_t first = week_year_first(rule, year), behind = week_year_first(rule, year + 1);
    return set_has(&rule->weeks, (day - first) / 7 + 1, (behind - first) / 7);
}

/* The nth weekday of the month, or of the year where the rule is yearly and names no months. */
static bool has_nth(const struct rule *rule, int64_t day, struct civil date, int weekday)
{
    bool in_year = rule->freq == YEARLY && rule->months == 0;
    int64_t first = civil_days((struct civil){date.year, in_year ? 1 : date.month, 1});
    int64_t length = in_year ? civil_days((struct civil){date.year + 1, 1, 1}) - first : civil_month_days(date);
    int64_t at = day - first, front = at / 7 + 1, count = front + (length - 1 - at) / 7;
    return set_has(&rule->nth[weekday], front, count);
}

bool rule_has_day(const struct rule *rule, int64_t day)
{
    struct civil date = civil_of(day);
    int weekday = weekday_of(day);
    if (rule->months != 0 && (rule->months >> date.month & 1) == 0) {
        return false;
    }
    if (rule->has_month_days && !set_has(&rule->month_days, date.day, civil_month_days(date))) {
        return false;
    }
    if (rule->weekdays != 0 || rule->has_nth) {
        bool named = (rule->weekdays >> weekday & 1) != 0;
        if (!named && !(rule->has_nth && has_nth(rule, day, date, weekday))) {
            return false;
        }
    }
    if (rule->has_year_days) {
        int64_t first = civil_days((struct civil){date.year, 1, 1});
        int64_t length = civil_days((struct civil){date.year + 1, 1, 1}) - first;
        if (!set_has(&rule->year_days, day - first + 1, length)) {
            return false;
        }
    }
    return !rule->has_weeks || has_week(rule, day, date);
}
