//! Small files of the kernel: one value each, opened for each read.
//!
//! Follows Documentation/filesystems/sysfs.rst. Nothing stays open, so a chip with forty files
//! costs no descriptor and an unbound driver is never held. It never writes and never waits.

use super::Fault;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Bytes of a value that matter: sysfs never gives more than a page, and a value is short.
const VALUE_BYTES_MAX: usize = 256;

/// The text of a file without white space around it.
///
/// # Errors
/// `Vanished` when it is not there, `Failed` when it does not answer or with something that is no
/// text.
pub(super) fn text(path: &Path) -> Result<String, Fault> {
    Ok(ask_text(path)?)
}

/// As `text`, for a caller to whom it matters how the kernel refuses.
///
/// # Errors
/// The kernel's; `InvalidData` when it is no text.
pub(super) fn ask_text(path: &Path) -> io::Result<String> {
    let mut bytes = [0; VALUE_BYTES_MAX];
    let mut file = File::open(path)?;
    let mut len = 0;
    while len < bytes.len() {
        match file.read(&mut bytes[len..])? {
            0 => break,
            read => len += read,
        }
    }
    let text = std::str::from_utf8(&bytes[..len]).map_err(|_| ErrorKind::InvalidData)?;
    Ok(text
        .trim_matches(|c: char| c.is_whitespace() || c == '\0')
        .to_owned())
}

/// The number that a file holds.
///
/// # Errors
/// As `text`; also `Failed` when it is no number.
pub(super) fn number(path: &Path) -> Result<f64, Fault> {
    Ok(ask_number(path)?)
}

/// As `number`, for a caller to whom it matters how the kernel refuses.
///
/// # Errors
/// As `ask_text`; also `InvalidData` when it is no number.
pub(super) fn ask_number(path: &Path) -> io::Result<f64> {
    let number = ask_text(path)?.parse().ok();
    let finite = number.filter(|number: &f64| number.is_finite());
    finite.ok_or_else(|| ErrorKind::InvalidData.into())
}

/// Whether the file is there and says 1.
pub(super) fn is_set(path: &Path) -> bool {
    text(path).is_ok_and(|text| text == "1")
}

/// What lies in a folder, by name in natural order (`temp2` before `temp10`); nothing when it
/// cannot be read.
pub(super) fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let Ok(listing) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let named = |entry: fs::DirEntry| Some((entry.file_name().into_string().ok()?, entry.path()));
    let mut entries: Vec<_> = listing.flatten().filter_map(named).collect();
    entries.sort_by(|(a, _), (b, _)| natural(a).cmp(&natural(b)).then_with(|| a.cmp(b)));
    entries
}

/// A name cut behind its first digits: text, number, rest.
fn natural(name: &str) -> (&str, u64, &str) {
    let digits = name
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(name.len());
    let (text, rest) = name.split_at(digits);
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    (text, rest[..end].parse().unwrap_or(0), &rest[end..])
}

/// What names a device from boot to boot: the path its link leads to, below the system root. A
/// number that the kernel gave in order of appearance (`hwmon3`, `iio:device0`) is cut off its
/// end.
pub(super) fn device_path(link: &Path, sys_root: &Path) -> String {
    let real = fs::canonicalize(link).unwrap_or_else(|_| link.to_owned());
    let root = fs::canonicalize(sys_root).unwrap_or_else(|_| sys_root.to_owned());
    let path = real.strip_prefix(&root).unwrap_or(&real);
    path.to_string_lossy()
        .trim_end_matches(|c: char| c.is_ascii_digit())
        .to_owned()
}

#[cfg(test)]
pub(super) mod bench {
    //! Fixtures for the kinds that read such files.

    use super::super::{Batch, Discover, Fault, Found, Known, Source};
    use super::*;
    use std::process::Command;
    use std::sync::atomic::{AtomicU32, Ordering};

