"""systemd: the notify protocol, socket activation, the journal's priorities, and the unit itself.

The unit runs under the real systemd, on a machine of its own (machine/); without root that part is
skipped. The rest needs nothing but sockets.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import common
import machine

PACKAGING = common.ROOT / "scripts/packaging"


def status_at(host, port):
    """The status that one request gets."""
    with socket.create_connection((host, port), timeout=5) as sock:
        sock.settimeout(5)
        sock.sendall(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
        return int(sock.recv(4096).split()[1])


def answers_at(port):
    try:
        return status_at("127.0.0.1", port) == 200
    except OSError:
        return False


class Started:
    """Encke with a fake service manager; messages as (seconds, {name: value}). A context."""

    def __init__(self, watchdog_us=None, config=common.QUIET, **environment):
        self.folder = tempfile.TemporaryDirectory(prefix="encke-notify-")
        path = pathlib.Path(self.folder.name)
        (path / "encke.toml").write_text(config)
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(path / "notify"))
        self.port = common.free_port()
        environment = {**os.environ, "NOTIFY_SOCKET": str(path / "notify"), **environment}
        if watchdog_us:
            environment["WATCHDOG_USEC"] = str(watchdog_us)
        command = [common.BIN, "--config", path / "encke.toml", "--listen"]
        command += [f"127.0.0.1:{self.port}"]
        log = open(path / "log", "w")
        with log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.manager.close()
        self.folder.cleanup()

    def message(self, seconds=5.0):
        self.manager.settimeout(seconds)
        text = self.manager.recv(4096).decode()
        return time.monotonic(), dict(line.split("=", 1) for line in text.splitlines())

    def messages(self, seconds):
        """All that come within so many seconds."""
        end, found = time.monotonic() + seconds, []
        while (left := end - time.monotonic()) > 0:
            try:
                found.append(self.message(left))
            except TimeoutError:
                break
        return found


class NotifyTest(unittest.TestCase):
    def test_ready_means_that_it_answers(self):
        with Started() as started:
            _, first = started.message()
            self.assertEqual(first.pop("READY"), "1")
            status = f"at 127.0.0.1:{started.port}: 0 sensors, 0 viewers"
            self.assertEqual(first, {"STATUS": status})
            self.assertEqual(status_at("127.0.0.1", started.port), 200, "one try, at once")
            self.assertEqual(started.messages(1.0), [], "no watchdog, nothing new: nothing said")

    def test_the_watchdog_is_fed_at_half_its_time(self):
        with Started(watchdog_us=600_000) as started:
            began, first = started.message()
            self.assertEqual((first["READY"], first["WATCHDOG"]), ("1", "1"))
            fed = [at for at, message in started.messages(3.2) if message.get("WATCHDOG") == "1"]
            gaps = [b - a for a, b in zip([began] + fed, fed)]
            print("seconds between feedings:", " ".join(f"{gap:.3f}" for gap in gaps))
            self.assertGreaterEqual(len(fed), 9)
            self.assertLessEqual(len(fed), 11)
            self.assertLess(max(gaps), 0.6)

    def test_another_process_s_watchdog_is_not_fed(self):
        with Started(watchdog_us=200_000, WATCHDOG_PID="1") as started:
            told = [message for _, message in [started.message()] + started.messages(0.8)]
            self.assertEqual(told[0]["READY"], "1")
            self.assertEqual([m for m in told if "WATCHDOG" in m], [])

    def test_the_status_counts_sensors_and_viewers(self):
        with Started(watchdog_us=400_000, config="") as started:
            started.message()
            with socket.create_connection(("127.0.0.1", started.port)) as sock:
                sock.sendall(b"GET /events/sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
                statuses = [m["STATUS"] for _, m in started.messages(1.2) if "STATUS" in m]
            self.assertRegex(statuses[-1], r": [1-9]\d* sensors, 1 viewers$")
            self.assertLessEqual(len(statuses), 3, "said when it changes only")

    def test_the_end_is_told_then_comes(self):
        with Started() as started:
            started.message()
            started.process.send_signal(signal.SIGTERM)
            self.assertEqual(started.message()[1], {"STOPPING": "1"})
            self.assertEqual(started.process.wait(6), 0)

    def test_a_manager_that_is_gone_is_no_reason_to_stop(self):
        with Started(watchdog_us=200_000) as started:
            started.message()
            os.unlink(started.manager.getsockname())
            time.sleep(0.6)
            self.assertIsNone(started.process.poll())


# Opens sockets as told, and becomes Encke with them as descriptors 3, 4, ..
HAND_OVER = """
import os, socket, sys
def tcp(family, address, is_listening=True):
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind(address)
    if is_listening:
        sock.listen(1)
    return sock
