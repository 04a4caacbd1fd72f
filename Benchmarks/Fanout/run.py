"""What forwarding costs: Sluice, Janus and the floor in one run, alternating, each server on core 0 and the load on core 1.

Usage: run.py [--only NAME ...]   writes .build-bench/fanout.json, which report.py turns into Docs/Performance.md.
"""

import argparse
import json
import pathlib
import re
import statistics
import subprocess
import threading
import time
import urllib.request

from network import veth_pair
from servers import ROOT, Janus, Sluice, load, raise_file_limit

RESULTS = ROOT / ".build-bench" / "fanout.json"
FLOOR = ROOT / ".build-bench" / "floor"
SECONDS = 8


def floor(viewers, encryption, segments=9):
    done = subprocess.run([FLOOR, str(viewers), str(SECONDS), encryption, str(segments)], capture_output=True, text=True)
    cost, sent, received = done.stdout.split()
    return {"microseconds": float(cost), "sent": int(sent), "received": int(received)}


def run(server, *arguments, **options):
    """One run against a server that is started for it."""
    with server as server:
        result = load(server, "--duration", SECONDS, *arguments, **options)
    kept = {name: result[name] for name in (
        "viewers", "connected", "withPicture", "withoutPictureAtEnd", "packetsReceived", "lossPercent", "deliveredPercent",
        "leastDeliveredPercent", "halfFrames", "payloadsVerified", "payloadsCorrupt", "videoLatency", "audioLatency",
        "timeToPicture", "keyframeRequests", "lostByFirstViewers", "serverResidentMegabytes", "serverThreadSeconds", "profile",
        "loadMicrosecondsPerPacket", "joinSeconds") if name in result}
    kept["microseconds"] = result.get("serverMicrosecondsPerPacket")
    kept["surge"] = result.get("surge")
    return kept


def alternate(rounds, **contestants):
    """Runs each contestant once a round, in turn."""
    results = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contest in contestants.items():
            results[name].append(contest())
            print(f"  {name}: {results[name][-1]['microseconds']:.2f} µs", flush=True)
    return results


def two_hundred_viewers():
    return {
        "gcm": alternate(
            5,
            floor=lambda: floor(200, "gcm"),
            sluice=lambda: run(Sluice(), "--viewers", 200),
            janus=lambda: run(Janus(event_loops=1), "--viewers", 200),
        ),
        "cm": alternate(
            3,
            floor=lambda: floor(200, "cm"),
            sluice=lambda: run(Sluice(), "--viewers", 200, "--srtp", "cm"),
            janus=lambda: run(Janus(event_loops=1), "--viewers", 200, "--srtp", "cm"),
        ),
    }


def sixty_viewers():
    return alternate(
        2,
        sluice=lambda: run(Sluice(), "--viewers", 60),
        janus=lambda: run(Janus(), "--viewers", 60, "--srtp", "cm"),
        floor=lambda: floor(60, "gcm"),
        sendingOnly=lambda: floor(60, "none"),
    )


def uneven_packets():
    """Frames whose packets differ by a byte, as encoders cut them, against frames whose packets don't."""
    return alternate(
        2,
        even=lambda: run(Sluice(), "--viewers", 200),
        uneven=lambda: run(Sluice(), "--viewers", 200, "--bitrate", 2_590_800),
    )


def audience():
    results = {}
    for viewers in (10, 30, 100, 300, 1000):
        results[viewers] = alternate(2, sluice=lambda: run(Sluice(), "--viewers", viewers))["sluice"]
    return results


def capacity():
    """Loss and latency as the audience grows, on one core."""
    results = {"sluice": {}, "janus": {}}
    for viewers in (500, 1000, 1500, 2000):
        results["sluice"][viewers] = run(Sluice(), "--viewers", viewers)
    for viewers in (100, 200, 300, 400, 500):
        results["janus"][viewers] = run(Janus(event_loops=1), "--viewers", viewers, "--patience", 10)
    return results


def conference():
    shape = ("--publishers", 10, "--viewers", 10, "--streams", 9, "--verify", 2)
    return alternate(5, sluice=lambda: run(Sluice(), *shape), janus=lambda: run(Janus(event_loops=1), *shape))


def join_storm():
    return [run(Sluice(), "--viewers", 1000, "--first-viewers", 100, "--keyframe-factor", 5) for _ in range(3)]


def histogram(server, name):
    text = urllib.request.urlopen(f"{server.url}/metrics", timeout=5).read().decode()
    buckets = {}
    for bound, count in re.findall(rf'sluice_{name}_bucket{{le="([^"]+)"}} (\d+)', text):
        buckets[float(bound.replace("+Inf", "inf"))] = int(count)
    return buckets


