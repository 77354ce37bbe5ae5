"""A server in one network, clients in another, a cable between them: what a real address may do,
and how soon the place of a client that vanished is free.

Network namespaces and a veth pair (hostile/network.py). As root only; else all of it is skipped.
"""

import hashlib
import json
import socket
import time
import unittest

import common
from hostile import Board, get, network

SERVER, CLIENT = "10.77.0.1", "10.77.0.2"
SERVER6, CLIENT6 = "fd77::1", "fd77::2"
SECRET = "correct-horse-battery-staple"
TOKEN = f"""
[[token]]
name = "phone"
sha256 = "{hashlib.sha256(SECRET.encode()).hexdigest()}"
read = ["#"]
write = ["lamp/#"]
"""
# Slots must be free by then, says the issue.
FREE_S = 30


class Vanished:
    """A connection whose other end is going to vanish: what it said, and how it reads."""

    def __init__(self, board, cable, state, first, is_read=True):
        self.state = state
        receive_bytes = None if is_read else 4096
        self.socket = board.connect(SERVER, namespace=cable.client, receive_bytes=receive_bytes)
        self.socket.sendall(first)
        self.port = self.socket.getsockname()[1]
        self.free_s = None

    def read(self, wanted):
        """Reads until `wanted` has come."""
        text = b""
        while wanted not in text:
            piece = self.socket.recv(65536)
            assert piece, f"{self.state}: closed after {text}"
            text += piece


class VanishTest(unittest.TestCase):
    @network.needed
    def test_a_place_is_free_within_half_a_minute(self):
        with network.Cable() as cable:
            with Board(listen=[SERVER], namespace=cable.server) as board:
                before = board.descriptors()
                peers = self.peers(board, cable)
                try:
                    self.watch(board, cable, peers)
                finally:
                    for peer in peers:
                        peer.socket.close()
                for peer in peers:
                    print(f"  {peer.state}: free after {peer.free_s} s", flush=True)
                    with self.subTest(peer.state):
                        self.assertIsNotNone(peer.free_s, "its slot is taken for ever")
                        self.assertLess(peer.free_s, FREE_S)
                common.wait_until(lambda: board.descriptors() <= before, 5, "descriptors back")
                self.assertEqual(board.viewers(), 0)

    def peers(self, board, cable):
        """One in each state."""
        log = board.request("GET", "/topics")[2]
        head = json.loads(log)["id"]
        poll = get(f"/events/poll?topics=none&timeout=60&since={head}")
        body = b"PUT /topics/lamp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n1"
        rows = [
            ("idle keep-alive", get("/health"), b"}"),
            ("nothing said", b"", None),
            ("half a head", b"GET /topics HTTP/1.1\r\nHost: loc", None),
            ("SSE with events", get("/events/sse?topics=ticks"), b"event: hello"),
            ("SSE without events", get("/events/sse?topics=none"), b"event: hello"),
            ("NDJSON with an interval", get("/events/stream?topics=ticks&interval=1"), b"hello"),
            ("held long-poll", poll, None),
            ("zero window", get("/events/sse?topics=burst"), None),
        ]
        peers = []
        for state, first, wanted in rows:
            peer = Vanished(board, cable, state, first, is_read=state != "zero window")
            peers.append(peer)
            if wanted:
                peer.read(wanted)
        # A body that is refused for want of a token is answered at once: only what is said counts.
        peers.append(Vanished(board, cable, "half a body, refused", body))
        common.wait_until(lambda: board.viewers() == 5, 5, "everybody is held")
        events = json.dumps([{"topic": "burst", "value": "x" * 6000} for _ in range(10)])
        for _ in range(6):
            self.assertEqual(board.request("POST", "/topics", events)[0], 200)
        time.sleep(0.5)  # Half a head is not yet over, and its window is closed by now.
        return peers

    def watch(self, board, cable, peers):
        """Cuts the cable; when each is let go of. Events go on."""
        cable.cut()
        cut = time.monotonic()
        ticks = 0
        while time.monotonic() < cut + FREE_S + 10:
            status, *_ = board.request("PUT", "/topics/ticks", str(ticks))
            self.assertEqual(status, 200, "the board itself goes on")
            ticks += 1
            held = {port for address, port in board.held_now() if address == CLIENT}
            for peer in peers:
                if peer.free_s is None and peer.port not in held:
                    peer.free_s = round(time.monotonic() - cut, 1)
            if all(peer.free_s is not None for peer in peers):
                return
            time.sleep(0.2)


