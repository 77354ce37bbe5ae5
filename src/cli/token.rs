//! `encke token NAME`: makes a secret, and says where it goes and how to use it.
//!
//! The secret is 20 bytes of the kernel's randomness (getrandom(2)) in base32 (RFC 4648 section 6),
//! lower case: 160 bits, of letters and digits only, so that it can stand in a header field, a
//! cookie, an address and a form as it is. The configuration gets its SHA-256 (FIPS 180-4). The
//! secret goes to `out` and nowhere else: no file, no log.

use std::io::{self, Write};
use std::net::SocketAddr;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest, Sha256};

use super::{Args, banner};
use crate::board::{self, Machine};
use crate::config;
use crate::limits::TOKENS_MAX;

const SECRET_BYTES: usize = 20;
/// Five bits a letter.
const SECRET_LETTERS: usize = SECRET_BYTES * 8 / 5;

/// Where a configuration goes that is nowhere yet.
const USUAL_FILE: &str = "/etc/encke/encke.toml";

/// Makes a token called `name` for the server that `args` tells of, prints it to `out`, with a QR
/// code where that is a terminal, or says to `err` why not; the exit code.
///
/// # Errors
/// Those of `out` and `err`, and of the kernel when it has no randomness.
pub fn token(
    args: &Args,
    name: &str,
    out: &mut impl Write,
    err: &mut impl Write,
    is_terminal: bool,
) -> io::Result<u8> {
    let config = match board::load(&args.flags, &Machine::read(&args.sys_root)) {
        Ok((config, _)) => config,
        Err(error) => return writeln!(err, "{error}").map(|()| 1),
    };
    let file = config::find(args.flags.config.as_deref());
    let file = file.map_or(USUAL_FILE.to_owned(), |path| path.display().to_string());
    if config.tokens.iter().any(|token| token.name == name) {
        return writeln!(
            err,
            "{file}: there is a token called \"{name}\" already\n\
             fix: take another name, or take its [[token]] out first"
        )
        .map(|()| 1);
    }
    if config.tokens.len() >= TOKENS_MAX {
        return writeln!(
            err,
            "{file}: there are {TOKENS_MAX} tokens already\nfix: take those out that nobody uses"
        )
        .map(|()| 1);
    }
    let made = Made {
        name,
        secret: &secret()?,
        file: &file,
        address: banner::reachable(&config.server.listen)[0],
    };
    made.print(out, is_terminal).map(|()| 0)
}

/// As many random letters and digits as a secret has.
fn secret() -> io::Result<String> {
    let mut bytes = [0; SECRET_BYTES];
    // So few come whole as soon as there are any.
    let count = rustix::io::retry_on_intr(|| getrandom(&mut bytes, GetRandomFlags::empty()))?;
    assert_eq!(
        count, SECRET_BYTES,
        "the kernel gives up to 256 bytes whole"
    );
    let mut letters = [0; SECRET_LETTERS];
    BASE32_NOPAD.encode_mut(&bytes, &mut letters);
    letters.make_ascii_lowercase();
    Ok(letters.iter().copied().map(char::from).collect())
}

/// What a configuration knows a secret by.
fn hash(secret: &str) -> String {
    let mut digits = [0; 64];
    HEXLOWER.encode_mut(&Sha256::digest(secret), &mut digits);
    digits.iter().copied().map(char::from).collect()
}

/// A token, and what is to be known of the server.
struct Made<'m> {
    name: &'m str,
    secret: &'m str,
    file: &'m str,
    address: SocketAddr,
}

