// Linux socket calls that glibc shows only with _GNU_SOURCE, which Swift's modules are built without, and the macros around
// control messages. The structure has the kernel's layout (recvmmsg(2)). No logic lives here.
#pragma once
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>

struct sluice_mmsghdr {
    struct msghdr msg_hdr;
    unsigned int msg_len;
};

extern int sluice_recvmmsg(
    int descriptor, struct sluice_mmsghdr *messages, unsigned int count, int flags, struct timespec *timeout
) __asm__("recvmmsg");
extern int sluice_sendmmsg(int descriptor, struct sluice_mmsghdr *messages, unsigned int count, int flags)
    __asm__("sendmmsg");
extern int sluice_epoll_pwait2(
    int descriptor, struct epoll_event *events, int count, const struct timespec *timeout, const void *signals
) __asm__("epoll_pwait2");
extern int sluice_pthread_setname_np(pthread_t thread, const char *name) __asm__("pthread_setname_np");

// udp(7): the level and the options of UDP's segmentation and receive offload.
enum { sluice_SOL_UDP = 17, sluice_UDP_SEGMENT = 103, sluice_UDP_GRO = 104 };

// socket(7): the option that adds the time of arrival to what is received.
enum { sluice_SO_TIMESTAMPNS = SO_TIMESTAMPNS };

// ip(7), ipv6(7): the options that add the local address to what is received.
enum { sluice_IP_PKTINFO = IP_PKTINFO, sluice_IPV6_RECVPKTINFO = 49, sluice_IPV6_PKTINFO = 50 };

// ipv6(7): the content of an IPV6_PKTINFO control message, which glibc shows only with _GNU_SOURCE.
struct sluice_in6_pktinfo {
    struct in6_addr address;
    unsigned int interface;
};

// Room for the control messages of a message that is sent: a segment length and a local address.
enum { sluice_send_control_bytes = CMSG_SPACE(sizeof(uint16_t)) + CMSG_SPACE(sizeof(struct sluice_in6_pktinfo)) };

// Appends a control message, for which there is room behind those that are there.
static inline void sluice_add_control(struct msghdr *message, int level, int type, const void *content, size_t bytes) {
    struct cmsghdr *control = (struct cmsghdr *)((char *)message->msg_control + message->msg_controllen);
    control->cmsg_level = level;
    control->cmsg_type = type;
    control->cmsg_len = CMSG_LEN(bytes);
    memcpy(CMSG_DATA(control), content, bytes);
    message->msg_controllen += CMSG_SPACE(bytes);
}

// Asks for segments of this many bytes.
static inline void sluice_add_segment_bytes(struct msghdr *message, uint16_t bytes) {
    sluice_add_control(message, sluice_SOL_UDP, sluice_UDP_SEGMENT, &bytes, sizeof(bytes));
}

// Asks that a message be sent from this address of ours. On an IPv6 socket an IPv4 address has its mapped form.
static inline void sluice_add_local_v4(struct msghdr *message, struct in_addr address) {
    struct in_pktinfo info = {.ipi_spec_dst = address};
    sluice_add_control(message, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
}
static inline void sluice_add_local_v6(struct msghdr *message, const struct in6_addr *address) {
    struct sluice_in6_pktinfo info = {.address = *address};
    sluice_add_control(message, IPPROTO_IPV6, sluice_IPV6_PKTINFO, &info, sizeof(info));
}

// What the kernel says of a received message.
struct sluice_controls {
    // The bytes of each segment, or 0 when it is one datagram.
    int segment_bytes;
    // The wall clock's time of its arrival; left as it was when the kernel says none.
    struct timespec arrival;
    // The address of ours that it was sent to: a whole sockaddr of either family; AF_UNSPEC when the kernel says none.
    struct sockaddr_in6 local;
};

static inline void sluice_read_controls(struct msghdr *message, struct sluice_controls *result) {
    result->segment_bytes = 0;
    result->local.sin6_family = AF_UNSPEC;
    for (struct cmsghdr *control = CMSG_FIRSTHDR(message); control != NULL; control = CMSG_NXTHDR(message, control)) {
        if (control->cmsg_level == sluice_SOL_UDP && control->cmsg_type == sluice_UDP_GRO) {
            memcpy(&result->segment_bytes, CMSG_DATA(control), sizeof(result->segment_bytes));
        } else if (control->cmsg_level == SOL_SOCKET && control->cmsg_type == SO_TIMESTAMPNS) {
            memcpy(&result->arrival, CMSG_DATA(control), sizeof(result->arrival));
        } else if (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == sluice_IPV6_PKTINFO) {
            result->local.sin6_family = AF_INET6;
            memcpy(&result->local.sin6_addr, CMSG_DATA(control), sizeof(result->local.sin6_addr));
        } else if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(control), sizeof(info));
            struct sockaddr_in *local = (struct sockaddr_in *)&result->local;
            local->sin_family = AF_INET;
            local->sin_addr = info.ipi_addr;
        }
    }
}
