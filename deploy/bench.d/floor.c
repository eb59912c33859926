// The least a server on this machine can do: one epoll, edge-triggered; counts request ends, sends that many copies of
// one answer. Parses nothing, checks nothing. floor PORT ANSWER_FILE
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { answer_max = 8192, batch = 64 };
static char input[65536], answers[batch * answer_max];
static unsigned char matched[65536];  // by descriptor: how much of CR LF CR LF its last bytes are

static int count_ends(int fd, ssize_t bytes) {
    static const char end[] = "\r\n\r\n";
    int ends = 0;
    const char *next = input, *stop = input + bytes;
    for (; next < stop && matched[fd]; next++) {
        matched[fd] = *next == end[matched[fd]] ? matched[fd] + 1 : *next == '\r';
        if (matched[fd] == 4) ends++, matched[fd] = 0;
    }
    const char *found;
    while (next < stop && (found = memmem(next, (size_t)(stop - next), end, 4))) ends++, next = found + 4;
    for (const char *tail = stop - next > 3 ? stop - 3 : next; tail < stop; tail++)
        matched[fd] = *tail == end[matched[fd]] ? matched[fd] + 1 : *tail == '\r';
    return ends;
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    FILE *file = fopen(arguments[2], "rb");
    if (!file) return 2;
    size_t size = fread(answers, 1, answer_max, file);
    fclose(file);
    for (int copy = 1; copy < batch; copy++) memcpy(answers + copy * size, answers, size);

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) return 1;
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int happened = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < happened; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                    event = (struct epoll_event){.events = EPOLLIN | EPOLLET, .data.fd = fd};
                    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
                    matched[fd] = 0;
                }
                continue;
            }
            ssize_t bytes = read(fd, input, sizeof input);
            if (bytes <= 0) {
                close(fd);
                continue;
            }
            for (int ends = count_ends(fd, bytes); ends > 0; ends -= batch) {
                size_t want = size * (size_t)(ends < batch ? ends : batch);
                if (write(fd, answers, want) != (ssize_t)want) {
                    close(fd);
                    break;
                }
            }
        }
    }
}
