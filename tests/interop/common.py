"""What the interop tests share: a server and an nginx of their own, requests, raw bytes, a proxy that
cuts, a closing line.

Everything listens on 127.0.0.1, every wait ends, and only processes started here are ended.
"""

import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = os.environ.get("ENCKE_BIN", str(ROOT / "target/release/encke"))
QUIET = '[sources]\nexclude = ["#"]\n'


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def wait_until(is_so, seconds=10.0, what="it"):
    """Polls `is_so` until it returns something true, which is returned."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = is_so()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {seconds} s")


def run(command, ok=(0,), seconds=20, **how):
    """A program that ended with one of the codes `ok`, with its output as text."""
    how = {"capture_output": True, "text": True, "timeout": seconds, **how}
    done = subprocess.run(command, **how)
    assert done.returncode in ok, f"{command}: {done.returncode} {done.stderr}"
    return done


def request(port, method, path, body=None, fields=None, seconds=10, source=None, **how):
    """Status, fields and body of one request on a connection of its own, from the address `source`."""
    source = source and (source, 0)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds, source_address=source)
    try:
        connection.request(method, path, body, fields or {}, **how)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


class Server:
    """A running Encke; `config` is TOML. As a context it is ended by SIGTERM."""

    def __init__(self, config="", port=None):
        self.port = port or free_port()
        self.folder = tempfile.TemporaryDirectory(prefix="encke-interop-")
        self.config = pathlib.Path(self.folder.name) / "encke.toml"
        self.config.write_text(config)
        self.process = None
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        command = [BIN, "serve", "--config", self.config, "--listen", f"127.0.0.1:{self.port}"]
        log = open(pathlib.Path(self.folder.name) / "log", "a")
        with log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self.answers, what="the server's first answer")

    def answers(self):
        if self.process.poll() is not None:
            log = (pathlib.Path(self.folder.name) / "log").read_text()
            raise AssertionError(f"the server ended with {self.process.returncode}:\n{log}")
        try:
            return self.request("GET", "/health")[0] == 200
        except OSError:
            return False

    def end(self, how=signal.SIGTERM):
        """Signals the server and waits; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(6)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the server did not end within 6 s") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()
        self.folder.cleanup()

    def request(self, method, path, body=None, fields=None, **how):
        return request(self.port, method, path, body, fields, **how)

    def counter(self, name, fields=None):
        """A figure of `/metrics`; the request for it counts too."""
        text = self.request("GET", "/metrics", fields=fields)[2].decode()
        return int(re.search(rf"(?m)^{re.escape(name)} (\d+)$", text)[1])

    def viewers(self):
        return json.loads(self.request("GET", "/health")[2])["viewers"]

    def publish_numbers(self, numbers, topic="count"):
        """Publishes every number of the range in order, in lists of up to 100."""
        numbers = list(numbers)
        for at in range(0, len(numbers), 100):
            events = [{"topic": topic, "value": n} for n in numbers[at : at + 100]]
            status, _, body = self.request("POST", "/topics", json.dumps(events))
            assert status == 200, body


class WithServer(unittest.TestCase):
    """Tests with one server for all of a class; it must end well."""

    config = QUIET

    @classmethod
    def setUpClass(cls):
        cls.server = Server(cls.config)
        cls.url = cls.server.url

    @classmethod
    def tearDownClass(cls):
        assert cls.server.end() == 0
        cls.server.folder.cleanup()


NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  {http}
}
"""


class Nginx:
    """A running nginx; `http` is what stands in that block, with {port} and {folder} for its own."""

    def __init__(self, http, certificate=False, healthy=(200,)):
        self.folder = tempfile.TemporaryDirectory(prefix="encke-nginx-")
        self.port = free_port()
        self.healthy = healthy
        folder = pathlib.Path(self.folder.name)
        text = NGINX.replace("{http}", http).replace("{folder}", str(folder))
        (folder / "conf").write_text(text.replace("{port}", str(self.port)))
        if certificate:
            run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                 "/CN=localhost", "-keyout", folder / "key", "-out", folder / "certificate"], seconds=60)
        # Debian keeps it where only root's PATH leads; scripts/test may have unpacked it for itself.
        unpacked = ROOT / "tests/.venv/nginx/usr/sbin"
        program = shutil.which("nginx") or shutil.which("nginx", path=f"/usr/sbin:{unpacked}")
        assert program, "nginx is missing; scripts/test installs it"
        self.process = subprocess.Popen(
            [program, "-p", folder, "-c", folder / "conf", "-e", folder / "error.log"])
        wait_until(self.listens if certificate else self.answers, what="nginx")

    def listens(self):
        assert self.process.poll() is None, "nginx ended"
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def answers(self):
        return self.listens() and self.request("GET", "/health")[0] in self.healthy

    def request(self, method, path, body=None, fields=None, **how):
        return request(self.port, method, path, body, fields, **how)

    def end(self):
        self.process.terminate()
        self.process.wait(5)
        self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


class Answer:
    """One answer as it came: status, fields by lower-case name, body; `framing` ended the body."""

    def __init__(self, status, fields, body=b"", framing="none"):
        self.status, self.fields, self.body, self.framing = status, fields, body, framing

    @property
    def closes(self):
        return self.fields.get("connection", "").lower() == "close"


class Raw:
    """A connection of raw bytes, and a reader that takes nothing but RFC 9112 to the letter."""

    def __init__(self, port, sent=b"", seconds=10):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self.rest = b""
        self.send(sent)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, sent):
        self.socket.sendall(sent)

    def more(self):
        """Reads once; whether there was anything before the end."""
        piece = self.socket.recv(1 << 18)
        self.rest += piece
        return bool(piece)

    def until(self, mark):
        """What stands before `mark`; both are taken."""
        while mark not in self.rest:
            assert self.more(), f"the connection ended inside an answer: {self.rest[:200]}"
        taken, self.rest = self.rest.split(mark, 1)
        return taken

    def exactly(self, count):
        while len(self.rest) < count:
            assert self.more(), f"the body ended {count - len(self.rest)} bytes early"
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def ended(self):
        """Whether the server ends the connection here, with no byte more."""
        return not self.rest and not self.more()

    def head(self):
        """Status and fields of the next answer."""
        first, *lines = self.until(b"\r\n\r\n").decode("ascii").split("\r\n")
        status = re.fullmatch(r"HTTP/1\.1 ([1-5]\d\d) [\x20-\x7e]*", first)
        assert status, f"not a status line: {first!r}"
        fields = {}
        for line in lines:
            field = re.fullmatch(r"([\w!#$%&'*+.^`|~-]+): ([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)", line)
            assert field, f"not a field: {line!r}"
            name = field[1].lower()
            assert name not in fields, f"{name} stands twice"
            fields[name] = field[2]
        return int(status[1]), fields

    def answer(self, to_head=False):
        """The next whole answer."""
        status, fields = self.head()
        length, coding = fields.get("content-length"), fields.get("transfer-encoding")
        assert length is None or coding is None, f"two framings: {fields}"
        if to_head or status < 200 or status in (204, 304):
            return Answer(status, fields)
        if coding is not None:
            assert coding == "chunked", coding
            return Answer(status, fields, b"".join(self.chunks()), "chunked")
        if length is not None:
            assert re.fullmatch(r"\d+", length), length
            return Answer(status, fields, self.exactly(int(length)), "length")
        assert fields.get("connection") == "close", "nothing says where the body ends"
        while self.more():
            pass
        body, self.rest = self.rest, b""
        return Answer(status, fields, body, "close")

    def chunks(self):
        """The chunks of a body, each as soon as it is whole, without the empty last one."""
        while True:
            size = self.until(b"\r\n")
            assert re.fullmatch(rb"[0-9a-f]+", size), size
            chunk = self.exactly(int(size, 16))
            assert self.exactly(2) == b"\r\n", "a chunk without its end"
            if not chunk:
                return
            yield chunk


class CuttingProxy:
    """A TCP proxy that harms what passes `cuts` times, each time after a random number of bytes
    from the server; then all passes.

    `ways` are how: `fin` ends the connection, `rst` resets it, `hole` carries nothing for `hole_s`
    and then resets it, `stall` carries nothing as long and goes on. With `early`, half of
    them come in the first 600 bytes: in the head, in the hello. `narrow` lets little wait in it.
    The seed is told, so that a failure can be repeated with ENCKE_SEED.
    """

    def __init__(self, target_port, cut_bytes_max, cuts, ways=("fin",), hole_s=0.4, early=False,
                 narrow=False):
        self.target_port = target_port
        self.cut_bytes_max = cut_bytes_max
        self.cuts_left = cuts
        self.ways, self.hole_s, self.early, self.narrow = ways, hole_s, early, narrow
        self.cuts = 0
        self.dark = threading.Event()
        self.seed = int(os.environ.get("ENCKE_SEED", random.randrange(1 << 32)))
        self.random = random.Random(self.seed)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.carry, args=(client, *self.drawn()), daemon=True).start()

    def drawn(self):
        """The next harm, and after how many bytes; none once all are used."""
        if self.cuts_left <= 0:
            return None, None
        self.cuts_left -= 1
        is_early = self.early and self.random.random() < 0.5
        limit = self.random.randint(1, 600 if is_early else self.cut_bytes_max)
        return self.random.choice(self.ways), limit

    def connect(self):
        server = socket.socket()
        if self.narrow:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server.settimeout(60)
        server.connect(("127.0.0.1", self.target_port))
        return server

    def carry(self, client, way, limit):
        try:
            server = self.connect()
        except OSError:
            client.close()
            return
        client.settimeout(60)
        threading.Thread(target=self.upstream, args=(client, server), daemon=True).start()
        try:
            while limit != 0:
                piece = server.recv(65536 if limit is None else min(limit, 65536))
                if not piece:
                    break
                if self.dark.is_set():
                    way, limit = "hole", 0
                    break
                client.sendall(piece)
                if limit is not None:
                    limit -= len(piece)
                if limit == 0 and way == "stall":
                    self.cuts += 1
                    time.sleep(self.hole_s)
                    way, limit = self.drawn()
        except OSError:
            way = None
        self.end(client, server, way if limit == 0 else None)

    def end(self, client, server, way):
        self.cuts += way is not None
        wait_until(lambda: not self.dark.is_set(), 60, "the end of the dark")
        if way == "hole":
            time.sleep(self.hole_s)
        is_reset = way in ("rst", "hole")
        for sock in (client, server):
            try:
                if is_reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                # It wakes the other direction's thread, without which nothing is closed.
                sock.shutdown(socket.SHUT_RD if is_reset else socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

    @staticmethod
    def upstream(client, server):
        try:
            while piece := client.recv(65536):
                server.sendall(piece)
        except OSError:
            pass


def main():
    """Runs the caller's tests and ends with the line that scripts/test adds up."""
    result = unittest.main(verbosity=2, exit=False).result
    bad, skipped = len(result.failures) + len(result.errors), len(result.skipped)
    passed = max(0, result.testsRun - bad - skipped)
    skips = f", {skipped} skipped" if skipped else ""
    print(f"interop: {passed} passed, {bad} failed{skips}", flush=True)
    sys.exit(1 if bad or not passed + skipped else 0)
