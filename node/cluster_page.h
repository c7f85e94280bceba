/* The cluster as one node sees it: who belongs to it, who leads what, how far behind each is, how busy.
 * Nodes tell each other about themselves twice a second (PEER_STATUS); nothing here needs a leader. */
#ifndef BELFRY_CLUSTER_PAGE_H
#define BELFRY_CLUSTER_PAGE_H

#include "cluster/link.h"
#include "node/node.h"
#include "node/pages.h"

struct statuses;
struct statuses *statuses_new(unsigned partitions);
void statuses_free(struct statuses *statuses);

/* On the first worker, every 100 ms: what this node says of itself goes to the others. */
void statuses_tend(struct node_worker *worker);
/* Of what the others say: whether that one drains; whether any of them does not. */
bool statuses_is_draining(struct statuses *statuses, uint64_t replica);
bool statuses_anyone_stays(struct node *node);
/* PEER_STATUS, PEER_DRAIN. */
void statuses_on_status(struct node_worker *worker, const struct link_hello *from, struct bytes body);
void statuses_on_drain(struct node_worker *worker, struct bytes body);

/* GET /v1/cluster; ?format=table is for people. */
int cluster_page(struct node *node, const struct http_request *request, struct page_out *out);
/* POST and DELETE /v1/cluster/nodes/{id}/drain: that node leads nothing and takes no hashes, until told
 * otherwise or started anew. */
int cluster_drain(struct node *node, const struct http_request *request, struct page_out *out);
int cluster_undrain(struct node *node, const struct http_request *request, struct page_out *out);

#endif
