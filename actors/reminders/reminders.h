/* Reminders and tasks: see reminders.md for routes, keys and invariants. */
#ifndef BELFRY_ACTORS_REMINDERS_H
#define BELFRY_ACTORS_REMINDERS_H

#include "actors/kind.h"

extern const struct kind reminders_kind;

#endif