def quantile(before, after, part):
    """In milliseconds, as Prometheus reckons it: within its bucket it lies where it would if all were spread evenly."""
    counts = {bound: after[bound] - before.get(bound, 0) for bound in after}
    wanted = part * max(counts.values())
    low, below = 0.0, 0
    for bound in sorted(counts):
        if counts[bound] >= wanted:
            return 1000 * (low + (bound - low) * (wanted - below) / max(counts[bound] - below, 1))
        low, below = bound, counts[bound]


def latency_inside():
    """From the kernel's time of arrival to the end of sending, for each packet that was sent."""
    def measure(*arguments, workers=1, **options):
        samples = {}

        def sample(server, delay, name):
            time.sleep(delay)
            samples[name] = histogram(server, "forward_latency_seconds")

        with Sluice(workers=workers, cores="0,1" if workers > 1 else "0") as server:
            threads = [threading.Thread(target=sample, args=(server, delay, name)) for delay, name in ((6, "before"), (12, "after"))]
            for thread in threads:
                thread.start()
            result = load(server, "--duration", 10, *arguments, **options)
            for thread in threads:
                thread.join()
        latency = {f"p{part}": quantile(samples["before"], samples["after"], part / 100) for part in (50, 99)}
        busy = max(seconds for name, seconds in result["serverThreadSeconds"].items() if re.fullmatch(r"sluice-\d+", name))
        latency["busyPercent"] = 100 * busy / 10
        print(f"  {' '.join(map(str, arguments))}: p50 {latency['p50']:.2f} ms, p99 {latency['p99']:.2f} ms, {latency['busyPercent']:.0f} % busy", flush=True)
        return latency

    return {
        # What one core does with half of its time.
        "rooms": measure("--publishers", 100, "--viewers", 1000),
        # Half of the 1,000 viewers that one core is to carry: each frame is 4,500 copies to make.
        "one": measure("--viewers", 500),
        # A packet at a time, as a browser's pacer sends them, there is nothing to make one message of.
        "spread": measure("--viewers", 300, "--spread", 25),
    }


def memory():
    with Sluice() as server:
        time.sleep(2)
        pages = int(pathlib.Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
        idle = pages * 4096 / 1e6
        busy = load(server, "--duration", SECONDS, "--viewers", 1000)["serverResidentMegabytes"]
    return {"idle": idle, "with1000": busy, "kibibytesPerViewer": (busy - idle) * 1e6 / 1024 / 1000}


def overload():
    """Three times what fits, while something asks whether the server is alive."""
    waits = []
    ended = threading.Event()

    def ask(server):
        while not ended.is_set():
            start = time.monotonic()
            urllib.request.urlopen(f"{server.url}/healthz", timeout=10).read()
            waits.append(time.monotonic() - start)
            time.sleep(0.05)

    with Sluice() as server:
        asking = threading.Thread(target=ask, args=(server,))
        asking.start()
        try:
            result = load(server, "--viewers", 1500, "--surge", 8, "--surge-duration", 15, "--duration", SECONDS)
        finally:
            ended.set()
            asking.join()
    return {
        "surge": result["surge"],
        "healthzMilliseconds": {"p99": 1000 * statistics.quantiles(waits, n=100)[98], "longest": 1000 * max(waits)},
        "connected": result["connected"],
        "withoutPictureAtEnd": result["withoutPictureAtEnd"],
        "leastDeliveredPercentAfter": result["leastDeliveredPercent"],
    }


def workers():
    """One room on one and on two workers. What a worker could do at most is what it did over the CPU time it took."""
    def rate(count):
        result = run(Sluice(cores="0,1", workers=count), "--viewers", 500, cores="0,1")
        busiest = max(seconds for name, seconds in result["serverThreadSeconds"].items() if re.fullmatch(r"sluice-\d+", name))
        result["packetsPerBusiestSecond"] = result["packetsReceived"] / busiest
        return result

    return alternate(3, one=lambda: rate(1), two=lambda: rate(2))


def network_cards():
    """Through a veth pair, with the card doing the segmentation and with the kernel doing it."""
    results = {}
    for offload in (True, False):
        with veth_pair(offload) as (server_side, client_side, address):
            token = "a-token-for-the-benchmark"
            server = Sluice(listen=address, inside=server_side, settings={"auth": {"mode": "token", "operatorToken": token}})
            results["on" if offload else "off"] = run(server, "--viewers", 200, "--token", token, inside=client_side)
    return results


SCENARIOS = (two_hundred_viewers, sixty_viewers, uneven_packets, audience, capacity, conference, join_storm, latency_inside, memory,
             overload, workers, network_cards)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", default=[])
    wanted = parser.parse_args().only
    raise_file_limit()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for scenario in SCENARIOS:
        if wanted and scenario.__name__ not in wanted:
            continue
        print(scenario.__name__.replace("_", " "), flush=True)
        results[scenario.__name__] = scenario()
        RESULTS.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
