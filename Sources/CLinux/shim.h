// Linux socket calls and control-message macros as functions that Swift can call. No logic lives here.
#pragma once
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
