#include "node/http/listen.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "node/limits.h"

enum { PORT_TEXT = 8 };

static bool set(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) == 0;
}

/* The connections inherit all of this. Without the two bounds a client that reads nothing, or sends more
 * than is taken, makes the kernel keep megabytes for it, until no connection gets any. */
static bool set_options(int fd, int family, bool shared)
{
    return set(fd, SOL_SOCKET, SO_REUSEADDR, 1) && set(fd, SOL_SOCKET, SO_REUSEPORT, shared) &&
           set(fd, IPPROTO_TCP, TCP_NODELAY, 1) && set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, LIMIT_KERNEL_BYTES) &&
           set(fd, SOL_SOCKET, SO_RCVBUF, LIMIT_KERNEL_BYTES) &&
           (family != AF_INET6 || set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1));
}

static unsigned port_of(const struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET ? ntohs(((const struct sockaddr_in *)address)->sin_port)
                                         : ntohs(((const struct sockaddr_in6 *)address)->sin6_port);
}

static enum err bind_to(const struct addrinfo *info, bool shared, unsigned *port, int *out)
{
    struct sockaddr_storage address = {0};
    memcpy(&address, info->ai_addr, info->ai_addrlen);
    if (*port != 0 && info->ai_family == AF_INET) {
        ((struct sockaddr_in *)&address)->sin_port = htons((uint16_t)*port);
    } else if (*port != 0) {
        ((struct sockaddr_in6 *)&address)->sin6_port = htons((uint16_t)*port);
    }
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t len = sizeof address;
    if (fd < 0) {
        return ERR_IO;
    }
    if (!set_options(fd, info->ai_family, shared) || bind(fd, (struct sockaddr *)&address, info->ai_addrlen) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        (void)close(fd);
        return ERR_IO;
    }
    *port = port_of(&address);
    *out = fd;
    return OK;
}

static bool split(const char *address, char *host, size_t cap, char *port)
{
    const char *colon = strrchr(address, ':');
    if (colon == NULL || strlen(colon + 1) == 0 || strlen(colon + 1) >= PORT_TEXT) {
        return false;
    }
    size_t len = (size_t)(colon - address);
    if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
        address++;
        len -= 2;
    }
    if (len == 0 || len >= cap) {
        return false;
    }
    memcpy(host, address, len);
    host[len] = 0;
    (void)snprintf(port, PORT_TEXT, "%s", colon + 1);
    return true;
}

static enum err bind_text(const char *host, const char *port_text, bool shared, unsigned *port, int *out)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *info = NULL;
    if (getaddrinfo(host, port_text, &hints, &info) != 0) {
        return ERR_IO;
    }
    enum err err = bind_to(info, shared, port, out);
    freeaddrinfo(info);
    return err;
}

enum err listen_sockets(const char *address, bool shared, unsigned *port, int out[LISTEN_SOCKETS], unsigned *out_len)
{
    char host[256], port_text[PORT_TEXT];
    if (!split(address, host, sizeof host, port_text)) {
        return ERR_IO;
    }
    bool both = strcmp(host, "localhost") == 0;
    TRY(bind_text(both ? "127.0.0.1" : host, port_text, shared, port, &out[0]));
    *out_len = 1;
    if (both && bind_text("::1", port_text, shared, port, &out[1]) == OK) {
        *out_len = 2;
    }
    bool good = !both || *out_len == 2 || access("/proc/net/if_inet6", F_OK) != 0;
    if (!good) {
        (void)close(out[0]);
    }
    return good ? OK : ERR_IO;
}
