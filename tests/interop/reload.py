"""SIGHUP: what of a changed configuration counts at once, seen from outside, and what waits.

Rights are in tokens.py. Sensors are plain files below a root of each test's own.
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import unittest

import common
import sandbox

ZONE = "sys/class/thermal/thermal_zone0"
# What its source calls it; the profile of the board has a better name.
RAW = "thermal/cpu-thermal"
AGAIN = "the configuration was read again: "


def exec_row(script, **keys):
    """A row of [[source]] that runs a script; `keys` are those of the row."""
    row = f'[[source]]\nkind = "exec"\ncommand = {json.dumps(["sh", "-c", script])}\n'
    return row + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


def rule(match, **keys):
    row = f"[[topic]]\nmatch = {json.dumps(match)}\n"
    return row + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


def is_running(pid):
    try:
        return ") Z " not in pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


class Case(unittest.TestCase):
    """A test with a server of its own, whose sensors are those of a board with one thermal zone."""

    def begin(self, config=""):
        self.folder = sandbox.Folder(self)
        self.path = self.folder.path
        self.folder.put(f"{ZONE}/type", "cpu-thermal\n")
        self.temperature(41_250)
        flags = ["--sys-root", str(self.path), "--board", "generic"]
        # Where programs may write.
        self.server = sandbox.Server(config, flags=flags, variables={"TMPDIR": str(self.path)})
        self.addCleanup(self.server.folder.cleanup)
        self.addCleanup(self.end)

    def end(self):
        self.assertEqual(self.server.end(), 0)

    def temperature(self, milli):
        self.folder.put(f"{ZONE}/temp", f"{milli}\n")

    def reload(self, text, says=AGAIN):
        """Writes the configuration, tells the server, and returns what it says of it."""
        before = len(self.server.told())
        self.server.config.write_text(text)
        self.server.process.send_signal(signal.SIGHUP)
        said = lambda: says in self.server.told()[before:] and self.server.told()[before:]
        return common.wait_until(said, what=f"{says!r} in the log")

    def row(self, topic, wanted=lambda row: True, seconds=5):
        """The row of a topic in /topics once it is as it is wanted."""
        def look():
            rows = json.loads(self.server.request("GET", "/topics")[2])["topics"]
            rows = [row for row in rows if row["event"]["topic"] == topic]
            return rows and wanted(rows[0]) and rows[0]
        return common.wait_until(look, seconds, f"{topic}: {self.server.told()}")

    def value(self, topic, value, seconds=5):
        return self.row(topic, lambda row: row["event"]["value"] == value, seconds)

    def gone(self, topic, seconds=5):
        common.wait_until(lambda: topic not in self.server.topics(), seconds, f"{topic} is gone")


class Rules(Case):
    """[[topic]] and [sources]: how the readings of running sources look, and which there are."""

    def test_labels_units_and_numbers(self):
        self.begin()
        plain = self.value("cpu/temperature", 41.2)
        self.assertEqual(plain["unit"], "\u00b0C")
        self.reload(rule("cpu/+", label="The chip", unit="\u00b0F", scale=1.8, offset=32, round=0))
        row = self.value("cpu/temperature", 106)
        self.assertEqual((row["label"], row["unit"]), ("The chip", "\u00b0F"))
        self.temperature(50_000)
        self.value("cpu/temperature", 122)
        # Out of its range it is an error, and none when the rule is gone.
        self.reload(rule("#", max=45))
        self.row("cpu/temperature", lambda row: row["event"].get("state") == "error")
        self.reload("")
        row = self.value("cpu/temperature", 50)
        self.assertEqual({**row, "event": 0, "age": 0}, {**plain, "event": 0, "age": 0})
        self.assertNotIn("state", row["event"])

    def test_topics_that_anybody_publishes(self):
        self.begin(rule("demo/+", label="Old", unit="K") + rule("demo/b", label="Old B"))
        for topic in ["demo/a", "demo/b"]:
            self.server.request("PUT", f"/topics/{topic}", "1")
        self.reload(rule("demo/a", label="New", unit="V"))
        self.server.request("PUT", "/topics/demo/c", "1")
        named = {topic: self.row(topic) for topic in ["demo/a", "demo/b", "demo/c"]}
        named = {topic: (row["label"], row["unit"]) for topic, row in named.items()}
        self.assertEqual(named["demo/a"], ("New", "V"))
        self.assertEqual(named["demo/b"][1], "")
        self.assertNotIn("Old", named["demo/b"][0])

    def test_another_name(self):
        self.begin()
        self.value("cpu/temperature", 41.2)
        self.reload(rule(RAW, rename="room/t", label="Room"))
        self.assertEqual(self.value("room/t", 41.2)["label"], "Room")
        self.gone("cpu/temperature")
        self.reload("")
        self.assertNotEqual(self.value("cpu/temperature", 41.2)["label"], "Room")
        self.gone("room/t")

    def test_names_can_be_exchanged(self):
        self.folder_of_two = exec_row("echo a 1; echo b 2", interval=60)
        self.begin(self.folder_of_two)
        self.value("a", 1)
        self.value("b", 2)
        self.reload(self.folder_of_two + rule("a", rename="b") + rule("b", rename="a"))
        # At once, and not when the program runs again.
        self.value("a", 2)
        self.value("b", 1)

    def test_what_is_left_out_and_taken_in(self):
        self.begin()
        self.value("cpu/temperature", 41.2)
        self.reload('[sources]\nexclude = ["cpu/#"]\n')
        self.gone("cpu/temperature")
        self.temperature(60_000)
        time.sleep(1.5)
        self.assertNotIn("cpu/temperature", self.server.topics())
        self.reload('[sources]\ninclude = ["cpu/temperature"]\n')
        self.value("cpu/temperature", 60)
        self.reload('[sources]\nexclude = ["#"]\n')
        self.gone("cpu/temperature")

    def test_a_stream_is_not_cut_off_and_hears_of_it(self):
        self.begin()
        self.value("cpu/temperature", 41.2)
        request = b"GET /events/stream?topics=cpu/%23,room/%23 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with common.Raw(self.server.port, request) as stream:
            stream.head()
            self.reload(rule(RAW, rename="room/t", round=0))
            said = b""
            chunks = stream.chunks()
            while b'"room/t"' not in said:
                said += next(chunks)
        events = [json.loads(line) for line in said.splitlines() if b'"topic"' in line]
        events = [(event["topic"], event["value"], event.get("state")) for event in events]
        self.assertEqual(events[-2:], [("cpu/temperature", 41.2, "gone"), ("room/t", 41, None)])


class Sources(Case):
    """[[source]]: rows that come, go, change and stay."""

    def pid(self, topic, old=None):
        return self.row(topic, lambda row: row["event"]["value"] != old)["event"]["value"]

    def test_programs(self):
        forever = "echo $$; while :; do sleep 0.1; done"
        polite = f"trap 'echo end > {{}}; exit' TERM; {forever}"
        self.begin(exec_row(forever, topic="stays", stream=True))
        stays = self.pid("stays")
        ended = self.path / "ended"
        goes = exec_row(polite.replace("{}", str(ended)), topic="goes", stream=True)
        timed = exec_row("echo 7", topic="timed", interval=0.2)
        # One that stays is the same, though it stands elsewhere in the file.
        rows = exec_row(forever, topic="stays", stream=True)
        self.reload("\n\n" + goes + timed + rows)
        goes_pid = self.pid("goes")
        self.value("timed", 7)
        self.reload(rows + timed.replace("echo 7", "echo 8"))
        self.value("timed", 8)
        self.gone("goes")
        common.wait_until(lambda: not is_running(goes_pid), what="it has ended")
        self.assertEqual(ended.read_text(), "end\n", "it was asked to")
        self.reload(rows)
        self.gone("timed")
        self.assertEqual(self.pid("stays"), stays)
        self.assertTrue(is_running(stays))
        self.reload(rows + 'label = "Other"\n')
        row = self.row("stays", lambda row: row["label"] == "Other")
        self.assertNotEqual(row["event"]["value"], stays)
        common.wait_until(lambda: not is_running(stays), what="the first has ended")
        last = self.pid("stays", stays)
        self.reload(rows + 'label = "Other"\n[sources]\nexclude = ["stays/#"]\n',
                    "leaves out all of its topics")
        self.gone("stays")
        common.wait_until(lambda: not is_running(last), what="the last has ended")

    def test_a_socket_keeps_its_path_when_its_row_changes(self):
        self.begin()
        path = pathlib.Path(self.server.folder.name) / "readings"
        row = f'[[source]]\nkind = "datagram"\npath = "{path}"\ntopic = "room"\n'
        self.server.end()
        self.server.config.write_text(row)
        self.server.start()

        def send(text):
            common.wait_until(path.exists, what="a socket")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(text, str(path))

        send(b"1")
        self.value("room", 1)
        before = len(self.server.told())
        # Other rules do not touch it; its value is there by them, though nothing more was sent.
        self.reload(row + rule("room", scale=10, label="Scaled"))
        self.assertEqual(self.value("room", 10)["label"], "Scaled")
        self.reload(row + 'label = "Hall"\nmode = "0600"\n')
        self.gone("room")
        send(b"2")
        self.assertEqual(self.value("room", 2)["label"], "Hall")
        self.assertNotIn(str(path), self.server.told()[before:], "nothing was in the way")
        self.reload("")
        self.gone("room")
        self.assertFalse(path.exists())

    def test_standard_input_can_be_stopped_and_begun(self):
        self.folder, row = None, '[[source]]\nkind = "stdin"\ntopic = "in"\n'
        reader, writer = os.pipe()
        server = sandbox.Server(common.QUIET, stdin=reader)
        os.close(reader)
        self.server = server
        self.addCleanup(server.folder.cleanup)
        self.addCleanup(self.end)
        with os.fdopen(writer, "wb", buffering=0) as sender:
            self.reload(row)
            sender.write(b"1\n")
            self.value("in", 1)
            self.reload(row + 'unit = "V"\n')
            sender.write(b"2\n")
            self.assertEqual(self.value("in", 2)["unit"], "V")
            self.reload("")
            self.gone("in")

    def test_what_was_given_up_is_not_got_back(self):
        self.begin()
        row = exec_row("echo 1", topic="late", interval=0.2)
        far = '[[source]]\nkind = "datagram"\npath = "/run/encke-none/readings"\n'
        for rows in [row, far]:
            said = self.reload(rows + rule("cpu/temperature", label=rows[-9:-2]))
            self.assertRegex(said, r"; what is new in \[\[source\]\] counts after a restart \(.*given up")
            self.row("cpu/temperature", lambda row: row["label"] == rows[-9:-2])
        time.sleep(0.5)
        self.assertNotIn("late", self.server.topics())
        self.server.end()
        self.server.config.write_text(row)
        self.server.start()
        self.value("late", 1)
        self.reload(row.replace("echo 1", "echo 2"))
        self.value("late", 2)


class Server(Case):
    """[server] and [limits]."""

    def test_the_name_and_where_pages_may_connect_to(self):
        self.begin('[server]\nname = "Before"\n')
        policy = lambda: self.server.request("GET", "/")[1]["Content-Security-Policy"]
        page = lambda: self.server.request("GET", "/?plain")[2].decode()
        self.assertIn("Before", page())
        self.assertEqual(self.server.request("GET", "/", fields={"Host": "push.example:81"})[0], 421)
        for name, host in [("After", "push.example:81"), ("After all", "other.example")]:
            self.reload(f'[server]\nname = "{name}"\npush_host = "{host}"\n')
            self.assertIn(name, page())
            self.assertNotIn("Before", page())
            self.assertIn(f" {host} ws://{host}", policy())
            self.assertEqual(self.server.request("GET", "/", fields={"Host": host})[0], 200)
        self.reload("")
        self.assertNotIn("other.example", policy())

    def test_what_a_script_tag_may_read(self):
        self.begin(common.QUIET)
        for topic in ["a", "b"]:
            self.server.request("PUT", f"/topics/{topic}", "1")
        ask = lambda: self.server.request("GET", "/events/jsonp?callback=cb&timeout=0")[2].decode()
        self.assertNotIn('"topic"', ask())
        self.reload(common.QUIET + '[jsonp]\ntopics = ["b"]\n')
        self.assertIn('"topic":"b"', ask())
        self.assertNotIn('"topic":"a"', ask())
        self.reload(common.QUIET)
        self.assertNotIn('"topic"', ask())

    def test_heartbeats_of_streams_that_are_there(self):
        self.begin(common.QUIET + "[server]\nheartbeat = 30\n")
        request = b"GET /events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with common.Raw(self.server.port, request) as stream:
            stream.head()
            chunks = stream.chunks()
            next(chunks)
            self.reload(common.QUIET + "[server]\nheartbeat = 1\n")
            began = time.monotonic()
            for _ in range(2):
                self.assertIn(b"heartbeat", next(chunks))
            self.assertLess(time.monotonic() - began, 4)

    def test_what_waits_is_named_with_its_reason(self):
        self.begin()
        text = '[server]\nlisten = ["127.0.0.1:1"]\nheartbeat = 7\n'
        text += "[limits]\nviewers = 7\ntopics = 99\nper_address = 5\n"
        said = self.reload(text)
        # The flag of the command stands above the file, so nothing is new in listen.
        self.assertIn("; what is new in viewers, topics counts after a restart "
                      "(memory is set aside at the start)\n", said)
        self.assertNotIn("listen", said)
        self.assertTrue(self.reload("").endswith("this network may read all without one\n"))

    def test_a_mistake_changes_nothing_and_is_named_with_its_place(self):
        good = rule("cpu/temperature", label="Good")
        self.begin(good)
        self.row("cpu/temperature", lambda row: row["label"] == "Good")
        changed = rule("cpu/temperature", label="Changed")
        for wrong, place in [
            (changed + "scale = 0\n", "4:9: invalid value"),
            (changed + '[[source]]\nkind = "stdio"\n', '5:8: unknown kind "stdio"'),
            (changed + "[sources]\nexclude = 5\n", "5:11: invalid value"),
            (changed + "[sources]\nexclud = []\n", "5:1: unknown key `exclud`"),
            (changed + "[limits]\nviewers = 0\n", "5:11: invalid value"),
            (changed + "[server\n", "4:"),
        ]:
            with self.subTest(place):
                said = self.reload(wrong, "\nfix: ")
                self.assertIn("the configuration has a mistake, so all stays as it was:", said)
                self.assertIn(f"{self.server.config}:{place}", said)
                self.assertEqual(self.row("cpu/temperature")["label"], "Good")
        self.reload(changed)
        self.row("cpu/temperature", lambda row: row["label"] == "Changed")


class Early(unittest.TestCase):
    """SIGHUP that comes before the server serves."""

    def test_it_ends_nothing_and_counts(self):
        folder = sandbox.Folder(self)
        config, log = folder.path / "encke.toml", folder.path / "log"
        os.mkfifo(config)
        port = common.free_port()
        command = [common.BIN, "--config", config, "--listen", f"127.0.0.1:{port}"]
        with open(log, "w") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        # It has just begun when it waits for its configuration.
        with open(config, "w") as pipe:
            for _ in range(3):
                process.send_signal(signal.SIGHUP)
                time.sleep(0.05)
            self.assertIsNone(process.poll(), "it goes on")
            config.unlink()
            config.write_text(common.QUIET + rule("a", label="Later"))
            pipe.write(common.QUIET)

        def answers():
            self.assertIsNone(process.poll(), log.read_text())
            try:
                return common.request(port, "PUT", "/topics/a", "1")[0] == 200
            except OSError:
                return False

        common.wait_until(answers, what="an answer")
        common.wait_until(lambda: AGAIN in log.read_text(), what="it was read again")
        topics = json.loads(common.request(port, "GET", "/topics")[2])["topics"]
        self.assertEqual(topics[0]["label"], "Later")
        self.assertEqual(len(re.findall(AGAIN, log.read_text())), 1)
        process.terminate()
        self.assertEqual(process.wait(6), 0)


if __name__ == "__main__":
    common.main()
