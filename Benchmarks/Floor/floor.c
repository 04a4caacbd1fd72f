// The floor: what the machine alone costs. Seals the packets of one stream for each of N receivers (OpenSSL EVP, contexts kept,
// only the IV changes) and sends them over loopback, a frame as one message (UDP GSO), in real time. It parses nothing, keeps
// nothing and answers nobody. GCM is sealed by what Sluice seals it with: intel-ipsec-mb where there is one. A child process on the other core empties the receivers' sockets.
//
// Usage: floor RECEIVERS SECONDS gcm|cm|none [SEGMENTS]   (none copies in place of sealing)   prints microseconds of CPU per packet sent, then packets sent and received.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#ifdef __x86_64__
#include <intel-ipsec-mb.h>
static IMB_MGR *ipsec;
#endif
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif

enum { packets_per_frame = 9, packet_bytes = 1200, audio_bytes = 172, header_bytes = 12, frames_per_second = 30 };
enum { batch_messages = 64, room = packets_per_frame * 1280 };

struct receiver {
    int descriptor;
    struct sockaddr_in address;
    EVP_CIPHER_CTX *cipher;
    EVP_MAC_CTX *mac;
#ifdef __x86_64__
    struct gcm_key_data key __attribute__((aligned(64)));
#endif
};

static int is_gcm, is_plain, segments;
static struct receiver *receivers;
static int receiver_count;
static volatile long *received;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void pin(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void drain(void) {
    pin(1);
    int poll = epoll_create1(0);
    for (int index = 0; index < receiver_count; index++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = receivers[index].descriptor};
        epoll_ctl(poll, EPOLL_CTL_ADD, receivers[index].descriptor, &event);
    }
    static char buffer[65536];
    struct epoll_event events[64];
    for (;;) {
        // By the clock, as the load generator does: to be woken for each message would be charged to the sender.
        int count = epoll_wait(poll, events, 64, 0);
        if (count < 64) clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){0, 500000}, NULL);
        for (int index = 0; index < count; index++) {
            char control[64];
            struct iovec vector = {buffer, sizeof buffer};
            struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = 64};
            ssize_t length = recvmsg(events[index].data.fd, &message, MSG_DONTWAIT);
            if (length <= 0) continue;
            int segment = 0;
            struct cmsghdr *header = CMSG_FIRSTHDR(&message);
            if (header && header->cmsg_type == UDP_GRO) memcpy(&segment, CMSG_DATA(header), sizeof segment);
            *received += segment > 0 ? (length + segment - 1) / segment : 1;
        }
    }
}

