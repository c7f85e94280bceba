/* `belfry verify --data DIR` and `belfry recover --data DIR --accept-loss`: a data directory in which
 * no node writes. */
#ifndef BELFRY_REPAIR_H
#define BELFRY_REPAIR_H

#include "node/base/check.h"
#include "node/base/err.h"

/* Reads everything and says what is broken; changes nothing. Works in a child process, so that a
 * crash is an answer too. Returns the exit status: 0 whole, 1 damaged, 2 not to be looked at. */
int repair_verify(const char *data);
/* Makes a directory that starts again out of what is whole in a damaged one, and says what is lost. In
 * this order: the durable point and the log, the state's file and the log, the whole log: nothing is
 * lost then; else every row and entry that is good. What was damaged is kept beside. It may be cut short
 * and run again. Returns the exit status: 0 done, 1 failed. */
int repair_recover(const char *data);

/* Puts in place what a recovery made that was cut short behind the point of no return. */
enum err repair_finish(const char *data) MUST_USE;

#endif
