/* A few replicas of one group in virtual time, for scenarios written down step by step: disks sync and
 * state machines apply at once, messages take a millisecond, all clocks are one. What is cut, kept back
 * or delivered once more is the test's to say. */
#ifndef BELFRY_TESTS_SIM_HAND_H
#define BELFRY_TESTS_SIM_HAND_H

#include "cluster/group.h"

enum { HAND_IDS = 7, HAND_LOG_MAX = 256, HAND_PACKETS_MAX = 1024, HAND_ELECTION_MS = 200 };

struct hand_replica {
    struct hand *hand;
    uint64_t id;
    struct group *group; /* NULL: down */
    uint64_t term, vote;
    struct group_entry log[HAND_LOG_MAX]; /* from index 1 on; owned */
    size_t log_len;
    uint64_t handed;
};

struct hand_packet {
    struct group_message message; /* owns its entries */
    int64_t at_ns;
    bool kept; /* back, until hand_release */
};

struct hand {
    int64_t now_ns;
    uint64_t seed;
    struct hand_replica replicas[HAND_IDS + 1]; /* by id */
    bool cut[HAND_IDS + 1][HAND_IDS + 1];       /* from, to */
    struct hand_packet packets[HAND_PACKETS_MAX];
    size_t packets_len;
    bool (*keeps)(const struct group_message *message); /* which messages are kept back; NULL: none */
    bool (*copies)(const struct group_message *message);
    struct group_message copy; /* the newest one that copies() wanted; type 0: none */
};

void hand_open(struct hand *hand, uint64_t seed);
void hand_close(struct hand *hand);
/* Ids 1 ... len as voters. */
struct group_members hand_voters(unsigned len);
/* Founds a group of them and waits until one leads. Returns its id. */
uint64_t hand_found(struct hand *hand, unsigned len);
/* What is on the disk of a replica that is not started yet: the founding entry of these members, then
 * one command for each further term. */
void hand_prepare(struct hand *hand, uint64_t id, const struct group_members *members, uint64_t term,
                  const uint64_t *terms, size_t len);
void hand_start(struct hand *hand, uint64_t id);
void hand_crash(struct hand *hand, uint64_t id);

void hand_run(struct hand *hand, unsigned ms);
/* Both ways. */
void hand_cut(struct hand *hand, uint64_t a, uint64_t b, bool cut);
/* From and to all others. */
void hand_isolate(struct hand *hand, uint64_t id, bool cut);
/* What was kept back goes its way. */
void hand_release(struct hand *hand);
size_t hand_kept(const struct hand *hand);
/* Delivers a message that was seen before, now. It must carry no entries. */
void hand_receive(struct hand *hand, const struct group_message *message);

struct group *hand_group(struct hand *hand, uint64_t id);
/* Whoever leads in the newest term, or 0. */
uint64_t hand_leader(const struct hand *hand);
bool hand_submit(struct hand *hand, uint64_t id, unsigned len);
enum err hand_change(struct hand *hand, uint64_t id, uint64_t member, enum group_role role);
/* That replica may serve reads from its own state at this moment. */
bool hand_holds_lease(const struct hand *hand, uint64_t id);

#endif
