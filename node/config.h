/* What `belfry serve` was told: flags over environment (BELFRY_FLAG_NAME) over --config FILE
 * (name = value lines) over defaults. One table describes them all. */
#ifndef BELFRY_CONFIG_H
#define BELFRY_CONFIG_H

#include "node/base/bytes.h"
#include "node/base/err.h"

enum { CONFIG_LISTENS = 8, CONFIG_TEXT = 256, CONFIG_JOIN = CONFIG_TEXT };

struct facade;

struct config {
    char data[CONFIG_TEXT], backup_dir[CONFIG_TEXT], backup_key_file[CONFIG_TEXT];
    char listen[CONFIG_LISTENS][CONFIG_TEXT];
    unsigned listen_len;
    char log_level[CONFIG_TEXT], log_file[CONFIG_TEXT], config_file[CONFIG_TEXT];
    char cors_origins[CONFIG_TEXT]; /* space-separated, or * */
    char balance[CONFIG_TEXT], peer_listen[CONFIG_TEXT], advertise[CONFIG_TEXT], secret_file[CONFIG_TEXT];
    char join[CONFIG_JOIN]; /* addresses of peers, separated by commas */
    int64_t workers, partitions, election_timeout_ms, heartbeat_ms;
    int64_t argon2_memory_kib, argon2_passes;
    int64_t mailbox_limit, max_connections, durable_interval_ms, state_quota_mib, backup_every_s, backup_keep,
        disk_reserve_mib, log_segment_mib, log_keep_mib, actor_idle_ms;
    bool print_config, found;
};

/* On failure prints what is wrong to stderr. Errors: ERR_BAD_REQUEST. */
enum err config_parse(struct config *config, int argc, char **argv) MUST_USE;
/* Processors of this machine, 1 to 64: so many passwords are hashed at a time. */
unsigned config_cores(void);
/* "ADDR:PORT" or "ADDR:PORT,facade=NAME" of --listen: copies the address, finds the facade (NULL: none). False: there
 * is no such facade, or something else follows the comma. */
bool config_listen(const char *text, char address[CONFIG_TEXT], const struct facade **out_facade) MUST_USE;
void config_print(const struct config *config, struct buf *out);
void config_help(struct buf *out);

#endif
