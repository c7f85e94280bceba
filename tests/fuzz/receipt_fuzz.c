/* The texts of receipts and of messages' ids: what is taken is written again as the same text. */
#include "actors/queue/client.h"
#include "tests/fuzz/fuzz.h"

static void check_receipt(struct bytes text)
{
    struct receipt receipt, same;
    struct buf again = {0};
    if (receipt_parse(text, &receipt)) {
        receipt_add(&again, &receipt);
        CHECK(again.len <= text.len); /* leading zeros are gone */
        CHECK(receipt_parse(buf_bytes(&again), &same));
        CHECK(same.partition == receipt.partition && same.gid == receipt.gid && same.smallest == receipt.smallest &&
              same.id == receipt.id && same.number == receipt.number);
    }
    buf_free(&again);
}

static void check_id(struct bytes text)
{
    unsigned partition, same_partition;
    uint64_t id, same;
    struct buf again = {0};
    if (message_id_parse(text, &partition, &id)) {
        message_id_add(&again, partition, id);
        CHECK(message_id_parse(buf_bytes(&again), &same_partition, &same));
        CHECK(same_partition == partition && same == id);
    }
    buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    check_receipt(bytes_of(data, len));
    check_id(bytes_of(data, len));
    return 0;
}
