//! Whose rights count, and what they are: proc(5) `status` and `limits`, credentials(7).
//!
//! When an Encke runs, it is that one's rights that decide, not those of the person who asks. It
//! never looks at what it may not.

use std::fmt;
use std::ops::RangeInclusive;

use super::root::{Root, is_plain, number_at, value};

/// The capability to listen below port 1024 (capabilities(7)).
const CAP_NET_BIND_SERVICE: u64 = 1 << 10;

/// The users that systemd makes for a service with `DynamicUser=yes` (systemd.exec(5)).
const DYNAMIC_USERS: RangeInclusive<u64> = 61184..=65519;

/// A process and what it may.
pub(super) struct Who {
    /// Its number in /proc: of an Encke that runs already, or `self`.
    at: String,
    pub(super) uid: u64,
    /// Its own group and those it is also in.
    pub(super) groups: Vec<u64>,
    /// The user, if the system has a name for it; a service's own user has none.
    pub(super) name: Option<String>,
    /// It may listen below port 1024.
    pub(super) binds_low: bool,
    /// The most descriptors that it may ask for.
    pub(super) descriptors: Option<u64>,
}

impl Who {
    /// The Encke that runs, else this process; `None` when the root has no /proc.
    pub(super) fn find(root: &Root) -> Option<Who> {
        let at = running(root).unwrap_or("self".to_owned());
        let status = root.text_in("proc/", &at, "/status");
        // Real, effective, saved and file system: the second decides.
        let uid = number_at(value(&status, "Uid"), 1)?;
        let mut groups = Vec::from_iter(number_at(value(&status, "Gid"), 1));
        for group in value(&status, "Groups").split_ascii_whitespace() {
            groups.extend(group.parse::<u64>());
        }
        let caps = u64::from_str_radix(value(&status, "CapEff"), 16).unwrap_or(0);
        let limits = root.text_in("proc/", &at, "/limits");
        Some(Who {
            at,
            uid,
            groups,
            name: root.name_of("etc/passwd", uid),
            binds_low: caps & CAP_NET_BIND_SERVICE != 0,
            // Soft limit, hard limit, unit: we may raise the soft one.
            descriptors: number_at(value(&limits, "Max open files"), 1),
        })
    }

    /// The number of the Encke that runs.
    pub(super) fn pid(&self) -> Option<&str> {
        (self.at != "self").then_some(&self.at)
    }

    /// Whether it is a service, under a user that nobody logs in as.
    pub(super) fn is_service(&self) -> bool {
        self.name.as_deref() == Some("encke") || DYNAMIC_USERS.contains(&self.uid)
    }

    /// Where the program lies, or would after it is installed when we may not see it.
    pub(super) fn program(&self, root: &Root) -> String {
        let program = root.link(&["proc/", &self.at, "/exe"].concat());
        match program.is_empty() {
            true => "/usr/bin/encke".to_owned(),
            false => program,
        }
    }
}

/// As part of a sentence.
impl fmt::Display for Who {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match (&self.name, self.pid()) {
            (Some(name), _) => out.write_str(name),
            (None, Some(pid)) => write!(out, "Encke (pid {pid})"),
            (None, None) => write!(out, "user {}", self.uid),
        }
    }
}

/// The Encke that serves: a process of that name whose first argument is `serve`, a flag or none.
fn running(root: &Root) -> Option<String> {
    let own = root.link("proc/self");
    root.pids().into_iter().find(|pid| {
        *pid != own && root.text_in("proc/", pid, "/comm") == "encke" && {
            let command = root.text_in("proc/", pid, "/cmdline");
            let first = command.split('\0').nth(1).unwrap_or("serve");
            first == "serve" || first.starts_with('-')
        }
    })
}

/// The unit of systemd that a process belongs to, by the last part of its control group.
pub(super) fn unit(root: &Root, pid: &str) -> Option<String> {
    let groups = root.text_in("proc/", pid, "/cgroup");
    let mut parts = groups.lines().next_back()?.rsplit('/');
    let unit = parts.find(|part| part.ends_with(".service"))?;
    (is_plain(unit) && !unit.starts_with("user@")).then(|| unit.to_owned())
}

/// The lines that add `setting` to our service, under a name of its own.
#[inline(never)]
pub(super) fn drop_in(name: &str, setting: &str) -> String {
    format!(
        "sudo mkdir -p /etc/systemd/system/encke.service.d\n\
         printf '[Service]\\n{setting}\\n' | sudo tee \\\n  \
         /etc/systemd/system/encke.service.d/{name}.conf\n\
         sudo systemctl daemon-reload\n\
         sudo systemctl restart encke"
    )
}

#[cfg(test)]
mod tests {
    use super::super::fake::Board;
    use super::*;

    const STATUS: &str = "Name:\tx\nUid:\t5\t6\t5\t5\nGid:\t7\t8\t7\t7\nGroups:\t9 10 \n\
                          CapEff:\t0000000000000400\n";

    #[test]
    fn our_own_rights_without_a_server() {
        let board = Board::new(&[
            ("proc/self/status", STATUS),
            ("proc/self/limits", "Max open files   1024   4096   files"),
            ("proc/3/comm", "encke\n"),
            ("proc/3/cmdline", "encke\0doctor\0"),
            ("proc/4/comm", "enckes\n"),
            ("proc/4/cmdline", "enckes\0"),
            ("etc/passwd", "me:x:6:8::/:/bin/sh"),
        ]);
        let who = Who::find(&Root(&board.0)).unwrap();
        assert_eq!((who.pid(), who.uid), (None, 6));
        assert_eq!(who.groups, [8, 9, 10]);
        assert!(who.binds_low && !who.is_service());
        assert_eq!(who.descriptors, Some(4096));
        assert_eq!(who.to_string(), "me");
    }

    #[test]
    fn the_rights_of_a_server_that_runs() {
        for line in [
            "encke\0",
            "encke\0serve\0--listen\0:1\0",
            "/e\0--board\0x\0",
        ] {
            let board = Board::new(&[
                ("proc/self/status", STATUS),
                ("proc/77/comm", "encke\n"),
                ("proc/77/cmdline", line),
                ("proc/77/status", "Uid:\t61184\t61184\nGid:\t61184\t61184\n"),
            ]);
            let who = Who::find(&Root(&board.0)).unwrap();
            assert_eq!(
                (who.pid(), who.uid, who.binds_low),
                (Some("77"), 61184, false)
            );
            assert!(who.is_service());
            assert_eq!(who.to_string(), "Encke (pid 77)");
        }
        let unlike = [("proc/self/status", "Uid:\tx\n")];
        assert!(Who::find(&Root(&Board::new(&unlike).0)).is_none());
    }

    #[test]
    fn units_of_processes() {
        for (text, want) in [
            ("0::/system.slice/nginx.service", Some("nginx.service")),
            (
                "3:cpu:/\n0::/system.slice/system-x.slice/a@b.service/sub",
                Some("a@b.service"),
            ),
            ("0::/user.slice/user-1000.slice/session-3.scope", None),
            ("0::/user.slice/user@1000.service/app.slice", None),
            ("0::/system.slice/a;b.service", None),
            ("", None),
        ] {
            let board = Board::new(&[("proc/5/cgroup", text)]);
            assert_eq!(unit(&Root(&board.0), "5").as_deref(), want, "{text}");
        }
    }
}
