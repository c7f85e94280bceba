/* bench_queue_load http|amqp|nats declare|publish|receive|latency --ports=A,B,C [options]: see bench/queue. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/queue_load/run.h"

static const struct protocol *const protocols[] = {&protocol_http, &protocol_amqp, &protocol_nats};
static const char *const workloads[] = {"declare", "publish", "receive", "latency"};
static const char *const ack_modes[] = {"each", "all", "awaited"};

_Noreturn static void usage(void)
{
    load_fail("usage: bench_queue_load http|amqp|nats declare|publish|receive|latency --ports=A,B,C [--pids=A,B,C]\n"
              "  [--queue=NAME] [--queues=1] [--publishers=8] [--consumers=8] [--batch=1] [--size=200] [--rate=500]\n"
              "  [--count=N] [--warm-up=1] [--seconds=5] [--token=T] [--ack=each|all|awaited] [--pending=N]");
}

static unsigned index_of(const char *const *names, unsigned count, const char *name)
{
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0) {
            return i;
        }
    }
    usage();
}

static const struct protocol *protocol_of(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(protocols); i++) {
        if (strcmp(protocols[i]->name, name) == 0) {
            return protocols[i];
        }
    }
    usage();
}

/* Numbers with commas between them. */
static unsigned numbers_of(const char *text, unsigned max, unsigned *out)
{
    unsigned count = 0;
    while (*text != 0 && count < max) {
        char *end;
        out[count++] = (unsigned)strtoul(text, &end, 10);
        text = *end == ',' ? end + 1 : end;
        if (end == text) {
            break;
        }
    }
    return count;
}

static void set_pids(struct options *options, const char *text)
{
    unsigned pids[PIDS];
    options->pid_count = numbers_of(text, PIDS, pids);
    for (unsigned i = 0; i < options->pid_count; i++) {
        options->pids[i] = (int)pids[i];
    }
}

static void set(struct options *options, const char *name, const char *value)
{
    struct {
        const char *name;
        unsigned *to;
    } numbers[] = {{"queues", &options->queues},       {"publishers", &options->publishers},
                   {"consumers", &options->consumers}, {"batch", &options->batch},
                   {"size", &options->size},           {"rate", &options->rate},
                   {"pending", &options->pending}};
    for (unsigned i = 0; i < ARRAY_LEN(numbers); i++) {
        if (strcmp(numbers[i].name, name) == 0) {
            *numbers[i].to = (unsigned)strtoul(value, NULL, 10);
            return;
        }
    }
    if (strcmp(name, "ports") == 0) {
        options->nodes = numbers_of(value, NODES, options->ports);
    } else if (strcmp(name, "pids") == 0) {
        set_pids(options, value);
    } else if (strcmp(name, "queue") == 0) {
        options->queue = value;
    } else if (strcmp(name, "token") == 0) {
        options->token = value;
    } else if (strcmp(name, "count") == 0) {
        options->count = strtoull(value, NULL, 10);
    } else if (strcmp(name, "warm-up") == 0) {
        options->warm_up = strtod(value, NULL);
    } else if (strcmp(name, "seconds") == 0) {
        options->seconds = strtod(value, NULL);
    } else {
        options->ack = (enum ack_mode)index_of(ack_modes, ARRAY_LEN(ack_modes), value);
    }
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        {"ports", 1, NULL, 0},   {"pids", 1, NULL, 0},       {"queue", 1, NULL, 0},     {"queues", 1, NULL, 0},
        {"token", 1, NULL, 0},   {"publishers", 1, NULL, 0}, {"consumers", 1, NULL, 0}, {"batch", 1, NULL, 0},
        {"size", 1, NULL, 0},    {"rate", 1, NULL, 0},       {"count", 1, NULL, 0},     {"warm-up", 1, NULL, 0},
        {"seconds", 1, NULL, 0}, {"ack", 1, NULL, 0},        {"pending", 1, NULL, 0},   {NULL, 0, NULL, 0}};
    struct options options = {.queue = "q",
                              .token = "",
                              .queues = 1,
                              .publishers = 8,
                              .consumers = 8,
                              .batch = 1,
                              .size = 200,
                              .rate = 500,
                              .warm_up = 1,
                              .seconds = 5};
    int at = 0, found;
    while ((found = getopt_long(argc, argv, "", names, &at)) != -1) {
        if (found != 0) {
            usage();
        }
        set(&options, names[at].name, optarg);
    }
    if (argc - optind != 2) {
        usage();
    }
    options.protocol = protocol_of(argv[optind]);
    options.workload = (enum workload)index_of(workloads, ARRAY_LEN(workloads), argv[optind + 1]);
    if (options.nodes == 0 || options.queues == 0 || options.batch == 0 || options.rate == 0 ||
        options.size < STAMP_DIGITS) {
        usage();
    }
    load_run(&options);
    return 0;
}
