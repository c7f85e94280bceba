/* A partition on this node: its Raft group, its place on a worker, its line of commands.
 *
 * Everything but the published numbers belongs to the home worker. A command comes as a submission
 * from any worker, goes through its actor's mailbox, is proposed at the end of the loop's turn
 * together with all others of the partition, and comes back to the worker that sent it. */
#ifndef BELFRY_PARTITION_H
#define BELFRY_PARTITION_H

#include "cluster/group.h"
#include "node/node.h"

struct alarms;
struct install_receiver;

struct partition {
    struct node *node;
    struct node_worker *home;
    struct list link; /* in home->partitions */
    unsigned number;
    struct group *group;
    atomic_int_fast64_t stamped_ms; /* the newest stamp seen; written on the home worker */
    unsigned stamped;               /* commands proposed with that stamp */
    struct alarms *alarms;          /* NULL: none was ever looked at */
    struct list run_queue;          /* actors with mail */
    struct submission **proposals;  /* by index */
    struct apply_batch *building;   /* committed in this turn, not yet handed to the state writer */
    size_t building_cap;
    unsigned loads;                    /* of old entries, under way */
    struct list senders;               /* of the state, to replicas (node/install.h) */
    struct install_receiver *receiver; /* of the state; NULL: none */
    uint64_t hinted;                   /* committed as of the last turn (node/hints.h) */
    /* node/members.h: led here, and since then others lead fewer, 0: they do not; who did not take over, and when. */
    int64_t uneven_ms, refused_ms;
    uint64_t refused;

    /* Published for readers on any worker: commit and lease by the home worker, applied by the
     * state writer after its commit. */
    atomic_uint_fast64_t term, commit, applied, last;
    atomic_uint_fast64_t answered; /* what came of it is known, by the state writer too; the rest is applied soon */
    uint64_t at_start;             /* the log's last entry when it was opened: any of them may have been acknowledged */
    atomic_int_fast64_t lease_end_ns, confirmed_ns;
    atomic_int_fast64_t contact_ns;      /* what was committed by then is applied here */
    atomic_uint_fast64_t leader_replica; /* believed to lead; 0: nobody */
    atomic_uint_fast64_t heir;           /* told by this node to take over, and not yet seen to lead; 0: nobody */
    atomic_bool leader;
};

/* A command under way. */
struct submission {
    struct message message;
    struct mail mail;
    struct node_worker *from;
    struct partition *partition;
    struct actor *actor;
    struct bytes payload;
    uint8_t kind;
    bool frees; /* admitted also when the disk or the state is full (OP_FREES) */
    uint16_t key_len;
    /* On its way between nodes (node/forward.h). */
    struct list waiting;
    uint64_t ticket;
    uint64_t origin; /* replica of the node it came from; 0: this one */
    uint64_t target; /* whom it was sent to */
    int64_t give_up_ms, resend_ms;
    void (*on_answer)(struct submission *submission);
    uint64_t by; /* replica of the node that carried it out */
    /* What came of it; done runs on `from` and owns the submission and the outcome. */
    enum err err;
    struct outcome *outcome; /* NULL when err is not OK */
    void (*done)(struct submission *submission);
    void *data;
    uint8_t key[];
};

void partition_init(struct partition *partition, struct node *node, unsigned number, struct node_worker *home);
void partition_close(struct partition *partition);
/* Starts the group from what was recovered. */
enum err partition_open(struct partition *partition, const struct group_start *start) MUST_USE;
extern const struct group_ops partition_group_ops;

/* For a new command; never older than a stamp already given, whatever clocks say (node/apply.h: old ones are refused).
 */
struct id partition_request_id(struct partition *partition, uint64_t random);
/* Makes a submission; the payload is taken over. */
struct submission *submission_new(struct partition *partition, uint8_t kind, struct bytes key, struct bytes payload);
void submission_free(struct submission *submission);
/* On submission->from: carries it out if this node leads the partition; ERR_NOT_LEADER else. done may be
 * called within. */
void partition_submit(struct submission *submission);

/* Entries of an APPEND, in as many messages as they need. */
void partition_send_entries(struct partition *partition, struct group_message message,
                            const struct group_entry *entries, size_t len);
/* The log was read and is not what it was, or cannot be what a leader says. */
void partition_log_damaged(struct partition *partition);
/* A group's message from another node, on any worker. */
void partition_receive(struct node_worker *worker, struct bytes body);

/* At the end of a turn of the home worker: proposes what lies in mailboxes; adds to batches what was
 * committed, if anything was. */
void partition_turn_end(struct partition *partition, struct list *batches);
void partition_tick(struct partition *partition);
/* Writes the published numbers. */
void partition_publish(struct partition *partition);
/* The index a linearizable read must have seen applied. With several replicas it is what is committed
 * now. A sole replica acknowledges what it has applied, and nobody else shows more: what was in the log
 * at its start is enough, and reads go on while a full disk holds up the state writer. UINT64_MAX: this
 * leader has yet to learn what is committed; ask again. */
uint64_t partition_read_index(struct partition *partition);
/* Led here, and nobody else has led since that time: by lease, or because a majority has said so. */
bool partition_is_confirmed(struct partition *partition, int64_t began_ns);
/* What was committed in the system partition a second ago is applied here. */
bool partition_is_in_contact(const struct node *node);
/* The leader of that term has committed up to index. On any worker. */
void partition_hint_commit(struct partition *partition, struct node_worker *worker, uint64_t term, uint64_t index);

#endif
