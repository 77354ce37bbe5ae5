//! Where the values of a table's keys go: a row a key, with what the key takes.
//!
//! The rows of a table are an array on the stack, read by one function: no code is made per key,
//! which keeps the binary small. It never makes a key needed, and never looks at two keys at once.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::error::Fault;
use super::rule::{self, Number, Text};
use super::source::Format;
use super::tree::{Given, Item, Table};

/// A key's place in the plain structs. Ranges are of what stands in the file.
pub(super) enum Slot<'s> {
    /// A whole number from, to.
    Count(&'s mut u32, u32, u32),
    /// The same for bytes of memory.
    Bytes(&'s mut usize, u32, u32),
    /// The same for a key without default.
    CountIf(&'s mut Option<u32>, u32, u32),
    /// An odd whole number from 3 to 15.
    Odd(&'s mut Option<u32>),
    /// Any whole number that is not below 0.
    Whole(&'s mut Option<u64>),
    Number(&'s mut Option<f64>, &'static Number),
    /// Seconds in the file, whole or not, milliseconds here: from, to, in milliseconds.
    Seconds(&'s mut Option<u64>, u64, u64),
    Flag(&'s mut Option<bool>),
    Text(&'s mut Option<String>, &'static Text),
    Texts(&'s mut Vec<String>, &'static Text),
    Listen(&'s mut Vec<SocketAddr>),
    Path(&'s mut Option<PathBuf>, &'static Text),
    /// Permissions.
    Mode(&'s mut u32),
    Format(&'s mut Format),
    Sha256(&'s mut Option<[u8; 32]>),
    /// Seconds since 1970.
    Until(&'s mut Option<u64>),
    /// Read before.
    Known,
}

/// Puts every value of `table` into the slot of its key. A key without slot is a fault, which says
/// behind "the keys" `whose` they are.
pub(super) fn fill(table: &Table, whose: &str, slots: &mut [(&str, Slot)]) -> Result<(), Fault> {
    for entry in &table.entries {
        match slots.iter_mut().find(|(name, _)| *name == entry.key.name) {
            Some((_, slot)) => slot.set(&entry.item)?,
            None => {
                let known: Vec<&str> = slots.iter().map(|(name, _)| *name).collect();
                return Err(Fault::unknown(&entry.key, whose, &known));
            }
        }
    }
    Ok(())
}

impl Slot<'_> {
    fn set(&mut self, item: &Item) -> Result<(), Fault> {
        match self {
            Slot::Count(slot, min, max) => **slot = count(item, *min, *max)?,
            Slot::Bytes(slot, min, max) => **slot = count(item, *min, *max)? as usize,
            Slot::CountIf(slot, min, max) => **slot = Some(count(item, *min, *max)?),
            Slot::Odd(slot) => {
                let found = count(item, 3, 15).ok().filter(|n| n % 2 == 1);
                let wrong = || Fault::wrong(item, "an odd whole number from 3 to 15");
                **slot = Some(found.ok_or_else(wrong)?);
            }
            Slot::Whole(slot) => {
                let found = int(item).and_then(|value| u64::try_from(value).ok());
                let wrong = || Fault::wrong(item, "a whole number that is not below 0");
                **slot = Some(found.ok_or_else(wrong)?);
            }
            Slot::Number(slot, rule) => {
                let found = number(item).filter(|&value| (rule.is_right)(value));
                **slot = Some(found.ok_or_else(|| Fault::wrong(item, rule.right))?);
            }
            Slot::Seconds(slot, min, max) => **slot = Some(millis(item, *min, *max)?),
            Slot::Flag(slot) => match item.given {
                Given::Bool(value) => **slot = Some(value),
                _ => return Err(Fault::wrong(item, "true or false")),
            },
            Slot::Text(slot, rule) => **slot = Some(checked(item, rule)?),
            Slot::Path(slot, rule) => **slot = Some(checked(item, rule)?.into()),
            Slot::Texts(slot, rule) => {
                let items = list(item)?.iter();
                **slot = items
                    .map(|item| checked(item, rule))
                    .collect::<Result<_, _>>()?;
            }
            Slot::Listen(slot) => {
                let items = list(item)?.iter();
                **slot = items.map(address).collect::<Result<_, _>>()?;
            }
            Slot::Mode(slot) => {
                let wrong = || Fault::wrong(item, "three or four octal digits, as \"0660\"");
                **slot = text(item).and_then(rule::mode).ok_or_else(wrong)?;
            }
            Slot::Format(slot) => {
                **slot = match text(item) {
                    Some("text") => Format::Text,
                    Some("postcard") => Format::Postcard,
                    _ => return Err(Fault::wrong(item, "\"text\" or \"postcard\"")),
                }
            }
            Slot::Sha256(slot) => {
                // It is not shown: it may be the secret itself.
                let wrong = || {
                    let fix = "write the 64 hexadecimal digits that `encke token NAME` prints";
                    Fault::new(item.span.clone(), "invalid value: no SHA-256", fix)
                };
                **slot = Some(text(item).and_then(rule::sha256).ok_or_else(wrong)?);
            }
            Slot::Until(slot) => **slot = Some(until(item)?),
            Slot::Known => {}
        }
        Ok(())
    }
}

/// The items of a list.
fn list<'i, 'a>(item: &'i Item<'a>) -> Result<&'i [Item<'a>], Fault> {
    match &item.given {
        Given::List(items) => Ok(items),
        _ => Err(Fault::wrong(item, "a list, as [\"...\"]")),
    }
}

pub(super) fn text<'i>(item: &'i Item) -> Option<&'i str> {
    match &item.given {
        Given::Text(text) => Some(text),
        _ => None,
    }
}

fn checked(item: &Item, rule: &Text) -> Result<String, Fault> {
    let wrong = || Fault::wrong(item, &rule.right());
    text(item).and_then(rule.check).ok_or_else(wrong)
}

fn address(item: &Item) -> Result<SocketAddr, Fault> {
    let right = "an address and a port, as \"0.0.0.0:8080\" or \"[::]:8080\"";
    let wrong = || Fault::wrong(item, right);
    text(item).and_then(rule::listen).ok_or_else(wrong)
}

fn int(item: &Item) -> Option<i64> {
    match item.given {
        Given::Int(value) => Some(value),
        _ => None,
    }
}

fn number(item: &Item) -> Option<f64> {
    match item.given {
        Given::Int(value) => Some(value as f64),
        Given::Float(value) => Some(value),
        _ => None,
    }
}

fn count(item: &Item, min: u32, max: u32) -> Result<u32, Fault> {
    int(item)
        .and_then(|value| u32::try_from(value).ok())
        .filter(|value| (min..=max).contains(value))
        .ok_or_else(|| Fault::wrong(item, &format!("a whole number from {min} to {max}")))
}

fn millis(item: &Item, min: u64, max: u64) -> Result<u64, Fault> {
    let seconds = |millis: u64| millis as f64 / 1000.0;
    number(item)
        .filter(|value| (seconds(min)..=seconds(max)).contains(value))
        .map(|value| (value * 1000.0).round() as u64)
        .ok_or_else(|| {
            let right = format!("seconds from {} to {}", seconds(min), seconds(max));
            Fault::wrong(item, &right)
        })
}

/// The end of a token: a date (its last moment, UTC), a date with a time, or seconds since 1970.
fn until(item: &Item) -> Result<u64, Fault> {
    let end = match &item.given {
        Given::Int(seconds) => u64::try_from(*seconds).ok(),
        Given::Date(text) => rule::seconds(text),
        _ => None,
    };
    end.ok_or_else(|| {
        let right = "write a date as 2030-12-31 or 2030-12-31T23:59:59Z, without quotes";
        Fault::new(item.span.clone(), "invalid date", right)
    })
}
