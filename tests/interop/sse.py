"""PyPI's httpx-sse: live events. What a bad line and the server's ends do to it is in cuts.py."""

import json
import unittest

import httpx
from httpx_sse import connect_sse

import common


def events(url):
    """What one connection brings."""
    with httpx.Client(timeout=10) as client:
        with connect_sse(client, "GET", f"{url}/events/sse") as source:
            source.response.raise_for_status()
            yield from source.iter_sse()


class Sse(unittest.TestCase):
    def setUp(self):
        self.server = common.Server(common.QUIET)
        self.addCleanup(self.server.folder.cleanup)
        self.addCleanup(self.server.end)

    def test_live_events(self):
        self.server.request("PUT", "/topics/a/b", "1")
        source = events(self.server.url)
        hello, first = next(source), next(source)
        self.assertEqual((hello.event, hello.json()["reset"]), ("hello", False))
        self.assertTrue(2000 <= hello.retry <= 5000, hello.retry)
        self.assertEqual((first.event, first.json()["value"]), ("message", 1))
        for value in ["two", [3, None], {"four": 4.5}, True, "\u00e4\u2028<&>\n"]:
            self.server.request("PUT", "/topics/a/b", json.dumps(value))
            event = next(source)
            self.assertEqual(event.json()["value"], value)
            self.assertEqual(event.id, event.json()["id"])
        source.close()


if __name__ == "__main__":
    common.main()
