"""Python's own HTTP clients and aiohttp: keep-alive, chunks both ways, streams, deadlines."""

import asyncio
import http.client
import json
import time
import urllib.error
import urllib.request

import aiohttp

import common


class HttpClient(common.WithServer):
    """http.client and urllib, which come with Python."""

    def setUp(self):
        self.connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        self.addCleanup(self.connection.close)

    def ask(self, method, path, body=None, fields=None, **how):
        """Status and body, on the connection that is kept."""
        self.connection.request(method, path, body, fields or {}, **how)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def test_one_connection_carries_everything(self):
        self.connection.connect()
        port = self.connection.sock.getsockname()[1]
        for n in range(50):
            self.assertEqual(self.ask("PUT", "/topics/a", str(n))[0], 200)
            self.assertEqual(json.loads(self.ask("GET", "/topics/a")[1])["value"], n)
            self.assertEqual(self.ask("HEAD", "/"), (200, b""))
            self.assertEqual(self.ask("GET", "/nothing")[0], 404)
            self.assertEqual(self.ask("DELETE", "/topics/never")[0], 404)
            self.assertEqual(self.ask("POST", "/topics/a", "{", {"Content-Type": "application/json"})[0], 400)
            self.assertEqual(self.ask("GET", "/events/poll?timeout=0")[0], 200)
            self.assertEqual(self.connection.sock.getsockname()[1], port, "another connection")

    def test_a_body_nobody_wants_ends_the_connection(self):
        for path, status in [("/metrics", 405), ("/nothing", 404)]:
            for body in ["unwanted", "x" * 1_000_000]:
                with self.subTest(path=path, bytes_=len(body)):
                    self.connection.request("POST", path, body)
                    answer = self.connection.getresponse()
                    self.assertEqual((answer.status, answer.will_close), (status, True))
                    self.assertEqual(len(answer.read()), int(answer.headers["Content-Length"]))
                    self.assertEqual(self.ask("GET", "/health")[0], 200)

    def test_chunks_both_ways(self):
        for pieces in [["1", "2", "3"], ["[", "1," * 100, "2]"], ["x" * 4000], [" "] * 300 + ["5"]]:
            body = (piece.encode() for piece in pieces)
            status, said = self.ask("PUT", "/topics/chunks", body, encode_chunked=True,
                                    fields={"Transfer-Encoding": "chunked"})
            self.assertEqual(status, 200, said)
            value = json.loads(self.ask("GET", "/topics/chunks")[1])["value"]
            whole = "".join(pieces)
            self.assertEqual(value, json.loads(whole) if whole[0] != "x" else whole)
        self.connection.request("GET", "/events/stream?topics=chunks")
        answer = self.connection.getresponse()
        self.assertEqual(answer.getheader("Transfer-Encoding"), "chunked")
        self.assertIn("hello", json.loads(answer.readline()))
        self.assertEqual(json.loads(answer.readline())["value"], 5)
        for n in range(300):
            self.server.request("PUT", "/topics/chunks", str(n))
            self.assertEqual(json.loads(answer.readline())["value"], n)

    def test_http10(self):
        self.connection._http_vsn, self.connection._http_vsn_str = 10, "HTTP/1.0"
        for path in ["/", "/topics", "/events/poll"]:
            self.connection.request("GET", path, headers={"Connection": "keep-alive"})
            answer = self.connection.getresponse()
            self.assertEqual((answer.status, answer.will_close), (200, True), path)
            self.assertTrue(answer.read())
            self.connection.close()

    def test_a_poll_is_held_then_answered(self):
        last = json.loads(self.ask("GET", "/events/poll?topics=held")[1])["last"]
        began = time.monotonic()
        status, body = self.ask("GET", f"/events/poll?topics=held&since={last}&timeout=0.7")
        self.assertEqual((status, json.loads(body)["events"]), (200, []))
        self.assertTrue(0.6 < time.monotonic() - began < 3)
        self.connection.request("GET", f"/events/poll?topics=held&since={last}")
        common.wait_until(lambda: self.server.viewers() == 1, what="the poll is held")
        self.server.request("PUT", "/topics/held", '"news"')
        body = self.connection.getresponse().read()
        self.assertEqual(json.loads(body)["events"][0]["value"], "news")

    def test_urllib(self):
        for n in range(20):
            asked = urllib.request.Request(f"{self.url}/topics/urllib", str(n).encode(), method="PUT")
            with urllib.request.urlopen(asked, timeout=10) as answer:
                self.assertEqual(answer.headers["Connection"], "close", "urllib asks for it")
                self.assertIn("id", json.load(answer))
            with urllib.request.urlopen(f"{self.url}/topics/urllib", timeout=10) as answer:
                self.assertEqual(json.load(answer)["value"], n)
        with self.assertRaises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{self.url}/topics/urllib", b"x" * 3_000_000, timeout=10)
        self.assertEqual(refused.exception.code, 413)
        refused.exception.close()


