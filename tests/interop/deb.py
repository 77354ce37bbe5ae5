"""The Debian package: built by scripts/deb, then installed, upgraded, removed and purged by dpkg.

That happens on a machine of its own (machine/), with systemd running, with systemd's tools only, and
without either. It needs root; without, only the package itself is looked at.
"""

import pathlib
import shutil
import subprocess
import tempfile
import unittest

import common
import machine

CONFIG = "/etc/encke/encke.toml"
UNIT = "encke.service"
GROUPS = "/etc/systemd/system/encke.service.d/groups.conf"


def run(*command):
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def setUpModule():
    """Builds the package, twice, and one that is newer and has another example in it."""
    global FOLDER, ARCHITECTURE, OLD, AGAIN, NEW
    FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="encke-deb-"))
    unittest.addModuleCleanup(shutil.rmtree, FOLDER)
    ARCHITECTURE = run("dpkg", "--print-architecture").strip()
    OLD, AGAIN, NEW = (FOLDER / name for name in ("old.deb", "again.deb", "new.deb"))
    for package in (OLD, AGAIN):
        # The last line says where it is.
        built = run(common.ROOT / "scripts/deb", ARCHITECTURE).splitlines()[-1]
        shutil.copy(common.ROOT / built, package)
    content = FOLDER / "content"
    run("dpkg-deb", "--raw-extract", OLD, content)
    control = content / "DEBIAN/control"
    lines = control.read_text().splitlines(keepends=True)
    control.write_text("".join("Version: 99.0-1\n" if "Version: " in l else l for l in lines))
    example = content / CONFIG.lstrip("/")
    example.write_text(example.read_text() + "# A newer example.\n")
    run("dpkg-deb", "--root-owner-group", "--build", content, NEW)


class PackageTest(unittest.TestCase):
    def test_the_same_files_make_the_same_package(self):
        self.assertEqual(OLD.read_bytes(), AGAIN.read_bytes())
        print("bytes of the package:", OLD.stat().st_size)

    def test_what_is_in_it(self):
        fields = run("dpkg-deb", "--field", OLD)
        self.assertIn(f"Architecture: {ARCHITECTURE}\n", fields)
        self.assertRegex(fields, r"(?m)^Depends: ?$", "it is static")
        listed = run("dpkg-deb", "--contents", OLD).splitlines()
        found = {line.split()[-1].lstrip("."): line for line in listed if not line.endswith("/")}
        self.assertEqual(
            sorted(found),
            [
                "/etc/avahi/services/encke.service",
                CONFIG,
                "/usr/bin/encke",
                "/usr/lib/systemd/system/encke.service",
                "/usr/lib/systemd/system/encke.socket",
                "/usr/lib/sysusers.d/encke.conf",
                "/usr/lib/udev/rules.d/60-encke.rules",
                "/usr/share/doc/encke/README.md",
                "/usr/share/doc/encke/copyright",
            ],
        )
        self.assertTrue(found["/usr/bin/encke"].startswith("-rwxr-xr-x"), found["/usr/bin/encke"])
        self.assertTrue(found[CONFIG].startswith("-rw-r--r--"), found[CONFIG])

    def test_the_example_changes_nothing(self):
        example = FOLDER / "content" / CONFIG.lstrip("/")
        lines = [line for line in example.read_text().splitlines() if line]
        self.assertEqual([line for line in lines if line[0] not in "#["], [])


class InstalledTest(unittest.TestCase):
    """What all machines have in common."""

    def begin(self, **how):
        self.machine = machine.Machine(**how)
        self.addCleanup(self.machine.end)
        # One that this computer has already must not be upgraded here.
        if self.machine.run("dpkg", "--status", "encke", check=False).returncode == 0:
            self.machine.run("dpkg", "--purge", "encke")
        # Some computers forbid packages to start services.
        (self.machine.root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)
        self.before = self.machine.changed()

    def dpkg(self, *command):
        # Debian's answer where nobody can be asked: what somebody wrote stays.
        return self.machine.run("dpkg", "--force-confdef", *command).stdout

    def install(self, package):
        self.machine.put(package, "/tmp/encke.deb")
        return self.dpkg("--install", "/tmp/encke.deb")

    def expect_nothing_left(self):
        changed = [path for path in self.machine.changed() if path not in self.before]
        self.assertEqual([path for path in changed if "encke" in path.lower()], [])
        etc = {path for path in changed if path.startswith("/etc/")}
        # The groups of devices stay, see scripts/packaging/encke.sysusers.
        groups = {"/etc/group", "/etc/group-", "/etc/gshadow", "/etc/gshadow-", "/etc/.pwd.lock"}
        self.assertEqual(etc - groups, set())
        self.assertEqual([path for path in changed if path.startswith(("/usr/", "/opt/"))], [])
        print("left after the purge:", *changed)


