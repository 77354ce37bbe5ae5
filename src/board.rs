//! Board profiles: TOML files embedded from `boards/`, each the configuration's lowest layer on
//! one kind of board (DESIGN.md section 3). A new board is one file there and one row here. Uses
//! `config.rs`, its sibling. It never reads the device tree: the caller says what stands there.

use std::path::Path;

use crate::config::{self, Board, Config, ConfigError, Flags, Layer};

/// A board profile: the schema of the configuration plus `[board]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// Its file's name without `.toml`: what `--board` takes.
    pub name: &'static str,
    /// TOML.
    pub text: &'static str,
}

/// Under every other profile.
const GENERIC: Profile = Profile {
    name: "generic",
    text: include_str!("../boards/generic.toml"),
};

/// One row a board.
const PROFILES: &[Profile] = &[GENERIC];

/// All profiles, the generic one first.
pub fn profiles() -> &'static [Profile] {
    PROFILES
}

impl Profile {
    fn layer(&self) -> Layer<'static> {
        Layer {
            file: self.name,
            text: self.text,
            is_profile: true,
        }
    }

    /// The layers this profile stands for: the generic one, then itself.
    fn layers(&self) -> Vec<Layer<'static>> {
        let own = (*self != GENERIC).then(|| self.layer());
        [GENERIC.layer()].into_iter().chain(own).collect()
    }

    /// The configuration of this board without a file and flags.
    pub fn config(&self) -> Config {
        Config::new(&self.layers()).expect("a test reads every embedded profile")
    }

    /// What the profile says about its board.
    pub fn board(&self) -> Board {
        self.config().board
    }
}

/// The generic profile alone.
impl Default for Config {
    fn default() -> Config {
        GENERIC.config()
    }
}

/// The profile called `name`; without a name the one that knows the device tree's `model` or
/// `compatible` by the longest text, else the generic one.
pub fn choose(name: Option<&str>, model: &str, compatible: &str) -> Result<Profile, ConfigError> {
    choose_from(PROFILES, name, model, compatible)
}

fn choose_from(
    profiles: &[Profile],
    name: Option<&str>,
    model: &str,
    compatible: &str,
) -> Result<Profile, ConfigError> {
    let Some(name) = name else {
        let known = |profile: &&Profile| {
            let texts = profile.board().match_;
            let found = texts
                .iter()
                .filter(|text| model.contains(*text) || compatible.contains(*text));
            found.map(String::len).max().unwrap_or(0)
        };
        let best = profiles
            .iter()
            .filter(|profile| known(profile) > 0)
            .max_by_key(known);
        return Ok(best.copied().unwrap_or(GENERIC));
    };
    profiles
        .iter()
        .find(|profile| profile.name == name)
        .copied()
        .ok_or_else(|| ConfigError {
            file: "--board".to_string(),
            place: None,
            problem: format!("no board is called \"{name}\""),
            fix: format!(
                "one of: {}",
                profiles
                    .iter()
                    .map(|profile| profile.name)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        })
}

/// The configuration from all layers, and the profile at its bottom. `model` and `compatible` are
/// the device tree's, empty where there is none.
pub fn load(
    flags: &Flags,
    model: &str,
    compatible: &str,
) -> Result<(Config, Profile), ConfigError> {
    let profile = choose(flags.board.as_deref(), model, compatible)?;
    let path = config::find(flags.config.as_deref());
    let text = path
        .as_deref()
        .map(config::read)
        .transpose()?
        .unwrap_or_default();
    let file = path
        .as_deref()
        .unwrap_or(Path::new(""))
        .display()
        .to_string();
    let mut layers = profile.layers();
    layers.push(Layer {
        file: &file,
        text: &text,
        is_profile: false,
    });
    let mut config = Config::new(&layers)?;
    if !flags.listen.is_empty() {
        config.server.listen.clone_from(&flags.listen);
    }
    Ok((config, profile))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_read_and_the_generic_one_sets_every_limit() {
        for profile in profiles() {
            let limits = profile.config().limits;
            assert!(limits.viewers > 0 && limits.pages > 0 && limits.ring_bytes > 0);
            assert!(
                limits.topics > 0 && limits.per_address > 0,
                "{}",
                profile.name
            );
        }
        let limits = Config::default().limits;
        assert_eq!(
            (limits.viewers, limits.pages, limits.per_address),
            (10_000, 256, 64)
        );
        assert_eq!(
            (limits.ring_bytes, limits.topics, limits.history_bytes),
            (262_144, 256, 0)
        );
    }

    #[test]
    fn the_longest_match_is_the_board() {
        let one = Profile {
            name: "pi",
            text: "[board]\nmatch = [\"Raspberry Pi\"]",
        };
        let two = Profile {
            name: "zero",
            text: "[limits]\nviewers = 9\n[board]\nmatch = [\"Raspberry Pi Zero\", \"brcm,bcm2835\"]",
        };
        let all = [GENERIC, one, two];
        let chosen =
            |name, model, compatible| choose_from(&all, name, model, compatible).unwrap().name;
        assert_eq!(chosen(None, "Raspberry Pi Zero W Rev 1.1", ""), "zero");
        assert_eq!(
            chosen(None, "Raspberry Pi 4", "raspberrypi,4\0brcm,bcm2711\0"),
            "pi"
        );
        assert_eq!(chosen(None, "", "x\0brcm,bcm2835\0"), "zero");
        assert_eq!(chosen(None, "Banana", ""), "generic");
        assert_eq!(chosen(None, "", ""), "generic");
        assert_eq!(chosen(Some("pi"), "Raspberry Pi Zero", ""), "pi");
        assert_eq!(
            (two.config().limits.viewers, two.config().limits.pages),
            (9, 256)
        );
        let error = choose_from(&all, Some("zer"), "", "")
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "--board: no board is called \"zer\"\nfix: one of: generic, pi, zero"
        );
    }

    #[test]
    fn flags_are_the_top_layer() {
        let dir = std::env::temp_dir().join(format!("encke-board-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("encke.toml");
        std::fs::write(&path, "[server]\nlisten = [\":1\"]\n[limits]\npages = 8\n").unwrap();
        let mut flags = Flags {
            config: Some(path.clone()),
            ..Flags::default()
        };
        let (config, profile) = load(&flags, "", "").unwrap();
        assert_eq!(
            (config.server.listen[0].port(), profile.name),
            (1, "generic")
        );
        assert_eq!((config.limits.pages, config.limits.viewers), (8, 10_000));
        flags.listen = vec!["127.0.0.1:2".parse().unwrap()];
        assert_eq!(load(&flags, "", "").unwrap().0.server.listen, flags.listen);
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(load(&flags, "", "").is_err());
    }
}
