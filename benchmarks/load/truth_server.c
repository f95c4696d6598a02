/* A server whose every token is written at a known moment: the truth that a load generator is measured against.
 *
 *   truth_server PORT TTFT_US ITL_US LOG [FD]
 *
 * It answers POST requests with an OpenAI completions stream of `max_tokens` chunks. The request's arrival is the kernel's receive time of its
 * last segment. Token k is due TTFT + k * ITL after it (both 0: as fast as the socket takes them). The CLOCK_MONOTONIC time before each write of
 * a due token is kept in memory and written to LOG on SIGTERM, one record a request:
 *   int64 number at the end of X-Request-ID, int64 arrival, int64 n, n * int64 times.
 * One thread, one epoll, no allocation while streams run. Prints "ready PORT" when it listens.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_FDS 65536
#define REQUEST_BYTES (1 << 20)
#define BURST 64

typedef struct {
    int64_t number, arrival_ns, count, *times_ns;
} Record;

typedef struct {
    int fd;
    char *in;
    int in_bytes;
    Record *record;   /* the request being answered, or NULL */
    int64_t written;  /* tokens written of it */
    int64_t due_ns;
    int heap_place;   /* place in the heap of deadlines, or -1 */
    char *out;        /* bytes the socket did not take */
    int out_at, out_bytes, out_room;
} Stream;

static Stream *streams[MAX_FDS];
static Stream *heap[MAX_FDS];
static int heap_size;
static Record **records;
static int64_t record_count, record_room;
static int64_t ttft_ns, itl_ns;
static int epoll_fd;
static volatile sig_atomic_t stopping;

static int64_t now_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void on_signal(int number) { (void)number; stopping = 1; }

static void heap_swap(int a, int b) {
    Stream *s = heap[a]; heap[a] = heap[b]; heap[b] = s;
    heap[a]->heap_place = a; heap[b]->heap_place = b;
}

static void heap_sift(int place) {
    while (place && heap[place]->due_ns < heap[(place - 1) / 2]->due_ns) {
        heap_swap(place, (place - 1) / 2);
        place = (place - 1) / 2;
    }
    for (;;) {
        int least = place, left = 2 * place + 1;
        if (left < heap_size && heap[left]->due_ns < heap[least]->due_ns) least = left;
        if (left + 1 < heap_size && heap[left + 1]->due_ns < heap[least]->due_ns) least = left + 1;
        if (least == place) return;
        heap_swap(place, least);
        place = least;
    }
}

static void heap_add(Stream *s) {
    heap[heap_size] = s; s->heap_place = heap_size++;
    heap_sift(s->heap_place);
}

static void heap_remove(Stream *s) {
    int place = s->heap_place;
    if (place < 0) return;
    s->heap_place = -1;
    if (--heap_size != place) {
        heap[place] = heap[heap_size]; heap[place]->heap_place = place;
        heap_sift(place);
    }
}

static void watch(Stream *s, int write) {
    struct epoll_event e = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.fd = s->fd};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, s->fd, &e);
}

static void close_stream(Stream *s) {
    heap_remove(s);
    streams[s->fd] = NULL;
    close(s->fd);
    free(s->in); free(s->out); free(s);
}

/* Returns 0 when everything is in the kernel, 1 when the rest waits for room. */
static int write_out(Stream *s, const char *data, int bytes) {
    int sent = 0;
    if (s->out_bytes == s->out_at) sent = (int)send(s->fd, data, bytes, MSG_NOSIGNAL);
    if (sent < 0) sent = 0;
    if (sent == bytes) return 0;
    if (s->out_at == s->out_bytes) s->out_at = s->out_bytes = 0;
    if (s->out_bytes + bytes - sent > s->out_room) {
        s->out_room = 2 * (s->out_bytes + bytes - sent) + 4096;
        s->out = realloc(s->out, s->out_room);
    }
    memcpy(s->out + s->out_bytes, data + sent, bytes - sent);
    s->out_bytes += bytes - sent;
    watch(s, 1);
    return 1;
}

static int frame(char *to, const char *event, int bytes) {
    int head = sprintf(to, "%x\r\n", bytes);
    memcpy(to + head, event, bytes);
    memcpy(to + head + bytes, "\r\n", 2);
    return head + bytes + 2;
}

static const char TOKEN[] =
    "data: {\"id\":\"cmpl-0123456789abcdef0123456789abcdef\",\"object\":\"text_completion\",\"created\":1795219745,"
    "\"model\":\"truth\",\"choices\":[{\"index\":0,\"text\":\" word\",\"token_ids\":null,\"logprobs\":null,"
    "\"finish_reason\":%s,\"stop_reason\":null}],\"usage\":null}\n\n";

static char middle[1024], last[1024];
static int middle_bytes, last_bytes;

static void write_tokens(Stream *s) {
    Record *r = s->record;
    for (int burst = 0; burst < BURST; burst++) {
        int64_t t = now_ns(CLOCK_MONOTONIC);
        if (s->due_ns > t) break;
        r->times_ns[s->written] = t;
        s->written++;
        s->due_ns = r->arrival_ns + ttft_ns + s->written * itl_ns;
        if (s->written < r->count) {
            if (write_out(s, middle, middle_bytes)) { heap_remove(s); return; }
            continue;
        }
        char event[512], buffer[2048];
        int bytes = sprintf(event,
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":%lld,\"total_tokens\":%lld}}\n\ndata: [DONE]\n\n",
            (long long)r->count, (long long)r->count + 8);
        memcpy(buffer, last, last_bytes);
        int total = last_bytes + frame(buffer + last_bytes, event, bytes);
        memcpy(buffer + total, "0\r\n\r\n", 5);
        s->record = NULL;
        heap_remove(s);
        write_out(s, buffer, total + 5);
        return;
    }
    heap_remove(s);
    heap_add(s);
}

