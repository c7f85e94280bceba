/* UTF-8 (RFC 3629), case folding by libutf8proc, base64url. */
#ifndef BELFRY_BASE_TEXT_H
#define BELFRY_BASE_TEXT_H

#include "node/base/bytes.h"

/* Length of the longest prefix that is valid UTF-8. */
size_t text_utf8_prefix(struct bytes text);
/* Number of code points of valid UTF-8. */
size_t text_chars(struct bytes text);
/* Code points 0..1F, 7F..9F and the bidirectional controls. */
bool text_has_controls(struct bytes text);
/* NFKC with case folded (Unicode TR 31): the form in which names are compared.
 * Appends to out; false when the text cannot be folded. */
bool text_fold(struct bytes text, struct buf *out) MUST_USE;

/* base64url without padding (RFC 4648 section 5). Decoding takes the canonical form only. */
void text_base64url_add(struct buf *out, struct bytes raw);
bool text_base64url_decode(struct bytes text, uint8_t *out, size_t cap, size_t *out_len) MUST_USE;
/* base64 with padding (RFC 4648 section 4). */
void text_base64_add(struct buf *out, struct bytes raw);
bool text_base64_decode(struct bytes text, uint8_t *out, size_t cap, size_t *out_len) MUST_USE;
/* Decimal digits only, no sign, no overflow. */
bool text_parse_u64(struct bytes text, uint64_t *out) MUST_USE;

#endif
