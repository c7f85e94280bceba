/* A connection's bytes through the HTTP parser, as node/http/server.c feeds it. */
#ifndef BELFRY_TESTS_FUZZ_HTTP_STREAM_H
#define BELFRY_TESTS_FUZZ_HTTP_STREAM_H

#include "node/base/bytes.h"

/* Reads the stream whole and in pieces cut by the seed, and checks that both ways give the same
 * requests and the same end, and that every request is within its bytes and the limits. */
void http_stream_check(struct bytes stream, uint64_t seed);

#endif
