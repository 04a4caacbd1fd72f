"""User-space relays between the peers and the server: networks that are slow, lose packets or change addresses."""

import asyncio
import collections
import random


class Network:
    """What a client's way from the server is like. All of it may change at any time.

    `rate` is in bits per second, headers counted; what would wait longer than `queue` seconds before it is dropped. `delay` and
    up to `jitter` more, in seconds, are of each datagram; they keep their order. `bursts` are the probabilities that losses begin
    and end, at each datagram (Gilbert-Elliott).
    """

    HEADERS = 28

    def __init__(self, rate=None, queue=0.2, delay=0.0, jitter=0.0, loss=0.0, bursts=None, seed=1):
        self.rate, self.queue, self.delay, self.jitter, self.loss, self.bursts = rate, queue, delay, jitter, loss, bursts
        self.random = random.Random(seed)
        self.in_burst = False
        # When the bottleneck has sent what it has; and when the latest datagram arrives.
        self.free_at = self.latest = 0.0
        # How long each datagram waited, and when.
        self.waits = []
        self.dropped = 0

    def loses(self):
        if self.bursts:
            begins, ends = self.bursts
            self.in_burst = self.random.random() >= ends if self.in_burst else self.random.random() < begins
            if self.in_burst:
                return True
        return self.random.random() < self.loss

    def arrival(self, length, now):
        """When a datagram that is sent now arrives; None when it doesn't."""
        departure = now
        if self.rate:
            wait = max(0.0, self.free_at - now)
            if wait > self.queue:
                self.dropped += 1
                return None
            self.waits.append((now, wait))
            departure = self.free_at = now + wait + (length + self.HEADERS) * 8 / self.rate
        if self.loses():
            return None
        self.latest = max(self.latest, departure + self.delay + self.random.random() * self.jitter)
        return self.latest


class Relay:
    """Stands in front of one of the server's media ports. Each client gets a socket of its own towards the server.

    `loss` is the part of datagrams that is lost, each way; `network` is the way to the clients. `change_addresses` gives each client
    another source port, as a NAT does that has forgotten it.
    """

    def __init__(self, server_port, loss=0.0, seed=1, network=None):
        self.server = ("127.0.0.1", server_port)
        self.loss = loss
        self.network = network
        self.random = random.Random(seed)
        self.upstreams = {}
        self.lost = 0
        # RTP packets lost, by direction; RTCP and the rest are not among them.
        self.lost_rtp = {"up": 0, "down": 0}
        # The same by SSRC.
        self.lost_by_source = collections.Counter()
        self.forwarded = 0

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: _Side(self.from_client), ("127.0.0.1", 0))
        self.port = self.transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_):
        self.transport.close()
        for upstream in self.upstreams.values():
            if upstream.transport:
                upstream.transport.close()

    def drops(self, data, direction):
        if self.random.random() < self.loss:
            self.lost += 1
            if len(data) > 1 and 128 <= data[0] <= 191 and not 192 <= data[1] <= 223:
                self.lost_rtp[direction] += 1
                self.lost_by_source[int.from_bytes(data[8:12], "big")] += 1
            return True
        self.forwarded += 1
        return False

    def from_client(self, data, address):
        if self.drops(data, "up"):
            return
        upstream = self.upstreams.get(address)
        if upstream is None:
            upstream = self.upstreams[address] = _Upstream(self, address)
        upstream.send(data)

    def change_addresses(self):
        """From now on the server sees every client from another port."""
        for upstream in self.upstreams.values():
            if upstream.transport:
                upstream.transport.close()
        self.upstreams = {}


class _Side(asyncio.DatagramProtocol):
    def __init__(self, receive):
        self.datagram_received = receive


class _Upstream:
    """One client's socket towards the server."""

    def __init__(self, relay, client):
        self.relay, self.client, self.transport, self.waiting = relay, client, None, []
        asyncio.ensure_future(self.open())

    async def open(self):
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: _Side(self.from_server), ("127.0.0.1", 0))
        for data in self.waiting:
            self.transport.sendto(data, self.relay.server)

    def send(self, data):
        if self.transport is None:
            self.waiting.append(data)
        else:
            self.transport.sendto(data, self.relay.server)

    def from_server(self, data, _):
        relay = self.relay
        if relay.drops(data, "down"):
            return
        if relay.network is None:
            return relay.transport.sendto(data, self.client)
        loop = asyncio.get_running_loop()
        arrival = relay.network.arrival(len(data), loop.time())
        if arrival is not None:
            loop.call_at(arrival, self.deliver, data)

    def deliver(self, data):
        if not self.relay.transport.is_closing():
            self.relay.transport.sendto(data, self.client)
