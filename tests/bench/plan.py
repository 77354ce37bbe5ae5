"""What is measured and in which order: interleaved, so that a slow minute hits every server alike.

Makes a list of jobs and nothing else.
"""

import dataclasses

# What our own generator measures, with which flags, and for how many seconds about.
SHAPES = {"slow": ([], 110), "sets": (["--insn"], 60), "conflate": ([], 14), "restart": ([], 14),
          "replay": ([], 10), "idle": ([], 47), "timer": ([], 14)}
# Few and many who only wait: memory comes in pages, so the slope between them has to be long.
IDLE = (100, 10000)
RESUME = ["--sub-header", "Last-Event-ID: {last_id}"]


@dataclasses.dataclass
class Job:
    """One run. `more` goes to the server's command; `cost_s` is a guess at how long it takes."""

    section: str
    row: str
    n: int
    round: int
    arguments: list
    cost_s: float
    more: tuple = ()

    @property
    def title(self):
        return f"{self.section} {self.row}"


@dataclasses.dataclass
class Size:
    """How much of everything: `rounds` of pairs, of which each `other_every`th has all servers.

    Where it is not `thorough`, what is slow is left to Encke and the floor.
    """

    viewers: list
    rounds: int
    other_every: int
    seconds: float
    settle_ms: int
    short_rounds: int
    storm_viewers: int
    paced_seconds: float
    thorough: bool


FULL = Size([100, 1000, 5000, 10000], 9, 3, 1.0, 100, 5, 5000, 3.0, True)
QUICK = Size([100, 1000], 3, 3, 0.4, 50, 1, 1000, 1.5, False)


def in_pairs(rows):
    """Every row that is on, each one followed by what it is compared with; and who is in a pair."""
    pairs = []
    for row in rows.values():
        if row.is_encke and not row.off:
            pairs += [name for name in (row.name, row.pair) if not rows[name].off]
    others = [row.name for row in rows.values() if not row.off and row.name not in pairs]
    return pairs, others


def servers(rows, size, number):
    """The names of this round, counted from 0."""
    pairs, others = in_pairs(rows)
    return pairs + (others if number % size.other_every == 0 else [])


def closed(rows, size):
    for number in range(size.rounds):
        for n in size.viewers:
            for name in servers(rows, size, number):
                if n > rows[name].viewers_max:
                    continue
                arguments = ["-n", n, "-m", 1000000, "--max-seconds", size.seconds, "--drain", 20,
                             "--warmup", 20 if n < 5000 else 5, "--settle-ms", size.settle_ms]
                yield Job("closed", name, n, number, arguments, size.seconds + 1.6 + n / 5000)


def window(rows, size):
    """16 messages in flight; the floor in the form that puts what came together into one send."""
    for number in range(size.short_rounds):
        for name, more in [("encke-sse", ()), ("floor-sse", ("-b",))]:
            arguments = ["-n", 1000, "-m", 1000000, "--max-seconds", size.seconds, "--window", 16,
                         "--drain", 20, "--settle-ms", size.settle_ms]
            yield Job("window", name, 1000, number, arguments, size.seconds + 2, more)


def paced(rows, size):
    for number in range(size.short_rounds):
        names = servers(rows, size, number if size.thorough else 1)
        for name in names:
            seconds = size.paced_seconds
            arguments = ["-n", 1000, "-m", int(10 * seconds), "--rate", 10,
                         "--max-seconds", seconds, "--settle-ms", size.settle_ms]
            yield Job("paced", name, 1000, number, arguments, seconds + 2)


def storm(rows, size):
    """Everybody connects at once: with ten messages to catch up, and with none."""
    n = size.storm_viewers
    base = ["-n", n, "--storm", 30, "--conc", 1000, "--settle-ms", size.settle_ms]
    for number in range(size.short_rounds):
        names = servers(rows, size, number)
        for name in ("encke-sse", "floor-sse", "nchan-sse"):
            if name in rows and not rows[name].off:
                yield Job("resume", name, n, number, [*base, "--storm-back", 10, *RESUME], 2.5)
        for name in names:
            # Only a transport that answers at once says when a connection is established.
            if rows[name].mode in ("sse", "stream", "ws"):
                yield Job("connect", name, n, number, [*base, "--storm-back", 0], 2.5)


def memory(rows, size):
    """Nothing but viewers who wait; the resident size is read after one message."""
    for number in range(min(3, size.short_rounds)):
        for n in IDLE:
            for row in rows.values():
                if row.is_encke and not row.off:
                    arguments = ["-n", n, "-m", 1, "--warmup", 0, "--max-seconds", 0.1,
                                 "--settle-ms", 300]
                    yield Job("memory", row.name, n, number, arguments, 2 + n / 5000)


def turn_around(rows, size):
    """One viewer: publish, answer, ask again."""
    for number in range(size.short_rounds):
        for row in rows.values():
            if row.mode == "longpoll" and not row.off:
                arguments = ["-n", 1, "-m", 1000000, "--max-seconds", size.seconds,
                             "--settle-ms", size.settle_ms]
                yield Job("turn", row.name, 1, number, arguments, size.seconds + 2)


def counts(rows, size):
    pairs, others = in_pairs(rows)
    names = pairs + others if size.thorough else [
        name for name in pairs if rows[name].is_encke]
    for name in names:
        yield Job("calls", name, 200, 0,
                  ["-n", 200, "-m", 400, "--max-seconds", 30, "--strace", "--settle-ms", 100], 6)
    for name in names:
        yield Job("instructions", name, 100, 0, [], 14)


def own(rows, size):
    for shape, (flags, cost_s) in SHAPES.items() if size.thorough else ():
        yield Job("own", shape, 0, 0, [shape, "--transport", "sse", *flags], cost_s)


def jobs(rows, size):
    parts = [closed, window, paced, storm, memory, turn_around, counts, own]
    return [job for part in parts for job in part(rows, size)
            if job.section == "own" or not rows[job.row].off]
