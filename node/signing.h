/* The tokens that scripts have signed (struct script_services). */
#ifndef BELFRY_SIGNING_H
#define BELFRY_SIGNING_H

#include "actors/script.h"

enum err signing_sign(struct script *script, struct id account, struct id session, enum role role, int64_t stamp_ms,
                      struct buf *out);
int64_t signing_stamp(struct script *script, struct id account);
enum err signing_sign_foreign(struct script *script, const struct foreign_claims *claims, struct buf *out);

#endif
