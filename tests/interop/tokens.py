"""Tokens as people use them: `encke token`, its lines in a configuration, curl, SIGHUP, the end.

Each server's whole output is searched for each secret when the server has ended.
"""

import fcntl
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import termios
import time
import unittest

import common
import machine

CLOSED = common.QUIET + "[server]\nread = []\n"


class Made:
    """What `encke token NAME` printed: lines for the configuration, the token, the link."""

    def __init__(self, config, name, **keys):
        command = [common.BIN, "token", name, "--config", config]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert "\x1b" not in done.stdout, "a QR code where there is no terminal"
        self.text = done.stdout
        self.rows = self.text.split("\n\n")[0] + "\n"
        for key, value in keys.items():
            self.rows = re.sub(rf"(?m)^{key} = .*\n|\Z", f"{key} = {json.dumps(value)}\n", self.rows, 1)
        self.token = re.search(rf"(?m)^token: +({name}\.[a-z2-7]{{32}})$", self.text)[1]
        self.link = re.search(r"(?m)^sign in: (\S+)$", self.text)[1]
        self.secret = self.token.split(".")[1]


class Answer:
    """Status, fields by lower-case name (a list each) and body of what curl got."""

    def __init__(self, text):
        head, _, self.body = text.replace("\r\n", "\n").partition("\n\n")
        first, *lines = head.split("\n")
        self.status, self.fields = int(first.split()[1]), {}
        for name, value in (line.split(": ", 1) for line in lines):
            self.fields.setdefault(name.lower(), []).append(value)

    @property
    def json(self):
        return json.loads(self.body)


class Case(unittest.TestCase):
    """A test with a server of its own. `pause` sends SIGHUP and waits until that is done."""

    def begin(self, config=common.QUIET):
        self.server = common.Server(config)
        self.log_path = pathlib.Path(self.server.folder.name) / "log"
        self.made, self.config = [], config
        self.addCleanup(self.finish)
        return self.server

    def finish(self):
        self.assertEqual(self.server.end(), 0)
        log = self.log()
        self.server.folder.cleanup()
        for made in self.made:
            self.assertNotIn(made.secret, log)
        self.assertNotIn("Authorization", log)

    def log(self):
        return self.log_path.read_text()

    def make(self, name, **keys):
        made = Made(self.server.config, name, **keys)
        self.made.append(made)
        return made

    def reload(self, text, says="the configuration was read again: "):
        """Writes the configuration, tells the server, and returns what it says of it."""
        before = len(self.log())
        self.server.config.write_text(text)
        self.server.process.send_signal(signal.SIGHUP)
        said = lambda: says in self.log()[before:] and self.log()[before:]
        return common.wait_until(said, what=f"{says!r} in the log")

    def sign_up(self, name, **keys):
        """Makes a token that counts from now on, beside those before."""
        made = self.make(name, **keys)
        self.config += made.rows
        self.reload(self.config)
        return made

    def curl(self, path, *args, seconds=10, ok=(0,)):
        command = ["curl", "-sS", "-i", "--max-time", str(seconds), *args, self.server.url + path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 10)
        self.assertIn(done.returncode, ok, f"{command}: {done.stderr}")
        return Answer(done.stdout)

    def status(self, path, *args):
        return self.curl(path, *args).status


def bearer(token):
    return ("-H", f"Authorization: Bearer {token}")


