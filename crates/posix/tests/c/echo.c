/* An echo server over an estab stack: the calls by their C names, the kernel's poll(2) on their descriptors. */
#include "estab.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static int ready(int fd, short events) {
    struct pollfd one = {.fd = fd, .events = events};
    return poll(&one, 1, 10000) == 1 && (one.revents & events);
}

int main(void) {
    char error[200] = "";
    check(estab_start("tun=tun0", error, sizeof error) == -1 && errno == EINVAL && strstr(error, "local="), "a bad plan");
    if (estab_start("tun=tun0 local=10.9.0.2/24 gateway=10.9.0.1", error, sizeof error) != 0) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    int listener = estab_socket(AF_INET, SOCK_STREAM, 0);
    check(listener >= 0, "socket");
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(7)};
    inet_pton(AF_INET, "10.9.0.2", &at.sin_addr);
    check(estab_bind(listener, (struct sockaddr *)&at, sizeof at) == 0, "bind");
    check(estab_listen(listener, 5) == 0, "listen");
    int second = estab_socket(AF_INET, SOCK_STREAM, 0);
    check(estab_bind(second, (struct sockaddr *)&at, sizeof at) == -1 && errno == EADDRINUSE, "a second bind");
    check(estab_close(second) == 0, "close");
    struct timeval shortly = {.tv_usec = 1000};
    check(estab_setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &shortly, sizeof shortly) == 0, "SO_RCVTIMEO");
    check(estab_accept(listener, NULL, NULL) == -1 && errno == EAGAIN, "an accept that waits no longer");
    puts("ready");
    fflush(stdout);

    check(ready(listener, POLLIN), "poll for a connection");
    struct sockaddr_in from, local;
    socklen_t len = sizeof from;
    int fd = estab_accept4(listener, (struct sockaddr *)&from, &len, SOCK_NONBLOCK);
    check(fd >= 0 && from.sin_addr.s_addr == inet_addr("10.9.0.1"), "accept4");
    len = sizeof local;
    check(estab_getsockname(fd, (struct sockaddr *)&local, &len) == 0 && local.sin_port == htons(7), "getsockname");
    struct tcp_info info;
    len = sizeof info;
    check(estab_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_state == TCP_ESTABLISHED, "TCP_INFO");
    for (;;) {
        char buf[65536];
        ssize_t n = estab_recv(fd, buf, sizeof buf, 0);
        if (n < 0 && errno == EAGAIN) {
            check(ready(fd, POLLIN), "poll for data");
            continue;
        }
        check(n >= 0, "recv");
        if (n == 0)
            break;
        for (ssize_t done = 0; done < n;) {
            ssize_t sent = estab_send(fd, buf + done, n - done, 0);
            if (sent < 0 && errno == EAGAIN) {
                check(ready(fd, POLLOUT), "poll for room");
                continue;
            }
            check(sent > 0, "send");
            done += sent;
        }
    }
    check(estab_close(fd) == 0, "close");
    check(estab_recv(fd, &at, 1, 0) == -1 && errno == EBADF, "a closed descriptor");
    return 0;
}
