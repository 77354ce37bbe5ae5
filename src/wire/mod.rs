//! Bytes to values and back: HTTP/1.1, JSON and the texts inside them. Knows no hub, no socket.

pub mod chunked;
pub mod json;
pub mod request;
pub mod response;
pub mod text;

/// A request that is refused: its status and one plain line that says what was wrong and what would
/// be right. The peer's fault, never ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The line, without its end; each `{}` stands for the next number.
    pub reason: &'static str,
    /// What the line names.
    pub numbers: [u64; 3],
    /// Extra response fields, each with its CRLF: `Allow: GET\r\n`.
    pub fields: &'static str,
}

impl Refusal {
    /// A refusal without numbers or extra fields.
    pub const fn new(status: u16, reason: &'static str) -> Refusal {
        Refusal {
            status,
            reason,
            numbers: [0; 3],
            fields: "",
        }
    }

    /// The numbers its line names.
    pub const fn with(mut self, numbers: [u64; 3]) -> Refusal {
        self.numbers = numbers;
        self
    }

    /// Its extra fields.
    pub const fn fields(mut self, fields: &'static str) -> Refusal {
        self.fields = fields;
        self
    }
}
