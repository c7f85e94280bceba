#include "node/crypto/key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/base/check.h"

enum { DIGITS = 2 * KEY_FILE_BYTES };

enum err key_file_create(const char *path)
{
    uint8_t key[KEY_FILE_BYTES];
    char text[DIGITS + 2];
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return errno == EEXIST ? ERR_CONFLICT : ERR_IO;
    }
    randombytes_buf(key, sizeof key);
    (void)sodium_bin2hex(text, sizeof text, key, sizeof key);
    text[DIGITS] = '\n';
    bool good = write(fd, text, DIGITS + 1) == DIGITS + 1 && fsync(fd) == 0;
    sodium_memzero(key, sizeof key);
    sodium_memzero(text, sizeof text);
    (void)close(fd);
    return good ? OK : ERR_IO;
}

enum err key_file_read(const char *path, uint8_t *out)
{
    char text[DIGITS + 3] = "";
    struct stat st;
    size_t len;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
    }
    ssize_t n = fstat(fd, &st) == 0 ? read(fd, text, sizeof text - 1) : -1;
    (void)close(fd);
    if (n < 0) {
        return ERR_IO;
    }
    if ((st.st_mode & 077) != 0) {
        return ERR_FORBIDDEN;
    }
    bool good = n >= DIGITS && n <= DIGITS + 1 && (n == DIGITS || text[DIGITS] == '\n') &&
                sodium_hex2bin(out, KEY_FILE_BYTES, text, DIGITS, NULL, &len, NULL) == 0 && len == KEY_FILE_BYTES;
    sodium_memzero(text, sizeof text);
    return good ? OK : ERR_CORRUPT;
}
