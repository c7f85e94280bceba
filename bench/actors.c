/* What a live idle actor costs: 100,000 of them, by the allocator's own count. */
#include <malloc.h>
#include <stdio.h>

#include "node/actor/actor.h"
#include "node/base/id.h"

int main(void)
{
    enum { ACTORS = 100000 };
    struct actors actors;
    actors_init(&actors, 256);
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    for (unsigned i = 0; i < ACTORS; i++) {
        struct id id = id_make(1000 + i, 1 + i % 16, i * 0x9e3779b97f4a7c15ULL);
        (void)actors_get(&actors, id_partition(id), 3, id_bytes(&id), 0);
    }
    size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
    printf("%d idle actors: %zu bytes each\n", ACTORS, (after - before) / ACTORS);
    bool good = (after - before) / ACTORS < 256 && actors_live(&actors) == ACTORS;
    actors_close(&actors);
    return good ? 0 : 1;
}
