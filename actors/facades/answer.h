/* JSON of other products: members are written one behind the other, commas come by themselves. */
#ifndef BELFRY_ACTORS_FACADES_ANSWER_H
#define BELFRY_ACTORS_FACADES_ANSWER_H

#include "node/base/bytes.h"

/* Name NULL: an element of an array, or the whole. */
void answer_key(struct buf *out, const char *name);
void answer_open(struct buf *out, const char *name, char bracket);
void answer_text(struct buf *out, const char *name, struct bytes text);
void answer_bool(struct buf *out, const char *name, bool value);
void answer_int(struct buf *out, const char *name, int64_t value);
void answer_null(struct buf *out, const char *name);
void answer_time(struct buf *out, const char *name, int64_t ms);
/* As it is: JSON already. */
void answer_raw(struct buf *out, const char *name, struct bytes json);

#endif
