"""What a delivery and a viewer cost, in exact counts: instructions, system calls, bytes.

valgrind and strace watch the release binary while a client of this test's own publishes one event
after another, the next when everybody has the last. A figure is the slope between two numbers of
events or of viewers, so that what start and end cost cancels out. Nothing here is a time.
ENCKE_BIN is the binary; ENCKE_MUSL_BIN a static one, which is built here if it is not named.
"""

import collections
import os
import pathlib
import platform
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import unittest

import common

# By a kind of `KINDS`. A poll is a request as well; 1,000 is what is wanted, and some for a longer
# head.
INSTRUCTIONS_MAX = {
    **dict.fromkeys(["sse", "stream", "multipart", "iframe", "ws"], 80),
    **{"poll": 1000, "poll xml": 1050, "jsonp": 1050},
}
OTHER_CALLS_PER_TURN_MAX = 3
VIEWER_BYTES_MAX = 48
BASE_KIB_MAX = 1024
FULL_KIB_MAX = 1843  # 1.8 MiB
# How many listen, and how many events there are: in a short and a long run, where two are needed.
COUNTED_VIEWERS, COUNTED_EVENTS = 100, (100, 400)
TRACED_VIEWERS, TRACED_EVENTS = 200, 41
FEW_VIEWERS, MANY_VIEWERS = 100, 10_000
TOPICS = 64
# What nothing but the program itself keeps: all but code and constants, which the kernel maps from
# its cache, 64 KiB around each page that is used.
FULL_ANONYMOUS_KIB_MAX = 1024
# What the start used is let go of 0.2 s after it; what the search for sensors used, every 10 s.
SETTLED_S, LET_GO_S = 1, 25

CONFIG = common.QUIET + (
    "[server]\nheartbeat = 30\n"
    f"[limits]\nviewers = {MANY_VIEWERS}\ntopics = {TOPICS}\nring_bytes = 65536\n"
    "history_bytes = 0\nper_address = 100000\n"
    '[jsonp]\ntopics = ["t"]\n'
)


class Server(common.Server):
    """A server below a program that counts; `tool` is the beginning of its command."""

    def __init__(self, tool="", binary=common.BIN):
        self.tool, self.binary = tool.split(), binary
        super().__init__(CONFIG)

    def start(self):
        command = [*self.tool, self.binary, "serve", "--config", self.config]
        command += ["--listen", f"127.0.0.1:{self.port}"]
        folder = pathlib.Path(self.folder.name)
        with open(folder / "log", "a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        common.wait_until(self.answers, 60, "the server's first answer")

    def end(self, how=signal.SIGTERM):
        """As ever; but strace is left to end with the server, which is its child."""
        path = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        if self.process.poll() is None and (children := path.read_text().split()):
            os.kill(int(children[0]), how)
            self.process.wait(10)
        return super().end(how)

    def counts(self):
        """Ends it; what the tool wrote."""
        assert self.end() == 0, "it ended badly"
        return (pathlib.Path(self.folder.name) / "counts").read_text()


class Viewer:
    """One connection that listens; what a stream and a poll have in common."""

    QUERY, FIELDS, STATUS = "", "", b"HTTP/1.1 200 OK\r\n"

    def __init__(self, port, path):
        version = f"HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{self.FIELDS}\r\n"
        self.head = f"GET {path}?{self.QUERY}%s {version}"
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.file = self.sock.makefile("rb")

    def close(self):
        """By a reset: at a mere end, the server would look whether somebody still reads."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.file.close()
        self.sock.close()

    def fields(self):
        """Reads the head of an answer."""
        status = self.file.readline()
        assert status == self.STATUS, status
        lines = iter(self.file.readline, b"\r\n")
        return dict(line.decode().strip().lower().split(": ", 1) for line in lines)


class Stream(Viewer):
    def __init__(self, port, path):
        super().__init__(port, path)
        self.sock.sendall((self.head % "&snapshot=0").encode())
        self.fields()
        while b'"reset":false' not in self.chunk():
            pass

    def chunk(self):
        size = int(self.file.readline(), 16)
        return self.file.read(size + 2)[:-2]

    def ask(self):
        """It need not: it is told."""

    def hear(self):
        chunk = self.chunk()
        return self.hear() if b"heartbeat" in chunk else chunk


class Iframe(Stream):
    QUERY = "callback=parent.f&limit=1e9"


class Socket(Stream):
    STATUS = b"HTTP/1.1 101 Switching Protocols\r\n"
    FIELDS = (
        "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )

    def chunk(self):
        """A frame's payload."""
        (_, size) = self.file.read(2)
        if size == 126:
            size = int.from_bytes(self.file.read(2), "big")
        return self.file.read(size)


class Poll(Viewer):
    LAST = re.compile(rb'"last":"([^"]+)"')

    def __init__(self, port, path):
        super().__init__(port, path)
        self.sock.sendall((self.head % "&snapshot=0").encode())
        self.hear()

    def ask(self):
        self.sock.sendall((self.head % f"&since={self.last}&timeout=60").encode())

    def hear(self):
        body = self.file.read(int(self.fields()["content-length"]))
        self.last = self.LAST.search(body)[1].decode()
        return body


class Xml(Poll):
    FIELDS = "Accept: application/xml\r\n"
    LAST = re.compile(rb"<last>([^<]+)</last>")


class Jsonp(Poll):
    QUERY = "callback=f"


KINDS = {
    "sse": Stream,
    "stream": Stream,
    "multipart": Stream,
    "iframe": Iframe,
    "ws": Socket,
    "poll": Poll,
    "poll xml": Xml,
    "jsonp": Jsonp,
}


def work(server, way, viewers, events):
    """So many viewers get so many events, one after another; all get the same bytes."""
    path = "/events/" + way.split()[0]
    audience = [KINDS[way](server.port, path) for _ in range(viewers)]
    publisher = Viewer(server.port, "")
    for number in range(events):
        for viewer in audience:
            viewer.ask()
        value = f'"{number:062}"'.encode()
        head = f"POST /topics/t HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: 64\r\n"
        publisher.sock.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + value)
        length = int(publisher.fields()["content-length"])
        publisher.file.read(length)
        heard = {viewer.hear() for viewer in audience}
        assert len(heard) == 1 and value in min(heard), heard
        assert b'"topic":"t"' in min(heard) or b"<topic>t</topic>" in min(heard), heard
    for viewer in [*audience, publisher]:
        viewer.close()
    return server.counts()


