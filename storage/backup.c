#include "storage/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "storage/disk.h"
#include "storage/row.h"

enum {
    CHUNK = 64 * 1024, /* plaintext bytes */
    SEALED = CHUNK + crypto_secretstream_xchacha20poly1305_ABYTES,
    HEADER = crypto_secretstream_xchacha20poly1305_HEADERBYTES,
    MAGIC = 8,
    MARK_ROW = 'R',
    MARK_END = 'E',
    ROW_HEAD = 1 + 2 + 1 + 2 + 4, /* mark, partition, table, length of key, of value */
    PARTITIONS_MAX = 4096,
    VALUE_MAX = 64 << 20
};
static const char magic[] = "BLFRYBK2";
_Static_assert(BACKUP_KEY_BYTES == crypto_secretstream_xchacha20poly1305_KEYBYTES, "the key is secretstream's");

/* ---- writing ---- */

struct writer {
    FILE *file;
    crypto_secretstream_xchacha20poly1305_state stream;
    struct buf plain; /* not yet sealed, less than a chunk */
    enum err err;
    unsigned partition;
};

static enum err err_of_errno(void)
{
    return errno == ENOSPC || errno == EDQUOT ? ERR_DISK_FULL : ERR_IO;
}

static void put(struct writer *writer, const void *data, size_t len)
{
    if (writer->err == OK && fwrite(data, 1, len, writer->file) != len) {
        writer->err = err_of_errno();
    }
}

static void seal_chunk(struct writer *writer, size_t len, bool last)
{
    uint8_t sealed[SEALED];
    unsigned long long sealed_len;
    uint8_t tag = last ? crypto_secretstream_xchacha20poly1305_TAG_FINAL : 0;
    CHECK(crypto_secretstream_xchacha20poly1305_push(&writer->stream, sealed, &sealed_len, writer->plain.ptr, len,
                                                     (const uint8_t *)magic, MAGIC, tag) == 0);
    uint32_t length = (uint32_t)sealed_len;
    put(writer, &length, sizeof length);
    put(writer, sealed, length);
    memmove(writer->plain.ptr, writer->plain.ptr + len, writer->plain.len - len);
    writer->plain.len -= len;
}

static void add(struct writer *writer, const void *data, size_t len)
{
    buf_add(&writer->plain, data, len);
    while (writer->plain.len > CHUNK) {
        seal_chunk(writer, CHUNK, false);
    }
}

static void add_manifest(struct writer *writer, const struct backup_manifest *manifest)
{
    uint32_t partitions = manifest->partitions;
    add(writer, &partitions, sizeof partitions);
    add(writer, &manifest->cluster, sizeof manifest->cluster);
    add(writer, &manifest->node, sizeof manifest->node);
    add(writer, &manifest->created_ms, sizeof manifest->created_ms);
    add(writer, manifest->books, partitions * sizeof *manifest->books);
}

static enum err add_row(void *ctx, uint8_t table, struct bytes key, struct bytes value)
{
    struct writer *writer = ctx;
    uint8_t head[ROW_HEAD] = {MARK_ROW};
    uint16_t partition = (uint16_t)writer->partition, key_len = (uint16_t)key.len;
    uint32_t value_len = (uint32_t)value.len;
    memcpy(head + 1, &partition, 2);
    head[3] = table;
    memcpy(head + 4, &key_len, 2);
    memcpy(head + 6, &value_len, 4);
    add(writer, head, sizeof head);
    add(writer, key.ptr, key.len);
    add(writer, value.ptr, value.len);
    return writer->err;
}

static enum err write_rows(struct writer *writer, struct state_reader *reader, const uint8_t *key,
                           struct backup_manifest *manifest)
{
    uint8_t header[HEADER];
    TRY(state_reader_renew(reader));
    manifest->books = mem_zalloc(manifest->partitions * sizeof *manifest->books);
    for (unsigned p = 0; p < manifest->partitions; p++) {
        TRY(state_reader_partition(reader, p, &manifest->books[p]));
    }
    CHECK(crypto_secretstream_xchacha20poly1305_init_push(&writer->stream, header, key) == 0);
    put(writer, magic, MAGIC);
    put(writer, header, sizeof header);
    add_manifest(writer, manifest);
    for (unsigned p = 0; p < manifest->partitions; p++) {
        writer->partition = p;
        TRY(state_reader_scan(reader, p, add_row, writer));
    }
    uint8_t mark = MARK_END;
    add(writer, &mark, sizeof mark);
    seal_chunk(writer, writer->plain.len, true);
    return writer->err;
}

