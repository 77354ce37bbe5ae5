//! `GET /qr.svg?text=URL`: a QR code of an address, for the camera of a second phone.
//!
//! Follows ISO/IEC 18004, by a library, and SVG 1.1 section 8.3. It never looks for the mask that
//! is read best, which would take eight times as long: any is read.

use super::Reply;
use crate::buffer::{Full, Writer};
use crate::wire::Refusal;
use crate::wire::request::Head;
use crate::wire::text::{Query, percent_decode};
use qrcodegen::{Mask, QrCode, QrCodeEcc, QrSegment, Version};

/// Bytes of a text: what the largest code holds that a phone reads from another's screen.
pub const TEXT_BYTES_MAX: usize = 134;
const VERSION_MAX: u8 = 6;
const MASK: u8 = 2;

/// Modules that stay light around the code.
const QUIET: i32 = 4;

/// What is drawn.
pub type Text = heapless::String<TEXT_BYTES_MAX>;

const WRONG: Refusal = Refusal::new(
    400,
    "the QR code needs a text of 1 to {} bytes, as in /qr.svg?text=http%3A%2F%2Fpi.local%2F",
)
.with([TEXT_BYTES_MAX as u64, 0, 0]);

/// The text that a request asks for.
pub fn text(head: &Head<'_>) -> Result<Text, Refusal> {
    let mut decoded = [0; TEXT_BYTES_MAX];
    let (_, value) = Query::new(head.query)
        .find(|(key, _)| *key == b"text")
        .ok_or(WRONG)?;
    let text = percent_decode(value, true, &mut decoded).filter(|text| !text.is_empty());
    Text::try_from(text.ok_or(WRONG)?).map_err(|_| WRONG)
}

/// Draws it.
pub fn draw(text: &str, out: &mut Writer<'_>) -> Result<Reply, Refusal> {
    const FULL: Refusal = Refusal::new(500, "the QR code is larger than an answer may be");
    let segments = QrSegment::make_segments(text);
    let code = QrCode::encode_segments_advanced(
        &segments,
        QrCodeEcc::Low,
        Version::MIN,
        Version::new(VERSION_MAX),
        Some(Mask::new(MASK)),
        true,
    )
    .map_err(|_| WRONG)?;
    path(&code, out).map_err(|Full| FULL)?;
    Ok(Reply::fresh("image/svg+xml"))
}

/// Each run of dark modules of a row is a line as wide as they are high.
fn path(code: &QrCode, out: &mut Writer<'_>) -> Result<(), Full> {
    let side = (code.size() + 2 * QUIET) as u64;
    out.put(br#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 "#)?;
    out.put_u64(side)?;
    out.put(b" ")?;
    out.put_u64(side)?;
    out.put(br##""><path fill="#fff" d="M0 0h99v99H0z"/><path stroke="#000" d=""##)?;
    for y in 0..code.size() {
        let mut x = 0;
        while x < code.size() {
            let run = (x..code.size())
                .take_while(|x| code.get_module(*x, y))
                .count() as i32;
            if run > 0 {
                out.put(b"M")?;
                out.put_u64((x + QUIET) as u64)?;
                out.put(b" ")?;
                out.put_u64((y + QUIET) as u64)?;
                out.put(b".5h")?;
                out.put_u64(run as u64)?;
            }
            x += run.max(1);
        }
    }
    out.put(br#""/></svg>"#)
}
