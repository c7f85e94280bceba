/* The operator's commands. Those that need a running node speak HTTP to it over DIR/belfry.sock. */
#ifndef BELFRY_OPERATOR_H
#define BELFRY_OPERATOR_H

#include "node/base/bytes.h"

/* `belfry admin [--data DIR] USERNAME [--revoke]`; `belfry status [--data DIR]`. */
int operator_admin(int argc, char **argv);
/* What GET /v1/cluster says, as a table; -o json: as it is. */
int operator_nodes(int argc, char **argv);
int operator_drain(int argc, char **argv);
int operator_remove(int argc, char **argv);
int operator_status(int argc, char **argv);
/* `belfry backup FILE --key-file KEY`; `belfry restore FILE --key-file KEY`; `belfry secret FILE`. */
int operator_backup(int argc, char **argv);
int operator_restore(int argc, char **argv);
int operator_secret(int argc, char **argv);
/* `belfry verify --data DIR` or `FILE --key-file KEY`; `belfry recover --data DIR --accept-loss`. */
int operator_verify(int argc, char **argv);
int operator_recover(int argc, char **argv);
/* `belfry topics`, `groups TOPIC`, `peek TOPIC`, `redrive TOPIC GROUP` (operator_queue.c). */
int operator_topics(int argc, char **argv);
int operator_groups(int argc, char **argv);
int operator_peek(int argc, char **argv);
int operator_redrive(int argc, char **argv);

/* ---- shared by them ---- */

/* Takes an option and its value out of the arguments; NULL when it is not there. */
const char *operator_option(int *argc, char **argv, const char *name);
const char *operator_data(int *argc, char **argv);
/* Says how it is used, and gives the exit status for that. */
int operator_complain(const char *usage);
/* Percent-encoded. */
void operator_escape(struct buf *out, const char *text);
/* Sends one request to the node of that directory; the answer's body is appended. The HTTP status, or 0. */
int operator_ask(const char *data, struct bytes request, struct buf *out);

#endif
