"""slowhttptest (Debian) against a board: slow heads, bodies, reads and ranges.

While it runs, the existing viewer gets every event in order, and the page and the API answer. It
runs on this computer, where no limit of connections per address protects anybody.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

import common
from hostile import Board, Ordinary

CONNECTIONS = 300
SECONDS = 4
# Less than its connections: pages and the API have to come through all the same.
LIMITS = "[limits]\nviewers = 1000\npages = 64\n"

SHAPES = {
    "heads": ["-H", "-i", "1"],
    "bodies": ["-B", "-i", "1", "-s", "8192", "-t", "POST"],
    "reads": ["-X", "-n", "1", "-z", "8", "-w", "512", "-y", "1024", "-k", "3"],
    "ranges": ["-R", "-a", "1", "-b", "3000"],
}


class SlowHttpTest(unittest.TestCase):
    def setUp(self):
        if not shutil.which("slowhttptest"):
            self.skipTest("there is no slowhttptest here (Debian: slowhttptest)")

    def check(self, shape, path="/topics"):
        with Board(LIMITS) as board:
            for number in range(40):
                board.request("PUT", f"/topics/large/t{number}", '"' + "x" * 6000 + '"')
            before = board.descriptors()
            with Ordinary(board) as ordinary:
                time.sleep(1)
                quiet = ordinary.since()
                said = self.attack(board, SHAPES[shape], path)
                seen = ordinary.since()
            common.wait_until(lambda: board.descriptors() <= before, 15, "descriptors as before")
        print(f"  {shape}: viewer {quiet['latency_ms']} -> {seen['latency_ms']} ms", end=", ")
        print(f"API {seen['api']} {seen['api_ms']} ms; {said}", file=sys.stdout, flush=True)
        self.assertEqual((seen["missing"], seen["in_order"], seen["trouble"]), ([], True, []))
        self.assertGreater(seen["events"], SECONDS)
        self.assertLessEqual(set(seen["api"]), {"200", "again"})

    def attack(self, board, how, path):
        """Runs it; what it says of its connections. Meanwhile the page is looked at."""
        command = ["slowhttptest", "-c", str(CONNECTIONS), "-r", "200", "-l", str(SECONDS)]
        command += ["-p", "3", "-u", f"{board.url}{path}", *how]
        with tempfile.TemporaryFile("w+") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out)
            pages = 0
            try:
                end = time.monotonic() + SECONDS + 20
                while process.poll() is None and time.monotonic() < end:
                    self.assertEqual(board.request("GET", "/")[0], 200)
                    pages += 1
                    time.sleep(0.2)
                self.assertIsNotNone(process.poll(), "it ends by itself")
            finally:
                process.kill()
                process.wait()
            out.seek(0)
            text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", out.read())
        self.assertGreater(pages, 1, text)
        counts = re.findall(r"^(connected|error|closed):\s+(\d+)", text, re.MULTILINE)
        self.assertTrue(counts, text)
        available = re.findall(r"service available:\s+(\w+)", text)
        return f"{pages} pages; at the end {dict(counts)}, available: {available[-1:]}"

    def test_slow_heads(self):
        self.check("heads")

    def test_slow_bodies(self):
        self.check("bodies", "/topics/slow")

    def test_slow_reads(self):
        self.check("reads")

    def test_ranges(self):
        self.check("ranges", "/")


if __name__ == "__main__":
    common.main()
