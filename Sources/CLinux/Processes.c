#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

// MARK: - Children

/// The next `count` strings as an array that ends with NULL; NULL without memory.
static char **array_of(const char **strings, int32_t count) {
    char **array = calloc((size_t)count + 1, sizeof *array);
    for (int32_t i = 0; array && i < count; i++) {
        // posix_spawn takes, for history's sake, pointers that are not const; it writes nothing there.
        array[i] = (char *)(uintptr_t)*strings;
        *strings += strlen(*strings) + 1;
    }
    return array;
}

static int32_t spawn(
    const char *path, char *const *arguments, char *const *environment, const int32_t *descriptors,
    int32_t count) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int error = posix_spawn_file_actions_init(&actions);
    if (error) return -error;
    error = posix_spawnattr_init(&attributes);
    if (error) {
        posix_spawn_file_actions_destroy(&actions);
        return -error;
    }
    // A descriptor copied onto itself loses its close-on-exec flag, in the child alone.
    for (int32_t i = 0; i < count && !error; i++) {
        error = posix_spawn_file_actions_adddup2(&actions, descriptors[i], descriptors[i]);
    }
    sigset_t none;
    sigemptyset(&none);
    if (!error) error = posix_spawnattr_setsigmask(&attributes, &none);
    if (!error) error = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    pid_t child = -1;
    if (!error) error = posix_spawn(&child, path, &actions, &attributes, arguments, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return error ? -error : child;
}

int32_t CLinux_spawn(
    const char *path, const char *strings, int32_t argument_count, int32_t environment_count,
    const int32_t *descriptors, int32_t descriptor_count) {
    char **arguments = array_of(&strings, argument_count);
    char **environment = arguments ? array_of(&strings, environment_count) : NULL;
    int32_t child =
        environment ? spawn(path, arguments, environment, descriptors, descriptor_count) : -ENOMEM;
    free(environment);
    free(arguments);
    return child;
}

int32_t CLinux_reap(int32_t process) {
    pid_t ended = waitpid(process, NULL, WNOHANG);
    if (ended < 0) return errno == EINTR ? 0 : -errno;
    return ended == process;
}

int32_t CLinux_kill(int32_t process, int32_t number) { return kill(process, number) < 0 ? -errno : 0; }
int32_t CLinux_process_id(void) { return getpid(); }
int32_t CLinux_parent_id(void) { return getppid(); }

// MARK: - Descriptors from one process to the next

int32_t CLinux_socket_pair(int32_t *descriptors) {
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, descriptors) < 0 ? -errno : 0;
}

int32_t CLinux_wait_readable(int32_t fd, int32_t timeout_milliseconds) {
    struct pollfd waiting = {.fd = fd, .events = POLLIN};
    int ready = poll(&waiting, 1, timeout_milliseconds);
    if (ready < 0) return errno == EINTR ? 0 : -errno;
    return ready > 0;
}

int32_t CLinux_adopt(int32_t fd) { return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0; }

int32_t CLinux_is_listening(int32_t fd) {
    int listens = 0, type = 0;
    socklen_t bytes = sizeof listens;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes) < 0) return 0;
    bytes = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) == 0 && listens && type == SOCK_STREAM;
}

// MARK: - Sockets to services of this machine

int32_t CLinux_notify(const char *socket_name, const void *bytes, size_t count) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(socket_name);
    if (length < 2 || length >= sizeof address.sun_path) return -EINVAL;
    if (socket_name[0] != '/' && socket_name[0] != '@') return -EINVAL;
    memcpy(address.sun_path, socket_name, length);
    if (socket_name[0] == '@') address.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    ssize_t sent;
    do {
        // Never waits: a service manager that does not read must not hold the daemon up.
        sent = sendto(
            fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&address,
            (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    } while (sent < 0 && errno == EINTR);
    int error = sent < 0 ? errno : 0;
    close(fd);
    return -error;
}

int32_t CLinux_connect_tcp(const char *host, uint16_t port, int32_t timeout_milliseconds) {
    char service[8];
    snprintf(service, sizeof service, "%u", (unsigned)port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, service, &hints, &found) != 0) return -EHOSTUNREACH;
    int error = EHOSTUNREACH, fd = -1;
    for (struct addrinfo *one = found; one && fd < 0; one = one->ai_next) {
        fd = socket(one->ai_family, one->ai_socktype | SOCK_CLOEXEC, one->ai_protocol);
        if (fd < 0) {
            error = errno;
            continue;
        }
        struct timeval limit = {timeout_milliseconds / 1000, timeout_milliseconds % 1000 * 1000};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        // Counts for connect, too.
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        if (connect(fd, one->ai_addr, one->ai_addrlen) < 0) {
            error = errno;
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    return fd < 0 ? -error : fd;
}
