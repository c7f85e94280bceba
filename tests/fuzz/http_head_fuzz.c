/* Arbitrary bytes as a connection's stream: two bytes that say how it is cut, then the stream
 * (fuzz_expand). */
#include "node/limits.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/http_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes input = bytes_of(data, len);
    struct buf stream = {0};
    uint64_t seed = fuzz_take(&input, 2);
    fuzz_expand(input, 3 * LIMIT_HEAD_BYTES, &stream);
    http_stream_check(buf_bytes(&stream), seed);
    buf_free(&stream);
    return 0;
}