def unix():
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(sys.argv[2] + "/socket")
    sock.listen(1)
    return sock
kinds = {
    "tcp": lambda: tcp(socket.AF_INET, ("127.0.0.1", 0)),
    "tcp6": lambda: tcp(socket.AF_INET6, ("::1", 0)),
    "deaf": lambda: tcp(socket.AF_INET, ("127.0.0.1", 0), False),
    "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "unix": unix,
    "file": lambda: open("/dev/null"),
}
opened = [kinds[kind]() for kind in sys.argv[1].split(",")]
print(*(s.getsockname()[1] for s in opened if getattr(s, "family", 1) != 1), flush=True)
high = [os.dup2(s.fileno(), 40 + i) for i, s in enumerate(opened)]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i, inheritable=True)
os.closerange(3 + len(opened), 60)
os.environ["LISTEN_FDS"] = str(len(opened))
os.environ["LISTEN_PID"] = str(os.getpid() + int(sys.argv[3]))
os.execv(sys.argv[4], sys.argv[4:])
"""


class ActivationTest(unittest.TestCase):
    def hand_over(self, kinds, pid_offset=0):
        """The process, and the ports of the sockets that it was handed."""
        folder = tempfile.TemporaryDirectory(prefix="encke-activation-")
        self.addCleanup(folder.cleanup)
        config = pathlib.Path(folder.name) / "encke.toml"
        config.write_text(common.QUIET)
        self.own_port = common.free_port()
        command = [sys.executable, "-c", HAND_OVER, kinds, folder.name, str(pid_offset)]
        command += [common.BIN, "--config", config, "--listen", f"127.0.0.1:{self.own_port}"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process, [int(port) for port in process.stdout.readline().split()]

    def test_handed_sockets_take_the_place_of_listen(self):
        process, (four, six) = self.hand_over("tcp,tcp6")
        self.assertEqual(status_at("127.0.0.1", four), 200)
        self.assertEqual(status_at("::1", six), 200)
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.own_port), timeout=2)
        for fd in (3, 4):
            info = pathlib.Path(f"/proc/{process.pid}/fdinfo/{fd}").read_text()
            flags = int(re.search(r"flags:\s+(\d+)", info)[1], 8)
            self.assertTrue(flags & os.O_NONBLOCK, "it would wait in accept")
            self.assertTrue(flags & os.O_CLOEXEC, "programs of exec sources would have it")

    def test_other_processes_sockets_are_not_taken(self):
        _, (port,) = self.hand_over("tcp", pid_offset=1)
        common.wait_until(lambda: answers_at(self.own_port), what="an answer at --listen")
        with self.assertRaises(TimeoutError):
            with socket.create_connection(("127.0.0.1", port), timeout=0.5) as sock:
                sock.settimeout(0.5)
                sock.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                sock.recv(1)

    def test_what_is_no_listening_tcp_socket_is_told(self):
        for kinds, at, told in [
            ("udp", 1, "it does not listen"),
            ("tcp,unix", 2, "it is no TCP socket"),
            ("deaf", 1, "it does not listen"),
            ("file,tcp", 1, r".* \(os error 88\)"),
        ]:
            with self.subTest(kinds):
                process, _ = self.hand_over(kinds)
                _, said = process.communicate(timeout=5)
                self.assertEqual(process.returncode, 1)
                start = f"encke: socket {at} of those handed over cannot be listened at: {told}"
                self.assertRegex(said, f"^{start}\n")
                self.assertIn("\nfix: in the .socket unit, ListenStream= is a port", said)

    @unittest.skipUnless(shutil.which("systemd-socket-activate"), "no systemd-socket-activate")
    def test_systemd_socket_activate(self):
        port = common.free_port()
        command = ["systemd-socket-activate", "-l", f"127.0.0.1:{port}", common.BIN]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            # Whoever comes first starts it, and is answered.
            common.wait_until(lambda: answers_at(port), what="an answer")
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(6), 0)
        finally:
            process.kill()
            process.wait()


class JournalTest(unittest.TestCase):
    def said(self, config, is_journal):
        """What is said on standard error, when that is the journal or only inherited its name."""
        with tempfile.TemporaryDirectory(prefix="encke-journal-") as folder:
            path, port = pathlib.Path(folder), common.free_port()
            (path / "encke.toml").write_text(config)
            with open(path / "err", "w+") as err, open(path / "out", "w") as out:
                stat = os.fstat((err if is_journal else out).fileno())
                stream = {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
                command = [common.BIN, "--config", path / "encke.toml"]
                command += ["--listen", f"127.0.0.1:{port}"]
                process = subprocess.Popen(
                    command, env={**os.environ, **stream}, stdout=out, stderr=err
                )
                is_over = lambda: process.poll() is not None or answers_at(port)
                common.wait_until(is_over, what="an answer, or the end")
                process.terminate()
                process.wait(6)
            return (path / "err").read_text().splitlines()

    def test_lines_have_priorities_in_the_journal_only(self):
        begun, confined, draining, ended = self.said(common.QUIET, True)
        self.assertRegex(begun, r"^<6>started at http://127\.0\.0\.1:\d+/ with 0 readings")
        self.assertRegex(confined, r"^(<6>confined by landlock|<5>not confined: )")
        self.assertEqual((draining, ended), ("<5>stopping: 0 viewers are told", "<6>stopped"))
        begun, _, draining, ended = self.said(common.QUIET, False)
        self.assertTrue(begun.startswith("encke: started at http://"), begun)
        self.assertEqual(ended, "encke: stopped")

    def test_every_line_of_an_error_has_its_priority(self):
        lines = self.said("[server]\nlisten = 7\n", True)
        self.assertGreater(len(lines), 2)
        self.assertTrue(all(line.startswith("<3>") for line in lines), lines)


@unittest.skipUnless(shutil.which("systemd-analyze"), "there is no systemd-analyze here")
class UnitTest(unittest.TestCase):
    """What systemd thinks of the files."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="encke-units-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        for name in ("encke.service", "encke.socket"):
            text = (PACKAGING / name).read_text()
            # The program need not be installed for this.
            (self.folder / name).write_text(text.replace("/usr/bin/encke", common.BIN))

    def analyze(self, *command):
        command = ["systemd-analyze", *command]
        return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def test_systemd_understands_every_line(self):
        for name in ("encke.service", "encke.socket"):
            done = self.analyze("verify", "--man=no", self.folder / name)
            own = [line for line in done.stdout.splitlines() if "encke" in line]
            self.assertEqual((done.returncode, own), (0, []))

    def test_little_is_exposed(self):
        flags = ["--no-pager", "--offline=true", "--threshold=22"]
        done = self.analyze("security", *flags, self.folder / "encke.service")
        print(done.stdout.splitlines()[-1])
        self.assertEqual(done.returncode, 0, done.stdout)


