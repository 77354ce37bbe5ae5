"""Real clients on a bad line: httpx-sse, sseclient-py and curl, which reconnect as their users would.

A proxy between them and the server ends, resets, freezes and swallows; every number that is published
must come once and in order, or its loss must be told to the number. The same clients then see the
server killed, drained and full.
"""

import concurrent.futures
import contextlib
import http.client
import json
import random
import signal
import subprocess
import tempfile
import time
import unittest

import httpx
import sseclient
from httpx_sse import connect_sse

import common

NUMBERS = 1000
DEADLINE_S = 40
SILENCE_S = 3
WAYS = ("fin", "rst", "hole", "stall")


def sse_fields(since):
    return {"Last-Event-ID": since} if since else {}


def httpx_sse(url, since):
    """PyPI's httpx-sse, with a time-out as its users set it."""
    with contextlib.suppress(httpx.TransportError), httpx.Client(timeout=SILENCE_S) as client:
        with connect_sse(client, "GET", f"{url}/events/sse", headers=sse_fields(since)) as source:
            for event in source.iter_sse():
                yield event.event, event.id, event.json(), event.retry


def dispatched(client):
    """What sseclient-py gives. It gives an unfinished event, too, when the line ends in it: one
    whose JSON is not whole has not come, nor has its id."""
    for event in client.events():
        try:
            data = json.loads(event.data)
        except ValueError:
            return
        yield event.event, event.id, data, event.retry and int(event.retry)


def sseclient_httpx(url, since):
    """PyPI's sseclient-py over httpx, as its page shows it."""
    fields = {"Accept": "text/event-stream", **sse_fields(since)}
    with contextlib.suppress(httpx.TransportError):
        with httpx.stream("GET", f"{url}/events", headers=fields, timeout=SILENCE_S) as answer:
            yield from dispatched(sseclient.SSEClient(answer.iter_bytes()))


class Http10(http.client.HTTPConnection):
    """Python's own client, that speaks HTTP/1.0."""

    _http_vsn = 10
    _http_vsn_str = "HTTP/1.0"


def sseclient_http10(url, since):
    """PyPI's sseclient-py over an HTTP/1.0 client: the end of the connection is all it sees."""
    connection = Http10(url.removeprefix("http://"), timeout=SILENCE_S)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("GET", "/events/sse?padding=2048", headers=sse_fields(since))
        answer = connection.getresponse()
        if answer.status == 200:
            yield from dispatched(sseclient.SSEClient(answer))


@contextlib.contextmanager
def curl_lines(url, *more):
    """A curl's whole lines, as they come; it gives up on a silent line."""
    command = ["curl", "-sSN", "--speed-limit", "1", "--speed-time", str(SILENCE_S), *more, url]
    curl = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield (line[:-1].decode() for line in curl.stdout if line.endswith(b"\n"))
    finally:
        curl.kill()
        curl.stdout.close()
        curl.stderr.close()
        curl.wait()


def curl_sse(url, since, *more):
    """curl, whose user reads blocks of lines."""
    fields = ["-H", f"Last-Event-ID: {since}"] if since else []
    with curl_lines(f"{url}/events/sse", *fields, *more) as lines:
        block = {}
        for line in lines:
            if line:
                name, _, value = line.partition(": ")
                block[name] = value
                continue
            retry = int(block["retry"]) if "retry" in block else None
            data = json.loads(block["data"])
            yield block.get("event", "message"), block.get("id"), data, retry
            block = {}


def curl_sse_http10(url, since):
    return curl_sse(url, since, "--http1.0")


def curl_stream(url, since):
    """curl and lines of JSON."""
    with curl_lines(f"{url}/events/stream?since={since}") as lines:
        for line in lines:
            data = json.loads(line)
            kind = "message" if "topic" in data else next(iter(data))
            data = data.get(kind, data)
            yield kind, data.get("id"), data, data.get("retry")


def curl_poll(url, since, *more):
    """curl and one long poll; an answer that is not whole has not come."""
    at = f"{url}/events/poll?timeout=1" + ("" if more else f"&since={since}")
    command = ["curl", "-sS", "--max-time", str(SILENCE_S), *more, at]
    done = subprocess.run(command, capture_output=True)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        return
    if done.returncode == 0:
        if "hello" in answer:
            yield "hello", answer["hello"]["id"], answer["hello"], None
        for event in answer["events"]:
            yield "message", event["id"], event, None
        yield "last", answer["last"], {}, None


def curl_poll_by_tag(url, since):
    """The same by the entity tag that curl keeps in a file. It keeps that of a cut answer, too:
    only behind a whole one may its user take it. An answer that comes in chunks has none."""
    with tempfile.NamedTemporaryFile("r") as file:
        asked = f'If-None-Match: "{since}"'
        found = list(curl_poll(url, since, "-H", asked, "--etag-save", file.name))
        tag = file.read().strip()
    if found:
        assert tag in ("", f'"{found[-1][1]}"'), f"{tag} behind {found[-1]}"
    yield from found


