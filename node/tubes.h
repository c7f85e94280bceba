/* Connections that speak beanstalkd's protocol (actors/facades/beanstalkd.h), on listeners with facade=beanstalkd: each
 * command is a script, carried out like those of HTTP requests. A connection's jobs are given back when it closes. */
#ifndef BELFRY_TUBES_H
#define BELFRY_TUBES_H

#include "node/node.h"

struct tubes;       /* the node's: what its connections use and watch; its own lock */
struct tube_worker; /* a worker's connections */

struct tubes *tubes_new(struct node *node);
void tubes_free(struct tubes *tubes);
/* Jobs are being given back. */
bool tubes_are_busy(const struct tubes *tubes);

struct tube_worker *tube_worker_new(struct node_worker *worker, struct tubes *tubes);
/* Gives up what is under way; every connection is closed. */
void tube_worker_stop(struct tube_worker *tubes);
void tube_worker_free(struct tube_worker *tubes);
const struct plain_handler *tube_handler(const struct tube_worker *tubes);

#endif
