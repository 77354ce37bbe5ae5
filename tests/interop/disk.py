"""Zero disk writes: strace and the kernel's own count watch Encke serve viewers and take readings.

For 20 seconds, or a minute with ENCKE_LONG=1, every system call that could change a file is noted
down, with what it was done to. The table of them is printed.
"""

import collections
import json
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

SECONDS = 60 if os.environ.get("ENCKE_LONG") else 20

# All calls that write, make, change or remove, and those that open what then could be written.
WRITES = "write|writev|pwrite64|pwritev|pwritev2|sendfile|splice|tee|vmsplice|copy_file_range"
OPENS = "open|openat|openat2|creat|open_by_handle_at"
CHANGES = (
    "rename|renameat|renameat2|mkdir|mkdirat|rmdir|mknod|mknodat|link|linkat|symlink|symlinkat"
    "|unlink|unlinkat|truncate|ftruncate|fallocate|chmod|fchmod|fchmodat|fchmodat2|chown|fchown"
    "|lchown|fchownat|utime|utimes|utimensat|futimesat|setxattr|lsetxattr|fsetxattr|removexattr"
    "|fsync|fdatasync|sync|syncfs|sync_file_range|msync|mount|swapon|io_uring_setup|memfd_create"
)
# Sockets, pipes, event and timer descriptors: nothing of them is on a disk.
NO_FILE = re.compile(r"<(?:socket|pipe|TCP|TCPv6|UNIX|UNIX-[A-Z]+|anon_inode):.*>$|</dev/null>$")
CALL = re.compile(r"^(?:\[pid +\d+\] |\d+ +)?(\w+)\((.*)$")


def kind_of(call, arguments):
    """What a call was done to, and whether that could be a file that changes."""
    if call in OPENS.split("|"):
        writes = re.search(r"\bO_(?:WRONLY|RDWR|CREAT|TRUNC|APPEND|TMPFILE)\b", arguments)
        is_bad = call == "creat" or bool(writes) and '"/dev/null"' not in arguments
        return (arguments if is_bad else "for reading"), is_bad
    if call == "mmap":
        is_bad = all(word in arguments for word in ("MAP_SHARED", "PROT_WRITE", "<"))
        return (arguments if is_bad else "memory, or a file for reading"), is_bad
    if call in WRITES.split("|"):
        target = re.match(r"\d+(<(?:[^<>]|<[^<>]*>)*>)?", arguments)[0]
        is_bad = not NO_FILE.search(target)
        name = re.sub(r"^\d+<|[\[\]>]|:?\[?\d+\]?.*", "", target)
        return (arguments if is_bad else name.replace("anon_inode:", "")), is_bad
    return arguments, True


class DiskTest(unittest.TestCase):
    def test_nothing_is_written(self):
        folder = tempfile.TemporaryDirectory(prefix="encke-disk-")
        self.addCleanup(folder.cleanup)
        trace = pathlib.Path(folder.name) / "trace"
        self.port = common.free_port()
        command = ["strace", "--follow-forks", "--decode-fds=all", "--string-limit=40"]
        command += ["--seccomp-bpf", "--output", trace, "--trace"]
        command += [f"/^({WRITES}|{OPENS}|{CHANGES}|mmap)$", common.BIN]
        command += ["--listen", f"127.0.0.1:{self.port}"]
        # HOME without a configuration; the output goes into a pipe that is read.
        environment = {**os.environ, "HOME": folder.name, "XDG_CONFIG_HOME": folder.name}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        )
        try:
            common.wait_until(self.is_up, 20, "an answer")
            events, written = self.serve()
            os.kill(self.server(), signal.SIGTERM)
            out, _ = self.process.communicate(timeout=15)
        finally:
            self.process.kill()
            self.process.wait()
        self.assertIn(b"stopped", out)
        self.assertGreater(events, 3 * SECONDS, "it was looked at while it worked")
        self.judge(trace.read_text())
        print(f"events seen by the viewer in {SECONDS} s: {events}; write_bytes: {written}")
        self.assertEqual(written, 0, "the kernel counted bytes on their way to a disk")

    def is_up(self):
        if self.process.poll() is not None:
            raise AssertionError(f"it ended at once:\n{self.process.stdout.read().decode()}")
        try:
            return self.get("/health").startswith(b"HTTP/1.1 200") or None
        except OSError:
            return None

    def get(self, path, method="GET", body=b""):
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock:
            sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = b""
            while piece := sock.recv(65536):
                answer += piece
            return answer

    def server(self):
        """The process that is watched: strace's child."""
        path = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(path.read_text().split()[0])

    def serve(self):
        """A viewer, publishers and the page for as long as it takes; events seen, bytes written."""
        end, events, number = time.monotonic() + SECONDS, 0, 0
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as viewer:
            viewer.sendall(b"GET /events/sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
            viewer.settimeout(0.2)
            while time.monotonic() < end:
                number += 1
                body = json.dumps([{"topic": f"t/{n}", "value": number} for n in range(20)])
                for path, method, content in [
                    ("/topics", "POST", body.encode()),
                    (f"/topics/made/{number % 300}", "PUT", b"1"),
                    ("/", "GET", b""),
                    ("/metrics", "GET", b""),
                    ("/events/poll?timeout=0", "GET", b""),
                ]:
                    self.get(path, method, content)
                try:
                    events += viewer.recv(1 << 20).count(b"\ndata:")
                except TimeoutError:
                    pass
        io = pathlib.Path(f"/proc/{self.server()}/io").read_text()
        return events, int(re.search(r"^write_bytes: (\d+)$", io, re.MULTILINE)[1])

    def judge(self, trace):
        table, bad = collections.Counter(), []
        for line in trace.splitlines():
            # A call that was interrupted is complete in its first line as far as it matters here.
            match = CALL.match(line)
            if not match:
                self.assertRegex(line, r"\+\+\+|---|resumed>", "a line that is not understood")
                continue
            kind, is_bad = kind_of(*match.groups())
            table[match[1], kind] += 1
            if is_bad:
                bad.append(line)
        print(f"\n{'call':12} {'done to':32} times")
        for (call, kind), times in sorted(table.items()):
            print(f"{call:12} {kind:32} {times:5}")
        self.assertGreater(sum(table.values()), 100, "strace saw nothing")
        self.assertEqual(bad, [])


if __name__ == "__main__":
    common.main()
