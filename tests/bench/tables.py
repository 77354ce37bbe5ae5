"""The tables of a run: the goals, the comparison, and short ones beside it; and README's block."""

import re
import textwrap

import goals
from figures import middle, number, spread, table

OPEN, CLOSE = "<!-- bench -->", "<!-- /bench -->"


def floor_of(row):
    return row.pair if row.pair.startswith("floor") else "floor-sse"


def comparison(rows, figures, viewers):
    """Closed loop: the next message leaves when everybody has the last."""
    lines = []
    for n in viewers:
        for row in rows:
            if not figures.of("closed", row.name, n):
                continue
            values = [figures.values("closed", row.name, key, n)
                      for key in ("deliveries_per_s", "cpu_us_per_delivery")]
            floor = row.name if row.is_floor else floor_of(row)
            ratios = figures.ratios("closed", row.name, floor, "cpu_us_per_delivery", n)
            lines.append([
                row.title, number(n), spread(values[0], 0, 1e-3, " k"), spread(values[1], 2),
                "1" if row.is_floor else spread(ratios, 2),
                middle(figures.values("closed", row.name, "lat_p50_us", n), 1, 1e-3),
                middle(figures.values("closed", row.name, "lat_p99_us", n), 1, 1e-3),
                middle(figures.values("closed", row.name, "wire_bytes_per_delivery", n)),
            ])
    head = ["server", "viewers", "deliveries/s", "CPU us per delivery", "x floor",
            "p50 ms", "p99 ms", "bytes on the wire"]
    return table(head, lines)


def paced(rows, figures):
    lines = []
    for row in rows:
        if figures.of("paced", row.name):
            latency = [spread(figures.values("paced", row.name, f"lat_{part}_us"), 1, 1e-3)
                       for part in ("p50", "p99", "p999")]
            lines.append([row.title, *latency,
                          spread(figures.values("paced", row.name, "cpu_us_per_delivery"), 1)])
    head = ["10 events/s to 1,000 viewers", "p50 ms", "p99 ms", "p99.9 ms", "CPU us per delivery"]
    return table(head, lines)


def viewers(rows, figures):
    """What a viewer costs who only waits, and one who comes."""
    lines = []
    for row in rows:
        closed = figures.of("closed", row.name)
        memory = "memory" if figures.of("memory", row.name) else "closed"
        come = figures.values("connect", row.name, "conn_per_s")
        if not closed and not come:
            continue
        lines.append([
            row.title, middle(figures.slope(memory, row.name, "anon_idle")),
            middle(figures.values(memory, row.name, "rss_base"), 0, 1 / 1024), spread(come),
            spread(figures.values("connect", row.name, "cpu_us_per_conn"), 1),
            spread(figures.values("resume", row.name, "conn_per_s")),
            spread(figures.values("resume", row.name, "cpu_us_per_conn"), 1)])
    head = ["server", "bytes per idle viewer", "resident at start, KiB", "connections/s",
            "CPU us each", "the same, resuming 10", "CPU us each"]
    return table(head, lines)


def exact(rows, figures):
    """Counts that do not depend on what else this computer does."""
    lines = []
    for row in rows:
        calls = figures.of("calls", row.name)
        instructions = figures.values("instructions", row.name, "instructions_per_delivery")
        if calls or instructions:
            lines.append([
                row.title, middle(instructions),
                middle(figures.values("calls", row.name, "syscalls_per_delivery"), 3),
                calls[0].get("syscalls", "-") if calls else "-"])
    head = ["server", "user instructions per delivery", "system calls per delivery", "which"]
    return table(head, lines)


def others(rows, figures):
    """16 in flight, and the turn-around of one long-poll."""
    lines = []
    for section, what in [("window", "16 in flight, 1,000 viewers"),
                          ("turn", "one viewer, turn-around")]:
        for row in rows:
            if figures.of(section, row.name):
                joined = " (what came together in one send)" * (
                    row.is_floor and section == "window")
                lines.append([
                    f"{what}: {row.title}{joined}",
                    spread(figures.values(section, row.name, "deliveries_per_s"), 0, 1e-3, " k"),
                    spread(figures.values(section, row.name, "cpu_us_per_delivery"), 2),
                    spread(figures.values(section, row.name, "lat_p50_us"), 0)])
    head = ["shape", "deliveries/s", "CPU us per delivery", "p50 us"]
    return table(head, lines)


def own(figures):
    records = [record for record in figures.records
               if record["section"] == "own" and "failed" not in record]
    lines = [[record["row"], record["name"], f"{record['value']:g} {record['unit']}"]
             for record in records]
    return table(["shape, by our own generator", "figure", "measured"], lines)


def remarks(rows, figures):
    said = [f"Not measured: {row.title} ({row.off})." for row in rows.values() if row.off]
    said += [f"Not as it should be: {line}." for line in figures.untrue()]
    said += [f"Failed: {line}." for line in figures.failures()]
    return "\n".join(f"- {line}" for line in said)


def wrapped(text):
    return textwrap.fill(text, 100, break_on_hyphens=False)


def report(rows, figures, machine):
    """Everything, as it is printed."""
    on = [row for row in rows.values() if not row.off]
    encke = [row for row in on if row.is_encke]
    parts = [
        wrapped(machine),
        comparison(on, figures, figures.viewers()),
        paced(on, figures), viewers(on, figures), others(on, figures), exact(on, figures),
        own(figures), goals.goal_table(encke, figures), remarks(rows, figures)]
    # A table of which nothing was measured has two lines only.
    return "\n\n".join(part for part in parts if part and len(part.splitlines()) != 2)


def compact(rows, figures, machine):
    """What README shows: the goals, and the comparison at 1,000 and 10,000 viewers."""
    on = [row for row in rows.values() if not row.off]
    encke = [row for row in on if row.is_encke]
    shown = [n for n in figures.viewers() if n in (1000, 10000)]
    parts = [wrapped(machine), comparison(on, figures, shown), goals.goal_table(encke, figures),
             remarks(rows, figures)]
    return "\n\n".join(part for part in parts if part)


def into_readme(path, text):
    """Replaces what stands between the marks; says whether they were there."""
    readme = path.read_text()
    pattern = re.escape(OPEN) + r".*?" + re.escape(CLOSE)
    if len(re.findall(pattern, readme, re.S)) != 1:
        return False
    block = f"{OPEN}\n{text}\n{CLOSE}"
    path.write_text(re.sub(pattern, lambda _: block, readme, flags=re.S))
    return True
