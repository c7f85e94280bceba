/* The process: everything that is shared hangs off struct node, handed down, never global.
 * What belongs to one worker is in struct node_worker; the rest says how it is shared. */
#ifndef BELFRY_NODE_H
#define BELFRY_NODE_H

#include "actors/kind.h"
#include "node/actor/actor.h"
#include "node/apply.h"
#include "node/config.h"
#include "node/http/server.h"
#include "node/loop/worker.h"
#include "node/peer_net.h"
#include "storage/durable.h"
#include "storage/log_writer.h"
#include "storage/segments.h"
#include "storage/space.h"
#include "storage/state_writer.h"

struct background;
struct backups;
struct balance;
struct computes;
struct damage;
struct forwards;
struct gathers;
struct guard;
struct hints;
struct hashers;
struct keyring;
struct partition;
struct members;
struct peers;
struct skew;
struct statuses;
struct stream_hub;
struct streams;
struct tube_worker;
struct tubes;
struct router;
struct metrics;
struct token_cache;
struct watch_marks;
struct watches;
struct request;

enum { SPARE_REQUESTS = 64 };

struct node_worker {
    struct worker worker;
    struct node *node;
    struct http_server server;
    struct actors actors;
    struct list partitions;  /* those this worker owns */
    struct log_batch *batch; /* what the turn has for the log */
    struct turn_hook turn_hook;
    struct timer tick;   /* of the groups */
    int64_t beat;        /* number of the last half heartbeat in which leaders ticked */
    struct timer upkeep; /* passivation, chores */
    struct state_reader *reader;
    uint64_t reader_seq; /* commit_seq the snapshot is at; 0: none is open */
    struct list read_waiters;
    atomic_bool reads_wait, alarms_wait; /* for what is committed to be readable */
    struct list resumed;                 /* flows to be run at the turn's end */
    struct token_cache *tokens;
    struct request *spare[SPARE_REQUESTS]; /* requests' memory, kept warm */
    unsigned spare_len;
    struct peer_net peers;
    struct forwards *forwards;
    struct computes *computes;
    struct gathers *gathers; /* of commands that are joined */
    struct watches *watches;
    struct list rung; /* calls whose wait is over */
    int64_t hints_said_ms;
    bool draining; /* nothing is to be waited for any more */
    struct streams *streams;
    struct tube_worker *tubes;
    struct list calls; /* under way */
    bool sweeping;     /* a chore's script is under way */
    size_t next_chore;
    atomic_uint_fast64_t actors_live, mails, activated, passivated, overloaded;
};

struct node {
    struct config config;
    struct clock *clock;
    struct log *log;
    char name[37];    /* the node's id as text */
    char by_line[64]; /* the header line that says: this node did it */
    struct id id, cluster_id;
    uint64_t replica; /* ours in every group */
    char advertise[CONFIG_TEXT];
    struct peers *peers;       /* the other nodes; its own lock */
    struct members *members;   /* who belongs to the cluster; its own lock */
    struct statuses *statuses; /* what nodes say of themselves; its own lock */
    bool alone;                /* the only member, as of the start */
    int lock_fd;

    struct node_worker *workers;
    unsigned workers_len;
    struct partition *partitions; /* 0: system; 1..data */
    unsigned partitions_len, data_partitions;

    struct damage *damage; /* what is broken; its own lock. With damage at the start the threads below are NULL */
    struct segments *segments;
    struct log_writer *log_writer;
    struct state *state;
    struct state_writer *state_writer;
    struct apply_context apply_context;
    struct durable *durable;
    struct background *background;   /* a thread for what waits for disks */
    struct backups *backups;         /* NULL without --backup-dir; its own thread and lock */
    atomic_uint_fast64_t commit_seq; /* state commits so far, plus one */

    struct hashers *hashers; /* processes that hash passwords; its own lock */
    struct stream_hub *stream_hub;
    struct tubes *tubes; /* of beanstalkd's clients; its own lock */
    struct watch_marks *watch_marks;
    struct hints *hints;       /* who is told of commits; its own lock */
    struct guard *guard;       /* revocations; its own lock */
    struct keyring *keyring;   /* signing keys; its own lock */
    struct router *router;     /* constant after start */
    struct buf openapi, docs;  /* too: pages about the routes */
    struct metrics *metrics;   /* atomics */
    atomic_int computing;      /* password jobs queued or running */
    struct balance *balance;   /* where they are computed; its own lock */
    char dummy_phc[PHC_BYTES]; /* verified when there is no account, so that it takes as long */
    atomic_bool stopping;
    atomic_bool restarting;  /* damage was met: as soon as it is stopped, it begins anew */
    atomic_bool draining;    /* leaderships are handed over */
    atomic_bool leaving;     /* and it stops: none is taken over */
    struct skew *skew;       /* clocks of the others; its own lock */
    atomic_uint alarms;      /* at work */
    atomic_bool clock_off;   /* most others' clocks say otherwise: it leads nothing */
    atomic_bool clock_doubt; /* it is off, or no other says the same, as when it has just started: others are to lead */
    int64_t boot_ms;         /* the boot clock at the start */
    atomic_bool log_failed;  /* a write or sync of the log failed: read-only until a restart */
    struct space space;      /* the first worker's */
    atomic_bool disk_low;    /* below --disk-reserve-mib: only what frees space is admitted */
    atomic_bool state_full;  /* the quota is used up */
    int64_t started_ms;
    unsigned http_port, peer_port;
};

/* Opens the data directory, recovers, and starts all threads; returns when requests are served.
 * On failure *out_why says what to tell the operator. */
enum err node_start(const struct config *config, struct log *log, struct node **out, char *out_why,
                    size_t why_cap) MUST_USE;
/* Lets answers under way finish, takes a last durable point, stops all threads. */
void node_stop(struct node *node);
/* Now and then, on any worker: the system group gets a signing key when it has none. */
void node_tend_keys(struct node_worker *worker);
/* Something turned out damaged, on any thread: in a cluster the node stops and begins anew (node/rejoin.h). */
void node_met_damage(struct node *node);
/* Too little room on the disk for anything but deletions. */
bool node_disk_is_low(const struct node *node);

static inline struct node_worker *node_worker_of(struct worker *worker)
{
    return container_of(worker, struct node_worker, worker);
}

#endif
