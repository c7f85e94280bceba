#include "node/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "actors/facades/facade.h"
#include "node/balance.h"
#include "node/base/text.h"
#include "node/limits.h"

enum flag_type { FLAG_TEXT, FLAG_NUMBER, FLAG_LIST, FLAG_SWITCH };

struct flag {
    const char *name;
    enum flag_type type;
    size_t offset;
    int64_t min, max, number;
    const char *text; /* default of a text */
    const char *help;
};

#define TEXT(name, member, text, help)                                        \
    {                                                                         \
        name, FLAG_TEXT, offsetof(struct config, member), 0, 0, 0, text, help \
    }
#define NUMBER(name, member, min, max, number, help)                                     \
    {                                                                                    \
        name, FLAG_NUMBER, offsetof(struct config, member), min, max, number, NULL, help \
    }

static const struct flag flags[] = {
    TEXT("data", data, "./belfry-data", "DIR: where everything is kept"),
    {"listen", FLAG_LIST, offsetof(struct config, listen), 0, 0, 0, "127.0.0.1:8080",
     "ADDR:PORT[,facade=NAME] of HTTP; may be given several times; localhost is both families"},
    TEXT("peer-listen", peer_listen, "127.0.0.1:9080", "ADDR:PORT for the other nodes"),
    TEXT("advertise", advertise, "", "ADDR:PORT where the other nodes reach this one; default: --peer-listen"),
    TEXT("join", join, "", "A,B,C: peer addresses of the nodes to found a cluster with, or to join; its own too"),
    {"found", FLAG_SWITCH, offsetof(struct config, found), 0, 0, 0, NULL,
     "found a cluster with those of --join that answer, though not all do"},
    TEXT("secret-file", secret_file, "", "FILE with the cluster's secret (belfry secret FILE)"),
    TEXT("config", config_file, "", "FILE of name = value lines"),
    TEXT("log-level", log_level, "info", "debug, info, warn or error"),
    TEXT("log-file", log_file, "", "FILE instead of stderr; rotated at 64 MiB"),
    TEXT("cors-origins", cors_origins, "", "origins that browsers may call from, separated by spaces, or *"),
    NUMBER("workers", workers, 1, 64, 0, "event-loop threads; default: one a core, but one"),
    NUMBER("partitions", partitions, 1, 256, 16, "data partitions; fixed when the data directory is founded"),
    NUMBER("election-timeout-ms", election_timeout_ms, 50, 60000, 200, "Raft election timeout"),
    NUMBER("heartbeat-ms", heartbeat_ms, 10, 10000, 50, "Raft heartbeat"),
    TEXT("balance", balance, "weighted_response_time",
         "who hashes a password: round_robin, least_connections or weighted_response_time"),
    NUMBER("argon2-memory-kib", argon2_memory_kib, 8, 4194304, 7168, "memory of a password hash"),
    NUMBER("argon2-passes", argon2_passes, 1, 64, 5, "passes of a password hash"),
    NUMBER("mailbox-limit", mailbox_limit, 1, 65536, LIMIT_MAILBOX, "commands waiting in one actor"),
    NUMBER("actor-idle-ms", actor_idle_ms, 10, 86400000, LIMIT_ACTOR_IDLE_MS,
           "an actor idle for so long is passivated"),
    NUMBER("max-connections", max_connections, 1, 1000000, LIMIT_CONNECTIONS, "open connections a worker"),
    NUMBER("durable-interval-ms", durable_interval_ms, 10, 3600000, LIMIT_DURABLE_MS, "time between durable points"),
    NUMBER("state-quota-mib", state_quota_mib, 0, 1048576, 0, "bound of the state file; 0: none"),
    NUMBER("disk-reserve-mib", disk_reserve_mib, 0, 1048576, LIMIT_DISK_RESERVE_MIB,
           "with less room on the disk only deletions are taken"),
    NUMBER("log-segment-mib", log_segment_mib, LIMIT_SEGMENT_MIB_MIN, 1024, LIMIT_SEGMENT_MIB,
           "size of a file of the log"),
    NUMBER("log-keep-mib", log_keep_mib, 0, 1048576, LIMIT_LOG_KEEP_MIB,
           "of the log, kept for replicas that lag; at most a tenth of the disk"),
    TEXT("backup-dir", backup_dir, "", "DIR: where backups are made, on a schedule and by POST /v1/cluster/backup"),
    TEXT("backup-key-file", backup_key_file, "", "FILE with their key (belfry secret FILE)"),
    NUMBER("backup-every-s", backup_every_s, 0, 31536000, 0, "seconds between backups; 0: only when asked for"),
    NUMBER("backup-keep", backup_keep, 1, 100000, 7, "as many are kept, older ones are deleted"),
    {"print-config", FLAG_SWITCH, offsetof(struct config, print_config), 0, 0, 0, NULL,
     "print what is in force, and stop"},
};

