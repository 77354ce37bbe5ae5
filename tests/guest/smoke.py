"""The binaries that scripts/cross has built, each on its own kind of processor or an emulated one.

Usage: tests/guest/smoke.py TARGET...   the targets of scripts/cross that were built
"""

import json
import pathlib
import platform
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "interop"))
import common  # noqa: E402

# The processor of a Raspberry Pi Zero knows nothing that came after ARMv6.
RUNNERS = {
    "aarch64": ["qemu-aarch64-static"],
    "armv7": ["qemu-arm-static", "-cpu", "cortex-a8"],
    "armv6": ["qemu-arm-static", "-cpu", "arm1176"],
    "x86_64": [] if platform.machine() == "x86_64" else ["qemu-x86_64-static"],
}


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.status, json.load(answer)


def smoke(target):
    """Starts the binary, asks for what every board has, and ends it."""
    script = str(common.ROOT / "scripts/cross")
    binary = subprocess.check_output([script, "--where", target], text=True).strip()
    with tempfile.TemporaryFile("a+") as log:
        server = subprocess.Popen(
            [*RUNNERS[target], binary, "serve", "--listen", "127.0.0.1:0"], stdout=log, stderr=log)
        try:
            def address():
                assert server.poll() is None, f"it ended with {server.returncode}:\n{told(log)}"
                return re.search(r"http://127\.0\.0\.1:\d+", told(log))
            url = common.wait_until(address, 30, "its address")[0]
            assert get(f"{url}/health")[1]["status"] == "ok"
            topics = get(f"{url}/topics")[1]["topics"]
            names = {row["event"]["topic"] for row in topics}
            assert {"uptime", "memory/available", "load/1m"} <= names, names
            # The emulators have no landlock, which is said once and is no obstacle.
            confined = re.findall(r"(?m)^encke: ((?:not )?confined)\b", told(log))
            assert len(confined) == 1, told(log)
            assert confined == ["not confined"] or not RUNNERS[target], told(log)
            server.send_signal(signal.SIGTERM)
            assert server.wait(10) == 0, f"SIGTERM: {server.returncode}:\n{told(log)}"
        finally:
            server.kill()
            server.wait()
    print(f"{target}: {len(names)} topics, ended cleanly", flush=True)


def told(log):
    log.seek(0)
    return log.read()


def main():
    passed = failed = 0
    for target in sys.argv[1:]:
        try:
            smoke(target)
            passed += 1
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            print(f"{target}: {error}", flush=True)
            failed += 1
    print(f"smoke: {passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
