"""The goals, what was measured of each, and whether it is met. A median decides, never the best."""

import dataclasses
import statistics

from figures import number, spread, table


@dataclasses.dataclass
class Goal:
    """`values` in the goal's unit. `least`: the goal is a least value, else a most one."""

    figure: str
    limit: float
    values: list
    digits: int = 2
    unit: str = ""
    least: bool = False

    def is_met(self):
        """None where nothing was measured. What is printed decides, not the digits behind it."""
        if not self.values:
            return None
        found = round(statistics.median(self.values), self.digits)
        return found >= self.limit if self.least else found <= self.limit

    def line(self):
        sign = "at least" if self.least else "at most"
        met = {None: "not measured", True: "yes", False: "**no**"}[self.is_met()]
        return [self.figure, f"{sign} {number(self.limit, self.digits)}{self.unit}",
                spread(self.values, self.digits, unit=self.unit), met]


# What our own generator counts: shape, the end of its line's name, figure, goal, digits, unit.
OWN = [
    ("slow", "beside_1.ratio", "p99 of 1,000 viewers beside one that reads 1 byte/s, against none",
     1.2, 2, " x"),
    ("slow", "beside_100.ratio", "the same beside 100 such", 1.2, 2, " x"),
    ("sets", "insn_ratio", "instructions per delivery, 1,000 sets of topics against one",
     2.0, 2, " x"),
    ("idle", "cpu", "CPU of an idle viewer of 1,000, heartbeats only, each second", 2.0, 2, " us"),
    ("timer", "late_max", "a timer of 5 ms beside bursts to 10,000 viewers: most late",
     20, 1, " ms"),
]


def kind(row):
    return row.title.split(", ")[1]


def exact(rows, figures):
    for row in rows:
        wait = row.mode == "longpoll"
        yield Goal(f"user instructions per delivery, 100 viewers, {kind(row)}",
                   1000 if wait else 80,
                   figures.values("instructions", row.name, "instructions_per_delivery"), 0)
    for row in rows:
        if row.mode != "longpoll":
            yield Goal(f"sends per delivery at low load, {kind(row)}", 1.00,
                       figures.values("calls", row.name, "sends_per_delivery"))
            yield Goal(f"other system calls per turn, {kind(row)}", 3,
                       figures.values("calls", row.name, "other_calls_per_turn"), 1)


def memory(rows, figures):
    for row in rows:
        if row.mode != "longpoll":
            yield Goal(f"bytes of ours per idle viewer, {kind(row)}",
                       96 if row.mode == "ws" else 48,
                       figures.slope("memory", row.name, "anon_idle"), 0)
    mib = 1 / 1048576
    first = rows[0].name
    base = [value * mib for value in figures.values("memory", first, "rss_base")]
    yield Goal("resident memory at start, 64 topics", 1.0, base, 2, " MiB")
    most = [record["n"] for record in figures.of("memory", first)]
    full = [value * mib for value in figures.values("memory", first, "rss_after", max(most))] \
        if most and max(most) == 10000 else []
    yield Goal("resident memory with 10,000 idle viewers", 1.8, full, 2, " MiB")


def timed(rows, figures):
    for row in rows:
        wait = row.mode == "longpoll"
        for n in figures.viewers():
            than = "nchan" if wait else "the floor"
            yield Goal(f"CPU per delivery against {than}, {number(n)} viewers, {kind(row)}",
                       0.6 if wait else 1.0,
                       figures.ratios("closed", row.name, row.pair, "cpu_us_per_delivery", n),
                       2, " x")
    yield Goal("deliveries/s against the floor, 1,000 viewers, 16 in flight", 0.9,
               figures.ratios("window", "encke-sse", "floor-sse", "deliveries_per_s"),
               2, " x", True)
    yield Goal("CPU per connection against the floor, all at once resuming 10 events", 1.05,
               figures.ratios("resume", "encke-sse", "floor-sse", "cpu_us_per_conn"), 2, " x")
    yield Goal("p50 against the floor, 1,000 viewers, 10 events/s", 1.0,
               figures.ratios("paced", "encke-sse", "floor-sse", "lat_p50_us"), 2, " x")


def own(figures):
    for shape, ending, figure, limit, digits, unit in OWN:
        values = [record["value"] for record in figures.of("own", shape)
                  if record["name"].endswith("." + ending)]
        yield Goal(figure, limit, values, digits, unit)


def goals(rows, figures):
    """`rows`: Encke's rows that are on, in order."""
    return [*exact(rows, figures), *memory(rows, figures), *timed(rows, figures), *own(figures)]


def goal_table(rows, figures):
    every = [goal for goal in goals(rows, figures) if figures.whole or goal.values]
    met = sum(goal.is_met() is True for goal in every)
    missed = sum(goal.is_met() is False for goal in every)
    head = ["figure", "goal", "measured", "met"]
    note = (f"{met} of {len(every)} goals are met, {missed} are not"
            + (f", {len(every) - met - missed} were not measured" * (met + missed < len(every)))
            + ". Allocations are counted by `cargo test --test suite alloc`. The floor is a little"
            " loose: below 1.00 x does not mean faster than the kernel.")
    return table(head, [goal.line() for goal in every]) + "\n\n" + note
