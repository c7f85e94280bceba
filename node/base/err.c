#include "node/base/err.h"

#include "node/base/check.h"

struct err_row {
    int status;
    const char *code;
    const char *title;
    bool retryable;
};

#define ERR_ROW(name, status, code, title, retryable) {status, code, title, retryable},
static const struct err_row rows[] = {{200, "ok", "OK", false}, ERR_LIST(ERR_ROW)};

static const struct err_row *row(enum err err)
{
    CHECK((unsigned)err < ARRAY_LEN(rows));
    return &rows[err];
}

int err_status(enum err err)
{
    return row(err)->status;
}
const char *err_code(enum err err)
{
    return row(err)->code;
}
const char *err_title(enum err err)
{
    return row(err)->title;
}
bool err_retryable(enum err err)
{
    return row(err)->retryable;
}
