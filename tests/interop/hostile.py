"""Hostile clients, one shape after another, while an ordinary viewer and an ordinary client go on.

The table at the end says what those two saw, what the hostile ones were told and when they were let
go of, against the deadlines of src/peers/sweep.rs. Only what cannot be noise is asserted: every
event arrives and in order, the API answers, places come free. With --table each shape is watched
for longer and alone, for numbers worth writing down.
"""

import contextlib
import json
import re
import resource
import socket
import struct
import sys
import threading
import time
import unittest

import common
import hostile
from hostile import Board, Crowd, Flood, Ordinary, get, network

TABLE = "--table" in sys.argv
DWELL_S = 10.0 if TABLE else 1.2
# In debug builds a million take a minute.
PIPELINED = 1_000_000 if TABLE else 50_000 if hostile.IS_DEBUG else 300_000
BIG = json.dumps("x" * 6000)
HALF_HEAD = b"GET /topics HTTP/1.1\r\nHost: localhost\r\nX-Long: "
SLOW_BODY = b"PUT /topics/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n1"
LISTING = get("/topics")
STREAM = get("/events/sse?topics=burst")

HEADS = ("shape", "viewer before", "viewer during", "API during", "told", "let go after", "RSS")
rows = []


def words(counts):
    return ", ".join(f"{count}x {what}" for what, count in sorted(counts.items(), key=str)) or "-"


def milliseconds(values):
    return " / ".join(f"{value:g}" for value in values)


def seconds(held):
    """When the server let go of the first and the last of a crowd, and how many it still has."""
    gone = [value for value in held if value is not None]
    text = f"{min(gone):.0f}-{max(gone):.0f} s" if gone else ""
    return text + (f" {len(held) - len(gone)} held" if len(gone) < len(held) else "")


