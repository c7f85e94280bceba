/* The side file of durable points. The first byte: with 1 the checksum is made right first, so that what
 * stands behind it is reached. It is refused, or its meta page is looked at and the state checked from it. */
#include "storage/durable.h"

#include <stdlib.h>

#include "node/base/crc32c.h"
#include "storage/tree.h"
#include "tests/fuzz/fuzz.h"

enum { PARTITIONS = 3, CRC_AT = 8, BODY_AT = 12 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes input = bytes_of(data, len);
    struct durable_look look = {0};
    struct buf file = {0};
    bool fix = (fuzz_take(&input, 1) & 1) != 0;
    fuzz_expand(input, 8192, &file);
    if (fix && file.len > BODY_AT) {
        uint32_t crc = crc32c(0, file.ptr + BODY_AT, file.len - BODY_AT);
        memcpy(file.ptr + CRC_AT, &crc, sizeof crc);
    }
    if (durable_parse(buf_bytes(&file), PARTITIONS, &look) == OK) {
        uint64_t txn;
        CHECK(look.has_point && look.applied != NULL);
        (void)tree_meta_txn(bytes_of(look.meta, sizeof look.meta), &txn);
    }
    free(look.applied);
    buf_free(&file);
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    if (fuzz_wants_seeds()) {
        static const uint8_t seed[] = {1, 'B',        'L', 'F', 'R', 'Y',  'D', 'P', '1',  0, 0, 0,
                                       0, PARTITIONS, 0,   0,   0,   0xff, 0,   12,  0xff, 0, 5};
        fuzz_seed("point", bytes_of(seed, sizeof seed));
        fuzz_seeds_end();
    }
    return 0;
}
