/* Names of accounts that facades made for products without unique names: what the client sent, found by login, oldest
 * account first. Rows are written before the account is, so a row may lead to no account: then it is passed over, and
 * erased by whoever meets it once the account cannot come to be any more.
 *
 * TABLE_ALIAS: type | folded text | 0 | account id, in the partition of the text's hash. */
#ifndef BELFRY_ACTORS_AUTH_ALIAS_H
#define BELFRY_ACTORS_AUTH_ALIAS_H

#include "actors/kind.h"

enum alias_type { ALIAS_EMAIL = 'm', ALIAS_USERNAME = 'n' };

/* The key without the account id; empty when the text cannot be an alias. Arena memory. */
struct bytes alias_key(enum alias_type type, struct bytes text, struct arena *arena);
/* The same text has one partition, whatever its type is. */
unsigned alias_partition(struct bytes key, unsigned partitions);
/* The oldest account after the given one that has this alias. ERR_NOT_FOUND. */
enum err alias_find(struct rows *rows, struct bytes key, struct id after, struct id *out) MUST_USE;

/* Input of AUTH_PUT_ALIASES and AUTH_DROP_ALIASES: those that live in the command's partition. */
struct alias_in {
    struct fieldset set;
    struct id account;
    struct bytes username, email; /* keys */
};
extern const struct field alias_in_fields[];
enum err alias_put(struct rows *rows, struct bytes key, struct id account) MUST_USE;
enum err aliases_put(struct turn *turn, const void *in, struct reply *reply);
enum err aliases_drop(struct turn *turn, const void *in, struct reply *reply);
/* Could the account of such a row still be made? */
bool alias_is_dead(struct id account, int64_t now_ms);
/* See struct kind: rows have the form above. */
enum err aliases_check(struct rows *rows, struct arena *arena) MUST_USE;

#endif