SSE = [httpx_sse, sseclient_httpx, sseclient_http10, curl_sse, curl_sse_http10]
POLLS = [curl_poll, curl_poll_by_tag]
CLIENTS = [*SSE, curl_stream, *POLLS]


def sequence(id_):
    return int(id_.rsplit("-", 1)[1])


class Follower:
    """A user of one client: connects again after the last id seen, until `count` events are there."""

    def __init__(self, client, url, last, count):
        self.client, self.url, self.last, self.count = client, url, last, count
        self.name = client.__name__
        self.seen, self.hellos, self.retries, self.lost = [], [], [], 0
        self.connections = 0

    def follow(self):
        end = time.monotonic() + DEADLINE_S
        while len(self.seen) + self.lost < self.count and time.monotonic() < end:
            self.connect()
            time.sleep(0.01)
        return self

    def connect(self):
        """One connection, until it breaks or all is seen. Everything in a log has its sequence, so
        a viewer of everything knows what it lost, and must have been told so."""
        self.connections += 1
        told = 0
        with contextlib.closing(self.client(self.url, self.last)) as events:
            for kind, id_, data, retry in events:
                if retry is not None:
                    self.retries.append(retry)
                if kind == "hello":
                    is_as_asked = (id_, data["reset"]) == (self.last, False)
                    assert is_as_asked, f"{self.name}: {data} after {self.last}"
                    assert "exact" not in data, data
                    self.hellos.append(data)
                    told = data["lost"]
                elif kind == "message":
                    missed = sequence(id_) - sequence(self.last) - 1
                    assert missed == told, f"{self.name}: {missed} missed, {told} told, at {id_}"
                    self.lost += told
                    told = 0
                    self.seen.append(data["value"])
                self.last = id_ or self.last
                if len(self.seen) + self.lost >= self.count:
                    break


def at_once(followers):
    """All of them, each in a thread of its own."""
    with concurrent.futures.ThreadPoolExecutor(len(followers)) as pool:
        return list(pool.map(Follower.follow, followers))


class OnABadLine(unittest.TestCase):
    config = common.QUIET

    def setUp(self):
        self.server = common.Server(self.config)
        self.addCleanup(self.server.folder.cleanup)
        self.addCleanup(self.server.end)

    def head(self):
        """The id of the newest event; of one there must be, for LOG-0 would be a fresh viewer's."""
        if not json.loads(self.server.request("GET", "/topics")[2])["topics"]:
            self.server.publish_numbers([-1])
        return json.loads(self.server.request("GET", "/topics")[2])["id"]

    def cutting(self, *args, **how):
        proxy = common.CuttingProxy(self.server.port, *args, **how)
        self.addCleanup(proxy.listener.close)
        return proxy

    def again(self, config):
        """The server once more, with another configuration."""
        self.server.end()
        self.server.config.write_text(common.QUIET + config)
        self.server.start()


class Cuts(OnABadLine):
    def test_every_number_comes_once_and_in_order(self):
        head = self.head()
        proxies = [self.cutting(6000, 25, ways=WAYS, early=True) for _ in CLIENTS]
        followers = [Follower(client, proxy.url, head, NUMBERS)
                     for client, proxy in zip(CLIENTS, proxies)]
        pace = random.Random(proxies[0].seed)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            ends = pool.submit(at_once, followers)
            published = 0
            while published < NUMBERS:
                more = min(published + pace.randint(1, 30), NUMBERS)
                self.server.publish_numbers(range(published, more))
                published = more
                time.sleep(0.08)
            ends.result()
        for follower, proxy in zip(followers, proxies):
            with self.subTest(client=follower.name, seed=proxy.seed):
                self.assertEqual(follower.seen, list(range(NUMBERS)))
                self.assertGreater(proxy.cuts, 8)
                if follower.client in POLLS:
                    self.assertEqual(follower.hellos, [], "a poll that lost nothing has no hello")
                if follower.client in SSE:
                    self.assertGreater(len(set(follower.retries)), 3, "they are not all the same")
                    for retry in follower.retries:
                        self.assertTrue(2000 <= retry <= 5000, retry)
                print(f"{follower.name}: {proxy.cuts} cuts, "
                      f"{follower.connections} connections", flush=True)

    def test_a_silent_line_is_noticed_and_a_quiet_one_kept(self):
        """Without heartbeats a time-out would be wrong half of the time."""
        self.again("[server]\nheartbeat = 1\n")
        proxy = self.cutting(1, cuts=0)
        clients = [httpx_sse, sseclient_httpx, sseclient_http10, curl_sse, curl_stream]
        followers = [Follower(client, proxy.url, self.head(), 2) for client in clients]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            ends = pool.submit(at_once, followers)
            self.server.publish_numbers([0])
            time.sleep(SILENCE_S + 1.5)
            self.assertEqual([follower.connections for follower in followers], [1] * len(clients))
            proxy.dark.set()
            self.server.publish_numbers([1])
            time.sleep(SILENCE_S + 2)
            proxy.dark.clear()
            ends.result()
        for follower in followers:
            with self.subTest(client=follower.name):
                self.assertEqual(follower.seen, [0, 1])
                self.assertGreater(follower.connections, 1)


