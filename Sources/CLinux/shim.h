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

// Room that a control message of a 16-bit value takes.
enum { sluice_segment_control_bytes = CMSG_SPACE(sizeof(uint16_t)) };

// Makes the message's control, which has room for sluice_segment_control_bytes, ask for segments of this many bytes.
static inline void sluice_set_segment_bytes(struct msghdr *message, uint16_t bytes) {
    struct cmsghdr *control = CMSG_FIRSTHDR(message);
    control->cmsg_level = sluice_SOL_UDP;
    control->cmsg_type = sluice_UDP_SEGMENT;
    control->cmsg_len = CMSG_LEN(sizeof(bytes));
    memcpy(CMSG_DATA(control), &bytes, sizeof(bytes));
}

// What the kernel says of a received message: the bytes of each segment, or 0 when it is one datagram; and the wall clock's time
// of its arrival, left as it is when the kernel says none.
static inline int sluice_read_controls(struct msghdr *message, struct timespec *arrival) {
    int bytes = 0;
    for (struct cmsghdr *control = CMSG_FIRSTHDR(message); control != NULL; control = CMSG_NXTHDR(message, control)) {
        if (control->cmsg_level == sluice_SOL_UDP && control->cmsg_type == sluice_UDP_GRO)
            memcpy(&bytes, CMSG_DATA(control), sizeof(bytes));
        else if (control->cmsg_level == SOL_SOCKET && control->cmsg_type == SO_TIMESTAMPNS)
            memcpy(arrival, CMSG_DATA(control), sizeof(*arrival));
    }
    return bytes;
}