static int seal(struct receiver *to, unsigned sequence, const unsigned char *payload, int payload_bytes, unsigned char *out) {
    unsigned char iv[16] = {0};
    int length = 0;
    out[0] = 0x80, out[1] = 96, out[2] = sequence >> 8, out[3] = sequence;
    memset(out + 4, 7, 8);
    memcpy(iv + 8, &sequence, 4);
    if (is_plain) {
        memcpy(out + header_bytes, payload, payload_bytes);
        return header_bytes + payload_bytes + 16;
    }
#ifdef __x86_64__
    if (is_gcm) {
        struct gcm_context_data context;
        IMB_AES128_GCM_ENC(ipsec, &to->key, &context, out + header_bytes, payload, payload_bytes, iv, out, header_bytes,
                           out + header_bytes + payload_bytes, 16);
        return header_bytes + payload_bytes + 16;
    }
#endif
    EVP_EncryptInit_ex(to->cipher, NULL, NULL, NULL, iv);
    if (is_gcm) {
        EVP_EncryptUpdate(to->cipher, NULL, &length, out, header_bytes);
        EVP_EncryptUpdate(to->cipher, out + header_bytes, &length, payload, payload_bytes);
        EVP_EncryptFinal_ex(to->cipher, out + header_bytes + payload_bytes, &length);
        EVP_CIPHER_CTX_ctrl(to->cipher, EVP_CTRL_AEAD_GET_TAG, 16, out + header_bytes + payload_bytes);
        return header_bytes + payload_bytes + 16;
    }
    EVP_EncryptUpdate(to->cipher, out + header_bytes, &length, payload, payload_bytes);
    unsigned char tag[20];
    size_t tag_bytes = 0;
    EVP_MAC_init(to->mac, NULL, 0, NULL);
    EVP_MAC_update(to->mac, out, header_bytes + payload_bytes);
    EVP_MAC_update(to->mac, iv, 4);
    EVP_MAC_final(to->mac, tag, &tag_bytes, sizeof tag);
    memcpy(out + header_bytes + payload_bytes, tag, 10);
    return header_bytes + payload_bytes + 10;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: floor RECEIVERS SECONDS gcm|cm|none [SEGMENTS]\n");
        return 64;
    }
    receiver_count = atoi(argv[1]);
    double seconds = atof(argv[2]);
    is_gcm = strcmp(argv[3], "gcm") == 0;
    is_plain = strcmp(argv[3], "none") == 0;
    segments = argc > 4 ? atoi(argv[4]) : packets_per_frame;
    struct rlimit files = {65536, 65536};
    setrlimit(RLIMIT_NOFILE, &files);
    received = mmap(NULL, sizeof *received, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    receivers = aligned_alloc(64, (receiver_count * sizeof *receivers + 63) / 64 * 64);
    memset(receivers, 0, receiver_count * sizeof *receivers);
#ifdef __x86_64__
    ipsec = alloc_mb_mgr(0);
    init_mb_mgr_auto(ipsec, NULL);
#endif
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    OSSL_PARAM digest[] = {OSSL_PARAM_construct_utf8_string("digest", "SHA1", 0), OSSL_PARAM_construct_end()};
    for (int index = 0; index < receiver_count; index++) {
        struct receiver *one = &receivers[index];
        one->descriptor = socket(AF_INET, SOCK_DGRAM, 0);
        if (one->descriptor < 0) die("socket");
        int on = 1, size = 1 << 20;
        setsockopt(one->descriptor, SOL_UDP, UDP_GRO, &on, sizeof on);
        setsockopt(one->descriptor, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
        one->address.sin_family = AF_INET;
        one->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (bind(one->descriptor, (struct sockaddr *)&one->address, sizeof one->address) < 0) die("bind");
        socklen_t length = sizeof one->address;
        getsockname(one->descriptor, (struct sockaddr *)&one->address, &length);
        unsigned char key[16];
        memset(key, index + 1, sizeof key);
        one->cipher = EVP_CIPHER_CTX_new();
        EVP_EncryptInit_ex(one->cipher, is_gcm ? EVP_aes_128_gcm() : EVP_aes_128_ctr(), NULL, key, NULL);
#ifdef __x86_64__
        IMB_AES128_GCM_PRE(ipsec, key, &one->key);
#endif
        one->mac = EVP_MAC_CTX_new(hmac);
        EVP_MAC_init(one->mac, key, sizeof key, digest);
    }
    pid_t child = fork();
    if (child == 0) drain();
    pin(0);

    int sender = socket(AF_INET, SOCK_DGRAM, 0), size = 8 << 20;
    setsockopt(sender, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    static unsigned char payload[packet_bytes];
    static unsigned char slab[batch_messages][room];
    static struct mmsghdr messages[batch_messages];
    static struct iovec vectors[batch_messages];
    static char controls[batch_messages][CMSG_SPACE(2)];
    long sent = 0;
    unsigned sequence = 0;
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    double start = cpu_seconds();
    int frames = seconds * frames_per_second, audio_due = 0;
    for (int frame = 0; frame < frames; frame++) {
        // 50 audio packets go with 30 frames.
        audio_due += 50;
        int waiting = 0;
        for (int part = -(audio_due / frames_per_second); part < packets_per_frame / segments; part++) {
            int is_audio = part < 0;
            for (int index = 0; index < receiver_count; index++) {
                struct receiver *one = &receivers[index];
                int bytes = 0, segment = 0;
                for (int packet = 0; packet < (is_audio ? 1 : segments); packet++) {
                    segment = seal(one, sequence + packet, payload, (is_audio ? audio_bytes : packet_bytes) - header_bytes,
                                   slab[waiting] + bytes);
                    bytes += segment;
                    sent++;
                }
                vectors[waiting] = (struct iovec){slab[waiting], bytes};
                struct msghdr *message = &messages[waiting].msg_hdr;
                *message = (struct msghdr){&one->address, sizeof one->address, &vectors[waiting], 1, NULL, 0, 0};
                if (bytes > segment) {
                    message->msg_control = controls[waiting];
                    message->msg_controllen = sizeof controls[waiting];
                    struct cmsghdr *control = CMSG_FIRSTHDR(message);
                    control->cmsg_level = SOL_UDP, control->cmsg_type = UDP_SEGMENT, control->cmsg_len = CMSG_LEN(2);
                    unsigned short value = segment;
                    memcpy(CMSG_DATA(control), &value, 2);
                }
                if (++waiting == batch_messages || index + 1 == receiver_count) {
                    for (int done = 0; done < waiting;) {
                        int result = sendmmsg(sender, messages + done, waiting - done, 0);
                        if (result <= 0) die("sendmmsg");
                        done += result;
                    }
                    waiting = 0;
                }
            }
            sequence += segments;
        }
        audio_due %= frames_per_second;
        next.tv_nsec += 1000000000 / frames_per_second;
        if (next.tv_nsec >= 1000000000) next.tv_sec++, next.tv_nsec -= 1000000000;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
    double used = cpu_seconds() - start;
    usleep(300000);
    kill(child, SIGKILL);
    printf("%.4f %ld %ld\n", used / sent * 1e6, sent, *received);
    return 0;
}
