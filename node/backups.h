/* The node's own backups: on a schedule and when an admin asks, into --backup-dir, encrypted with
 * --backup-key-file; older ones than the newest --backup-keep are deleted. Each is made by a process of
 * its own, `belfry backup`, at low priority: it is a reader that holds up nobody.
 * Any thread; it has a thread and a lock of its own. */
#ifndef BELFRY_BACKUPS_H
#define BELFRY_BACKUPS_H

#include "node/config.h"

struct backups;
struct log;

/* NULL when no --backup-dir is given. */
struct backups *backups_new(const struct config *config, struct log *log);
void backups_free(struct backups *backups);
/* Asks for one now; one that is being made counts. */
void backups_ask(struct backups *backups);
/* JSON: is one being made, and what became of the last. */
void backups_write(struct backups *backups, struct buf *out);
/* Wall time of the last one that was made, 0: none since the start. */
int64_t backups_last_ms(struct backups *backups);

#endif
