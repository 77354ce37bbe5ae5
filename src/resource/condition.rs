//! Preconditions: `If-Match` and `If-None-Match` (RFC 9110 sections 13.1.1, 13.1.2 and 13.2).
//!
//! A request is judged by its head, once for a target that exists and once for one that does not;
//! which of the two is known when the request is carried out, after everything else it could be
//! refused for by its head. Only the page has entity tags, so a listed tag names nothing else.
//! Malformed members of a list name nothing; `*` counts where it stands alone.
//!
//! What has nothing to decide here is not read: no resource has a modification date
//! (If-Modified-Since, If-Unmodified-Since: sections 13.1.3 and 13.1.4 say to ignore them), none is
//! sent in ranges (If-Range), OPTIONS selects no representation (section 13.2.1), and a stream or a
//! poll has none before it is asked for, so that If-None-Match never refuses one.

use super::{Plan, Reply};
use crate::hub::Hub;
use crate::wire::Refusal;
use crate::wire::request::Head;
use crate::wire::text::trim;

pub(super) const FAILED: Refusal =
    Refusal::new(412, "If-Match or If-None-Match is not true of what is here");

/// The entity tag of what has none: no member of a list is a space.
const NO_TAG: &str = " ";

/// What a request comes to by its preconditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is carried out.
    Met,
    /// The client has this already: 304.
    Unchanged,
    /// 412.
    Failed,
}

/// The verdict on a request, if its target exists and if it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    existing: Verdict,
    absent: Verdict,
}

impl Condition {
    /// What is met by everything.
    pub const NONE: Condition = Condition {
        existing: Verdict::Met,
        absent: Verdict::Met,
    };

    /// Reads the head of a request for what has this entity tag.
    fn of(head: &Head<'_>, tag: &str) -> Condition {
        let is_write = head.method.is_write();
        let absent = match head.field("if-match") {
            Some(_) => Verdict::Failed,
            None => Verdict::Met,
        };
        let existing = if absent != Verdict::Met && !names(head, "if-match", tag, b"") {
            Verdict::Failed
        } else if !names(head, "if-none-match", tag, b"W/") {
            Verdict::Met
        } else if is_write {
            Verdict::Failed
        } else {
            Verdict::Unchanged
        };
        Condition { existing, absent }
    }
}

/// Whether a field is `*` or lists `tag`, with or without `prefix` in front: `W/` is the mark of a
/// weak tag.
#[inline(never)]
fn names(head: &Head<'_>, field: &str, tag: &str, prefix: &[u8]) -> bool {
    head.fields(field).any(|list| {
        let mut members = list.split(|byte| *byte == b',').map(trim);
        list == b"*" || members.any(|m| m.strip_prefix(prefix).unwrap_or(m) == tag.as_bytes())
    })
}

/// What a plan becomes under the preconditions of its request.
///
/// # Errors
/// 412 where it is plain already that they are not met.
#[cold]
pub(super) fn apply(mut plan: Plan, head: &Head<'_>) -> Result<Plan, Refusal> {
    let tag = match plan {
        Plan::Asset { asset, gzip, .. } => asset.tag(gzip),
        _ => NO_TAG,
    };
    let condition = Condition::of(head, tag);
    match (&mut plan, condition.existing) {
        (Plan::Publish(_, _, when) | Plan::PublishPicture(_, _, when), _) => *when = condition,
        // It reads its own.
        (Plan::Picture(..), _) => {}
        // What is not there is 404, whatever else is asked.
        (Plan::Topic(_, when) | Plan::Forget(_, when), existing) => when.existing = existing,
        (_, Verdict::Failed) => return Err(FAILED),
        (_, Verdict::Met) | (Plan::Subscribe(_), _) => {}
        (Plan::Asset { unchanged, .. }, _) => *unchanged = true,
        (plan, _) => *plan = Plan::Unchanged,
    }
    Ok(plan)
}

/// The answer to a request about this topic, if its preconditions have one.
///
/// # Errors
/// 412 when they are not met.
#[cold]
pub(super) fn answer(when: Condition, hub: &Hub, topic: &str) -> Result<Option<Reply>, Refusal> {
    let verdict = match hub.find(topic) {
        Some(_) => when.existing,
        None => when.absent,
    };
    match verdict {
        Verdict::Met => Ok(None),
        Verdict::Unchanged => Ok(Some(unchanged())),
        Verdict::Failed => Err(FAILED),
    }
}

/// A 304 of what must not be cached.
#[cold]
#[inline(never)]
pub(super) fn unchanged() -> Reply {
    Reply::fresh("").unchanged()
}
