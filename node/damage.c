#include "node/damage.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { FINDINGS_MAX = 100, TEXT_BYTES = 300 };

struct damage {
    pthread_mutex_t *mutex; /* over findings */
    struct finding {
        enum damage_part part;
        char text[TEXT_BYTES];
    } * findings;
    size_t len;
    unsigned partitions_len;
    atomic_bool parts[DAMAGE_PARTS], any, whole_state;
    atomic_bool *partitions;
};

static const char *const names[DAMAGE_PARTS] = {"identity", "durable point", "state", "log"};

const char *damage_part_name(enum damage_part part)
{
    return names[part];
}

struct damage *damage_new(unsigned partitions)
{
    struct damage *damage = mem_zalloc(sizeof *damage);
    damage->mutex = mem_zalloc(sizeof *damage->mutex);
    damage->findings = mem_zalloc(FINDINGS_MAX * sizeof *damage->findings);
    damage->partitions_len = partitions;
    damage->partitions = mem_zalloc(partitions * sizeof *damage->partitions);
    CHECK(pthread_mutex_init(damage->mutex, NULL) == 0);
    return damage;
}

void damage_free(struct damage *damage)
{
    if (damage != NULL) {
        (void)pthread_mutex_destroy(damage->mutex);
        free(damage->mutex);
        free(damage->findings);
        free(damage->partitions);
        free(damage);
    }
}

static bool is_known(const struct damage *damage, enum damage_part part, const char *text)
{
    for (size_t i = 0; i < damage->len; i++) {
        if (damage->findings[i].part == part && strncmp(damage->findings[i].text, text, TEXT_BYTES - 1) == 0) {
            return true;
        }
    }
    return false;
}

void damage_add(struct damage *damage, enum damage_part part, int partition, const char *text)
{
    CHECK(partition < (int)damage->partitions_len);
    CHECK(pthread_mutex_lock(damage->mutex) == 0);
    if (damage->len < FINDINGS_MAX && !is_known(damage, part, text)) {
        struct finding *finding = &damage->findings[damage->len++];
        finding->part = part;
        (void)snprintf(finding->text, sizeof finding->text, "%s", text);
    }
    CHECK(pthread_mutex_unlock(damage->mutex) == 0);
    if (part == DAMAGE_STATE && partition >= 0) {
        atomic_store(&damage->partitions[partition], true);
    } else if (part == DAMAGE_STATE) {
        atomic_store(&damage->whole_state, true);
    }
    atomic_store(&damage->parts[part], true);
    atomic_store(&damage->any, true);
}

bool damage_any(const struct damage *damage)
{
    return atomic_load_explicit(&damage->any, memory_order_relaxed);
}

bool damage_in(const struct damage *damage, enum damage_part part)
{
    return atomic_load(&damage->parts[part]);
}

bool damage_spares(const struct damage *damage, unsigned partition)
{
    return !atomic_load(&damage->whole_state) && !atomic_load(&damage->partitions[partition]);
}

void damage_write(const struct damage *damage, const char *before, struct buf *out)
{
    CHECK(pthread_mutex_lock(damage->mutex) == 0);
    for (size_t i = 0; i < damage->len; i++) {
        buf_printf(out, "%s%s: %s\n", before, names[damage->findings[i].part], damage->findings[i].text);
    }
    CHECK(pthread_mutex_unlock(damage->mutex) == 0);
}
