/* A file with a secret of 32 bytes as 64 hexadecimal digits: the key of backups. */
#ifndef BELFRY_CRYPTO_KEY_FILE_H
#define BELFRY_CRYPTO_KEY_FILE_H

#include <stdint.h>

#include "node/base/err.h"

enum { KEY_FILE_BYTES = 32 };

/* A new one from the system's random numbers, readable by its owner alone. Errors: ERR_CONFLICT (it
 * exists), ERR_IO. */
enum err key_file_create(const char *path);
/* Errors: ERR_NOT_FOUND, ERR_IO, ERR_CORRUPT (not 64 hexadecimal digits), ERR_FORBIDDEN (others may read it). */
enum err key_file_read(const char *path, uint8_t *out);

#endif
