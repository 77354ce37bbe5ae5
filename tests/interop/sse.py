"""PyPI's httpx-sse: live events, a restart told as reset, and a cut stream without a gap."""

import json
import signal
import time
import unittest

import httpx
from httpx_sse import connect_sse

import common

NUMBERS = 2000
DEADLINE_S = 60


def events(url, last=""):
    """What one connection brings, until it breaks."""
    fields = {"Last-Event-ID": last} if last else {}
    try:
        with httpx.Client(timeout=10) as client:
            with connect_sse(client, "GET", f"{url}/events/sse", headers=fields) as source:
                source.response.raise_for_status()
                yield from source.iter_sse()
    except httpx.TransportError:
        return


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

    def test_restart_is_told_as_reset(self):
        self.server.request("PUT", "/topics/a", "1")
        source = events(self.server.url)
        last = [next(source), next(source)][-1].id
        self.server.end(signal.SIGKILL)
        self.assertEqual(list(source), [])
        self.server.start()
        hello = next(events(self.server.url, last))
        self.assertEqual((hello.event, hello.json()["reset"]), ("hello", True))
        self.assertNotEqual(hello.json()["log"], last.split("-")[0])

    def test_busy_when_full(self):
        self.server.end()
        self.server.config.write_text(common.QUIET + "[limits]\nviewers = 1\n")
        self.server.start()
        held = events(self.server.url)
        next(held)
        said = list(events(self.server.url))
        self.assertEqual([event.event for event in said], ["busy"])
        self.assertEqual(said[0].json()["reason"], "full")
        self.assertTrue(10_000 <= said[0].json()["retry"] <= 60_000)
        held.close()

    def test_cut_stream_loses_nothing(self):
        self.server.publish_numbers([0])
        last = json.loads(self.server.request("GET", "/topics/count")[2])["id"]
        seen, published, end = [0], 1, time.monotonic() + DEADLINE_S
        with common.CuttingProxy(self.server.port, 8_000, cuts=200) as proxy:
            while len(seen) < NUMBERS and time.monotonic() < end:
                for event in events(proxy.url, last):
                    data = event.json()
                    if event.event == "hello":
                        self.assertEqual((data["lost"], data["reset"], data["id"]), (0, False, last))
                    else:
                        seen.append(data["value"])
                        last = event.id
                    if published < NUMBERS and len(seen) > published - 150:
                        more = min(published + 100, NUMBERS)
                        self.server.publish_numbers(range(published, more))
                        published = more
                    if len(seen) >= NUMBERS:
                        break
            self.assertEqual(seen, list(range(NUMBERS)), f"seed {proxy.seed}")
            self.assertGreater(proxy.cuts, 10)
            print(f"{proxy.cuts} cuts", flush=True)


if __name__ == "__main__":
    common.main()
