"""nginx in front, in all the ways people set it up: reading works, and is not held back.

Who may do what behind it is tested in strangers_nginx.py.
"""

import http.client
import json
import re
import socket
import subprocess
import time
import unittest
import zlib

import common

CONF = """
proxy_cache_path {folder}/cache keys_zone=here:1m;
upstream board { server 127.0.0.1:{target}; {upstream} }
server { listen 127.0.0.1:{port} {listen}; location {location} { {to} {more} } }
"""
DIRECT = "proxy_pass http://127.0.0.1:{target};"
HTTP_11 = 'proxy_http_version 1.1; proxy_set_header Connection "";'
MARKED = HTTP_11 + " proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
KEPT = {"more": HTTP_11, "upstream": "keepalive 8; keepalive_timeout 15s;"}
GZIP = "gzip on; gzip_proxied any; gzip_http_version 1.0; gzip_min_length 1; gzip_types *;"
CACHE = "proxy_cache here; proxy_cache_valid any 1h; proxy_cache_lock on;"
WAYS = {
    "as it comes": {"to": DIRECT},
    "an upstream": {},
    "HTTP/1.1": {"more": HTTP_11},
    "marked": {"more": MARKED},
    "kept": KEPT,
    "unbuffered": {"more": "proxy_buffering off;"},
    "kept, unbuffered": {**KEPT, "more": HTTP_11 + "proxy_buffering off; proxy_request_buffering off;"},
    "compressing": {**KEPT, "more": HTTP_11 + GZIP},
    "caching": {"more": CACHE},
    "below a path": {"location": "/board/", "to": "proxy_pass http://board/;"},
}
FAST_HEARTBEAT = common.QUIET + "[server]\nheartbeat = 1\n"
BUSY_S = 8
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
ACCEPTED = "encke_connections_accepted_total"


class Nginx(common.Nginx):
    def __init__(self, target, more="", upstream="", location="/", to="proxy_pass http://board;",
                 listen=""):
        self.root = location.rstrip("/")
        # nginx puts what proxy_pass names into Host, unless told otherwise.
        if to != DIRECT and " Host " not in more:
            more += " proxy_set_header Host 127.0.0.1;"
        conf = CONF
        for name, text in [("more", more), ("upstream", upstream), ("location", location), ("to", to),
                           ("listen", listen), ("target", str(target))]:
            conf = conf.replace("{" + name + "}", text)
        super().__init__(conf, certificate="ssl" in listen, healthy=(200, 421))

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=BUSY_S)

    def request(self, method, path, body=None, fields=None, **how):
        return super().request(method, self.root + path, body, fields, seconds=BUSY_S, **how)


def message(file):
    """The text of a server's next message, of less than 64 KiB."""
    first, size = file.read(2)
    assert first == 0x81, first
    return file.read(int.from_bytes(file.read(2), "big") if size == 126 else size).decode()


class Lines:
    """The lines of a streamed answer, unpacked if need be; times out if they are held back."""

    def __init__(self, nginx, path, fields=None):
        self.connection = nginx.connect()
        self.connection.request("GET", nginx.root + path, headers=fields or {})
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.status
        packed = self.answer.getheader("Content-Encoding") == "gzip"
        self.unpack = zlib.decompressobj(31).decompress if packed else bytes
        self.text = b""

    def until(self, word):
        """What comes up to the line that holds `word`, with that."""
        found = b""
        while word not in found:
            if b"\n" not in self.text:
                piece = self.answer.read1(65536)
                assert piece, f"ended before {word}: {found[-200:]}"
                self.text += self.unpack(piece)
                continue
            line, self.text = self.text.split(b"\n", 1)
            found += line + b"\n"
        return found

    def close(self):
        self.answer.close()
        self.connection.close()


