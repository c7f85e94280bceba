#include "node/readiness.h"

#include "node/crypto/token.h"
#include "node/damage.h"
#include "node/members.h"
#include "node/partition.h"

bool readiness_is_led(struct node *node)
{
    unsigned led = 0;
    for (unsigned p = 0; p < node->partitions_len; p++) {
        led += atomic_load(&node->partitions[p].leader_replica) != 0;
    }
    return led == node->partitions_len;
}

bool readiness_has_applied(struct node *node)
{
    for (unsigned p = 0; p < node->partitions_len; p++) {
        struct partition *partition = &node->partitions[p];
        uint64_t commit = atomic_load(&partition->commit), applied = atomic_load(&partition->applied);
        if (commit > applied && commit - applied > 2 * LIMIT_INFLIGHT_ENTRIES) {
            return false;
        }
    }
    return true;
}

static void check(struct buf *out, bool verbose, unsigned *failing, bool good, const char *name, const char *why)
{
    *failing += !good;
    if (verbose || !good) {
        buf_printf(out, "[%s] %s%s%s\n", good ? "+" : "-", name, good ? "" : ": ", good ? "" : why);
    }
}

bool node_disk_is_low(const struct node *node)
{
    return atomic_load_explicit(&node->disk_low, memory_order_relaxed) ||
           atomic_load_explicit(&log_writer_stats(node->log_writer)->low, memory_order_relaxed);
}

/* What the storage threads say. */
static void check_storage(struct node *node, struct buf *out, bool verbose, unsigned *failing)
{
    enum err state = (enum err)atomic_load(&state_writer_stats(node->state_writer)->err);
    enum err log = (enum err)atomic_load(&log_writer_stats(node->log_writer)->err);
    check(out, verbose, failing, state == OK, "state",
          state == ERR_DISK_FULL ? "disk_full: nothing is applied until there is room; it goes on by itself"
                                 : "it cannot be written: read-only, restart the node");
    check(out, verbose, failing, log == OK || log == ERR_DISK_FULL, "log",
          "a write or sync of the log failed: read-only, check the disk and restart the node");
    check(out, verbose, failing, !node_disk_is_low(node), "disk",
          "disk_full: only deletions are taken until there is room; it goes on by itself");
    check(out, verbose, failing, !atomic_load(&node->state_full), "quota",
          "disk_full: --state-quota-mib is used up, only deletions are taken");
    check(out, verbose, failing, !durable_failed(node->durable), "durable points",
          "a sync of the state failed: check the disk and restart the node");
}

unsigned readiness_check(struct node *node, struct buf *out_text, bool verbose)
{
    unsigned failing = 0;
    if (damage_any(node->damage)) {
        failing++;
        buf_add_lit(out_text, "[-] damage: read-only until a backup is restored, or belfry recover --accept-loss\n");
        damage_write(node->damage, "    ", out_text);
    }
    if (node->durable != NULL) {
        check(out_text, verbose, &failing, readiness_is_led(node), "leaders", "a partition has no leader");
        check(out_text, verbose, &failing, readiness_has_applied(node), "applied", "the state is behind the log");
        check_storage(node, out_text, verbose, &failing);
        check(out_text, verbose, &failing, keyring_can_sign(node->keyring), "keys", "there is no signing key yet");
    }
    check(out_text, verbose, &failing, !atomic_load(&node->draining), "serving", "the node is draining or stopping");
    check(out_text, verbose, &failing, !atomic_load(&node->clock_off), "clock",
          "the clock is off from most others' by more than 250 ms");
    check(out_text, verbose, &failing, !members_is_retired(node->members), "member",
          "this node was removed from the cluster: it may be stopped and erased");
    if (failing == 0) {
        buf_add_lit(out_text, "ready\n");
    }
    return failing;
}
