#include "node/background.h"

#include <stdlib.h>

struct background {
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct list jobs;
    bool stopping;
    pthread_t thread;
};

static void run_done(struct worker *worker, struct message *message)
{
    struct background_job *job = container_of(message, struct background_job, message);
    (void)worker;
    job->done(job);
}

static void *background_main(void *arg)
{
    (void)pthread_setname_np(pthread_self(), "background");
    struct background *background = arg;
    CHECK(pthread_mutex_lock(&background->mutex) == 0);
    while (!background->stopping || !list_empty(&background->jobs)) {
        struct list *link = list_pop(&background->jobs);
        if (link == NULL) {
            CHECK(pthread_cond_wait(&background->wake, &background->mutex) == 0);
            continue;
        }
        CHECK(pthread_mutex_unlock(&background->mutex) == 0);
        struct background_job *job = container_of(link, struct background_job, link);
        job->work(job);
        job->message.run = run_done;
        worker_post(job->worker, &job->message);
        CHECK(pthread_mutex_lock(&background->mutex) == 0);
    }
    CHECK(pthread_mutex_unlock(&background->mutex) == 0);
    return NULL;
}

struct background *background_new(void)
{
    struct background *background = mem_zalloc(sizeof *background);
    list_init(&background->jobs);
    CHECK(pthread_mutex_init(&background->mutex, NULL) == 0);
    CHECK(pthread_cond_init(&background->wake, NULL) == 0);
    CHECK(pthread_create(&background->thread, NULL, background_main, background) == 0);
    return background;
}

void background_free(struct background *background)
{
    CHECK(pthread_mutex_lock(&background->mutex) == 0);
    background->stopping = true;
    CHECK(pthread_cond_signal(&background->wake) == 0);
    CHECK(pthread_mutex_unlock(&background->mutex) == 0);
    CHECK(pthread_join(background->thread, NULL) == 0);
    (void)pthread_cond_destroy(&background->wake);
    (void)pthread_mutex_destroy(&background->mutex);
    free(background);
}

void background_run(struct background *background, struct background_job *job)
{
    CHECK(pthread_mutex_lock(&background->mutex) == 0);
    list_add_tail(&background->jobs, &job->link);
    CHECK(pthread_cond_signal(&background->wake) == 0);
    CHECK(pthread_mutex_unlock(&background->mutex) == 0);
}
