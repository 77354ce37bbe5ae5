//! Makes the first page one document, compressed ahead of time, the policy that lets just its style
//! and its scripts run, the board profiles one table, and stamps the time of the build.
//!
//! Follows RFC 1952 (gzip; no name and no time inside, so that the same sources make the same
//! bytes), RFC 9110 section 8.8.3 (an entity tag for each coding), Content Security Policy Level 3
//! sections 2.3.1 and 6 (sources by their hash) and FIPS 180-4 (SHA-256). It never minifies: that is
//! done beforehand by scripts/bundle. It drops indentation, blank lines and whole-line comments of
//! the rest, which no reader of the sent page misses, and it never asks the network.

use flate2::{Compression, write::GzEncoder};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// Bytes of the compressed page: one round trip more on a slow link is what a larger one costs.
const PAGE_GZIP_BYTES_MAX: usize = 30 * 1024;

/// Bytes of the compressed library, for pages that are not ours.
const LIBRARY_GZIP_BYTES_MAX: usize = 6 * 1024;

const PAGE: &str = "src/dashboard/index.html";
/// Made by scripts/bundle, like the others with `.min`.
const LIBRARY: &str = "src/dashboard/encke.min.js";
/// Files that are sent as they are.
const FILES: [(&str, &str); 4] = [
    ("LIBRARY", LIBRARY),
    ("OLD", "src/dashboard/encke-old.js"),
    ("MODULE", "src/dashboard/encke.mjs"),
    ("TYPES", "src/dashboard/encke.d.ts"),
];
/// The style of the table for browsers without JavaScript.
const PLAIN_STYLE: &str = "src/dashboard/plain.css";

/// What stands for a part in the page, where the part is, and what would end it early. A part fills
/// its element, so that its hash is the element's.
const PARTS: [(&str, &str, &str); 4] = [
    (">/* early.js */<", "src/dashboard/early.js", "</script"),
    (">/* encke.js */<", LIBRARY, "</script"),
    (
        ">/* style.css */<",
        "src/dashboard/style.min.css",
        "</style",
    ),
    (">/* page.js */<", "src/dashboard/page.min.js", "</script"),
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
    assert_eq!(
        base64(&sha256(b"abc")),
        "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
        "the example of FIPS 180-4"
    );
    let parts = PARTS.map(|(_, path, end)| part(path, end));
    let [early, library, style, script] = parts.each_ref();
    let plain_style = part(PLAIN_STYLE, "</style");
    let page = page(&parts);
    let mut constants = format!(
        "/// The policy of both pages.\npub(super) const POLICY: &str = {:?};\n",
        policy([style, &plain_style], [early, library, script])
    );
    constants += &asset("PAGE", &page, PAGE_GZIP_BYTES_MAX);
    for (name, path) in FILES {
        constants += &asset(name, &trimmed(&read(path)), LIBRARY_GZIP_BYTES_MAX);
    }
    write("plain.css", plain_style.as_bytes());
    write("dashboard.rs", constants.as_bytes());
}

/// The constant of a document: its entity tags, as it is and in gzip, and its bytes in gzip.
fn asset(name: &str, text: &str, bytes_max: usize) -> String {
    let gzip = gzip(text.as_bytes());
    assert!(
        gzip.len() <= bytes_max,
        "{name} is {} bytes compressed; at most {bytes_max} fit: make its source in src/dashboard \
         smaller",
        gzip.len()
    );
    let etag = |bytes: &[u8], coding: &str| {
        let hash = sha256(bytes);
        let half = hash.first_chunk().expect("a hash has 32 bytes");
        format!("\"{:016x}-{coding}\"", u64::from_be_bytes(*half))
    };
    let file = format!("{name}.gz");
    write(&file, &gzip);
    format!(
        "pub(super) const {name}: Document = Document {{ etag: {:?}, etag_gzip: {:?}, \
         gzip: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{file}\")) }};\n",
        etag(text.as_bytes(), "id"),
        etag(&gzip, "gz"),
    )
}

