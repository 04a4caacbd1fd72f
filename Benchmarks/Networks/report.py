"""Writes the table of RFC 8867's cases into Docs/Performance.md and their charts into Docs/Charts.

`make cases` runs the simulation and this.
"""

import csv
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHARTS = ROOT / "Docs" / "Charts"
BEGIN, END = "<!-- cases -->\n", "<!-- end of cases -->\n"
COLORS = ["#1565c0", "#c62828", "#2e7d32", "#6a1b9a", "#ef6c00"]
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 640, 230, 46, 34, 12, 40
TITLES = {
    "5.1": "a capacity that varies",
    "5.2": "the same for two flows",
    "5.3": "feedback over a congested network",
    "5.4": "three flows, one after another",
    "5.5": "five flows with round trips of 20 to 300 ms",
    "5.6": "beside a long TCP transfer",
    "5.7": "two flows beside ten users of short TCP transfers",
    "5.8": "three flows, one of which pauses",
}


def read_results(output):
    """The figures of each case, by its section, of what the tests printed."""
    results = {}
    for name, text in re.findall(r"^RFC 8867, ([\d.]+): Result\((.*)\)$", output, re.MULTILINE):
        results[name] = {key: float(value) for key, value in re.findall(r"(\w+): ([\w.+-]+)", text)}
    return results


def chart(title, rows):
    """Capacity, the estimate of each flow and what transfers get, over time, as SVG text."""
    times = [float(row["seconds"]) for row in rows]
    flows = len([key for key in rows[0] if key.startswith("estimate")])
    most = max(float(row["capacity"]) for row in rows) * 1.1
    x = lambda time: LEFT + (WIDTH - LEFT - RIGHT) * time / times[-1]
    y = lambda value: TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(value, most) / most)
    line = lambda key: " ".join(f"{x(t):.1f},{y(float(row[key])):.1f}" for t, row in zip(times, rows))
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
             f'font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="{title}">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
             f'<text x="12" y="20" font-size="14" font-weight="600" fill="#1a1a1a">{title}</text>']
    for step in range(int(most) + 1):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(step):.1f}" y2="{y(step):.1f}" stroke="#ddd"/>'
                     f'<text x="{LEFT - 6}" y="{y(step) + 4:.1f}" text-anchor="end" fill="#555">{step}</text>')
    for second in range(0, int(times[-1]) + 2, 20 if times[-1] < 150 else 50):
        parts.append(f'<text x="{x(second):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle" fill="#555">{second} s</text>')
    lines = [("capacity, Mbit/s", "capacity", "#9e9e9e", 2.5)]
    if any(float(row["transfers"]) for row in rows):
        lines.append(("TCP", "transfers", "#bcaaa4", 1))
    lines += [(f"estimate {place + 1}" if flows > 1 else "estimate", f"estimate{place}", COLORS[place], 1.5) for place in range(flows)]
    for place, (label, key, color, width) in enumerate(lines):
        parts.append(f'<polyline points="{line(key)}" fill="none" stroke="{color}" stroke-width="{width}"/>'
                     f'<text x="{LEFT + place * 92}" y="{HEIGHT - 8}" fill="{color}">{label}</text>')
    return "".join(parts) + "</svg>\n"


def table(results):
    lines = ["| case | used of the bottleneck | queue, 95th percentile | lost | share of the media | Jain's index |",
             "| --- | --- | --- | --- | --- | --- |"]
    for name, found in sorted(results.items()):
        several = f"{found['fairness']:.2f}" if name in ("5.2", "5.4", "5.5", "5.7", "5.8") else ""
        share = f"{found['mediaShare'] * 100:.0f} %" if found["mediaShare"] < 1 else ""
        lines.append(f"| {name}, {TITLES[name]} | {found['utilisation'] * 100:.0f} % | {found['queue95'] * 1000:.0f} ms "
                     f"| {found['lost'] * 100:.1f} % | {share} | {several} |")
    return "\n".join(lines) + "\n"


def main():
    directory = pathlib.Path(sys.argv[1])
    results = read_results((directory / "output.txt").read_text())
    charts = []
    for name in sorted(results):
        rows = list(csv.DictReader((directory / f"{name}.csv").open()))
        file = f"case-{name}.svg"
        (CHARTS / file).write_text(chart(f"RFC 8867 §{name}: {TITLES[name]}", rows))
        charts.append(f"![{name}](Charts/{file})\n")
    path = ROOT / "Docs" / "Performance.md"
    head, rest = path.read_text().split(BEGIN)
    path.write_text(head + BEGIN + table(results) + "\n" + "".join(charts) + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
