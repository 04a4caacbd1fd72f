"""Two network namespaces that a veth pair joins, for as long as a block lasts. Needs root."""

import contextlib
import os
import subprocess


def _run(*command):
    subprocess.run(command, check=True, capture_output=True)


@contextlib.contextmanager
def veth_pair(offload):
    """Gives the names of the server's and the clients' namespace, and the server's address.

    offload: whether the devices take a message whole; without, the kernel cuts it into datagrams before.
    """
    mark = os.getpid()
    server, client = f"sluice-a-{mark}", f"sluice-b-{mark}"
    _run("ip", "netns", "add", server)
    try:
        _run("ip", "netns", "add", client)
        _run("ip", "link", "add", "veth-a", "netns", server, "type", "veth", "peer", "name", "veth-b", "netns", client)
        for space, device, address in ((server, "veth-a", "10.213.7.1/24"), (client, "veth-b", "10.213.7.2/24")):
            _run("ip", "-n", space, "address", "add", address, "dev", device)
            _run("ip", "-n", space, "link", "set", "lo", "up")
            _run("ip", "-n", space, "link", "set", device, "up")
            if not offload:
                _run("ip", "netns", "exec", space, "ethtool", "-K", device, "gso", "off", "gro", "off", "tx-udp-segmentation", "off")
        yield server, client, "10.213.7.1"
    finally:
        for space in (server, client):
            subprocess.run(["ip", "netns", "delete", space], capture_output=True)
