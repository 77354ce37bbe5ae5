"""A machine of their own for tests that install things: this computer, seen through an overlay.

It has its own files (changes go to memory and are thrown away), processes, network (a loopback
only) and, as its first process, the systemd of this computer. So packages are installed by the real
dpkg and services are run by the real systemd, and nothing outside changes. It needs root; where it
cannot be had, `why_not` says why, and tests are skipped with that; in CI they fail.
"""

import functools
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import common

HERE = pathlib.Path(__file__).resolve().parent
SYSTEMD = pathlib.Path("/lib/systemd/systemd")


@functools.cache
def why_not():
    """Why there can be no such machine here; empty if there can."""
    if os.geteuid() != 0:
        return "only root can start a machine of its own"
    missing = [name for name in ("unshare", "nsenter", "setpriv") if not shutil.which(name)]
    if missing:
        return f"there is no {' '.join(missing)} here"
    kinds = pathlib.Path("/proc/filesystems").read_text().split()
    missing = [kind for kind in ("overlay", "cgroup2") if kind not in kinds]
    if missing:
        return f"this kernel has no {' '.join(missing)}"
    done = subprocess.run(["unshare", "--mount", "--pid", "--net", "--cgroup", "--fork", "true"])
    return "" if done.returncode == 0 else "namespaces are not allowed here"


def needed(test):
    """Skips what needs such a machine where there can be none."""
    return unittest.skipIf(why_not() and not os.environ.get("CI"), why_not())(test)


class Machine:
    """A running machine. Without `systemd` its first process only waits, and it shares this
    computer's network. A context."""

    def __init__(self, systemd=True):
        assert not why_not(), why_not()
        self.room = tempfile.mkdtemp(prefix="encke-machine-")
        self.log = open(pathlib.Path(self.room + ".log"), "w+")
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation"]
        command += ["private", "bash", HERE / "start", self.room]
        command += [] if systemd else ["bare"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        self.first = 0
        try:
            self.first = common.wait_until(self.find_first, what="the machine's first process")
            self.root = pathlib.Path(f"/proc/{self.first}/root")
            if systemd:
                common.wait_until(self.is_up, what="the machine's systemd")
        except BaseException:
            self.end()
            raise

    def find_first(self):
        """The process that is number 1 inside, once it is what it is to be."""
        if self.process.poll() is not None:
            self.log.seek(0)
            raise AssertionError(f"the machine did not start:\n{self.log.read()}")
        for status in pathlib.Path("/proc").glob("[0-9]*/status"):
            try:
                text = status.read_text()
                command = (status.parent / "cmdline").read_bytes()
                cgroup = (status.parent / "cgroup").read_text()
            except OSError:
                continue
            inside = next(line for line in text.splitlines() if line.startswith("NSpid:")).split()
            is_ours = f"encke-machine-{self.process.pid}" in cgroup
            is_begun = command.startswith((bytes(SYSTEMD), b"sleep\0"))
            if is_ours and len(inside) > 2 and inside[-1] == "1" and is_begun:
                return int(status.parent.name)
        return 0

    def is_up(self):
        return self.run("systemctl", "is-active", "machine.target", check=False).returncode == 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        if self.first:
            os.kill(self.first, 9)
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            self.log.close()
            os.unlink(self.room + ".log")
            os.rmdir(self.room)

    def run(self, *command, check=True, seconds=60, **more):
        """Runs a command inside; its output is text."""
        enter = ["nsenter", "--target", str(self.first), "--mount", "--uts", "--ipc", "--net"]
        enter += ["--pid", "--cgroup", "--root", "--wd"]
        command = [str(word) for word in command]
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}

        done = subprocess.run(enter + command, text=True, timeout=seconds, **{**both, **more})
        if check and done.returncode != 0:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}")
        return done

    @property
    def beside(self):
        """The beginning of a command that is to run outside, but in the machine's network."""
        return ["nsenter", "--target", str(self.first), "--net"]

    def put(self, source, path, mode=0o644):
        """Copies a file of this computer to `path` inside."""
        self.write(path, pathlib.Path(source).read_bytes(), mode)

    def write(self, path, content, mode=0o644):
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        file.chmod(mode)

    def changed(self):
        """Every file that is not as it is on this computer, as paths inside, sorted."""
        upper = pathlib.Path(f"/proc/{self.process.pid}/root{self.room}/upper")
        gone = lambda path: path.is_char_device() and path.stat().st_rdev == 0
        files = (path for path in upper.rglob("*") if not path.is_dir() or path.is_symlink())
        return sorted(f"/{path.relative_to(upper)}" for path in files if not gone(path))

    def fetch(self, url, *flags):
        """What curl gets inside; empty when it gets nothing."""
        command = ["curl", "-sS", "--fail", "--max-time", "5", *flags, url]
        return self.run(*command, check=False, stderr=subprocess.DEVNULL).stdout

    def show(self, unit, name):
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).stdout.strip()
