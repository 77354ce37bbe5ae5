"""Autobahn's fuzzing client against the example ws_echo: RFC 6455 case by case, groups 1 to 7 and 10.

The client comes from PyPI and runs under Debian's jython, set up by the scripts in ENCKE_SHARED
(../shared); without them this is skipped. Groups 9 (speed) and 12, 13 (compression, which is not
spoken here) are left out. Each of its cases is counted as a test.
"""

import collections
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import common

SHARED = pathlib.Path(os.environ.get("ENCKE_SHARED", common.ROOT / "../shared")).resolve()
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", common.ROOT / "target")).resolve()
# Two clients at once: mostly they wait. Each with so many of the cases.
HALVES = ("6.*", "1.*,2.*,3.*,4.*,5.*,7.*,10.*")
# Its words for what is as it should be, or may be.
PASSED = ("OK", "NON-STRICT", "INFORMATIONAL")
GROUPS = {
    "1": "framing", "2": "pings and pongs", "3": "reserved bits", "4": "opcodes",
    "5": "fragments", "6": "UTF-8", "7": "closing", "10": "fragments sent by us",
}
CASES_MIN = 247
RUN_SECONDS = 250


def end(passed, failed, skipped=0):
    skips = f", {skipped} skipped" if skipped else ""
    print(f"autobahn: {passed} passed, {failed} failed{skips}", flush=True)
    sys.exit(1 if failed else 0)


def client():
    """The folder that it runs in, made once."""
    folder = TARGET / "autobahn"
    if not (folder / "ready").exists():
        print(f"  setting up the client in {folder}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        tools = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
        common.run([str(SHARED / "autobahn/autobahn-setup.sh"), str(folder)], seconds=200,
                   env={**os.environ, "PATH": tools})
        (folder / "ready").touch()
    return folder


def echo():
    """The example's program, built."""
    common.run(["cargo", "build", "--quiet", "--locked", "--example", "ws_echo"], seconds=250,
               cwd=common.ROOT)
    return TARGET / "debug/examples/ws_echo"


def listens(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def cases(program, folder):
    """What the client says of each case, by its number."""
    port = common.free_port()
    server = subprocess.Popen([program, f"127.0.0.1:{port}"], stdout=subprocess.DEVNULL)
    clients, said = [], {}
    try:
        common.wait_until(lambda: listens(port), what="ws_echo listens")
        with tempfile.TemporaryDirectory(prefix="encke-autobahn-") as out:
            for half in HALVES:
                command = ["jython", "run-autobahn.py", f"ws://127.0.0.1:{port}/any/path",
                           f"{out}/{len(clients)}", half, ""]
                clients.append(subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL))
            end = time.monotonic() + RUN_SECONDS
            for number, client in enumerate(clients):
                client.wait(max(1, end - time.monotonic()))
                index = pathlib.Path(out) / str(number) / "index.json"
                said |= json.loads(index.read_text())["server"]
    finally:
        for process in [server, *clients]:
            process.kill()
            process.wait()
    return said


def table(said):
    """Prints one row a group, and each case that failed; how many those are."""
    rows = collections.defaultdict(collections.Counter)
    failed = []
    for number, case in sorted(said.items()):
        is_bad = case["behavior"] not in PASSED or case["behaviorClose"] not in PASSED
        word = "FAILED" if is_bad else case["behavior"]
        rows[number.split(".")[0]][word] += 1
        if is_bad:
            failed.append(f"{number}: {case['behavior']}, closing {case['behaviorClose']}")
    words = [*PASSED, "FAILED"]
    print(f"  {'group':24}" + "".join(f"{word.lower():>14}" for word in words))
    for group in sorted(rows, key=int):
        name = f"{group:>2} {GROUPS.get(group, '')}"
        print(f"  {name:24}" + "".join(f"{rows[group][word]:14}" for word in words))
    print(*(f"  {line}" for line in failed), sep="\n")
    return len(failed)


def main():
    if not (SHARED / "autobahn/autobahn-setup.sh").exists():
        print("skipped: Autobahn's client is set up by ENCKE_SHARED (../shared), which is not here")
        end(0, 0, 1)
    if not shutil.which("jython"):
        print("skipped: there is no jython here (Debian: jython)")
        end(0, 0, 1)
    said = cases(echo(), client())
    failed = table(said)
    missing = [group for group in GROUPS if not any(n.startswith(f"{group}.") for n in said)]
    if missing or len(said) < CASES_MIN:
        print(f"  only {len(said)} of {CASES_MIN} cases were run; groups missing: {missing}")
        failed += 1
    end(len(said) - failed, failed)


if __name__ == "__main__":
    main()
