"""Pairs of clients, each in a room of its own, who say something to each other all the time, in a process of their own: what happens to
others shall not be felt by them. Run as a program it prints the round trips, in seconds, once its input ends."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time

from raw_websocket import RawWebSocket, text

# Well below what a client may send in a second.
INTERVAL = 0.07
PAIRS = 5


async def echo(socket):
    while True:
        message = await socket.message()
        if message["type"] == "message":
            socket.send(text({"type": "message", "to": message["from"], "data": message["data"]}))


class Pair:
    """Two who talk, in a room of their own."""

    async def join(self, port, number):
        self.ann, self.ben = await RawWebSocket.open(port), await RawWebSocket.open(port)
        room = f"bystanders-{os.getpid()}-{number}"
        await self.ann.request("join", room=room)
        self.peer = (await self.ben.request("join", room=room))["peer"]

    async def talk(self, stop):
        """Returns the round trips until then."""
        echoing = asyncio.ensure_future(echo(self.ben))
        trips = []
        while not stop.done():
            started = time.perf_counter()
            self.ann.send(text({"type": "message", "to": self.peer, "data": len(trips)}))
            while (message := await self.ann.message())["type"] != "message":
                pass
            assert message["data"] == len(trips)
            trips.append(time.perf_counter() - started)
            await asyncio.sleep(max(0, INTERVAL - trips[-1]))
        echoing.cancel()
        return trips


async def talk(port):
    pairs = [Pair() for _ in range(PAIRS)]
    for number, pair in enumerate(pairs):
        await pair.join(port, number)
    stop = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print("ready", flush=True)
    print(json.dumps(sum(await asyncio.gather(*[pair.talk(stop) for pair in pairs]), [])))


class Bystanders:
    """What was measured while a `with bystanders(...)` ran."""

    trips = ()

    @property
    def slowest_of_hundred(self):
        """The 99th percentile in seconds."""
        return sorted(self.trips)[int(len(self.trips) * 0.99)]


@contextlib.asynccontextmanager
async def bystanders(server):
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, str(server.http_port), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert await asyncio.wait_for(process.stdout.readline(), 30) == b"ready\n"
        result = Bystanders()
        yield result
        output, _ = await asyncio.wait_for(process.communicate(b""), 30)
        assert process.returncode == 0, "the bystanders were disturbed"
        result.trips = json.loads(output)
        print(f"bystanders: {len(result.trips)} round trips, median {sorted(result.trips)[len(result.trips) // 2] * 1000:.1f} ms, "
              f"p99 {result.slowest_of_hundred * 1000:.1f} ms, longest {max(result.trips) * 1000:.1f} ms")
    finally:
        if process.returncode is None:
            process.kill()


if __name__ == "__main__":
    asyncio.run(talk(int(sys.argv[1])))
