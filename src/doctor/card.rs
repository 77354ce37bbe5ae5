//! Whether the root file system is sound, can be written, and has room.
//!
//! Follows proc(5) /proc/mounts, fstab(5) and ext4's sysfs (`errors_count`). Encke writes nothing,
//! so a card that is meant to be read-only is fine. It never repairs: a file system is mended while
//! it is not mounted, which is at the next start.

use super::{Case, Level, Report};

/// From here on a card is nearly full, in percent.
const FULL: u32 = 95;
/// File systems that nobody can write to, or whose writes are kept in memory.
const MEANT: &[&str] = &["overlay", "squashfs", "erofs", "iso9660", "tmpfs", "rootfs"];

pub(super) fn check(case: &Case, report: &mut Report) {
    let mounts = case.root.text("proc/mounts");
    let Some((kind, is_read_only)) = mount(&mounts) else {
        return;
    };
    let before = report.findings.len();
    damage(case, report);
    let is_kept = !is_read_only && !MEANT.contains(&kind);
    if report.findings.len() == before && is_read_only {
        read_only(case, report, kind);
    }
    let disk = case.facts.disk.filter(|_| is_kept);
    let (space, files) = disk.map_or((0, 0), |disk| (disk.space, disk.files));
    if space >= FULL {
        report.add(
            Level::Problem,
            format_args!("the card is full: {} % of its space", u64::from(space)),
            format_args!("{FAIL} These make room."),
            format_args!(
                "sudo apt-get clean\nsudo journalctl --vacuum-size=50M\n\
                 # what takes it: sudo du -xh --max-depth=2 / | sort -h | tail"
            ),
        );
    } else if files >= FULL {
        report.add(
            Level::Problem,
            format_args!(
                "the card has room for no more files: {} %",
                u64::from(files)
            ),
            format_args!("{FAIL} This shows where most are:"),
            format_args!("sudo du -x --inodes --max-depth=3 / | sort -n | tail"),
        );
    }
    if report.findings.len() > before {
        return;
    }
    match (is_kept, disk) {
        (false, _) => report.ok(format_args!("nothing is kept on it, as it is meant to be")),
        (true, None) => report.ok(format_args!("it can be written")),
        (true, Some(_)) => {
            report.ok(format_args!(
                "it can be written, and is {} % full",
                u64::from(space)
            ));
        }
    }
}

const FAIL: &str = "Encke writes nothing, but updates and logs fail.";

/// The kind of file system that is mounted last at `/`, and whether it is read-only. Both
/// /proc/mounts and fstab have in a row: what, where, kind, options.
fn mount(table: &str) -> Option<(&str, bool)> {
    let mut found = None;
    for row in table.lines() {
        let mut fields = row.split_ascii_whitespace().skip(1);
        if let (Some("/"), Some(kind), Some(options)) =
            (fields.next(), fields.next(), fields.next())
        {
            found = Some((kind, options.split(',').any(|option| option == "ro")));
        }
    }
    found
}

/// Errors that ext4 counted.
fn damage(case: &Case, report: &mut Report) {
    const EXT4: &str = "sys/fs/ext4/";
    for device in case.root.names(EXT4) {
        let count = case.root.number_in(EXT4, &device, "/errors_count");
        let Some(count) = count.filter(|&count| count > 0) else {
            continue;
        };
        let is_asked = !case.root.text("proc/cmdline").contains("fsck.repair=yes");
        report.add(
            Level::Problem,
            format_args!("the file system of {device} is damaged, errors: {count}"),
            format_args!(
                "It may become read-only at any time. Save what matters first; it is checked and \
                 mended at the next start.{} If it comes back, the card is worn out.",
                match is_asked {
                    true => " Somebody may have to say yes to that at the board's screen.",
                    false => "",
                }
            ),
            format_args!("sudo reboot"),
        );
    }
}

/// It is mounted read-only: is that meant?
fn read_only(case: &Case, report: &mut Report, kind: &str) {
    let fstab = case.root.text("etc/fstab");
    if !MEANT.contains(&kind) && !mount(&fstab).is_some_and(|(_, is_read_only)| is_read_only) {
        report.add(
            Level::Problem,
            format_args!("the card is read-only, and nothing says that it should be"),
            format_args!(
                "Settings and updates cannot be kept. When this fails, too, the card is damaged or \
                 locked."
            ),
            format_args!("sudo mount -o remount,rw /\n# why: sudo dmesg | grep -iE 'mmc|ext4'"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::Disk;
    use super::super::fake::look;

    #[test]
    fn full_read_only_and_damaged() {
        let disk = |space, files| Some(Disk { space, files });
        let rw = (
            "proc/mounts",
            "rootfs / rootfs rw 0 0\n/dev/root / ext4 rw,noatime 0 0\n",
        );
        let ro = ("proc/mounts", "/dev/root / ext4 ro,noatime 0 0\n");
        let overlay = ("proc/mounts", "overlay / overlay rw,lowerdir=/lower 0 0\n");
        let squash = ("proc/mounts", "/dev/root / squashfs ro,relatime 0 0\n");
        let meant = (
            "etc/fstab",
            "# x / y ro\nPARTUUID=1 / ext4 defaults,noatime,ro 0 1\n",
        );
        let not = (
            "etc/fstab",
            "PARTUUID=1 / ext4 defaults,errors=remount-ro 0 1\n",
        );
        let fine = ("sys/fs/ext4/mmcblk0p2/errors_count", "0");
        let one = ("sys/fs/ext4/mmcblk0p2/errors_count", "1");
        let two = ("sys/fs/ext4/sda1/errors_count", "2");
        let remount = "problem the card is read-only, and nothing says that it should be\
                       |sudo mount -o remount,rw /|# why: sudo dmesg | grep -iE 'mmc|ext4'";
        let full = "problem the card is full: 95 % of its space|sudo apt-get clean\
                    |sudo journalctl --vacuum-size=50M\
                    |# what takes it: sudo du -xh --max-depth=2 / | sort -h | tail";
        let is_meant = "ok nothing is kept on it, as it is meant to be";
        for (files, disk, want) in [
            (&[][..], disk(99, 99), &[][..]),
            (&[rw], None, &["ok it can be written"]),
            (
                &[rw, fine],
                disk(94, 94),
                &["ok it can be written, and is 94 % full"],
            ),
            (&[rw], disk(95, 95), &[full]),
            (
                &[rw],
                disk(94, 95),
                &["problem the card has room for no more files: 95 %\
                 |sudo du -x --inodes --max-depth=3 / | sort -n | tail"],
            ),
            (&[ro], disk(99, 99), &[remount]),
            (&[ro, not], None, &[remount]),
            (&[ro, meant], disk(99, 99), &[is_meant]),
            (&[squash], disk(100, 100), &[is_meant]),
            (&[overlay], disk(99, 99), &[is_meant]),
            (
                &[ro, one],
                None,
                &["problem the file system of mmcblk0p2 is damaged, errors: 1|sudo reboot"],
            ),
            (
                &[rw, one, two],
                disk(1, 1),
                &[
                    "problem the file system of mmcblk0p2 is damaged, errors: 1|sudo reboot",
                    "problem the file system of sda1 is damaged, errors: 2|sudo reboot",
                ],
            ),
        ] {
            let said = look("card", files, |_, facts| facts.disk = disk);
            assert_eq!(said, want, "{files:?}");
        }
    }
}
