"""The servers and the generator: reads the rows, starts a server afresh for each run, and ends it.

Ends only processes that it started itself. It knows of no plan, no figure and no table.
"""

import dataclasses
import json
import os
import pathlib
import re
import shlex
import socket
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
ENCKE_PORT = 9100
PAYLOAD_BYTES = 64
# 64 topics and no history, as the goals for memory say; without sources nothing else is published;
# all viewers come from a few addresses.
CONFIG = """\
[sources]
exclude = ["#"]

[limits]
topics = 64
history_bytes = 0
per_address = 100000
"""


class Trouble(Exception):
    """What went wrong, in a sentence for whoever started the benchmark."""


@dataclasses.dataclass
class Row:
    """One server as one transport sees it. `off` says why it is not measured; empty: it is."""

    name: str
    title: str
    mode: str
    command: list
    sub: str
    pub: str
    extra: list
    viewers_max: int
    pair: str
    off: str
    payload: int = PAYLOAD_BYTES

    @property
    def ports(self):
        return sorted({int(re.search(r":(\d+)", url.split("//")[1])[1])
                       for url in (self.sub, self.pub)})

    @property
    def is_encke(self):
        return self.name.startswith("encke")

    @property
    def is_floor(self):
        return self.name.startswith("floor")


def reference_rows(load, home):
    """The lines of servers.tab by name, also those that wait there to be switched on."""
    found = {}
    for line in (load / "servers.tab").read_text().splitlines():
        fields = line.lstrip("# ").split("|")
        if len(fields) == 7 and fields[2].startswith(("$", "/")):
            found[fields[0]] = [
                field.replace("$B", str(load)).replace("$R", str(home)) for field in fields]
    return found


def read_rows(load, home, encke):
    """Every row of rows.tab, the ones that are switched off too, by name."""
    others = reference_rows(load, home)
    rows = {}
    for line in (HERE / "rows.tab").read_text().splitlines():
        if line.startswith("#") or not line:
            continue
        name, title, source, mode, extra, pair, off = line.split("|")
        if source.startswith("="):
            if source[1:] not in others:
                raise Trouble(f"there is no row {source[1:]} in servers.tab")
            _, mode, command, sub, pub, extra, most = others[source[1:]]
        else:
            base, most = f"http://127.0.0.1:{ENCKE_PORT}", 10000
            command = shlex.join([str(encke), "serve", "--config", str(home / "encke.toml"),
                                  "--listen", f"127.0.0.1:{ENCKE_PORT}"])
            sub, pub = base + source, f"{base}/topics/bench"
        # A header may hold no blank in either table, so blanks part the arguments.
        rows[name] = Row(name, title, mode, shlex.split(command), sub, pub, extra.split(),
                         int(most), pair, off)
    return rows


