/* A backup file. With a first byte of 1 the input is the file; else it is what is sealed in one, in chunks
 * of lengths the input gives, so that the manifest and rows behind the encryption are reached. */
#include "storage/backup.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

enum { FILE_MAX = 1 << 17 };
static const uint8_t key[BACKUP_KEY_BYTES] = {7};
static const char magic[] = "BLFRYBK2";
static char path[64];

static void seal(struct bytes plain, struct buf *out)
{
    crypto_secretstream_xchacha20poly1305_state stream;
    uint8_t header[crypto_secretstream_xchacha20poly1305_HEADERBYTES];
    CHECK(crypto_secretstream_xchacha20poly1305_init_push(&stream, header, key) == 0);
    buf_add(out, magic, 8);
    buf_add(out, header, sizeof header);
    plain = plain.len > 0 ? plain : BYTES_LIT("");
    size_t chunk = plain.len > 0 ? 1 + plain.ptr[0] * 64U : 1;
    do {
        size_t len = plain.len < chunk ? plain.len : chunk;
        unsigned long long sealed;
        uint8_t tag = len == plain.len ? crypto_secretstream_xchacha20poly1305_TAG_FINAL : 0;
        uint8_t *to = buf_room(out, 4 + len + crypto_secretstream_xchacha20poly1305_ABYTES);
        CHECK(crypto_secretstream_xchacha20poly1305_push(&stream, to + 4, &sealed, plain.ptr, len,
                                                         (const uint8_t *)magic, 8, tag) == 0);
        uint32_t length = (uint32_t)sealed;
        memcpy(to, &length, sizeof length);
        out->len += 4 + length;
        plain = bytes_of(plain.ptr + len, plain.len - len);
    } while (plain.len > 0);
}

static enum err on_row(void *ctx, unsigned partition, uint8_t table, struct bytes key_, struct bytes value)
{
    size_t *rows = ctx;
    CHECK(table > 0 && table < STATE_TABLES && key_.len <= 511 && partition < 4096 && value.len <= FILE_MAX);
    CHECK(++*rows <= FILE_MAX);
    return OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes input = bytes_of(data, len);
    struct buf file = {0}, plain = {0};
    struct backup_manifest manifest;
    size_t rows = 0;
    struct backup_sink sink = {NULL, on_row, &rows};
    char why[256] = "";
    bool raw = (fuzz_take(&input, 1) & 1) != 0;
    fuzz_expand(input, FILE_MAX / 2, &plain);
    if (raw) {
        buf_add_bytes(&file, buf_bytes(&plain));
    } else {
        seal(buf_bytes(&plain), &file);
    }
    FILE *out = fopen(path, "we");
    CHECK(out != NULL && fwrite(file.ptr, 1, file.len, out) == file.len && fclose(out) == 0);
    enum err err = backup_read(path, key, &sink, &manifest, why, sizeof why);
    CHECK(err == OK || (err == ERR_CORRUPT && why[0] != 0 && manifest.books == NULL));
    free(manifest.books);
    buf_free(&file);
    buf_free(&plain);
    return 0;
}

static void remove_file(void)
{
    (void)unlink(path);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    CHECK(sodium_init() >= 0);
    (void)snprintf(path, sizeof path, "%s/belfry-fuzz-backup-%d", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp",
                   (int)getpid());
    (void)atexit(remove_file);
    if (fuzz_wants_seeds()) {
        /* Two partitions without rows: count, ids and time, two empty bookkeeping rows, the end mark. */
        static const uint8_t empty[] = {0,    2, 0,  0,    0, 0xff, 0,    5, 0xff, 0,  3,
                                        0xff, 0, 10, 0xff, 0, 6,    0xff, 0, 5,    'E'};
        static const uint8_t row[] = {0, 2, 0,   0, 0, 0xff, 0, 5, 0xff, 0, 3, 0xff, 0,   10,  0xff, 0,   6,  0xff,
                                      0, 5, 'R', 1, 0, 1,    3, 0, 2,    0, 0, 'k',  'e', 'y', 'v',  'v', 'E'};
        fuzz_seed("empty", bytes_of(empty, sizeof empty));
        fuzz_seed("row", bytes_of(row, sizeof row));
        fuzz_seeds_end();
    }
    return 0;
}
