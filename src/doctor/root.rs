//! The board as files below the system root, each read whole when it is asked about.
//!
//! What is missing, unreadable or no text is empty. It reads at most
//! `FILE_BYTES_MAX` of a file.

use std::fs;
use std::io::Read as _;
use std::path::Path;

/// Bytes of a file that are looked at; what matters stands at the beginning.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// A directory that stands for `/`.
pub(super) struct Root<'a>(pub(super) &'a Path);

impl Root<'_> {
    /// The file's text without white space and NUL around it; empty when there is none.
    #[inline(never)]
    pub(super) fn text(&self, path: &str) -> String {
        let mut bytes = vec![0; FILE_BYTES_MAX];
        let mut len = 0;
        if let Ok(mut file) = fs::File::open(self.0.join(path)) {
            // A long file of /proc comes a page at a time, so only an empty read is its end.
            while let Ok(read @ 1..) = file.read(&mut bytes[len..]) {
                len += read;
            }
        }
        let text = String::from_utf8_lossy(&bytes[..len]);
        text.trim_matches(|c: char| c == '\0' || c.is_whitespace())
            .to_owned()
    }

    /// As `text`, of a path in three parts.
    #[inline(never)]
    pub(super) fn text_in(&self, folder: &str, name: &str, file: &str) -> String {
        self.text(&[folder, name, file].concat())
    }

    /// The number that the file holds, of a path in three parts.
    #[inline(never)]
    pub(super) fn number_in(&self, folder: &str, name: &str, file: &str) -> Option<u64> {
        number_at(&self.text_in(folder, name, file), 0)
    }

    /// Whether anything is at `path`.
    #[inline(never)]
    pub(super) fn has(&self, path: &str) -> bool {
        self.0.join(path).exists()
    }

    /// As `has`, of a path in three parts.
    #[inline(never)]
    pub(super) fn has_in(&self, folder: &str, name: &str, file: &str) -> bool {
        self.has(&[folder, name, file].concat())
    }

    /// What the directory holds, sorted; empty when there is none.
    #[inline(never)]
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let Ok(entries) = fs::read_dir(self.0.join(path)) else {
            return names;
        };
        for entry in entries {
            if let Ok(Ok(name)) = entry.map(|entry| entry.file_name().into_string()) {
                let at = names.partition_point(|other| *other < name);
                names.insert(at, name);
            }
        }
        names
    }

    /// The numbers of all processes.
    pub(super) fn pids(&self) -> Vec<String> {
        let mut names = self.names("proc");
        names.retain(|name| name.bytes().all(|b| b.is_ascii_digit()));
        names
    }

    /// Where the symbolic link leads, as it stands there; empty when there is none.
    #[inline(never)]
    pub(super) fn link(&self, path: &str) -> String {
        let target = fs::read_link(self.0.join(path)).unwrap_or_default();
        target.into_os_string().into_string().unwrap_or_default()
    }

    /// The name of a user or group by its number: passwd(5) and group(5) both begin
    /// `NAME:x:NUMBER:`. `None` also when the name would not do in a shell.
    #[inline(never)]
    pub(super) fn name_of(&self, path: &str, number: u64) -> Option<String> {
        let text = self.text(path);
        for line in text.lines() {
            let mut fields = line.split(':');
            let name = fields.next().unwrap_or("");
            if fields.nth(1).and_then(|field| field.parse().ok()) == Some(number) && is_plain(name)
            {
                return Some(name.to_owned());
            }
        }
        None
    }
}

/// The value behind `key` in lines of a key, a colon or a blank, and a value; empty without.
#[inline(never)]
pub(super) fn value<'a>(text: &'a str, key: &str) -> &'a str {
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix(key)
            && rest.starts_with([':', ' ', '\t'])
        {
            return rest.trim_start_matches(':').trim();
        }
    }
    ""
}

/// The number that stands at `at` among the words of `text`.
#[inline(never)]
pub(super) fn number_at(text: &str, at: usize) -> Option<u64> {
    text.split_ascii_whitespace().nth(at)?.parse().ok()
}

/// Whether `text` means itself to a shell.
#[inline(never)]
pub(super) fn is_plain(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_-.@/:+".contains(&b);
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(fits)
}

/// `text` as one word of a shell.
pub(super) fn quoted(text: &str) -> String {
    match is_plain(text) {
        true => text.to_owned(),
        false => ["'", &text.replace('\'', r"'\''"), "'"].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_behind_keys() {
        let text = "Uid:\t1 2\nGroups: \nMax open files  10 20 files\nUidX: 3";
        for (key, want) in [
            ("Uid", "1 2"),
            ("Groups", ""),
            ("Max open files", "10 20 files"),
            ("Max", "open files  10 20 files"),
            ("Gid", ""),
        ] {
            assert_eq!(value(text, key), want, "{key}");
        }
    }

    #[test]
    fn words_of_a_shell() {
        for (text, want) in [
            ("/usr/bin/encke", "/usr/bin/encke"),
            ("[::1]:8081", "'[::1]:8081'"),
            ("", "''"),
            ("-rf", "'-rf'"),
            ("a b'c", r"'a b'\''c'"),
            ("$(x)", "'$(x)'"),
        ] {
            assert_eq!(quoted(text), want);
        }
    }

    #[test]
    fn names_of_numbers() {
        let dir = std::env::temp_dir().join(format!("encke-names-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(
            dir.join("p"),
            "root:x:0:0\nq;x:x:7:7\nbad\npi:x:1000:1000\n",
        )
        .unwrap();
        let root = Root(&dir);
        assert_eq!(root.name_of("p", 1000).as_deref(), Some("pi"));
        assert_eq!(root.name_of("p", 7), None, "no name for a shell");
        assert_eq!(root.name_of("p", 8), None);
        fs::remove_dir_all(&dir).unwrap();
    }
}
