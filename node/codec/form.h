/* Bodies of other products' clients, read as leniently as those products read them: the members of a JSON object or
 * of a form (application/x-www-form-urlencoded), as text with a type. What a member must be is its reader's to say. */
#ifndef BELFRY_CODEC_FORM_H
#define BELFRY_CODEC_FORM_H

#include "node/base/arena.h"
#include "node/base/err.h"

enum form_type { FORM_NULL, FORM_BOOL, FORM_NUMBER, FORM_TEXT, FORM_OTHER /* an object or an array */ };

struct form_member {
    struct bytes name;
    struct bytes text; /* valid UTF-8; of a number its digits, of a bool true or false; NULL and OTHER have none */
    enum form_type type;
};

/* All memory is the arena's. */
struct form {
    struct form_member *members;
    size_t len;
};

enum {
    FORM_MEMBERS = 1000,  /* what comes after so many is not looked at */
    FORM_NAME_BYTES = 64, /* a member with a longer name, the outer one's included, is left out with all it holds */
};

/* Members of a member that is an object stand behind it, as "outer.inner"; deeper ones are not looked at. An array
 * has no members. *out_why: what the parser said. Errors: ERR_INVALID_JSON. */
enum err form_decode_json(struct bytes body, struct arena *arena, struct form *out, const char **out_why) MUST_USE;
/* Takes anything: a stray % stands for itself, bytes that are not UTF-8 become U+FFFD. */
void form_decode_urlencoded(struct bytes body, struct arena *arena, struct form *out);

/* The last member of that name; NULL: there is none. */
const struct form_member *form_find(const struct form *form, const char *name);
/* Its text, if it is a text, a number or a bool; else empty. */
struct bytes form_text(const struct form *form, const char *name);

/* Percent-decodes text as a form does it (plus: a plus is a space). Arena memory. */
struct bytes form_percent_decode(struct bytes text, bool plus, struct arena *arena);

#endif
