"""Many requests in one go: wrk with a script that knows each answer, and raw bytes that count them."""

import json
import random
import re
import tempfile
import time

import common

DEPTH = 16  # requests in one write of wrk
WRK_S = 2

# One connection for each thread, so that the n-th answer must be the one to the n-th request.
SCRIPT = """
local depth, asked, threads = %d, 0, {}
wrong, first = 0, ""
function setup(thread) table.insert(threads, thread) end
function init()
  local all = {}
  for i = 0, depth - 1 do
    all[i + 1] = wrk.format("GET", i %% 4 == 3 and "/nothing" or "/topics/n/t" .. i)
  end
  batch = table.concat(all)
end
function request() return batch end
function response(status, fields, body)
  local i = asked %% depth
  asked = asked + 1
  local fits = status == 200 and body:find('"value":"answer ' .. i .. '"}', 1, true)
  if i %% 4 == 3 then fits = status == 404 end
  if not fits then
    wrong = wrong + 1
    first = "answer " .. asked .. ", " .. status .. ": " .. body
  end
end
function done(summary)
  local errors = summary.errors
  local bad, why = 0, ""
  for _, thread in ipairs(threads) do
    bad = bad + thread:get("wrong")
    why = why .. thread:get("first")
  end
  print(string.format("requests=%%d wrong=%%d connect=%%d read=%%d write=%%d timeout=%%d status=%%d",
    summary.requests, bad, errors.connect, errors.read, errors.write, errors.timeout, errors.status))
  print(why)
end
""" % DEPTH


def get(path, *fields):
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode()


def put(path, value, chunked=False):
    body = json.dumps(value).encode()
    how = b"Content-Length: %d" % len(body)
    if chunked:
        how, middle = b"Transfer-Encoding: chunked", len(body) // 2
        pieces = [piece for piece in (body[:middle], body[middle:]) if piece]
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    return b"PUT %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n%s" % (path.encode(), how, body)


