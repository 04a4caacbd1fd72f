// Linux socket calls that glibc shows only with _GNU_SOURCE, which Swift's modules are built without. The structure has
// the kernel's layout (recvmmsg(2)). No logic lives here.
#pragma once
#include <netinet/in.h>
#include <netinet/udp.h>
#include <pthread.h>
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
extern int sluice_pthread_setname_np(pthread_t thread, const char *name) __asm__("pthread_setname_np");
