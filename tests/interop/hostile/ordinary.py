"""An ordinary viewer that is fed 10 events a second, and an ordinary client of the API beside it.

A process of its own, so that what the hostile ones cost their own does not count. It reads names of
spans, one a line, and answers each with one line of JSON: what was seen in the span before it.
"""

import http.client
import json
import socket
import statistics
import sys
import threading
import time

EVERY_S = 0.1
PATIENCE_S = 20.0


def summary(values):
    """Median, 99th percentile and maximum; zeros for nothing."""
    if not values:
        return [0.0, 0.0, 0.0]
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return [round(value, 1) for value in (statistics.median(ordered), p99, ordered[-1])]


class Ordinary:
    def __init__(self, port):
        self.port = port
        self.lock = threading.Lock()
        self.ended = False
        self.sent = {}  # by number: when, and whether it was taken
        self.heard = []  # numbers and times, as they came
        self.calls = []  # when it ended, how, and after how many seconds
        self.trouble = []
        self.ready = threading.Event()
        for work in (self.view, self.feed, self.ask):
            threading.Thread(target=work, daemon=True).start()

    def view(self):
        """Reads the stream, and never connects again: an existing viewer stays one."""
        try:
            sock = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
            head = "GET /events/sse?topics=ordinary&snapshot=0 HTTP/1.1\r\nHost: localhost\r\n\r\n"
            sock.sendall(head.encode())
            rest = b""
            while piece := sock.recv(65536):
                now = time.monotonic()
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if line.startswith(b"data: ") and b'"log"' in line:
                        self.ready.set()
                    elif line.startswith(b"data: ") and b'"topic"' in line:
                        with self.lock:
                            self.heard.append((json.loads(line[6:])["value"], now))
            raise OSError("the stream ended")
        except OSError as error:
            if not self.ended:
                self.trouble.append(f"viewer: {error}")
            self.ready.set()

    def ticks(self):
        next_s = time.monotonic()
        while not self.ended:
            yield
            next_s = max(next_s + EVERY_S, time.monotonic())
            time.sleep(max(0.0, next_s - time.monotonic()))

    def feed(self):
        self.ready.wait(PATIENCE_S)
        connection, number = None, 0
        for _ in self.ticks():
            number += 1
            with self.lock:
                self.sent[number] = [time.monotonic(), False]
            try:
                connection = connection or self.connect()
                connection.request("PUT", "/topics/ordinary", str(number))
                answer = connection.getresponse()
                answer.read()
                with self.lock:
                    self.sent[number][1] = answer.status == 200
                if answer.will_close:
                    connection = None
            except (OSError, http.client.HTTPException):
                connection = None

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def ask(self):
        """/health on a connection of its own each time, /topics on one that is kept."""
        self.ready.wait(PATIENCE_S)
        kept = None
        for _ in self.ticks():
            fresh = self.connect()
            self.call(fresh, "/health")
            fresh.close()
            kept = kept or self.connect()
            kept = self.call(kept, "/topics")

    def call(self, connection, path):
        """The connection, if it can be used again. One that was closed meanwhile is opened anew, as
        any client does; that counts as `again`."""
        begun = time.monotonic()
        outcome = None
        for is_last in (False, True):
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read()
                outcome = str(answer.status)
                if answer.status == 200:
                    json.loads(body)
                break
            except (OSError, http.client.HTTPException, ValueError) as error:
                connection.close()
                outcome = type(error).__name__
                if is_last or not isinstance(error, (ConnectionError, http.client.HTTPException)):
                    break
                with self.lock:
                    self.calls.append((begun, "again", 0.0))
        with self.lock:
            now = time.monotonic()
            self.calls.append((now, outcome, now - begun))
        return None if outcome != "200" else connection

    def report(self, since, until):
        """What became of everything that began in a span; waits for what is still on its way."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and not self.trouble:
            with self.lock:
                heard = {number for number, _ in self.heard}
                span = {n: row for n, row in self.sent.items() if since <= row[0] < until}
                if all(number in heard for number, row in span.items() if row[1]):
                    break
            time.sleep(0.02)
        with self.lock:
            heard = list(self.heard)
            calls = [call for call in self.calls if since <= call[0] < until]
        numbers = [number for number, _ in heard]
        taken = [number for number, row in span.items() if row[1]]
        times = dict(heard)
        waits = [(times[number] - span[number][0]) * 1000 for number in taken if number in times]
        outcomes = {}
        for _, outcome, _ in calls:
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        answered = [seconds * 1000 for _, outcome, seconds in calls if outcome != "again"]
        return {
            "events": len(taken),
            "refused": len(span) - len(taken),
            "missing": [number for number in taken if number not in times],
            "in_order": all(a < b for a, b in zip(numbers, numbers[1:])),
            "latency_ms": summary(waits),
            "api": outcomes,
            "api_ms": summary(answered),
            "trouble": self.trouble,
        }


def main():
    ordinary = Ordinary(int(sys.argv[1]))
    since = time.monotonic()
    for _ in sys.stdin:
        now = time.monotonic()
        print(json.dumps(ordinary.report(since, now)), flush=True)
        since = now
    ordinary.ended = True


if __name__ == "__main__":
    main()
