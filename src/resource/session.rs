//! `/session`: who is signed in, signing in and out (DESIGN.md 3, "Resources").
//!
//! - `POST` takes a token, `NAME.SECRET`: as text, as a JSON string, as `{"token":..}`, or as the
//!   field `token` of a form. The answer sets it as a cookie (RFC 6265 section 4.1): that is the
//!   token itself, so nothing is lost at a restart. A form is answered with the plain page.
//! - `GET` says whose rights count: `{"name":NAME or null,"read":[..],"write":[..],"until":S or
//!   null}`, patterns as the configuration has them, seconds since 1970.
//! - `DELETE` takes the cookie back.
//!
//! Whether a token is any good is decided elsewhere. No answer ever holds a secret but the cookie.

use super::{Context, JSON, Reply, too_small};
use crate::buffer::{Full, Writer};
use crate::hub::readers::Grant;
use crate::limits::CREDENTIAL_BYTES_MAX;
use crate::wire::request::Head;
use crate::wire::response::NO_STORE;
use crate::wire::text::{Query, media_type, percent_decode, trim};
use crate::wire::{Refusal, json};

/// How the body of a sign-in is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Text, or JSON.
    Text,
    /// A page's form.
    Form,
}

impl Form {
    /// As the request's Content-Type says.
    ///
    /// # Errors
    /// 415.
    pub fn of(head: &Head<'_>) -> Result<Form, Refusal> {
        let media = media_type(head.field("content-type").unwrap_or_default());
        let is = |name: &str| media.eq_ignore_ascii_case(name.as_bytes());
        if is("application/x-www-form-urlencoded") {
            Ok(Form::Form)
        } else if media.is_empty() || is("text/plain") || is("application/json") {
            Ok(Form::Text)
        } else {
            Err(Refusal::new(
                415,
                "a token is sent as text/plain, application/json or a form",
            ))
        }
    }
}

/// A token as it was sent.
pub type Credential = heapless::String<CREDENTIAL_BYTES_MAX>;

const NO_TOKEN: Refusal = Refusal::new(
    400,
    "the body is to be a token, NAME.SECRET: as text, as {\"token\":\"NAME.SECRET\"}, or as the field token of a form; letters, digits and - . _ ~ + / = only, at most {} bytes",
)
.with([CREDENTIAL_BYTES_MAX as u64, 0, 0]);

/// What may stand in a cookie, and in a Bearer token (RFC 6750 section 2.1).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

/// The token in a sign-in's body.
///
/// # Errors
/// 400 when there is none, or it could not stand in a cookie.
pub fn credential(body: &[u8], form: Form) -> Result<Credential, Refusal> {
    let mut decoded = [0; CREDENTIAL_BYTES_MAX + 1];
    let text = match form {
        // What `curl -d TOKEN` sends says that it is a form.
        Form::Form if !body.contains(&b'=') => text(trim(body), &mut decoded),
        Form::Form => {
            let mut pairs = Query::new(body).filter(|(key, _)| *key == b"token");
            pairs
                .next()
                .and_then(|(_, value)| percent_decode(value, true, &mut decoded))
        }
        Form::Text => text(trim(body), &mut decoded),
    };
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    let text = text.filter(|text| text.bytes().all(is_token_byte));
    text.and_then(|text| Credential::try_from(text).ok())
        .ok_or(NO_TOKEN)
}

/// What a body says: a JSON string, an object's member `token`, else the body itself.
fn text<'t>(body: &'t [u8], decoded: &'t mut [u8]) -> Option<&'t str> {
    match body.first() {
        Some(b'{') => {
            json::validate(body).ok()?;
            let mut members = json::members(body)?;
            let (_, value) = members.find(|(key, _)| *key == b"\"token\"")?;
            json::unescape(value, decoded)
        }
        Some(b'"') => {
            json::validate(body).ok()?;
            json::unescape(body, decoded)
        }
        _ => core::str::from_utf8(body).ok(),
    }
}

/// `GET /session`.
pub fn who(context: &Context<'_>, out: &mut Writer<'_>) -> Result<Reply, Refusal> {
    write(context, out).map_err(too_small)?;
    Ok(Reply::fresh(JSON))
}

/// Writes who asks, and what that may do.
pub fn write(context: &Context<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    let nothing = Grant::default();
    let grant = context.hub.readers.grant(context.rights.reader);
    let grant = grant.unwrap_or(&nothing);
    let everything = ["#".to_owned()];
    let writable = match context.rights.is_local {
        true => &everything,
        false => &grant.write[..],
    };
    out.put(br#"{"name":"#)?;
    match &grant.name[..] {
        "" => out.put(b"null")?,
        name => json::string(name, out)?,
    }
    let lists: [(&[u8], &[String]); 2] = [
        (br#","read":["#, &grant.read),
        (br#"],"write":["#, writable),
    ];
    for (key, patterns) in lists {
        out.put(key)?;
        for (at, pattern) in patterns.iter().enumerate() {
            out.put::<[u8]>(if at > 0 { b"," } else { b"" })?;
            json::string(pattern, out)?;
        }
    }
    out.put(br#"],"until":"#)?;
    match grant.until_s {
        Some(until_s) => out.put_u64(until_s)?,
        None => out.put(b"null")?,
    }
    out.put(b"}")
}

/// `DELETE /session`.
pub fn sign_out() -> Reply {
    Reply {
        status: 204,
        content_type: "",
        fields: [
            NO_STORE,
            "Set-Cookie: encke=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict\r\n",
            "",
            "",
            "",
        ],
        rest: None,
    }
}
