#pragma once

// One thin function for each Linux call that Swift cannot import or that needs _GNU_SOURCE.
// Unless said otherwise a result ≥ 0 is the call's own result and a negative one is -errno;
// nobody else reads errno. Calls interrupted by a signal are repeated here.

#include <stddef.h>
#include <stdint.h>

// MARK: - errno values that callers decide on

extern const int32_t CLinux_EAGAIN;
extern const int32_t CLinux_EMFILE;
extern const int32_t CLinux_ENFILE;
extern const int32_t CLinux_ENOBUFS;
extern const int32_t CLinux_ENOMEM;
extern const int32_t CLinux_ECONNABORTED;
extern const int32_t CLinux_EADDRINUSE;
extern const int32_t CLinux_EINVAL;
extern const int32_t CLinux_EEXIST;
extern const int32_t CLinux_ETIMEDOUT;

/// The system's text for an errno value; never NULL.
const char *_Nonnull CLinux_strerror(int32_t code);

// MARK: - Clocks

/// Nanoseconds since boot; never goes back and is not moved by clock changes.
uint64_t CLinux_monotonic_nanoseconds(void);
/// Nanoseconds since 1970-01-01T00:00:00Z.
int64_t CLinux_wall_nanoseconds(void);

// MARK: - Process

/// Fills `bytes` with random bytes from the kernel; 0 or -errno.
int32_t CLinux_getrandom(void *_Nonnull bytes, size_t count);
/// Resident set size in bytes, or -errno.
int64_t CLinux_resident_bytes(void);
/// User plus system CPU time of the process in nanoseconds.
int64_t CLinux_cpu_nanoseconds(void);
/// Number of open file descriptors, or -errno.
int32_t CLinux_open_file_count(void);
/// Raises the soft limit of open files to the hard one; the new soft limit or -errno.
int64_t CLinux_raise_file_limit(void);
/// Allocations of at least `bytes` become mappings of their own, and that size stays what it is; free memory
/// below it is kept until CLinux_trim_heap.
void CLinux_map_blocks_from(int32_t bytes);
/// Gives free heap pages of all arenas back to the system.
void CLinux_trim_heap(void);
/// Number of processors this process may run on, at least 1.
int32_t CLinux_processor_count(void);

// MARK: - Threads

/// Starts a joinable thread with the default stack when `stack_bytes` is 0; 0 or -errno.
int32_t CLinux_thread_start(
    uint64_t *_Nonnull thread, size_t stack_bytes, void *_Nullable (*_Nonnull body)(void *_Nullable),
    void *_Nullable context);
int32_t CLinux_thread_join(uint64_t thread);
/// Names the calling thread; the kernel keeps the first 15 bytes.
void CLinux_thread_set_name(const char *_Nonnull name);
/// Binds the calling thread to one processor; 0 or -errno.
int32_t CLinux_thread_pin(int32_t core);
/// Gives the calling thread the least weight on processors (nice 19, SCHED_BATCH) and disks (idle class).
void CLinux_thread_lower_priority(void);
/// The calling thread keeps its share of the processors, but whoever wakes up goes before it.
void CLinux_thread_long_slices(void);
/// Sets the nice value of the calling thread.
void CLinux_thread_yield_by(int32_t niceness);

// MARK: - Monitor: one mutex with one condition

typedef struct CLinux_monitor CLinux_monitor;
/// NULL when memory is exhausted.
CLinux_monitor *_Nullable CLinux_monitor_create(void);
void CLinux_monitor_destroy(CLinux_monitor *_Nonnull monitor);
void CLinux_monitor_lock(CLinux_monitor *_Nonnull monitor);
void CLinux_monitor_unlock(CLinux_monitor *_Nonnull monitor);
void CLinux_monitor_wait(CLinux_monitor *_Nonnull monitor);
/// 0 when woken, 1 when the monotonic `deadline` passed.
int32_t CLinux_monitor_wait_until(CLinux_monitor *_Nonnull monitor, uint64_t deadline);
void CLinux_monitor_signal(CLinux_monitor *_Nonnull monitor);
void CLinux_monitor_broadcast(CLinux_monitor *_Nonnull monitor);

// MARK: - Signals

extern const int32_t CLinux_SIGTERM;
extern const int32_t CLinux_SIGINT;
extern const int32_t CLinux_SIGHUP;
extern const int32_t CLinux_SIGUSR1;
extern const int32_t CLinux_SIGUSR2;
/// What CLinux_signals_wait gives for a call of CLinux_signals_wake: larger than any signal's number.
enum { CLinux_woken = 1000 };

/// From here on SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2 are counted, whichever thread they are delivered to, and SIGPIPE
/// and SIGXFSZ are ignored; the calling thread no longer blocks the counted ones. 0 or -errno.
int32_t CLinux_signals_install(void);
/// Takes one counted signal, in the order above, and waits for one if there is none: its number, 0 when `timeout_nanoseconds` (negative: for ever) passed, or -errno. One thread at a time.
int32_t CLinux_signals_wait(int64_t timeout_nanoseconds);
/// Lets CLinux_signals_wait return CLinux_woken once, after all signals; any thread.
void CLinux_signals_wake(void);

// MARK: - Other processes

/// Starts the program `path`, which gets `descriptor_count` descriptors besides those that are not
/// close-on-exec. `strings` are its arguments and then its environment, each ended by NUL, one after the
/// other. Its signals are neither blocked nor handled. Its id or -errno.
int32_t CLinux_spawn(
    const char *_Nonnull path, const char *_Nonnull strings, int32_t argument_count,
    int32_t environment_count, const int32_t *_Nullable descriptors, int32_t descriptor_count);
