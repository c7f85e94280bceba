#include "actors/reminders/recurrence.h"

static const char BAD_EXDATE[] =
    "EXDATE takes dates and times as 20260321T023000, with Z or ;TZID=, or ;VALUE=DATE:20260321";

static struct bytes cut(struct bytes *rest, char separator)
{
    const uint8_t *at = rest->len == 0 ? NULL : memchr(rest->ptr, separator, rest->len);
    struct bytes found = bytes_of(rest->ptr, at == NULL ? rest->len : (size_t)(at - rest->ptr));
    *rest = at == NULL ? BYTES_NONE : bytes_of(at + 1, rest->len - found.len - 1);
    return found;
}

static bool exclude(struct recurrence *r, struct bytes text, bool dates, const struct zone *zone)
{
    int64_t at;
    enum rule_time is = rule_time(text, &at);
    if (is == RULE_TIME_BAD || (is == RULE_TIME_DATE) != dates) {
        return false;
    }
    CHECK(r->times_len < RECURRENCE_EXCLUDED_MAX && r->days_len < RECURRENCE_EXCLUDED_MAX);
    if (dates) {
        r->days[r->days_len++] = at / 86400;
    } else {
        r->times[r->times_len++] = is == RULE_TIME_UTC ? at : zone_utc(zone, at);
    }
    return true;
}

/* `;TZID=...` and `;VALUE=...`, in front of the colon. */
static bool read_parameters(struct bytes text, bool *dates, struct bytes *zone)
{
    while (text.ptr != NULL) {
        struct bytes value = cut(&text, ';');
        struct bytes name = cut(&value, '=');
        if (bytes_is_nocase(name, "TZID") && value.len > 0) {
            *zone = value;
        } else if (bytes_is_nocase(name, "VALUE") && bytes_is_nocase(value, "DATE")) {
            *dates = true;
        } else if (!bytes_is_nocase(name, "VALUE") || !bytes_is_nocase(value, "DATE-TIME")) {
            return false;
        }
    }
    return true;
}

static const char *take_excluded(struct recurrence *r, struct bytes parameters, struct bytes list,
                                 const struct zone *zone)
{
    bool dates = false, good = true;
    struct bytes name = BYTES_NONE;
    if (!read_parameters(parameters, &dates, &name)) {
        return BAD_EXDATE;
    }
    struct zone *other = name.len > 0 ? zone_open(name) : NULL;
    if (name.len > 0 && other == NULL) {
        return "EXDATE names a time zone that is not known";
    }
    do {
        good = exclude(r, cut(&list, ','), dates, other != NULL ? other : zone);
    } while (good && list.ptr != NULL);
    zone_free(other);
    return good ? NULL : BAD_EXDATE;
}

static const char *take_line(struct recurrence *r, struct bytes line, const struct zone *zone)
{
    struct bytes value = line;
    struct bytes parameters = cut(&value, ':');
    if (value.ptr == NULL) { /* a rule alone */
        value = line;
        parameters = BYTES_LIT("RRULE");
    }
    struct bytes name = cut(&parameters, ';');
    if (bytes_is_nocase(name, "EXDATE")) {
        return take_excluded(r, parameters, value, zone);
    }
    if (!bytes_is_nocase(name, "RRULE") || parameters.ptr != NULL || r->rule_text.len > 0) {
        return "A recurrence is one rule, FREQ=..., and lines EXDATE:...";
    }
    r->rule_text = value;
    return rule_parse(value, &r->rule);
}

static bool is_printable(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if ((c < ' ' && c != '\n' && c != '\r') || c > '~') {
            return false;
        }
    }
    return true;
}

const char *recurrence_parse(struct bytes text, const struct zone *zone, struct recurrence *out)
{
    *out = (struct recurrence){0};
    if (text.len > LIMIT_RECURRENCE_BYTES || !is_printable(text)) {
        return "A recurrence is printable ASCII of 512 bytes at most";
    }
    while (text.len > 0) {
        struct bytes line = cut(&text, '\n');
        line.len -= line.len > 0 && line.ptr[line.len - 1] == '\r';
        const char *refusal = take_line(out, line, zone);
        if (refusal != NULL) {
            return refusal;
        }
    }
    return out->rule_text.len > 0 ? NULL : "A recurrence needs a rule, FREQ=...";
}