class Ways(Case):
    """A token that `encke token` printed, shown in every way there is."""

    def setUp(self):
        self.begin(CLOSED)
        self.phone = self.sign_up("phone")

    def test_what_is_printed_works(self):
        secret, token = self.phone.secret, self.phone.token
        self.assertTrue(self.phone.text.startswith('[[token]]\nname = "phone"\nsha256 = "'))
        self.assertRegex(self.phone.link, rf"^http://[^/]+:8080/#token={token}$")
        self.assertIn("systemctl reload encke", self.phone.text)
        self.assertIn("plain HTTP shows it", self.phone.text)
        self.assertEqual(self.status("/topics"), 401)
        for shown in [
            bearer(token),
            bearer(secret),
            ("-u", f"anybody:{token}"),
            ("-u", f":{secret}"),
            ("-b", f"encke={token}"),
            ("-H", f"Cookie: other=1; encke={token}"),
        ]:
            with self.subTest(shown[0]):
                self.assertEqual(self.status("/topics", *shown), 200)
                self.assertEqual(self.status("/topics/a/b", *shown, "-d", "1"), 200)
                who = self.curl("/session", *shown).json
                self.assertEqual(who, {"name": "phone", "read": ["#"], "write": ["#"], "until": None})
        who = self.curl("/session").json
        self.assertEqual((who["name"], who["read"]), (None, []))

    def test_the_client_shows_the_one_of_its_environment(self):
        publish = [common.BIN, "publish", self.server.url, "a/b", "7"]
        watch = [common.BIN, "watch", self.server.url]
        for token, code, told in [
            (self.phone.token, 0, ""),
            ("", 1, "401 Unauthorized: reading this needs a token"),
            ("phone.wrong", 1, "401 Unauthorized: this token is not known here"),
            ("two words", 2, "ENCKE_TOKEN is no token\nfix: "),
        ]:
            environment = {**os.environ, "ENCKE_TOKEN": token}
            done = subprocess.run(publish, env=environment, capture_output=True, text=True, timeout=10)
            # Without one it is the board itself that writes.
            self.assertEqual(done.returncode, code if token else 0, done.stderr)
            with subprocess.Popen(watch, env=environment, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True) as watching:
                if code == 0:
                    self.assertIn('"topic":"a/b"', watching.stdout.readline())
                    watching.terminate()
                else:
                    self.assertEqual(watching.wait(5), code)
                    self.assertIn(told, watching.stderr.read())

    def test_signing_in_and_out_with_a_cookie(self):
        token, jar = self.phone.token, pathlib.Path(self.server.folder.name) / "jar"
        for sent, fields, status in [
            (token, ("-H", "Content-Type: text/plain"), 200),
            (json.dumps(token), ("-H", "Content-Type: application/json"), 200),
            (json.dumps({"token": token}), ("-H", "Content-Type: application/json"), 200),
            (f"token={token}", (), 303),
        ]:
            with self.subTest(sent.replace(token, "TOKEN")):
                jar.unlink(missing_ok=True)
                answer = self.curl("/session", "-c", str(jar), *fields, "-d", sent)
                self.assertEqual(answer.status, status)
                want = f"encke={token}; Path=/; Max-Age=34560000; HttpOnly; SameSite=Strict"
                self.assertEqual(answer.fields["set-cookie"], [want])
                if status == 303:
                    self.assertEqual(answer.fields["location"], ["/?plain"])
                else:
                    self.assertEqual(answer.json["name"], "phone")
                self.assertEqual(self.status("/topics", "-b", str(jar)), 200)
                out = self.curl("/session", "-b", str(jar), "-c", str(jar), "-X", "DELETE")
                self.assertEqual(out.status, 204)
                self.assertEqual(self.status("/topics", "-b", str(jar)), 401)
        # What is no token at all is no guess.
        self.assertEqual(self.status("/session", "-d", "not=it"), 400)

    def test_wrong_ones_are_told_and_then_have_to_wait(self):
        wrong, other = self.phone.token[:-1] + "1", ("--interface", "127.0.0.2")
        answer = self.curl("/topics", *bearer(wrong))
        self.assertEqual((answer.status, answer.fields["www-authenticate"]), (401, ['Bearer realm="Encke"']))
        answer = self.curl("/topics", "-b", f"encke={wrong}")
        self.assertEqual(answer.status, 401)
        self.assertIn("encke=; Path=/; Max-Age=0;", answer.fields["set-cookie"][0])
        self.assertEqual(self.status("/session", "-d", f"token={wrong}"), 401)
        self.assertEqual(self.status("/topics", "-u", f"a:{wrong}"), 401)
        self.assertEqual(self.status("/topics", *bearer(self.phone.token)), 200)
        self.assertEqual(self.status("/topics", *bearer(wrong)), 401)
        began = time.monotonic()
        for shown in [bearer(wrong), bearer(self.phone.token), ("-b", f"encke={self.phone.token}")]:
            answer = self.curl("/topics", *shown)
            self.assertEqual(answer.status, 429, "even a right one, so that a guess tells nothing")
            self.assertEqual(answer.fields["retry-after"], ["1"])
        self.assertEqual(self.status("/session", "-d", f"token={self.phone.token}"), 429)
        self.assertLess(time.monotonic() - began, 1)
        self.assertEqual(self.status("/topics", *other, *bearer(self.phone.token)), 200)
        self.assertEqual(self.status("/health"), 200)
        right = lambda: self.status("/topics", *bearer(self.phone.token)) == 200
        common.wait_until(right, 3, "the end of the wait")
        said = re.findall(r"(?m)^encke: (\d+ tokens? .*)$", self.log())
        self.assertEqual(len(said), 1, "once a minute at most")
        self.assertRegex(said[0], r"^1 token was wrong \(last from 127\.0\.0\.1\); ")

    def test_a_name_that_is_taken_and_one_that_is_none(self):
        for name, code, told in [
            ("phone", 1, 'there is a token called "phone" already\nfix: '),
            ("my phone", 2, '"my phone" is no name for a token\nfix: '),
            ("x" * 33, 2, "1 to 32 of the characters A-Z a-z 0-9 _ -"),
        ]:
            command = [common.BIN, "token", name, "--config", self.server.config]
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
            self.assertEqual((done.returncode, done.stdout), (code, ""))
            self.assertIn(told, done.stderr)