/// 1 when the child has ended, which is then forgotten; 0 while it runs; or -errno.
int32_t CLinux_reap(int32_t process);
/// Sends a signal; 0 or -errno.
int32_t CLinux_kill(int32_t process, int32_t number);
int32_t CLinux_process_id(void);
int32_t CLinux_parent_id(void);
/// A connected pair of close-on-exec stream sockets; 0 or -errno.
int32_t CLinux_socket_pair(int32_t *_Nonnull descriptors);
/// Waits up to `timeout_milliseconds` (-1: for ever) for something to read, or the end: 1, 0, or -errno.
int32_t CLinux_wait_readable(int32_t fd, int32_t timeout_milliseconds);
/// Makes an inherited descriptor close-on-exec; 0, or -errno where it is none.
int32_t CLinux_adopt(int32_t fd);
/// 1 when the descriptor is a listening stream socket, else 0.
int32_t CLinux_is_listening(int32_t fd);
/// Sends one datagram to a Unix socket: a path, or "@" and an abstract name. 0 or -errno.
int32_t CLinux_notify(const char *_Nonnull socket_name, const void *_Nonnull bytes, size_t count);
/// Connects a blocking TCP socket, whose reads and writes give up (-EAGAIN) after the same time. A name is
/// looked up. A descriptor or -errno.
int32_t CLinux_connect_tcp(const char *_Nonnull host, uint16_t port, int32_t timeout_milliseconds);

// MARK: - Files and sockets

int32_t CLinux_close(int32_t fd);
/// Opens /dev/null: a descriptor to give up when no other is left.
int32_t CLinux_open_null(void);

/// A non-blocking listening TCP socket on a numeric address.
/// `reuse_port`: other sockets of this user may listen on the same port and share its connections.
int32_t CLinux_listen_tcp(const char *_Nonnull host, uint16_t port, int32_t reuse_port, int32_t backlog);
/// A non-blocking listening Unix socket at `path`, whose file gets the permissions `mode`. A file of a socket
/// that nobody listens on is replaced; any other file is -EEXIST, and a socket that somebody listens on
/// -EADDRINUSE. `file_id` receives device and inode of the new file.
int32_t CLinux_listen_unix(
    const char *_Nonnull path, uint32_t mode, int32_t backlog, uint64_t *_Nonnull file_id);
/// Removes the file at `path` if it still is the one of `file_id`.
void CLinux_remove_socket_file(const char *_Nonnull path, const uint64_t *_Nonnull file_id);
/// Device and inode of the file at `path`; 0 or -errno.
int32_t CLinux_file_id(const char *_Nonnull path, uint64_t *_Nonnull file_id);
/// Makes a descriptor from elsewhere one of ours, non-blocking and close-on-exec: 0, -EINVAL unless it is a
/// listening stream socket, or another -errno.
int32_t CLinux_adopt_listener(int32_t fd);
/// A copy of a descriptor, close-on-exec.
int32_t CLinux_duplicate(int32_t fd);

enum { CLinux_path_bytes = 109, CLinux_address_words = 2 };
/// Where a bound socket listens. TCP: the result is the port, `path` is empty, `address` (2 words, high and
/// low) the IPv6 or IPv4-mapped address in host order. Unix: 65536, and the path, NUL-terminated
/// (CLinux_path_bytes of room). Otherwise -errno.
int32_t CLinux_local_address(int32_t fd, char *_Nonnull path, uint64_t *_Nonnull address);

/// Accepts one connection: non-blocking, close-on-exec, TCP_NODELAY. `address` (2 words) receives the other
/// side's IPv6 or IPv4-mapped address in host order; `*is_unix` is 1, and the address 0, for a Unix socket.
int32_t CLinux_accept(int32_t fd, uint64_t *_Nonnull address, int32_t *_Nonnull is_unix);
int64_t CLinux_read(int32_t fd, void *_Nonnull bytes, size_t count);
int64_t CLinux_write(int32_t fd, const void *_Nonnull bytes, size_t count);
int32_t CLinux_shutdown_write(int32_t fd);

// MARK: - epoll and eventfd

extern const uint32_t CLinux_EPOLLIN;
extern const uint32_t CLinux_EPOLLOUT;
extern const uint32_t CLinux_EPOLLRDHUP;
extern const uint32_t CLinux_EPOLLHUP;
extern const uint32_t CLinux_EPOLLERR;
extern const uint32_t CLinux_EPOLLET;
extern const uint32_t CLinux_EPOLLEXCLUSIVE;

typedef struct {
    uint64_t key;
    uint32_t events;
} CLinux_event;

int32_t CLinux_epoll_create(void);
int32_t CLinux_epoll_add(int32_t epoll, int32_t fd, uint32_t events, uint64_t key);
int32_t CLinux_epoll_remove(int32_t epoll, int32_t fd);
/// Waits up to `timeout_milliseconds` (-1: for ever); the number of events written, at most 256, or -errno.
/// An interrupting signal counts as no event.
int32_t CLinux_epoll_wait(
    int32_t epoll, CLinux_event *_Nonnull events, int32_t capacity, int32_t timeout_milliseconds);

int32_t CLinux_eventfd(void);
/// Adds one to the counter; 0 or -errno.
int32_t CLinux_eventfd_signal(int32_t fd);
