/* The operator's commands. Those that need a running node speak HTTP to it over DIR/belfry.sock. */
#ifndef BELFRY_OPERATOR_H
#define BELFRY_OPERATOR_H

/* `belfry admin [--data DIR] USERNAME [--revoke]`; `belfry status [--data DIR]`. */
int operator_admin(int argc, char **argv);
int operator_status(int argc, char **argv);
/* `belfry verify --data DIR`; `belfry recover --data DIR --accept-loss`. */
int operator_verify(int argc, char **argv);
int operator_recover(int argc, char **argv);

#endif
