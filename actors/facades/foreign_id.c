#include "actors/facades/foreign_id.h"

#include "node/base/text.h"

enum { HEX_RANDOM_BITS = 36, RANDOM_BITS = 62, SEQUENCE_BITS = 14 };
enum { INT_MS_BITS = 41, INT_PARTITION_BITS = 5, INT_SEQUENCE_BITS = 7 };
static const int64_t int_epoch_ms = 1704067200000; /* 2024-01-01 */

static uint64_t random_of(struct id id)
{
    uint64_t value = 0;
    for (size_t i = 8; i < sizeof id.b; i++) {
        value = value << 8 | id.b[i];
    }
    return value & ((1ULL << RANDOM_BITS) - 1);
}

/* ---- 24 hexadecimal digits ---- */

static void put_hex(char *out, uint64_t value, int digits)
{
    static const char hex[] = "0123456789abcdef";
    for (int i = digits - 1; i >= 0; i--) {
        out[i] = hex[value & 15];
        value >>= 4;
    }
}

void foreign_hex(struct id id, char out[FOREIGN_HEX_BYTES])
{
    put_hex(out, (uint64_t)id_ms(id), 12);
    put_hex(out + 12, id_partition(id), 3);
    put_hex(out + 15, random_of(id) >> (RANDOM_BITS - HEX_RANDOM_BITS), 9);
}

static bool take_hex(struct bytes text, size_t at, size_t digits, uint64_t *out)
{
    *out = 0;
    for (size_t i = at; i < at + digits; i++) {
        uint8_t c = text.ptr[i], low = c | 0x20;
        bool digit = c >= '0' && c <= '9';
        if (!digit && (low < 'a' || low > 'f')) {
            return false;
        }
        *out = *out << 4 | (uint64_t)(digit ? c - '0' : low - 'a' + 10);
    }
    return true;
}

bool foreign_hex_parse(struct bytes text, struct id *out)
{
    uint64_t ms, partition, random;
    if (text.len != FOREIGN_HEX_BYTES || !take_hex(text, 0, 12, &ms) || !take_hex(text, 12, 3, &partition) ||
        !take_hex(text, 15, 9, &random)) {
        return false;
    }
    *out = id_make((int64_t)ms, (unsigned)partition, random << (RANDOM_BITS - HEX_RANDOM_BITS));
    return true;
}

/* The first row at or behind the least id, if it agrees with it in the random bits above `below`. */
static enum err find(struct rows *rows, uint8_t table, struct id least, unsigned below, struct id *out)
{
    struct bytes key, value;
    TRY(rows_ceil(rows, table, id_bytes(&least), &key, &value));
    if (key.len != sizeof out->b) {
        return ERR_CORRUPT;
    }
    memcpy(out->b, key.ptr, sizeof out->b);
    return memcmp(out->b, least.b, 8) == 0 && random_of(*out) >> below == random_of(least) >> below ? OK
                                                                                                    : ERR_NOT_FOUND;
}

enum err foreign_hex_find(struct rows *rows, uint8_t table, struct id least, struct id *out)
{
    return find(rows, table, least, RANDOM_BITS - HEX_RANDOM_BITS, out);
}

/* ---- integers ---- */

static uint64_t join(struct id id, uint64_t sequence)
{
    int64_t ms = id_ms(id) - int_epoch_ms;
    bool fits = ms > 0 && ms < 1LL << INT_MS_BITS && id_partition(id) < 1U << INT_PARTITION_BITS &&
                sequence < 1U << INT_SEQUENCE_BITS;
    return !fits ? 0
                 : (uint64_t)ms << (INT_PARTITION_BITS + INT_SEQUENCE_BITS) |
                       (uint64_t)id_partition(id) << INT_SEQUENCE_BITS | sequence;
}

uint64_t foreign_int(struct id id)
{
    return join(id, random_of(id) >> (RANDOM_BITS - SEQUENCE_BITS));
}

uint64_t foreign_int_unordered(struct id id)
{
    return join(id, random_of(id) & ((1U << INT_SEQUENCE_BITS) - 1));
}

bool foreign_int_parse(struct bytes text, struct id *out_least)
{
    uint64_t value;
    if (!text_parse_u64(text, &value) || value >> (INT_MS_BITS + INT_PARTITION_BITS + INT_SEQUENCE_BITS) != 0) {
        return false;
    }
    int64_t ms = int_epoch_ms + (int64_t)(value >> (INT_PARTITION_BITS + INT_SEQUENCE_BITS));
    unsigned partition = (unsigned)(value >> INT_SEQUENCE_BITS) & ((1U << INT_PARTITION_BITS) - 1);
    uint64_t sequence = value & ((1U << INT_SEQUENCE_BITS) - 1);
    *out_least = id_make(ms, partition, sequence << (RANDOM_BITS - SEQUENCE_BITS));
    return true;
}

enum err foreign_int_find(struct rows *rows, uint8_t table, struct id least, struct id *out)
{
    return find(rows, table, least, RANDOM_BITS - SEQUENCE_BITS, out);
}
