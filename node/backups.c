#include "node/backups.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "node/base/clock.h"
#include "node/base/cond.h"
#include "node/base/json_text.h"
#include "node/base/log.h"
#include "node/base/when.h"

enum { NICE = 10 };
static const char prefix[] = "belfry-", suffix[] = ".backup";

struct backups {
    char dir[CONFIG_TEXT], key_file[CONFIG_TEXT], data[CONFIG_TEXT];
    int64_t every_s, keep;
    struct log *log;
    pthread_t thread;
    pthread_mutex_t mutex; /* over all that follows */
    pthread_cond_t wake;
    bool stopping, asked, running, any, good;
    char file[PATH_MAX]; /* the last one's */
    int64_t started_ms, finished_ms, made_ms;
    uint64_t bytes;
    pid_t child;
};

/* ---- making one ---- */

/* belfry-20261121T111145123Z.backup: names sort as times do. */
static void name_file(const struct backups *backups, int64_t now_ms, char *out)
{
    char when[WHEN_TEXT_BYTES], digits[WHEN_TEXT_BYTES + 1];
    size_t len = 0;
    when_format(now_ms, when);
    for (size_t i = 0; i < sizeof when; i++) {
        if (when[i] != '-' && when[i] != ':' && when[i] != '.') {
            digits[len++] = when[i];
        }
    }
    digits[len] = 0;
    (void)snprintf(out, PATH_MAX, "%s/%s%s%s", backups->dir, prefix, digits, suffix);
}

/* Runs `belfry backup` and waits for it; false when it failed. */
static bool run(struct backups *backups, char *file)
{
    char *argv[] = {"belfry", "backup", file, "--key-file", backups->key_file, "--data", backups->data, NULL};
    posix_spawn_file_actions_t actions;
    pid_t child;
    int status = 0;
    posix_spawnattr_t attr;
    sigset_t none;
    (void)sigemptyset(&none); /* ours has the signals blocked that end it */
    CHECK(posix_spawnattr_init(&attr) == 0 && posix_spawnattr_setsigmask(&attr, &none) == 0 &&
          posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK) == 0);
    CHECK(posix_spawn_file_actions_init(&actions) == 0);
    CHECK(posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0) == 0);
    CHECK(pthread_mutex_lock(&backups->mutex) == 0); /* one that is to be stopped is known, or never begun */
    int rc = backups->stopping ? ECANCELED : posix_spawn(&child, "/proc/self/exe", &actions, &attr, argv, environ);
    backups->child = rc == 0 ? child : 0;
    CHECK(pthread_mutex_unlock(&backups->mutex) == 0);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (rc != 0) {
        return false;
    }
    (void)setpriority(PRIO_PROCESS, (id_t)child, NICE);
    siginfo_t ended;
    while (waitid(P_PID, (id_t)child, &ended, WEXITED | WNOWAIT) < 0 && errno == EINTR) {
    }
    CHECK(pthread_mutex_lock(&backups->mutex) == 0);
    backups->child = 0;
    (void)waitpid(child, &status, 0); /* its number is free for others from here on */
    CHECK(pthread_mutex_unlock(&backups->mutex) == 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int is_ours(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);
    return strncmp(entry->d_name, prefix, sizeof prefix - 1) == 0 && len > sizeof suffix - 1 &&
           strcmp(entry->d_name + len - (sizeof suffix - 1), suffix) == 0;
}

/* One that was cut short has this name still. */
static int is_half(const struct dirent *entry)
{
    return strncmp(entry->d_name, prefix, sizeof prefix - 1) == 0 && strstr(entry->d_name, ".backup.tmp") != NULL;
}

/* Deletes all of a kind but the newest. */
static void drop(const struct backups *backups, int (*which)(const struct dirent *), int keep)
{
    struct dirent **list;
    int len = scandir(backups->dir, &list, which, alphasort);
    for (int i = 0; i < len; i++) {
        char path[PATH_MAX];
        (void)snprintf(path, sizeof path, "%s/%s", backups->dir, list[i]->d_name);
        if (i < len - keep && strcmp(path, backups->file) != 0) { /* never the one just made, whatever the clock says */
            (void)unlink(path);
        }
        free(list[i]);
    }
    if (len >= 0) {
        free(list);
    }
}

