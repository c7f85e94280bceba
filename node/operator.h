/* The operator's commands. Those that need a running node speak HTTP to it over DIR/belfry.sock. */
#ifndef BELFRY_OPERATOR_H
#define BELFRY_OPERATOR_H

/* `belfry admin [--data DIR] USERNAME [--revoke]`; `belfry status [--data DIR]`. */
int operator_admin(int argc, char **argv);
/* What GET /v1/cluster says, as a table; -o json: as it is. */
int operator_nodes(int argc, char **argv);
int operator_drain(int argc, char **argv);
int operator_remove(int argc, char **argv);
int operator_status(int argc, char **argv);
/* `belfry backup FILE --key-file KEY`; `belfry restore FILE --key-file KEY`; `belfry secret FILE`. */
int operator_backup(int argc, char **argv);
int operator_restore(int argc, char **argv);
int operator_secret(int argc, char **argv);
/* `belfry verify --data DIR` or `FILE --key-file KEY`; `belfry recover --data DIR --accept-loss`. */
int operator_verify(int argc, char **argv);
int operator_recover(int argc, char **argv);

#endif
