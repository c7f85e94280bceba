/* Sockets that listen at an address as an operator writes it. */
#ifndef BELFRY_HTTP_LISTEN_H
#define BELFRY_HTTP_LISTEN_H

#include "node/base/check.h"
#include "node/base/err.h"

enum { LISTEN_SOCKETS = 2 };

/* "ADDR:PORT", "[v6]:port"; "localhost:port" is both families, whatever the machine's name files say.
 * shared: each worker listens there with a socket of its own (SO_REUSEPORT).
 * *port, when not 0, stands for the one in the address; it gets the port bound. Errors: ERR_IO. */
enum err listen_sockets(const char *address, bool shared, unsigned *port, int out[LISTEN_SOCKETS],
                        unsigned *out_len) MUST_USE;

#endif
