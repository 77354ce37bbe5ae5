"""What the running server can still do: landlock, as the kernel holds it to it.

A sensor's file that leads out of the system root, and a program of a source that tries what it may
not, show from inside what is closed; everything that is needed has to work all the same. Where this
kernel has no landlock those tests are skipped; that Encke starts without it is tested everywhere,
on an emulated processor, whose emulator has none.
"""

import ctypes
import hashlib
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import common
import machine

FIXTURES = common.ROOT / "tests/fixtures/sys"
# What they have together: every kind that is found.
KINDS = ["proc-basic", "thermal-pi4", "hwmon-i2c", "iio-pi", "w1-pi", "power-supply-ups", "wifi-pi"]
LINE = r"(?m)^encke: (?:not )?confined.*$"


def landlock():
    """The version of landlock's interface that this kernel has; 0 for none."""
    return max(0, ctypes.CDLL(None, use_errno=True).syscall(444, None, 0, 1))


ABI = landlock()
needed = unittest.skipUnless(ABI, "this kernel has no landlock")


class Server(common.Server):
    """A server whose command begins with `tool` and ends with `flags`."""

    def __init__(self, config=common.QUIET, flags=(), tool=(), variables=None, **more):
        self.flags, self.tool, self.more = flags, tool, more
        # What a service manager may have said to whoever runs the tests is not for this server.
        known = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.variables = known | (variables or {})
        super().__init__(config)

    def start(self):
        command = [*self.tool, common.BIN, "serve", "--config", self.config]
        command += ["--listen", f"127.0.0.1:{self.port}", *self.flags]
        with open(self.log, "a") as log:
            more = {"stdout": log, "stderr": log, "env": self.variables, **self.more}
            self.process = subprocess.Popen(command, **more)
        common.wait_until(self.answers, 30, "the server's first answer")

    @property
    def log(self):
        return pathlib.Path(self.folder.name) / "log"

    def told(self):
        return self.log.read_text()

    def topics(self):
        rows = json.loads(self.request("GET", "/topics")[2])["topics"]
        return {row["event"]["topic"]: row["event"] for row in rows}

    def value(self, topic, wanted=lambda event: True, seconds=10):
        """The event of a topic once it is there, and is as it is wanted."""
        def look():
            event = self.topics().get(topic)
            return event if event and wanted(event) else None
        return common.wait_until(look, seconds, f"{topic}:\n{self.told()}\n{self.topics()}")


class Folder:
    """A folder of one test's own, below which everything is plain files."""

    def __init__(self, test):
        folder = tempfile.TemporaryDirectory(prefix="encke-sandbox-")
        test.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name).resolve()

    def put(self, path, text):
        path = self.path / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


class LineTest(unittest.TestCase):
    """It is said once, at start, what is so."""

    def lines(self, **how):
        with Server(**how) as server:
            time.sleep(0.1)
            return re.findall(LINE, server.told())

    @needed
    def test_what_is_left_is_told(self):
        (line,) = self.lines()
        self.assertRegex(line, rf"^encke: confined by landlock {ABI}: reads ")
        self.assertIn("; writes nothing; runs nothing; ", line)
        self.assertIn(" /proc ", line)
        self.assertIn(" /sys ", line)
        if ABI >= 4:
            self.assertTrue(line.endswith("; opens no TCP connection"), line)

    def test_an_emulator_without_it_is_told_and_no_obstacle(self):
        emulator = shutil.which(f"qemu-{platform.machine()}-static")
        if not emulator:
            self.skipTest("there is no emulator of this processor")
        (line,) = self.lines(tool=[emulator])
        self.assertRegex(line, "^encke: not confined: no landlock here ")


