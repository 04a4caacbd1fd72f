"""Writes the tables of .build-bench/fanout.json into Docs/Performance.md and its charts into Docs/Charts."""

import json
import pathlib
import statistics

from servers import ROOT

RESULTS = ROOT / ".build-bench" / "fanout.json"
DOCUMENT = ROOT / "Docs" / "Performance.md"
CHARTS = ROOT / "Docs" / "Charts"
BEGIN, END = "<!-- fan-out: written by make bench -->\n", "<!-- end -->\n"


def median(runs, name="microseconds"):
    return statistics.median(run[name] for run in runs)


def p99(runs):
    return statistics.median(run["videoLatency"]["p99"] for run in runs)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]) + "\n"


def comparison(results):
    rows = []
    for name, title in (("gcm", "200 viewers, AEAD_AES_128_GCM"), ("cm", "200 viewers, AES128_CM_HMAC_SHA1_80")):
        runs = results["two_hundred_viewers"][name]
        ours, theirs, least = median(runs["sluice"]), median(runs["janus"]), median(runs["floor"])
        rows.append((title, f"{ours:.2f} µs (p99 {p99(runs['sluice']):.1f} ms)", f"{theirs:.2f} µs (p99 {p99(runs['janus']):.1f} ms), event loops",
                     f"{theirs / ours:.1f}", f"{least:.2f} µs", f"{ours / least:.2f}"))
    runs = results["sixty_viewers"]
    ours, theirs = median(runs["sluice"]), median(runs["janus"])
    rows.append(("60 viewers, ours GCM, Janus as it comes (CM, a thread a handle)", f"{ours:.2f} µs (p99 {p99(runs['sluice']):.1f} ms)",
                 f"{theirs:.2f} µs (p99 {p99(runs['janus']):.1f} ms)", f"{theirs / ours:.1f}", "", ""))
    if "floor" in runs:
        rows[-1] = rows[-1][:-2] + (f"{median(runs['floor']):.2f} µs (sending without sealing: {median(runs['sendingOnly']):.2f} µs)", f"{ours / median(runs['floor']):.2f}")
    runs = results["conference"]
    ours, theirs = median(runs["sluice"]), median(runs["janus"])
    rows.append(("conference: 10 peers, each watches 9", f"{ours:.2f} µs (p99 {p99(runs['sluice']):.1f} ms)",
                 f"{theirs:.2f} µs (p99 {p99(runs['janus']):.1f} ms), event loops", f"{theirs / ours:.1f}", "", ""))
    return table(("load", "Sluice", "Janus 1.1.2", "Janus / Sluice", "floor", "Sluice / floor"), rows)


def audience(results):
    rows = [(viewers, f"{median(runs):.2f} µs", f"{p99(runs):.1f} ms", f"{max(run['lossPercent'] for run in runs):.3f} %",
             f"{median(runs, 'loadMicrosecondsPerPacket'):.2f} µs") for viewers, runs in results["audience"].items()]
    return table(("viewers", "CPU per forwarded packet", "p99", "lost", "the load generator's CPU per packet"), rows)


def capacity(results):
    rows = []
    for server, title in (("sluice", "Sluice"), ("janus", "Janus, event loops, GCM")):
        for viewers, run in results["capacity"][server].items():
            rows.append((title, viewers, f"{run['lossPercent']:.3f} %", f"{run['deliveredPercent']:.1f} %",
                         f"{run['videoLatency']['p99']:.1f} ms"))
    return table(("one core", "viewers", "lost", "delivered", "p99"), rows)