class Watched:
    """A board, its ordinary clients, and what they saw before anybody was hostile. A context."""

    def __init__(self, test, config="", topics=0, **board):
        self.test = test
        self.board = Board(config, **board)
        self.stack = contextlib.ExitStack()
        self.stack.enter_context(self.board)
        try:
            for number in range(topics):
                self.board.request("PUT", f"/topics/large/t{number}", BIG)
            self.descriptors = self.board.descriptors()
            self.ordinary = self.stack.enter_context(Ordinary(self.board))
            time.sleep(0.5)
            self.ordinary.since()
            time.sleep(DWELL_S)
            self.before = self.ordinary.since()
            self.rss_kib = self.board.rss_kib()
        except BaseException:
            self.stack.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def during(self, shape, api=("200", "again")):
        """What the ordinary ones saw of a shape until now, as a row; nobody starved."""
        seen = self.ordinary.since()
        row = {
            "shape": shape,
            "viewer before": milliseconds(self.before["latency_ms"]),
            "viewer during": milliseconds(seen["latency_ms"]),
            "API during": f"{words(seen['api'])}; {milliseconds(seen['api_ms'])}",
            "RSS": f"{self.rss_kib / 1024:.1f} -> {self.board.rss_kib() / 1024:.1f}",
        }
        rows.append(row)
        with self.test.subTest(shape):
            self.test.assertEqual((seen["missing"], seen["trouble"]), ([], []))
            self.test.assertTrue(seen["in_order"])
            if api:
                self.test.assertGreater(seen["events"], 0)
                self.test.assertLessEqual(set(seen["api"]), set(api), seen)
        return row

    def all_gone(self):
        """The ordinary ones go too: every descriptor is back."""
        self.ordinary.__exit__()
        common.wait_until(
            lambda: self.board.descriptors() <= self.descriptors, 5, "descriptors as at the start"
        )

    def burst(self, count=60):
        """Publishes much, for those who never read."""
        events = [{"topic": "burst", "value": "x" * 6000} for _ in range(10)]
        for _ in range(count // 10):
            status, _, body = self.board.request("POST", "/topics", json.dumps(events))
            self.test.assertEqual(status, 200, body)


# What is slow: a shape, its crowd, what it is told, and between which seconds it is let go of. The
# kernel gives up a peer that takes nothing after 12 s; that is looked at with each of its probes.
SLOW = [
    ("a body, one byte a second", dict(first=SLOW_BODY, drip=b"1" * 99), 408, (59, 66)),
    ("an answer, one byte a second", dict(first=LISTING, read="byte"), None, (11, 30)),
    ("a stream, never read", dict(first=STREAM, read="none"), None, (11, 30)),
    ("says nothing", {}, 0, (19, 24)),
    ("half a head", dict(first=HALF_HEAD), 408, (9, 15)),
    ("a head, one byte a second", dict(first=HALF_HEAD, drip=b"x" * 99), 408, (9, 15)),
]


class Slow(threading.Thread):
    """All that is slow, on one board: begun one after the other, then left to the deadlines."""

    COUNT = 20

    def __init__(self):
        super().__init__(daemon=True)
        self.trouble = None
        self.found = []  # row, wanted status, wanted seconds, crowd

    def run(self):
        try:
            self.watch(unittest.TestCase())
        except BaseException as error:
            self.trouble = error

    def watch(self, test):
        limits = "[limits]\nviewers = 2000\npages = 128\n"
        with Watched(test, limits, topics=40) as watched, contextlib.ExitStack() as crowds:
            board = watched.board

            def begin(shape, crowd, status, window):
                crowds.callback(crowd.end)
                if "never read" in shape:
                    watched.burst()
                time.sleep(DWELL_S)
                self.found.append((watched.during(shape), status, window, crowd))

            for shape, how, status, window in SLOW:
                begin(f"{self.COUNT} {shape}", Crowd(board, self.COUNT, **how), status, window)
            for read, shape in (("none", "never read"), ("slow", "1,000 bytes of them a second")):
                flood = Flood(board, 1_000_000, read)
                begin(f"1,000,000 requests in one, answers {shape}", flood, None, (11, 30))
            self.polls(watched, begin)
            self.wait_for_ends()
            for row, _, _, crowd in self.found:
                row["let go after"] = seconds(crowd.held_s())
                row["told"] = words({**crowd.ends(), **crowd.statuses()})
            crowds.close()
            watched.all_gone()

    @staticmethod
    def polls(watched, begin):
        """Held for 5 s, answered, and idle."""
        head = json.loads(watched.board.request("GET", "/topics")[2])["id"]
        poll = get(f"/events/poll?topics=none&since={head}&timeout=5")
        crowd = Crowd(watched.board, 1000, first=poll)
        begin("1,000 long polls", crowd, 200, (23, 31))

    def wait_for_ends(self):
        end = time.monotonic() + 75
        while time.monotonic() < end:
            if all(None not in crowd.held_s() for *_, crowd in self.found):
                return
            time.sleep(0.2)


slow = Slow()


class FloodTest(unittest.TestCase):
    def setUp(self):
        """The deadlines of the slow ones run meanwhile, except where the numbers are wanted."""
        if TABLE:
            slow.join(200)

    def test_pipelining_at_full_speed(self):
        with Watched(self) as watched:
            begun = time.monotonic()
            with Flood(watched.board, PIPELINED, "all") as flood:
                common.wait_until(lambda: flood.answers >= PIPELINED, 60, f"{PIPELINED} answers")
                took = time.monotonic() - begun
                row = watched.during(f"{PIPELINED:,} requests in one, read as they come")
                row["told"] = f"{flood.answers:,}x 200 in {took:.1f} s"
                self.assertEqual(flood.answers, PIPELINED)
            watched.all_gone()

    def test_resets_and_churn(self):
        with Watched(self, "[limits]\nviewers = 200\npages = 32\n", topics=20) as watched:
            pieces = [b"", HALF_HEAD, SLOW_BODY, LISTING, LISTING * 20, STREAM]
            row = watched_churn(watched, "resets in the middle", pieces, struct.pack("ii", 1, 0))
            self.assertGreater(row, 50)
            row = watched_churn(watched, "connects and closes", [b""], struct.pack("ii", 0, 0))
            self.assertGreater(row, 50)
            watched.all_gone()

    def test_all_places_of_viewers(self):
        with Watched(self, "[limits]\nviewers = 24\npages = 16\n") as watched:
            board = watched.board
            stream = lambda number: get(f"/events/sse?topics=burst,own/t{number}")
            with Crowd(board, 40, first=stream, read="none") as crowd:
                common.wait_until(lambda: board.viewers() == 24, 5, "all places taken")
                watched.burst()
                self.refused_kindly(board)
                time.sleep(DWELL_S)
                row = watched.during("40 streams never read, for 24 places and audiences")
                self.assertEqual(board.viewers(), 24)
                self.refused_kindly(board)
                row["told"] = "a new SSE: busy; NDJSON and a poll: 503; timeout=0: 200"
            common.wait_until(lambda: board.viewers() == 1, 5, "places free again")
            self.assertIn(b"event: hello", first_of_stream(board))
            watched.all_gone()

    def refused_kindly(self, board):
        """What newcomers are told when all places of viewers are taken (DESIGN.md 3)."""
        with common.Raw(board.port, get("/events/sse")) as raw:
            answer = raw.answer()
        self.assertEqual(answer.status, 200)
        found = re.fullmatch(
            rb'retry: ?(\d+)\n+event: ?busy\ndata: ?\{"reason":"full","retry":\1\}\n\n', answer.body
        )
        self.assertTrue(found, answer.body)
        self.assertTrue(10_000 <= int(found[1]) <= 60_000, found[1])
        head = json.loads(board.request("GET", "/topics")[2])["id"]
        for path in ("/events/stream", f"/events/poll?since={head}&topics=none&timeout=20"):
            status, fields, _ = board.request("GET", path)
            self.assertEqual((path, status), (path, 503))
            self.assertTrue(10 <= int(fields["Retry-After"]) <= 60)
        for path in (f"/events/poll?since={head}&timeout=0", "/", "/topics", "/health"):
            self.assertEqual((path, board.request("GET", path)[0]), (path, 200))

    def test_all_buffers_of_pages(self):
        """Each for itself: all have a place, but only so many at once may ask something."""
        poll = "/events/poll?topics=none&timeout=60&since="
        shapes = [
            ("half heads", dict(first=HALF_HEAD)),
            ("bodies, one byte a second", dict(first=SLOW_BODY, drip=b"1" * 99)),
            ("answers, one byte a second", dict(first=LISTING * 3, read="byte")),
            ("polls with half a request behind them", None),
        ]
        with Watched(self, "[limits]\nviewers = 64\npages = 8\n", topics=40) as watched:
            for shape, how in shapes:
                head = json.loads(watched.board.request("GET", "/topics")[2])["id"]
                how = how or dict(first=get(poll + head) + HALF_HEAD)
                with Crowd(watched.board, 24, **how) as crowd:
                    time.sleep(DWELL_S + 3)
                    row = watched.during(f"24 {shape}, for 8 buffers")
                    row["told"] = words({**crowd.ends(), **crowd.statuses()})
                    row["let go after"] = seconds(crowd.held_s())
                self.assertEqual(watched.board.request("GET", "/")[0], 200)
            self.endless_requests(watched)
            watched.all_gone()

    @staticmethod
    def endless_requests(watched):
        """Whoever always asks for more is told to close when it has had its share."""
        with contextlib.ExitStack() as stack:
            floods = [Flood(watched.board, 10_000_000, "all") for _ in range(12)]
            for flood in floods:
                stack.callback(flood.end)
            time.sleep(DWELL_S + 3)
            row = watched.during("12 that pipeline without end, for 8 buffers")
            row["told"] = f"{sum(flood.answers for flood in floods):,}x 200"
            row["let go after"] = seconds([flood.held_s()[0] for flood in floods])

    def test_all_spills(self):
        """Buffers for what a socket did not take: 64 here."""
        limits = "[limits]\nviewers = 200\npages = 16\nring_bytes = 1048576\n"
        with Watched(self, limits, topics=40) as watched:
            with Crowd(watched.board, 150, first=STREAM, read="none") as crowd:
                common.wait_until(lambda: watched.board.viewers() == 151, 5, "150 streams")
                for _ in range(6):
                    watched.burst()
                    time.sleep(DWELL_S / 6)
                    hello = first_of_stream(watched.board, 150_000)
                    self.assertIn(b"event: hello", hello)
                row = watched.during("150 streams never read, for 64 spills")
                row["told"] = words(crowd.ends())
            watched.all_gone()

    def test_all_topics(self):
        with Watched(self, "[limits]\ntopics = 16\n") as watched:
            board = watched.board
            told = [board.request("PUT", f"/topics/t{n}", "1")[0] for n in range(40)]
            self.assertEqual(told, [200] * 15 + [507] * 25)
            status, _, body = board.request("PUT", "/topics/more", "1")
            self.assertIn(b"topics", body)
            self.assertEqual(board.request("PUT", "/topics/t3", "2")[0], 200)
            time.sleep(DWELL_S)
            row = watched.during("40 new topics, for 16 places")
            row["told"] = words({status: told.count(status) for status in set(told)})
            watched.all_gone()

    def test_all_guessers(self):
        """More addresses guess tokens than are remembered; each address waits for itself."""
        with Watched(self) as watched:
            board, told = watched.board, {}
            for number in range(100):
                for _ in range(7):
                    status = guess(board, f"127.0.1.{number + 1}")
                    told[status] = told.get(status, 0) + 1
            row = watched.during("100 addresses guess tokens, for 64 remembered")
            row["told"] = words(told)
            self.assertEqual(told, {401: 500, 429: 200})
            self.assertEqual(guess(board, "127.0.1.100"), 429)
            self.assertEqual(board.request("GET", "/topics", source="127.0.1.100")[0], 200)
            watched.all_gone()

    def test_few_descriptors_from_the_start(self):
        with Watched(self, nofile=100) as watched:
            for shape, first in (("say nothing", b""), ("half heads", HALF_HEAD)):
                with Crowd(watched.board, 300, first=first) as crowd:
                    time.sleep(DWELL_S)
                    # In so small a house a newcomer may take the place of one that waits.
                    api = ("200", "again", "503", "ConnectionResetError")
                    row = watched.during(f"300 {shape}, with 100 descriptors", api)
                    self.assertIn("x 200", row["API during"])
                    row["told"] = words({**crowd.ends(), **crowd.statuses()})
            watched.all_gone()

    def test_no_descriptors_left(self):
        """All descriptors are those of streams, which are never given up for somebody new."""
        with Watched(self) as watched:
            board = watched.board
            few = board.descriptors() + 20
            resource.prlimit(board.process.pid, resource.RLIMIT_NOFILE, (few, few))
            with Crowd(board, 80, first=get("/events/sse"), read="all") as crowd:
                common.wait_until(lambda: board.descriptors() == few, 5, "all descriptors taken")
                time.sleep(0.5)
                cpu_s, begun = board.cpu_s(), time.monotonic()
                time.sleep(3.0)
                cpu = (board.cpu_s() - cpu_s) / (time.monotonic() - begun)
                row = watched.during("80 streams, for 20 descriptors", api=None)
                streams = sum(member.greeted for member in crowd.members)
                row["told"] = f"{streams}x hello, others wait; {cpu:.0%} of a processor"
                self.assertLess(cpu, 0.3)
            begun = time.monotonic()
            self.assertEqual(board.request("GET", "/")[0], 200)
            self.assertLess(time.monotonic() - begun, 3)
            self.assertIn("too few file descriptors", board.log())
            watched.all_gone()

    @network.needed
    def test_one_address_opens_everything(self):
        limits = "[limits]\nper_address = 8\n"
        with network.Cable() as cable:
            here = dict(listen=["10.77.0.1"], namespace=cable.server)
            with Watched(self, limits, **here) as watched:
                board = watched.board
                far = lambda _: board.connect("10.77.0.1", namespace=cable.client)
                self.idle_ones_give_way(watched, far)
                self.busy_ones_do_not(watched, far)
                with Crowd(board, 30, of=lambda _: board.connect()) as crowd:
                    self.assertEqual(crowd.ends(), {"open": 30})
                    self.assertEqual(board.request("GET", "/health")[0], 200)
                    time.sleep(0.3)
                    self.assertEqual(crowd.ends(), {"open": 30})
                watched.all_gone()

    def idle_ones_give_way(self, watched, far):
        with Crowd(watched.board, 40, of=far) as crowd:
            common.wait_until(lambda: crowd.ends().get("open") == 8, 5, "8 left of 40")
            time.sleep(DWELL_S)
            row = watched.during("40 that say nothing from one address that may have 8")
            self.assertEqual(crowd.ends().get("open"), 8)
            row["told"] = words(crowd.ends())
            with far(0) as sock:
                sock.sendall(get("/health"))
                self.assertIn(b"200 OK", sock.recv(4096))
            common.wait_until(lambda: crowd.ends().get("open") == 7, 5, "one has given way")

    def busy_ones_do_not(self, watched, far):
        with Crowd(watched.board, 40, first=get("/events/sse"), of=far) as crowd:
            common.wait_until(lambda: len(crowd.ends()) > 1, 5, "some are refused")
            time.sleep(DWELL_S)
            row = watched.during("40 streams from one address that may have 8")
            streams = sum(member.greeted for member in crowd.members)
            told = [member.told for member in crowd.members if not member.greeted]
            self.assertEqual((streams, len(told)), (8, 32))
            self.assertTrue(all(b"this address has too many connections" in text for text in told))
            self.assertTrue(all(b"Retry-After: 10" in text for text in told))
            row["told"] = f"{streams}x hello, {len(told)}x 503, {words(crowd.ends())}"


class SlowTest(unittest.TestCase):
    def test_the_slow_are_let_go_of_in_time(self):
        slow.join(200)
        if slow.trouble:
            raise slow.trouble
        self.assertEqual(len(slow.found), len(SLOW) + 3)
        for row, status, (least, most), crowd in slow.found:
            with self.subTest(row["shape"]):
                held = crowd.held_s()
                self.assertTrue(all(s is not None and least <= s <= most for s in held), held)
                if status is not None:
                    self.assertEqual(crowd.statuses(), {status: len(crowd.members)})


def guess(board, source):
    fields = {"Authorization": "Bearer phone.wrong"}
    return board.request("GET", "/topics", None, fields, source=source)[0]


def first_of_stream(board, count=1000):
    """The first bytes of a new stream, up to so many or what comes within a second."""
    head = b""
    with board.connect() as sock:
        sock.sendall(get("/events/sse"))
        sock.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while len(head) < count and (piece := sock.recv(65536)):
                head += piece
    return head


def watched_churn(watched, shape, pieces, linger):
    """Connections that send something and go at once; how many there were."""
    count, end = 0, time.monotonic() + DWELL_S
    while time.monotonic() < end:
        with watched.board.connect() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            sock.sendall(pieces[count % len(pieces)])
            count += 1
    row = watched.during(f"{shape}, as fast as one can")
    row["told"] = f"{count / DWELL_S:,.0f} connections a second"
    return count


def load_tests(loader, *_):
    """The slow ones are looked at last: their deadlines run meanwhile."""
    cases = (loader.loadTestsFromTestCase(case) for case in (FloodTest, SlowTest))
    return unittest.TestSuite(cases)


def setUpModule():
    slow.start()


def tearDownModule():
    print("\nLatencies are median / p99 / maximum in ms, RSS in MiB.\n")
    print("| " + " | ".join(HEADS) + " |")
    print("|" + "---|" * len(HEADS))
    for row in rows:
        print("| " + " | ".join(row.get(head, "-") for head in HEADS) + " |")
    print(flush=True)


if __name__ == "__main__":
    sys.argv = [word for word in sys.argv if word != "--table"]
    common.main()