@needed
class ServerTest(unittest.TestCase):
    """Without a program among its sources it reads little, and runs and writes nothing."""

    def test_a_file_elsewhere_can_no_longer_be_read(self):
        folder, other = Folder(self), Folder(self)
        secret = other.put("secret", "41000\n")
        for number, name in enumerate(["inside", "outside"]):
            zone = f"sys/class/thermal/thermal_zone{number}"
            folder.put(f"{zone}/type", f"{name}\n")
            folder.put(f"{zone}/temp", "21000\n")
        leak = folder.path / zone / "temp"
        leak.unlink()
        leak.symlink_to(secret)
        with Server("", ["--sys-root", folder.path]) as server:
            self.assertEqual(server.value("thermal/inside")["value"], 21)
            event = server.value("thermal/outside")
            self.assertEqual((event["value"], event["state"]), (None, "error"))
            # It is the kernel that said no, not the file.
            leak.unlink()
            leak.write_text("42000\n")
            server.value("thermal/outside", lambda event: event["value"] == 42)

    def test_every_kind_reads_as_it_did(self):
        folder = Folder(self)
        for name in KINDS:
            shutil.copytree(FIXTURES / name, folder.path, symlinks=True, dirs_exist_ok=True)
        flags = ["--sys-root", folder.path]
        plain = subprocess.run(
            [common.BIN, "sensors", *flags], text=True, capture_output=True, timeout=30)
        want = {}
        for line in plain.stdout.splitlines():
            topic, value = line.split()[:2]
            want[topic] = re.search(r" (ok|error) +(\w+) ", line).groups()
        kinds = {"proc", "thermal", "hwmon", "iio", "w1", "power_supply", "wifi"}
        self.assertEqual({kind for _, kind in want.values()}, kinds)
        want = {topic: state for topic, (state, _) in want.items()}
        with Server("", flags) as server:
            def states():
                rows = server.topics().items()
                return {topic: event.get("state", "ok") for topic, event in rows}
            common.wait_until(lambda: states().keys() >= want.keys(), 20, "all topics")
            self.assertEqual(states(), states() | want)
            self.assertNotIn("error:", server.told())

    def test_standard_input_and_a_socket_go_on(self):
        folder = Folder(self)
        path = folder.path / "run/readings"
        row = '[[source]]\nkind = "{}"\ntopic = "{}"\n'
        config = common.QUIET.replace('"#"', '"+"') + row.format("stdin", "in/put")
        config += row.format("datagram", "data/gram") + f'path = "{path}"\n'
        # Its folder is not there when the rights are given up.
        with Server(config, stdin=subprocess.PIPE) as server:
            server.process.stdin.write(b"7\n")
            server.process.stdin.flush()
            server.value("in/put", lambda event: event["value"] == 7)
            path.parent.mkdir()
            common.wait_until(path.exists, 15, f"the socket:\n{server.told()}")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"21.5", str(path))
            server.value("data/gram", lambda event: event["value"] == 21.5)
            server.process.stdin.close()
            self.assertEqual(server.end(), 0)
        self.assertFalse(path.exists(), "the socket goes with the server")

    def test_it_begins_when_all_listens_and_before_any_thread(self):
        strace = shutil.which("strace")
        if not strace:
            self.skipTest("there is no strace here")
        with tempfile.NamedTemporaryFile("r") as calls:
            trace = "listen,clone,clone3,landlock_restrict_self"
            tool = [strace, "-f", "-o", calls.name, "-e", f"trace={trace}"]
            server = Server("", tool=tool)
            self.addCleanup(server.folder.cleanup)
            # strace ends with what it watches.
            children = pathlib.Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
            os.kill(int(children.read_text().split()[0]), signal.SIGTERM)
            self.assertEqual(server.process.wait(10), 0)
            made = re.findall(r"(?m)^\d+ +(listen|clone3?|landlock_restrict_self)\(", calls.read())
        self.assertEqual(made[:2], ["listen", "landlock_restrict_self"], made)
        self.assertTrue(made[2].startswith("clone"), made)

    def test_a_new_configuration_is_read_where_the_old_one_was(self):
        folder = Folder(self)
        folder.put("etc/resolv.conf", "search old.example\n")
        name = platform.node().split(".")[0].lower()
        known = lambda domain: server.request(
            "GET", "/health", fields={"Host": f"{name}.{domain}"})[0] == 200
        bearer = {"Authorization": "Bearer phone.secret"}
        hashed = hashlib.sha256(b"secret").hexdigest()
        with Server(flags=["--sys-root", folder.path]) as server:
            self.assertTrue(known("old.example"))
            self.assertFalse(known("new.example"))
            for path, text in [
                (server.config, f'{common.QUIET}[[token]]\nname = "phone"\nsha256 = "{hashed}"\n'),
                (folder.path / "etc/resolv.conf", "search new.example\n"),
            ]:
                # As editors and network managers do it: a new file takes the old one's name.
                new = path.with_suffix(".new")
                new.write_text(text)
                new.rename(path)
            server.process.send_signal(signal.SIGHUP)
            is_read = lambda: server.request("GET", "/session", fields=bearer)[0] == 200
            common.wait_until(is_read, what=f"the new token:\n{server.told()}")
            self.assertTrue(known("new.example"))


# Tries one thing after another and prints a line for each: "try/NAME 1" if it could be done.
TRIES = """
try() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "try/$name 1"; else echo "try/$name 0"; fi; }
try read cat "$1/secret"
try write sh -c ': > "$1/new"' sh "$1"
try change sh -c 'echo >> "$1/secret"' sh "$1"
try remove rm "$1/secret"
try folder mkdir "$1/new"
try temporary sh -c 'mkdir "$TMPDIR/a" && echo > "$TMPDIR/a/b" && mv "$TMPDIR/a/b" "$TMPDIR/c"'
try runtime sh -c ': > "$RUNTIME_DIRECTORY/a"'
try null sh -c ': > /dev/null'
try node mknod /dev/encke-test-node c 1 3
try error sh -c ': > /dev/stderr'
try signal kill -0 "$2"
try connect "$4" -c 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1])))' "$3"
try rights grep -q 'NoNewPrivs:.*0' /proc/self/status
"""


