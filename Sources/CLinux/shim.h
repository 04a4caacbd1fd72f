// Linux socket calls that glibc shows only with _GNU_SOURCE, which Swift's modules are built without, and the macros around
// control messages. The structure has the kernel's layout (recvmmsg(2)). No logic lives here.
#pragma once
#include <netinet/in.h>
#include <netinet/udp.h>
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

// Room that one control message of a 16-bit, or of a 32-bit, value takes.
enum { sluice_segment_control_bytes = CMSG_SPACE(sizeof(uint16_t)), sluice_gro_control_bytes = CMSG_SPACE(sizeof(int)) };

// Makes the message's control, which has room for sluice_segment_control_bytes, ask for segments of this many bytes.
static inline void sluice_set_segment_bytes(struct msghdr *message, uint16_t bytes) {
    struct cmsghdr *control = CMSG_FIRSTHDR(message);
    control->cmsg_level = sluice_SOL_UDP;
    control->cmsg_type = sluice_UDP_SEGMENT;
    control->cmsg_len = CMSG_LEN(sizeof(bytes));
    memcpy(CMSG_DATA(control), &bytes, sizeof(bytes));
}

// The bytes of each segment of a received message, or 0 when it is one datagram.
static inline int sluice_gro_bytes(struct msghdr *message) {
    struct cmsghdr *control = CMSG_FIRSTHDR(message);
    int bytes = 0;
    if (control != NULL && control->cmsg_level == sluice_SOL_UDP && control->cmsg_type == sluice_UDP_GRO)
        memcpy(&bytes, CMSG_DATA(control), sizeof(bytes));
    return bytes;
}
