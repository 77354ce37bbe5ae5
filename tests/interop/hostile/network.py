"""Two networks of their own, joined by a cable: a server in one, clients in the other.

Network namespaces and a veth pair (ip-netns(8), veth(4)). They need root; where they cannot be
made, `why_not` says why, and tests are skipped with that. All of it is taken away at the end.
"""

import atexit
import contextlib
import ctypes
import functools
import os
import shutil
import subprocess
import threading
import unittest

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def ip(*words, check=True):
    """Runs ip(8)."""
    done = subprocess.run(["ip", *map(str, words)], capture_output=True, text=True, timeout=20)
    if check and done.returncode:
        raise OSError(f"ip {' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


@functools.cache
def why_not():
    """Why there can be no namespaces here; empty if there can."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    if not shutil.which("ip"):
        return "there is no ip here (Debian: iproute2)"
    try:
        with Cable():
            return ""
    except OSError as error:
        return f"network namespaces cannot be made here: {error}"


def needed(test):
    """Skips what needs namespaces where there can be none."""
    return unittest.skipIf(why_not(), why_not())(test)


def set_namespace(fd):
    if LIBC.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def inside(name):
    """Sockets that this thread opens meanwhile belong to a namespace, for good; None is here."""
    if name is None:
        yield
        return
    here = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
    try:
        there = os.open(f"/run/netns/{name}", os.O_RDONLY)
        try:
            set_namespace(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            set_namespace(here)
    finally:
        os.close(here)


class Cable:
    """Namespaces `server` and `client`, each with one end of a cable and a loopback. A context."""

    ENDS = {"server": ["10.77.0.1/24", "fd77::1/64"], "client": ["10.77.0.2/24", "fd77::2/64"]}

    def __init__(self):
        self.server = f"encke-s{os.getpid()}"
        self.client = f"encke-c{os.getpid()}"

    def __enter__(self):
        atexit.register(self.__exit__)
        try:
            for name in (self.server, self.client):
                ip("netns", "add", name)
            ip("-n", self.server, "link", "add", "cable", "type", "veth", "peer", "name", "cable",
               "netns", self.client)
            for end, addresses in self.ENDS.items():
                name = getattr(self, end)
                ip("-n", name, "link", "set", "lo", "up")
                for address in addresses:
                    self.add_address(name, address)
                ip("-n", name, "link", "set", "cable", "up")
        except OSError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        atexit.unregister(self.__exit__)
        for name in (self.server, self.client):
            ip("netns", "del", name, check=False)

    @staticmethod
    def add_address(name, address, device="cable"):
        """Gives a namespace one more address; IPv6 without waiting whether it is a duplicate."""
        now = ["nodad"] if ":" in address else []
        ip("-n", name, "addr", "add", address, "dev", device, *now)

    def cut(self):
        """Pulls the cable out at the client's side: nobody is told."""
        ip("-n", self.client, "link", "set", "cable", "down")
