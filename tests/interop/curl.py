"""curl, the client everybody has: all transports, both HTTP versions, publishing, refusals, the end."""

import json
import re
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import common


def curl(*args, seconds=10, ok=(0,)):
    """What curl prints; `--max-time` ends a stream, and curl calls that 28."""
    command = ["curl", "-sS", "--max-time", str(seconds), *args]
    # Its output is read as bytes: as text, Python would make one line end of each.
    return common.run(command, ok, seconds + 10, text=False).stdout.decode()


def sse_events(text):
    """Blocks of Server-Sent Events as (event, id, data)."""
    blocks = []
    for block in text.replace("\r\n", "\n").split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "data" in fields:
            data = json.loads(fields["data"])
            blocks.append((fields.get("event", "message"), fields.get("id"), data))
    return blocks


def sequence(id_):
    return int(id_.rsplit("-", 1)[1])


def assert_rising(ids):
    numbers = [sequence(id_) for id_ in ids]
    assert numbers == sorted(set(numbers)), numbers


class Readings(common.WithServer):
    """With the sources of this computer on."""

    config = ""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        time.sleep(2)  # the figures that are a difference of two reads

    def assert_live(self, events):
        """A snapshot of this computer's figures, then changes of them."""
        topics = [event["topic"] for event in events]
        self.assertIn("memory/available", topics)
        self.assertIn("cpu/usage", topics)
        self.assertGreater(topics.count("cpu/usage") + topics.count("memory/available"), 2)
        assert_rising([event["id"] for event in events])

    def test_sse(self):
        text = curl("-N", self.server.url + "/events/sse", seconds=4, ok=(28,))
        self.assertRegex(text, r"^retry: \d+\n+event: hello\nid: ")
        blocks = sse_events(text)
        events = [data for kind, _, data in blocks if kind == "message"]
        self.assertTrue(all(id_ == data["id"] for k, id_, data in blocks if k == "message"))
        self.assert_live(events)

    def test_stream(self):
        text = curl("-N", self.server.url + "/events/stream", seconds=4, ok=(28,))
        lines = [json.loads(line) for line in text.splitlines()]
        self.assertIn("hello", lines[0])
        self.assert_live([line for line in lines if "topic" in line])

    def test_poll(self):
        answer = json.loads(curl(self.server.url + "/events/poll"))
        self.assertFalse(answer["hello"]["reset"])
        events, last = answer["events"], answer["last"]
        for _ in range(4):
            answer = json.loads(curl(f"{self.server.url}/events/poll?since={last}"))
            self.assertNotIn("hello", answer)
            self.assertTrue(answer["events"])
            events, last = events + answer["events"], answer["last"]
        self.assert_live(events)

    def test_accept_chooses(self):
        for accept, kind in [
            ("text/event-stream", "text/event-stream; charset=utf-8"),
            ("application/x-ndjson", "application/x-ndjson; charset=utf-8"),
            ("*/*", "application/json; charset=utf-8"),
        ]:
            url = self.server.url + "/events"
            text = curl("-N", "-i", "-H", f"Accept: {accept}", url, seconds=1, ok=(0, 28))
            self.assertIn(f"Content-Type: {kind}\r\n", text)

    def test_http10_closes_to_end(self):
        for path, code in [("/events/sse", 28), ("/events/stream", 28), ("/events/poll", 0)]:
            url = self.server.url + path
            text = curl("-N", "-i", "--http1.0", url, seconds=4, ok=(code,))
            head, body = text.split("\r\n\r\n", 1)
            self.assertRegex(head, r"^HTTP/1\.[01] 200 OK\r\n", path)
            self.assertNotIn("Transfer-Encoding", head, path)
            self.assertNotRegex(body, r"(?m)^[0-9a-f]+\r$", f"{path}: chunks")
            self.assertIn('"reset":false', body, path)
            if path == "/events/sse":
                self.assert_live([data for kind, _, data in sse_events(body) if kind == "message"])


