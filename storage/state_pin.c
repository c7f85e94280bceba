#include "storage/state_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/tree.h"

/* ---- durable points ----
 * LMDB's meta page n (n = transaction id & 1), after the page header of 16 bytes: magic (4),
 * version (4), address (8), map size (8), two database records (48 each), last page (8),
 * transaction id (8). LMDB 0.9, mdb.c "struct MDB_meta". */

enum { META_TXN_AT = 144 };

struct state_pin {
    struct state *state;
    MDB_txn *txn;
    uint64_t *applied, bytes;
    uint8_t meta[STATE_META_BYTES];
};

enum err state_pin(struct state *state, struct state_pin **out)
{
    struct state_pin *pin = mem_zalloc(sizeof *pin);
    MDB_envinfo info;
    MDB_stat stat;
    pin->state = state;
    enum err err = state_err_of(mdb_txn_begin(state->env, NULL, MDB_RDONLY, &pin->txn));
    if (err != OK) {
        free(pin);
        return err;
    }
    CHECK(mdb_env_info(state->env, &info) == 0 && mdb_env_stat(state->env, &stat) == 0);
    CHECK(stat.ms_psize == STATE_META_BYTES);
    size_t id = mdb_txn_id(pin->txn);
    int fd;
    CHECK(mdb_env_get_fd(state->env, &fd) == 0);
    ssize_t n = pread(fd, pin->meta, sizeof pin->meta, (off_t)((id & 1) * STATE_META_BYTES));
    pin->applied = mem_zalloc(state->options.partitions * sizeof *pin->applied);
    for (unsigned i = 0; i < state->options.partitions; i++) {
        pin->applied[i] = state->committed[i].applied_index;
    }
    uint64_t txn;
    if (n != STATE_META_BYTES || !tree_meta_txn(state_pin_meta(pin), &txn) || (id > 0 && txn != id)) {
        state_pin_free(pin);
        return ERR_IO;
    }
    *out = pin;
    return OK;
}

struct state *state_pin_state(const struct state_pin *pin)
{
    return pin->state;
}

void state_pin_free(struct state_pin *pin)
{
    if (pin != NULL) {
        mdb_txn_abort(pin->txn);
        free(pin->applied);
        free(pin);
    }
}

/* Writes what is dirty, piece by piece, each waited for. */
static enum err write_back(int fd)
{
    enum { PIECE_BYTES = 256 * 1024 };
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return ERR_IO;
    }
    for (off_t at = 0; at < st.st_size; at += PIECE_BYTES) {
        unsigned how = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
        if (sync_file_range(fd, at, PIECE_BYTES, how) != 0) {
            return ERR_IO;
        }
    }
    return OK;
}

/* A sync of a whole large file would hold up the log's own small syncs for as long as it takes. So most of
 * it is written back before, in passes: each covers what became dirty during the one before, and the
 * fdatasync at the end, which alone counts, finds little to do. */
enum err state_pin_sync(struct state_pin *pin)
{
    enum { PASSES = 3 };
    int fd;
    CHECK(mdb_env_get_fd(pin->state->env, &fd) == 0);
    for (int pass = 0; pass < PASSES; pass++) {
        TRY(write_back(fd));
    }
    struct stat st;
    if (fstat(fd, &st) != 0 || fdatasync(fd) != 0) { /* in this order: what is written meanwhile may not be on disk */
        return ERR_IO;
    }
    pin->bytes = (uint64_t)st.st_size;
    return OK;
}

struct bytes state_pin_meta(const struct state_pin *pin)
{
    return bytes_of(pin->meta, sizeof pin->meta);
}

const uint64_t *state_pin_applied(const struct state_pin *pin)
{
    return pin->applied;
}

bool state_pin_is_newest(const struct state_pin *pin)
{
    MDB_envinfo info;
    CHECK(mdb_env_info(pin->state->env, &info) == 0);
    return mdb_txn_id(pin->txn) == info.me_last_txnid;
}

uint64_t state_pin_txn(const struct state_pin *pin)
{
    return mdb_txn_id(pin->txn);
}

uint64_t state_pin_bytes(const struct state_pin *pin)
{
    return pin->bytes;
}

static enum err write_meta(int fd, const uint8_t *meta, uint64_t slot, uint64_t txn)
{
    uint8_t page[STATE_META_BYTES];
    memcpy(page, meta, sizeof page);
    memcpy(page, &slot, sizeof slot); /* the page header starts with the page number */
    memcpy(page + META_TXN_AT, &txn, sizeof txn);
    return pwrite(fd, page, sizeof page, (off_t)(slot * STATE_META_BYTES)) == STATE_META_BYTES ? OK : ERR_IO;
}

static void data_path(const char *dir, const char *name, char *out)
{
    (void)snprintf(out, PATH_MAX, "%s/%s", dir, name);
}

enum err state_meta_restore(const char *dir, struct bytes meta)
{
    char path[PATH_MAX];
    uint64_t txn;
    if (!tree_meta_txn(meta, &txn)) {
        return ERR_CORRUPT;
    }
    data_path(dir, "data.mdb", path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? ERR_CORRUPT : ERR_IO;
    }
    enum err err = write_meta(fd, meta.ptr, txn & 1, txn);
    if (err == OK) {
        err = write_meta(fd, meta.ptr, (txn & 1) ^ 1, txn > 0 ? txn - 1 : 0);
    }
    if (err == OK && fdatasync(fd) != 0) {
        err = ERR_IO;
    }
    (void)close(fd);
    return err;
}

enum err state_erase(const char *dir)
{
    char path[PATH_MAX];
    data_path(dir, "data.mdb", path);
    if (unlink(path) != 0 && errno != ENOENT) {
        return ERR_IO;
    }
    data_path(dir, "lock.mdb", path);
    return unlink(path) == 0 || errno == ENOENT ? OK : ERR_IO;
}
