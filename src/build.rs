//! Makes the first page one document, compressed ahead of time, the board profiles one table, and
//! stamps the time of the build.
//!
//! Follows RFC 1952 (gzip; no name and no time inside, so that the same sources make the same
//! bytes) and RFC 9110 section 8.8.3 (an entity tag for each coding). It never minifies: it drops
//! indentation, blank lines and whole-line comments, which no reader of the sent page misses, and
//! it never asks the network.

use flate2::{Compression, write::GzEncoder};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// Bytes of the compressed page: one round trip more on a slow link is what a larger one costs.
const PAGE_GZIP_BYTES_MAX: usize = 30 * 1024;

const PAGE: &str = "src/dashboard/index.html";

/// What stands for a part in the page, where the part is, and the text that would end it early.
const PARTS: [(&str, &str, &str); 2] = [
    ("/* style.css */", "src/dashboard/style.css", "</style"),
    ("/* script.js */", "src/dashboard/script.js", "</script"),
];

/// Two packages are built from this folder, each with what it embeds.
fn main() {
    if env::var("CARGO_PKG_NAME").as_deref() == Ok("encke-core") {
        env::set_current_dir("../..").expect("src/core is two folders below");
        return embed_page();
    }
    write("profiles.rs", profiles().as_bytes());
    println!("cargo::rerun-if-changed=src/build.rs");
    println!("cargo::rustc-env=ENCKE_BUILD_EPOCH={}", build_epoch());
    shrink();
}

fn embed_page() {
    let page = page();
    let gzip = gzip(page.as_bytes());
    assert!(
        gzip.len() <= PAGE_GZIP_BYTES_MAX,
        "the first page is {} bytes compressed; at most {PAGE_GZIP_BYTES_MAX} fit: make {PAGE} or \
         its style or script smaller",
        gzip.len()
    );
    let constants = format!(
        "/// Entity tag of the page as it is.\npub(super) const ETAG: &str = \"\\\"{:016x}-id\\\"\";\n\
         /// Entity tag of the page in gzip.\npub(super) const ETAG_GZIP: &str = \"\\\"{:016x}-gz\\\"\";\n",
        fnv1a(page.as_bytes()),
        fnv1a(&gzip)
    );
    write("index.html.gz", &gzip);
    write("dashboard.rs", constants.as_bytes());
}

/// Leaves out of a release binary what it never reads, where the linker is lld: it has to be told
/// by lld's own flags, which a C compiler in its place would not take.
fn shrink() {
    const SCRIPT: &str = "src/release.ld";
    println!("cargo::rerun-if-changed={SCRIPT}");
    let is = |name: &str, wanted: &str| env::var(name).is_ok_and(|value| value.ends_with(wanted));
    if !is("RUSTC_LINKER", "rust-lld") || !is("PROFILE", "release") {
        return;
    }
    let folder = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    for flag in [
        "--icf=all",
        "--ignore-data-address-equality",
        "--no-eh-frame-hdr",
        // Relocations at start as bits: 2 KB and not 50, where the program may be anywhere.
        "--pack-dyn-relocs=relr",
        // What walks those tables would find nothing: a backtrace (RUST_BACKTRACE) is empty, which
        // any function that does nothing can do, and unwinding never begins. 40 KB.
        "--defsym=_Unwind_Backtrace=getpid",
        "--defsym=_Unwind_Resume=abort",
        &format!("-T{folder}/{SCRIPT}"),
    ] {
        println!("cargo::rustc-link-arg-bins={flag}");
    }
}

/// The table of board profiles, the generic one first, then by name. Lines that are comments are
/// left empty: they cost nothing in the binary, and errors still name the right line.
fn profiles() -> String {
    println!("cargo::rerun-if-changed=boards");
    let files = fs::read_dir("boards").expect("boards/ holds the profiles");
    let mut names: Vec<String> = files
        .filter_map(|file| file.ok()?.file_name().into_string().ok())
        .filter_map(|name| Some(name.strip_suffix(".toml")?.to_owned()))
        .collect();
    names.sort_by_key(|name| (name != "generic", name.clone()));
    let profile = |name: &String| {
        let text = read(&format!("boards/{name}.toml"));
        let lines = text.lines().map(|line| match line.starts_with('#') {
            true => "\n".to_owned(),
            false => format!("{line}\n"),
        });
        let text: String = lines.collect();
        format!(
            "Profile {{ name: {name:?}, text: {:?} }},\n",
            text.trim_end()
        )
    };
    format!("&[{}]", names.iter().map(profile).collect::<String>())
}

/// The page with its style and its script inside: exactly one of each, so that a content security
/// policy can name both by their hash.
fn page() -> String {
    let mut page = trimmed(&read(PAGE));
    for (marker, path, end) in PARTS {
        let part = trimmed(&read(path));
        assert!(
            !part.to_ascii_lowercase().contains(end),
            "{path} contains {end}, which would end it early in the page"
        );
        assert_eq!(
            page.matches(marker).count(),
            1,
            "{PAGE} needs {marker} exactly once"
        );
        page = page.replacen(marker, &part, 1);
    }
    page
}

/// `text` without indentation, empty lines, and comments that fill whole lines.
fn trimmed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut comment_end = None;
    for line in text.lines().map(str::trim) {
        if let Some(end) = comment_end {
            if line.ends_with(end) {
                comment_end = None;
            }
        } else if let Some(end) = comment(line) {
            if !line.ends_with(end) {
                comment_end = Some(end);
            }
        } else if !line.is_empty() && !line.starts_with("//") {
            out.push_str(line);
            out.push('\n');
        }
    }
    assert!(
        comment_end.is_none(),
        "a comment in src/dashboard/ has no end"
    );
    out
}

/// How the block comment that opens `line` ends; `None` when it does not open with one. A marker
/// inside a line does not open it.
fn comment(line: &str) -> Option<&'static str> {
    const KINDS: [(&str, &str); 2] = [("/*", "*/"), ("<!--", "-->")];
    KINDS
        .iter()
        .find(|(start, _)| line.starts_with(start))
        .map(|&(_, end)| end)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("a vector takes every byte");
    encoder.finish().expect("a vector takes every byte")
}

/// FNV-1a, 64 bits: stable across compilers, which the standard library's hasher does not promise.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Seconds since 1970 that no clock on this build's boards can honestly be before:
/// SOURCE_DATE_EPOCH, else the last commit, else 0 (sources without a history).
fn build_epoch() -> u64 {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    if let Ok(text) = env::var("SOURCE_DATE_EPOCH") {
        let epoch = text.trim().parse();
        return epoch.expect("SOURCE_DATE_EPOCH is not whole seconds since 1970, as in 1763791234");
    }
    // Only a history of our own: unpacked inside another checkout, its commits are not ours.
    // A path that is absent would make every build run this again.
    if !Path::new(".git").exists() {
        return 0;
    }
    for name in ["HEAD", "refs", "packed-refs", "reftable"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["log", "-1", "--format=%ct"])
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// What git answers, or `None` when there is no git or it refuses.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn read(path: &str) -> String {
    // Cargo takes what is relative as below the package.
    let absolute = fs::canonicalize(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    println!("cargo::rerun-if-changed={}", absolute.display());
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn write(name: &str, bytes: &[u8]) {
    let directory = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for a build script");
    let path = Path::new(&directory).join(name);
    fs::write(&path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
