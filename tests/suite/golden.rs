//! The contract, byte for byte: every transcript below `tests/golden`, played whole, byte by byte,
//! to a server whose sockets take a few bytes at a time, and over TCP where no virtual clock is
//! needed.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::support::play::{Cut, Virtual};
use crate::support::real::{Real, serve_if_asked};
use crate::support::transcript::Transcript;

fn transcripts() -> Vec<Transcript> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<PathBuf> = fs::read_dir(&root)
        .unwrap()
        .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let parse = |path: &PathBuf| {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        Transcript::parse(&name, &fs::read_to_string(path).unwrap())
    };
    files.iter().map(parse).collect()
}

/// Plays each transcript, and names all that do not go as they are written.
fn play_all(wanted: impl Fn(&Transcript) -> bool, play: impl Fn(&Transcript)) {
    let transcripts: Vec<_> = transcripts().into_iter().filter(wanted).collect();
    assert!(!transcripts.is_empty());
    let goes =
        |transcript: &&Transcript| catch_unwind(AssertUnwindSafe(|| play(transcript))).is_ok();
    let failed: Vec<_> = transcripts
        .iter()
        .filter(|transcript| !goes(transcript))
        .map(|transcript| &transcript.name)
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {}: {failed:?}",
        failed.len(),
        transcripts.len()
    );
}

fn play_virtually(cut: Cut) {
    play_all(
        |transcript| cut != Cut::Trickle || !transcript.is_roomy,
        |transcript| transcript.play(&mut Virtual::new(transcript.settings.clone(), cut)),
    );
}

#[test]
fn transcripts_whole() {
    play_virtually(Cut::Whole);
}

#[test]
fn transcripts_byte_by_byte() {
    play_virtually(Cut::Bytes);
}

#[test]
fn transcripts_through_narrow_sockets() {
    play_virtually(Cut::Trickle);
}

/// Not a test of its own: the server that the next one plays against.
#[test]
fn server() {
    serve_if_asked();
}

#[test]
fn transcripts_over_tcp() {
    play_all(Transcript::is_real, |transcript| {
        transcript.play(&mut Real::new(&transcript.settings, "golden::server"));
    });
}