class Resources(unittest.TestCase):
    """With no sources: only what the test publishes."""

    def setUp(self):
        self.server = common.Server(common.QUIET)
        self.addCleanup(self.server.folder.cleanup)
        self.addCleanup(self.server.end)

    def status(self, *args):
        """Status and body."""
        text = curl("-w", "\n%{http_code}", *args)
        body, status = text.rsplit("\n", 1)
        return int(status), body

    def test_head(self):
        for path in ["/", "/?plain", "/topics", "/metrics", "/health",
                     "/events/sse", "/events/stream", "/events/poll"]:
            url = self.server.url + path
            head = curl("-I", url)
            whole = curl("-i", url, seconds=1, ok=(0, 28))
            self.assertTrue(head.startswith("HTTP/1.1 200 OK\r\n"), path)
            self.assertTrue(head.endswith("\r\n\r\n"), path)
            field = re.compile(r"(?m)^Content-Type: .*$")
            self.assertEqual(field.search(head)[0], field.search(whole)[0], path)

    def test_publish_read_forget(self):
        url = self.server.url + "/topics/greenhouse/temperature"
        answer = json.loads(curl("-d", "21.50", url))
        self.assertEqual(answer["subscribers"], 0)
        self.assertIn('"value":21.50}', curl(url))
        curl("-X", "PUT", "-H", "Content-Type: text/plain", "-d", "warm & dry", url)
        self.assertEqual(json.loads(curl(url))["value"], "warm & dry")
        curl("-H", "Content-Type: application/json", "--data-binary", ' {"b": [1, 2],\n"a":null} ', url)
        self.assertIn('"value":{"b":[1,2],"a":null}}', curl(url))
        body = '[{"topic":"a/1","value":1},{"topic":"a/2","value":"two"}]'
        many = json.loads(curl("-d", body, self.server.url + "/topics"))
        self.assertEqual(many["count"], 2)
        listed = json.loads(curl(self.server.url + "/topics"))
        names = sorted(topic["event"]["topic"] for topic in listed["topics"])
        self.assertEqual(names, ["a/1", "a/2", "greenhouse/temperature"])
        self.assertEqual(listed["id"], many["id"])
        self.assertIn("id", json.loads(curl("-X", "DELETE", url)))
        self.assertEqual(self.status(url)[0], 404)

    def test_expect_continue(self):
        events = [{"topic": f"big/{n % 9}", "value": "x" * 210} for n in range(250)]
        body = json.dumps(events)
        self.assertGreater(len(body), 60_000)
        self.assertLess(len(body), 65_536)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(body)
            file.flush()
            url = self.server.url + "/topics"
            command = ["-v", "-H", "Expect: 100-continue", "--data-binary", f"@{file.name}", url]
            began = time.monotonic()
            done = common.run(["curl", "-sS", "-m", "10", *command])
        self.assertIn("HTTP/1.1 100 Continue", done.stderr)
        self.assertEqual(json.loads(done.stdout)["count"], 250)
        self.assertLess(time.monotonic() - began, 0.9, "curl waits 1 s when 100 does not come")

    def test_page_compressed_and_unchanged(self):
        url = self.server.url + "/"
        plain = curl(url)
        self.assertEqual(curl("--compressed", url), plain)
        self.assertIn("Content-Encoding: gzip", curl("--compressed", "-I", url))
        for coding in ["identity", "gzip"]:
            asked = ["-H", f"Accept-Encoding: {coding}"]
            tag = re.search(r'(?m)^ETag: (".*")\r$', curl("-I", *asked, url))[1]
            again = curl("-i", *asked, "-H", f"If-None-Match: {tag}", url)
            self.assertTrue(again.startswith("HTTP/1.1 304 Not Modified\r\n"), again)
            self.assertTrue(again.endswith("\r\n\r\n"), again)
            other = curl("-I", *asked, "-H", 'If-None-Match: "another"', url)
            self.assertTrue(other.startswith("HTTP/1.1 200 OK\r\n"), other)

    def test_refusals_say_why(self):
        topics = self.server.url + "/topics/"
        with tempfile.NamedTemporaryFile("w") as file:
            file.write('"' + "x" * 70_000 + '"')
            file.flush()
            large = self.status("--data-binary", f"@{file.name}", topics + "a")
        for (status, text), want, words in [
            (large, 413, "65536"),
            (self.status("-d", '"' + "x" * 9000 + '"', topics + "a"), 413, "8192"),
            (self.status("-H", "Content-Type: image/tiff", "-d", "x", topics + "a"), 415, "image/png"),
            (self.status("-H", "Content-Type: text/css", "-d", "x", topics + "a"), 415, "text/plain"),
            (self.status("-H", "Content-Type: application/json", "-d", "{a}", topics + "a"), 400, "byte 1"),
            (self.status("-d", "1", topics + "no%20name"), 400, "topic name"),
            (self.status("-d", "[]", self.server.url + "/topics"), 400, "empty"),
            (self.status(topics + "nobody/published/this"), 404, "GET /topics"),
            (self.status("-X", "DELETE", topics + "nobody"), 404, "GET /topics"),
            (self.status(self.server.url + "/nothing"), 404, "/topics"),
            (self.status(self.server.url + "/events/carrier-pigeon"), 404, "/events"),
            (self.status("-d", "1", self.server.url + "/metrics"), 405, "Allow"),
            (self.status("-X", "BREW", self.server.url + "/"), 501, "GET"),
            (self.status(self.server.url + "/events/poll?topics=a/%23/b"), 400, "pattern 1"),
            (self.status(self.server.url + "/events/poll?timeout=soon"), 400, "seconds"),
            (self.status("-H", "Host: evil.example", self.server.url + "/"), 421, "hosts"),
            (self.status("-H", "Origin: http://evil.example", "-d", "1", topics + "a"), 403, "origins"),
            (self.status("-H", "X-Forwarded-For: 10.0.0.1", "-d", "1", topics + "a"), 403, "proxy"),
        ]:
            with self.subTest(want=want, words=words):
                self.assertEqual(status, want, text)
                self.assertIn(words, text)
                self.assertEqual(text.count("\n"), 1, text)

    def test_connection_is_kept(self):
        url = self.server.url
        text = curl("-w", "%{num_connects} ", "-o", "/dev/null", "-o", "/dev/null", "-o", "/dev/null",
                    url + "/", url + "/nothing", url + "/topics")
        self.assertEqual(text.split(), ["1", "0", "0"])


