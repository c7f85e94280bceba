/* Commands that carry what several scripts ask of one actor (script_join), as one log entry: an operation with
 * joined_fields as its input gets the items one behind another, and answers for each in order.
 *
 *   static enum err reduce(struct turn *turn, const void *in, struct reply *reply)
 *   {
 *       struct bytes rest = ((const struct joined *)in)->items, item;
 *       struct caller caller;
 *       while (joined_next(&rest, &caller, &item)) {
 *           joined_answer(reply, one(turn, &caller, item, &part), part);
 *       }
 *       return OK;
 *   }
 *
 * An error that reduce itself returns is that of every script. Items are independent: one that is refused must have
 * written nothing. The turn's caller is the node (ROLE_ADMIN, no account): each item has its own. */
#ifndef BELFRY_ACTORS_JOIN_H
#define BELFRY_ACTORS_JOIN_H

#include "actors/turn.h"

/* Items: account (16), role (1), length (4, little endian), bytes. */
struct joined {
    struct fieldset set;
    struct bytes items;
};
extern const struct field joined_fields[];

void joined_add(struct buf *items, const struct caller *caller, struct bytes item);
/* How much it takes there. */
size_t joined_size(struct bytes item);
/* The next item, which points into rest; false: there is none. The caller's session is none. */
bool joined_next(struct bytes *rest, struct caller *out_caller, struct bytes *out_item);
/* Of a command that comes from another node. Errors: ERR_CORRUPT. */
enum err joined_check(struct bytes items) MUST_USE;

/* One more part of the answer, for the next item: error (4), length (4), bytes. Not ERR_INVALID_FIELDS: a part names no
 * field. */
void joined_answer(struct reply *reply, enum err err, struct bytes part);
/* The next part; false: there is none, or it is none of ours. */
bool joined_part(struct bytes *rest, enum err *out_err, struct bytes *out_part);

#endif
