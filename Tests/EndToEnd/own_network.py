"""A network of the tests' own: some tests add addresses and take them away, and a peer of another test that uses one would lose its path."""

import ctypes
import os
import subprocess

CLONE_NEWNET = 0x40000000
ADDRESS = "10.217.0.2"


def enter_own_network():
    """Moves this process, and what it starts, into a network namespace with loopback and one more address. Only root may; others stay."""
    if os.geteuid() != 0 or ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
        return
    for command in (
        "link set lo up",
        # Where there is no other side, a device is down.
        "link add outside type veth peer name outside-p",
        "link set outside-p up",
        f"address add {ADDRESS}/24 dev outside",
        "link set outside up",
        "route add default via 10.217.0.1",
    ):
        subprocess.run(["ip", *command.split()], check=True)
