#include "node/pages.h"

#include "node/backups.h"
#include "node/cluster_page.h"
#include "node/crypto/token.h"
#include "node/metrics.h"
#include "node/readiness.h"

static int livez(struct node *node, const struct http_request *request, struct page_out *out)
{
    (void)node;
    (void)request;
    out->type = "text/plain; charset=utf-8";
    buf_add_lit(&out->body, "ok\n");
    return 200;
}

static int readyz(struct node *node, const struct http_request *request, struct page_out *out)
{
    bool verbose = bytes_start_with(request->query, BYTES_LIT("verbose"));
    out->type = "text/plain; charset=utf-8";
    return readiness_check(node, &out->body, verbose) == 0 ? 200 : 503;
}

static int metrics_page(struct node *node, const struct http_request *request, struct page_out *out)
{
    (void)request;
    out->type = "text/plain; version=0.0.4; charset=utf-8";
    metrics_write(node, &out->body);
    return 200;
}

static int jwks(struct node *node, const struct http_request *request, struct page_out *out)
{
    (void)request;
    out->type = "application/jwk-set+json";
    keyring_jwks(node->keyring, &out->body);
    return 200;
}

/* 409 when the node was not told where backups go. */
static int backup_last(struct node *node, const struct http_request *request, struct page_out *out)
{
    (void)request;
    out->type = "application/json";
    if (node->backups == NULL) {
        out->err = ERR_CONFLICT;
        return 409;
    }
    backups_write(node->backups, &out->body);
    return 200;
}

static int backup_now(struct node *node, const struct http_request *request, struct page_out *out)
{
    if (node->backups != NULL) {
        backups_ask(node->backups);
    }
    return backup_last(node, request, out) == 200 ? 202 : 409;
}

static int openapi(struct node *node, const struct http_request *request, struct page_out *out)
{
    (void)request;
    buf_add_bytes(&out->body, buf_bytes(&node->openapi));
    return 200;
}

static int docs(struct node *node, const struct http_request *request, struct page_out *out)
{
    (void)request;
    out->type = "text/html; charset=utf-8";
    buf_add_bytes(&out->body, buf_bytes(&node->docs));
    return 200;
}

const struct page_route page_routes[] = {
    {"/livez", METHOD_GET, ROLE_NONE, livez, "The process answers", "text/plain"},
    {"/readyz", METHOD_GET, ROLE_NONE, readyz, "The node can serve; ?verbose lists the checks", "text/plain"},
    {"/metrics", METHOD_GET, ROLE_NONE, metrics_page, "Metrics in the Prometheus text format", "text/plain"},
    {"/.well-known/jwks.json", METHOD_GET, ROLE_NONE, jwks, "The public keys of access tokens",
     "application/jwk-set+json"},
    {"/v1/cluster/backup", METHOD_POST, ROLE_ADMIN, backup_now, "Make a backup into --backup-dir", "application/json"},
    {"/v1/cluster/backup", METHOD_GET, ROLE_ADMIN, backup_last, "Is a backup being made, and the last one",
     "application/json"},
    {"/v1/cluster", METHOD_GET, ROLE_ADMIN, cluster_page, "Nodes and partitions as this node sees them",
     "application/json"},
    {"/v1/cluster/nodes/{id}/drain", METHOD_POST, ROLE_ADMIN, cluster_drain,
     "The node leads nothing and takes no work of others", "application/json"},
    {"/v1/cluster/nodes/{id}/drain", METHOD_DELETE, ROLE_ADMIN, cluster_undrain, "The node takes part again",
     "application/json"},
    {"/openapi.json", METHOD_GET, ROLE_NONE, openapi, "This description", "application/json"},
    {"/docs", METHOD_GET, ROLE_NONE, docs, "This description as a page", "text/html"},
    {0}};