def show(what, figure, most):
    print(f"{what}: {figure:.2f} (at most {most})", file=sys.stderr, flush=True)


class Instructions(unittest.TestCase):
    """User instructions per delivery, publishing included."""

    TOOL = "valgrind --tool=callgrind --callgrind-out-file=/dev/null --log-file=counts"

    def total(self, way, events):
        with Server(self.TOOL) as server:
            counts = work(server, way, COUNTED_VIEWERS, events)
        return int(re.search(r"Collected : (\d+)", counts)[1])

    def check(self, way):
        short, long = COUNTED_EVENTS
        slope = self.total(way, long) - self.total(way, short)
        figure = slope / ((long - short) * COUNTED_VIEWERS)
        show(f"user instructions per delivery, {way}", figure, INSTRUCTIONS_MAX[way])
        self.assertLessEqual(figure, INSTRUCTIONS_MAX[way])

    def test_each_way(self):
        for way in KINDS:
            with self.subTest(way):
                self.check(way)


class SystemCalls(unittest.TestCase):
    """One send for each delivery and one for each answer to the publisher, and little else."""

    TOOL = "strace -f -s 8 -o counts"
    CALL = re.compile(r"^\d+ +(\w+)\((?:\d+, )?(\"POST|\"GET|\[\{nlmsg)?", re.MULTILINE)
    # Every five seconds the board's addresses are read again, which takes about 30 calls.
    REREADING = {"socket", "bind", "getsockname", "recvmsg", "ioctl", "close", "openat", "statx"}
    REREADING_CALLS_MAX = 40

    def trace(self, way, events):
        """Counts of all calls from the first event's request up to the last one's."""
        with Server(self.TOOL) as server:
            calls = self.CALL.findall(work(server, way, TRACED_VIEWERS, events))
        posts = [at for at, (_, what) in enumerate(calls) if what == '"POST']
        self.assertEqual(len(posts), events, "strace sees each request")
        return collections.Counter(calls[posts[0] : posts[-1]])

    def check(self, way):
        calls = self.trace(way, TRACED_EVENTS)
        turns = events = TRACED_EVENTS - 1
        deliveries = events * TRACED_VIEWERS
        sends = calls.pop(("sendto", ""))
        reread = [call for call in calls if call[0] in self.REREADING or "nlmsg" in call[1]]
        self.assertLessEqual(sum(calls.pop(call) for call in reread), self.REREADING_CALLS_MAX)
        if way == "poll":
            # Each is asked for, and those requests come in as many turns as they like, some of
            # them behind the last event's.
            asked = calls.pop(("recvfrom", '"GET'))
            self.assertAlmostEqual(asked, deliveries, delta=TRACED_VIEWERS)
            turns = calls["epoll_wait", ""] + calls["epoll_pwait", ""]
        figure = (sends - events) / deliveries
        others = sum(calls.values()) / turns
        names = ", ".join(f"{name} {times / turns:.2f}" for (name, _), times in calls.items())
        show(f"sends per delivery, {way}", figure, 1)
        show(f"other calls per turn, {way}: {names}", others, OTHER_CALLS_PER_TURN_MAX)
        self.assertEqual(figure, 1)
        self.assertLessEqual(others, OTHER_CALLS_PER_TURN_MAX)

    def test_sse(self):
        self.check("sse")

    def test_stream(self):
        self.check("stream")

    def test_poll(self):
        self.check("poll")


