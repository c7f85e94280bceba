#include "node/base/id.h"

struct id id_make(int64_t ms, unsigned partition, uint64_t random)
{
    CHECK(partition <= ID_PARTITION_MAX && ms >= 0);
    struct id id;
    for (int i = 0; i < 6; i++) {
        id.b[i] = (uint8_t)(ms >> (40 - 8 * i));
    }
    id.b[6] = (uint8_t)(0x80U | partition >> 8);
    id.b[7] = (uint8_t)partition;
    for (int i = 0; i < 8; i++) {
        id.b[8 + i] = (uint8_t)(random >> (56 - 8 * i));
    }
    id.b[8] = (uint8_t)((id.b[8] & 0x3fU) | 0x80U);
    return id;
}

int64_t id_ms(struct id id)
{
    int64_t ms = 0;
    for (int i = 0; i < 6; i++) {
        ms = ms << 8 | id.b[i];
    }
    return ms;
}

unsigned id_partition(struct id id)
{
    return (unsigned)(id.b[6] & 0x0fU) << 8 | id.b[7];
}

void id_format(struct id id, char *out)
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof id.b; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *out++ = '-';
        }
        *out++ = hex[id.b[i] >> 4];
        *out++ = hex[id.b[i] & 15];
    }
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool id_parse(struct bytes text, struct id *out)
{
    if (text.len != ID_TEXT_BYTES) {
        return false;
    }
    size_t at = 0;
    for (size_t i = 0; i < sizeof out->b; i++) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && text.ptr[at++] != '-') {
            return false;
        }
        int high = hex_digit(text.ptr[at]), low = hex_digit(text.ptr[at + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        out->b[i] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    return out->b[6] >> 4 == 8 && out->b[8] >> 6 == 2;
}