static int64_t number_after(const char *text, const char *name, int from_end) {
    const char *at = strcasestr(text, name);
    if (!at) return -1;
    at += strlen(name);
    if (from_end) {
        const char *end = strstr(at, "\r\n");
        while (end && end > at && end[-1] >= '0' && end[-1] <= '9') end--;
        at = end ? end : at;
    }
    return strtoll(at, NULL, 10);
}

static void begin(Stream *s, int64_t arrival_ns) {
    Record *r = malloc(sizeof *r);
    r->number = number_after(s->in, "x-request-id:", 1);
    r->count = number_after(s->in, "\"max_tokens\":", 0);
    if (r->count < 1) r->count = 1;
    r->arrival_ns = arrival_ns;
    r->times_ns = calloc(r->count, sizeof(int64_t));
    if (record_count == record_room) {
        record_room = record_room ? 2 * record_room : 4096;
        records = realloc(records, record_room * sizeof *records);
    }
    records[record_count++] = r;
    s->record = r;
    s->written = 0;
    s->due_ns = arrival_ns + ttft_ns;
    static const char head[] =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
    write_out(s, head, sizeof head - 1);
    heap_add(s);
}

static void read_request(Stream *s) {
    char control[256];
    struct iovec part = {s->in + s->in_bytes, REQUEST_BYTES - 1 - s->in_bytes};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(s->fd, &m, 0);
    if (got <= 0) {
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        close_stream(s);
        return;
    }
    int64_t arrival_ns = now_ns(CLOCK_MONOTONIC);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec t;
            memcpy(&t, CMSG_DATA(c), sizeof t);
            int64_t best = INT64_MAX, offset = 0;
            for (int i = 0; i < 3; i++) {
                int64_t a = now_ns(CLOCK_MONOTONIC), w = now_ns(CLOCK_REALTIME), b = now_ns(CLOCK_MONOTONIC);
                if (b - a < best) { best = b - a; offset = w - (a + b) / 2; }
            }
            arrival_ns = t.tv_sec * 1000000000LL + t.tv_nsec - offset;
        }
    s->in_bytes += got;
    s->in[s->in_bytes] = 0;
    char *end = strstr(s->in, "\r\n\r\n");
    if (!end) return;
    int64_t length = number_after(s->in, "content-length:", 0);
    if (s->in_bytes < end + 4 - s->in + length) return;
    begin(s, arrival_ns);
    s->in_bytes = 0;
}

static void accept_all(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
        if (fd < 0) return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one);
        Stream *s = calloc(1, sizeof *s);
        s->fd = fd; s->heap_place = -1;
        s->in = malloc(REQUEST_BYTES);
        streams[fd] = s;
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e);
    }
}

int main(int count, char **args) {
    if (count != 5) { fprintf(stderr, "usage: truth_server PORT TTFT_US ITL_US LOG\n"); return 2; }
    ttft_ns = atoll(args[2]) * 1000; itl_ns = atoll(args[3]) * 1000;
    struct sigaction stop = {.sa_handler = on_signal};
    sigaction(SIGTERM, &stop, NULL); sigaction(SIGINT, &stop, NULL);
    setpriority(PRIO_PROCESS, 0, -10);
    struct rlimit files; getrlimit(RLIMIT_NOFILE, &files); files.rlim_cur = files.rlim_max; setrlimit(RLIMIT_NOFILE, &files);
    char event[1024];
    middle_bytes = frame(middle, event, sprintf(event, TOKEN, "null"));
    last_bytes = frame(last, event, sprintf(event, TOKEN, "\"length\""));
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(args[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    if (bind(listener, (struct sockaddr *)&a, size) || listen(listener, 4096)) { perror("listen"); return 1; }
    getsockname(listener, (struct sockaddr *)&a, &size);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e);
    e.data.fd = timer;
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer, &e);
    printf("ready %d\n", ntohs(a.sin_port)); fflush(stdout);
    static struct epoll_event events[1024];
    while (!stopping) {
        int64_t t = now_ns(CLOCK_MONOTONIC);
        while (heap_size && heap[0]->due_ns <= t) write_tokens(heap[0]);
        int wait_ms = -1;
        if (heap_size) {
            struct itimerspec due = {.it_value = {heap[0]->due_ns / 1000000000LL, heap[0]->due_ns % 1000000000LL}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &due, NULL);
            if (heap[0]->due_ns <= now_ns(CLOCK_MONOTONIC)) wait_ms = 0;
        }
        int ready = epoll_wait(epoll_fd, events, 1024, wait_ms);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            uint64_t expirations;
            if (fd == listener) { accept_all(listener); continue; }
            if (fd == timer) { if (read(timer, &expirations, 8) < 0) continue; continue; }
            Stream *s = streams[fd];
            if (!s) continue;
            if (events[i].events & EPOLLOUT) {
                ssize_t sent = send(fd, s->out + s->out_at, s->out_bytes - s->out_at, MSG_NOSIGNAL);
                if (sent > 0) s->out_at += sent;
                if (s->out_at == s->out_bytes) {
                    s->out_at = s->out_bytes = 0;
                    watch(s, 0);
                    if (s->record) heap_add(s);
                }
            }
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_request(s);
        }
    }
    FILE *log = fopen(args[4], "wb");
    for (int64_t i = 0; log && i < record_count; i++) {
        fwrite(records[i], sizeof(int64_t), 3, log);
        fwrite(records[i]->times_ns, sizeof(int64_t), records[i]->count, log);
    }
    if (log) fclose(log);
    return 0;
}
