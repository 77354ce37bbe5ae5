//! `GET /health`: liveness, as `{"status":"ok",..}`. It answers from the event loop itself, so an
//! answer means that the loop turns.

use super::{Context, JSON, Reply};
use crate::buffer::Writer;

/// Writes the answer.
pub fn health(context: &Context<'_>, out: &mut Writer<'_>) -> Reply {
    let viewers = context.counters.viewers.iter().sum::<u32>();
    let hub = &context.hub;
    let _ = out.put_all(&[
        br#"{"status":"ok","log":""#,
        hub.log_name().as_bytes(),
        br#"","topics":"#,
    ]);
    let readable = hub.readers.topics(context.rights.reader).len();
    let _ = out.put_u64(u64::from(readable));
    let _ = out.put(br#","viewers":"#);
    let _ = out.put_u64(u64::from(viewers));
    let _ = out.put_all(&[
        br#","version":""#,
        env!("CARGO_PKG_VERSION").as_bytes(),
        b"\"}",
    ]);
    Reply::fresh(JSON)
}
