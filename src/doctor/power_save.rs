//! Whether Wi-Fi sleeps between packets: asked of the kernel by generic netlink, nl80211.
//!
//! No file tells it, and anybody may ask (linux/netlink.h, genetlink.h, nl80211.h): two questions,
//! what number the family has, and for each interface `NL80211_CMD_GET_POWER_SAVE`. Power save
//! costs a Pi Zero W up to two seconds an answer (raspberrypi/linux#7533). It never changes it.

use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::net::netlink::{GENERIC, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

use super::root::{Root, is_plain};
use super::{Case, Level, Report};

const NET: &str = "sys/class/net/";
/// The kernel answers at once or never.
const ANSWER_MS: u64 = 500;
/// A family's description lists its commands; what we want stands before them.
const ANSWER_BYTES: usize = 16 * 1024;

const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NL80211_CMD_GET_POWER_SAVE: u8 = 62;
const NL80211_ATTR_IFINDEX: u16 = 3;
const NL80211_ATTR_PS_STATE: u16 = 93;
/// Bytes before the attributes: `nlmsghdr` and `genlmsghdr`.
const HEADERS: usize = 20;

pub(super) fn check(case: &Case, report: &mut Report) {
    let has_iw = case.root.has("usr/sbin/iw") || case.root.has("sbin/iw");
    let iw = match has_iw {
        true => "sudo iw dev ",
        false => "sudo apt install iw\nsudo iw dev ",
    };
    let (keep, lasts) = match case.root.has("etc/NetworkManager") {
        true => (
            KEEP_OFF,
            " The last line keeps it off after the next start.",
        ),
        false => ("", ""),
    };
    for name in &interfaces(&case.root) {
        // One that is down or unused delays nobody.
        if case.root.text_in(NET, name, "/operstate") != "up" {
            continue;
        }
        let told = case.facts.power_save.iter().find(|(told, _)| told == name);
        match told {
            Some((_, false)) => report.ok(format_args!("{name} stays awake (power save is off)")),
            Some((_, true)) => report.add(
                Level::Note,
                format_args!("{name} sleeps between packets (power save is on)"),
                format_args!("Pages and events may wait for up to two seconds.{lasts}"),
                format_args!("{iw}{name} set power_save off{keep}"),
            ),
            None => report.add(
                Level::Note,
                format_args!("{name} does not tell whether it sleeps between packets"),
                format_args!(
                    "If it does, pages and events may wait for up to two seconds. This tells:"
                ),
                format_args!("{iw}{name} get power_save"),
            ),
        }
    }
}

const KEEP_OFF: &str = "\nprintf '[connection]\\nwifi.powersave=2\\n' | sudo tee \\\n  \
                        /etc/NetworkManager/conf.d/wifi-powersave-off.conf";

/// Interfaces that are Wi-Fi.
fn interfaces(root: &Root) -> Vec<String> {
    let mut names = root.names(NET);
    names.retain(|name| is_plain(name) && root.has_in(NET, name, "/phy80211"));
    names
}

/// Each Wi-Fi interface that the kernel answers for: its name, and whether it saves power.
pub(super) fn ask(root: &Root) -> Vec<(String, bool)> {
    let mut told = Vec::new();
    for name in interfaces(root) {
        if let Some(state) = saves_power(root, &name) {
            told.push((name, state));
        }
    }
    told
}

fn saves_power(root: &Root, name: &str) -> Option<bool> {
    let index = u32::try_from(root.number_in(NET, name, "/ifindex")?).ok()?;
    let family = family_id("nl80211")?;
    let (command, about) = (NL80211_CMD_GET_POWER_SAVE, NL80211_ATTR_IFINDEX);
    let answer = exchange(&message(family, command, about, &index.to_ne_bytes()))?;
    let state = attribute(&answer, family, NL80211_ATTR_PS_STATE)?;
    Some(u32::from_ne_bytes(state.try_into().ok()?) != 0)
}

/// The number that the kernel gave to a family of generic netlink.
fn family_id(name: &str) -> Option<u16> {
    let name = [name.as_bytes(), b"\0"].concat();
    let question = message(
        GENL_ID_CTRL,
        CTRL_CMD_GETFAMILY,
        CTRL_ATTR_FAMILY_NAME,
        &name,
    );
    let answer = exchange(&question)?;
    let id = attribute(&answer, GENL_ID_CTRL, CTRL_ATTR_FAMILY_ID)?;
    Some(u16::from_ne_bytes(id.try_into().ok()?))
}

/// A question with one attribute.
fn message(family: u16, command: u8, attribute: u16, value: &[u8]) -> Vec<u8> {
    let padded = value.len().next_multiple_of(4);
    let mut bytes = Vec::with_capacity(HEADERS + 4 + padded);
    let len = (HEADERS + 4 + padded) as u32;
    bytes.extend(len.to_ne_bytes());
    bytes.extend(family.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    // The sequence number and our port, which the kernel fills in.
    bytes.extend([1u32, 0].map(u32::to_ne_bytes).concat());
    // Version 1 of the family, and two bytes that are kept.
    bytes.extend([command, 1, 0, 0]);
    bytes.extend((4 + value.len() as u16).to_ne_bytes());
    bytes.extend(attribute.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(len as usize, 0);
    bytes
}

/// Asks the kernel and waits for its answer.
fn exchange(question: &[u8]) -> Option<Vec<u8>> {
    let (family, kind, flags) = (
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
    );
    let socket: OwnedFd = socket_with(family, kind, flags, Some(GENERIC)).ok()?;
    let limit = Duration::from_millis(ANSWER_MS);
    set_socket_timeout(&socket, Timeout::Recv, Some(limit)).ok()?;
    let kernel = SocketAddrNetlink::new(0, 0);
    sendto(&socket, question, SendFlags::empty(), &kernel).ok()?;
    let mut answer = vec![0; ANSWER_BYTES];
    let (_, len) = recv(&socket, &mut answer[..], RecvFlags::empty()).ok()?;
    answer.truncate(len);
    Some(answer)
}

/// The value of an attribute of the answer's first message, when that is of `family`.
fn attribute(answer: &[u8], family: u16, wanted: u16) -> Option<&[u8]> {
    let half = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    let kind = half(4)?;
    if kind == NLMSG_ERROR || kind != family {
        return None;
    }
    let mut at = HEADERS;
    loop {
        let len = usize::from(half(at)?);
        // The upper two bits are marks of nested attributes.
        let name = half(at + 2)? & 0x3fff;
        let value = answer.get(at + 4..at + len)?;
        if name == wanted {
            return Some(value);
        }
        at += len.next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::look;
    use super::*;

    #[test]
    fn interfaces_that_tell() {
        const UP: (&str, &str) = ("sys/class/net/wlan0/operstate", "up\n");
        const PHY: (&str, &str) = ("sys/class/net/wlan0/phy80211/name", "phy0");
        let down = ("sys/class/net/wlan0/operstate", "dormant\n");
        let iw = ("usr/sbin/iw", "");
        let manager = ("etc/NetworkManager/NetworkManager.conf", "");
        let on = "note wlan0 sleeps between packets (power save is on)";
        let off = "|sudo iw dev wlan0 set power_save off";
        let silent = "note wlan0 does not tell whether it sleeps between packets";
        for (files, told, want) in [
            (&[UP][..], Some(true), vec![]),
            (&[PHY, down], Some(true), vec![]),
            (
                &[UP, PHY],
                Some(false),
                vec!["ok wlan0 stays awake (power save is off)".to_owned()],
            ),
            (&[UP, PHY, iw], Some(true), vec![[on, off].concat()]),
            (
                &[UP, PHY, iw, manager],
                Some(true),
                vec![format!(
                    "{on}{off}|printf '[connection]\\nwifi.powersave=2\\n' | sudo tee \\\
                     |  /etc/NetworkManager/conf.d/wifi-powersave-off.conf"
                )],
            ),
            (
                &[UP, PHY],
                None,
                vec![
                    [
                        silent,
                        "|sudo apt install iw|sudo iw dev wlan0 get power_save",
                    ]
                    .concat(),
                ],
            ),
        ] {
            let said = look("wifi", files, |_, facts| {
                facts.power_save = Vec::from_iter(told.map(|told| ("wlan0".to_owned(), told)));
            });
            assert_eq!(said, want, "{files:?} {told:?}");
        }
    }

    #[test]
    fn a_question_as_the_kernel_reads_it() {
        let question = message(
            0x1c,
            NL80211_CMD_GET_POWER_SAVE,
            NL80211_ATTR_IFINDEX,
            &[3, 0, 0, 0],
        );
        let mut want = Vec::new();
        want.extend(28u32.to_ne_bytes());
        want.extend([0x1c, NLM_F_REQUEST].map(u16::to_ne_bytes).concat());
        want.extend([1u32, 0].map(u32::to_ne_bytes).concat());
        want.extend([62, 1, 0, 0]);
        want.extend([8u16, 3].map(u16::to_ne_bytes).concat());
        want.extend([3, 0, 0, 0]);
        assert_eq!(question, want);
        assert_eq!(message(16, 3, 2, b"nl80211\0").len(), 32);
        assert_eq!(message(16, 3, 2, b"abc\0x").len(), 32);
    }

    #[test]
    fn answers_good_and_bad() {
        let answer = [
            message(28, 62, 7, b"abcde"),
            [8u16, 93].map(u16::to_ne_bytes).concat(),
            1u32.to_ne_bytes().to_vec(),
        ]
        .concat();
        assert_eq!(attribute(&answer, 28, 93), Some(&1u32.to_ne_bytes()[..]));
        assert_eq!(attribute(&answer, 28, 7), Some(&b"abcde"[..]));
        assert_eq!(attribute(&answer, 28, 9), None);
        assert_eq!(attribute(&answer, 29, 93), None, "another family");
        let refused = message(NLMSG_ERROR, 0, 93, &[0; 4]);
        assert_eq!(attribute(&refused, NLMSG_ERROR, 93), None);
        for end in 0..answer.len() {
            assert_eq!(attribute(&answer[..end], 28, 93), None, "{end}");
        }
        // An attribute that says it is shorter than its own head.
        for len in 0..4u8 {
            let mut bytes = message(28, 62, 7, &[]);
            bytes[HEADERS..HEADERS + 2].copy_from_slice(&u16::from(len).to_ne_bytes());
            assert_eq!(attribute(&bytes, 28, 93), None);
        }
    }

    #[test]
    fn the_kernel_answers() {
        // The family of families has a number of its own; a sandbox may forbid to ask.
        assert!(matches!(family_id("nlctrl"), None | Some(GENL_ID_CTRL)));
        assert_eq!(family_id("no such family"), None);
    }
}
