"""nginx in front of a board that strangers can reach: whose address counts, who may write, who signs in.

The lines for nginx and for the board are those of README.md, "Behind a proxy", read from there. The
clients' own addresses on this computer are 127.0.0.x; for any other an nginx at the edge says that it
speaks for that address, as it would if it were so.
"""

import hashlib
import http.client
import json
import re
import ssl
import time
import unittest

import common

README = (common.ROOT / "README.md").read_text()
DIRECT = "server { listen 127.0.0.1:{port}; location / { proxy_pass http://127.0.0.1:%d; %s } }"
TRUSTED = 'trusted_proxies = ["127.0.0.1"]\n'
TLS = "ssl http2; ssl_certificate {folder}/certificate; ssl_certificate_key {folder}/key"
NAME = "board.example"
PAGE = {"Host": NAME, "Origin": f"https://{NAME}"}

# GET /WAY/ADDRESS/PATH asks for PATH as if from ADDRESS, in each way to say so. Whatever else the client
# says of itself is passed on, as nginx does with all that it is not told to set.
EDGE = """
map $http_x_forwarded_for $before { "" ""; default "$http_x_forwarded_for, "; }
upstream board { server 127.0.0.1:%d; keepalive %d; keepalive_timeout 15s; }
upstream next { server 127.0.0.1:%d; keepalive 8; }
server {
  listen 127.0.0.1:{port};
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host localhost;
  proxy_buffering off;
  location = /health { proxy_pass http://board; }
  location ~ ^/chained/([^/]+)(/.*) {
    proxy_set_header Connection ""; proxy_set_header Host board.example;
    proxy_set_header X-Forwarded-For $before$1; proxy_pass http://next$2$is_args$args; }
  location ~ ^/x-forwarded-for/([^/]+)(/.*) {
    proxy_set_header Connection ""; proxy_set_header Host localhost;
    proxy_set_header X-Forwarded-For $before$1; proxy_pass http://board$2$is_args$args; }
  location ~ ^/forwarded/([^/]+)(/.*) {
    proxy_set_header Connection ""; proxy_set_header Host localhost;
    proxy_set_header Forwarded "for=$1;proto=https"; proxy_pass http://board$2$is_args$args; }
  location ~ ^/x-real-ip/([^/]+)(/.*) {
    proxy_set_header Connection ""; proxy_set_header Host localhost;
    proxy_set_header X-Real-IP $1; proxy_pass http://board$2$is_args$args; }
}
"""
WAYS = ["x-forwarded-for", "forwarded", "x-real-ip", "chained"]
FAR, OTHER, NEAR = "203.0.113.7", "198.51.100.8", "192.168.1.5"


def token(name, read=("#",), write=()):
    """A row of the configuration, and what its owner shows."""
    secret = f"not-a-secret-of-{name}"
    sha256 = hashlib.sha256(secret.encode()).hexdigest()
    row = f'[[token]]\nname = "{name}"\nsha256 = "{sha256}"\n'
    row += f"read = {json.dumps(list(read))}\nwrite = {json.dumps(list(write))}\n"
    return row, f"{name}.{secret}"


DAD_ROW, DAD = token("dad", write=["#"])
GUEST_ROW, GUEST = token("guest", read=["a/#"], write=["a/b"])
TOKENS = DAD_ROW + GUEST_ROW


def bearer(credential):
    return {"Authorization": f"Bearer {credential}"}


def readme_block(begins):
    """The lines of README.md that are set off and begin so."""
    section = README.split("\n## Behind a proxy\n")[1].split("\n## ")[0]
    blocks = re.findall(r"(?m)(?:^    .*\n)+", section)
    return next(block for block in blocks if block.lstrip().startswith(begins))


