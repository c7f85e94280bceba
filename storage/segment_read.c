#include "storage/segment_read.h"

#include <limits.h>
#include <stdlib.h>

#include "storage/record.h"
#include "storage/segment_scan.h"

enum { PIECE_BYTES = 256 * 1024 };

/* A walk over records. */
struct walk {
    const struct segment_read *read;
    struct disk_file *file;
    uint64_t number, size; /* of the file */
    uint64_t limit;        /* nothing behind it is read: bytes that may yet change must not be kept in the piece */
    uint32_t salt;
    uint64_t at; /* of the next record */
    uint32_t chain;
    bool chained;     /* the record before it was seen: its crc is `chain` */
    uint64_t version; /* of the group, when the first place was looked up */
    struct buf piece; /* bytes of the file from piece_at on */
    uint64_t piece_at;
    uint64_t next; /* the entry to be reported next */
    size_t bytes;  /* reported */
    bool full;     /* a bound is reached */
};

static enum err open_file(struct walk *walk, uint64_t number)
{
    struct disk *disk = walk->read->disk;
    struct record_header head;
    char path[PATH_MAX];
    size_t len;
    if (walk->file != NULL) {
        disk->close(walk->file);
        walk->file = NULL;
    }
    walk->piece.len = 0;
    segment_path(walk->read->dir, number, path);
    TRY(disk->open(disk, path, false, &walk->file));
    TRY(disk->read(walk->file, &head, sizeof head, 0, &len));
    if (len < sizeof head || head.type != RECORD_SEGMENT || head.length != 0 || head.index != number ||
        record_crc(&head, NULL, 0) != head.crc) {
        return ERR_CORRUPT;
    }
    walk->number = number;
    walk->salt = head.chain;
    walk->size = head.term;
    return OK;
}

/* Makes that many bytes of the next record available. */
static enum err see(struct walk *walk, size_t len, const uint8_t **out)
{
    if (walk->at >= walk->limit || len > walk->limit - walk->at) {
        return ERR_CORRUPT;
    }
    if (walk->at < walk->piece_at || walk->at + len > walk->piece_at + walk->piece.len) {
        uint64_t left = walk->limit - walk->at;
        size_t want = len > PIECE_BYTES ? len : left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
        walk->piece.len = 0;
        walk->piece_at = walk->at;
        TRY(walk->read->disk->read(walk->file, buf_room(&walk->piece, want), want, walk->at, &walk->piece.len));
        if (walk->piece.len < len) {
            return ERR_CORRUPT;
        }
    }
    *out = walk->piece.ptr + (walk->at - walk->piece_at);
    return OK;
}

static enum err see_header(struct walk *walk, struct record_header *out)
{
    const uint8_t *data;
    TRY(see(walk, sizeof *out, &data));
    memcpy(out, data, sizeof *out);
    bool follows = !walk->chained || out->chain == walk->chain;
    return follows && out->type > RECORD_SEGMENT && out->type <= RECORD_SEAL ? OK : ERR_CORRUPT;
}

static void pass(struct walk *walk, const struct record_header *header)
{
    walk->at += record_bytes(header->length);
    walk->chain = header->crc;
    walk->chained = true;
}

static enum err report(struct walk *walk, const struct record_header *header)
{
    const struct segment_read *read = walk->read;
    const uint8_t *data;
    TRY(see(walk, sizeof *header + (size_t)header->length, &data));
    const uint8_t *payload = data + sizeof *header;
    if (record_crc(header, payload, walk->salt) != header->crc) {
        return ERR_CORRUPT;
    }
    if (walk->next > read->first && walk->bytes + header->length > read->max_bytes) {
        walk->full = true;
        return OK;
    }
    struct segment_record record = {.type = header->type,
                                    .kind = header->kind,
                                    .group = header->group,
                                    .index = header->index,
                                    .term = header->term,
                                    .payload = bytes_of(payload, header->length)};
    read->each(read->ctx, &record);
    walk->next++;
    walk->bytes += header->length;
    walk->full = walk->next - read->first == read->max_entries;
    return OK;
}

/* Goes to where the run begins; or stays, in the midst of it, when it has grown meanwhile. */
static enum err enter(struct walk *walk, const struct segment_place *place, uint64_t *out_entry)
{
    bool same_file = walk->file != NULL && walk->number == place->number;
    if (!same_file) {
        TRY(open_file(walk, place->number));
    }
    walk->limit = place->limit < walk->size ? place->limit : walk->size;
    if (same_file && walk->at > place->at) {
        *out_entry = walk->next;
        return OK;
    }
    walk->chained = same_file && walk->at == place->at;
    walk->at = place->at;
    *out_entry = place->first;
    return OK;
}

static enum err walk_run(struct walk *walk, const struct segment_place *place)
{
    struct record_header header;
    uint64_t entry; /* the group's next */
    TRY(enter(walk, place, &entry));
    while (entry < place->end && !walk->full) {
        TRY(see_header(walk, &header));
        if (header.type == RECORD_ENTRY && header.group == walk->read->group) {
            if (header.index != entry) {
                return ERR_CORRUPT;
            }
            if (entry++ == walk->next) {
                TRY(report(walk, &header));
            }
        }
        pass(walk, &header);
    }
    return OK;
}

static enum err walk_runs(struct walk *walk)
{
    const struct segment_read *read = walk->read;
    struct segment_place place;
    while (!walk->full) {
        bool begun = walk->next > read->first;
        if (!segment_index_find(read->index, read->group, walk->next, &place)) {
            return begun ? OK : ERR_NOT_FOUND;
        }
        if (begun && place.version != walk->version) {
            return OK; /* what follows now may not belong to what was reported */
        }
        walk->version = place.version;
        enum err err = walk_run(walk, &place);
        if (err != OK) {
            /* Dropped between looking up and opening: so is all that stood before. */
            return err == ERR_NOT_FOUND && walk->next > read->first ? OK : err;
        }
    }
    return OK;
}

enum err segment_read_run(const struct segment_read *read)
{
    CHECK(read->max_entries > 0);
    struct walk walk = {.read = read, .next = read->first};
    enum err err = walk_runs(&walk);
    if (walk.file != NULL) {
        read->disk->close(walk.file);
    }
    buf_free(&walk.piece);
    return err;
}
