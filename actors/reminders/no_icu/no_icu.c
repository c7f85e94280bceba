/* The functions of ICU that libical refers to, saying that there is no such calendar. libical then makes no iterator of
 * recurrences (icalrecur_iterator_new gives NULL); reading and writing iCalendar texts needs none. ICU's header gives
 * the names the version that this machine's libical was built with. */
#include <unicode/ucal.h>
#include <unicode/uenum.h>
#include <unicode/uloc.h>
#include <unicode/ustring.h>

#include "node/base/check.h"

/* No calendar was ever opened: the rest cannot be called. */
#define NEVER CHECK(false)

UCalendar *ucal_open(const UChar *zone, int32_t len, const char *locale, UCalendarType type, UErrorCode *status)
{
    (void)zone, (void)len, (void)locale, (void)type;
    *status = U_UNSUPPORTED_ERROR;
    return NULL;
}

int32_t uloc_setKeywordValue(const char *name, const char *value, char *buffer, int32_t cap, UErrorCode *status)
{
    (void)name, (void)value, (void)buffer, (void)cap;
    *status = U_UNSUPPORTED_ERROR;
    return 0;
}

UChar *u_strFromUTF8Lenient(UChar *dest, int32_t cap, int32_t *out_len, const char *text, int32_t len,
                            UErrorCode *status)
{
    (void)dest, (void)cap, (void)out_len, (void)text, (void)len;
    *status = U_UNSUPPORTED_ERROR;
    return NULL;
}

UEnumeration *ucal_getKeywordValuesForLocale(const char *key, const char *locale, UBool common, UErrorCode *status)
{
    (void)key, (void)locale, (void)common;
    *status = U_UNSUPPORTED_ERROR;
    return NULL;
}

const char *uenum_next(UEnumeration *list, int32_t *len, UErrorCode *status)
{
    (void)list, (void)len, (void)status;
    return NULL;
}

void uenum_close(UEnumeration *list)
{
    (void)list;
}

void ucal_close(UCalendar *cal)
{
    (void)cal;
    NEVER;
}

void ucal_add(UCalendar *cal, UCalendarDateFields field, int32_t amount, UErrorCode *status)
{
    (void)cal, (void)field, (void)amount, (void)status;
    NEVER;
}

int32_t ucal_get(const UCalendar *cal, UCalendarDateFields field, UErrorCode *status)
{
    (void)cal, (void)field, (void)status;
    NEVER;
    return 0;
}

int32_t ucal_getLimit(const UCalendar *cal, UCalendarDateFields field, UCalendarLimitType type, UErrorCode *status)
{
    (void)cal, (void)field, (void)type, (void)status;
    NEVER;
    return 0;
}

UDate ucal_getMillis(const UCalendar *cal, UErrorCode *status)
{
    (void)cal, (void)status;
    NEVER;
    return 0;
}

void ucal_set(UCalendar *cal, UCalendarDateFields field, int32_t value)
{
    (void)cal, (void)field, (void)value;
    NEVER;
}

void ucal_setAttribute(UCalendar *cal, UCalendarAttribute attribute, int32_t value)
{
    (void)cal, (void)attribute, (void)value;
    NEVER;
}

void ucal_setDate(UCalendar *cal, int32_t year, int32_t month, int32_t date, UErrorCode *status)
{
    (void)cal, (void)year, (void)month, (void)date, (void)status;
    NEVER;
}

void ucal_setDateTime(UCalendar *cal, int32_t year, int32_t month, int32_t date, int32_t hour, int32_t minute,
                      int32_t second, UErrorCode *status)
{
    (void)cal, (void)year, (void)month, (void)date, (void)hour, (void)minute, (void)second, (void)status;
    NEVER;
}

void ucal_setMillis(UCalendar *cal, UDate millis, UErrorCode *status)
{
    (void)cal, (void)millis, (void)status;
    NEVER;
}