class Strangers(unittest.TestCase):
    def board(self, server="", more=TOKENS):
        self.server = common.Server(common.QUIET + "[server]\n" + server + more)
        self.addCleanup(self.server.folder.cleanup)
        self.addCleanup(self.server.end)

    def nginx(self, conf, **how):
        nginx = common.Nginx(conf, **how)
        self.addCleanup(nginx.end)
        return nginx

    def readme_nginx(self, tls=False):
        """As README.md has it, but for ports and the certificate."""
        conf = readme_block("upstream board")
        for old, new in [("127.0.0.1:8080", f"127.0.0.1:{self.server.port}"),
                         ("443 ssl http2", "127.0.0.1:{port} " + (TLS if tls else ""))]:
            self.assertEqual(conf.count(old), 1, conf)
            conf = conf.replace(old, new)
        return self.nginx(conf, certificate=tls, healthy=(200, 421))

    def edge(self, keepalive=8):
        chained = self.readme_nginx()
        return self.nginx(EDGE % (self.server.port, keepalive, chained.port))

    def status(self, nginx, *args, **how):
        return nginx.request(*args, **how)[0]

    def assert_refused(self, answer, status, words):
        self.assertEqual(answer[0], status, answer[2])
        self.assertIn(words, answer[2].decode())

    def test_no_stranger_writes_through_nginx_as_it_comes(self):
        self.board()
        marked = "proxy_http_version 1.1; proxy_set_header X-Forwarded-For $remote_addr;"
        via = "proxy_http_version 1.1; proxy_set_header Via nginx;"
        for more, words in [("", "HTTP/1.0"), (marked, "proxy"), (via, "proxy"),
                            (marked + "proxy_request_buffering off;", "proxy")]:
            nginx = self.nginx(DIRECT % (self.server.port, more))
            for method, path in [("POST", "/topics/a"), ("PUT", "/topics/a"), ("POST", "/topics"),
                                 ("DELETE", "/topics/a"), ("POST", "/nothing")]:
                # Also a body that is refused while nginx still sends it: never a 502.
                for body in ['"from outside"', "x" * 60_000, "x" * 900_000]:
                    with self.subTest(more=more, method=method, path=path, bytes_=len(body)):
                        self.assert_refused(nginx.request(method, path, body), 403, words)
            self.assertEqual(self.status(nginx, "GET", "/topics/a"), 404)
            self.assertEqual(self.status(nginx, "GET", "/topics"), 200)
            self.assertEqual(self.status(nginx, "PUT", "/topics/a", "1", bearer(DAD)), 200)
            self.server.request("DELETE", "/topics/a")
            common.wait_until(lambda: self.server.request("GET", "/topics/a")[0] == 404)

    def test_a_proxy_that_adds_nothing_has_to_be_told_of(self):
        """By HTTP/1.1 and without a field all looks as if the board itself asked."""
        silent = "proxy_http_version 1.1;"
        self.board()
        nginx = self.nginx(DIRECT % (self.server.port, silent))
        self.assertEqual(self.status(nginx, "PUT", "/topics/a", "1"), 200, "as README.md warns")
        self.board(TRUSTED)
        for more in [silent, ""]:
            nginx = self.nginx(DIRECT % (self.server.port, more))
            self.assert_refused(nginx.request("PUT", "/topics/a", "1"), 403, "trusted_proxies")
            for path in ["/topics", "/events/sse", "/events/poll", "/metrics", "/nothing", "/topics/a"]:
                answer = nginx.request("GET", path)
                self.assert_refused(answer, 401, "proxy_set_header X-Forwarded-For")
                self.assertIn("Bearer", answer[1]["WWW-Authenticate"])
            for path in ["/", "/health", "/session"]:
                self.assertEqual(self.status(nginx, "GET", path), 200, path)
            self.assertEqual(self.status(nginx, "PUT", "/topics/a", "1", bearer(DAD)), 200)
            self.assertEqual(self.status(nginx, "GET", "/topics/a", fields=bearer(GUEST)), 200)
        # Nor is the board itself local any more, by way of the proxy or by another address.
        self.assert_refused(self.server.request("PUT", "/topics/a", "1"), 403, "trusted_proxies")
        direct = self.server.request("PUT", "/topics/a", "1", source="127.0.0.9")
        self.assert_refused(direct, 403, "trusted_proxies")
        self.assertEqual(self.server.request("GET", "/topics", source="127.0.0.9")[0], 200)

    def test_the_clients_own_address_counts(self):
        self.board(TRUSTED + f'hosts = ["{NAME}"]\n')
        edge = self.edge()
        for way in WAYS:
            for address, status in [(FAR, 401), (OTHER, 401), (NEAR, 200), ("127.0.0.9", 200),
                                    ("unknown", 401), ("127.0.0.1", 401)]:
                with self.subTest(way=way, address=address):
                    answer = edge.request("GET", f"/{way}/{address}/topics")
                    self.assertEqual(answer[0], status, answer[2])
                    if address in (FAR, OTHER):
                        self.assertIn("from outside this network", answer[2].decode())
                    # Not even by somebody on the board.
                    answer = edge.request("PUT", f"/{way}/{address}/topics/a", "1")
                    self.assert_refused(answer, 403, "trusted_proxies")
        # Whom nginx really hears, by README.md's lines.
        plain = self.readme_nginx()
        named = {"Host": NAME}
        self.assertEqual(self.status(plain, "GET", "/topics", fields=named, source="127.0.0.9"), 200)
        far = {**named, "X-Forwarded-For": FAR}
        self.assertEqual(self.status(plain, "GET", "/topics", fields=far, source="127.0.0.9"), 200,
                         "what a client says of itself does not count")
        self.assertEqual(self.status(plain, "GET", "/topics", fields=far), 401, "a proxy's word does")

    def test_nobody_claims_to_be_near(self):
        self.board(TRUSTED + f'hosts = ["{NAME}"]\n')
        edge = self.edge()
        for way in WAYS:
            for near in [NEAR, "127.0.0.9", "127.0.0.1", "::1"]:
                quoted = f'"[{near}]"' if ":" in near else near
                for claim in [{"X-Forwarded-For": near}, {"X-Forwarded-For": f"{near}, 127.0.0.1"},
                              {"Forwarded": f"for={quoted}"}, {"X-Real-IP": near},
                              {"Forwarded": f"for={quoted}", "X-Forwarded-For": near, "X-Real-IP": near}]:
                    with self.subTest(way=way, claim=claim):
                        answer = edge.request("GET", f"/{way}/{FAR}/topics", fields=claim)
                        self.assertEqual(answer[0], 401, answer[2])
        # Nor before a board that does not know of its proxy, but is told that somebody far asks.
        self.board()
        edge = self.edge()
        for way in WAYS[:3]:
            self.assertEqual(self.status(edge, "GET", f"/{way}/{NEAR}/topics"), 200)
            for claim in [{}, {"Forwarded": f"for={NEAR}"}, {"X-Forwarded-For": NEAR}, {"X-Real-IP": NEAR}]:
                with self.subTest(way=way, claim=claim):
                    answer = edge.request("GET", f"/{way}/{FAR}/topics", fields=claim)
                    self.assertEqual(answer[0], 401, answer[2])

    def test_writing_by_token(self):
        self.board(TRUSTED + f'hosts = ["{NAME}"]\n')
        edge = self.edge()
        for way in WAYS:
            def put(topic, fields):
                return edge.request("PUT", f"/{way}/{FAR}/topics/{topic}", "1", fields)

            self.assertEqual(put("a/b", bearer(GUEST))[0], 200)
            self.assertEqual(put("c", bearer(DAD))[0], 200)
            self.assert_refused(put("c", bearer(GUEST)), 403, "[[token]]")
            self.assertEqual(put("c", {})[0], 403)
            listed = json.loads(edge.request("GET", f"/{way}/{FAR}/topics", fields=bearer(GUEST))[2])
            self.assertEqual([topic["event"]["topic"] for topic in listed["topics"]], ["a/b"])
            self.assertEqual(edge.request("GET", f"/{way}/{FAR}/topics/c", fields=bearer(GUEST))[0], 403)
        self.assertEqual(put("c", bearer("dad.wrong"))[0], 401)

    def test_a_page_signs_in_by_https(self):
        """README.md's lines for both, with TLS at nginx."""
        self.board("".join(readme_block("[server]").split("[server]\n")))
        nginx = self.readme_nginx(tls=True)
        context = ssl._create_unverified_context()

        def ask(method, path, body=None, fields=None):
            connection = http.client.HTTPSConnection(
                "127.0.0.1", nginx.port, timeout=10, context=context)
            connection.request(method, path, body, {**PAGE, **(fields or {})})
            answer = connection.getresponse()
            said = answer.status, answer.headers, answer.read()
            connection.close()
            return said

        self.assertEqual(ask("GET", "/")[0], 200)
        self.assertEqual(ask("PUT", "/topics/a/b", "1")[0], 403)
        self.assertEqual(ask("POST", "/session", "dad.wrong")[0], 401)
        status, fields, body = ask("POST", "/session", GUEST)
        self.assertEqual((status, json.loads(body)["name"]), (200, "guest"))
        cookie, *rest = fields["Set-Cookie"].split("; ")
        self.assertLessEqual({"HttpOnly", "SameSite=Strict", "Secure", "Path=/"}, set(rest))
        cookie = {"Cookie": cookie}
        self.assertEqual(json.loads(ask("GET", "/session", fields=cookie)[2])["write"], ["a/b"])
        self.assertEqual(ask("PUT", "/topics/a/b", "1", cookie)[0], 200)
        self.assertEqual(ask("PUT", "/topics/c", "1", cookie)[0], 403)
        evil = {**cookie, "Origin": "https://evil.example"}
        self.assert_refused(ask("PUT", "/topics/a/b", "1", evil), 403, "https://evil.example")
        self.assertEqual(ask("PUT", "/topics/a/b", "1", {**evil, "Sec-Fetch-Site": "cross-site"})[0], 403)
        self.assertEqual(ask("GET", "/", fields={"Host": "evil.example"})[0], 421)
        status, fields, _ = ask("DELETE", "/session", fields=cookie)
        self.assertEqual(status, 204)
        self.assertIn("Max-Age=0", fields["Set-Cookie"])

    def test_origins_where_nginx_changes_the_name(self):
        silent = "proxy_http_version 1.1; proxy_set_header X-Forwarded-For $remote_addr;"
        for origins, status in [("", 403), (f'origins = ["https://{NAME}"]\n', 200)]:
            self.board(TRUSTED + origins)
            nginx = self.nginx(DIRECT % (self.server.port, silent))
            asked = {**PAGE, **bearer(DAD)}
            answer = nginx.request("PUT", "/topics/a", "1", asked)
            self.assertEqual(answer[0], status, answer[2])
            signed = nginx.request("POST", "/session", DAD, PAGE)
            self.assertEqual(signed[0], status, signed[2])
            if status == 200:
                self.assertNotIn("Secure", signed[1]["Set-Cookie"], "nobody said that it was HTTPS")
            else:
                self.assertIn(f'origins = ["https://{NAME}"]', answer[2].decode())

    def test_streams_and_polls_of_who_signed_in(self):
        self.board(TRUSTED + f'hosts = ["{NAME}"]\n')
        edge = self.edge()
        put = lambda topic, value: self.server.request("PUT", f"/topics/{topic}", value, bearer(DAD))
        for way in ["x-forwarded-for", "chained"]:
            for kind in ["sse", "stream", "poll"]:
                with self.subTest(way=way, kind=kind):
                    put("a/b", '"first"')
                    connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=8)
                    last = json.loads(edge.request(
                        "GET", f"/{way}/{FAR}/events/poll", fields=bearer(GUEST))[2])["last"]
                    connection.request("GET", f"/{way}/{FAR}/events/{kind}?since={last}", headers={
                        "Cookie": f"encke={GUEST}"})
                    common.wait_until(lambda: self.server.viewers() == 1, what="a viewer")
                    put("c", '"not for guests"')
                    put("a/b", '"second"')
                    answer, text = connection.getresponse(), b""
                    while b"second" not in text:
                        piece = answer.read1(65536)
                        self.assertTrue(piece, text)
                        text += piece
                    self.assertNotIn(b"not for guests", text)
                    self.assertNotIn(b"first", text)
                    answer.close()
                    connection.close()
                    common.wait_until(lambda: self.server.viewers() == 0, what="it has left")

    def test_each_address_has_its_own_number_of_connections(self):
        self.board(TRUSTED + "[limits]\nper_address = 3\n")
        edge = self.edge()

        def stream(address, way="x-forwarded-for", **fields):
            connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=8)
            self.addCleanup(connection.close)
            connection.request("GET", f"/{way}/{address}/events/stream",
                               headers={**bearer(DAD), **fields})
            answer = connection.getresponse()
            return answer, connection

        claims = [{"Forwarded": f"for=192.0.2.{n}"} for n in range(4)]
        held = [stream(FAR) for _ in range(3)]
        self.assertEqual([answer.status for answer, _ in held], [200] * 3)
        more, _ = stream(FAR)
        self.assertEqual(more.status, 503)
        self.assertGreater(int(more.getheader("Retry-After")), 0)
        self.assertIn(b"per_address", more.read())
        # Not by another way to say the same, nor by a claim that changes with each.
        self.assertEqual(stream(FAR, way="forwarded")[0].status, 503)
        self.assertEqual(stream(FAR, **{"X-Forwarded-For": OTHER})[0].status, 503)
        others = [stream(OTHER) for _ in range(3)]
        self.assertEqual([answer.status for answer, _ in others], [200] * 3)
        unknown = [stream(FAR, **claim) for claim in claims]
        self.assertEqual([answer.status for answer, _ in unknown], [200] * 3 + [503])
        for answer, connection in held[:1]:
            answer.close()
            connection.close()
        common.wait_until(lambda: self.server.viewers() == 8, what="one has left")
        self.assertEqual(stream(FAR)[0].status, 200)

    def test_connections_that_nginx_keeps_are_nobodys(self):
        """What was one client's for a request does not count against it when it is another's, or idle."""
        self.board(TRUSTED + "[limits]\nper_address = 2\n")
        edge = self.edge(keepalive=16)
        last = json.loads(edge.request(
            "GET", f"/x-forwarded-for/{FAR}/events/poll", fields=bearer(DAD))[2])["last"]
        connections = []
        # Each has as many polls as it may have, at once.
        for n in range(1, 6):
            for _ in range(2):
                connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=8)
                connection.request("GET", f"/x-forwarded-for/192.0.2.{n}/events/poll?since={last}",
                                   headers=bearer(DAD))
                connections.append(connection)
        common.wait_until(lambda: self.server.viewers() == 10, what="ten polls")
        self.server.request("PUT", "/topics/a", "1", bearer(DAD))
        for connection in connections:
            self.assertEqual(connection.getresponse().status, 200)
            connection.close()
        for n in [1, 2, 3, 4, 5] * 4:
            status = self.status(edge, "GET", f"/x-forwarded-for/192.0.2.{n}/topics", fields=bearer(DAD))
            self.assertEqual(status, 200, n)

    def test_guesses_are_slowed_for_the_address_that_guesses(self):
        self.board(TRUSTED)
        edge = self.edge()
        third = "192.0.2.77"

        def ask(address, credential, way="x-forwarded-for", **claim):
            return edge.request("GET", f"/{way}/{address}/topics", fields={**bearer(credential), **claim})

        self.assertEqual([ask(FAR, f"dad.guess{n}")[0] for n in range(5)], [401] * 5)
        status, fields, _ = ask(FAR, DAD)
        self.assertEqual(status, 429, "the right one is told nothing either")
        self.assertGreater(int(fields["Retry-After"]), 0)
        self.assertEqual(ask(FAR, DAD, way="forwarded")[0], 429)
        signs_in = edge.request("POST", f"/x-forwarded-for/{FAR}/session", DAD)
        self.assertEqual(signs_in[0], 429, signs_in[2])
        self.assertEqual(ask(OTHER, DAD)[0], 200)
        # One that claims another address with each guess.
        statuses = [ask(third, f"dad.guess{n}", Forwarded=f"for=198.51.100.{100 + n}")[0]
                    for n in range(8)]
        self.assertEqual(statuses, [401] * 5 + [429] * 3)
        statuses = [ask(third, f"dad.guess{n}", **{"X-Forwarded-For": f"198.51.100.{100 + n}"})[0]
                    for n in range(7)]
        self.assertEqual(statuses, [401] * 5 + [429] * 2)
        self.assertEqual(ask(OTHER, DAD)[0], 200)
        time.sleep(1.1)
        self.assertEqual(ask(FAR, DAD)[0], 200, "after its time")

    def test_one_connection_carries_everybodys_requests(self):
        """Each has its own rights, though all of them come by the same connection."""
        self.board(TRUSTED)
        edge = self.edge(keepalive=1)
        for topic in ["a/b", "c"]:
            self.server.request("PUT", f"/topics/{topic}", "1", bearer(DAD))
        asked = [(FAR, {}, 401, None), (NEAR, {}, 200, 2), (FAR, bearer(GUEST), 200, 1),
                 (FAR, bearer(DAD), 200, 2), (NEAR, bearer(GUEST), 200, 1), (NEAR, {}, 200, 2),
                 (FAR, {"Cookie": f"encke={GUEST}"}, 200, 1), (OTHER, {}, 401, None)]
        before = self.server.counter("encke_connections_accepted_total", bearer(DAD))
        for n in range(25):
            for address, shown, status, count in asked[n % 8:] + asked[:n % 8]:
                path = f"/x-forwarded-for/{address}"
                answer = edge.request("GET", path + "/topics", fields=shown)
                self.assertEqual(answer[0], status, answer[2])
                if count is not None:
                    self.assertEqual(len(json.loads(answer[2])["topics"]), count, (address, shown))
                # A body that nobody wants would end the connection.
                method, body = ("PUT", "2") if shown else ("DELETE", None)
                writes = self.status(edge, method, path + "/topics/a/b", body, shown)
                self.assertEqual(writes, 200 if shown else 403)
        accepted = self.server.counter("encke_connections_accepted_total", bearer(DAD)) - before
        self.assertLessEqual(accepted, 3, "nginx's one, and those that ask")


if __name__ == "__main__":
    common.main()