class Pipelining(common.WithServer):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for i in range(DEPTH):
            cls.server.request("PUT", f"/topics/n/t{i}", f'"answer {i}"')

    def counted(self):
        return self.server.counter("encke_requests_total")

    def wrk(self, threads):
        """The figures of one run, as `done` printed them, and what the server counted."""
        before = self.counted()
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(SCRIPT)
            script.flush()
            command = ["wrk", f"-t{threads}", f"-c{threads}", f"-d{WRK_S}s", "--timeout", "5s",
                       "-s", script.name, self.server.url]
            done = common.run(command, seconds=60)
        found = re.search(r"requests=.*\n.*", done.stdout)
        self.assertTrue(found, done.stdout + done.stderr)
        line, why = found[0].split("\n")
        figures = {name: int(n) for name, n in re.findall(r"(\w+)=(\d+)", line)}
        time.sleep(0.2)  # the server learns that wrk has left
        return figures, why, self.counted() - before - 1

    def test_wrk(self):
        for threads in [1, 2]:
            figures, why, counted = self.wrk(threads)
            with self.subTest(threads=threads, **figures, why=why):
                print(f"wrk: {threads} connections, {figures['requests']} answers in {WRK_S} s,"
                      f" {figures['wrong']} wrong")
                self.assertGreater(figures["requests"], 1000)
                for name in ["wrong", "connect", "read", "write", "timeout"]:
                    self.assertEqual(figures[name], 0, name)
                # wrk counts what is not 2xx or 3xx; a quarter of these is meant to be so.
                self.assertAlmostEqual(figures["status"], figures["requests"] / 4, delta=DEPTH * threads)
                # It leaves in the midst of a batch, so the server may have answered more.
                self.assertGreaterEqual(counted, figures["requests"])
                self.assertLessEqual(counted, figures["requests"] + 4 * DEPTH * threads)

    def test_every_answer_to_the_byte(self):
        """20,000 requests, written without waiting and cut anywhere: each answer is its own."""
        count = 20_000
        sent = b"".join(get(f"/topics/n/t{i % DEPTH}") for i in range(count))
        random.seed(7)
        alone = []
        for i in range(DEPTH):
            with common.Raw(self.server.port, get(f"/topics/n/t{i}")) as peer:
                alone.append(peer.answer().body)
        with common.Raw(self.server.port) as peer:
            answered = 0
            # The server reads no more while nobody takes its answers; so neither side may wait.
            while sent or answered < count:
                cut = random.randint(1, 20_000)
                peer.send(sent[:cut])
                sent = sent[cut:]
                asked = count - sent.count(b"GET ") if sent else count
                while answered < asked - 1 or (not sent and answered < count):
                    answer = peer.answer()
                    self.assertEqual(answer.status, 200)
                    self.assertEqual(answer.body, alone[answered % DEPTH], answered)
                    answered += 1
            self.assertEqual(peer.rest, b"")
            peer.send(get("/health", "Connection: close"))
            self.assertTrue(peer.answer().closes)
            self.assertTrue(peer.ended())

    def test_behind_each_kind_of_body(self):
        """Writes and reads mixed in one write: each read sees the write just before it."""
        random.seed(11)
        requests, wanted = [], []
        for n in range(2_000):
            value = random.choice([n, f"text {n}", "x" * random.randint(0, 3000), "GET / HTTP/1.1\r\n\r\n"])
            requests.append(put("/topics/mixed", value, chunked=n % 2 == 0))
            requests.append(get("/topics/mixed"))
            requests.append(b"HEAD" + get("/")[3:])
            wanted.append(value)
        with common.Raw(self.server.port) as peer:
            for at in range(0, len(requests), 30):
                peer.send(b"".join(requests[at : at + 30]))
                for n in range(at // 3, at // 3 + min(10, len(wanted) - at // 3)):
                    self.assertIn("id", json.loads(peer.answer().body))
                    self.assertEqual(json.loads(peer.answer().body)["value"], wanted[n])
                    self.assertEqual(peer.answer(to_head=True).status, 200)
            self.assertEqual(peer.rest, b"")

    def test_behind_a_held_poll(self):
        """What stands behind a held poll is answered after it, in its order."""
        last = json.loads(self.server.request("GET", "/events/poll?topics=held")[2])["last"]
        poll = get(f"/events/poll?topics=held&since={last}&timeout=20")
        with common.Raw(self.server.port, poll + get("/topics/n/t1") + get("/nothing")) as peer:
            peer.socket.settimeout(0.5)
            with self.assertRaises(TimeoutError):
                peer.answer()
            peer.socket.settimeout(10)
            self.server.request("PUT", "/topics/held", "1")
            self.assertEqual(json.loads(peer.answer().body)["events"][0]["value"], 1)
            self.assertEqual(json.loads(peer.answer().body)["value"], "answer 1")
            self.assertEqual(peer.answer().status, 404)
            self.assertEqual(peer.rest, b"")

    def test_a_peer_that_takes_no_answers_is_not_read(self):
        """Requests without end from somebody who reads nothing: they stop being taken."""
        with common.Raw(self.server.port) as peer:
            peer.socket.settimeout(0.5)
            sent = 0
            with self.assertRaises(TimeoutError):
                while sent < 1 << 28:
                    sent += peer.socket.send(get("/") * 100)
            self.assertEqual(self.server.request("GET", "/health")[0], 200)

    def test_nothing_behind_close(self):
        with common.Raw(self.server.port) as peer:
            peer.send(get("/topics/n/t1", "Connection: close") + get("/topics/n/t2"))
            self.assertTrue(peer.answer().closes)
            self.assertTrue(peer.ended())

    def test_nothing_behind_a_refusal(self):
        for bad in [b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
                    b"POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\n1"]:
            with self.subTest(bad), common.Raw(self.server.port) as peer:
                peer.send(get("/topics/n/t1") + bad + get("/topics/n/t2"))
                self.assertEqual(peer.answer().status, 200)
                answer = peer.answer()
                self.assertEqual((answer.status, answer.closes), (400, True))
                self.assertTrue(peer.ended())


if __name__ == "__main__":
    common.main()
