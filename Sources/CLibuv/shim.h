// libuv's C interface, and nothing else.
#pragma once
#include <uv.h>