/// The fields that say what the page and the table may do: use their own styles, script and
/// picture, ask the board, and be sent its events in a frame, without another site's frame around
/// them. Where a link was followed is told to the board alone: with `no-referrer` a form's Origin
/// would be null, even to itself.
/// The text begins with the end of a line, and ends where `connect-src` may go on.
fn policy(styles: [&str; 2], scripts: [&str; 3]) -> String {
    let hash = |text: &str| format!("'sha256-{}'", base64(&sha256(text.as_bytes())));
    let [page, table] = styles.map(hash);
    let scripts = scripts.map(hash).join(" ");
    format!(
        "\r\nReferrer-Policy: same-origin\r\n\
         Content-Security-Policy: default-src 'none'; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'none'; frame-src 'self'; img-src data:; style-src {page} {table}; \
         script-src {scripts}; connect-src 'self'"
    )
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

/// The page with its style and its scripts inside: exactly one of each, so that the policy can name
/// all by their hash.
fn page(parts: &[String; 4]) -> String {
    let mut page = trimmed(&read(PAGE));
    for ((marker, ..), part) in PARTS.iter().zip(parts) {
        assert_eq!(
            page.matches(marker).count(),
            1,
            "{PAGE} needs {marker} exactly once"
        );
        page = page.replacen(marker, &format!(">{part}<"), 1);
    }
    page
}

/// A style or a script as it stands in a page.
fn part(path: &str, end: &str) -> String {
    let part = trimmed(&read(path));
    assert!(
        !part.to_ascii_lowercase().contains(end),
        "{path} contains {end}, which would end it early in the page"
    );
    part
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

/// SHA-256 (FIPS 180-4 section 6.2).
fn sha256(message: &[u8]) -> [u8; 32] {
    // Sections 4.2.2 and 5.3.3: the first 32 bits behind the point of the roots of primes.
    let primes = (2u32..).filter(|n| (2..*n).all(|divisor| n % divisor != 0));
    let primes: Vec<f64> = primes.take(64).map(f64::from).collect();
    let behind_point = |root: f64| (root.fract() * 2f64.powi(32)) as u32;
    let mut state: [u32; 8] = std::array::from_fn(|i| behind_point(primes[i].sqrt()));
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64), 0);
    if padded.len() - message.len() < 9 {
        padded.resize(padded.len() + 64, 0);
    }
    let bits = message.len() as u64 * 8;
    let end = padded.len() - 8;
    padded[end..].copy_from_slice(&bits.to_be_bytes());
    for block in padded.chunks_exact(64) {
        let words = block.chunks_exact(4);
        let word = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |word, byte| word << 8 | u32::from(*byte))
        };
        let mut w: Vec<u32> = words.map(word).collect();
        for t in 16..64 {
            let s0 = w[t - 15].rotate_right(7) ^ w[t - 15].rotate_right(18) ^ w[t - 15] >> 3;
            let s1 = w[t - 2].rotate_right(17) ^ w[t - 2].rotate_right(19) ^ w[t - 2] >> 10;
            let sum = [w[t - 16], s0, w[t - 7], s1];
            w.push(sum.into_iter().fold(0, u32::wrapping_add));
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
        for (prime, w) in primes.iter().zip(w) {
            let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let sum = [h, s1, e & f ^ !e & g, behind_point(prime.cbrt()), w];
            let t1 = sum.into_iter().fold(0, u32::wrapping_add);
            let t2 = s0.wrapping_add(a & b ^ a & c ^ b & c);
            (h, g, f, e) = (g, f, e, d.wrapping_add(t1));
            (d, c, b, a) = (c, b, a, t1.wrapping_add(t2));
        }
        for (word, more) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *word = word.wrapping_add(more);
        }
    }
    let bytes: Vec<u8> = state.iter().flat_map(|word| word.to_be_bytes()).collect();
    bytes.try_into().expect("eight words are 32 bytes")
}

/// Base 64 with padding (RFC 4648 section 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let four = |three: &[u8]| -> String {
        let bits = (0..3).fold(0, |bits, i| {
            bits << 8 | usize::from(*three.get(i).unwrap_or(&0))
        });
        let digit = |i: usize| match i <= three.len() {
            true => char::from(DIGITS[bits >> (18 - 6 * i) & 63]),
            false => '=',
        };
        (0..4).map(digit).collect()
    };
    bytes.chunks(3).map(four).collect()
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
