/* JSON of other products: members are written one behind the other, commas come by themselves. */
#ifndef BELFRY_ACTORS_FACADES_JSON_OUT_H
#define BELFRY_ACTORS_FACADES_JSON_OUT_H

#include "node/base/bytes.h"

/* Name NULL: an element of an array, or the whole. */
void json_out_key(struct buf *out, const char *name);
void json_out_open(struct buf *out, const char *name, char bracket);
void json_out_text(struct buf *out, const char *name, struct bytes text);
void json_out_bool(struct buf *out, const char *name, bool value);
void json_out_int(struct buf *out, const char *name, int64_t value);
void json_out_null(struct buf *out, const char *name);
void json_out_time(struct buf *out, const char *name, int64_t ms);
/* As it is: JSON already. */
void json_out_raw(struct buf *out, const char *name, struct bytes json);

#endif
