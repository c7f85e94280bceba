/* `belfry verify --data DIR` and `belfry recover --data DIR --accept-loss`: a data directory in which
 * no node writes. */
#ifndef BELFRY_REPAIR_H
#define BELFRY_REPAIR_H

/* Reads everything and says what is broken; changes nothing. Works in a child process, so that a
 * crash is an answer too. Returns the exit status: 0 whole, 1 damaged, 2 not to be looked at. */
int repair_verify(const char *data);
/* Makes a directory that starts again out of what is whole in a damaged one, and says what is lost.
 * The damaged files are kept beside it. Returns the exit status: 0 done, 1 failed. */
int repair_recover(const char *data);

#endif
