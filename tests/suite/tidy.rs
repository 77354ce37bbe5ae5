//! The rules of the house that a test can hold: layers, sizes, headers, registration, words.

use std::fs;
use std::path::{Path, PathBuf};

/// Each file's layer, by the longest prefix that fits.
const LAYERS: &[(&str, u8)] = &[
    ("limits", 0),
    ("buffer", 0),
    ("name", 0),
    ("by_name", 0),
    ("log", 0),
    ("config", 0),
    ("board", 0),
    ("wire", 1),
    ("hub", 1),
    ("transport", 2),
    ("resource", 2),
    ("dashboard", 2),
    ("access", 3),
    ("connection", 3),
    ("peers", 3),
    ("sockets", 4),
    ("clock", 4),
    ("resident", 4),
    ("sandbox", 4),
    ("doctor", 4),
    ("source", 4),
    ("server", 4),
    ("cli", 5),
    ("main", 5),
    ("lib", 5),
    ("core", 5),
];

/// Which siblings a module may use.
const SIBLINGS: &[(&str, &[&str])] = &[
    ("name", &["limits"]),
    ("config", &["name", "limits"]),
    ("board", &["config"]),
    ("resource", &["transport"]),
    ("connection", &["access"]),
    ("peers", &["access", "connection"]),
    ("source", &["clock", "resident"]),
    ("doctor", &["clock"]),
    (
        "server",
        &["clock", "resident", "sandbox", "sockets", "source"],
    ),
];

/// What only layer 4 and above may speak of.
const OUTSIDE: &[&str] = &[
    "std::net",
    "std::time",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "async ",
    "smol",
    "rustix",
    "libc::",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut folders = vec![root().join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                if !path.ends_with("node_modules") && !path.ends_with(".venv") {
                    folders.push(path);
                }
            } else if path.to_str().unwrap().ends_with(ending) {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty());
    files
}

/// Each source file: its path below src, and its text without the tests at its bottom.
fn sources() -> Vec<(String, String)> {
    let below = |path: &Path| {
        path.strip_prefix(root().join("src"))
            .unwrap()
            .display()
            .to_string()
    };
    let code = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        text.split("#[cfg(test)]").next().unwrap().to_owned()
    };
    files("src", ".rs")
        .iter()
        .map(|path| (below(path), code(path)))
        .filter(|(path, _)| path != "build.rs")
        .collect()
}

fn module(path: &str) -> &str {
    path.split(['/', '.']).next().unwrap()
}

fn layer(module: &str) -> u8 {
    let row = LAYERS.iter().find(|(name, _)| *name == module);
    row.unwrap_or_else(|| panic!("{module} has no layer: give it one here and in src/lib.rs"))
        .1
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// The modules of this crate that a line names.
fn used(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("crate::").map(|(at, word)| {
        let rest = &line[at + word.len()..];
        rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .next()
            .unwrap()
    })
}

#[test]
fn layers_point_down() {
    for (path, code) in sources() {
        let own = module(&path);
        let allowed = SIBLINGS
            .iter()
            .find(|(name, _)| *name == own)
            .map_or(&[][..], |row| row.1);
        for line in code.lines().filter(|line| !is_comment(line)) {
            for other in used(line).filter(|other| !other.is_empty() && *other != own) {
                let down = layer(other) < layer(own) || allowed.contains(&other);
                assert!(down, "{path} uses {other}, which is not below it");
            }
        }
    }
}

#[test]
fn the_outside_world_begins_at_layer_four() {
    for (path, code) in sources().iter().filter(|(path, _)| layer(module(path)) < 4) {
        // The configuration names files and addresses, but opens only files.
        let is_config = path.starts_with("config") || path.starts_with("board");
        for line in code.lines().filter(|line| !is_comment(line)) {
            for word in OUTSIDE {
                let fine = is_config && *word == "std::net";
                assert!(
                    fine || !line.contains(word),
                    "{path} speaks of {word}: {line}"
                );
            }
        }
    }
}

#[test]
fn files_and_functions_stay_small() {
    for (path, code) in sources() {
        let is_code = |line: &&str| !line.trim().is_empty() && !is_comment(line);
        let count = code.lines().filter(is_code).count();
        assert!(
            count <= 500,
            "{path} has {count} lines of code, at most 500 are one duty"
        );
        let mut begun: Option<(usize, String)> = None;
        for (number, line) in code.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let starts = line
                .trim_start()
                .trim_start_matches("pub")
                .trim_start_matches("(super)");
            let starts = starts.trim_start_matches("(crate)").trim_start();
            let is_fn = ["fn ", "const fn ", "async fn "]
                .iter()
                .any(|word| starts.starts_with(word));
            if is_fn && line.trim_end().ends_with(['{', '(', '>']) {
                begun = Some((number, " ".repeat(indent) + "}"));
            }
            if let Some((from, end)) = &begun
                && line == end
            {
                let length = number - from + 1;
                assert!(
                    length <= 70,
                    "{path}:{}: a function of {length} lines",
                    from + 1
                );
                begun = None;
            }
            let text_ends = line.trim_end_matches([',', ')', ';', '"', '\\', '(', '?']);
            let is_text = line.contains('"') || text_ends.len() < line.len();
            assert!(
                line.chars().count() <= 100 || is_text,
                "{path}:{}: over 100 columns",
                number + 1
            );
        }
    }
}

