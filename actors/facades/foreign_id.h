/* Ids as other products' clients expect them, computed from ours (node/base/id.h) instead of being stored:
 *
 *   24 hexadecimal digits   48 bits of milliseconds, 12 of partition, the first 36 of the 62 random bits
 *   an integer below 2^53   41 bits of milliseconds since 2024, 5 of partition, 7 of sequence in the millisecond
 *
 * The way back looks for the one record whose id begins so: its partition is known. Both sort as time does. */
#ifndef BELFRY_ACTORS_FACADES_FOREIGN_ID_H
#define BELFRY_ACTORS_FACADES_FOREIGN_ID_H

#include "node/base/id.h"
#include "node/base/rows.h"

enum { FOREIGN_HEX_BYTES = 24, FOREIGN_INT_PARTITIONS = 31 };

void foreign_hex(struct id id, char out[FOREIGN_HEX_BYTES]);
/* The least id that has this form, in lower or upper case; false: it is not 24 hexadecimal digits. */
bool foreign_hex_parse(struct bytes text, struct id *out) MUST_USE;
/* The id in the table (key = id) that has this form. Errors: ERR_NOT_FOUND. */
enum err foreign_hex_find(struct rows *rows, uint8_t table, struct id least, struct id *out) MUST_USE;

/* 0: the id has no integer (partition above 31, more than 128 ids in the millisecond, made before 2024). */
uint64_t foreign_int(struct id id);
/* For ids whose random bits are no sequence (accounts): good to show, not to look up. */
uint64_t foreign_int_unordered(struct id id);
bool foreign_int_parse(struct bytes text, struct id *out_least) MUST_USE;
enum err foreign_int_find(struct rows *rows, uint8_t table, struct id least, struct id *out) MUST_USE;

#endif
