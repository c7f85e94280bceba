#include "actors/facades/facade.h"

const struct facade *const facades[] = {&tasks_facade, NULL};

const struct facade *facade_find(struct bytes name)
{
    for (size_t i = 0; facades[i] != NULL; i++) {
        if (bytes_is(name, facades[i]->name)) {
            return facades[i];
        }
    }
    return NULL;
}

struct buf *facade_json(struct reply *reply, int status)
{
    reply->status = (uint16_t)status;
    reply->type = "application/json; charset=utf-8";
    reply->body.len = 0;
    return &reply->body;
}

void facade_text(struct reply *reply, int status, const char *type, const char *text)
{
    reply->status = (uint16_t)status;
    reply->type = type;
    reply->body.len = 0;
    buf_add_str(&reply->body, text);
}

static struct rows *look_rows(struct look *look, unsigned partition)
{
    return script_rows(container_of(look, struct facade_look, look)->script, partition);
}

struct look *facade_look(struct facade_look *out, struct script *s)
{
    out->look = (struct look){s->arena, s->caller, s->now_ms, s->partitions, look_rows};
    out->script = s;
    return &out->look;
}
