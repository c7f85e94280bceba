/* What nodes say to each other, as bytes. A frame of a link holds messages behind each other:
 * type (1) | length (4, little endian) | body; a body is msgpack, packed and unpacked with the field
 * tables of node/codec. Unknown types are skipped, unknown tags too: a newer node may say more. */
#ifndef BELFRY_CLUSTER_WIRE_H
#define BELFRY_CLUSTER_WIRE_H

#include "cluster/group.h"

enum {
    WIRE_ENTRIES_MAX = 8192, /* of one APPEND */
    WIRE_GROUP_MAX = UINT16_MAX,
    WIRE_CONFIGURATION_BYTES = 32 << 10 /* more than GROUP_MEMBERS_MAX members take */
};

/* Appends a message to a frame. */
void wire_add(struct buf *frame, uint8_t type, struct bytes body);
/* Takes the next message off; ERR_NOT_FOUND at the end, ERR_CORRUPT when the bytes are no message. */
enum err wire_next(struct bytes *frame, uint8_t *out_type, struct bytes *out_body) MUST_USE;

/* Appends the body of a group's message; entries are those of an APPEND (message->entries_len of them, at
 * most WIRE_ENTRIES_MAX), or NULL. What its type does not have must be zero, and all as sound as
 * wire_group_unpack wants it. */
void wire_group_pack(struct buf *out, unsigned group, const struct group_message *message,
                     const struct group_entry *entries);
/* Checks everything the engine would trust, but what is in payloads and the configuration: types, replicas
 * and terms not zero, numbers below 2^62, no term above the message's, terms of entries that never fall.
 * out->entries and their payloads are malloc'd: wire_group_free, unless group_receive took them.
 * out->configuration points into body. Errors: ERR_CORRUPT. */
enum err wire_group_unpack(struct bytes body, unsigned *out_group, struct group_message *out) MUST_USE;
void wire_group_free(struct group_message *message);

#endif
