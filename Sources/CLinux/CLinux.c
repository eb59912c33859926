#define _GNU_SOURCE
#include "CLinux.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

const int32_t CLinux_EAGAIN = EAGAIN;
const int32_t CLinux_EMFILE = EMFILE;
const int32_t CLinux_ENFILE = ENFILE;
const int32_t CLinux_ENOBUFS = ENOBUFS;
const int32_t CLinux_ENOMEM = ENOMEM;
const int32_t CLinux_ECONNABORTED = ECONNABORTED;
const int32_t CLinux_EADDRINUSE = EADDRINUSE;
const int32_t CLinux_EINVAL = EINVAL;
const int32_t CLinux_EEXIST = EEXIST;
const int32_t CLinux_ETIMEDOUT = ETIMEDOUT;

const char *CLinux_strerror(int32_t code) {
    const char *text = strerrordesc_np(code);
    return text ? text : "unknown error";
}

// MARK: - Clocks

static uint64_t nanoseconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t CLinux_monotonic_nanoseconds(void) { return nanoseconds(CLOCK_MONOTONIC); }
int64_t CLinux_wall_nanoseconds(void) { return (int64_t)nanoseconds(CLOCK_REALTIME); }
int64_t CLinux_cpu_nanoseconds(void) { return (int64_t)nanoseconds(CLOCK_PROCESS_CPUTIME_ID); }

// MARK: - Process

int32_t CLinux_getrandom(void *bytes, size_t count) {
    char *next = bytes;
    while (count > 0) {
        ssize_t n = getrandom(next, count, 0);
        if (n < 0) {
            if (errno == EINTR) continue;
            return -errno;
        }
        next += n;
        count -= (size_t)n;
    }
    return 0;
}

int64_t CLinux_resident_bytes(void) {
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file) return -errno;
    long total = 0, resident = 0;
    int fields = fscanf(file, "%ld %ld", &total, &resident);
    fclose(file);
    return fields == 2 ? (int64_t)resident * sysconf(_SC_PAGESIZE) : -EINVAL;
}

int32_t CLinux_open_file_count(void) {
    DIR *directory = opendir("/proc/self/fd");
    if (!directory) return -errno;
    int32_t count = 0;
    struct dirent *entry;
    while ((entry = readdir(directory))) count += entry->d_name[0] != '.';
    closedir(directory);
    return count - 1;  // the directory itself
}

int64_t CLinux_raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return -errno;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) return -errno;
    return limit.rlim_cur > INT64_MAX ? INT64_MAX : (int64_t)limit.rlim_cur;
}

void CLinux_map_blocks_from(int32_t bytes) {
    mallopt(M_MMAP_THRESHOLD, bytes);
    // Would otherwise stay at 128 KiB: each request would give its memory back and fault it in again.
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
}
void CLinux_trim_heap(void) { malloc_trim(0); }

int32_t CLinux_processor_count(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) < 0) return 1;
    int count = CPU_COUNT(&set);
    return count < 1 ? 1 : count;
}

// MARK: - Threads

_Static_assert(sizeof(pthread_t) == sizeof(uint64_t), "pthread_t fits the handle");

int32_t CLinux_thread_start(uint64_t *thread, size_t stack_bytes, void *(*body)(void *), void *context) {
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error) return -error;
    if (stack_bytes > 0) error = pthread_attr_setstacksize(&attributes, stack_bytes);
    pthread_t handle;
    if (!error) error = pthread_create(&handle, &attributes, body, context);
    pthread_attr_destroy(&attributes);
    if (error) return -error;
    *thread = (uint64_t)handle;
    return 0;
}

int32_t CLinux_thread_join(uint64_t thread) { return -pthread_join((pthread_t)thread, NULL); }
void CLinux_thread_set_name(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }

int32_t CLinux_thread_pin(int32_t core) {
    if (core < 0 || core >= CPU_SETSIZE) return -EINVAL;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
    return sched_setaffinity(0, sizeof set, &set) < 0 ? -errno : 0;
}

