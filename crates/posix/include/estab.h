// BSD sockets over an estab stack: what socket(2), connect(2) ... take and answer, errno included.

#ifndef ESTAB_H
#define ESTAB_H

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Starts this process's stack over a TUN that exists or that the caller may make, as `config` says: `tun=NAME
// local=ADDR/PREFIX gateway=ADDR mtu=N timewaits=FILE`, and settings by Linux's names (`net.ipv4.tcp_fin_timeout=30`), with
// spaces between; `local` and `gateway` may be repeated. Then the calls below make and use its sockets; select(2), poll(2)
// and epoll(7) work on their descriptors as on the kernel's.
//
// With `timewaits` the stack leaves its TIME_WAITs in FILE when the process exits (not when a signal kills it), and the next
// one on its address takes them over from there: no old segment is taken for new. With `estab.tcp_quiet_time=1` as well, a
// stack that finds no such file, as after a crash, opens nothing for one MSL.
//
// Returns 0, or -1 with EINVAL and what was wrong in `error` (a string of up to `error_len` bytes; may be null).
//
// # Safety
// `config` is a C string; `error` is null or has room for `error_len` bytes.
int estab_start(const char *config,
                char *error,
                size_t error_len);

// socket(2): AF_INET or AF_INET6, SOCK_STREAM or SOCK_DGRAM, with SOCK_NONBLOCK and SOCK_CLOEXEC.
//
// # Safety
// socket(2)'s contract.
int estab_socket(int domain, int kind, int protocol);

// bind(2).
//
// # Safety
// bind(2)'s contract.
int estab_bind(int fd, const struct sockaddr *to, socklen_t len);

// listen(2).
//
// # Safety
// listen(2)'s contract.
int estab_listen(int fd, int backlog);

// accept(2).
//
// # Safety
// accept(2)'s contract.
int estab_accept(int fd, struct sockaddr *from, socklen_t *len);

// accept4(2).
//
// # Safety
// accept4(2)'s contract.
int estab_accept4(int fd, struct sockaddr *from, socklen_t *len, int flags);

// getsockname(2).
//
// # Safety
// getsockname(2)'s contract.
int estab_getsockname(int fd, struct sockaddr *local, socklen_t *len);

// getpeername(2).
//
// # Safety
// getpeername(2)'s contract.
int estab_getpeername(int fd, struct sockaddr *peer, socklen_t *len);

// connect(2).
//
// # Safety
// connect(2)'s contract.
int estab_connect(int fd, const struct sockaddr *to, socklen_t len);

// shutdown(2).
//
// # Safety
// shutdown(2)'s contract.
int estab_shutdown(int fd, int how);

// close(2).
//
// # Safety
// close(2)'s contract.
int estab_close(int fd);

// read(2).
//
// # Safety
// read(2)'s contract.
ssize_t estab_read(int fd, void *buf, size_t len);

// readv(2).
//
// # Safety
// readv(2)'s contract.
ssize_t estab_readv(int fd, const struct iovec *iov, int count);

// recv(2).
//
// # Safety
// recv(2)'s contract.
ssize_t estab_recv(int fd, void *buf, size_t len, int flags);

// recvfrom(2).
//
// # Safety
// recvfrom(2)'s contract.
ssize_t estab_recvfrom(int fd,
                       void *buf,
                       size_t len,
                       int flags,
                       struct sockaddr *from,
                       socklen_t *from_len);

// recvmsg(2).
//
// # Safety
// recvmsg(2)'s contract.
ssize_t estab_recvmsg(int fd, struct msghdr *msg, int flags);

// write(2).
//
// # Safety
// write(2)'s contract.
ssize_t estab_write(int fd, const void *buf, size_t len);

// writev(2).
//
// # Safety
// writev(2)'s contract.
ssize_t estab_writev(int fd, const struct iovec *iov, int count);

// send(2).
//
// # Safety
// send(2)'s contract.
ssize_t estab_send(int fd, const void *buf, size_t len, int flags);

// sendto(2).
//
// # Safety
// sendto(2)'s contract.
ssize_t estab_sendto(int fd,
                     const void *buf,
                     size_t len,
                     int flags,
                     const struct sockaddr *to,
                     socklen_t to_len);

// sendmsg(2).
//
// # Safety
// sendmsg(2)'s contract.
ssize_t estab_sendmsg(int fd, const struct msghdr *msg, int flags);

// sendfile(2) from a real file to a socket of ours.
//
// # Safety
// sendfile(2)'s contract.
ssize_t estab_sendfile(int to, int from, off_t *at, size_t len);

// fcntl(2): F_GETFL and F_SETFL. Variadic in C; its third argument is passed alike on the ABIs Linux has.
//
// # Safety
// fcntl(2)'s contract.
int estab_fcntl(int fd,
                int command,
                long argument);

// ioctl(2): FIONREAD, TIOCOUTQ, SIOCOUTQNSD, FIONBIO. Variadic in C; its third argument is passed alike on the ABIs Linux has.
//
// # Safety
// ioctl(2)'s contract.
int estab_ioctl(int fd,
                unsigned long request,
                int *argument);

// getsockopt(2): TCP_INFO in Linux's layout.
//
// # Safety
// getsockopt(2)'s contract.
int estab_getsockopt(int fd, int level, int name, void *value, socklen_t *len);

// setsockopt(2).
//
// # Safety
// setsockopt(2)'s contract.
int estab_setsockopt(int fd, int level, int name, const void *value, socklen_t len);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ESTAB_H */