#[test]
fn every_file_opens_with_its_duty() {
    for path in files("src", ".rs")
        .iter()
        .chain(&files("tests/suite", ".rs"))
    {
        let text = fs::read_to_string(path).unwrap();
        assert!(
            text.starts_with("//! "),
            "{} opens without its duty",
            path.display()
        );
    }
}

#[test]
fn unsafe_is_in_two_files() {
    for (path, code) in sources() {
        let has = code
            .lines()
            .any(|line| !is_comment(line) && line.contains("unsafe {"));
        assert!(
            !has || ["clock.rs", "resident.rs"].contains(&&*path),
            "{path} is unsafe"
        );
    }
}

/// One technique: one file, one row, one folder of transcripts.
#[test]
fn each_transport_has_its_row_and_its_transcripts() {
    let rows: Vec<_> = encke::transport::TRANSPORTS
        .iter()
        .map(|row| row.name)
        .collect();
    let mut stems = Vec::new();
    for path in files("src/transport", ".rs") {
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if stem != "mod" && stem != "subscription" {
            assert!(
                rows.contains(&stem.as_str()),
                "{stem} has no row in TRANSPORTS"
            );
            let count = files(&format!("tests/golden/{stem}"), ".txt").len();
            assert!(count > 0, "{stem} has no transcript");
            stems.push(stem);
        }
    }
    assert!(
        rows.len() <= 16,
        "framings and counters have room for 16 rows"
    );
    assert_eq!(
        stems.len(),
        rows.len(),
        "a row without a file, or two rows with one name"
    );
    let paths: Vec<_> = encke::transport::TRANSPORTS
        .iter()
        .map(|row| row.path)
        .collect();
    assert!(
        (1..paths.len()).all(|i| !paths[..i].contains(&paths[i])),
        "two rows with one path"
    );
}

/// Words that must not stand in what we ship, put together here so that they do not stand here.
#[test]
fn nothing_is_left_undone_or_tells_where_it_was_made() {
    let unfinished = ["to", "do!("].concat();
    let words = [
        unfinished,
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["unimple", "mented!("].concat(),
        ["#[ig", "nore"].concat(),
        ["\"/ro", "ot/"].concat(),
        [" /ro", "ot/"].concat(),
        ["/wo", "rk/"].concat(),
        ["/far", "m/"].concat(),
    ];
    let folders = [
        "src",
        "tests/suite",
        "tests/bench",
        "boards",
        "scripts",
        "tests/interop",
        "tests/guest",
    ];
    let mut checked = 0;
    for path in folders.iter().flat_map(|folder| files(folder, "")) {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        checked += 1;
        let found = words.iter().find(|word| text.contains(word.as_str()));
        assert_eq!(found, None, "{}", path.display());
    }
    assert!(checked > 50);
}
