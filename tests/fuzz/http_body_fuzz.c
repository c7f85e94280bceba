/* A valid head, then a fuzzed chunked body: two bytes that say how the stream is cut and which limit the
 * body has, then the body (fuzz_expand). */
#include "node/limits.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/http_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes input = bytes_of(data, len);
    struct buf stream = {0};
    uint64_t seed = fuzz_take(&input, 2);
    /* The usual limit, the longest, the shortest: give_limit in http_stream.c. */
    static const char *const paths[] = {"/v1/reminders", "/ab", "/a"};
    buf_printf(&stream, "POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
               paths[(seed >> 8) % ARRAY_LEN(paths)]);
    fuzz_expand(input, LIMIT_BODY_BYTES_MAX + LIMIT_BODY_BYTES / 4, &stream);
    http_stream_check(buf_bytes(&stream), seed);
    buf_free(&stream);
    return 0;
}