def may_run_first():
    """Whether this user may ask for SCHED_FIFO, which keeps other programs out of the figures."""
    child = os.fork()
    if child == 0:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def is_free(port):
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class Rig:
    """`home`: where things are built and written. `load`: the reference servers' folder."""

    def __init__(self, home, load, encke):
        self.home, self.load, self.encke = home, load, encke
        self.run_folder = self.home / "run"
        (self.run_folder / "ng").mkdir(parents=True, exist_ok=True)
        (self.home / "encke.toml").write_text(CONFIG)
        self.rows = read_rows(self.load, self.home, encke)
        self.fan = self.home / "target/release/fan"
        cpus = sorted(os.sched_getaffinity(0))
        self.server_cpu, self.fan_cpu = cpus[0], cpus[1 % len(cpus)]
        self.fifo = may_run_first()
        self.process = None

    def leave_out_missing(self):
        """Switches off the rows whose program this computer does not have."""
        for row in self.rows.values():
            if not row.off and not os.access(row.command[0], os.X_OK):
                row.off = f"{os.path.basename(row.command[0])} is not installed"

    def place(self, cpu, timed):
        """To be called in a child: on one CPU, and before everybody else's programs if timed."""
        def move():
            os.sched_setaffinity(0, {cpu})
            if timed:
                self.first()
        return move

    def first(self):
        """To be called in a child: before everybody else's programs, where that is allowed."""
        if self.fifo:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))

    def start(self, row, wrapper=(), more=(), timed=True):
        """Starts the row's server and waits until it answers; returns its processes."""
        for port in row.ports:
            if not is_free(port):
                raise Trouble(f"port {port} is taken, and {row.title} needs it; "
                              f"`ss -ltnp 'sport = :{port}'` shows by whom")
        log = self.run_folder / "server.log"
        with open(log, "w") as out:
            self.process = subprocess.Popen(
                [*wrapper, *row.command, *more], cwd=self.home, stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, preexec_fn=self.place(self.server_cpu, timed))
        end = time.monotonic() + 20
        while not all(answers(port) for port in row.ports):
            if self.process.poll() is not None or time.monotonic() > end:
                said = " / ".join(log.read_text().splitlines()[-3:])
                raise Trouble(f"{row.title} did not start: {said or 'it said nothing'}")
            time.sleep(0.02)
        time.sleep(1.0 if wrapper else 0.2)
        pid = self.process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [str(pid), *children]

    def stop(self):
        if self.process is None:
            return
        process, self.process = self.process, None
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def generate(self, row, pids, arguments, timed=True, limit_s=150):
        """One run of the generator; its figures."""
        command = [
            self.fan, "--name", row.name, "--mode", row.mode, "--sub-url", row.sub,
            "--pub-url", row.pub, "--payload", str(row.payload), "--pids", ",".join(pids),
            "--cpu", str(self.fan_cpu), "--server-cpu", str(self.server_cpu), "--quiet",
            *row.extra, *arguments]
        try:
            done = subprocess.run(
                list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=limit_s, preexec_fn=self.place(self.fan_cpu, timed))
        except subprocess.TimeoutExpired:
            raise Trouble(f"{row.title}: the generator did not end within {limit_s} s") from None
        if done.returncode != 0:
            said = " / ".join(done.stderr.splitlines()[:3])
            raise Trouble(f"{row.title}: the generator ended with {done.returncode}: {said}")
        return json.loads(done.stdout.splitlines()[-1])

    def measure(self, row, arguments, more=(), timed=True):
        """A server of its own for one run of the generator."""
        try:
            return self.generate(row, self.start(row, (), more, timed), arguments, timed)
        finally:
            self.stop()

    def instructions(self, row):
        """User instructions per delivery: the slope between two counts of messages to 100.

        The longer the run, the less the rest counts; a long-poll has a thousand times as many.
        """
        if re.match(r"node|python", os.path.basename(row.command[0])):
            return None  # what a compiler at run time or an interpreter does is no fixed count
        totals, counts = [], (25, 75) if row.mode == "longpoll" else (50, 150)
        for messages in counts:
            for old in self.run_folder.glob("callgrind.*"):
                old.unlink()
            wrapper = ["valgrind", "--tool=callgrind", "--trace-children=yes",
                       "--callgrind-out-file=/dev/null",
                       f"--log-file={self.run_folder}/callgrind.%p"]
            try:
                pids = self.start(row, wrapper, timed=False)
                figures = self.generate(
                    row, pids, ["-n", 100, "-m", messages, "--warmup", 20, "--max-seconds", 60,
                                "--drain", 20, "--settle-ms", 100], timed=False)
            finally:
                self.stop()
            if figures["delivered"] != 100 * messages:
                raise Trouble(f"{row.title}: not every message arrived under valgrind")
            logs = [log.read_text() for log in self.run_folder.glob("callgrind.*")]
            totals.append(sum(int(n) for log in logs
                              for n in re.findall(r"Collected : (\d+)", log)))
        return (totals[1] - totals[0]) / (100 * (counts[1] - counts[0]))

    def frame_bytes(self, row):
        """What one delivery of this row weighs on the wire, as the generator counts it."""
        arguments = ["-n", 10, "-m", 80, "--warmup", 20, "--settle-ms", 20, "--max-seconds", 5]
        return self.measure(row, arguments, timed=False)["wire_bytes_per_delivery"]

    def level_frames(self, names):
        """Gives each of the floors in `names` the payload with which its frames are as long."""
        for row in self.rows.values():
            floor = self.rows.get(row.pair)
            if row.off or row.pair not in names or floor.off or not floor.is_floor:
                continue
            floor.payload = PAYLOAD_BYTES
            more = self.frame_bytes(row) - self.frame_bytes(floor)
            floor.payload = max(46, PAYLOAD_BYTES + round(more))
