"""Runs every command of README.md as it stands there, against a server started by its first one.

Only 127.0.0.1:8080 may become another port, when 8080 is taken, and `~` is a folder of the test's.
"""

import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import common

README = (common.ROOT / "README.md").read_text()
# The two set-up commands. The first is started here; the second is what runs this test.
START, TEST = "scripts/run", "scripts/test"
STREAM_SECONDS = 3


def commands():
    blocks = re.findall(r"(?ms)^```sh\n(.*?)^```$", README)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    return lines + re.findall(r"\| `(curl [^`]+)` \|$", README, re.M)  # the last cells of tables


def port_8080_or_free():
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", 8080))
            return 8080
        except OSError:
            return common.free_port()


class Readme(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="encke-readme-")
        cls.port = port_8080_or_free()
        home = pathlib.Path(cls.folder.name)
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", common.ROOT / "target"))
        cls.environment = {
            **os.environ,
            "PATH": f"{home}/.local/bin:{os.environ['PATH']}",
            "XDG_CONFIG_HOME": f"{home}/.config",
            "CARGO_HOME": os.environ.get("CARGO_HOME", str(pathlib.Path.home() / ".cargo")),
            "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", str(pathlib.Path.home() / ".rustup")),
            "CARGO_TARGET_DIR": str(target),
            "HOME": str(home),
        }
        (home / ".config/encke").mkdir(parents=True)
        cls.log = open(home / "log", "w+")
        cls.server = subprocess.Popen(
            [START, "--listen", f"127.0.0.1:{cls.port}"], cwd=common.ROOT, env=cls.environment,
            stdout=cls.log, stderr=subprocess.STDOUT)
        common.wait_until(cls.answers, 280, "the server that scripts/run starts")
        time.sleep(2)  # until every figure has a value

    token = "SECRET"

    @classmethod
    def answers(cls):
        if cls.server.poll() is not None:
            cls.log.seek(0)
            raise AssertionError(f"{START} ended with {cls.server.returncode}:\n{cls.log.read()}")
        try:
            socket.create_connection(("127.0.0.1", cls.port), 1).close()
            return True
        except OSError:
            return False

    @classmethod
    def tearDownClass(cls):
        cls.server.send_signal(signal.SIGTERM)
        assert cls.server.wait(6) == 0
        cls.log.seek(0)
        assert f"http://127.0.0.1:{cls.port}/" in cls.log.read()
        cls.log.close()
        cls.folder.cleanup()

    def use_token(self, printed):
        """Does what README.md says is to be done with what `encke token` printed."""
        rows, rest = printed.split("\n\n", 1)
        type(self).token = re.search(r"phone\.(\w+)", rest)[1]
        config = pathlib.Path(self.environment["XDG_CONFIG_HOME"]) / "encke/encke.toml"
        config.write_text(rows + "\n")
        self.server.send_signal(signal.SIGHUP)
        is_read = lambda: "1 token;" in (pathlib.Path(self.folder.name) / "log").read_text()
        common.wait_until(is_read, what="the token in the log")

    def run_line(self, line):
        """Exit code, output and errors. A stream is ended after some seconds."""
        line = line.replace("phone.SECRET", f"phone.{self.token}")
        line = line.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}")
        target = self.environment["CARGO_TARGET_DIR"]
        line = line.replace("target/release/encke", f"{target}/release/encke")
        shell = subprocess.Popen(
            ["bash", "-c", f"exec {line}"], cwd=common.ROOT, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors="replace")  # the frames of a WebSocket are not text
        endless = "curl -N" in line or line.startswith("encke watch")
        try:
            out, err = shell.communicate(timeout=STREAM_SECONDS if endless else 10)
            self.assertFalse(endless, f"{line}: ended by itself: {out}{err}")
        except subprocess.TimeoutExpired:
            shell.terminate()
            out, err = shell.communicate(timeout=5)
            self.assertTrue(endless, f"{line}: did not end: {out}{err}")
        return 0 if endless else shell.returncode, out, err

    def test_every_command(self):
        lines = commands()
        self.assertEqual(lines[:2], [START, TEST])
        self.assertGreater(len(lines), 30)
        # On a board the program is there already; here it is put where the shell finds it.
        for line in sorted(lines[2:], key=lambda line: not line.startswith("install ")):
            with self.subTest(line):
                code, out, err = self.run_line(line)
                print(f"$ {line}\n{out[:200]}", flush=True)
                self.assertEqual(code, 0, err)
                if line.startswith("encke token"):
                    self.use_token(out)
                if line.endswith("%{http_code}'"):
                    self.assertEqual(out, "303")
                self.assertNotRegex(out, r"^(there is no|this |the body|only this board)")
                if line.startswith("curl -N"):
                    self.assertIn("hello", out)
                if line.startswith("curl"):
                    self.assertTrue(out)
                if line.startswith("encke watch"):
                    self.assertIn('"topic":', out)

    def test_every_command_is_in_a_block_that_is_run(self):
        marks = re.findall(r"(?m)^```(.*)$", README)
        self.assertEqual(set(marks), {"sh", ""}, "only sh blocks, so that nothing escapes")
        outside = re.sub(r"(?ms)^```sh\n.*?^```$", "", README)
        self.assertNotRegex(outside, r"(?m)^\s*(curl|encke|\$) ")

    def test_limits_are_those_of_the_code(self):
        source = "".join(
            (common.ROOT / path).read_text()
            for path in ["src/limits.rs", "boards/generic.toml", "src/peers/sweep.rs",
                         "src/peers/pictures.rs", "src/server.rs",
                         "src/sockets.rs", "src/config.rs", "src/access/token.rs"])
        for pattern, words in [
            (r"viewers = 10000", "| 10000, or fewer"),
            (r"pages = 256", "(`pages`) | 256 |"),
            (r"ring_bytes = 262144", "| 262144 bytes |"),
            (r"topics = 256", "topics (`topics`) | 256 |"),
            (r"pictures = 2", "(`pictures`) | 2 |"),
            (r"picture_bytes = 131072", "(`picture_bytes`) | 131072 bytes |"),
            (r"PICTURE_MS: u64 = 60_000;", "a picture that is being sent | 60 s |"),
            (r"EVENT_BYTES_MAX: usize = 8192;", "| 8192 bytes |"),
            (r"BODY_BYTES_MAX: usize = 64 \* 1024;", "body | 65536 bytes |"),
            (r"HEAD_BYTES_MAX: usize = 16 \* 1024;", "| 16384 bytes; 64 fields |"),
            (r"FIELDS_MAX: usize = 64;", "| 16384 bytes; 64 fields |"),
            (r"REQUEST_LINE_BYTES_MAX: usize = 8192 \+ 64;", "| 8256 bytes |"),
            (r"PATTERNS_BYTES_MAX: usize = 1024;", "| 1024 bytes |"),
            (r"PUBLISH_EVENTS_MAX: usize = 256;", "`POST /topics` | 256 |"),
            (r"JSON_DEPTH_MAX: usize = 64;", "nesting of JSON | 64 |"),
            (r"TOKENS_MAX: usize = 64;", "tokens (`[[token]]`); patterns each may read, and write | 64; 64 |"),
            (r"const PATTERNS_MAX: usize = 64;", "patterns each may read, and write | 64; 64 |"),
            (r"ORIGINS_MAX: usize = 64;", "`origins` and `cors` together | 64 |"),
            (r"per_address = 64", "network of 64 bits is one | 64 |"),
            (r"FREE_GUESSES: u32 = 5;", "| 5 within 10 minutes | 429"),
            (r"FORGET_MS: u64 = 600_000;", "| 5 within 10 minutes | 429"),
            (r"WAIT_DOUBLINGS: u32 = 8;", "up to 256 s |"),
            (r"TOPIC_BYTES_MAX: usize = 96;", "| 96 bytes; 8 segments of 32"),
            (r"IDLE_MS: u64 = 20_000;", "idle connections | 20 s |"),
            (r"HEAD_MS: u64 = 10_000;", "| 10 s; 60 s |"),
            (r"BODY_MS: u64 = 60_000;", "| 10 s; 60 s |"),
            (r"STALL_MS: u64 = 20_000;", "| 20 s without progress |"),
            (r"DRAIN_MS: u64 = 3_000;", "| 3 s to tell every viewer |"),
            (r"SEND_BUFFER_BYTES: usize = 64 \* 1024;", "| 64 KiB asked for"),
            (r"USER_TIMEOUT_MS: u32 = 12_000;", "| 12 s with something unsent"),
            (r"KEEP_ALIVE_IDLE_S: u64 = 10;", "else within 25 s |"),
        ]:
            with self.subTest(words):
                self.assertRegex(source, pattern)
                self.assertIn(words, README)

    def test_files_it_names_are_there(self):
        for path in re.findall(r"\]\(([^)]+)\)", README) + re.findall(
                r"`((?:src|tests|boards|scripts)/[a-z./-]*)`", README):
            self.assertTrue((common.ROOT / path).exists(), path)


if __name__ == "__main__":
    common.main()