class Aiohttp(common.WithServer):
    """aiohttp, with its C parser, as Home Assistant uses it."""

    def run_with(self, act, limit=100):
        """Runs `act(session)`; how many connections were made, and how often one was used again."""
        counts = {"made": 0, "again": 0}
        trace = aiohttp.TraceConfig()

        async def made(*_):
            counts["made"] += 1

        async def again(*_):
            counts["again"] += 1

        trace.on_connection_create_end.append(made)
        trace.on_connection_reuseconn.append(again)

        async def whole():
            how = {"connector": aiohttp.TCPConnector(limit=limit), "trace_configs": [trace],
                   "timeout": aiohttp.ClientTimeout(total=20)}
            async with aiohttp.ClientSession(self.url, **how) as session:
                await act(session)

        asyncio.run(whole())
        return counts["made"], counts["again"]

    def test_one_connection_carries_everything(self):
        async def act(session):
            for n in range(50):
                async with session.put("/topics/a", json=n) as answer:
                    self.assertEqual(answer.status, 200)
                    await answer.read()
                async with session.get("/topics/a") as answer:
                    self.assertEqual((await answer.json())["value"], n)
                async with session.head("/") as answer:
                    self.assertEqual((answer.status, await answer.read()), (200, b""))
                async with session.get("/nothing") as answer:
                    self.assertEqual(answer.status, 404)
                    await answer.read()
                async with session.get("/", headers={"If-None-Match": tags[-1]} if tags else {}) as answer:
                    self.assertEqual(answer.status, 304 if tags else 200)
                    tags.append(answer.headers["ETag"])
                    await answer.read()

        tags = []
        made, again = self.run_with(act)
        self.assertEqual((made, again), (1, 249))

    def test_many_at_once(self):
        async def one(session, n):
            async with session.put(f"/topics/many/n{n}", json=n) as answer:
                self.assertEqual(answer.status, 200)
            async with session.get(f"/topics/many/n{n}") as answer:
                self.assertEqual((await answer.json())["value"], n)

        async def act(session):
            await asyncio.gather(*(one(session, n) for n in range(200)))

        made, again = self.run_with(act, limit=20)
        self.assertLessEqual(made, 20)
        self.assertEqual(made + again, 400)

    def test_streaming_up_and_expecting(self):
        async def pieces():
            for n in range(100):
                yield b"[" if n == 0 else b"1,"
                await asyncio.sleep(0)
            yield b"2]"

        async def act(session):
            as_json = {"Content-Type": "application/json"}
            for how in [{"headers": as_json}, {"headers": as_json, "expect100": True}]:
                async with session.put("/topics/up", data=pieces(), **how) as answer:
                    self.assertEqual(answer.status, 200, await answer.text())
                async with session.get("/topics/up") as answer:
                    self.assertEqual(len((await answer.json())["value"]), 100)
            async with session.put("/topics/up", data="x" * 70_000, expect100=True) as answer:
                self.assertEqual(answer.status, 413)
            async with session.get("/topics/up") as answer:
                self.assertEqual(answer.status, 200)

        self.run_with(act)

    def test_streaming_down(self):
        async def act(session):
            async with session.get("/events/stream?topics=down") as answer:
                self.assertIn("hello", json.loads(await answer.content.readline()))
                await asyncio.to_thread(self.server.publish_numbers, range(1000), "down")
                for n in range(1000):
                    self.assertEqual(json.loads(await answer.content.readline())["value"], n)
            async with session.get("/events/sse?topics=down") as answer:
                text = b""
                while b'"value":999}' not in text:
                    text += await answer.content.readany()
                self.assertEqual(answer.headers["Content-Type"], "text/event-stream; charset=utf-8")

        self.run_with(act)
        common.wait_until(lambda: self.server.viewers() == 0, what="viewers that left are gone")

    def test_a_chunk_is_an_event(self):
        """What arrives together is read together: `iter_chunks` tells where chunks end."""
        async def act(session):
            async with session.get("/events/stream?topics=chunk&format=raw&snapshot=0") as answer:
                chunks = answer.content.iter_chunks()
                await anext(chunks)  # hello
                for n in range(50):
                    await asyncio.to_thread(self.server.request, "PUT", "/topics/chunk", str(n))
                    self.assertEqual(await anext(chunks), (f"{n}\n".encode(), True))

        self.run_with(act)

    def test_compressed(self):
        async def act(session):
            async with session.get("/") as answer:
                self.assertEqual(answer.headers["Content-Encoding"], "gzip")
                unpacked = await answer.text()
            async with session.get("/", headers={"Accept-Encoding": "identity"}) as answer:
                self.assertNotIn("Content-Encoding", answer.headers)
                self.assertEqual(await answer.text(), unpacked)

        self.run_with(act)

    def test_giving_up_frees_the_place(self):
        async def act(session):
            for path in ["/events/sse", "/events/stream", "/events/poll?snapshot=0&since=%s" % last]:
                with self.assertRaises(asyncio.TimeoutError):
                    async with session.get(path, timeout=aiohttp.ClientTimeout(total=0.3)) as answer:
                        await answer.read()

        last = json.loads(self.server.request("GET", "/topics")[2])["id"]
        self.run_with(act)
        common.wait_until(lambda: self.server.viewers() == 0, what="viewers that left are gone")


if __name__ == "__main__":
    common.main()