class Stream:
    """A stream that was begun; `rest` is all until its end."""

    def __init__(self, case, path, token):
        self.raw = common.Raw(case.server.port)
        case.addCleanup(self.raw.socket.close)
        self.raw.send(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        self.status, _ = self.raw.head()
        case.assertEqual(self.status, 200)
        self.chunks = self.raw.chunks()
        self.until("hello")

    def until(self, text):
        """What comes up to the chunk with `text`, which is in it."""
        said = ""
        while text not in said:
            said += next(self.chunks).decode()
        return said

    def rest(self):
        return b"".join(self.chunks).decode()


class Ends(Case):
    """Tokens whose time comes, or that are taken out."""

    def setUp(self):
        self.begin(CLOSED)

    def assert_told(self, sse, lines):
        said = sse.rest()
        self.assertRegex(said, r'event: busy\ndata: \{"reason":"token","retry":\d+\}\n\n$')
        self.assertNotIn("id:", said.rsplit("event: busy", 1)[1])
        last = json.loads(lines.rest().splitlines()[-1])
        self.assertEqual(last["busy"]["reason"], "token")

    def both(self, token):
        return Stream(self, "/events/sse", token), Stream(self, "/events/stream", token)

    def test_until(self):
        past = self.sign_up("past", until=int(time.time()) - 1)
        answer = self.curl("/topics", *bearer(past.token))
        self.assertEqual(answer.status, 401)
        self.assertIn("has ended", answer.body)
        end = int(time.time()) + 3
        soon, ever = self.sign_up("soon", until=end), self.sign_up("ever")
        self.assertEqual(self.curl("/session", *bearer(soon.token)).json["until"], end)
        streams, stays = self.both(soon.token), Stream(self, "/events/sse", ever.token)
        self.assertLess(time.time(), end, "they began in time")
        self.assert_told(*streams)
        # The server follows the clock to a second.
        self.assertLess(abs(time.time() - end), 1.5)
        self.assertEqual(self.status("/topics", *bearer(soon.token)), 401)
        self.assertEqual(self.status("/topics/a", *bearer(ever.token), "-d", "1"), 200)
        stays.until('"topic":"a"')

    def test_one_that_is_taken_out(self):
        gone, stays = self.sign_up("gone"), self.sign_up("stays")
        streams, other = self.both(gone.token), Stream(self, "/events/sse", stays.token)
        said = self.reload(CLOSED + stays.rows)
        self.assertIn(": 1 token; without one nothing can be read\n", said)
        self.assert_told(*streams)
        self.assertEqual(self.status("/topics", *bearer(gone.token)), 401)
        self.assertEqual(self.status("/topics/a", *bearer(stays.token), "-d", "1"), 200)
        other.until('"topic":"a"')
        self.reload(CLOSED + gone.rows + stays.rows)
        self.assertEqual(self.status("/topics", *bearer(gone.token)), 200, "it is back")

    def test_a_new_secret_for_an_old_name(self):
        old = self.sign_up("phone")
        stream, one = Stream(self, "/events/sse", old.token), self.server.config
        for _ in range(3):
            one.write_text(CLOSED)
            new = self.make("phone")
            self.reload(CLOSED + new.rows)
            for shown in (new.token, new.secret):
                self.assertEqual(self.status("/topics", *bearer(shown)), 200)
            self.assertEqual(self.status("/topics", *bearer(old.token)), 401)
            self.reload(CLOSED + new.rows.replace('"phone"', '"tablet"'))
            self.assertEqual(self.status("/topics", *bearer(f"tablet.{new.secret}")), 200)
            self.assertEqual(self.status("/topics", *bearer(new.secret)), 200)
            # The old name is not the secret's any more.
            self.assertEqual(self.status("/topics", *bearer(new.token), "--interface", "127.0.0.3"), 401)
            old = new
        self.assertIn('"reason":"token"', stream.rest())

    def test_one_that_may_less_than_before_sees_less_on_the_same_stream(self):
        both = self.make("both")
        rows = {what: both.rows.replace('read = ["#"]', f"read = {what}") for what in ['["a"]', '["a", "b"]']}
        self.reload(CLOSED + rows['["a", "b"]'])
        stream = Stream(self, "/events/sse", both.token)
        publish = lambda topic, value: self.assertEqual(
            self.status(f"/topics/{topic}", *bearer(both.token), "-d", str(value)), 200)
        publish("b", 1)
        stream.until('"topic":"b"')
        self.reload(CLOSED + rows['["a"]'])
        publish("b", 2)
        publish("a", 3)
        self.assertNotIn('"topic":"b"', stream.until('"topic":"a"'))
        self.reload(CLOSED + rows['["a", "b"]'])
        publish("b", 4)
        self.assertIn('"value":4', stream.until('"topic":"b"'))

    def test_a_broken_file_changes_nothing(self):
        phone = self.sign_up("phone")
        stream = Stream(self, "/events/sse", phone.token)
        for text, error in [
            (self.config + "[[token]]\nname = 5\n", r"encke\.toml:\d+:8: invalid value: integer `5`"),
            (self.config + phone.rows, r'a second token is called "phone"'),
            (phone.rows.replace('sha256 = "', f'sha256 = "{phone.secret}'), "no SHA-256"),
            ("[server", "unclosed table"),
        ]:
            said = self.reload(text, "\nfix: ")
            self.assertIn("encke: the configuration has a mistake, so all stays as it was:\n", said)
            self.assertRegex(said, error)
            self.assertEqual(self.status("/topics", *bearer(phone.token)), 200)
            self.assertEqual(self.status("/topics"), 401)
        self.assertEqual(self.status("/topics/a", *bearer(phone.token), "-d", "1"), 200)
        stream.until('"topic":"a"')
        self.reload(self.config)


class Rights(Case):
    """What a token may, and what everybody else may."""

    def test_one_line_closes_reading_and_opens_it(self):
        self.begin()
        paths = ["/topics", "/topics/a", "/metrics", "/events/poll?timeout=0", "/events"]
        self.server.request("PUT", "/topics/a", "1")
        for path in paths:
            self.assertEqual(self.status(path), 200, path)
        stream = common.Raw(self.server.port, b"GET /events/sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
        stream.head()
        self.reload(CLOSED)
        self.assertIn(b'"reason":"token"', b"".join(stream.chunks()), "it may read nothing any more")
        stream.socket.close()
        for path in paths + ["/events/sse", "/nothing/there"]:
            answer = self.curl(path)
            self.assertEqual((path, answer.status), (path, 401))
            self.assertIn("www-authenticate", answer.fields)
        for path in ["/", "/health", "/session"]:
            self.assertEqual(self.status(path), 200, path)
        self.reload(common.QUIET + '[server]\nread = ["b/#"]\n')
        self.assertEqual((self.status("/topics/a"), self.status("/topics")), (401, 200))
        self.reload(common.QUIET)
        self.assertEqual(self.status("/topics/a"), 200)

    def test_a_token_sees_its_own_topics_only(self):
        self.begin()
        part = self.sign_up("part", read=["a/#"], write=["b/+"])
        shown, counted = bearer(part.token), self.curl("/metrics").body
        for topic, value in [("a/x", 17), ("b/y", 4711), ("ab", 4712)]:
            self.server.request("PUT", f"/topics/{topic}", str(value))
        topics = self.curl("/topics", *shown)
        self.assertEqual([t["event"]["topic"] for t in topics.json["topics"]], ["a/x"])
        self.assertEqual(self.status("/topics/a/x", *shown), 200)
        for path in ["/topics/b/y", "/topics/ab", "/topics/not/there"]:
            self.assertEqual(self.status(path, *shown), 403, path)
        self.assertEqual(self.status("/topics/a/none", *shown), 404)
        stream = Stream(self, "/events/sse?topics=%23", part.token)
        self.server.request("PUT", "/topics/b/y", "4713")
        self.server.request("PUT", "/topics/a/x", "18")
        said = stream.until('"value":18')
        for text in [topics.body, self.curl("/metrics", *shown).body, said]:
            self.assertIn("a/x", text)
            self.assertNotRegex(text, r'"(b/y|ab)"|471\d')
        self.assertIn("b/y", self.curl("/metrics").body)
        self.assertNotIn("b/y", counted)

        for topic, status in [("b/z", 200), ("a/x", 403), ("b/z/deep", 403), ("encke/x", 403)]:
            answer = self.curl(f"/topics/{topic}", *shown, "-d", "1")
            self.assertEqual((topic, answer.status), (topic, status))
        both = json.dumps([{"topic": "b/ok", "value": 1}, {"topic": "a/no", "value": 2}])
        self.assertEqual(self.status("/topics", *shown, "-d", both), 403)
        self.assertEqual(self.status("/topics/b/ok"), 404, "all or none")
        self.assertEqual(self.status("/topics/a/x", *shown, "-X", "DELETE"), 403)
        self.assertEqual(self.status("/topics/b/y", *shown, "-X", "DELETE"), 200)

    def test_reserved_topics_need_a_token_even_here(self):
        self.begin()
        every = self.sign_up("every")
        for topic in ["encke", "encke/state", "/encke/a/b"]:
            topic = topic.lstrip("/")
            self.assertEqual(self.status(f"/topics/{topic}", "-d", "1"), 403)
            self.assertEqual(self.status(f"/topics/{topic}", "-X", "DELETE"), 403)
            self.assertEqual(self.status(f"/topics/{topic}", *bearer(every.token), "-d", "1"), 200)
        self.assertEqual(self.status("/topics/enckes", "-d", "1"), 200)
        common.wait_until(lambda: "may not write that" in self.log(), what="a line in the log")

    def test_names_and_origins_count_at_once_the_rest_is_named(self):
        self.begin()
        host = ("-H", "Host: new.example")
        origin = ("-H", "Origin: https://new.example", "-d", "1")
        self.assertEqual(self.status("/topics", *host), 421)
        self.assertEqual(self.status("/topics/a", *origin), 403)
        text = '[server]\nhosts = ["new.example"]\norigins = ["https://new.example"]\nheartbeat = 7\n'
        text += '[limits]\nviewers = 7\n[[topic]]\nmatch = "a"\nlabel = "A"\n'
        said = self.reload(common.QUIET + text)
        self.assertIn("; what is new in viewers counts after a restart (", said)
        self.assertEqual(self.status("/topics", *host), 200)
        self.assertEqual(self.status("/topics/a", *origin), 200)
        self.assertRegex(self.log(), r"1 request was refused: its Host .*\(last from 127\.0\.0\.1\); hosts")
        self.assertNotIn("new.example", self.log(), "what a request says is not repeated")

    def test_the_banner_says_how_to_make_one(self):
        self.begin()
        self.assertIn("encke token NAME", self.log().split("board: ")[0])
        self.sign_up("phone")
        before = len(self.log())
        self.server.end()
        self.server.start()
        self.assertNotIn("encke token NAME", self.log()[before:])


@machine.needed
class OnLink(unittest.TestCase):
    """Networks that are on-link may read without a token, also those that come after the start."""

    def test_an_address_that_comes_later(self):
        folder = tempfile.TemporaryDirectory(prefix="encke-token-")
        self.addCleanup(folder.cleanup)
        (pathlib.Path(folder.name) / "encke.toml").write_text(common.QUIET)
        # A board that does not know the time looks again every 5 s, any other every 60 s.
        root = common.ROOT / "tests/fixtures/sys/board-pi-zero-w"
        command = ["unshare", "--net", "bash", "-c", 'ip link set lo up; exec "$@"', "-", common.BIN]
        command += ["--config", f"{folder.name}/encke.toml", "--listen", ":8080", "--sys-root", root]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        inside = ["nsenter", "--net", "--target", str(process.pid)]

        def status(host, *args):
            ask = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", *args]
            done = subprocess.run([*inside, *ask, f"http://{host}:8080/topics"], capture_output=True)
            return int(done.stdout or 0)

        common.wait_until(lambda: status("127.0.0.1") == 200, what="an answer")
        for address in ("203.0.113.1/24", "203.0.113.2/24"):
            subprocess.run([*inside, "ip", "address", "add", address, "dev", "lo"], check=True)
        near = lambda: status("203.0.113.1", "--interface", "203.0.113.2")
        self.assertEqual(near(), 401, "not looked at yet")
        common.wait_until(lambda: near() == 200, 8, "the network is known")


class Signals(unittest.TestCase):
    """SIGHUP where it means something else, and what systemd is told."""

    def begin(self, **how):
        folder = tempfile.TemporaryDirectory(prefix="encke-token-")
        self.addCleanup(folder.cleanup)
        self.folder, self.port = pathlib.Path(folder.name), common.free_port()
        (self.folder / "encke.toml").write_text(common.QUIET)
        command = [common.BIN, "--config", self.folder / "encke.toml"]
        command += ["--listen", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(command, **how)
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)
        common.wait_until(self.answers, what="an answer")

    def answers(self):
        # It listens before it hears signals; when it answers, it does both.
        request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        try:
            with common.Raw(self.port, request) as raw:
                return raw.answer().status == 200
        except OSError:
            return False

    def test_a_terminal_that_is_closed_ends_it(self):
        ours, its = os.openpty()
        own_terminal = lambda: fcntl.ioctl(its, termios.TIOCSCTTY, 0)
        self.begin(stdin=its, stdout=its, stderr=its, start_new_session=True, preexec_fn=own_terminal)
        os.close(its)
        self.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        self.assertIsNone(self.process.poll(), "its terminal is there, so it goes on")
        os.close(ours)
        self.assertEqual(self.process.wait(6), 0)

    def test_while_it_ends_it_is_ignored(self):
        with open(os.devnull, "w") as null:
            self.begin(stdout=null, stderr=null)
        with common.Raw(self.port, b"GET /events/sse HTTP/1.1\r\nHost: localhost\r\n\r\n") as viewer:
            viewer.head()
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGHUP)
            self.assertEqual(self.process.wait(6), 0)
            self.assertIn(b'"reason":"draining"', b"".join(viewer.chunks()))

    def test_systemd_is_told(self):
        folder = tempfile.TemporaryDirectory(prefix="encke-token-")
        self.addCleanup(folder.cleanup)
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(manager.close)
        manager.settimeout(5)
        manager.bind(f"{folder.name}/notify")
        with open(os.devnull, "w") as null:
            environment = {**os.environ, "NOTIFY_SOCKET": f"{folder.name}/notify"}
            self.begin(stdout=null, stderr=null, env=environment)
        self.assertIn(b"READY=1", manager.recv(4096))
        self.process.send_signal(signal.SIGHUP)
        self.assertRegex(manager.recv(4096), rb"^RELOADING=1\nMONOTONIC_USEC=\d+\n?$")
        self.assertEqual(manager.recv(4096).strip(), b"READY=1")


if __name__ == "__main__":
    common.main()
