/* A field table describes one C struct once, and everything that must know it reads the table:
 * JSON and query decoding, validation, msgpack both ways, JSON replies, OpenAPI.
 *
 * A described struct starts with `struct fieldset set`; bit i of set.has says that the i-th
 * field of the table has a value, bit i of set.null that the client sent null. Tags identify
 * fields in stored and sent msgpack; they are never reused. */
#ifndef BELFRY_CODEC_FIELD_H
#define BELFRY_CODEC_FIELD_H

#include "node/base/arena.h"
#include "node/base/err.h"
#include "node/base/id.h"

enum field_type {
    TYPE_STRING,  /* struct bytes: UTF-8; min and max count code points */
    TYPE_BOOL,    /* bool */
    TYPE_INT,     /* int64_t between min and max */
    TYPE_TIME,    /* int64_t milliseconds; RFC 3339 outside */
    TYPE_ID,      /* struct id; UUID outside */
    TYPE_ENUM,    /* int: an index into choices */
    TYPE_BYTES,   /* struct bytes: never in JSON; msgpack bin */
    TYPE_OBJECT,  /* a nested described struct */
    TYPE_STRINGS, /* struct bytes: a JSON array of strings, kept as packed msgpack */
    TYPE_OBJECTS, /* struct bytes: a JSON array of objects, see field_objects_next; min and max count them. msgpack bin
                   */
    TYPE_MAP      /* struct bytes: a JSON object of strings, at most max of them, see field_map.h. msgpack map */
};

enum field_flags {
    FIELD_REQUIRED = 1,
    FIELD_NULLABLE = 2, /* null clears (merge patch) or means absent */
    FIELD_HIDDEN = 4,   /* stored, never shown */
    FIELD_IN_BYTES = 8, /* min and max of a string count bytes */
    FIELD_QUERY = 16,   /* comes from the query string, not the body */
    FIELD_SECRET = 32,  /* a password or token: never in a log, write-only in OpenAPI */
    FIELD_TEXT = 64,    /* a string, or the values of a map, that may hold any code point, line breaks and NUL too */
    FIELD_HEADER = 128  /* of a raw operation (OP_RAW): max_wait comes from the header Belfry-Max-Wait */
};

struct field {
    const char *name; /* NULL ends a table */
    uint16_t tag;
    uint8_t type;
    uint8_t flags;
    uint32_t offset;
    int64_t min, max;
    const char *const *choices; /* enum: NULL-terminated */
    const struct field *sub;    /* object, objects */
    uint32_t sub_size;          /* objects: of the struct that sub describes */
};

struct fieldset {
    uint64_t has, null;
};

#define FIELD_AT(type_, tag_, struct_, member, flags_) \
    .name = #member, .tag = (tag_), .type = (type_), .flags = (flags_), .offset = offsetof(struct struct_, member)
#define FIELD_STRING(tag, s, member, min_, max_, flags)                            \
    {                                                                              \
        FIELD_AT(TYPE_STRING, tag, s, member, flags), .min = (min_), .max = (max_) \
    }
#define FIELD_BOOL(tag, s, member, flags)          \
    {                                              \
        FIELD_AT(TYPE_BOOL, tag, s, member, flags) \
    }
#define FIELD_INT(tag, s, member, min_, max_, flags)                            \
    {                                                                           \
        FIELD_AT(TYPE_INT, tag, s, member, flags), .min = (min_), .max = (max_) \
    }
#define FIELD_TIME(tag, s, member, flags)          \
    {                                              \
        FIELD_AT(TYPE_TIME, tag, s, member, flags) \
    }
#define FIELD_ID(tag, s, member, flags)          \
    {                                            \
        FIELD_AT(TYPE_ID, tag, s, member, flags) \
    }
#define FIELD_ENUM(tag, s, member, names, flags)                       \
    {                                                                  \
        FIELD_AT(TYPE_ENUM, tag, s, member, flags), .choices = (names) \
    }
#define FIELD_BLOB(tag, s, member, max_)                                  \
    {                                                                     \
        FIELD_AT(TYPE_BYTES, tag, s, member, FIELD_HIDDEN), .max = (max_) \
    }
#define FIELD_OBJECT(tag, s, member, table, flags)                   \
    {                                                                \
        FIELD_AT(TYPE_OBJECT, tag, s, member, flags), .sub = (table) \
    }
#define FIELD_STRINGS(tag, s, member, flags)          \
    {                                                 \
        FIELD_AT(TYPE_STRINGS, tag, s, member, flags) \
    }
#define FIELD_OBJECTS(tag, s, member, table, type_, min_, max_, flags)                                           \
    {                                                                                                            \
        FIELD_AT(TYPE_OBJECTS, tag, s, member, flags), .sub = (table), .sub_size = sizeof(type_), .min = (min_), \
                                                       .max = (max_)                                             \
    }
#define FIELD_MAP(tag, s, member, max_, flags)                   \
    {                                                            \
        FIELD_AT(TYPE_MAP, tag, s, member, flags), .max = (max_) \
    }