void CLinux_thread_lower_priority(void) {
    struct sched_param parameters = {.sched_priority = 0};
    sched_setscheduler(0, SCHED_BATCH, &parameters);
    setpriority(PRIO_PROCESS, (id_t)gettid(), 19);
    // glibc has no wrapper: who 1 is a thread, 0 the caller; class 3 in the upper bits is idle.
    syscall(SYS_ioprio_set, 1, 0, 3 << 13);
}

void CLinux_thread_long_slices(void) {
    // As in linux/sched/types.h, which clashes with sched.h.
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attributes = {.size = 48, .policy = SCHED_BATCH, .nice = getpriority(PRIO_PROCESS, (id_t)gettid())};
    // The longest slice there is, from Linux 6.12 on: who has a shorter one goes first when it wakes up.
    attributes.runtime = 100000000;
    syscall(SYS_sched_setattr, 0, &attributes, 0);
}

void CLinux_thread_yield_by(int32_t niceness) {
    setpriority(PRIO_PROCESS, (id_t)gettid(), niceness);
}

// MARK: - Monitor

struct CLinux_monitor {
    pthread_mutex_t mutex;
    pthread_cond_t condition;
};

CLinux_monitor *CLinux_monitor_create(void) {
    CLinux_monitor *monitor = malloc(sizeof *monitor);
    if (!monitor) return NULL;
    pthread_mutex_init(&monitor->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&monitor->condition, &attributes);
    pthread_condattr_destroy(&attributes);
    return monitor;
}

void CLinux_monitor_destroy(CLinux_monitor *monitor) {
    pthread_cond_destroy(&monitor->condition);
    pthread_mutex_destroy(&monitor->mutex);
    free(monitor);
}

void CLinux_monitor_lock(CLinux_monitor *monitor) { pthread_mutex_lock(&monitor->mutex); }
void CLinux_monitor_unlock(CLinux_monitor *monitor) { pthread_mutex_unlock(&monitor->mutex); }
void CLinux_monitor_wait(CLinux_monitor *monitor) { pthread_cond_wait(&monitor->condition, &monitor->mutex); }

int32_t CLinux_monitor_wait_until(CLinux_monitor *monitor, uint64_t deadline) {
    struct timespec t = {(time_t)(deadline / 1000000000u), (long)(deadline % 1000000000u)};
    return pthread_cond_timedwait(&monitor->condition, &monitor->mutex, &t) == ETIMEDOUT;
}

void CLinux_monitor_signal(CLinux_monitor *monitor) { pthread_cond_signal(&monitor->condition); }
void CLinux_monitor_broadcast(CLinux_monitor *monitor) { pthread_cond_broadcast(&monitor->condition); }

// MARK: - Files and sockets

#define REPEAT_WHILE_INTERRUPTED(result, call) \
    do {                                       \
        result = (call);                       \
    } while (result < 0 && errno == EINTR)

// Not repeated: Linux has given the descriptor up even when it says EINTR.
int32_t CLinux_close(int32_t fd) { return close(fd) < 0 ? -errno : 0; }

int32_t CLinux_open_null(void) {
    int fd;
    REPEAT_WHILE_INTERRUPTED(fd, open("/dev/null", O_RDONLY | O_CLOEXEC));
    return fd < 0 ? -errno : fd;
}

static int numeric_address(const char *host, uint16_t port, struct sockaddr_storage *out, socklen_t *bytes) {
    memset(out, 0, sizeof *out);
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        *bytes = sizeof *v4;
        return 0;
    }
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        *bytes = sizeof *v6;
        return 0;
    }
    return -EINVAL;
}

