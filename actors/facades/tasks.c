#include "actors/facades/facade.h"
static const struct facade_route routes[] = {{{0}}};
static void fail(const struct facade_failure *why, struct reply *reply)
{
    (void)why;
    facade_text(reply, reply->status, "text/plain", "x");
}
const struct facade tasks_facade = {
    .name = "tasks", .body_max = 100 * 1024, .slash_free = true, .routes = routes, .fail = fail};
