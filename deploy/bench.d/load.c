// Open-loop load on one HTTP/1.1 server: every request is sent when it is due, whether or not answers keep up.
// load PORT REQUESTS OUT SECONDS RATE MODE CONNECTIONS SEED PROBES
//   REQUESTS  file of requests, each a 32-bit length and its bytes, sent in turn
//   OUT       gets a `struct record` for every request
//   MODE      poisson or uniform: RATE a second; closed: CONNECTIONS requests at any time
//   PROBES    GET /livez, as many a second besides, on connections of their own
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 8192, BUFFER = 1 << 16, REQUESTS_PER_CONNECTION = 5000, GRACE_SECONDS = 5 };

// Times in seconds from the start. status 0: no answer; queue and service from Server-Timing, -1 without.
struct record {
    double due, sent, done;
    float queue, service;
    int16_t status;
    int8_t degraded, retry_after, probe, pad[3];
};

struct connection {
    int fd, left, used;
    int8_t probe, busy, connecting;
    const char *out;
    size_t out_length, out_sent;
    struct record record;
    char buffer[BUFFER];
};

static struct connection *connections[CONNECTIONS_MAX];
static struct connection *idle[2][CONNECTIONS_MAX];
static int idle_count[2], connection_count, connection_limit, epoll, busy_count, port;
static double start;
static FILE *out;
static char *requests;
static size_t *offsets, request_count, next_request;
static const char probe[] = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9 - start;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void finish(struct connection *c, int status) {
    c->record.done = now();
    c->record.status = (int16_t)status;
    fwrite(&c->record, sizeof c->record, 1, out);
    c->busy = 0;
    busy_count--;
}

static void drop(struct connection *c) {
    close(c->fd);
    c->fd = -1;
    connection_count--;
    if (c->busy) finish(c, 0);
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        if (connections[i] == c) connections[i] = NULL;
    free(c);
}

static void send_rest(struct connection *c) {
    while (c->out_sent < c->out_length) {
        ssize_t n = send(c->fd, c->out + c->out_sent, c->out_length - c->out_sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN || errno == ENOTCONN || errno == EINPROGRESS) return;
            drop(c);
            return;
        }
        c->out_sent += (size_t)n;
    }
}

static struct connection *open_connection(int is_probe) {
    if (connection_count >= connection_limit && !is_probe) return NULL;
    int slot = 0;
    while (slot < CONNECTIONS_MAX && connections[slot]) slot++;
    if (slot == CONNECTIONS_MAX) return NULL;
    struct connection *c = calloc(1, sizeof *c);
    if (!c) fail("calloc");
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) fail("socket");
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) fail("connect");
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event)) fail("epoll_ctl");
    c->left = REQUESTS_PER_CONNECTION;
    c->probe = (int8_t)is_probe;
    connections[slot] = c;
    connection_count++;
    return c;
}

// Sends one request that was due; false when every connection is busy.
static int send_request(double due, int is_probe) {
    struct connection *c = idle_count[is_probe] ? idle[is_probe][--idle_count[is_probe]] : open_connection(is_probe);
    if (!c) return 0;
    c->record = (struct record){.due = due, .sent = now(), .queue = -1, .service = -1, .probe = (int8_t)is_probe};
    c->busy = 1;
    c->used = 0;
    busy_count++;
    if (is_probe) {
        c->out = probe;
        c->out_length = sizeof probe - 1;
    } else {
        size_t i = next_request++ % request_count;
        c->out = requests + offsets[i];
        c->out_length = offsets[i + 1] - offsets[i] - 4;
    }
    c->out_sent = 0;
    send_rest(c);
    return 1;
}

static void read_timing(struct record *record, const char *head) {
    const char *at = strcasestr(head, "\r\nserver-timing:");
    if (!at) return;
    const char *end = strstr(at + 2, "\r\n");
    record->queue = record->service = 0;
    for (at = strstr(at, ";dur="); at && at < end; at = strstr(at + 5, ";dur=")) {
        float ms = strtof(at + 5, NULL);
        if (!strncmp(at - 5, "queue", 5)) record->queue += ms; else record->service += ms;
    }
}

