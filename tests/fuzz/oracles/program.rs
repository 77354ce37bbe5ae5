//! An input read as a program: what clients send and how it is cut, what is published, how time
//! passes, and who fails in which way.

/// What ends a step; no text of HTTP has it.
const END: u8 = 0xff;
/// Clients at once.
pub(crate) const CLIENTS: usize = 4;

/// What happens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// A client sends, in packets of so many bytes at most.
    Send(usize),
    /// As `Send`, all at once, and others act in the same turn.
    SendEarly,
    Publish,
    /// The same again and again, more than fits the ring.
    Burst,
    Pass,
    HalfClose,
    Reset,
    Vanish,
    /// The client's buffer is small, and it reads little at once.
    Narrow,
    Take,
    Connect,
    Forget,
    Drain,
    Wall,
    Nudge,
    /// A client comes from another address.
    Remote,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'b> {
    pub(crate) client: usize,
    pub(crate) act: Act,
    pub(crate) bytes: &'b [u8],
}

const ACTS: [Act; 32] = [
    Act::Send(usize::MAX),
    Act::Send(usize::MAX),
    Act::Send(usize::MAX),
    Act::Send(usize::MAX),
    Act::Send(usize::MAX),
    Act::Send(1),
    Act::Send(1),
    Act::Send(3),
    Act::Send(7),
    Act::Send(50),
    Act::SendEarly,
    Act::SendEarly,
    Act::Publish,
    Act::Publish,
    Act::Publish,
    Act::Burst,
    Act::Pass,
    Act::Pass,
    Act::Pass,
    Act::HalfClose,
    Act::Reset,
    Act::Vanish,
    Act::Narrow,
    Act::Narrow,
    Act::Take,
    Act::Take,
    Act::Connect,
    Act::Forget,
    Act::Drain,
    Act::Wall,
    Act::Nudge,
    Act::Remote,
];

/// The steps of an input: each a byte that says what it is and whose, and its bytes.
pub(crate) fn steps(input: &[u8]) -> impl Iterator<Item = Step<'_>> {
    let pieces = input.split(|byte| *byte == END);
    pieces.filter_map(|piece| {
        let (&first, bytes) = piece.split_first()?;
        Some(Step {
            client: usize::from(first >> 5) % CLIENTS,
            act: ACTS[usize::from(first & 31)],
            bytes,
        })
    })
}

/// A fault put between clients and the server, to see whether it is found: ENCKE_FUZZ_BUG names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// LF at the start of a packet is lost.
    Crlf,
    /// A length that begins with 0 is read as an octal one.
    Octal,
    /// What comes in one packet with a poll, and behind it, is lost.
    Poll,
}

impl Bug {
    pub(crate) fn chosen() -> Bug {
        match std::env::var("ENCKE_FUZZ_BUG").as_deref() {
            Err(_) => Bug::None,
            Ok("crlf") => Bug::Crlf,
            Ok("octal") => Bug::Octal,
            Ok("poll") => Bug::Poll,
            Ok(other) => panic!("ENCKE_FUZZ_BUG={other}: there are crlf, octal and poll"),
        }
    }

    /// What becomes of a packet.
    pub(crate) fn pass(self, packet: &[u8]) -> Vec<u8> {
        let find = |what: &[u8]| packet.windows(what.len()).position(|part| part == what);
        const LENGTH: &[u8] = b"Content-Length: 0";
        match self {
            Bug::Crlf if packet.len() > 1 => packet.strip_prefix(b"\n").unwrap_or(packet).to_vec(),
            Bug::Octal => match find(LENGTH) {
                Some(at) => octal(packet, at + LENGTH.len()),
                None => packet.to_vec(),
            },
            Bug::Poll => match (find(b"/poll"), find(b"\r\n\r\n")) {
                (Some(poll), Some(end)) if poll < end => packet[..end + 4].to_vec(),
                _ => packet.to_vec(),
            },
            _ => packet.to_vec(),
        }
    }
}

fn octal(packet: &[u8], at: usize) -> Vec<u8> {
    let digits = packet[at..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let text = std::str::from_utf8(&packet[at..at + digits]).unwrap_or_default();
    match u64::from_str_radix(text, 8) {
        Ok(value) => [
            &packet[..at],
            value.to_string().as_bytes(),
            &packet[at + digits..],
        ]
        .concat(),
        Err(_) => packet.to_vec(),
    }
}