@machine.needed
class SystemdTest(InstalledTest):
    def setUp(self):
        self.begin()

    def show(self, name):
        return self.machine.show(UNIT, name)

    def health(self, port=8080):
        return self.machine.fetch(f"http://127.0.0.1:{port}/health")

    def test_a_life_from_install_to_purge(self):
        self.install(OLD)
        self.assertEqual(self.machine.run("systemctl", "is-enabled", UNIT).stdout, "enabled\n")
        self.assertEqual(self.show("ActiveState"), "active")
        self.assertIn('"status":"ok"', self.health())
        self.assertIn("<!doctype html>", self.machine.fetch("http://127.0.0.1:8080/").lower())
        groups = (self.machine.root / GROUPS.lstrip("/")).read_text()
        for group in ("gpio", "i2c", "spi", "dialout", "video"):
            self.assertIn(f" {group}", groups.replace("=", " "))
        process = self.machine.root / f"proc/{self.show('MainPID')}/status"
        self.assertNotIn("\nUid:\t0", process.read_text())

        # Somebody writes a configuration; a newer package comes with another example.
        edited = '[server]\nlisten = ["127.0.0.1:8090"]\n'
        self.machine.write(CONFIG, edited)
        first = self.show("MainPID")
        self.install(NEW)
        self.assertEqual((self.machine.root / CONFIG.lstrip("/")).read_text(), edited)
        version = self.machine.run("dpkg-query", "-W", "-f", "${Version}", "encke").stdout
        self.assertEqual(version, "99.0-1")
        self.assertNotIn(self.show("MainPID"), (first, "0"))
        self.assertIn('"status":"ok"', self.health(8090))

        # Turned off stays off.
        self.machine.run("systemctl", "disable", "--now", "--quiet", UNIT)
        self.install(NEW)
        self.assertEqual(self.show("ActiveState"), "inactive")
        enabled = self.machine.run("systemctl", "is-enabled", UNIT, check=False).stdout
        self.assertEqual(enabled, "disabled\n")
        self.machine.run("systemctl", "enable", "--now", "--quiet", UNIT)

        self.dpkg("--remove", "encke")
        self.assertEqual(self.health(8090), "")
        self.assertFalse((self.machine.root / "usr/bin/encke").exists())
        self.assertEqual((self.machine.root / CONFIG.lstrip("/")).read_text(), edited)
        self.dpkg("--purge", "encke")
        self.assertEqual(self.show("LoadState"), "not-found")
        self.expect_nothing_left()

    def test_purged_while_it_runs(self):
        self.install(OLD)
        pid = self.show("MainPID")
        self.dpkg("--purge", "encke")
        self.assertFalse((self.machine.root / f"proc/{pid}").exists())
        self.expect_nothing_left()

    def test_a_service_that_does_not_start_is_told_and_is_no_broken_package(self):
        self.machine.write(CONFIG, "nonsense = 1\n")
        told = self.install(OLD)
        self.assertIn("encke: the service did not start; see: journalctl --unit encke", told)
        status = self.machine.run("dpkg-query", "-W", "-f", "${db:Status-Status}", "encke").stdout
        self.assertEqual(status, "installed")


@machine.needed
class BareTest(InstalledTest):
    def live(self):
        self.install(OLD)
        self.assertRegex(self.machine.run("/usr/bin/encke", "--version").stdout, r"^encke \d")
        self.machine.run("/usr/bin/encke", "check")
        self.install(NEW)
        self.dpkg("--purge", "encke")
        self.expect_nothing_left()

    def test_where_systemd_is_there_but_does_not_run(self):
        """As in a container, or while an image of a card is made."""
        self.begin(systemd=False)
        self.live()

    def test_where_there_is_no_systemd(self):
        self.begin(systemd=False)
        tools = ["systemctl", "systemd-sysusers", "udevadm", "deb-systemd-helper"]
        for tool in tools + ["deb-systemd-invoke"]:
            for folder in ("bin", "usr/bin", "usr/sbin"):
                (self.machine.root / folder / tool).unlink(missing_ok=True)
        self.live()


if __name__ == "__main__":
    common.main()
