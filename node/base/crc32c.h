/* CRC32C (Castagnoli, RFC 3720 appendix B.4), by the SSE4.2 instruction where the CPU has it. */
#ifndef BELFRY_BASE_CRC32C_H
#define BELFRY_BASE_CRC32C_H

#include "node/base/bytes.h"

/* Continues crc over more bytes; start with 0. */
uint32_t crc32c(uint32_t crc, const void *ptr, size_t len);
/* The same without the instruction, for comparison in tests. */
uint32_t crc32c_table(uint32_t crc, const void *ptr, size_t len);

#endif
