/* Intrusive doubly linked list, as in the Linux kernel: the head is a link too. */
#ifndef BELFRY_BASE_LIST_H
#define BELFRY_BASE_LIST_H

#include "node/base/check.h"

struct list {
    struct list *prev, *next;
};

static inline void list_init(struct list *head)
{
    head->prev = head;
    head->next = head;
}

static inline bool list_empty(const struct list *head)
{
    return head->next == head;
}

static inline void list_add_tail(struct list *head, struct list *link)
{
    link->prev = head->prev;
    link->next = head;
    head->prev->next = link;
    head->prev = link;
}

static inline void list_remove(struct list *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    list_init(link);
}

/* Removes and returns the first link, or NULL. */
static inline struct list *list_pop(struct list *head)
{
    struct list *link = head->next;
    if (link == head) {
        return NULL;
    }
    list_remove(link);
    return link;
}

/* Moves every link of from behind those of to; from is empty afterwards. */
static inline void list_splice(struct list *to, struct list *from)
{
    if (!list_empty(from)) {
        from->next->prev = to->prev;
        to->prev->next = from->next;
        from->prev->next = to;
        to->prev = from->prev;
        list_init(from);
    }
}

#define list_each(link, head) for (struct list *link = (head)->next; (link) != (head); (link) = (link)->next)

#endif
