/* A kind for tests alone (tests/e2e/waits_test.py): counts, to which is added with script_join, and for which is waited
 * with script_watch and script_wait. build/belfry_waits is the binary with it. */
#ifndef BELFRY_TESTS_WAITS_TALLY_H
#define BELFRY_TESTS_WAITS_TALLY_H

struct kind;
extern const struct kind tally_kind;

#endif
