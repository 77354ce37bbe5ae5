"""Says in one paragraph what was measured on: no name of a computer, no path, no address."""

import os
import pathlib
import re
import subprocess
import time

# What tells its version, and what to look for in the answer.
VERSIONS = [
    ("nginx", ["/usr/sbin/nginx", "-v"], r"nginx/([\d.]+)"),
    ("nchan", ["dpkg-query", "-Wf", "${Version}", "libnginx-mod-nchan"], r"(?:\d+:)?([\d.]+)"),
    ("mosquitto", ["/usr/sbin/mosquitto", "-h"], r"version ([\d.]+)"),
    ("Node", ["node", "--version"], r"v([\d.]+)"),
    ("Python", ["python3", "--version"], r"([\d.]+)"),
    ("aiohttp", ["{home}/venv/bin/python", "-c", "import aiohttp; print(aiohttp.__version__)"],
     r"([\d.]+)"),
    ("Rust", ["rustc", "--version"], r"rustc ([\d.]+)"),
]


def read(path):
    try:
        return pathlib.Path(path).read_text().replace("\0", "")
    except OSError:
        return ""


def processor():
    board = read("/proc/device-tree/model").strip()
    found = re.search(r"(?m)^model name\s*: (.*)$", read("/proc/cpuinfo"))
    model = found[1].strip() if found else os.uname().machine
    return f"{board}, {model}" if board else model


def version(command, pattern):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found and done.returncode in (0, 3) else None


def describe(home, fifo, target):
    """One paragraph. `target`: for what our binary was built; `fifo`: whether it ran first."""
    kib = int(re.search(r"MemTotal:\s*(\d+)", read("/proc/meminfo"))[1])
    cores = len(os.sched_getaffinity(0))
    virtual = "hypervisor" in read("/proc/cpuinfo")
    found = [(name, version([word.replace("{home}", str(home)) for word in command], pattern))
             for name, command, pattern in VERSIONS]
    programs = ", ".join(f"{name} {number}" for name, number in found if number)
    place = "the server on one core, the generator on another" if cores > 1 else "all on one core"
    first = "both before everything else (SCHED_FIFO)" if fifo else "with ordinary scheduling"
    return (f"Measured on: {processor()}{', virtual' if virtual else ''}, {cores} cores, "
            f"{kib / 1048576:.1f} GiB; Linux {os.uname().release.split('-')[0]}; {place}, "
            f"{first}, over 127.0.0.1. Encke was built for {target}. {programs}.")


def busy():
    """The share of this computer's time that other programs take, looked at for a second."""
    def ticks():
        return [int(word) for word in read("/proc/stat").splitlines()[0].split()[1:9]]
    first = ticks()
    time.sleep(1)
    passed = [now - then for now, then in zip(ticks(), first)]
    idle = passed[3] + passed[4]
    return 1 - idle / max(1, sum(passed))
