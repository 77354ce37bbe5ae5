"""A Raspberry Pi 3 in QEMU, with Debian's kernel and the aarch64 binary, seen from outside.

tests/guest/fetch brings the kernel, busybox and QEMU. The guest has a processor thermometer
(bcm2835_thermal, always about 25 degrees), a tmp105 on I2C bus 1 (driver lm75) whose temperature
is set over QMP, no clock battery, and a serial console whose every line is a command (init).
"""

import gzip
import json
import os
import pathlib
import queue
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "interop"))
import common  # noqa: E402

ROOT = common.ROOT / "target/guest/root"
BIN = os.environ.get(
    "ENCKE_AARCH64", common.ROOT / "target/aarch64-unknown-linux-musl/release/encke")
# What the kernel needs for the network over USB, and for the sensors; their needs come before them.
MODULES = "phy-generic dwc2 cdc_ether i2c-bcm2835 lm75 bcm2835_thermal"
CPU, TMP105 = "cpu/temperature", "hwmon/tmp105/temp1"
BOOT_SECONDS = 120


def drivers():
    """The modules as (file name, bytes), in an order that loads."""
    files = {}
    for path in ROOT.rglob("*.ko*"):
        files[path.name.split(".")[0].replace("-", "_")] = path
    found = {}

    def add(name):
        name = name.replace("-", "_")
        # What is not there is built into the kernel.
        if name in found or name not in files:
            return
        data = files[name].read_bytes()
        if files[name].suffix == ".xz":
            import lzma
            data = lzma.decompress(data)
        for needed in re.search(rb"\0depends=([^\0]*)\0", data)[1].decode().split(","):
            add(needed)
        found[name] = data

    for name in MODULES.split():
        add(name)
    return [(f"{name}.ko", data) for name, data in found.items()]


def cpio(entries):
    """An archive in the kernel's initramfs form (newc) of (name, mode, bytes)."""
    out = bytearray()
    for number, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")]):
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)


def initramfs():
    folders = "bin dev modules proc run sys etc".split()
    entries = [(name, 0o040755, b"") for name in folders]
    modules = drivers()
    for name, data in modules:
        entries.append((f"modules/{name}", 0o100644, data))
    order = "".join(f"{name}\n" for name, _ in modules)
    entries.append(("modules/order", 0o100644, order.encode()))
    busybox = next(ROOT.rglob("busybox"))
    for name, path in [("init", FOLDER / "init"), ("bin/busybox", busybox), ("bin/encke", BIN)]:
        entries.append((name, 0o100755, pathlib.Path(path).read_bytes()))
    return gzip.compress(cpio(entries), 1, mtime=0)