static void *member(struct config *config, const struct flag *flag)
{
    return (char *)config + flag->offset;
}

static const struct flag *find(const char *name, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        if (strlen(flags[i].name) == len && memcmp(flags[i].name, name, len) == 0) {
            return &flags[i];
        }
    }
    return NULL;
}

static enum err complain(const char *where, const char *name, const char *why)
{
    (void)fprintf(stderr, "belfry: %s%s: %s\n", where, name, why);
    return ERR_BAD_REQUEST;
}

static enum err set(struct config *config, const struct flag *flag, const char *value, const char *where,
                    bool *list_fresh)
{
    uint64_t number;
    switch (flag->type) {
    case FLAG_SWITCH: *(bool *)member(config, flag) = strcmp(value, "true") == 0; return OK;
    case FLAG_NUMBER:
        if (!text_parse_u64(bytes_str(value), &number) || number < (uint64_t)flag->min ||
            number > (uint64_t)flag->max) {
            char why[128];
            (void)snprintf(why, sizeof why, "'%s' is not a number from %lld to %lld", value, (long long)flag->min,
                           (long long)flag->max);
            return complain(where, flag->name, why);
        }
        *(int64_t *)member(config, flag) = (int64_t)number;
        return OK;
    case FLAG_TEXT:
    case FLAG_LIST: break;
    }
    if (strlen(value) >= CONFIG_TEXT) {
        return complain(where, flag->name, "the value is too long");
    }
    char *to = member(config, flag);
    if (flag->type == FLAG_LIST) {
        config->listen_len = *list_fresh ? 0 : config->listen_len;
        *list_fresh = false;
        if (config->listen_len == CONFIG_LISTENS) {
            return complain(where, flag->name, "given too often");
        }
        to = config->listen[config->listen_len++];
    }
    (void)snprintf(to, CONFIG_TEXT, "%s", value);
    return OK;
}

unsigned config_cores(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 1 : cores > 64 ? 64 : (unsigned)cores;
}

static void set_defaults(struct config *config)
{
    *config = (struct config){0};
    bool fresh = true;
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        if (flags[i].type == FLAG_NUMBER) {
            *(int64_t *)member(config, &flags[i]) = flags[i].number;
        } else if (flags[i].type != FLAG_SWITCH) {
            CHECK(set(config, &flags[i], flags[i].text, "", &fresh) == OK);
        }
    }
    /* A core is left to the threads that write the log and the state: with as many workers as cores each has
     * less to do in a turn, so that a request costs more turns, frames, syncs and wakes (bench/README.md). */
    long cores = (long)config_cores();
    config->workers = cores > 1 ? cores - 1 : 1;
}

static enum err from_environment(struct config *config)
{
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        char name[64] = "BELFRY_";
        bool fresh = true;
        for (size_t at = 0; flags[i].name[at] != 0; at++) {
            char c = flags[i].name[at];
            name[7 + at] = c == '-' ? '_' : (char)(c - 'a' + 'A');
        }
        const char *value = getenv(name);
        if (value != NULL) {
            TRY(set(config, &flags[i], value, "environment, ", &fresh));
        }
    }
    return OK;
}

static enum err from_line(struct config *config, const char *path, char *line, bool *fresh)
{
    struct bytes text = bytes_trim(bytes_of(line, strcspn(line, "\r\n#")));
    if (text.len == 0) {
        return OK;
    }
    const uint8_t *equals = memchr(text.ptr, '=', text.len);
    if (equals == NULL) {
        return complain(path, "", "a line is not 'name = value'");
    }
    struct bytes name = bytes_trim(bytes_of(text.ptr, (size_t)(equals - text.ptr)));
    struct bytes value = bytes_trim(bytes_of(equals + 1, text.len - (size_t)(equals + 1 - text.ptr)));
    const struct flag *flag = find((const char *)name.ptr, name.len);
    char copy[CONFIG_TEXT * 2];
    (void)snprintf(copy, sizeof copy, "%.*s", (int)value.len, (const char *)value.ptr);
    return flag == NULL ? complain(path, "", "there is a name that is not known")
                        : set(config, flag, copy, "config file, ", fresh);
}

static enum err from_file(struct config *config)
{
    char line[1024];
    bool fresh = true;
    enum err err = OK;
    FILE *file = fopen(config->config_file, "re");
    if (file == NULL) {
        return complain("config file ", config->config_file, "cannot be read");
    }
    while (err == OK && fgets(line, sizeof line, file) != NULL) {
        err = from_line(config, config->config_file, line, &fresh);
    }
    (void)fclose(file);
    return err;
}