static enum err write_file(const char *path, const uint8_t *key, struct state *state, struct backup_manifest *manifest)
{
    struct writer writer = {0};
    struct state_reader *reader;
    TRY(state_reader_new(state, &reader));
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    writer.file = fd < 0 ? NULL : fdopen(fd, "w");
    enum err err = writer.file == NULL ? err_of_errno() : write_rows(&writer, reader, key, manifest);
    if (writer.file != NULL) {
        if (err == OK && (fflush(writer.file) != 0 || fdatasync(fileno(writer.file)) != 0)) {
            err = err_of_errno();
        }
        (void)fclose(writer.file);
    }
    state_reader_free(reader);
    buf_free(&writer.plain);
    return err;
}

static enum err sync_directory_of(const char *path)
{
    char parent[PATH_MAX];
    (void)snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash == NULL) {
        (void)snprintf(parent, sizeof parent, ".");
    } else {
        slash[slash == parent] = 0;
    }
    return disk_posix()->sync_dir(disk_posix(), parent);
}

enum err backup_write(const char *path, const uint8_t *key, struct state *state, struct backup_manifest *manifest,
                      char *out_why, size_t why_cap)
{
    char temporary[PATH_MAX];
    struct backup_sink nothing = {0};
    struct backup_manifest again = {0};
    if (access(path, F_OK) == 0) {
        (void)snprintf(out_why, why_cap, "the file %.200s exists", path);
        return ERR_CONFLICT;
    }
    (void)snprintf(temporary, sizeof temporary, "%.4000s.tmp", path);
    (void)snprintf(out_why, why_cap, "the file %.200s cannot be written", temporary);
    enum err err = write_file(temporary, key, state, manifest);
    if (err == ERR_CORRUPT) {
        (void)snprintf(out_why, why_cap, "the state is damaged: no backup is made of it");
    }
    if (err == OK) {
        err = backup_read(temporary, key, &nothing, &again, out_why, why_cap);
        free(again.books);
    }
    if (err == OK && (rename(temporary, path) != 0 || sync_directory_of(path) != OK)) {
        (void)snprintf(out_why, why_cap, "the file %.200s cannot be given its name", path);
        err = ERR_IO;
    }
    if (err != OK) {
        (void)unlink(temporary);
    }
    return err;
}

/* ---- reading ---- */

struct reader {
    FILE *file;
    crypto_secretstream_xchacha20poly1305_state stream;
    struct buf plain; /* opened, not yet taken */
    size_t taken;     /* of it */
    bool last;        /* the chunk tagged FINAL was opened */
    const char *why;
};

static enum err damaged(struct reader *reader, const char *why)
{
    reader->why = why;
    return ERR_CORRUPT;
}

static enum err open_chunk(struct reader *reader)
{
    uint8_t sealed[SEALED], tag;
    uint32_t length;
    unsigned long long len;
    if (reader->last) {
        return damaged(reader, "it ends within a record");
    }
    if (fread(&length, 1, sizeof length, reader->file) != sizeof length || length > sizeof sealed ||
        length < crypto_secretstream_xchacha20poly1305_ABYTES || fread(sealed, 1, length, reader->file) != length) {
        return ferror(reader->file) ? ERR_IO : damaged(reader, "it is cut short or damaged");
    }
    if (reader->taken > 0) {
        memmove(reader->plain.ptr, reader->plain.ptr + reader->taken, reader->plain.len - reader->taken);
        reader->plain.len -= reader->taken;
        reader->taken = 0;
    }
    uint8_t *to = buf_room(&reader->plain, CHUNK);
    if (crypto_secretstream_xchacha20poly1305_pull(&reader->stream, to, &len, &tag, sealed, length,
                                                   (const uint8_t *)magic, MAGIC) != 0) {
        return damaged(reader, "it is damaged, or the key is the wrong one");
    }
    reader->plain.len += (size_t)len;
    reader->last = tag == crypto_secretstream_xchacha20poly1305_TAG_FINAL;
    return OK;
}

/* The next len bytes; good until the next call. */
static enum err take(struct reader *reader, size_t len, const uint8_t **out)
{
    while (reader->plain.len - reader->taken < len) {
        TRY(open_chunk(reader));
    }
    *out = reader->plain.ptr + reader->taken;
    reader->taken += len;
    return OK;
}

static enum err take_into(struct reader *reader, void *to, size_t len)
{
    const uint8_t *from;
    TRY(take(reader, len, &from));
    memcpy(to, from, len);
    return OK;
}

static enum err read_manifest(struct reader *reader, struct backup_manifest *out)
{
    uint32_t partitions;
    TRY(take_into(reader, &partitions, sizeof partitions));
    if (partitions < 2 || partitions > PARTITIONS_MAX) {
        return damaged(reader, "its manifest is damaged");
    }
    out->partitions = partitions;
    TRY(take_into(reader, &out->cluster, sizeof out->cluster));
    TRY(take_into(reader, &out->node, sizeof out->node));
    TRY(take_into(reader, &out->created_ms, sizeof out->created_ms));
    out->books = mem_zalloc(partitions * sizeof *out->books);
    return take_into(reader, out->books, partitions * sizeof *out->books);
}