class AddressTest(unittest.TestCase):
    """One board for all that an address may do."""

    @classmethod
    def setUpClass(cls):
        if network.why_not():
            raise unittest.SkipTest(network.why_not())
        cls.cable = network.Cable()
        cls.cable.__enter__()
        cls.addClassCleanup(cls.cable.__exit__)
        cable = cls.cable
        # A network that is on-link, though its addresses are public; and one that is far away.
        cable.add_address(cable.server, "198.51.100.1/24")
        cable.add_address(cable.client, "198.51.100.2/24")
        cable.add_address(cable.client, "203.0.113.5/32", "lo")
        cable.add_address(cable.client, "2001:db8:1::5/128", "lo")
        network.ip("-n", cable.server, "route", "add", "203.0.113.0/24", "via", CLIENT)
        network.ip("-n", cable.server, "route", "add", "2001:db8:1::/64", "via", CLIENT6)
        # Three of one home's, and one of the next.
        for address in ("fd77::3/64", "fd77::4/64", "10.77.0.3/24"):
            cable.add_address(cable.client, address)
        cable.add_address(cable.client, "fd78::2/64")
        cable.add_address(cable.server, "fd78::1/64")
        config = "[limits]\nper_address = 4\n" + TOKEN
        listen = [SERVER, "198.51.100.1", f"[{SERVER6}]", "[fd78::1]"]
        cls.board = Board(config, listen=listen, namespace=cable.server)
        cls.addClassCleanup(cls.board.__exit__)

    def ask(self, path, to=SERVER, source=None, method="GET", body=None, **fields):
        where = dict(to=to, source=source, namespace=self.cable.client)
        fields = {name.replace("_", "-"): value for name, value in fields.items()}
        return self.board.request(method, path, body, fields, **where)

    def test_reading_is_open_near_and_closed_far(self):
        rows = [
            (SERVER, CLIENT, 200),
            (SERVER6, CLIENT6, 200),
            ("198.51.100.1", "198.51.100.2", 200),
            (SERVER, "203.0.113.5", 401),
            (SERVER6, "2001:db8:1::5", 401),
        ]
        for to, source, status in rows:
            for path in ("/topics", "/events/poll?timeout=0", "/metrics", "/nothing"):
                with self.subTest(f"{source}: {path}"):
                    wanted = 404 if (path, status) == ("/nothing", 200) else status
                    got, fields, body = self.ask(path, to, source)
                    self.assertEqual(got, wanted, body)
                    if status == 401:
                        self.assertTrue(fields["WWW-Authenticate"].startswith("Bearer"))
            for path in ("/", "/health", "/session"):
                self.assertEqual(self.ask(path, to, source)[0], 200)
        bearer = f"Bearer phone.{SECRET}"
        self.assertEqual(self.ask("/topics", SERVER, "203.0.113.5", Authorization=bearer)[0], 200)

    def test_writing_from_elsewhere_needs_a_token(self):
        put = dict(method="PUT", body="1")
        for source in (CLIENT, "203.0.113.5"):
            status, _, body = self.ask("/topics/lamp/a", source=source, **put)
            self.assertEqual(status, 403, body)
            self.assertIn(b"token", body)
        # Neither a Host of localhost nor a forwarding field makes it local.
        self.assertEqual(self.ask("/topics/lamp/a", Host="localhost", **put)[0], 403)
        self.assertEqual(
            self.ask("/topics/lamp/a", X_Forwarded_For="127.0.0.1", **put)[0], 403
        )
        bearer = f"Bearer phone.{SECRET}"
        self.assertEqual(self.ask("/topics/lamp/a", Authorization=bearer, **put)[0], 200)
        self.assertEqual(self.ask("/topics/door", Authorization=bearer, **put)[0], 403)
        here = self.board.request("PUT", "/topics/door", "1")
        self.assertEqual(here[0], 200, "the board itself needs none")

    def test_a_name_that_is_not_ours_is_refused(self):
        """DNS rebinding: a page of evil.example whose name now means the board."""
        name = socket.gethostname().split(".")[0].lower()
        ours = [SERVER, f"{SERVER}:{self.board.port}", "localhost", "[fd77::1]", name]
        ours += [f"{name}{suffix}" for suffix in (".local", ".lan", ".home", ".home.arpa")]
        ours += [f"{name}.internal", f"{name}.localdomain", f"{name}.fritz.box:8080"]
        for host in ours:
            self.assertEqual((host, self.ask("/topics", Host=host)[0]), (host, 200))
        for host in ("evil.example", f"{name}.evil.example", f"{name}.com", "10.77.0.1.nip.io"):
            for path in ("/", "/topics", "/health", "/nothing"):
                status, _, body = self.ask(path, Host=host)
                self.assertEqual((host, status), (host, 421), body)
                self.assertIn(b"hosts = [", body)

    def open(self, to, source, first=b""):
        sock = self.board.connect(to, source, namespace=self.cable.client)
        self.addCleanup(sock.close)
        sock.sendall(first)
        return sock

    def stream(self, to, source):
        """The first bytes that a new stream gets."""
        sock = self.open(to, source, get("/events/sse?topics=none"))
        text = b""
        while b"\n\n" not in text and (piece := sock.recv(65536)):
            text += piece
        return sock, text

    def check_cap(self, to, sources, other_to, other):
        """An owner of addresses has four places, whichever of them it uses; others have theirs."""
        idle = [self.open(to, sources[n % len(sources)]) for n in range(4)]
        time.sleep(0.1)  # They are not new any more.
        status = self.ask("/health", to, sources[0])[0]
        self.assertEqual(status, 200, "the longest idle one gives way")
        self.assertEqual(idle[0].recv(1), b"", "and is closed")
        for sock in idle:
            sock.close()
        common.wait_until(lambda: not self.held(sources), 5, "all are gone")
        streams = [self.stream(to, sources[n % len(sources)]) for n in range(4)]
        for _, text in streams:
            self.assertIn(b"event: ", text)
        for source in sources:
            status, fields, body = self.ask("/health", to, source)
            self.assertEqual(status, 503)
            self.assertIn(b"this address has too many connections", body)
            self.assertEqual(fields["Retry-After"], "10")
        self.assertEqual(self.ask("/health", other_to, other)[0], 200)
        self.assertEqual(self.board.request("GET", "/health")[0], 200)
        for sock, _ in streams:
            sock.close()
        common.wait_until(lambda: not self.held(sources), 5, "all are gone")
        self.assertEqual(self.ask("/health", to, sources[0])[0], 200, "its places are free again")

    def held(self, sources):
        return [key for key in self.board.held_now() if key[0] in sources]

    def test_an_ipv4_address_is_one_owner(self):
        self.check_cap(SERVER, [CLIENT], SERVER, "10.77.0.3")

    def test_an_ipv6_network_is_one_owner(self):
        self.check_cap(SERVER6, ["fd77::3", "fd77::4"], "fd78::1", "fd78::2")

    def test_loopback_has_no_cap(self):
        socks = [self.board.connect() for _ in range(20)]
        self.assertEqual(self.board.request("GET", "/health")[0], 200)
        for sock in socks:
            sock.sendall(get("/health"))
            self.assertIn(b"200 OK", sock.recv(65536))
            sock.close()


if __name__ == "__main__":
    common.main()