class Guest:
    """The emulated board. `run` speaks over its serial console, `qmp` to QEMU itself."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="encke-guest-"))
        self.port = common.free_port()
        (self.folder / "initramfs").write_bytes(initramfs())
        command = [
            "qemu-system-aarch64", "-M", "raspi3b", "-m", "1G", "-nodefaults", "-display", "none",
            "-no-reboot", "-kernel", next(ROOT.rglob("vmlinuz-*")),
            "-dtb", next(ROOT.rglob("bcm2837-rpi-3-b.dtb")), "-initrd", self.folder / "initramfs",
            "-append", "console=ttyS1,115200 panic=5 quiet",
            "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-:80",
            "-device", "usb-net,netdev=net",
            "-device", "tmp105,bus=i2c-bus.1,address=0x48,id=tmp105",
            "-chardev", f"socket,id=serial,path={self.folder}/serial,server=on,wait=on",
            # The first port of this board is Bluetooth's.
            "-serial", "null", "-serial", "chardev:serial",
            "-qmp", f"unix:{self.folder}/qmp,server=on,wait=off",
        ]
        self.began = time.monotonic()
        # QEMU tells of each packet that comes before the guest's network is up.
        with open(self.folder / "qemu.log", "w") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        self.lines, self.answers = [], queue.Queue()
        self.serial = self.connect("serial")
        threading.Thread(target=self.listen, daemon=True).start()
        self.qmp_socket = self.connect("qmp")
        self.control = self.qmp_socket.makefile("rw")
        self.control.readline()
        self.qmp("qmp_capabilities")

    def connect(self, name):
        def attempt():
            if self.process.poll() is not None:
                log = (self.folder / "qemu.log").read_text()[-2000:]
                raise AssertionError(f"QEMU ended with {self.process.returncode}:\n{log}")
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(str(self.folder / name))
                return sock
            except OSError:
                sock.close()
        return common.wait_until(attempt, what=f"QEMU's {name}")

    def listen(self):
        with self.serial.makefile("r", errors="replace", newline="\n") as lines:
            for line in lines:
                line = line.rstrip("\r\n")
                self.lines.append(line)
                if re.fullmatch(r"<\d+>", line):
                    self.answers.put(int(line[1:-1]))

    def qmp(self, command, **arguments):
        self.control.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.control.flush()
        while "return" not in (answer := json.loads(self.control.readline())):
            assert "error" not in answer, answer
        return answer["return"]

    def run(self, command, seconds=10):
        """The status of a command of the guest's shell, and what the console showed meanwhile."""
        at = len(self.lines)
        self.serial.sendall(command.encode() + b"\n")
        status = self.answers.get(timeout=seconds)
        return status, "\n".join(self.lines[at:])

    def get(self, path, seconds=5):
        """The body of a resource, or None when nobody answers yet."""
        connection = common.http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, (path, answer.status, body)
            return body
        except (OSError, common.http.client.HTTPException):
            assert self.process.poll() is None, "QEMU ended"
            return None
        finally:
            connection.close()

    def told(self):
        return "\n".join(self.lines)

    def end(self):
        self.process.kill()
        self.process.wait()
        for end in self.control, self.qmp_socket, self.serial:
            end.close()
        shutil.rmtree(self.folder)


class Stream:
    """Events of some topics over one SSE connection that stays open."""

    def __init__(self, port, patterns):
        connection = common.http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", f"/events/sse?topics={patterns}")
        # The answer takes it over, and then the connection knows it no longer.
        self.socket = connection.sock
        self.answer = connection.getresponse()
        self.events = queue.Queue()
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        named = False
        try:
            for line in self.answer:
                if line.startswith(b"event:"):
                    named = True
                elif line.startswith(b"data:") and not named:
                    self.events.put(json.loads(line[5:]))
                elif not line.strip():
                    named = False
        except (OSError, common.http.client.HTTPException):
            pass

    def until(self, is_it, seconds=15):
        """The first event from here on that `is_it`."""
        end, last = time.monotonic() + seconds, None
        while True:
            try:
                last = self.events.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no such event in {seconds} s; the last: {last}") from None
            if is_it(last):
                return last

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.reader.join()
        self.answer.close()


