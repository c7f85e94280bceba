/* A facade: another product's API, for that product's clients as they are, over the same accounts and reminders as
 * /v1. It only translates paths, bodies and tokens. It is a table of routes: each is an operation as kinds have them
 * (a query or a script, carried out by the same machinery), which reads a form and answers raw bytes.
 *
 * A listener carries one facade or none: `--listen ADDR:PORT,facade=NAME`. See facades.md. */
#ifndef BELFRY_ACTORS_FACADES_FACADE_H
#define BELFRY_ACTORS_FACADES_FACADE_H

#include "actors/kind.h"
#include "node/codec/form.h"

enum { FACADE_PARAMS = 4 };

struct facade_route {
    struct op op;  /* path NULL ends the table. in and in_size stay empty: every route gets a struct facade_in */
    int variant;   /* the facade's own: handlers that two paths share */
    bool optional; /* a token is taken if there is a good one, and not asked for */
};

/* The input of a route's query or script. */
struct facade_in {
    const struct facade_route *route;
    struct form form;                   /* of the body; empty without one */
    struct bytes params[FACADE_PARAMS]; /* of the path, decoded */
};

/* Why a request gets no answer from its route: it met no route, or failed. */
struct facade_failure {
    enum err err;
    enum method method;
    const char *pointer, *detail; /* ERR_INVALID_FIELDS: which field, and why; ERR_INVALID_JSON: what the parser said */
};

struct facade {
    const char *name;
    const char *cookie;      /* where clients keep the token; NULL: in `Authorization: Bearer` */
    size_t body_max;         /* longer ones are ERR_TOO_LARGE */
    bool typed;              /* a body of another type is ERR_UNSUPPORTED_MEDIA_TYPE; else it is no body */
    unsigned partitions_max; /* as many fit into its ids; 0: any number */
    bool slash_free;         /* /x/ is /x; else GET /x is sent to /x/ if that is a route */
    bool plain;              /* its clients speak another protocol than HTTP (beanstalkd.h): it has no routes */
    const struct facade_route *routes;
    /* Fills status, type, body and headers in the product's shape. The status is err_status(why->err) already. */
    void (*fail)(const struct facade_failure *why, struct reply *reply);
};

extern const struct facade *const facades[]; /* NULL-terminated */
const struct facade *facade_find(struct bytes name);
extern const struct facade tasks_facade, remindme_facade, beanstalkd_facade;

static inline const struct facade_route *facade_route_of(const struct op *op)
{
    return (const struct facade_route *)(const void *)((const char *)op - offsetof(struct facade_route, op));
}

/* The raw answer: JSON, or another type. */
struct buf *facade_json(struct reply *reply, int status);
void facade_text(struct reply *reply, int status, const char *type, const char *text);

/* What a facade's token says (node/crypto/token.h). */
struct foreign_claims {
    const char *facade;
    struct id account;
    int64_t stamp_ms;   /* script_services.stamp, from before the password was read */
    int64_t lifetime_s; /* counted from the stamp */
    struct bytes more;  /* JSON members that the product's clients look at, with a comma behind each */
};

/* One line of text: control characters become spaces. Arena memory. */
struct bytes facade_line(struct bytes text, struct arena *arena);
/* At most so many bytes of it, whole characters. */
struct bytes facade_cut(struct bytes text, size_t most);

/* Ids of records that the caller may see, newest first; arena memory. Products have no pages: lists end at the limit.
 */
enum { FACADE_LIST = 1000, FACADE_NESTED = 100 /* in an item of a list */ };
struct facade_ids {
    struct look *look;
    struct id *list;
    size_t len;
};
enum facade_from { FACADE_OWN = 1, FACADE_PUBLIC = 2, FACADE_ASSIGNED = 4 };
/* Reminders by whose they are (bits of enum facade_from; own and assigned: of `who`). budget: struct page. */
enum err facade_reminders(struct look *look, unsigned from, struct id who, unsigned limit, unsigned *budget,
                          struct facade_ids *out) MUST_USE;
enum err facade_accounts(struct look *look, unsigned limit, unsigned *budget, struct facade_ids *out) MUST_USE;
struct reminder;
bool facade_sees(const struct look *look, const struct reminder *r);

/* A query's look, for a step right after script_read_all. */
struct facade_look {
    struct look look;
    struct script *script;
};
struct look *facade_look(struct facade_look *out, struct script *s);

#endif
