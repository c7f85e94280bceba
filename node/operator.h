/* The operator's commands: they speak HTTP to a node over its socket, DIR/belfry.sock. */
#ifndef BELFRY_OPERATOR_H
#define BELFRY_OPERATOR_H

/* `belfry admin [--data DIR] USERNAME [--revoke]`; `belfry status [--data DIR]`. */
int operator_admin(int argc, char **argv);
int operator_status(int argc, char **argv);

#endif