// True when the connection may take its next request.
static int receive(struct connection *c) {
    for (;;) {
        ssize_t n = recv(c->fd, c->buffer + c->used, (size_t)(BUFFER - 1 - c->used), 0);
        if (n < 0 && (errno == EAGAIN || errno == ENOTCONN)) return 0;
        if (n <= 0 || c->used + n >= BUFFER - 1) {
            for (int i = 0; i < idle_count[c->probe]; i++)
                if (idle[c->probe][i] == c) idle[c->probe][i] = idle[c->probe][--idle_count[c->probe]];
            drop(c);
            return 0;
        }
        c->used += (int)n;
        c->buffer[c->used] = 0;
        char *end = strstr(c->buffer, "\r\n\r\n");
        if (!end || !c->busy) continue;
        *end = 0;
        char *field = strcasestr(c->buffer, "\r\ncontent-length:");
        int length = field ? atoi(field + 17) : 0;
        int closes = strcasestr(c->buffer, "\r\nconnection: close") != NULL;
        if (c->used < end + 4 - c->buffer + length) {
            *end = '\r';
            continue;
        }
        c->record.retry_after = strcasestr(c->buffer, "\r\nretry-after:") != NULL;
        c->record.degraded = strstr(end + 4, "\"degraded\":[\"") != NULL;
        read_timing(&c->record, c->buffer);
        finish(c, atoi(c->buffer + 9));
        c->used = 0;
        if (--c->left == 0 || closes) {
            drop(c);
            return 0;
        }
        return 1;
    }
}

static void read_requests(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) fail(path);
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    requests = malloc(size + 4);
    if (!requests || fread(requests, 1, size, file) != size) fail(path);
    fclose(file);
    offsets = calloc(size / 5 + 2, sizeof *offsets);
    for (size_t at = 0; at < size;) {
        uint32_t length;
        memcpy(&length, requests + at, 4);
        offsets[request_count++] = at + 4;
        at += 4 + length;
        offsets[request_count] = at + 4;
    }
}

int main(int count, char **words) {
    if (count != 10) {
        fprintf(stderr, "load PORT REQUESTS OUT SECONDS RATE MODE CONNECTIONS SEED PROBES\n");
        return 2;
    }
    port = atoi(words[1]);
    read_requests(words[2]);
    out = fopen(words[3], "wb");
    if (!out) fail(words[3]);
    double seconds = atof(words[4]), rate = atof(words[5]), probes = atof(words[9]);
    int is_closed = !strcmp(words[6], "closed"), is_poisson = !strcmp(words[6], "poisson");
    connection_limit = atoi(words[7]) + 64;
    srand48(atol(words[8]));
    epoll = epoll_create1(0);
    start = now();
    if (is_closed) for (int i = 0; i < atoi(words[7]); i++) send_request(0, 0);
    double due = is_closed ? INFINITY : 0, probe_due = probes > 0 ? 0 : INFINITY;
    struct epoll_event events[256];
    for (;;) {
        double time = now();
        if (time >= seconds) due = probe_due = INFINITY;
        if (time >= seconds && (!busy_count || time >= seconds + GRACE_SECONDS)) break;
        // At most 64 in a row: answers are read in between.
        for (int burst = 0; burst < 64 && due <= time && send_request(due, 0); burst++)
            due += is_poisson ? -log1p(-drand48()) / rate : 1 / rate;
        while (probe_due <= time && send_request(probe_due, 1)) probe_due += 1 / probes;
        double next = due < probe_due ? due : probe_due, rest = next - now();
        struct timespec wait = {0, rest <= 0 ? 0 : rest > 0.1 ? 100000000 : (long)(rest * 1e9)};
        int ready = epoll_pwait2(epoll, events, 256, &wait, NULL);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT && c->busy && c->out_sent < c->out_length) {
                send_rest(c);
                if (!(events[i].events & EPOLLIN)) continue;
            }
            if (!receive(c)) continue;
            idle[c->probe][idle_count[c->probe]++] = c;
            if (is_closed && !c->probe && now() < seconds) send_request(now(), 0);
        }
        if (is_closed && now() < seconds)
            while (busy_count < atoi(words[7]) && send_request(now(), 0)) {}
    }
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        if (connections[i] && connections[i]->busy) finish(connections[i], 0);
    return fclose(out) != 0;
}
