/* The request pipeline: what happens between a parsed request and its answer, as one flow table. */
#ifndef BELFRY_REQUEST_H
#define BELFRY_REQUEST_H

#include "node/node.h"

/* The handler of a node's HTTP servers; its ctx is the struct node_worker. */
struct http_handler request_handler(struct node_worker *worker);
/* Frees the memory kept for further requests. */
void requests_close(struct node_worker *worker);

#endif