class Versions(common.WithServer):
    """Each version of HTTP that curl can speak, and what it does before it sends a body."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.request("PUT", "/topics/a", '"confidential"')

    def head_and_body(self, *args):
        head, body = curl("-i", *args).split("\r\n\r\n", 1)
        return head, body

    def test_each_version(self):
        for path in ["/", "/?plain", "/topics", "/topics/a", "/metrics", "/health", "/events/poll"]:
            bodies = []
            # HTTP/2 is not spoken here; curl asks for it in Upgrade, and goes on with 1.1.
            for version, closes in [("--http1.1", 0), ("--http1.0", 1), ("--http2", 0)]:
                with self.subTest(path=path, version=version):
                    head, body = self.head_and_body(version, self.url + path)
                    self.assertTrue(head.startswith("HTTP/1.1 200 OK\r\n"), head)
                    self.assertEqual(head.count("Connection: close"), closes, head)
                    self.assertEqual(head.count("Transfer-Encoding"), 0, "its length is known")
                    self.assertIn("\r\nDate: ", head)
                    bodies.append(re.sub(r"[\d.]+", "0", body))
            self.assertEqual(len(set(bodies)), 1, path)

    def test_head_is_get_without_its_body(self):
        for version in ["--http1.1", "--http1.0"]:
            for path in ["/", "/?plain", "/topics/a", "/health", "/nothing"]:
                with self.subTest(path=path, version=version):
                    head = curl("-I", version, self.url + path)
                    get, body = self.head_and_body(version, self.url + path)
                    self.assertIn(f"Content-Length: {len(body.encode())}\r\n", get + "\r\n")
                    without_date = lambda text: re.sub(r"Date: .*\r\n", "", text)
                    self.assertEqual(without_date(head), without_date(get + "\r\n\r\n"))

    def test_http_09_is_refused(self):
        # Even when curl would take an answer without a head, ours has one. A gopher address makes
        # curl send just what stands in it, as in an attack by way of somebody else's server.
        head, _ = self.head_and_body("--http0.9", self.url + "/health")
        self.assertTrue(head.startswith("HTTP/1.1 200 OK\r\n"), head)
        gopher = self.url.replace("http", "gopher")
        for sent, status in [("GET%20/%0d%0a", "400 Bad Request"),
                             ("GET%20/topics/a%20HTTP/0.9%0d%0a", "505 HTTP Version Not Supported"),
                             ("PRI%20*%20HTTP/2.0%0d%0a%0d%0aSM%0d%0a", "505 HTTP Version Not Sup"),
                             ("a%0d%0a", "400 Bad Request")]:
            with self.subTest(sent):
                text = curl(f"{gopher}/_{sent}")
                self.assertTrue(text.startswith(f"HTTP/1.1 {status}"), text)
                self.assertIn("\r\nConnection: close\r\n", text)
                self.assertNotIn("confidential", text)

    def test_expect_tells_before_the_body_is_sent(self):
        url = self.url + "/topics/a"
        as_text = ["-H", "Content-Type: text/plain", "-H", "Expect: 100-continue"]
        for bytes_, framing, statuses in [
            (65_536, [], ["100", "413"]),  # as a body it may be so long, as an event not
            (65_537, [], ["413"]),
            (3_000_000, [], ["413"]),  # curl expects 100 by itself
            (65_537, ["-H", "Transfer-Encoding: chunked"], ["100", "413"]),
            (8_000, [], ["100", "200"]),
            (8_000, ["-H", "Transfer-Encoding: chunked"], ["100", "200"]),
            (8_000, ["--http1.0"], ["403"]),
        ]:
            with self.subTest(bytes_=bytes_, framing=framing):
                with tempfile.NamedTemporaryFile("w") as file:
                    file.write("x" * bytes_)
                    file.flush()
                    began = time.monotonic()
                    command = ["curl", "-sSv", "-m", "10", *as_text, *framing, "--data-binary",
                               f"@{file.name}", "-w", "\n%{size_upload}", url]
                    done = common.run(command)
                took = time.monotonic() - began
                got = re.findall(r"(?m)^< HTTP/1\.1 (\d+) ", done.stderr)
                self.assertEqual(got, statuses, done.stderr)
                self.assertLess(took, 0.9, "curl waits 1 s when no answer comes")
                sent = int(done.stdout.rsplit("\n", 1)[1])
                if "100" in statuses:
                    self.assertGreater(sent, 0)
                elif framing != ["--http1.0"]:
                    self.assertEqual(sent, 0, "the body was sent for nothing")

    def test_a_body_nobody_wants_does_not_harm_the_answer(self):
        """Refused while it is still being sent: the answer must not be lost in a reset."""
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("x" * 3_000_000)
            file.flush()
            for path, status in [("/topics/a", "413"), ("/nothing", "404"), ("/metrics", "405")]:
                for more in [[], ["-H", "Transfer-Encoding: chunked"]]:
                    for _ in range(5):
                        text = curl("-w", "%{http_code}", "-o", "/dev/null", "-H", "Expect:", *more,
                                    "--data-binary", f"@{file.name}", self.url + path, ok=(0,))
                        self.assertIn(text, (status, "413"), f"{path} {more}")


class End(unittest.TestCase):
    def setUp(self):
        self.server = common.Server(common.QUIET)
        self.addCleanup(self.server.folder.cleanup)

    def streams(self):
        for path in ["/events/sse", "/events/stream", "/events/poll?since=%s&timeout=60"]:
            if "%s" in path:
                path %= json.loads(curl(self.server.url + "/topics"))["id"]
            command = ["curl", "-sS", "-N", "-i", "-m", "20", self.server.url + path]
            yield subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def test_term_tells_everybody(self):
        for how in [signal.SIGTERM, signal.SIGINT]:
            clients = list(self.streams())
            common.wait_until(lambda: self.server.viewers() == 3, what="three viewers")
            began = time.monotonic()
            self.assertEqual(self.server.end(how), 0)
            self.assertLess(time.monotonic() - began, 5)
            told = []
            for client in clients:
                out, err = client.communicate(timeout=5)
                self.assertEqual(client.returncode, 0, err)
                told.append(out.decode())
            sse, stream, poll = told
            kind, id_, busy = sse_events(sse.split("\r\n\r\n", 1)[1])[-1]
            self.assertEqual((kind, id_, busy["reason"]), ("busy", None, "draining"))
            self.assertIn(f"retry: {busy['retry']}\n", sse)
            busy = json.loads(stream.splitlines()[-1])["busy"]
            self.assertEqual(busy["reason"], "draining")
            self.assertTrue(1000 <= busy["retry"] <= 5000, busy)
            self.assertIn("Connection: close\r\n", poll)
            self.assertEqual(json.loads(poll.split("\r\n\r\n", 1)[1])["events"], [])
            self.server.start()
        self.server.end()

    def test_second_signal_ends_at_once(self):
        # A peer that never closes its side holds the first end up.
        with socket.create_connection(("127.0.0.1", self.server.port)) as peer:
            peer.sendall(b"GET /events/sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertIn(b"200 OK", peer.recv(4096))
            self.server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            self.assertIsNone(self.server.process.poll())
            began = time.monotonic()
            self.assertEqual(self.server.end(), 0)
            self.assertLess(time.monotonic() - began, 0.3)

    def test_the_first_signal_alone_ends_in_time(self):
        with socket.create_connection(("127.0.0.1", self.server.port)) as peer:
            peer.sendall(b"GET /events/sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertIn(b"200 OK", peer.recv(4096))
            began = time.monotonic()
            self.assertEqual(self.server.end(), 0)
            self.assertLess(time.monotonic() - began, 5)


if __name__ == "__main__":
    common.main()
