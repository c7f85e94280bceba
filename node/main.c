#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "node/config.h"
#include "node/crypto/hashers.h"
#include "node/echo.h"
#include "node/node.h"
#include "node/operator.h"
#include "node/rejoin.h"

static const char usage[] = "usage: belfry COMMAND\n\n"
                            "  serve     run a node (belfry serve --help lists the flags)\n"
                            "  status    is the node of --data DIR ready, and if not, why\n"
                            "  nodes     the cluster as the node of --data DIR sees it\n"
                            "  drain     NODE-ID: it hands its leaderships over and gets none; --off\n"
                            "  remove    NODE-ID: out of the cluster, for good\n"
                            "  admin     grant a user the role admin, or take it with --revoke\n"
                            "  topics    of the queue, with what is in them; -o json\n"
                            "  groups    TOPIC: its consumer groups; -o json\n"
                            "  peek      TOPIC: what is kept in it, untouched; --from ID, --limit N, -o json\n"
                            "  redrive   TOPIC GROUP: its dead letters are delivered again; --max N\n"
                            "  backup    FILE: what --data DIR holds, encrypted with --key-file KEY, beside its node\n"
                            "  restore   FILE: make --data DIR, a new cluster, out of a backup\n"
                            "  verify    look for damage in a backup FILE, or in --data DIR whose node is stopped\n"
                            "  recover   make a damaged --data DIR start again, --accept-loss\n"
                            "  secret    FILE: a new key for backups\n"
                            "  echo      the bare HTTP stack, for measuring\n"
                            "  version\n";

/* As many open files as the system lets us: connections are bounded by --max-connections. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* The compute pool is libuv's: one thread a worker, each waiting for a hashing process; set before its
 * first use. */
static void size_compute_pool(const struct config *config)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%lld", (long long)config->workers);
    (void)setenv("UV_THREADPOOL_SIZE", text, 1);
}

static int run(const struct config *config, struct log *log, sigset_t *signals)
{
    struct node *node = NULL;
    char why[512] = "";
    enum err err = node_start(config, log, &node, why, sizeof why);
    if (err != OK) {
        log_text(log, LOG_ERROR, "the node cannot start", "%s (%s)", why, err_code(err));
        log_flush(log);
        /* No tidying up by halves: threads that run hold nothing that a crash would not leave. */
        _Exit(1);
    }
    log_text(log, LOG_INFO, "ready", "HTTP on port %u, %u workers, %u partitions, %lld ms after the start",
             node->http_port, node->workers_len, node->data_partitions,
             (long long)(clock_wall_ms(node->clock) - node->started_ms));
    log_flush(log);
    int number;
    CHECK(sigwait(signals, &number) == 0);
    log_text(log, LOG_INFO, "stopping", "signal %d", number);
    bool again = atomic_load(&node->restarting);
    node_stop(node);
    if (again) {
        log_flush(log);
        rejoin_restart();
    }
    return 0;
}

static int version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    (void)puts("belfry " BELFRY_VERSION);
    return 0;
}

static int serve(int argc, char **argv)
{
    struct config config;
    struct buf text = {0};
    enum log_level level;
    sigset_t signals;
    if (argc > 0 && strcmp(argv[0], "--help") == 0) {
        config_help(&text);
        (void)fwrite(text.ptr, 1, text.len, stdout);
        buf_free(&text);
        return 0;
    }
    if (config_parse(&config, argc, argv) != OK || !log_level_parse(config.log_level, &level)) {
        return 2;
    }
    if (config.print_config) {
        config_print(&config, &text);
        (void)fwrite(text.ptr, 1, text.len, stdout);
        buf_free(&text);
        return 0;
    }
    struct log *log = log_new(config.log_file[0] != 0 ? config.log_file : NULL, level, clock_system());
    if (log == NULL) {
        (void)fprintf(stderr, "belfry: cannot open the log file %s\n", config.log_file);
        return 1;
    }
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    CHECK(pthread_sigmask(SIG_BLOCK, &signals, NULL) == 0);
    size_compute_pool(&config);
    int code = run(&config, log, &signals);
    log_free(log);
    return code;
}

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {{"serve", serve},
                {"echo", echo_main},
                {"status", operator_status},
                {"nodes", operator_nodes},
                {"drain", operator_drain},
                {"remove", operator_remove},
                {"admin", operator_admin},
                {"topics", operator_topics},
                {"groups", operator_groups},
                {"peek", operator_peek},
                {"redrive", operator_redrive},
                {"backup", operator_backup},
                {"restore", operator_restore},
                {"verify", operator_verify},
                {"recover", operator_recover},
                {"secret", operator_secret},
                {"hash", hasher_main}, /* started by serve, not by people */
                {"version", version}};

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    (void)signal(SIGPIPE, SIG_IGN);
    CHECK(sodium_init() >= 0);
    raise_file_limit();
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(name, commands[i].name) == 0) {
            return commands[i].run(argc - 2, argv + 2);
        }
    }
    bool help = strcmp(name, "--help") == 0;
    (void)fputs(usage, help ? stdout : stderr);
    return help ? 0 : 2;
}