    pub(in super::super) fn fixture(name: &str) -> PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        root.join("tests/fixtures/sys").join(name)
    }

    /// A copy of a fixture that may be changed; it goes when it is dropped.
    pub(in super::super) struct Copy(pub(in super::super) PathBuf);

    impl Copy {
        pub(in super::super) fn of(name: &str) -> Copy {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let own = format!("encke-sys-{}-{count}", std::process::id());
            let root = std::env::temp_dir().join(own);
            let mut copy = Command::new("cp");
            copy.arg("-a").arg(fixture(name)).arg(&root);
            assert!(copy.status().unwrap().success());
            Copy(root)
        }

        /// Writes a file below `sys/class`.
        pub(in super::super) fn set(&self, path: &str, value: &str) {
            fs::write(self.0.join("sys/class").join(path), value).unwrap();
        }

        /// Makes a file below `sys/class` one that is there and cannot be read.
        pub(in super::super) fn spoil(&self, path: &str) {
            self.remove(path);
            fs::create_dir(self.0.join("sys/class").join(path)).unwrap();
        }

        pub(in super::super) fn remove(&self, path: &str) {
            fs::remove_file(self.0.join("sys/class").join(path)).unwrap();
        }

        /// Takes away the device that a link below `sys/class` leads to, as an unbind does.
        pub(in super::super) fn unbind(&self, link: &str) {
            let device = fs::canonicalize(self.0.join("sys/class").join(link)).unwrap();
            fs::remove_dir_all(device).unwrap();
            self.remove(link);
        }
    }

    impl Drop for Copy {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// What one read of a source gives: topic, value, unit and label of each reading.
    pub(in super::super) fn lines(source: &mut dyn Source) -> Result<Vec<String>, Fault> {
        let mut batch = Batch::default();
        source.read(0, &mut batch)?;
        let entries = batch.entries().iter();
        let line = |e: &_| {
            let super::super::batch::Entry {
                topic,
                value,
                unit,
                label,
                ..
            } = e;
            format!("{topic} {value} {unit} | {label}")
        };
        Ok(entries.map(line).collect())
    }

    /// What one read of all sources of a fixture gives.
    pub(in super::super) fn all_lines(discover: Discover, name: &str) -> Vec<String> {
        let sources: Found = discover(&fixture(name), &Known(&[]));
        let read = |mut source: Box<dyn Source>| lines(&mut *source).unwrap();
        sources.into_iter().flat_map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn values_names_and_paths() {
        let root = std::env::temp_dir().join(format!("encke-sysfs-{}", std::process::id()));
        let device = root.join("sys/devices/i2c-1/1-0048/hwmon/hwmon12");
        fs::create_dir_all(&device).unwrap();
        fs::create_dir_all(root.join("sys/class/hwmon")).unwrap();
        let link = root.join("sys/class/hwmon/hwmon12");
        symlink(&device, &link).unwrap();
        for (name, value) in [
            ("temp10_input", "21500\n"),
            ("temp2_input", "-5.5"),
            ("name", " tmp105\0\n"),
            ("temp1_fault", "1\n"),
            ("bad", "\u{fffd}"),
            ("nan", "nan"),
        ] {
            fs::write(device.join(name), value).unwrap();
        }
        fs::write(device.join("bytes"), b"\xff").unwrap();
        assert_eq!(number(&link.join("temp10_input")), Ok(21_500.0));
        assert_eq!(number(&link.join("temp2_input")), Ok(-5.5));
        assert_eq!(text(&link.join("name")).as_deref(), Ok("tmp105"));
        assert!(is_set(&link.join("temp1_fault")) && !is_set(&link.join("temp2_fault")));
        for name in ["bad", "nan", "name", "bytes"] {
            assert_eq!(number(&link.join(name)), Err(Fault::Failed), "{name}");
        }
        assert_eq!(number(&link.join("none")), Err(Fault::Vanished));
        assert_eq!(number(&link), Err(Fault::Failed), "a folder");
        let names: Vec<_> = entries(&link).into_iter().map(|(name, _)| name).collect();
        let want = [
            "bad",
            "bytes",
            "name",
            "nan",
            "temp1_fault",
            "temp2_input",
            "temp10_input",
        ];
        assert_eq!(names, want);
        assert_eq!(
            device_path(&link, &root),
            "sys/devices/i2c-1/1-0048/hwmon/hwmon"
        );
        assert!(entries(&root.join("none")).is_empty());
        fs::remove_dir_all(&root).unwrap();
    }
}
