/* A command as it stands in the log. A fixed head, which the proposer stamps, then msgpack:
 *
 *   0  version (1)    1  kind    2  op    3  reserved (0)
 *   4  reserved (4)   8  stamped time, milliseconds (8, little endian)
 *   16 request id     32 seed for ids (8)    40 msgpack of struct command (command_fields)
 *
 * The request id carries the time of its birth; it is minted by the entry node, never by a client. */
#ifndef BELFRY_COMMAND_H
#define BELFRY_COMMAND_H

#include "actors/kind.h"

enum { COMMAND_VERSION = 1, COMMAND_HEAD_BYTES = 40 };

struct command {
    struct fieldset set;
    struct bytes key; /* of the actor */
    struct id account, session;
    int64_t role;
    struct bytes params; /* packed by the operation's input table */
    int64_t if_match;
    struct bytes idem_key;  /* digest of the client's Idempotency-Key, method and path */
    struct bytes idem_body; /* digest of account and body */
    /* From the head, not in the table. */
    uint8_t kind, op;
    int64_t stamped_ms;
    struct id request_id;
    uint64_t seed;
};

/* malloc'd bytes for the log. */
struct bytes command_encode(const struct command *command);
/* Strings point into payload. Errors: ERR_CORRUPT. */
enum err command_decode(struct bytes payload, struct command *out) MUST_USE;
/* The proposer's stamp, in place. */
void command_stamp(struct bytes payload, int64_t stamped_ms);
int64_t command_stamped(struct bytes payload);
/* One that comes from another node: known, and its parameters are in order. Errors: ERR_CORRUPT. */
enum err command_check(struct bytes payload) MUST_USE;
/* The operation of a command that was checked or made here. */
const struct op *command_op(struct bytes payload);

#endif