int32_t CLinux_listen_tcp(const char *host, uint16_t port, int32_t reuse_port, int32_t backlog) {
    struct sockaddr_storage address;
    socklen_t bytes;
    if (numeric_address(host, port, &address, &bytes) < 0) return -EINVAL;
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0
        || (reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0)
        || bind(fd, (struct sockaddr *)&address, bytes) < 0 || listen(fd, backlog) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int32_t CLinux_file_id(const char *path, uint64_t *file_id) {
    struct stat status;
    if (lstat(path, &status) < 0) return -errno;
    file_id[0] = status.st_dev;
    file_id[1] = status.st_ino;
    return 0;
}

void CLinux_remove_socket_file(const char *path, const uint64_t *file_id) {
    uint64_t now[2];
    if (CLinux_file_id(path, now) == 0 && now[0] == file_id[0] && now[1] == file_id[1]) unlink(path);
}

// Whether the file at `address` may be removed: 0, -EADDRINUSE when somebody listens, -EEXIST when it is no
// socket.
static int32_t stale_socket(const struct sockaddr_un *address) {
    struct stat status;
    if (lstat(address->sun_path, &status) < 0) return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(status.st_mode)) return -EEXIST;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    int result = connect(fd, (const struct sockaddr *)address, sizeof *address);
    int error = errno;
    close(fd);
    return result < 0 && error == ECONNREFUSED ? 0 : -EADDRINUSE;
}

// Holds the folder of `path` against others who look for a stale socket there: a descriptor to close, or
// -errno.
static int32_t lock_folder(const char *path) {
    char folder[sizeof((struct sockaddr_un *)0)->sun_path];
    const char *slash = strrchr(path, '/');
    size_t count = slash ? (size_t)(slash - path) : 0;
    memcpy(folder, path, count);
    folder[count] = 0;
    int fd = open(slash ? (count ? folder : "/") : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -errno;
    // 100 × 10 ms: nobody needs it longer.
    for (int turn = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; turn++) {
        if ((errno != EWOULDBLOCK && errno != EINTR) || turn == 100) {
            close(fd);
            return -EADDRINUSE;
        }
        usleep(10000);
    }
    return fd;
}

static int32_t bind_unix(const struct sockaddr_un *address, uint32_t mode, int32_t backlog) {
    int32_t stale = stale_socket(address);
    if (stale < 0) return stale;
    if (unlink(address->sun_path) < 0 && errno != ENOENT) return -errno;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    // The file has at most these permissions from the start, and exactly these whatever the umask.
    if (fchmod(fd, mode) < 0 || bind(fd, (const struct sockaddr *)address, sizeof *address) < 0
        || chmod(address->sun_path, mode) < 0 || listen(fd, backlog) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int32_t CLinux_listen_unix(const char *path, uint32_t mode, int32_t backlog, uint64_t *file_id) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t count = strlen(path);
    if (count == 0 || count >= sizeof address.sun_path) return -EINVAL;
    memcpy(address.sun_path, path, count);
    int lock = lock_folder(path);
    if (lock < 0) return lock;
    int fd = bind_unix(&address, mode, backlog);
    if (fd >= 0) {
        int status = CLinux_file_id(path, file_id);
        if (status < 0) {
            close(fd);
            fd = status;
        }
    }
    close(lock);
    return fd;
}

int32_t CLinux_adopt_listener(int32_t fd) {
    int listens = 0, type = 0, family = 0;
    socklen_t bytes = sizeof listens;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes) < 0) {
        return errno == ENOTSOCK ? -EINVAL : -errno;
    }
    bytes = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) < 0) return -errno;
    bytes = sizeof family;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &bytes) < 0) return -errno;
    if (!listens || type != SOCK_STREAM || (family != AF_INET && family != AF_INET6 && family != AF_UNIX)) {
        return -EINVAL;
    }
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        return -errno;
    }
    return 0;
}

int32_t CLinux_duplicate(int32_t fd) {
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return copy < 0 ? -errno : copy;
}

static uint64_t big_endian_word(const uint8_t *bytes) {
    uint64_t word = 0;
    for (int i = 0; i < 8; i++) word = word << 8 | bytes[i];
    return word;
}