class RaspberryPi3(unittest.TestCase):
    """In the order of their names, all on one boot."""

    needs_console = False

    @classmethod
    def setUpClass(cls):
        cls.guest = Guest()
        cls.addClassCleanup(cls.end)
        cls.needs_console = True
        # A connection from before the network is up is slow to be tried again.
        page = common.wait_until(lambda: cls.guest.get("/", 2), BOOT_SECONDS, "the page")
        cls.needs_console = False
        print(f"from the start of QEMU to the page: {time.monotonic() - cls.guest.began:.1f} s")
        assert b"<!doctype html>" in page.lower()[:200], page[:200]

    def run(self, result=None):
        result = super().run(result)
        if not result.wasSuccessful():
            type(self).needs_console = True
        return result

    @classmethod
    def end(cls):
        cls.guest.end()
        if cls.needs_console:
            print("the end of the guest's console:", *cls.guest.lines[-60:], sep="\n  ", flush=True)

    def stream(self, patterns):
        stream = Stream(self.guest.port, patterns)
        self.addCleanup(stream.close)
        return stream

    def set_tmp105(self, degrees):
        self.guest.qmp("qom-set", path="/machine/peripheral/tmp105", property="temperature",
                       value=int(degrees * 1000))

    def topics(self):
        rows = json.loads(self.guest.get("/topics"))["topics"]
        return {row["event"]["topic"]: row for row in rows}

    def test_1_the_board_is_recognised(self):
        common.wait_until(
            lambda: "board: Raspberry Pi 3 Model B, profile pi-3" in self.guest.told(),
            what="the banner")
        topics = common.wait_until(
            lambda: (seen := self.topics()).keys() >= {CPU, TMP105} and seen, what="the sensors")
        self.assertEqual(topics[CPU]["unit"], "\u00b0C")
        self.assertEqual(topics[TMP105]["unit"], "\u00b0C")

    def test_1b_it_is_confined_by_this_kernel(self):
        # Debian's kernels have landlock, and start it unless they are told otherwise.
        line = re.search(r"confined by landlock \d+: reads /etc /proc /sys; .*", self.guest.told())
        self.assertTrue(line, self.guest.told())
        print(line[0], end=" ")
        shell = "grep -q '^NoNewPrivs:.1' /proc/$(cat /run/encke.pid)/status"
        self.assertEqual(self.guest.run(shell)[0], 0)
        # What is allowed is known by its inode: all that need not stay is forgotten now, and what
        # follows shows that sensors and figures are found again.
        before = self.topics()["uptime"]["event"]["value"]
        self.assertEqual(self.guest.run("echo 3 >/proc/sys/vm/drop_caches")[0], 0)
        again = lambda: self.topics()["uptime"]["event"]["value"] > before
        common.wait_until(again, 20, "a figure of /proc")

    def test_2_the_processor_thermometer(self):
        event = self.topics()[CPU]["event"]
        self.assertTrue(20 < event["value"] < 30, event)
        self.assertNotIn("state", event)

    def test_3_a_tmp105_changes(self):
        stream = self.stream(TMP105)
        for degrees in [21.5, -5.25, 99.875]:
            self.set_tmp105(degrees)
            came = stream.until(lambda event: abs(event["value"] - degrees) < 0.1)
            self.assertNotIn("state", came)

    def test_4_gone_and_back(self):
        self.set_tmp105(30)
        stream = self.stream(TMP105)
        stream.until(lambda event: event["value"] == 30)
        driver = "/sys/bus/i2c/drivers/lm75"
        self.assertEqual(self.guest.run(f"echo 1-0048 >{driver}/unbind")[0], 0)
        gone = stream.until(lambda event: event.get("state") == "gone")
        self.assertEqual(gone["value"], 30)
        self.set_tmp105(31)
        self.assertEqual(self.guest.run(f"echo 1-0048 >{driver}/bind")[0], 0)
        self.assertNotIn("state", stream.until(lambda event: event["value"] == 31, 30))

    def test_5_the_clock_steps(self):
        stream = self.stream(TMP105)
        first = stream.until(lambda event: True)
        self.assertIn("uptime", first)
        self.assertNotIn("time", first)
        self.assertLess(first["uptime"], 1000 * (time.monotonic() - self.guest.began))
        now = time.time()
        self.assertEqual(self.guest.run(f"date -s @{now:.0f}")[0], 0)
        self.guest.run("mkdir -p /run/systemd/timesync; touch /run/systemd/timesync/synchronized")
        degrees = [40]

        def has_time():
            degrees[0] += 1
            self.set_tmp105(degrees[0])
            event = stream.until(lambda event: event["value"] == degrees[0])
            return event if "time" in event else None

        known = common.wait_until(has_time, 40, "an event with the time")
        self.assertNotIn("uptime", known)
        self.assertLess(abs(known["time"] / 1000 - time.time()), 10)

    def test_6_it_ends_cleanly(self):
        print(*self.guest.run("grep VmRSS /proc/$(cat /run/encke.pid)/status")[1].split(), end=" ")
        status, told = self.guest.run("read -r pid </run/encke.pid; kill -TERM $pid; wait $pid")
        self.assertEqual(status, 0, told)


if __name__ == "__main__":
    common.main()
