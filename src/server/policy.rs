//! What the configuration and the machine say of rights, as `access` wants it: names, origins,
//! proxies, tokens, and the networks that are on-link.
//!
//! The names of the machine are its host name, alone and with the suffixes that home networks give
//! it: those of resolv.conf(5), and the usual ones (RFC 6762, RFC 8375). It decides nothing.

use std::fs;
use std::path::Path;

use if_addrs::IfAddr;

use crate::access::{Friend, Grant, Network, Policy, Token, Validity};
use crate::config::{self, Config};

/// What routers call the network at home.
const SUFFIXES: [&str; 7] = [
    "local",
    "lan",
    "home",
    "home.arpa",
    "internal",
    "localdomain",
    "fritz.box",
];

/// Longer files of the resolver are not read.
const RESOLV_BYTES_MAX: usize = 64 * 1024;

/// The suffixes that this machine's resolver adds to names, lower case.
fn search(resolv_conf: &str) -> impl Iterator<Item = String> {
    let words = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        matches!(words.next(), Some("search" | "domain")).then_some(words)
    });
    let suffixes = words
        .flatten()
        .map(|word| word.trim_matches('.').to_ascii_lowercase());
    suffixes.filter(|suffix| !suffix.is_empty())
}

/// What this machine is called: `name` is its host name, which may have a domain already.
fn names(name: &str, resolv_conf: &str) -> Vec<String> {
    let name = name.trim_matches('.').to_ascii_lowercase();
    // What the kernel says of a machine that was never named.
    if name.is_empty() || name == "(none)" {
        return Vec::new();
    }
    let short = name.split('.').next().unwrap_or(&name);
    let suffixes = SUFFIXES
        .map(str::to_owned)
        .into_iter()
        .chain(search(resolv_conf));
    let mut names = vec![short.to_owned()];
    for name in suffixes
        .map(|suffix| format!("{short}.{suffix}"))
        .chain([name.clone()])
    {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The networks that are on-link here, as the machine's own addresses say; `None` when it will not
/// say.
pub(super) fn links() -> Option<Vec<Network>> {
    let interfaces = if_addrs::get_if_addrs().ok()?;
    let network = |interface: if_addrs::Interface| {
        let (address, bits) = match interface.addr {
            IfAddr::V4(v4) => (v4.ip.into(), v4.prefixlen),
            IfAddr::V6(v6) => (v6.ip.into(), v6.prefixlen),
        };
        // A tunnel that takes everything does not make everybody a neighbour.
        (bits > 0).then(|| Network::new(address, bits.into()))
    };
    Some(interfaces.into_iter().filter_map(network).collect())
}

fn token(token: &config::Token) -> Token {
    Token {
        grant: Grant {
            name: token.name.clone(),
            read: token.read.clone(),
            write: token.write.clone(),
            until_s: token.until,
        },
        sha256: token.sha256,
        validity: Validity::Valid,
    }
}

/// Who may do what, as `config` says, on the machine whose files are below `sys_root`.
pub fn policy(config: &Config, sys_root: &Path) -> Policy {
    let server = &config.server;
    let resolv_conf = fs::read(sys_root.join("etc/resolv.conf")).unwrap_or_default();
    let resolv_conf = &resolv_conf[..resolv_conf.len().min(RESOLV_BYTES_MAX)];
    let mut names = names(
        &super::machine_name(),
        &String::from_utf8_lossy(resolv_conf),
    );
    names.extend(server.hosts.iter().chain(&server.push_host).cloned());
    let proxies = server.trusted_proxies.iter();
    Policy {
        names,
        friends: Friend::all(&server.origins, &server.cors),
        proxies: proxies.filter_map(|proxy| Network::parse(proxy)).collect(),
        links: links().unwrap_or_default(),
        read: server.read.clone(),
        jsonp: config.jsonp.topics.clone(),
        tokens: config.tokens.iter().map(token).collect(),
        per_address: config.limits.per_address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_called_by_its_name_with_what_home_networks_add() {
        let resolv =
            "# domain x\nsearch Example.org. lan\n domain home.example\nnameserver 1.1.1.1\n";
        let called = names("Board.example.net", resolv);
        for name in [
            "board",
            "board.local",
            "board.lan",
            "board.home",
            "board.home.arpa",
            "board.internal",
            "board.localdomain",
            "board.fritz.box",
            "board.example.org",
            "board.home.example",
            "board.example.net",
        ] {
            assert!(
                called.iter().any(|called| called == name),
                "{name}: {called:?}"
            );
        }
        assert_eq!(called.len(), 11, "{called:?}");
        assert!(names("(none)", resolv).is_empty());
    }

    #[test]
    fn loopback_is_on_link() {
        let loopback = Network::new(std::net::Ipv4Addr::LOCALHOST.into(), 8);
        assert!(links().is_none_or(|links| links.contains(&loopback) || links.is_empty()));
    }
}