def musl_binary():
    """A static binary, or else why there is none."""
    if named := os.environ.get("ENCKE_MUSL_BIN"):
        return named, None
    machine = platform.machine()
    if machine not in ("x86_64", "aarch64") or not shutil.which("rustc"):
        return None, f"no static binary can be built here ({machine}); ENCKE_MUSL_BIN may name one"
    target = f"{machine}-unknown-linux-musl"
    asked = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True)
    if not pathlib.Path(asked.stdout.strip(), "lib/rustlib", target).is_dir():
        return None, f"Rust lacks a target; run: rustup target add {target}"
    command = [common.ROOT / "scripts/cross", machine]
    built = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    assert built.returncode == 0, f"scripts/cross {machine} ended with {built.returncode}"
    return common.ROOT / built.stdout.strip(), None


class Memory(unittest.TestCase):
    """What viewers that hear nothing take of the process, and the process without any."""

    @classmethod
    def setUpClass(cls):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        if most < MANY_VIEWERS + 500:
            raise unittest.SkipTest(f"a process may have {most} descriptors here, which is too few")
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    @staticmethod
    def kib(server):
        text = pathlib.Path(f"/proc/{server.process.pid}/smaps_rollup").read_text()
        rows = re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)
        return {name: int(kib) for name, kib in rows}

    @staticmethod
    def fill(server, way, viewers, count):
        """Connects until there are so many, some at a time, each greeted."""
        head = f"GET /events/{way}?snapshot=0 HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n"
        while len(viewers) < count:
            some = []
            for _ in range(min(50, count - len(viewers))):
                some.append(socket.create_connection(("127.0.0.1", server.port), timeout=60))
                some[-1].sendall(head.encode())
            for viewer in some:
                heard = b""
                while b'"reset":false' not in heard:
                    piece = viewer.recv(4096)
                    assert piece, f"number {len(viewers)} was not greeted: {heard}"
                    heard += piece
                viewers.append(viewer)

    def measure(self, binary, way, settles=False):
        """Memory without viewers, with few, and with many; then if need be when it `settles`."""
        viewers, kib = [], []
        with Server(binary=binary) as server:
            time.sleep(SETTLED_S)
            kib.append(self.kib(server))
            for count in (FEW_VIEWERS, MANY_VIEWERS):
                self.fill(server, way, viewers, count)
                kib.append(self.kib(server))
            deadline = time.monotonic() + LET_GO_S
            while settles and kib[-1]["Rss"] > FULL_KIB_MAX and time.monotonic() < deadline:
                time.sleep(0.5)
                kib[-1] = self.kib(server)
            for viewer in viewers:
                viewer.close()
        return kib

    def check(self, way):
        _, few, many = self.measure(common.BIN, way)
        grown = max(many[name] - few[name] for name in ("Private_Dirty", "Anonymous"))
        figure = grown * 1024 / (MANY_VIEWERS - FEW_VIEWERS)
        show(f"bytes per idle viewer, {way}", figure, VIEWER_BYTES_MAX)
        self.assertLessEqual(figure, VIEWER_BYTES_MAX)

    def test_sse(self):
        self.check("sse")

    def test_stream(self):
        self.check("stream")

    def test_static_binary(self):
        binary, why = musl_binary()
        if not binary:
            self.skipTest(why)
        base, _, full = self.measure(binary, "sse", settles=True)
        show("KiB resident, static, without viewers", base["Rss"], BASE_KIB_MAX)
        show(f"KiB resident, static, {MANY_VIEWERS} viewers", full["Rss"], FULL_KIB_MAX)
        show("KiB of those without code", full["Anonymous"], FULL_ANONYMOUS_KIB_MAX)
        with self.subTest("without viewers"):
            self.assertLessEqual(base["Rss"], BASE_KIB_MAX)
        with self.subTest("with all of them"):
            self.assertLessEqual(full["Rss"], FULL_KIB_MAX)
        with self.subTest("with all of them, without code"):
            self.assertLessEqual(full["Anonymous"], FULL_ANONYMOUS_KIB_MAX)


def main():
    """Runs all of it; the closing line is added up by scripts/test."""
    result = unittest.main(verbosity=2, exit=False).result
    failed, skipped = len(result.failures) + len(result.errors), len(result.skipped)
    passed = max(0, result.testsRun - failed - skipped)
    skips = f", {skipped} skipped" if skipped else ""
    print(f"floor: {passed} passed, {failed} failed{skips}", flush=True)
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
