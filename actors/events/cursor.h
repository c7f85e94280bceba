/* Cursors of event logs as clients see them: decimal, without leading zeros. */
#ifndef BELFRY_ACTORS_EVENTS_CURSOR_H
#define BELFRY_ACTORS_EVENTS_CURSOR_H

#include "node/base/bytes.h"
#include "node/base/err.h"

/* Errors: ERR_INVALID_CURSOR. */
enum err cursor_parse(struct bytes text, uint64_t *out) MUST_USE;

#endif
