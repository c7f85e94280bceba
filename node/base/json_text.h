/* JSON string escaping (RFC 8259 section 7), shared by the log and the encoder. */
#ifndef BELFRY_BASE_JSON_TEXT_H
#define BELFRY_BASE_JSON_TEXT_H

#include "node/base/bytes.h"

/* Appends the text as a quoted JSON string. Bytes that are not valid UTF-8 are passed on
 * as they are; use json_text_add_safe for text of unknown origin. */
void json_text_add(struct buf *buf, struct bytes text);
/* The same, with every byte outside ASCII that is not part of valid UTF-8 as U+FFFD. */
void json_text_add_safe(struct buf *buf, struct bytes text);

#endif
