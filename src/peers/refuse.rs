//! How a refused request is answered: one plain line, or a call where only a script can be told.

use super::exchange::Rest;
use super::*;
use crate::buffer::Writer;
use crate::transport::jsonp;
use crate::wire::response::{Length, NO_STORE, write_reason};
use crate::wire::{Quote, Refusal};

impl<O: Outlet> Peers<O> {
    /// Answers with a refusal.
    #[cold]
    pub(super) fn refuse(&mut self, slot: u32, refusal: &Refusal) {
        self.counters.refused += 1;
        self.note_refusal(slot, refusal);
        if let Phase::Busy { exchange } = self.slots[slot].phase {
            self.let_go_of_pictures(exchange);
        }
        let mut retry = [0; 32];
        let mut fields = Writer::new(&mut retry);
        let wait_s = match refusal.status {
            503 if refusal.fields.is_empty() => Some(10 + self.jitter(51)),
            429 => Some(refusal.numbers[0]),
            _ => None,
        };
        if let Some(seconds) = wait_s {
            let put = fields
                .put(b"Retry-After: ")
                .and_then(|()| fields.put_u64(seconds));
            put.and_then(|()| fields.put(b"\r\n"))
                .expect("two digits fit");
        }
        let fields = core::str::from_utf8(fields.written()).expect("fields are ASCII");
        let head: &[u8] = match self.slots[slot].phase {
            Phase::Busy { exchange } => {
                let connection = &self.exchanges[usize::from(exchange)].connection;
                connection.head(self.inputs.bytes(exchange))
            }
            _ => b"",
        };
        let quote = match refusal.quote {
            Quote::Nothing => &b""[..],
            _ => {
                let [from, bytes, _] = refusal.numbers.map(|number| number as usize);
                &head[from..][..bytes]
            }
        };
        let mut out = Writer::new(&mut self.scratch[RESPONSE_HEAD_BYTES_MAX..]);
        let told = jsonp::told(head);
        let put = match &told {
            Some(callback) => jsonp::error(callback, refusal, quote, &mut out),
            None => write_reason(refusal, quote, &mut out),
        };
        put.expect("a reason is one line");
        let body_bytes = out.len();
        let (status, content_type) = match told {
            Some(_) => (200, jsonp::CONTENT_TYPE),
            None => (refusal.status, "text/plain; charset=utf-8"),
        };
        self.send_answer(
            slot,
            status,
            content_type,
            Length::Bytes(body_bytes),
            &[NO_STORE, refusal.fields, fields],
            body_bytes,
            Rest::Nothing,
        );
    }
}
