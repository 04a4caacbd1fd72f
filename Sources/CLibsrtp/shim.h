// libsrtp2's C interface: the reference that the tests hold Transport's SRTP against.
#pragma once
#include <srtp2/srtp.h>
