"""Presence with real clients: curl and PyPI's httpx-sse see each other come and go, and talk.

Two guests stand for two browsers: each holds one stream of `room/#` and of who is there, and says
something with its token.
"""

import json
import queue
import socket
import struct
import subprocess
import threading
import time
import unittest

import httpx
from httpx_sse import connect_sse

import common

LOBBY, THERE = "room/lobby", "encke/presence/room/lobby"
TOPICS = "room/%23,encke/presence/room/%23"
WAIT_S = 10


class Guest:
    """Hears events until it goes; `heard` has (topic, value)."""

    def __init__(self):
        self.heard = queue.Queue()
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def until(self, topic, value):
        """Values of `topic` up to this one."""
        values, end = [], time.monotonic() + WAIT_S
        while value not in values:
            left = end - time.monotonic()
            assert left > 0, f"{topic} is not {value}: {values}"
            try:
                found, heard = self.heard.get(timeout=left)
            except queue.Empty:
                continue
            if found == topic:
                values.append(heard)
        return values


class Curl(Guest):
    """`curl -N`, reading the stream of JSON lines."""

    def __init__(self, url, token):
        self.process = subprocess.Popen(
            ["curl", "-sN", "-H", f"Authorization: Bearer {token}",
             f"{url}/events/stream?topics={TOPICS}"],
            stdout=subprocess.PIPE, text=True)
        super().__init__()

    def listen(self):
        for line in self.process.stdout:
            event = json.loads(line)
            if "topic" in event:
                self.heard.put((event["topic"], event["value"]))

    def go(self):
        self.process.terminate()
        self.process.wait(5)
        self.thread.join(5)
        self.process.stdout.close()


class Source(Guest):
    """An EventSource."""

    def __init__(self, url, token):
        self.url, self.token = url, token
        self.client = httpx.Client(timeout=30)
        self.going = False
        super().__init__()

    def listen(self):
        fields = {"Authorization": f"Bearer {self.token}"}
        url = f"{self.url}/events/sse?topics={TOPICS}"
        try:
            with connect_sse(self.client, "GET", url, headers=fields) as source:
                self.source = source
                for event in source.iter_sse():
                    if event.event == "message":
                        self.heard.put((event.json()["topic"], event.json()["value"]))
        except (httpx.HTTPError, httpx.StreamError, OSError, RuntimeError):
            assert self.going

    def go(self):
        self.going = True
        stream = self.source.response.extensions["network_stream"]
        sock = stream.get_extra_info("socket")
        # As a browser's tab that is closed: nothing of the connection is left.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)
        self.client.close()


class Poll(Guest):
    """Long-polls, one after the other on one connection; `rest_s` between two."""

    def __init__(self, url, token, rest_s):
        self.url, self.token, self.rest_s = url, token, rest_s
        self.going = False
        super().__init__()

    def listen(self):
        since = ""
        with httpx.Client(timeout=30, headers={"Authorization": f"Bearer {self.token}"}) as client:
            while not self.going:
                query = f"topics={TOPICS}&timeout=1{since}"
                answer = client.get(f"{self.url}/events/poll?{query}").json()
                for event in answer["events"]:
                    self.heard.put((event["topic"], event["value"]))
                since = f"&since={answer['last']}"
                time.sleep(self.rest_s)

    def go(self):
        self.going = True
        self.thread.join(5)


def made(name, read, write):
    """Lines for the configuration, and a token."""
    text = common.run([common.BIN, "token", name]).stdout
    rows = text.split("\n\n")[0].splitlines()
    rows = [row for row in rows if not row.startswith(("read", "write"))]
    rows += [f"read = {json.dumps(read)}", f"write = {json.dumps(write)}", ""]
    token = next(line for line in text.splitlines() if line.startswith("token:")).split()[1]
    return "\n".join(rows), token


class Presence(unittest.TestCase):
    def setUp(self):
        rows, self.token = made("guest", ["room/#"], ["room/#"])
        other, self.outsider = made("other", ["encke/#"], ["encke/#"])
        self.server = common.Server(common.QUIET + f"[server]\nread = []\n{rows}{other}")
        self.addCleanup(self.server.folder.cleanup)
        self.addCleanup(self.server.end)

    def say(self, value):
        fields = {"Authorization": f"Bearer {self.token}"}
        status, _, body = self.server.request("POST", f"/topics/{LOBBY}", json.dumps(value), fields)
        self.assertEqual(status, 200, body)
        return json.loads(body)["subscribers"]

    def test_two_see_each_other_come_and_go_and_talk(self):
        self.say("open")
        first = Curl(self.server.url, self.token)
        self.assertEqual(first.until(THERE, 1)[-1], 1)
        second = Source(self.server.url, self.token)
        self.assertEqual(first.until(THERE, 2), [2])
        second.until(THERE, 2)
        self.assertEqual(self.say("hello"), 2)
        for guest in (first, second):
            self.assertEqual(guest.until(LOBBY, "hello")[-1], "hello")
        second.go()
        self.assertEqual(first.until(THERE, 1), [1])
        second = Source(self.server.url, self.token)
        self.assertEqual(first.until(THERE, 2), [2])
        first.go()
        second.until(THERE, 1)
        second.go()

    def test_polls_do_not_flicker(self):
        self.say(0)
        witness = Curl(self.server.url, self.token)
        witness.until(THERE, 1)
        polls = [Poll(self.server.url, self.token, rest_s) for rest_s in (0, 0.3)]
        witness.until(THERE, 3)
        for value in range(1, 9):
            time.sleep(0.5)
            self.say(value)
        self.assertEqual(witness.until(LOBBY, 8)[-1], 8)
        for poll in polls:
            self.assertEqual(poll.until(LOBBY, 8)[-1], 8)
            poll.go()
        # Neither 2 nor 4 in between; then both are gone, in any order.
        self.assertIn(witness.until(THERE, 1), ([1], [2, 1]))
        witness.go()

    def test_who_may_not_read_a_room_is_not_told_who_is_there(self):
        self.say("open")
        get = lambda token: self.server.request(
            "GET", f"/topics/{THERE}", fields={"Authorization": f"Bearer {token}"} if token else {})[0]
        common.wait_until(lambda: get(self.token) == 200, what="the presence topic")
        self.assertEqual([get(token) for token in (self.outsider, "")], [403, 401])
        status, _, body = self.server.request(
            "PUT", f"/topics/{THERE}", "99", {"Authorization": f"Bearer {self.outsider}"})
        self.assertEqual(status, 403, body)
        fields = {"Authorization": f"Bearer {self.outsider}"}
        self.assertNotIn(b"room", self.server.request("GET", "/topics", fields=fields)[2])


if __name__ == "__main__":
    common.main()