// The port of an Internet address, and its 16 bytes as two words; -EINVAL for others.
static int32_t internet_address(const struct sockaddr_storage *from, uint64_t *address) {
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;
        address[0] = 0;
        address[1] = 0xffff00000000 | ntohl(v4->sin_addr.s_addr);
        return ntohs(v4->sin_port);
    }
    if (from->ss_family != AF_INET6) return -EINVAL;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;
    address[0] = big_endian_word(v6->sin6_addr.s6_addr);
    address[1] = big_endian_word(v6->sin6_addr.s6_addr + 8);
    return ntohs(v6->sin6_port);
}

int32_t CLinux_local_address(int32_t fd, char *path, uint64_t *address) {
    struct sockaddr_storage from;
    memset(&from, 0, sizeof from);
    socklen_t bytes = sizeof from;
    if (getsockname(fd, (struct sockaddr *)&from, &bytes) < 0) return -errno;
    path[0] = 0;
    if (from.ss_family != AF_UNIX) return internet_address(&from, address);
    const char *name = ((const struct sockaddr_un *)&from)->sun_path;
    size_t count = strnlen(name, sizeof((struct sockaddr_un *)0)->sun_path);
    memcpy(path, name, count);
    path[count] = 0;
    return 65536;
}

int32_t CLinux_accept(int32_t fd, uint64_t *address, int32_t *is_unix) {
    struct sockaddr_storage from;
    memset(&from, 0, sizeof from);
    socklen_t bytes = sizeof from;
    int connection;
    REPEAT_WHILE_INTERRUPTED(
        connection, accept4(fd, (struct sockaddr *)&from, &bytes, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (connection < 0) return -errno;
    address[0] = address[1] = 0;
    *is_unix = from.ss_family == AF_UNIX;
    if (!*is_unix) {
        int on = 1;
        setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        internet_address(&from, address);
    }
    return connection;
}

int64_t CLinux_read(int32_t fd, void *bytes, size_t count) {
    ssize_t n;
    REPEAT_WHILE_INTERRUPTED(n, read(fd, bytes, count));
    return n < 0 ? -errno : n;
}

int64_t CLinux_write(int32_t fd, const void *bytes, size_t count) {
    ssize_t n;
    REPEAT_WHILE_INTERRUPTED(n, write(fd, bytes, count));
    return n < 0 ? -errno : n;
}

int32_t CLinux_shutdown_write(int32_t fd) { return shutdown(fd, SHUT_WR) < 0 ? -errno : 0; }

// MARK: - epoll and eventfd

const uint32_t CLinux_EPOLLIN = EPOLLIN;
const uint32_t CLinux_EPOLLOUT = EPOLLOUT;
const uint32_t CLinux_EPOLLRDHUP = EPOLLRDHUP;
const uint32_t CLinux_EPOLLHUP = EPOLLHUP;
const uint32_t CLinux_EPOLLERR = EPOLLERR;
const uint32_t CLinux_EPOLLET = EPOLLET;
const uint32_t CLinux_EPOLLEXCLUSIVE = EPOLLEXCLUSIVE;

int32_t CLinux_epoll_create(void) {
    int fd = epoll_create1(EPOLL_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int32_t CLinux_epoll_add(int32_t epoll, int32_t fd, uint32_t events, uint64_t key) {
    struct epoll_event event = {.events = events, .data = {.u64 = key}};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int32_t CLinux_epoll_remove(int32_t epoll, int32_t fd) {
    return epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0;
}

int32_t CLinux_epoll_wait(
    int32_t epoll, CLinux_event *events, int32_t capacity, int32_t timeout_milliseconds) {
    struct epoll_event batch[256];
    if (capacity > 256) capacity = 256;
    int count = epoll_wait(epoll, batch, capacity, timeout_milliseconds);
    if (count < 0) return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < count; i++) {
        events[i].key = batch[i].data.u64;
        events[i].events = batch[i].events;
    }
    return count;
}

int32_t CLinux_eventfd(void) {
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int32_t CLinux_eventfd_signal(int32_t fd) {
    uint64_t one = 1;
    int64_t written = CLinux_write(fd, &one, sizeof one);
    return written < 0 ? (int32_t)written : 0;
}