static void make_one(struct backups *backups)
{
    char file[PATH_MAX];
    struct stat st = {0};
    int64_t now = clock_wall_ms(clock_system());
    (void)mkdir(backups->dir, 0750);
    name_file(backups, now, file);
    CHECK(pthread_mutex_lock(&backups->mutex) == 0);
    backups->running = true;
    backups->started_ms = now;
    (void)snprintf(backups->file, sizeof backups->file, "%s", file);
    CHECK(pthread_mutex_unlock(&backups->mutex) == 0);
    bool good = run(backups, file) && stat(file, &st) == 0;
    drop(backups, is_half, 0);
    if (good) {
        drop(backups, is_ours, (int)backups->keep);
    }
    log_text(backups->log, good ? LOG_INFO : LOG_ERROR, good ? "backup made" : "backup failed", "%s", file);
    CHECK(pthread_mutex_lock(&backups->mutex) == 0);
    backups->running = false;
    backups->any = true;
    backups->good = good;
    backups->bytes = (uint64_t)st.st_size;
    backups->finished_ms = clock_wall_ms(clock_system());
    backups->made_ms = good ? now : backups->made_ms;
    CHECK(pthread_mutex_unlock(&backups->mutex) == 0);
}

/* ---- the thread ---- */

/* Until one is asked for or due; false when it is time to stop. */
static bool wait_for_turn(struct backups *backups)
{
    struct timespec until = cond_deadline(backups->every_s * 1000000000LL);
    CHECK(pthread_mutex_lock(&backups->mutex) == 0);
    int rc = 0;
    while (!backups->stopping && !backups->asked && rc != ETIMEDOUT) {
        rc = backups->every_s > 0 ? pthread_cond_timedwait(&backups->wake, &backups->mutex, &until)
                                  : pthread_cond_wait(&backups->wake, &backups->mutex);
    }
    backups->asked = false;
    bool go = !backups->stopping;
    CHECK(pthread_mutex_unlock(&backups->mutex) == 0);
    return go;
}

static void *backups_main(void *arg)
{
    (void)pthread_setname_np(pthread_self(), "backups");
    while (wait_for_turn(arg)) {
        make_one(arg);
    }
    return NULL;
}

struct backups *backups_new(const struct config *config, struct log *log)
{
    if (config->backup_dir[0] == 0) {
        return NULL;
    }
    struct backups *backups = mem_zalloc(sizeof *backups);
    (void)snprintf(backups->dir, sizeof backups->dir, "%s", config->backup_dir);
    (void)snprintf(backups->key_file, sizeof backups->key_file, "%s", config->backup_key_file);
    (void)snprintf(backups->data, sizeof backups->data, "%s", config->data);
    backups->every_s = config->backup_every_s;
    backups->keep = config->backup_keep;
    backups->log = log;
    CHECK(pthread_mutex_init(&backups->mutex, NULL) == 0);
    cond_init(&backups->wake);
    CHECK(pthread_create(&backups->thread, NULL, backups_main, backups) == 0);
    return backups;
}

void backups_free(struct backups *backups)
{
    if (backups == NULL) {
        return;
    }
    CHECK(pthread_mutex_lock(&backups->mutex) == 0);
    backups->stopping = true;
    if (backups->child > 0) {
        (void)kill(backups->child, SIGTERM); /* half a file has no name yet */
    }
    CHECK(pthread_cond_signal(&backups->wake) == 0);
    CHECK(pthread_mutex_unlock(&backups->mutex) == 0);
    CHECK(pthread_join(backups->thread, NULL) == 0);
    (void)pthread_cond_destroy(&backups->wake);
    (void)pthread_mutex_destroy(&backups->mutex);
    free(backups);
}

void backups_ask(struct backups *backups)
{
    CHECK(pthread_mutex_lock(&backups->mutex) == 0);
    backups->asked = backups->asked || !backups->running;
    CHECK(pthread_cond_signal(&backups->wake) == 0);
    CHECK(pthread_mutex_unlock(&backups->mutex) == 0);
}

void backups_write(struct backups *backups, struct buf *out)
{
    CHECK(pthread_mutex_lock(&backups->mutex) == 0);
    buf_printf(out, "{\"running\":%s,\"last\":", backups->running || backups->asked ? "true" : "false");
    if (backups->any && !backups->running) {
        char started[WHEN_TEXT_BYTES], finished[WHEN_TEXT_BYTES];
        when_format(backups->started_ms, started);
        when_format(backups->finished_ms, finished);
        buf_add_lit(out, "{\"file\":");
        json_text_add(out, bytes_str(backups->file));
        buf_printf(out, ",\"ok\":%s,\"bytes\":%llu,\"started_at\":\"%.*s\",\"finished_at\":\"%.*s\"}}",
                   backups->good ? "true" : "false", (unsigned long long)backups->bytes, WHEN_TEXT_BYTES, started,
                   WHEN_TEXT_BYTES, finished);
    } else {
        buf_add_lit(out, "null}");
    }
    CHECK(pthread_mutex_unlock(&backups->mutex) == 0);
}

int64_t backups_last_ms(struct backups *backups)
{
    CHECK(pthread_mutex_lock(&backups->mutex) == 0);
    int64_t ms = backups->made_ms;
    CHECK(pthread_mutex_unlock(&backups->mutex) == 0);
    return ms;
}
