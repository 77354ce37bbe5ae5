//! What no file below the system root tells: device nodes, free space, power save, the kernel's
//! clock, and what this program was built for.
//!
//! A fixture has none of it but what its test gives. It never opens a device.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::statvfs;

use super::root::Root;
use super::{devices, power_save};
use crate::clock;

/// What a check may know beside files.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Names of all readings that were found, by the names that viewers see.
    pub topics: Vec<String>,
    /// How many of the first `[[topic]]` rules are the board profile's: of what a board may have,
    /// not of what it has.
    pub rules_of_board: usize,
    /// The most bytes that all limits together may take.
    pub memory_bytes: u64,
    /// Device nodes that sensors and actuators are reached by.
    pub nodes: Vec<Node>,
    /// How full the root file system is.
    pub disk: Option<Disk>,
    /// Wi-Fi interfaces that said whether they save power.
    pub power_save: Vec<(String, bool)>,
    /// What speaks for or against the wall clock.
    pub clock: clock::Facts,
    /// The architecture that this program was built for, as Rust names it; empty for a fixture.
    pub arch: &'static str,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Below /dev.
    pub name: String,
    /// Permission bits.
    pub mode: u32,
    /// Who owns it.
    pub uid: u32,
    /// The group that it belongs to.
    pub gid: u32,
}

/// How full a file system is, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Of the space that is not kept for root.
    pub space: u32,
    /// Of the files it can hold.
    pub files: u32,
}

impl Facts {
    /// Asks the kernel, where `sys_root` is `/`; else knows only what files tell. `topics`,
    /// `rules_of_board` and `memory_bytes` are for the caller to add.
    pub fn gather(sys_root: &Path) -> Facts {
        let root = Root(sys_root);
        let is_real = sys_root == Path::new("/");
        let mut facts = Facts {
            topics: Vec::new(),
            rules_of_board: 0,
            memory_bytes: 0,
            nodes: nodes(&root),
            disk: None,
            power_save: Vec::new(),
            clock: clock::Facts::gather(sys_root),
            arch: "",
        };
        if is_real {
            facts.disk = disk();
            facts.power_save = power_save::ask(&root);
            facts.arch = std::env::consts::ARCH;
        }
        facts
    }
}

/// The character devices that a class of devices names; a link or a plain file is none.
fn nodes(root: &Root) -> Vec<Node> {
    let mut nodes = Vec::new();
    for name in root.names("dev") {
        if !devices::is_node(&name) {
            continue;
        }
        if let Ok(node) = fs::symlink_metadata(root.0.join("dev").join(&name))
            && node.file_type().is_char_device()
        {
            nodes.push(Node {
                name,
                mode: node.mode() & 0o777,
                uid: node.uid(),
                gid: node.gid(),
            });
        }
    }
    nodes
}

fn disk() -> Option<Disk> {
    let root = statvfs("/").ok()?;
    // As df(1) counts: what root keeps for itself is neither used nor free.
    let percent = |all: u64, free: u64, left: u64| {
        let used = all.saturating_sub(free);
        (used * 100).checked_div(used + left).unwrap_or(0) as u32
    };
    Some(Disk {
        space: percent(root.f_blocks, root.f_bfree, root.f_bavail),
        files: percent(root.f_files, root.f_ffree, root.f_favail),
    })
}
