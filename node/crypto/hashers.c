#include "node/crypto/hashers.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "node/limits.h"

enum { HELPER_FD = 3 };
_Static_assert(sizeof((struct hash_job){0}.password) == LIMIT_PASSWORD_BYTES, "the longest password fits");

extern char **environ;

struct helper {
    pid_t pid; /* 0: not running */
    int fd;
};

struct hashers {
    pthread_mutex_t mutex;
    struct password_cost cost;
    unsigned count, idle_len;
    struct helper *helpers;
    unsigned *idle; /* stack of those without a job */
};

static enum err start(struct helper *helper)
{
    int pair[2];
    posix_spawn_file_actions_t actions;
    char *argv[] = {(char *)(uintptr_t) "belfry", (char *)(uintptr_t) "hash", NULL};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return ERR_IO;
    }
    bool good = posix_spawn_file_actions_init(&actions) == 0;
    /* dup2 onto itself would keep the close-on-exec flag: go by way of another number. */
    good = good && posix_spawn_file_actions_adddup2(&actions, pair[1], HELPER_FD + 1) == 0 &&
           posix_spawn_file_actions_adddup2(&actions, HELPER_FD + 1, HELPER_FD) == 0 &&
           posix_spawn_file_actions_addclose(&actions, HELPER_FD + 1) == 0;
    good = good && posix_spawn(&helper->pid, "/proc/self/exe", &actions, NULL, argv, environ) == 0;
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(pair[1]);
    if (!good) {
        helper->pid = 0;
        (void)close(pair[0]);
        return ERR_IO;
    }
    helper->fd = pair[0];
    return OK;
}

static void stop(struct helper *helper)
{
    if (helper->pid != 0) {
        (void)close(helper->fd); /* it ends when it sees that */
        while (waitpid(helper->pid, NULL, 0) < 0 && errno == EINTR) {
        }
        helper->pid = 0;
    }
}

enum err hashers_new(unsigned count, const struct password_cost *cost, struct hashers **out)
{
    struct hashers *hashers = mem_zalloc(sizeof *hashers);
    CHECK(pthread_mutex_init(&hashers->mutex, NULL) == 0);
    hashers->cost = *cost;
    hashers->count = hashers->idle_len = count;
    hashers->helpers = mem_zalloc(count * sizeof *hashers->helpers);
    hashers->idle = mem_zalloc(count * sizeof *hashers->idle);
    for (unsigned i = 0; i < count; i++) {
        hashers->idle[i] = i;
        if (start(&hashers->helpers[i]) != OK) {
            hashers_free(hashers);
            return ERR_IO;
        }
    }
    *out = hashers;
    return OK;
}

void hashers_free(struct hashers *hashers)
{
    if (hashers != NULL) {
        for (unsigned i = 0; i < hashers->count; i++) {
            stop(&hashers->helpers[i]);
        }
        (void)pthread_mutex_destroy(&hashers->mutex);
        free(hashers->helpers);
        free(hashers->idle);
        free(hashers);
    }
}

static struct helper *take_idle(struct hashers *hashers)
{
    CHECK(pthread_mutex_lock(&hashers->mutex) == 0);
    CHECK(hashers->idle_len > 0);
    struct helper *helper = &hashers->helpers[hashers->idle[--hashers->idle_len]];
    CHECK(pthread_mutex_unlock(&hashers->mutex) == 0);
    return helper;
}

static void give_back(struct hashers *hashers, const struct helper *helper)
{
    CHECK(pthread_mutex_lock(&hashers->mutex) == 0);
    hashers->idle[hashers->idle_len++] = (unsigned)(helper - hashers->helpers);
    CHECK(pthread_mutex_unlock(&hashers->mutex) == 0);
}

static bool receive(int fd, struct hash_job *job)
{
    ssize_t n;
    do {
        n = recv(fd, job, sizeof *job, 0);
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof *job;
}

static bool deliver(int fd, const struct hash_job *job)
{
    ssize_t n;
    do {
        n = send(fd, job, sizeof *job, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof *job;
}

static bool ask(struct helper *helper, struct hash_job *job)
{
    if (helper->pid == 0 && start(helper) != OK) {
        return false;
    }
    if (deliver(helper->fd, job) && receive(helper->fd, job)) {
        return true;
    }
    stop(helper); /* it died: the next try starts another */
    return false;
}

void hashers_run(struct hashers *hashers, struct hash_job *job)
{
    struct helper *helper = take_idle(hashers);
    struct hash_job sent = *job;
    job->cost = sent.cost = hashers->cost;
    if (!ask(helper, job)) {
        *job = sent;
        if (!ask(helper, job)) {
            job->err = ERR_OVERLOADED; /* no memory for a process, or for its work */
        }
    }
    sodium_memzero(&sent, sizeof sent);
    give_back(hashers, helper);
}

int hasher_main(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    struct hash_job job;
    (void)signal(SIGINT, SIG_IGN); /* a terminal's ^C is for the node, which closes the socket when done */
    (void)signal(SIGTERM, SIG_IGN);
    password_lower_priority();
    while (receive(HELPER_FD, &job)) {
        job.phc[PHC_BYTES - 1] = 0;
        struct bytes password =
            bytes_of(job.password, job.password_len < sizeof job.password ? job.password_len : sizeof job.password);
        job.err = OK;
        if (job.verify) {
            job.matches = password_verify(job.phc, password);
            job.rehash = job.matches && password_needs_rehash(&job.cost, job.phc);
        } else {
            job.err = password_hash(&job.cost, password, job.phc);
        }
        sodium_memzero(job.password, sizeof job.password);
        if (!deliver(HELPER_FD, &job)) {
            break;
        }
    }
    return 0;
}
