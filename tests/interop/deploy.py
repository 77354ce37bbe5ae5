"""scripts/deploy: over a real ssh, with a real sudo and systemd, onto a machine of its own (machine/).

That machine has openssh-server and sudo installed, from this computer or from tests/.venv/debs, and
a user pi as on a Raspberry Pi. Nothing outside of it changes. It needs root; without, only what the
script says to mistakes is tested.
"""

import os
import pathlib
import platform
import re
import shutil
import subprocess
import tempfile
import unittest

import common
import machine

DEPLOY = common.ROOT / "scripts/deploy"
DEBS = common.ROOT / "tests/.venv/debs"
README = (common.ROOT / "README.md").read_text()
BOARD = "pi@127.0.0.1"


def deploy(*flags, enter=(), **environment):
    """Exit code and all that it says; without a terminal."""
    done = subprocess.run(
        [*enter, DEPLOY, *flags],
        env={**os.environ, **environment},
        timeout=60,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


class MistakeTest(unittest.TestCase):
    def test_what_cannot_be_is_said(self):
        for flags, ssh, told in [
            ([], "ssh", "say where: scripts/deploy USER@HOST"),
            (["--bord", "x", "h"], "ssh", "there is no flag --bord"),
            (["h", "--board"], "ssh", "--board needs a name"),
            (["--board", "a b", "h"], "ssh", '"a b" is no board'),
            (["h"], "false", "ssh does not get there; try it by hand: false h"),
        ]:
            with self.subTest(flags):
                code, said = deploy(*flags, ENCKE_SSH=ssh)
                self.assertEqual(code, 1)
                self.assertIn(f"scripts/deploy: {told}", said)

    def test_which_binary_a_board_takes(self):
        """By what ssh brings: machine, bits, user id, systemd, sudo, package, address."""
        with tempfile.TemporaryDirectory(prefix="encke-deploy-") as folder:
            ssh = pathlib.Path(folder) / "ssh"
            for facts, code, told in [
                ("armv6l 32 1000 yes yes no", 0, "it takes the binary for armv6"),
                ("armv7l 32 1000 yes yes no", 0, "it takes the binary for armv7"),
                # Raspberry Pi OS of 32 bits with a kernel of 64, and what else that is called.
                ("aarch64 32 1000 yes yes no", 0, "it takes the binary for armv7"),
                ("armv8l 32 1000 yes yes no", 0, "it takes the binary for armv7"),
                ("aarch64 64 1000 yes yes no", 0, "it takes the binary for aarch64"),
                ("x86_64 64 0 yes no no", 0, "it takes the binary for x86_64"),
                ("x86_64 32 1000 yes yes no", 1, "is a x86_64 of 32 bits; there is no Encke"),
                ("mips 32 1000 yes yes no", 1, "is a mips of 32 bits; there is no Encke"),
                ("aarch64 64 1000 no yes no", 1, "h does not run systemd. By hand:"),
                ("aarch64 64 1000 yes no no", 1, "there is no sudo on h; log in as root"),
                ("aarch64 64 1000 yes yes yes", 1, "the package encke is installed on h."),
            ]:
                with self.subTest(facts):
                    ssh.write_text(f"#!/bin/sh\necho {facts} 192.168.1.7\n")
                    ssh.chmod(0o755)
                    got, said = deploy("--dry-run", "h", ENCKE_SSH=str(ssh))
                    self.assertEqual(got, code, said)
                    self.assertIn(told, said)


@machine.needed
class BoardTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.machine = machine.Machine()
        cls.addClassCleanup(cls.machine.end)
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="encke-deploy-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        run, root = cls.machine.run, cls.machine.root
        # What this computer may have of its own stays out of it.
        run("bash", "-c", "dpkg --purge encke; rm -rf /etc/encke; mkdir -p /etc/avahi/services")
        for deb in sorted(DEBS.glob("*.deb")):
            cls.machine.put(deb, f"/tmp/debs/{deb.name}")
        unpack = "dpkg-deb --fsys-tarfile $deb | tar -x --keep-directory-symlink -C /"
        run("bash", "-c", f"cd /tmp/debs 2>/dev/null || exit 0; for deb in *.deb; do {unpack}; done")
        for program in ("usr/sbin/sshd", "usr/bin/sudo"):
            assert (root / program).exists(), f"no {program} here, and none in tests/.venv/debs"

        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/tmp/host_key")
        run("useradd", "--system", "--home-dir", "/run/sshd", "sshd", check=False)
        run("useradd", "--create-home", "--shell", "/bin/sh", "--password", "*", "pi")
        cls.may_sudo(True)
        key = cls.folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        for home in ("home/pi", "root"):
            (root / home / ".ssh").mkdir(exist_ok=True)
            cls.machine.put(f"{key}.pub", f"/{home}/.ssh/authorized_keys", 0o600)
        run("chown", "-R", "pi:pi", "/home/pi/.ssh")
        config = "Port 2222\nHostKey /tmp/host_key\nUsePAM no\nPermitRootLogin yes\n"
        cls.machine.write("/tmp/sshd_config", config)
        run("bash", "-c", "mkdir -p /run/sshd; rm -f /run/nologin")
        run("systemd-run", "--quiet", "/usr/sbin/sshd", "-D", "-e", "-f", "/tmp/sshd_config")
        lines = ["Port 2222", f"IdentityFile {key}", f"UserKnownHostsFile {cls.folder}/known_hosts"]
        lines += ["StrictHostKeyChecking no", "LogLevel ERROR", "BatchMode yes"]
        (cls.folder / "ssh_config").write_text("\n".join(lines) + "\n")
        cls.ssh = f"ssh -F {cls.folder}/ssh_config"
        login = cls.machine.beside + cls.ssh.split() + [BOARD, "true"]
        common.wait_until(lambda: subprocess.run(login).returncode == 0, what="sshd")
        cls.stage()

    @classmethod
    def may_sudo(cls, may):
        word = "NOPASSWD" if may else "PASSWD"
        cls.machine.write("/etc/sudoers.d/pi", f"pi ALL=(ALL) {word}: ALL\n", 0o440)

    @classmethod
    def stage(cls):
        """A target folder with the tested binary in it, so that nothing is built."""
        cls.target = cls.folder / "target"
        binary = cls.target / f"{platform.machine()}-unknown-linux-musl/release/encke"
        binary.parent.mkdir(parents=True)
        shutil.copy(common.BIN, binary)

    def deploy(self, *flags):
        where = {"ENCKE_SSH": self.ssh, "CARGO_TARGET_DIR": str(self.target)}
        return deploy(*flags, enter=self.machine.beside, **where)

    def exists(self, path):
        return (self.machine.root / path.lstrip("/")).exists()

    def health(self, port=8080):
        return self.machine.fetch(f"http://127.0.0.1:{port}/health")

    def tearDown(self):
        self.machine.run("sh", self.board(), "uninstall", check=False)
        self.machine.run("rm", "-rf", "/etc/encke")

    def board(self):
        self.machine.put(common.ROOT / "scripts/packaging/board", "/tmp/board")
        return "/tmp/board"

    def test_from_nothing_to_the_page_and_back(self):
        before = set(self.machine.changed())
        # Both commands as README has them, for another host.
        told = re.findall(r"scripts/deploy((?: --[a-z]+)*) pi@raspberrypi.local", README)
        self.assertEqual(told, ["", " --uninstall"])
        code, said = self.deploy(*told[0].split(), BOARD)
        self.assertEqual(code, 0, said)
        self.assertIn("Encke runs. Its page: http://127.0.0.1:8080/\n", said)
        # The very binary that was copied runs, as nobody in particular, and has a page.
        pid = self.machine.show("encke.service", "MainPID")
        program = (self.machine.root / f"proc/{pid}/exe").read_bytes()
        self.assertEqual(program, pathlib.Path(common.BIN).read_bytes())
        self.assertNotIn("\nUid:\t0", (self.machine.root / f"proc/{pid}/status").read_text())
        self.assertIn("<!doctype html>", self.machine.fetch("http://127.0.0.1:8080/").lower())
        self.assertEqual(self.machine.run("systemctl", "is-enabled", "encke").stdout, "enabled\n")
        groups = "/etc/systemd/system/encke.service.d/groups.conf"
        self.assertIn("dialout video", (self.machine.root / groups.lstrip("/")).read_text())
        for path in (
            "/etc/udev/rules.d/60-encke.rules",
            "/etc/sysusers.d/encke.conf",
            "/etc/avahi/services/encke.service",
            "/etc/encke/encke.toml",
        ):
            self.assertTrue(self.exists(path), path)
        self.assertEqual(list((self.machine.root / "tmp").glob("tmp.*")), [], "swept after")

        code, said = self.deploy(*told[1].split(), BOARD)
        self.assertEqual(code, 0, said)
        self.assertEqual(self.health(), "")
        left = [path for path in self.machine.changed() if path not in before and "encke" in path]
        self.assertEqual(left, ["/etc/encke/encke.toml"])

    def test_again_with_a_board_and_another_port(self):
        self.deploy(BOARD)
        edited = '[server]\nlisten = ["[::]:8090"]\n'
        self.machine.write("/etc/encke/encke.toml", edited)
        code, said = self.deploy("--board", "generic", BOARD)
        self.assertEqual(code, 0, said)
        self.assertIn("Its page: http://127.0.0.1:8090/\n", said)
        pid = self.machine.show("encke.service", "MainPID")
        command = (self.machine.root / f"proc/{pid}/cmdline").read_text().split("\0")
        self.assertEqual(command, ["/usr/local/bin/encke", "serve", "--board", "generic", ""])
        self.assertEqual((self.machine.root / "etc/encke/encke.toml").read_text(), edited)

    def test_as_root_no_sudo_is_needed(self):
        sudo = self.machine.root / "usr/bin/sudo"
        sudo.rename(sudo.with_name("sudo.away"))
        self.addCleanup(sudo.with_name("sudo.away").rename, sudo)
        code, said = self.deploy(BOARD)
        self.assertEqual((code, said.splitlines()[-1]), (1, self.no_sudo), said)
        code, said = self.deploy("root@127.0.0.1")
        self.assertEqual(code, 0, said)
        self.assertIn('"status":"ok"', self.health())

    no_sudo = f"scripts/deploy: there is no sudo on {BOARD}; log in as root"

    def test_what_goes_wrong_there_is_seen_here(self):
        self.machine.write("/etc/encke/encke.toml", "[server]\nheartbeet = 7\n")
        code, said = self.deploy(BOARD)
        self.assertEqual(code, 1)
        self.assertIn("/etc/encke/encke.toml:2:1: ", said)
        self.assertIn(f"scripts/deploy: it went wrong on {BOARD}, see above.", said)

    def test_a_sudo_that_asks_wants_a_terminal(self):
        self.may_sudo(False)
        self.addCleanup(self.may_sudo, True)
        code, said = self.deploy(BOARD)
        self.assertEqual(code, 1)
        self.assertIn("start scripts/deploy from a terminal", said)


if __name__ == "__main__":
    common.main()