#define FIELDS_END   \
    {                \
        .name = NULL \
    }

static inline uint64_t field_bit(size_t index)
{
    return (uint64_t)1 << index;
}

/* Index of the field whose value lives at offset; the field must exist. */
size_t field_index(const struct field *fields, size_t offset);

/* Does the struct hold a value for this member? */
#define FIELD_HAS(fields, ptr, type, member) \
    (((ptr)->set.has & field_bit(field_index(fields, offsetof(type, member)))) != 0)
#define FIELD_IS_NULL(fields, ptr, type, member) \
    (((ptr)->set.null & field_bit(field_index(fields, offsetof(type, member)))) != 0)
#define FIELD_SET(fields, ptr, type, member, value)                               \
    do {                                                                          \
        (ptr)->member = (value);                                                  \
        (ptr)->set.has |= field_bit(field_index(fields, offsetof(type, member))); \
    } while (0)
#define FIELD_CLEAR(fields, ptr, type, member) \
    ((ptr)->set.has &= ~field_bit(field_index(fields, offsetof(type, member))))

/* What was wrong with the input, one row a field (RFC 9457 `errors`). */
enum { FIELD_ERRORS_MAX = 16 };
struct field_error {
    const char *pointer; /* JSON pointer or parameter name; arena memory */
    const char *code;    /* static */
    const char *detail;  /* static */
};
struct field_errors {
    struct field_error rows[FIELD_ERRORS_MAX];
    size_t len;
    const char *json_detail; /* ERR_INVALID_JSON: what the parser said; arena memory */
};
void field_errors_add(struct field_errors *errors, struct arena *arena, const char *pointer, const char *code,
                      const char *detail);

/* Decodes a JSON body. Strings are copied into the arena. Of the items of objects the required fields are checked.
 * Errors: ERR_INVALID_JSON, ERR_INVALID_FIELDS (rows in errors). */
enum err field_decode_json(const struct field *fields, struct bytes body, struct arena *arena, void *out,
                           struct field_errors *errors) MUST_USE;
/* Decodes a query string (application/x-www-form-urlencoded) into the FIELD_QUERY fields. */
enum err field_decode_query(const struct field *fields, struct bytes query, struct arena *arena, void *out,
                            struct field_errors *errors) MUST_USE;
/* One parameter of the path, still percent-encoded, into the FIELD_QUERY field of that name. */
enum err field_decode_param(const struct field *fields, struct bytes name, struct bytes text, struct arena *arena,
                            void *out, struct field_errors *errors) MUST_USE;
/* One header (without white space around it) into the FIELD_HEADER field of that name, other_name. */
enum err field_decode_header(const struct field *fields, struct bytes name, struct bytes text, struct arena *arena,
                             void *out, struct field_errors *errors) MUST_USE;
/* As clients write the header of a FIELD_HEADER field: Belfry-Other-Name. */
enum { FIELD_HEADER_BYTES = 64 };
void field_header_name(const struct field *field, char out[FIELD_HEADER_BYTES]);
/* Percent-decodes (RFC 3986); plus is a space when form is true. Arena memory. */
bool field_percent_decode(struct bytes text, bool form, struct arena *arena, struct bytes *out) MUST_USE;
/* Reports fields that are required but have no value. */
enum err field_check_required(const struct field *fields, const void *in, struct arena *arena,
                              struct field_errors *errors) MUST_USE;

/* Appends the struct as a msgpack map of tag to value. */
void field_pack(struct buf *out, const struct field *fields, const void *in);
/* The reverse. Strings point into packed. Unknown tags are skipped.
 * Errors: ERR_CORRUPT. */
enum err field_unpack(const struct field *fields, struct bytes packed, void *out) MUST_USE;

/* The items of a TYPE_OBJECTS: each is its length (4 bytes, of this machine) and as much msgpack for field_unpack.
 * Takes the first one off; false: there is none. What was decoded or unpacked ends with an item. */
bool field_objects_next(struct bytes *objects, struct bytes *out_item) MUST_USE;
/* One more of them. */
void field_objects_add(struct buf *objects, const struct field *sub, const void *item);

/* A TYPE_STRINGS is made of its beginning and that many texts. */
void field_strings_begin(struct buf *strings, uint32_t count);
void field_strings_add(struct buf *strings, struct bytes text);
/* The texts of a TYPE_STRINGS, in arena memory. Errors: ERR_CORRUPT. */
enum err field_strings(struct bytes strings, struct arena *arena, struct bytes **out, size_t *out_len) MUST_USE;

/* Appends JSON, straight from msgpack. Errors: ERR_CORRUPT. */
enum err field_json_from_pack(struct buf *out, const struct field *fields, struct bytes packed) MUST_USE;

/* Appends the JSON Schema (2020-12) of a table: what a body may hold, or what a reply does. */
void field_schema(struct buf *out, const struct field *fields, bool reply);

#endif