impl Made<'_> {
    fn print(&self, out: &mut impl Write, is_terminal: bool) -> io::Result<()> {
        let Made {
            name,
            secret,
            file,
            address,
        } = self;
        let link = format!("http://{address}/#token={name}.{secret}");
        write!(
            out,
            "[[token]]\nname = \"{name}\"\nsha256 = \"{}\"\nread = [\"#\"]\nwrite = [\"#\"]\n\n\
             token:   {name}.{secret}\nsign in: {link}\n\n",
            hash(secret)
        )?;
        if is_terminal {
            banner::qr(out, &link)?;
            writeln!(out)?;
        }
        writeln!(
            out,
            "Put the first five lines into {file}, tell Encke with\n\
             `sudo systemctl reload encke` (where it is no service: kill -HUP and its process\n\
             number), and open the link on the phone that is to sign in.\n\
             Whoever has the token may read and write what those lines say; plain HTTP shows it\n\
             to everybody who listens in on the network, and it is not shown here again."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;
    use std::path::PathBuf;

    fn printed(address: &str, is_terminal: bool) -> String {
        let made = Made {
            name: "phone",
            secret: "test",
            file: "encke.toml",
            address: address.parse().unwrap(),
        };
        let mut out = Vec::new();
        made.print(&mut out, is_terminal).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_lines_come_first_then_the_token_then_what_to_do() {
        let text = printed("192.168.1.7:8080", false);
        let start = "[[token]]\nname = \"phone\"\n\
             sha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"\n\
             read = [\"#\"]\nwrite = [\"#\"]\n\n\
             token:   phone.test\nsign in: http://192.168.1.7:8080/#token=phone.test\n\n\
             Put the first five lines into encke.toml,";
        assert!(text.starts_with(start), "{text}");
        assert!(
            text.is_ascii() && text.lines().all(|line| line.len() <= 90),
            "{text}"
        );
        assert_eq!(
            text.matches("phone.test").count(),
            2,
            "itself, and in the link"
        );
        assert!(printed("[fd00::2]:80", false).contains("http://[fd00::2]:80/#token=phone.test\n"));
    }

    #[test]
    fn a_terminal_gets_a_code() {
        let rows = |text: &str| text.matches("\x1b[30;47m").count();
        assert_eq!(rows(&printed("192.168.1.7:8080", false)), 0);
        assert!(rows(&printed("192.168.1.7:8080", true)) > 16);
    }

    #[test]
    fn secrets_are_letters_and_digits_and_never_the_same() {
        let secrets: Vec<String> = (0..64).map(|_| secret().unwrap()).collect();
        for (at, secret) in secrets.iter().enumerate() {
            assert_eq!(secret.len(), SECRET_LETTERS);
            let is_right = |byte: u8| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte);
            assert!(secret.bytes().all(is_right), "{secret}");
            assert!(!secrets[..at].contains(secret));
        }
        // Each place takes many values: nothing is fixed or cut.
        for place in 0..SECRET_LETTERS {
            let mut found: Vec<u8> = secrets.iter().map(|s| s.as_bytes()[place]).collect();
            found.sort_unstable();
            found.dedup();
            assert!(found.len() > 10, "{place}: {found:?}");
        }
    }

    /// The exit code and what was said, for a configuration of this text.
    fn made(text: &str, name: &str) -> (u8, String, String) {
        let file = format!("encke-token-{}-{name}-{}", std::process::id(), text.len());
        let path: PathBuf = std::env::temp_dir().join(file);
        std::fs::write(&path, text).unwrap();
        let args = Args {
            flags: Flags {
                config: Some(path.clone()),
                board: Some("generic".to_owned()),
                listen: Vec::new(),
            },
            state: None,
            sys_root: PathBuf::from("/"),
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = token(&args, name, &mut out, &mut err, false).unwrap();
        std::fs::remove_file(&path).unwrap();
        let said = |bytes| {
            let text = String::from_utf8(bytes).unwrap();
            text.replace(&path.display().to_string(), "F")
        };
        (code, said(out), said(err))
    }

    #[test]
    fn what_is_printed_is_a_configuration_that_knows_the_token() {
        let before = "[server]\nlisten = [\"127.0.0.1:8081\"]\n";
        let (code, out, err) = made(before, "phone");
        assert_eq!((code, &err[..]), (0, ""));
        let (rows, rest) = out.split_once("\n\n").unwrap();
        let layer = config::Layer {
            file: "f",
            text: rows,
            is_profile: false,
        };
        let tokens = config::Config::new(&[layer]).unwrap().tokens;
        let (read, write) = (&tokens[0].read[..], &tokens[0].write[..]);
        assert_eq!(
            (&tokens[0].name[..], read, write),
            ("phone", &["#".to_owned()][..], read)
        );
        let token = rest.strip_prefix("token:   phone.").unwrap();
        let (secret, rest) = token.split_once('\n').unwrap();
        assert_eq!(tokens[0].sha256[..], Sha256::digest(secret)[..]);
        let link = format!("sign in: http://127.0.0.1:8081/#token=phone.{secret}\n");
        assert!(
            rest.starts_with(&link) && rest.contains(" into F, "),
            "{rest}"
        );
    }

    #[test]
    fn what_stands_in_the_way_is_said() {
        let row = |n: usize| format!("[[token]]\nname = \"t{n}\"\nsha256 = \"{n:064x}\"\n");
        let rows = |count| (0..count).map(row).collect::<String>();
        let (code, out, err) = made(&rows(1), "t0");
        assert_eq!((code, &out[..]), (1, ""));
        assert!(
            err.starts_with("F: there is a token called \"t0\" already\nfix: "),
            "{err}"
        );
        assert_eq!(made(&rows(TOKENS_MAX - 1), "more").0, 0);
        let (code, out, err) = made(&rows(TOKENS_MAX), "more");
        assert_eq!((code, &out[..]), (1, ""));
        assert!(
            err.starts_with("F: there are 64 tokens already\nfix: "),
            "{err}"
        );
        let (code, out, err) = made("[limits]\npages = 7\n", "phone");
        assert_eq!((code, &out[..]), (1, ""));
        assert!(err.starts_with("F:2:9: "), "{err}");
    }
}