def single_figures(results):
    joins, memory, overload = results["join_storm"], results["memory"], results["overload"]
    surge = overload["surge"]
    workers, cards, uneven = results["workers"], results["network_cards"], results["uneven_packets"]
    inside = results["latency_inside"]
    rate = lambda runs: median(runs, "packetsPerBusiestSecond")
    rows = [
        ("frames whose packets differ by a byte", f"{median(uneven['uneven']):.2f} µs a packet, against {median(uneven['even']):.2f} µs for equal ones"),
        ("one room on two workers", f"{rate(workers['two']) / rate(workers['one']):.2f} × the packets per CPU second of the busiest worker that one does"),
        ("1,000 viewers join as fast as they can, 100 others watch", f"all have a picture after {max(run['timeToPicture']['maximum'] for run in joins):.0f} ms; at most {max(run['keyframeRequests'] for run in joins)} keyframe requests; the first 100 lost {max(run['lostByFirstViewers'] for run in joins)} packets"),
        ("memory", f"{memory['idle']:.1f} MB idle; {memory['kibibytesPerViewer']:.1f} KiB a viewer at 1,000"),
        *[(f"from a packet's arrival to its copy's sending, {title} ({inside[name]['busyPercent']:.0f} % busy)", f"p50 {inside[name]['p50']:.2f} ms, p99 {inside[name]['p99']:.2f} ms")
          for name, title in (("rooms", "100 streams of 10 viewers each"), ("one", "one stream, 500 viewers"), ("spread", "one stream that is sent packet by packet, 300 viewers"))],
        (f"overload: {100 / surge['framesPercent']:.1f} × what fits", f"every viewer gets {surge['leastFramesPercent']:.0f} to {surge['mostFramesPercent']:.0f} % of the frames, {surge['brokenFrames'] + surge['halfFrames']} broken ones; at least {surge['leastAudioPercent']:.1f} % of the audio; `/healthz` in {overload['healthzMilliseconds']['p99']:.0f} ms (p99); from 2 s after it, at least {overload['leastDeliveredPercentAfter']:.1f} %, and {overload['withoutPictureAtEnd']} viewers without a picture"),
        ("through a veth pair that takes messages whole", f"{cards['on']['microseconds']:.2f} µs a packet (p99 {cards['on']['videoLatency']['p99']:.1f} ms)"),
        ("the same, the kernel cuts them before the device", f"{cards['off']['microseconds']:.2f} µs a packet (p99 {cards['off']['videoLatency']['p99']:.1f} ms)"),
    ]
    return table(("what", "figure"), rows)


def chart(title, unit, bars):
    """A bar chart as SVG text: (label, value, color) each."""
    width, row, left, right = 640, 30, 210, 80
    most = max(value for _, value, _ in bars)
    height = 44 + row * len(bars)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
             f'font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="{title}">',
             f'<rect width="{width}" height="{height}" fill="#fff"/><text x="12" y="24" font-size="15" font-weight="600" fill="#1a1a1a">{title}</text>']
    for index, (label, value, color) in enumerate(bars):
        y = 38 + index * row
        length = (width - left - right) * value / most
        parts.append(f'<text x="{left - 8}" y="{y + 18}" text-anchor="end" fill="#333">{label}</text>'
                     f'<rect x="{left}" y="{y + 4}" width="{length:.1f}" height="20" rx="2" fill="{color}"/>'
                     f'<text x="{left + length + 6:.1f}" y="{y + 18}" fill="#333">{value:.2f} {unit}</text>')
    return "".join(parts) + "</svg>\n"


def main():
    results = json.loads(RESULTS.read_text())
    CHARTS.mkdir(exist_ok=True)
    ours, theirs, least = "#2563eb", "#94a3b8", "#16a34a"
    runs = results["two_hundred_viewers"]
    (CHARTS / "cost.svg").write_text(chart("CPU per forwarded packet, 200 viewers", "µs", [
        ("floor, GCM", median(runs["gcm"]["floor"]), least), ("Sluice, GCM", median(runs["gcm"]["sluice"]), ours),
        ("Janus, GCM, event loops", median(runs["gcm"]["janus"]), theirs), ("floor, CM", median(runs["cm"]["floor"]), least),
        ("Sluice, CM", median(runs["cm"]["sluice"]), ours), ("Janus, CM, event loops", median(runs["cm"]["janus"]), theirs)]))
    (CHARTS / "audience.svg").write_text(chart("Sluice's CPU per forwarded packet by audience", "µs", [
        (f"{viewers} viewers", median(runs), ours) for viewers, runs in results["audience"].items()]))
    text = "\n".join([
        comparison(results), "![CPU per forwarded packet](Charts/cost.svg)\n", audience(results),
        "![by audience](Charts/audience.svg)\n", capacity(results), single_figures(results)])
    document = DOCUMENT.read_text()
    start, end = document.index(BEGIN) + len(BEGIN), document.index(END)
    DOCUMENT.write_text(document[:start] + "\n" + text + "\n" + document[end:])


if __name__ == "__main__":
    main()