@needed
class ProgramTest(unittest.TestCase):
    """Programs of sources read and run what they like, and write where they were told to."""

    def test_what_a_program_may(self):
        outside, own = Folder(self), Folder(self)
        secret = outside.put("secret", "it\n")
        for name in ("tmp", "run"):
            (own.path / name).mkdir()
        variables = {"TMPDIR": str(own.path / "tmp"), "RUNTIME_DIRECTORY": str(own.path / "run")}
        bystander = subprocess.Popen(["sleep", "60"])
        self.addCleanup(bystander.wait)
        self.addCleanup(bystander.kill)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            words = ["sh", "-c", TRIES, "sh", str(outside.path), str(bystander.pid)]
            words += [str(listener.getsockname()[1]), shutil.which("python3")]
            config = f'[[source]]\nkind = "exec"\ncommand = {json.dumps(words)}\n'
            config += "stream = true\n[sources]\ninclude = [\"try/+\"]\n"
            with Server(config, variables=variables) as server:
                server.value("try/rights", seconds=20)
                could = {topic[4:] for topic, event in server.topics().items() if event["value"]}
                (line,) = re.findall(LINE, server.told())
        want = {"read", "temporary", "runtime", "null", "error", "connect"}
        self.assertEqual(could, want | ({"signal"} if ABI < 6 else set()))
        self.assertEqual(secret.read_text(), "it\n")
        self.assertEqual(list(outside.path.iterdir()), [secret])
        writes = " ".join(["/dev", *sorted(variables.values())])
        self.assertIn(f": reads /; writes {writes}; runs /; ", line)

    def test_programs_end_with_the_server(self):
        config = '[[source]]\nkind = "exec"\nstream = true\ncommand = ["sh", "-c", "echo $$; exec sleep 60"]\n'
        with Server(config + 'topic = "pid"\n[sources]\ninclude = ["pid"]\n') as server:
            pid = server.value("pid")["value"]
            os.kill(pid, 0)
            self.assertEqual(server.end(), 0)
        # It was told to end before the server did; whoever inherits it buries it when it likes.
        common.wait_until(lambda: not runs(pid), seconds=2, what=f"the end of {pid}")

    def test_a_start_that_is_denied_is_said_with_its_reason(self):
        config = '[[source]]\nkind = "exec"\ncommand = ["sh", "-c", "echo 1 > \\"$0\\"", "{}"]\n'
        outside = Folder(self)
        with Server(config.format(outside.path / "new") + 'topic = "a"\n') as server:
            said = lambda: "Permission denied" in server.told()
            common.wait_until(said, what=f"the complaint:\n{server.told()}")
        self.assertEqual(list(outside.path.iterdir()), [])


def runs(pid):
    """Whether there is such a process that has not ended."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


# For each folder a line: "try/NUMBER 1" if a file could be made there.
TOUCHES = """
number=0
for folder in /tmp /run/encke "$STATE_DIRECTORY" /var/tmp /dev/shm; do
    touch "$folder/a" 2>/dev/null && echo "try/$number 1" || echo "try/$number 0"
    number=$((number + 1))
done
sleep 60
"""


@needed
@machine.needed
class UnitTest(unittest.TestCase):
    """The same below the real systemd, whose filter of system calls has to let it happen."""

    def test_the_unit_and_landlock_together(self):
        command = json.dumps(["sh", "-c", TOUCHES])
        row = f'[[source]]\nkind = "exec"\nstream = true\ncommand = {command}\n'
        drop_in = "[Service]\nStateDirectory=kept\nSystemCallErrorNumber=kill\nRestart=no\n"
        unit = common.ROOT / "scripts/packaging/encke.service"
        with machine.Machine() as system:
            system.put(common.BIN, "/usr/bin/encke", 0o755)
            system.put(unit, "/usr/lib/systemd/system/encke.service")
            system.write("/run/systemd/system/encke.service.d/a.conf", drop_in)
            for config, reads in [("", "/etc /etc/encke /proc /sys"), (row, "/")]:
                system.write("/etc/encke/encke.toml", config)
                system.run("systemctl", "daemon-reload")
                system.run("systemctl", "restart", "encke")
                system.run("journalctl", "--sync")
                log = ["journalctl", "--unit", "encke", "-o", "cat", "--no-pager", "_COMM=encke"]
                said = system.run(*log).stdout
                self.assertRegex(said, rf"(?m)^confined by landlock {ABI}: reads {reads};")
            topics = lambda: system.fetch("http://127.0.0.1:8080/topics")
            common.wait_until(lambda: '"try/4"' in topics(), what="all tries")
            events = [row["event"] for row in json.loads(topics())["topics"]]
            could = {event["topic"]: event["value"] for event in events}
            could = [could[f"try/{number}"] for number in range(5)]
            self.assertEqual(could, [1, 1, 1, 0, 0])


if __name__ == "__main__":
    common.main()
