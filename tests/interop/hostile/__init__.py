"""What the tests of hostile clients share: a server that can be looked into, ordinary clients
beside it, and crowds of connections that behave as told.
"""

import http.client
import ipaddress
import json
import os
import pathlib
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import common
from hostile import network

if "ENCKE_BIN" not in os.environ and not pathlib.Path(common.BIN).exists():
    common.BIN = str(common.ROOT / "target/debug/encke")
IS_DEBUG = "/debug/" in common.BIN

# Whoever ends this test ends it as Ctrl-C does: namespaces are taken away, processes ended.
signal.signal(signal.SIGTERM, signal.default_int_handler)

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
TOLD_BYTES_MAX = 4096


def get(path, *fields, host="localhost"):
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode()


def status_of(told):
    """The status in what a hostile client was told last; 0 for nothing."""
    found = re.findall(rb"HTTP/1\.1 (\d{3})", told)
    return int(found[-1]) if found else 0


class Board(common.Server):
    """A server in a namespace or here, that can be looked into. `nofile` limits its descriptors."""

    def __init__(self, config="", listen=(), namespace=None, nofile=None):
        self.listen, self.namespace, self.nofile = listen, namespace, nofile
        self.held = {}  # by the address and port of a client: when it was seen last
        self.looked = 0.0
        self.watching = False
        super().__init__(common.QUIET + config)
        self.watching = True
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()

    def start(self):
        command = [common.BIN, "serve", "--config", str(self.config)]
        command += ["--listen", f"127.0.0.1:{self.port}"]
        for address in self.listen:
            command += ["--listen", f"{address}:{self.port}"]
        if self.nofile:
            command = ["prlimit", f"--nofile={self.nofile}:{self.nofile}", *command]
        if self.namespace:
            command = ["ip", "netns", "exec", self.namespace, *command]
        # It does not outlive this test, however that ends.
        command = ["setpriv", "--pdeathsig", "KILL", *command]
        with open(pathlib.Path(self.folder.name) / "log", "a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            common.wait_until(self.answers, what="the server's first answer")
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def __exit__(self, *rest):
        self.watching = False
        self.watcher.join()
        try:
            super().__exit__(*rest)
        except AssertionError:
            self.folder.cleanup()
            raise

    def connect(self, to="127.0.0.1", source=None, namespace="", receive_bytes=None, seconds=10):
        """A connection; `namespace` is where from: the server's own unless told."""
        name = self.namespace if namespace == "" else namespace
        family = socket.AF_INET6 if ":" in to else socket.AF_INET
        with network.inside(name):
            sock = socket.socket(family)
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.settimeout(seconds)
        try:
            if source:
                sock.bind((source, 0))
            sock.connect((to, self.port))
        except OSError:
            sock.close()
            raise
        return sock

    def request(self, method, path, body=None, fields=None, **where):
        """As `common.Server.request`, from wherever `connect` says."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.sock = self.connect(**where)
        try:
            connection.request(method, path, body, fields or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def metrics(self):
        status, _, body = self.request("GET", "/metrics")
        assert status == 200, body
        rows = (line.rsplit(" ", 1) for line in body.decode().splitlines() if line[0] != "#")
        return {name: float(value) for name, value in rows}

    def viewers(self):
        return json.loads(self.request("GET", "/health")[2])["viewers"]

    def log(self):
        return (pathlib.Path(self.folder.name) / "log").read_text()

    def rss_kib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu_s(self):
        """Seconds of processor time it has used, of its own and the kernel's."""
        text = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
        fields = text.rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def held_now(self):
        """The addresses and ports whose connections the server has a descriptor for now."""
        found = set()
        for name in ("tcp", "tcp6"):
            rows = pathlib.Path(f"/proc/{self.process.pid}/net/{name}").read_text().splitlines()[1:]
            for row in rows:
                _, local, remote, state, *_ , inode = row.split()[:10]
                # One that nobody has accepted, or has let go of, has no inode.
                if inode != "0" and state != "0A" and int(local.split(":")[1], 16) == self.port:
                    found.add(endpoint(remote))
        return found

    def watch(self):
        while self.watching:
            now = time.monotonic()
            try:
                held = self.held_now()
            except OSError:
                return
            self.held.update(dict.fromkeys(held, now))
            self.looked = now
            time.sleep(0.2)


def endpoint(text):
    """An address and a port as the kernel's tables have them: words in the machine's order."""
    address, port = text.split(":")
    words = [address[at : at + 8] for at in range(0, len(address), 8)]
    packed = b"".join(struct.pack("=I", int(word, 16)) for word in words)
    return plain(str(ipaddress.ip_address(packed))), int(port, 16)


def plain(address):
    """An IPv4 address as such, also where it is mapped into IPv6."""
    address = ipaddress.ip_address(address)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


class Ordinary:
    """What the ordinary clients of a board see (ordinary.py). A context."""

    def __init__(self, board):
        path = pathlib.Path(__file__).resolve().parent / "ordinary.py"
        command = [sys.executable, str(path), str(board.port)]
        if board.namespace:
            command = ["ip", "netns", "exec", board.namespace, *command]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def since(self):
        """What was seen since this was asked last."""
        self.process.stdin.write("next\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the ordinary clients ended"
        return json.loads(line)


class Member:
    """One connection of a crowd."""

    def __init__(self, sock):
        self.socket = sock
        self.key = plain(sock.getsockname()[0].split("%")[0]), sock.getsockname()[1]
        self.opened = time.monotonic()
        self.told = b""
        self.greeted = False
        self.closed = None
        self.how = "open"


class Crowd:
    """`count` connections that send `first`, then the bytes of `drip`, one a second, and read
    `all`, `none`, or one `byte` a second. `of` says how each connects. A context.
    """

    def __init__(self, board, count, first=b"", drip=b"", read="all", of=None):
        self.board, self.drip, self.read = board, drip, read
        self.members, self.refused = [], 0
        self.is_over = False
        self.dripped = 0
        connect = of or (lambda _: board.connect(receive_bytes=None if read == "all" else 4096))
        for number in range(count):
            try:
                sock = connect(number)
                sock.sendall(first(number) if callable(first) else first)
                sock.setblocking(False)
                self.members.append(Member(sock))
            except OSError:
                self.refused += 1
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """Closes every connection."""
        self.is_over = True
        self.thread.join()
        for member in self.members:
            member.socket.close()

    def run(self):
        # What is never read shows its end only as an event.
        poll = select.poll()
        events = select.POLLRDHUP | (select.POLLIN if self.read == "all" else 0)
        by_fd = {}
        for member in self.members:
            poll.register(member.socket, events)
            by_fd[member.socket.fileno()] = member
        second = time.monotonic() + 1
        while not self.is_over:
            for fd, event in poll.poll(50):
                self.hear(poll, by_fd[fd], event)
            if time.monotonic() >= second:
                second += 1
                self.tick()

    def hear(self, poll, member, event):
        if event & select.POLLIN:
            try:
                while piece := member.socket.recv(65536):
                    member.told = (member.told + piece)[-TOLD_BYTES_MAX:]
                    member.greeted |= b"event: hello" in member.told
            except BlockingIOError:
                return
            except OSError:
                return self.close(poll, member, "reset")
            return self.close(poll, member, "closed")
        if event & (select.POLLERR | select.POLLHUP):
            return self.close(poll, member, "reset")
        if event & select.POLLRDHUP:
            self.close(poll, member, "closed")

    def close(self, poll, member, how):
        member.closed, member.how = time.monotonic(), how
        poll.unregister(member.socket)
        # A client that is told of the end, and does not go of itself.

    def tick(self):
        byte = self.drip[self.dripped : self.dripped + 1]
        self.dripped += 1
        for member in self.members:
            if member.closed is not None:
                continue
            try:
                if byte:
                    member.socket.send(byte)
                if self.read == "byte":
                    member.told = (member.told + member.socket.recv(1))[-TOLD_BYTES_MAX:]
            except OSError:
                continue

    def held_s(self):
        """For how long the server had a descriptor for each, in seconds; `None` while it has."""
        looked, seconds = self.board.looked, []
        for member in self.members:
            # One that was gone between two looks was held for less than the time between them.
            last = self.board.held.get(member.key, member.opened)
            seconds.append(None if last >= looked else max(0.0, last - member.opened))
        return seconds

    def statuses(self):
        """How many were told which status last."""
        found = {}
        for member in self.members:
            status = status_of(member.told)
            found[status] = found.get(status, 0) + 1
        return found

    def ends(self):
        """How many saw which end."""
        found = {}
        for member in self.members:
            found[member.how] = found.get(member.how, 0) + 1
        return found


class Flood(Crowd):
    """One connection that sends `count` requests without waiting for answers, which it reads as
    fast as they come (`all`), never (`none`) or 1,000 bytes a second (`slow`)."""

    REQUEST = get("/health")

    def __init__(self, board, count, read):
        self.count, self.sent_bytes, self.answers = count, 0, 0
        super().__init__(board, 1, read=read)

    @property
    def sent(self):
        return self.sent_bytes // len(self.REQUEST)

    def run(self):
        member = self.members[0]
        blob = memoryview(self.REQUEST * 1000)
        left = self.count * len(self.REQUEST)
        poll, second = select.poll(), time.monotonic()
        tail = b""
        while not self.is_over and member.closed is None:
            wanted = select.POLLRDHUP | (select.POLLOUT if left else 0)
            wanted |= select.POLLIN if self.read == "all" else 0
            poll.register(member.socket, wanted)
            event = sum(event for _, event in poll.poll(50))
            try:
                if event & select.POLLOUT:
                    at = self.sent_bytes % len(self.REQUEST)
                    taken = member.socket.send(blob[at : at + left])
                    self.sent_bytes += taken
                    left -= taken
                if self.read == "all" and event & select.POLLIN:
                    piece = tail + member.socket.recv(1 << 18)
                    self.answers += piece.count(b"HTTP/1.1 200 OK")
                    tail = piece[-14:]
                    member.told = tail
                if self.read == "slow" and time.monotonic() >= second:
                    second += 1
                    member.told = member.socket.recv(1000)
            except BlockingIOError:
                pass
            except OSError:
                event |= select.POLLERR
            if event & (select.POLLERR | select.POLLHUP | select.POLLRDHUP):
                self.close(poll, member, "reset" if event & select.POLLERR else "closed")