@machine.needed
class SystemdTest(unittest.TestCase):
    """The unit under the real systemd."""

    @classmethod
    def setUpClass(cls):
        cls.machine = machine.Machine()
        cls.addClassCleanup(cls.machine.end)
        cls.machine.put(common.BIN, "/usr/bin/encke", 0o755)
        for name in ("encke.service", "encke.socket"):
            cls.machine.put(PACKAGING / name, f"/usr/lib/systemd/system/{name}")
        # What the filter forbids would end it here, and only be refused elsewhere.
        cls.drop_in("strict", "SystemCallErrorNumber=kill")
        # An encke of this computer's own is left as it is, and not looked at.
        cls.machine.write("/etc/encke/encke.toml", "")

    @classmethod
    def drop_in(cls, name, *lines):
        text = "\n".join(["[Service]", *lines, ""])
        cls.machine.write(f"/run/systemd/system/encke.service.d/{name}.conf", text)
        cls.machine.run("systemctl", "daemon-reload")

    def systemctl(self, *command, **more):
        return self.machine.run("systemctl", *command, **more)

    def start(self, unit="encke.service"):
        done = self.systemctl("start", unit, check=False)
        log = self.machine.run("journalctl", "--unit", "encke", "-o", "cat", "--no-pager").stdout
        self.assertEqual(done.returncode, 0, f"{done.stdout}\n{log}")

    def tearDown(self):
        self.systemctl("stop", "encke.socket", "encke.service")
        self.systemctl("reset-failed", check=False)

    def pid(self):
        return int(self.machine.show("encke.service", "MainPID"))

    def health(self, port=8080):
        return self.machine.fetch(f"http://127.0.0.1:{port}/health")

    def test_it_runs_as_nobody_in_particular(self):
        self.start()
        self.assertIn('"status":"ok"', self.health())
        status = (self.machine.root / f"proc/{self.pid()}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        self.assertGreaterEqual(int(fields["Uid"].split()[0]), 61184, "a dynamic user")
        self.assertEqual(fields["NoNewPrivs"], "1")
        self.assertEqual(fields["Seccomp"], "2")
        limits = (self.machine.root / f"proc/{self.pid()}/limits").read_text()
        self.assertRegex(limits, r"(?m)^Max core file size +0 +0 ")
        net_bind_service = f"{1 << 10:016x}"
        self.assertEqual((fields["CapEff"], fields["CapBnd"]), (net_bind_service,) * 2)
        self.assertEqual(self.machine.run("stat", "-c", "%U", "/run/encke").stdout, "encke\n")
        self.assertFalse((self.machine.root / "var/lib/private/encke").exists())
        shown = self.machine.show("encke.service", "StatusText")
        self.assertRegex(shown, r"^at \[::\]:8080: \d+ sensors, 0 viewers$")
        self.assertIn("memory/used", self.machine.fetch("http://127.0.0.1:8080/topics"))
        print("threads:", fields["Threads"], " resident:", fields["VmRSS"])

    def test_groups_of_a_drop_in_are_its_groups(self):
        self.drop_in("groups", "SupplementaryGroups=dialout video")
        self.addCleanup(self.drop_in, "groups")
        self.start()
        status = (self.machine.root / f"proc/{self.pid()}/status").read_text()
        groups = re.search(r"^Groups:\t(.*)$", status, re.MULTILINE)[1].split()
        names = self.machine.run("getent", "group", *groups).stdout
        self.assertIn("dialout:", names)
        self.assertIn("video:", names)

    def test_the_end_is_a_success_and_leaves_nothing(self):
        self.start()
        self.systemctl("stop", "encke.service")
        self.assertEqual(self.machine.show("encke.service", "Result"), "success")
        self.assertEqual(self.machine.show("encke.service", "ExecMainStatus"), "0")
        self.assertFalse((self.machine.root / "run/encke").exists())

    def test_one_that_hangs_is_started_again(self):
        self.drop_in("watchdog", "WatchdogSec=1", "RestartSec=0", "TimeoutAbortSec=1")
        self.addCleanup(self.drop_in, "watchdog")
        self.start()
        time.sleep(2.5)
        first = self.pid()
        self.assertEqual(self.machine.show("encke.service", "NRestarts"), "0", "it was fed")
        self.machine.run("kill", "-STOP", first)
        common.wait_until(lambda: self.pid() not in (0, first), 15, "a new process")
        common.wait_until(lambda: "ok" in self.health(), what="its answer")
        self.assertEqual(self.machine.show("encke.service", "NRestarts"), "1")

    def test_a_reload_changes_rights_and_not_the_process(self):
        self.start()
        self.addCleanup(self.machine.write, "/etc/encke/encke.toml", "")
        first, topics = self.pid(), lambda: self.machine.fetch("http://127.0.0.1:8080/topics")
        self.assertIn('"topics":', topics())
        self.machine.write("/etc/encke/encke.toml", "[server]\nread = []\n")
        self.systemctl("reload", "encke.service")
        common.wait_until(lambda: not topics(), what="a refusal")
        self.assertIn('"status":"ok"', self.health())
        self.machine.write("/etc/encke/encke.toml", "[server]\nread = []]\n")
        self.systemctl("reload", "encke.service")
        command = ["journalctl", "--unit", "encke", "-p", "err", "-o", "cat", "--no-pager"]
        told = lambda: "/etc/encke/encke.toml:2:10: " in self.machine.run(*command).stdout
        common.wait_until(told, what="an error in the journal")
        self.assertEqual(topics(), "", "it stays as it was")
        self.assertEqual(self.machine.show("encke.service", "ActiveState"), "active")
        self.assertEqual(self.machine.show("encke.service", "NRestarts"), "0")
        self.assertEqual(self.pid(), first)

    def test_the_socket_hands_over_port_80(self):
        self.start("encke.socket")
        self.assertEqual(self.machine.show("encke.service", "ActiveState"), "inactive")
        self.assertIn('"status":"ok"', self.health(80))
        self.assertEqual(self.machine.show("encke.service", "ActiveState"), "active")
        shown = self.machine.show("encke.service", "StatusText")
        self.assertRegex(shown, r"^at \[::\]:80: ")
        self.assertEqual(self.health(8080), "", "nothing else is listened at")

    def test_port_80_can_be_chosen_in_the_configuration_too(self):
        self.machine.write("/etc/encke/encke.toml", '[server]\nlisten = ["0.0.0.0:80"]\n')
        self.addCleanup(self.machine.write, "/etc/encke/encke.toml", "")
        self.start()
        self.assertIn('"status":"ok"', self.health(80))

    def test_the_journal_knows_what_matters(self):
        self.start()
        self.systemctl("stop", "encke.service")
        self.machine.run("journalctl", "--sync")
        command = ["journalctl", "--unit", "encke", "-o", "json", "--no-pager", "_COMM=encke"]
        entries = [json.loads(line) for line in self.machine.run(*command).stdout.splitlines()]
        found = {entry["MESSAGE"]: entry["PRIORITY"] for entry in entries}
        self.assertEqual(found["stopped"], "6")
        self.assertEqual(found["stopping: 0 viewers are told"], "5")
        # The banner is there as well, the address first.
        self.assertTrue(any(message.startswith("  http://") for message in found))

    def test_a_mistake_in_the_configuration_is_an_error_in_the_journal(self):
        self.drop_in("once", "Restart=no")
        self.addCleanup(self.drop_in, "once")
        self.machine.write("/etc/encke/encke.toml", "[server]\nheartbeet = 7\n")
        self.addCleanup(self.machine.write, "/etc/encke/encke.toml", "")
        self.assertNotEqual(self.systemctl("start", "encke.service", check=False).returncode, 0)
        self.machine.run("journalctl", "--sync")
        command = ["journalctl", "--unit", "encke", "-p", "err", "-o", "cat", "--no-pager"]
        told = self.machine.run(*command, "_COMM=encke").stdout
        self.assertIn("/etc/encke/encke.toml:2:1: ", told)
        self.assertIn("fix: ", told)


if __name__ == "__main__":
    common.main()
