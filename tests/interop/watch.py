"""encke watch and encke publish: the client in the same binary, over restarts and a bad line."""

import json
import queue
import signal
import subprocess
import threading
import time
import unittest

import common

NUMBERS = 2000


class Watch:
    """A running `encke watch`; its output and errors as queues of lines."""

    def __init__(self, url, *patterns):
        self.process = subprocess.Popen(
            [common.BIN, "watch", url, *patterns],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.out, self.err = queue.Queue(), queue.Queue()
        for pipe, lines in [(self.process.stdout, self.out), (self.process.stderr, self.err)]:
            threading.Thread(target=self.read, args=(pipe, lines), daemon=True).start()

    @staticmethod
    def read(pipe, lines):
        for line in pipe:
            lines.put(line)

    def line(self, seconds=15):
        return json.loads(self.out.get(timeout=seconds))

    def said(self, words, seconds=15):
        """The first line of errors with these words in it."""
        end = time.monotonic() + seconds
        while True:
            line = self.err.get(timeout=max(0.01, end - time.monotonic()))
            if words in line:
                return line

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(5)
        self.process.stdout.close()
        self.process.stderr.close()


class Client(unittest.TestCase):
    def setUp(self):
        self.server = common.Server(common.QUIET)
        self.addCleanup(self.server.folder.cleanup)
        self.addCleanup(self.server.end)

    def watch(self, *arguments):
        watch = Watch(*arguments)
        self.addCleanup(watch.end)
        return watch

    def publish(self, *arguments):
        done = subprocess.run(
            [common.BIN, "publish", *arguments], capture_output=True, text=True, timeout=15)
        return done.returncode, done.stdout, done.stderr

    def test_publish(self):
        for value, want in [("21.5", 21.5), ("-3", -3), ('"a b"', "a b"), ("open", "open"),
                            ('{"a":[1,null]}', {"a": [1, None]}), ("\u00b0C", "\u00b0C"), ("", "")]:
            code, out, err = self.publish(self.server.url, "/garden/gate", value)
            self.assertEqual((code, err), (0, ""), value)
            event = json.loads(self.server.request("GET", "/topics/garden/gate")[2])
            self.assertEqual((event["value"], event["id"]), (want, json.loads(out)["id"]))

    def test_publish_says_why_not(self):
        nobody = f"127.0.0.1:{common.free_port()}"
        for code, words, *arguments in [
            (1, "nobody answers", nobody, "a", "1"),
            (1, "8192", self.server.url, "a", "x" * 9000),
            (2, "is no topic", self.server.url, "a b", "1"),
            (2, "https", "https://127.0.0.1", "a", "1"),
        ]:
            got, out, err = self.publish(*arguments)
            self.assertEqual((got, out), (code, ""), err)
            self.assertIn(words, err)

    def test_watch_chosen_topics(self):
        self.server.request("PUT", "/topics/a/1", "1")
        self.server.request("PUT", "/topics/b", "2")
        watch = self.watch(self.server.url, "a/+", "c/#")
        self.assertEqual(watch.line()["value"], 1)
        for topic, value in [("b", 3), ("c", 4), ("c/d/e", 5), ("a/x/y", 6), ("a/x", 7)]:
            self.server.request("PUT", f"/topics/{topic}", str(value))
        self.assertEqual([watch.line()["value"] for _ in range(3)], [4, 5, 7])

    def test_watch_ends_with_its_reader(self):
        self.server.request("PUT", "/topics/a", "1")
        line = f"{common.BIN} watch {self.server.url} | head -n 1; echo ${{PIPESTATUS[0]}}"
        shell = subprocess.Popen(["bash", "-c", line], stdout=subprocess.PIPE, text=True)
        with shell.stdout:
            self.assertEqual(json.loads(shell.stdout.readline())["value"], 1)
            for n in range(100):
                self.server.request("PUT", "/topics/a", str(n))
                if shell.poll() is not None:
                    break
                time.sleep(0.05)
            self.assertEqual(shell.wait(5), 0)
            self.assertEqual(shell.stdout.read(), "0\n")

    def test_watch_over_a_restart(self):
        for how in [signal.SIGKILL, signal.SIGTERM]:
            self.server.request("PUT", "/topics/a", "1")
            watch = self.watch(self.server.url)
            self.assertEqual(watch.line()["value"], 1)
            self.server.end(how)
            watch.said("trying again")
            self.server.start()
            self.server.request("PUT", "/topics/a", "2")
            hello = watch.line()["hello"]
            self.assertEqual((hello["reset"], hello["lost"]), (True, 0))
            watch.said("the log is a new one")
            self.assertEqual(watch.line()["value"], 2)
            watch.end()

    def test_watch_over_a_cutting_line(self):
        self.server.request("PUT", "/topics/count", "-1")
        with common.CuttingProxy(self.server.port, 12_000, cuts=40) as proxy:
            watch = self.watch(proxy.url)
            # Numbers from before its first whole event would be one newest value to it.
            self.assertEqual(watch.line()["value"], -1)
            self.server.publish_numbers(range(NUMBERS))
            seen = [watch.line(30)["value"] for _ in range(NUMBERS)]
            self.assertEqual(seen, list(range(NUMBERS)), f"seed {proxy.seed}")
            self.assertGreater(proxy.cuts, 4)
            watch.said("resumed, nothing was lost")
            print(f"{proxy.cuts} cuts", flush=True)


if __name__ == "__main__":
    common.main()
