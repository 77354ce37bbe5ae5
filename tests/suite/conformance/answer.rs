//! Answers, read by a second parser that forgives nothing, and what every answer must be (RFC 9110
//! sections 6.6.1, 8.6, 9.3.2 and 15; RFC 9112 sections 4 and 6).

use super::case::Wanted;

/// An answer, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Names in small letters, and values.
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    /// Whether only the end of the connection ends it.
    is_open: bool,
}

/// A line without its CRLF, and what stands behind it.
fn line(bytes: &[u8]) -> Result<Option<(&str, &[u8])>, String> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return Ok(None);
    };
    let text = core::str::from_utf8(&bytes[..end]).map_err(|error| error.to_string())?;
    match text.contains(|c: char| !matches!(c, '\t' | ' '..='~')) {
        true => Err(format!("a line holds a control: {text:?}")),
        false => Ok(Some((text, &bytes[end + 2..]))),
    }
}

impl Answer {
    /// Reads the answer that `bytes` begins with: it, and what stands behind it; none when it is
    /// not whole. `head` says whether it is one to HEAD, `ended` that there will be no more.
    pub(super) fn read(
        bytes: &[u8],
        head: bool,
        ended: bool,
    ) -> Result<Option<(Answer, &[u8])>, String> {
        let Some((start, mut rest)) = line(bytes)? else {
            return Ok(None);
        };
        let status = start
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3));
        let status = status.and_then(|digits| digits.parse().ok());
        let mut answer = Answer {
            status: status.ok_or(format!("no status line: {start:?}"))?,
            fields: Vec::new(),
            body: Vec::new(),
            is_open: false,
        };
        loop {
            let Some((text, behind)) = line(rest)? else {
                return Ok(None);
            };
            rest = behind;
            if text.is_empty() {
                break;
            }
            let (name, value) = text.split_once(": ").ok_or(format!("no field: {text:?}"))?;
            answer.fields.push((name.to_lowercase(), value.into()));
        }
        answer.read_body(rest, head, ended)
    }

    fn read_body(
        mut self,
        rest: &[u8],
        head: bool,
        ended: bool,
    ) -> Result<Option<(Answer, &[u8])>, String> {
        let (length, coding) = (
            self.field("content-length"),
            self.field("transfer-encoding"),
        );
        let has_none = self.status / 100 == 1 || matches!(self.status, 204 | 304);
        if has_none && (length.is_some() || coding.is_some()) {
            return Err(format!("{} speaks of a body", self.status));
        }
        if head || has_none {
            return Ok(Some((self, rest)));
        }
        match (length, coding) {
            (Some(_), Some(_)) => Err("two lengths".into()),
            (None, Some("chunked")) => self.read_chunks(rest),
            (None, Some(coding)) => Err(format!("a coding: {coding}")),
            (Some(length), None) => {
                let length = length.parse().map_err(|_| format!("a length: {length}"))?;
                let Some((body, rest)) = rest.split_at_checked(length) else {
                    return Ok(None);
                };
                self.body.extend_from_slice(body);
                Ok(Some((self, rest)))
            }
            (None, None) => {
                self.is_open = true;
                self.body.extend_from_slice(rest);
                Ok(ended.then_some((self, &[])))
            }
        }
    }

    fn read_chunks(mut self, mut rest: &[u8]) -> Result<Option<(Answer, &[u8])>, String> {
        loop {
            let Some((size, behind)) = line(rest)? else {
                return Ok(None);
            };
            let size = usize::from_str_radix(size, 16).map_err(|_| format!("a size: {size}"))?;
            let Some((data, behind)) = behind.split_at_checked(size) else {
                return Ok(None);
            };
            let Some((end, behind)) = behind.split_at_checked(2) else {
                return Ok(None);
            };
            if end != b"\r\n" {
                return Err("a chunk does not end where it should".into());
            }
            self.body.extend_from_slice(data);
            if size == 0 {
                return Ok(Some((self, behind)));
            }
            rest = behind;
        }
    }

    fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter().filter(|(is, _)| is == name);
        fields.next().map(|(_, value)| value.as_str())
    }

    /// Whether it is what is wanted, and what every answer must be.
    pub(super) fn check(&self, wanted: &Wanted) -> Result<(), String> {
        if self.status != wanted.status {
            return Err(format!("{} in the place of {}", self.status, wanted.status));
        }
        for (name, value) in &wanted.fields {
            if self.field(name) != Some(value.as_str()) {
                return Err(format!("{name} is {:?}", self.field(name)));
            }
        }
        if let Some(name) = wanted.absent.iter().find(|name| self.field(name).is_some()) {
            return Err(format!("there is {name}"));
        }
        let body = String::from_utf8_lossy(&self.body);
        if let Some(text) = wanted
            .texts
            .iter()
            .find(|text| !body.contains(text.as_str()))
        {
            return Err(format!("no {text:?} in {body:?}"));
        }
        let Some(keep) = wanted.keep else {
            return if self.fields.is_empty() {
                Ok(())
            } else {
                Err("an interim answer has fields".into())
            };
        };
        let mut names: Vec<&str> = self.fields.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let closes = self.field("connection") == Some("close");
        let rules = [
            (
                closes != keep,
                "it does not say whether the connection goes on",
            ),
            (!keep || !self.is_open, "nothing ends its body"),
            (self.field("date").is_some(), "no Date"),
            (
                self.status != 405 || self.field("allow").is_some(),
                "405 without Allow",
            ),
            (
                names.windows(2).all(|pair| pair[0] != pair[1]),
                "a field stands twice",
            ),
        ];
        let broken = rules.iter().find(|(holds, _)| !holds);
        broken.map_or(Ok(()), |(_, rule)| Err((*rule).into()))
    }
}