static enum err from_flags(struct config *config, int argc, char **argv, bool only_config)
{
    bool fresh = true;
    for (int i = 0; i < argc; i++) {
        const char *text = argv[i];
        if (strncmp(text, "--", 2) != 0) {
            return complain("", text, "is not a flag");
        }
        const char *equals = strchr(text, '=');
        size_t len = equals == NULL ? strlen(text + 2) : (size_t)(equals - text - 2);
        const struct flag *flag = find(text + 2, len);
        if (flag == NULL) {
            return complain("", text, "there is no such flag; see belfry serve --help");
        }
        const char *value = equals != NULL              ? equals + 1
                            : flag->type == FLAG_SWITCH ? "true"
                            : i + 1 < argc              ? argv[++i]
                                                        : NULL;
        if (value == NULL) {
            return complain("", text, "needs a value");
        }
        if (!only_config || strcmp(flag->name, "config") == 0) {
            TRY(set(config, flag, value, "--", &fresh));
        }
    }
    return OK;
}

bool config_listen(const char *text, char address[CONFIG_TEXT], const struct facade **out_facade)
{
    static const char key[] = "facade=";
    size_t len = strcspn(text, ",");
    (void)snprintf(address, CONFIG_TEXT, "%.*s", (int)len, text);
    *out_facade = NULL;
    if (text[len] == 0) {
        return true;
    }
    const char *option = text + len + 1;
    bool named = strncmp(option, key, sizeof key - 1) == 0;
    *out_facade = named ? facade_find(bytes_str(option + sizeof key - 1)) : NULL;
    return *out_facade != NULL;
}

static enum err check_listens(const struct config *config)
{
    char address[CONFIG_TEXT], why[CONFIG_TEXT] = "is ADDR:PORT or ADDR:PORT,facade=NAME; the facades are";
    const struct facade *facade;
    for (size_t i = 0; facades[i] != NULL; i++) {
        size_t len = strlen(why);
        (void)snprintf(why + len, sizeof why - len, " %s", facades[i]->name);
    }
    for (unsigned i = 0; i < config->listen_len; i++) {
        if (!config_listen(config->listen[i], address, &facade)) {
            return complain("--", "listen", why);
        }
    }
    return OK;
}

enum err config_parse(struct config *config, int argc, char **argv)
{
    set_defaults(config);
    TRY(from_flags(config, argc, argv, true));
    if (config->config_file[0] == 0 && getenv("BELFRY_CONFIG") != NULL) {
        (void)snprintf(config->config_file, CONFIG_TEXT, "%s", getenv("BELFRY_CONFIG"));
    }
    if (config->config_file[0] != 0) {
        TRY(from_file(config));
    }
    TRY(from_environment(config));
    TRY(from_flags(config, argc, argv, false));
    TRY(check_listens(config));
    if (config->backup_dir[0] != 0 && config->backup_key_file[0] == 0) {
        return complain("--", "backup-dir", "needs --backup-key-file: backups are encrypted");
    }
    enum balance_policy policy;
    if (!balance_policy_find(config->balance, &policy)) {
        return complain("--", "balance", "is round_robin, least_connections or weighted_response_time");
    }
    return config->heartbeat_ms * 2 > config->election_timeout_ms
               ? complain("--", "heartbeat-ms", "must be at most half of --election-timeout-ms")
               : OK;
}

void config_print(const struct config *config, struct buf *out)
{
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        const void *value = (const char *)config + flags[i].offset;
        if (flags[i].type == FLAG_NUMBER) {
            buf_printf(out, "%s = %lld\n", flags[i].name, (long long)*(const int64_t *)value);
        } else if (flags[i].type == FLAG_TEXT) {
            buf_printf(out, "%s = %s\n", flags[i].name, (const char *)value);
        } else if (flags[i].type == FLAG_LIST) {
            for (unsigned at = 0; at < config->listen_len; at++) {
                buf_printf(out, "%s = %s\n", flags[i].name, config->listen[at]);
            }
        }
    }
}

void config_help(struct buf *out)
{
    buf_add_str(out, "usage: belfry serve [--FLAG VALUE]...\n\n");
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        buf_printf(out, "  --%-22s %s", flags[i].name, flags[i].help);
        if (flags[i].type == FLAG_NUMBER && flags[i].number != 0) {
            buf_printf(out, " (%lld)", (long long)flags[i].number);
        } else if (flags[i].text != NULL && flags[i].text[0] != 0) {
            buf_printf(out, " (%s)", flags[i].text);
        }
        buf_add_char(out, '\n');
    }
    buf_add_str(out, "\nEvery flag is also BELFRY_FLAG_NAME in the environment and a line of --config FILE.\n");
}
