//! What the configuration and the machine say of all but rights, as the server wants it.
//!
//! The soft limit of open files is raised to the hard one (getrlimit(2)). It decides nothing.

use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::policy;
use crate::config::Config;
use crate::hub::topic::Naming;
use crate::peers::Settings;

/// Descriptors that are not peers: listeners, epoll, timer, files of sources.
const DESCRIPTORS_SPARE: u64 = 64;
/// Viewers sent to in one turn: about 4 ms of them, so that no timer of a source is late by more.
const SENDS_PER_TURN: u32 = 512;

/// The lower-case names of this machine, from the kernel.
pub fn machine_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .to_ascii_lowercase()
}

/// Random bits, from the keys std draws for its hash maps.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

/// Raises the soft limit of descriptors to the hard one; how many there may be.
fn descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// What the board is called.
pub(super) fn name(config: &Config) -> String {
    config.server.name.clone().unwrap_or_else(machine_name)
}

/// Where its pages may connect to, as in `Settings`; they learn it from a cookie, which a script
/// can read before it asks for anything.
pub(super) fn push_host(config: &Config) -> String {
    let host = config.server.push_host.as_deref();
    host.map_or_else(String::new, |host| {
        // A source without a scheme would let no WebSocket through.
        format!(" {host} ws://{host}\r\nSet-Cookie: encke_push={host}; Path=/; SameSite=Lax")
    })
}

/// What is fixed at start, from the configuration and the descriptor limit.
pub fn settings(config: &Config, sys_root: &Path) -> Settings {
    // Where descriptors are few, a quarter of them is for pages.
    let room = descriptors().saturating_sub(DESCRIPTORS_SPARE).max(8);
    let pages = u64::from(config.limits.pages).min(room / 4);
    let room = room - pages;
    Settings {
        viewers: u64::from(config.limits.viewers).min(room) as u32,
        pages: pages as u16,
        ring_bytes: config.limits.ring_bytes,
        topics: config.limits.topics as usize,
        pictures: config.limits.pictures as usize,
        picture_bytes: config.limits.picture_bytes,
        heartbeat_ms: config.server.heartbeat_ms,
        presence: config.server.presence.clone(),
        board: name(config),
        push_host: push_host(config).leak(),
        policy: policy(config, sys_root),
        seed: random(),
        sends_per_turn: SENDS_PER_TURN,
    }
}

/// What `[[topic]]` rules say about topics that anybody publishes.
pub(super) fn namings(config: &Config) -> Vec<Naming> {
    let rules = config.topic.iter();
    let named = rules.filter(|rule| rule.label.is_some() || rule.unit.is_some());
    let naming = named.map(|rule| Naming {
        pattern: rule.match_.clone(),
        label: rule.label.clone(),
        unit: rule.unit.clone(),
    });
    naming.collect()
}
