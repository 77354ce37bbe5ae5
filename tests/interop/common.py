"""What the interop tests share: a server of their own, a proxy that cuts, and a closing line.

Everything listens on 127.0.0.1, every wait ends, and only processes started here are ended.
"""

import http.client
import json
import os
import pathlib
import random
import signal
import socket
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

    def request(self, method, path, body=None, fields=None):
        """Status, fields and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, fields or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def publish_numbers(self, numbers, topic="count"):
        """Publishes every number of the range in order, in lists of up to 100."""
        numbers = list(numbers)
        for at in range(0, len(numbers), 100):
            events = [{"topic": topic, "value": n} for n in numbers[at : at + 100]]
            status, _, body = self.request("POST", "/topics", json.dumps(events))
            assert status == 200, body


class CuttingProxy:
    """A TCP proxy that cuts each connection after a random number of bytes from the server.

    After `cuts` cuts it lets everything pass. The seed is told, so that a failure can be repeated.
    """

    def __init__(self, target_port, cut_bytes_max, cuts):
        self.target_port = target_port
        self.cut_bytes_max = cut_bytes_max
        self.cuts_left = cuts
        self.cuts = 0
        self.seed = random.randrange(1 << 32)
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
            threading.Thread(target=self.carry, args=(client,), daemon=True).start()

    def carry(self, client):
        limit = None
        if self.cuts_left > 0:
            self.cuts_left -= 1
            limit = self.random.randint(1, self.cut_bytes_max)
        try:
            server = socket.create_connection(("127.0.0.1", self.target_port), timeout=60)
        except OSError:
            client.close()
            return
        client.settimeout(60)
        threading.Thread(target=self.upstream, args=(client, server), daemon=True).start()
        try:
            while limit is None or limit > 0:
                piece = server.recv(65536 if limit is None else min(limit, 65536))
                if not piece:
                    break
                client.sendall(piece)
                if limit is not None:
                    limit -= len(piece)
            self.cuts += limit == 0
        except OSError:
            pass
        for sock in (client, server):
            try:
                sock.shutdown(socket.SHUT_RDWR)
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