static uint64_t sum_of(unsigned partition, uint8_t table, struct bytes key, struct bytes value)
{
    uint8_t raw[ROW_KEY_MAX] = {(uint8_t)(partition >> 8), (uint8_t)partition, table};
    if (key.len > 0) {
        memcpy(raw + ROW_PREFIX_BYTES, key.ptr, key.len);
    }
    return row_sum(bytes_of(raw, ROW_PREFIX_BYTES + key.len), value);
}

static enum err read_row(struct reader *reader, const struct backup_manifest *manifest, const struct backup_sink *sink,
                         struct state_partition *seen)
{
    const uint8_t *head, *body;
    uint16_t partition, key_len;
    uint32_t value_len;
    TRY(take(reader, ROW_HEAD - 1, &head));
    uint8_t table = head[2];
    memcpy(&partition, head, 2);
    memcpy(&key_len, head + 3, 2);
    memcpy(&value_len, head + 5, 4);
    if (partition >= manifest->partitions || table == ROW_TABLE_BOOK || table >= STATE_TABLES ||
        key_len > ROW_KEY_MAX - ROW_PREFIX_BYTES || value_len > VALUE_MAX) {
        return damaged(reader, "it holds a row that cannot be");
    }
    TRY(take(reader, (size_t)key_len + value_len, &body));
    struct bytes key = bytes_of(body, key_len), value = bytes_of(body + key_len, value_len);
    seen[partition].counts[table]++;
    seen[partition].set_hash += sum_of(partition, table, key, value);
    return sink->row == NULL ? OK : sink->row(sink->ctx, partition, table, key, value);
}

static enum err check_end(struct reader *reader, const struct backup_manifest *manifest,
                          const struct state_partition *seen)
{
    if (!reader->last || reader->plain.len != reader->taken || fgetc(reader->file) != EOF) {
        return damaged(reader, "something follows its end");
    }
    for (unsigned p = 0; p < manifest->partitions; p++) {
        if (seen[p].set_hash != manifest->books[p].set_hash ||
            memcmp(seen[p].counts, manifest->books[p].counts, sizeof seen[p].counts) != 0) {
            return damaged(reader, "its rows do not have the hash that its manifest says");
        }
    }
    return OK;
}

static enum err read_rows(struct reader *reader, const struct backup_manifest *manifest, const struct backup_sink *sink)
{
    struct state_partition *seen = mem_zalloc(manifest->partitions * sizeof *seen);
    enum err err = sink->begin == NULL ? OK : sink->begin(sink->ctx, manifest);
    uint8_t mark = MARK_ROW;
    while (err == OK && mark == MARK_ROW) {
        err = take_into(reader, &mark, sizeof mark);
        if (err == OK && mark == MARK_ROW) {
            err = read_row(reader, manifest, sink, seen);
        }
    }
    if (err == OK) {
        err = mark == MARK_END ? check_end(reader, manifest, seen) : damaged(reader, "it holds an unknown record");
    }
    free(seen);
    return err;
}

static enum err read_header(struct reader *reader, const uint8_t *key)
{
    char start[MAGIC];
    uint8_t header[HEADER];
    if (fread(start, 1, sizeof start, reader->file) != sizeof start || memcmp(start, magic, MAGIC) != 0) {
        return damaged(reader, "it is no backup of belfry's");
    }
    if (fread(header, 1, sizeof header, reader->file) != sizeof header ||
        crypto_secretstream_xchacha20poly1305_init_pull(&reader->stream, header, key) != 0) {
        return damaged(reader, "it is cut short or damaged");
    }
    return OK;
}

enum err backup_read(const char *path, const uint8_t *key, const struct backup_sink *sink,
                     struct backup_manifest *out_manifest, char *out_why, size_t why_cap)
{
    struct reader reader = {.file = fopen(path, "re"), .why = "it cannot be read"};
    *out_manifest = (struct backup_manifest){0};
    enum err err = reader.file != NULL ? OK : errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
    if (err == OK) {
        err = read_header(&reader, key);
    }
    if (err == OK) {
        err = read_manifest(&reader, out_manifest);
    }
    if (err == OK) {
        err = read_rows(&reader, out_manifest, sink);
    }
    if (err != OK) {
        (void)snprintf(out_why, why_cap, "the backup %.200s: %s", path, reader.why);
        free(out_manifest->books);
        out_manifest->books = NULL;
    }
    if (reader.file != NULL) {
        (void)fclose(reader.file);
    }
    buf_free(&reader.plain);
    return err;
}