class Lapped(OnABadLine):
    """With a small window: what is lost is told, to the number."""

    config = common.QUIET + "[limits]\nring_bytes = 65536\n"

    def test_who_was_away(self):
        head = self.head()
        self.server.publish_numbers(range(3000))
        proxies = [self.cutting(20_000, 12, ways=("fin", "rst"), early=True) for _ in CLIENTS]
        followers = [Follower(client, proxy.url, head, 3000)
                     for client, proxy in zip(CLIENTS, proxies)]
        for follower, proxy in zip(at_once(followers), proxies):
            with self.subTest(client=follower.name, seed=proxy.seed):
                self.assertGreater(follower.lost, 1500)
                self.assertEqual(follower.seen, list(range(follower.lost, 3000)))

    def test_who_is_held_up(self):
        """A frozen line with little room: a second hello in the same stream tells."""
        pad = "x" * 1500
        clients = [httpx_sse, sseclient_http10, curl_sse, curl_stream]
        proxies = [self.cutting(500, 1, ways=("stall",), hole_s=2, narrow=True) for _ in clients]
        followers = [Follower(client, proxy.url, self.head(), 2000)
                     for client, proxy in zip(clients, proxies)]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            ends = pool.submit(at_once, followers)
            common.wait_until(lambda: self.server.viewers() == len(clients), what="viewers")
            for at in range(0, 2000, 40):
                events = [{"topic": "count", "value": [n, pad]} for n in range(at, at + 40)]
                self.assertEqual(self.server.request("POST", "/topics", json.dumps(events))[0], 200)
            ends.result()
        for follower in followers:
            with self.subTest(client=follower.name):
                self.assertEqual((follower.connections, follower.seen[-1][0]), (1, 1999))
                self.assertGreater(follower.lost, 500)
                self.assertGreater(len(follower.hellos), 1)


class Ends(OnABadLine):
    """The server's own ends, as each client sees them."""

    def hold(self, clients):
        """A connection of each client, behind its hello and the one event."""
        held = [client(self.server.url, "") for client in clients]
        for events in held:
            self.assertEqual([next(events)[0], next(events)[0]], ["hello", "message"])
        return held

    def assert_reset(self, clients, last):
        """All connect with an id of the log before, and are told."""
        for client in clients:
            with contextlib.closing(client(self.server.url, last)) as events:
                kind, id_, data, _ = next(events)
                self.assertEqual((kind, data["reset"], data["lost"]), ("hello", True, 0))
                self.assertNotEqual(data["log"], last.split("-")[0])
                self.assertEqual(next(events)[2]["value"], 2, "the newest value comes again")

    def test_killed_and_drained_and_back(self):
        streams = [*SSE, curl_stream]
        for how in [signal.SIGKILL, signal.SIGTERM]:
            self.server.request("PUT", "/topics/a", "1")
            last = self.head()
            held = self.hold(streams)
            self.server.end(how)
            for client, events in zip(streams, held):
                with self.subTest(client=client.__name__, how=how.name):
                    rest = list(events)
                    if how == signal.SIGKILL:
                        self.assertEqual(rest, [])
                        continue
                    [(kind, _, busy, retry)] = rest
                    self.assertEqual((kind, busy["reason"]), ("busy", "draining"))
                    self.assertTrue(1000 <= busy["retry"] <= 5000, busy)
                    self.assertEqual(retry, busy["retry"])
            self.server.start()
            self.server.request("PUT", "/topics/a", "2")
            with self.subTest(how=how.name):
                self.assert_reset(CLIENTS, last)

    def test_full(self):
        self.again("[limits]\nviewers = 1\n")
        self.server.request("PUT", "/topics/a", "1")
        [held] = self.hold([curl_stream])
        for client in SSE:
            with self.subTest(client=client.__name__):
                [(kind, _, busy, retry)] = list(client(self.server.url, ""))
                self.assertEqual((kind, busy), ("busy", {"reason": "full", "retry": retry}))
                self.assertTrue(10_000 <= retry <= 60_000, retry)
        head = self.head()
        for path in ["stream", f"poll?since={head}"]:
            with self.subTest(path=path):
                # curl itself obeys Retry-After, and says that it is longer than it may take.
                command = ["curl", "-sS", "-f", "-D", "-", "--retry", "2", "--retry-max-time", "5",
                           f"{self.server.url}/events/{path}"]
                began = time.monotonic()
                done = common.run(command, ok=(22,))
                self.assertLess(time.monotonic() - began, 5)
                self.assertEqual(done.stdout.count("HTTP/1.1 503 "), 1, done.stdout)
                self.assertRegex(done.stdout, r"(?m)^Retry-After: [1-6]\d\r?$")
        held.close()
        common.wait_until(lambda: self.server.viewers() == 0, what="a free place")
        self.hold([httpx_sse])


if __name__ == "__main__":
    common.main()
