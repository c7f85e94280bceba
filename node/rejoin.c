#include "node/rejoin.h"

#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "node/peers.h"

enum { ASK_MS = 4000, LOOK_MS = 20 };

struct asking {
    const struct identity *identity;
    struct worker *worker;
    struct peer_net net;
    struct timer look;
    int64_t until_ms;
    bool found;
};

static enum err met(void *ctx, const struct link_hello *peer, bool dialed, char *why)
{
    const struct asking *asking = ctx;
    (void)dialed;
    if (!id_eq(peer->cluster, asking->identity->cluster)) {
        (void)snprintf(why, LINK_REASON_BYTES, "it belongs to another cluster, or to none");
        return ERR_FORBIDDEN;
    }
    return OK;
}

static void on_message(void *ctx, const struct link_hello *from, uint8_t type, struct bytes body)
{
    (void)ctx;
    (void)from;
    (void)type;
    (void)body;
}

static void look(struct timer *timer)
{
    struct asking *asking = container_of(timer, struct asking, look);
    peer_net_each(link, &asking->net)
    {
        const struct peer_dial *dial = peer_dial_of(link);
        if (peer_dial_is_up(dial) && !id_eq(peer_dial_peer(dial)->node, asking->identity->node) &&
            peer_dial_peer(dial)->has_leader) {
            asking->found = true;
        }
    }
    if (asking->found || clock_boot_ms(asking->worker->clock) >= asking->until_ms) {
        peer_net_close(&asking->net);
        worker_stop(asking->worker);
        return;
    }
    worker_timer(asking->worker, &asking->look, LOOK_MS);
}

static void ask(struct asking *asking, const struct config *config, const uint8_t *secret)
{
    struct link_hello hello = {.node = asking->identity->node, .cluster = asking->identity->cluster, .workers = 1};
    struct peer_net_handler handler = {met, on_message, asking};
    peer_net_init(&asking->net, asking->worker, &hello, secret, &handler);
    (void)peer_net_dial_all(&asking->net, config->join, NULL);
    asking->look.fire = look;
    asking->until_ms = clock_boot_ms(asking->worker->clock) + ASK_MS;
    peer_net_start(&asking->net);
    worker_timer(asking->worker, &asking->look, LOOK_MS);
    worker_start(asking->worker);
    worker_join(asking->worker);
}

bool rejoin_is_possible(const struct config *config, struct log *log, const struct identity *identity)
{
    struct asking asking = {.identity = identity};
    uint8_t secret[LINK_SECRET_BYTES];
    char why[512];
    bool has_secret;
    if (config->join[0] == 0 || peers_load_secret(config, secret, &has_secret, why, sizeof why) != OK) {
        return false;
    }
    asking.worker = mem_zalloc(sizeof *asking.worker);
    worker_init(asking.worker, 0, clock_system(), log);
    ask(&asking, config, has_secret ? secret : NULL);
    worker_close(asking.worker);
    free(asking.worker);
    sodium_memzero(secret, sizeof secret);
    return asking.found;
}

enum err rejoin_set_aside(const char *data, int64_t now_ms)
{
    /* The identity goes last: cut short, it is begun again. */
    static const char *const names[] = {"state", "log", "durable", "running", "promise", "identity"};
    struct disk *disk = disk_posix();
    char aside[PATH_MAX - 64], from[PATH_MAX], to[PATH_MAX];
    (void)snprintf(aside, sizeof aside, "%s/damaged-%lld", data, (long long)now_ms);
    TRY(disk->make_dir(disk, aside));
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)snprintf(from, sizeof from, "%s/%s", data, names[i]);
        (void)snprintf(to, sizeof to, "%s/%s", aside, names[i]);
        if (rename(from, to) != 0 && errno != ENOENT) {
            return ERR_IO;
        }
    }
    TRY(disk->sync_dir(disk, aside));
    return disk->sync_dir(disk, data);
}

void rejoin_restart(void)
{
    enum { ARGUMENTS_MAX = 256, BYTES_MAX = 128 * 1024 };
    static char text[BYTES_MAX];
    char *arguments[ARGUMENTS_MAX + 1] = {NULL};
    FILE *file = fopen("/proc/self/cmdline", "re");
    size_t len = file == NULL ? 0 : fread(text, 1, sizeof text - 1, file), count = 0;
    if (file != NULL) {
        (void)fclose(file);
    }
    for (size_t at = 0; at < len && count < ARGUMENTS_MAX; at += strlen(text + at) + 1) {
        arguments[count++] = text + at;
    }
    if (count > 0) {
        (void)execv("/proc/self/exe", arguments);
    }
}