class Proxy(unittest.TestCase):
    def behind(self, config=common.QUIET, **how):
        """A server of its own, and an nginx before it."""
        self.server = common.Server(config)
        self.addCleanup(self.server.folder.cleanup)
        self.addCleanup(self.server.end)
        nginx = Nginx(self.server.port, **how)
        self.addCleanup(nginx.end)
        return nginx

    def assert_stream_is_live(self, nginx, path):
        lines = Lines(nginx, path, {"Accept-Encoding": "gzip"})
        lines.until(b"hello")
        for n in range(3):
            self.server.request("PUT", "/topics/a", f'"number {n}"')
            lines.until(f"number {n}".encode())
        lines.close()

    def assert_polls(self, nginx):
        last = json.loads(nginx.request("GET", "/events/poll")[2])["last"]
        began = time.monotonic()
        status, _, body = nginx.request("GET", f"/events/poll?since={last}&timeout=0.5")
        self.assertEqual((status, json.loads(body)["events"]), (200, []))
        self.assertGreater(time.monotonic() - began, 0.4)
        connection = nginx.connect()
        connection.request("GET", f"{nginx.root}/events/poll?since={last}")
        common.wait_until(lambda: self.server.viewers() == 1, what="the poll is held")
        self.server.request("PUT", "/topics/a", '"polled"')
        body = connection.getresponse().read()
        self.assertEqual(json.loads(body)["events"][0]["value"], "polled")
        connection.close()

    def assert_page(self, nginx, forgets_tags=False):
        status, fields, body = nginx.request("GET", "/")
        self.assertEqual(status, 200)
        self.assertTrue(body.startswith(b"<!doctype html>"))
        packed = {"Accept-Encoding": "gzip"}
        status, fields, small = nginx.request("GET", "/", fields=packed)
        self.assertEqual((status, fields["Content-Encoding"]), (200, "gzip"))
        self.assertIn("Accept-Encoding", fields["Vary"])
        self.assertEqual(zlib.decompress(small, 31), body)
        known = {**packed, "If-None-Match": fields["ETag"]}
        again = (200, small) if forgets_tags else (304, b"")
        self.assertEqual(nginx.request("GET", "/", fields=known)[::2], again)
        status, fields, body = nginx.request("HEAD", "/")
        self.assertEqual((status, body), (200, b""))

    def test_reading(self):
        for name, how in WAYS.items():
            nginx = self.behind(**how)
            with self.subTest(name):
                # With a cache nginx keeps If-None-Match to itself, and stores nothing of ours.
                self.assert_page(nginx, forgets_tags=name == "caching")
                self.assert_stream_is_live(nginx, "/events/sse")
                self.assert_stream_is_live(nginx, "/events/stream")
                common.wait_until(lambda: self.server.viewers() == 0, BUSY_S, "viewers that left are gone")
                self.assert_polls(nginx)
                status, fields, body = nginx.request("GET", "/topics")
                self.assertEqual((status, len(json.loads(body)["topics"])), (200, 1))
                self.assertIn("no-store", fields["Cache-Control"])
                for n in range(3):  # nothing of this may come from a proxy's memory
                    self.server.request("PUT", "/topics/a", str(n))
                    self.assertEqual(json.loads(nginx.request("GET", "/topics/a")[2])["value"], n)
                self.assertEqual(nginx.request("GET", "/nothing")[0], 404)
                self.assertEqual(nginx.request("GET", "/metrics")[0], 200)

    def test_the_name_that_nginx_was_asked_for(self):
        """As README.md has it: `Host $host`, and that name in `hosts`."""
        named = common.QUIET + '[server]\nhosts = ["board.example"]\n'
        asked = {"Host": "board.example"}
        for config, status in [(named, 200), (common.QUIET, 421)]:
            nginx = self.behind(config, **{**KEPT, "more": MARKED + "proxy_set_header Host $host;"})
            for path in ["/", "/topics", "/events/poll"]:
                self.assertEqual(nginx.request("GET", path, fields=asked)[0], status)

    def test_heartbeats_come_through(self):
        for how in [{}, KEPT]:
            nginx = self.behind(FAST_HEARTBEAT, **how)
            lines = Lines(nginx, "/events/sse")
            for _ in range(2):
                lines.until(b"event: heartbeat")
            lines.close()

    def test_kept_connections_carry_everything(self):
        nginx = self.behind(**KEPT)
        self.server.request("PUT", "/topics/a", "1")
        tag = nginx.request("GET", "/")[1]["ETag"]
        before = self.server.counter(ACCEPTED)
        connection = nginx.connect()
        for n in range(60):
            for method, path, fields, status in [
                ("GET", "/topics/a", {}, 200), ("HEAD", "/", {}, 200), ("GET", "/nothing", {}, 404),
                ("GET", "/", {"If-None-Match": tag}, 304), ("GET", "/events/poll?timeout=0", {}, 200),
                ("OPTIONS", "/topics", {}, 204), ("GET", "/topics/none", {}, 404),
            ]:
                connection.request(method, path, headers=fields)
                answer = connection.getresponse()
                body = answer.read()
                self.assertEqual(answer.status, status, (method, path))
                self.assertEqual(bool(body), method == "GET" and status != 304, (method, path))
        connection.close()
        self.assertLessEqual(self.server.counter(ACCEPTED) - before, 2, "nginx's one and the one that asks")

    def test_streams_share_with_answers(self):
        """Streams come and go beside short answers, on connections that nginx uses again."""
        nginx = self.behind(**KEPT)
        for n in range(20):
            streams = [Lines(nginx, f"/events/{kind}") for kind in ["sse", "stream", "sse"]]
            self.server.request("PUT", "/topics/a", f'"value {n}"')
            self.assertEqual(json.loads(nginx.request("GET", "/topics/a")[2])["value"], f"value {n}")
            for stream in streams:
                stream.until(f"value {n}".encode())
                stream.close()
        common.wait_until(lambda: self.server.viewers() == 0, BUSY_S, "viewers that left are gone")

    def test_a_viewer_too_slow_is_told(self):
        """nginx takes no more than its viewer does; so the viewer is lapped, and learns it."""
        for how in [{}, {"more": "proxy_buffering off;"}]:
            nginx = self.behind(**how, listen="sndbuf=16k")
            lines = Lines(nginx, "/events/stream")
            lines.until(b"hello")
            value = "x" * 7000
            for _ in range(100):
                events = [{"topic": "a", "value": value}] * 9
                status, _, body = self.server.request("POST", "/topics", json.dumps(events))
                self.assertEqual(status, 200, body)
            self.server.request("PUT", "/topics/a", '"the last"')
            text = lines.until(b"the last")
            lines.close()
            ids = [int(n) for n in re.findall(rb'^\{"id":"\w+-(\d+)"', text, re.M)]
            self.assertEqual(ids, sorted(set(ids)))
            lost = sum(int(n) for n in re.findall(rb'"lost":(\d+)', text))
            self.assertGreater(lost, 0)
            self.assertEqual(len(ids) + lost, ids[-1], "each event came or was counted as lost")

    def test_a_held_back_stream(self):
        """Where nginx is told not to heed what a stream asks for, polls still work."""
        nginx = self.behind(more="proxy_ignore_headers X-Accel-Buffering;")
        self.assert_polls(nginx)
        self.assert_page(nginx)

    def test_a_websocket_by_the_lines_of_the_readme(self):
        readme = (common.ROOT / "README.md").read_text()
        block = re.search(r"\n    location /events/ws \{\n(.+?)\n    \}\n", readme, re.DOTALL)[1]
        # Behind the one location that every set-up has, and closed as that is.
        nginx = self.behind(FAST_HEARTBEAT, more="} location /events/ws {" + block)
        with socket.create_connection(("127.0.0.1", nginx.port), timeout=BUSY_S) as sock:
            file = sock.makefile("rb")
            host = f"Host: 127.0.0.1:{nginx.port}\r\n"
            sock.sendall(f"GET /events/ws HTTP/1.1\r\n{host}{UPGRADE}\r\n".encode())
            self.assertEqual(file.readline(), b"HTTP/1.1 101 Switching Protocols\r\n")
            while file.readline() != b"\r\n":
                pass
            self.assertIn("hello", message(file))
            for number in range(3):
                self.server.request("PUT", "/topics/a", f'"number {number}"')
                while f"number {number}" not in (said := message(file)):
                    self.assertIn("heartbeat", said)
            # Upwards as well: a masked frame (RFC 6455 section 5.3), by a mask of zeros.
            text = b'{"subscribe":["none"],"ref":7}'
            sock.sendall(bytes([0x81, 0x80 | len(text)]) + bytes(4) + text)
            while "ack" not in (said := message(file)):
                self.assertIn("heartbeat", said)
            self.assertEqual(json.loads(said), {"ack": {"ref": 7}})

    def test_encrypted(self):
        """TLS and HTTP/2 at nginx, as on the open internet."""
        listen = "ssl http2; ssl_certificate {folder}/certificate; ssl_certificate_key {folder}/key"
        nginx = self.behind(**KEPT, listen=listen)
        self.server.request("PUT", "/topics/a", '"safe"')
        url = f"https://127.0.0.1:{nginx.port}"
        for path, more in [("/", ["--compressed"]), ("/topics/a", []), ("/events/poll", [])]:
            command = ["curl", "-sSk", "--http2", "-m", "8", "-w", "\n%{http_version}", *more, url + path]
            done = subprocess.run(command, capture_output=True, timeout=20)
            text = done.stdout.decode()
            self.assertRegex(text, r"(?s)(safe|<!doctype html>).*\n2$")
        curl = subprocess.Popen(["curl", "-sSkN", "--http2", "-m", "8", url + "/events/sse"],
                                stdout=subprocess.PIPE)
        for n in range(3):
            while f"number {n - 1}".encode() not in curl.stdout.readline() and n > 0:
                self.assertIsNone(curl.poll())
            if n == 0:
                while b"safe" not in curl.stdout.readline():
                    self.assertIsNone(curl.poll())
            self.server.request("PUT", "/topics/a", f'"number {n}"')
        curl.terminate()
        curl.wait(5)
        curl.stdout.close()

    def test_a_restart(self):
        """While the board is down nginx says 502; then all goes on, with no stale connection used."""
        nginx = self.behind(**KEPT)
        self.assertEqual(nginx.request("GET", "/health")[0], 200)
        lines = Lines(nginx, "/events/sse")
        lines.until(b"hello")
        self.assertEqual(self.server.end(), 0)
        self.assertIn(b"draining", lines.until(b"draining"))
        lines.close()
        self.assertEqual(nginx.request("GET", "/health")[0], 502)
        self.server.start()
        # One server alone is never held for dead by nginx.
        self.assertEqual(nginx.request("GET", "/health")[0], 200)
        self.assertIn("hello", json.loads(nginx.request("GET", "/events/poll")[2]))

    def test_chunks_on_the_way_up(self):
        """nginx passes chunks on as chunks, or collects them: refused alike."""
        for more in [MARKED, MARKED + "proxy_request_buffering off;"]:
            nginx = self.behind("", **{**KEPT, "more": more})
            for count in [1, 2000]:
                status, _, said = nginx.request(
                    "PUT", "/topics/a", (b"y" * 100 for _ in range(count)),
                    {"Transfer-Encoding": "chunked"}, encode_chunked=True)
                self.assertEqual(status, 403, said)
            self.assertEqual(nginx.request("GET", "/health")[0], 200)


if __name__ == "__main__":
    common.main()
