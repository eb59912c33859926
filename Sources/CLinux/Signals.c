#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

const int32_t CLinux_SIGTERM = SIGTERM;
const int32_t CLinux_SIGINT = SIGINT;
const int32_t CLinux_SIGHUP = SIGHUP;
const int32_t CLinux_SIGUSR1 = SIGUSR1;
const int32_t CLinux_SIGUSR2 = SIGUSR2;

// A library may have started threads before main, which take signals too; handlers work in every thread,
// where a mask set by main would not reach those.

#if ATOMIC_LLONG_LOCK_FREE != 2 || ATOMIC_INT_LOCK_FREE != 2
#error "signal handlers need lock-free counters"
#endif

enum { counted_signals = 6, wake_up_index = 5 };
/// In the order in which they are taken; the last is no signal but a thread of this process.
static const int numbers[counted_signals] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, CLinux_woken};
/// Signals delivered and not yet taken.
static atomic_ullong counts[counted_signals];
/// Readable when a count has grown; -1 before the first install.
static atomic_int wake_up = -1;

/// Runs in any thread at any point: atomics and write(2) only.
static void count_signal(int number) {
    int saved = errno;
    for (int i = 0; i < counted_signals; i++) {
        if (numbers[i] == number) atomic_fetch_add(&counts[i], 1);
    }
    CLinux_eventfd_signal(atomic_load(&wake_up));
    errno = saved;
}

int32_t CLinux_signals_install(void) {
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    if (sigaction(SIGPIPE, &ignore, NULL) < 0 || sigaction(SIGXFSZ, &ignore, NULL) < 0) return -errno;
    if (atomic_load(&wake_up) < 0) {
        int32_t fd = CLinux_eventfd();
        if (fd < 0) return fd;
        int none = -1;
        if (!atomic_compare_exchange_strong(&wake_up, &none, fd)) close(fd);
    }
    struct sigaction count = {.sa_handler = count_signal, .sa_flags = SA_RESTART};
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < wake_up_index; i++) {
        if (sigaction(numbers[i], &count, NULL) < 0) return -errno;
        sigaddset(&set, numbers[i]);
    }
    // The parent process may have left them blocked.
    return -pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

void CLinux_signals_wake(void) {
    atomic_fetch_add(&counts[wake_up_index], 1);
    CLinux_eventfd_signal(atomic_load(&wake_up));
}

/// The number of a counted signal, which no longer counts; 0 when there is none.
static int take_counted(void) {
    for (int i = 0; i < counted_signals; i++) {
        unsigned long long count = atomic_load(&counts[i]);
        while (count > 0) {
            if (atomic_compare_exchange_weak(&counts[i], &count, count - 1)) return numbers[i];
        }
    }
    return 0;
}

int32_t CLinux_signals_wait(int64_t timeout_nanoseconds) {
    struct pollfd waiting = {.fd = atomic_load(&wake_up), .events = POLLIN};
    if (waiting.fd < 0) return -EINVAL;
    const uint64_t start = CLinux_monotonic_nanoseconds();
    for (;;) {
        int number = take_counted();
        if (number > 0) return number;
        struct timespec rest = {0};
        if (timeout_nanoseconds > 0) {
            uint64_t passed = CLinux_monotonic_nanoseconds() - start;
            uint64_t limit = (uint64_t)timeout_nanoseconds;
            uint64_t left = passed < limit ? limit - passed : 0;
            rest.tv_sec = (time_t)(left / 1000000000u);
            rest.tv_nsec = (long)(left % 1000000000u);
        }
        int ready = ppoll(&waiting, 1, timeout_nanoseconds < 0 ? NULL : &rest, NULL);
        if (ready == 0) return take_counted();
        if (ready < 0 && errno != EINTR) return -errno;
        if (ready > 0) {
            // Cleared before the counts are looked at: what is counted later makes it readable again.
            uint64_t wake_ups;
            int64_t result = CLinux_read(waiting.fd, &wake_ups, sizeof wake_ups);
            if (result < 0 && result != -EAGAIN) return (int32_t)result;
        }
    }
}
