//! What rights do to connections: who may connect how often, who has to wait for the next try with
//! a token, signing in, and what becomes of everybody when rights change.
//!
//! It never decides who may do what: that is `access`.

use core::net::IpAddr;

use super::exchange::{Exchange, Rest};
use super::spans::Why;
use super::*;
use crate::access::{self, COOKIE, Reader, Standing, Validity, owner};
use crate::buffer::Writer;
use crate::connection::Turn;
use crate::resource::{Plan, session};
use crate::transport::Reason;
use crate::wire::response::{Length, NO_STORE};
use crate::wire::{Kind, Refusal};

/// What one that has too many connections is told; it needs no buffer.
pub const TOO_MANY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 97\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\
    Retry-After: 10\r\nConnection: close\r\n\r\n\
    this address has too many connections: close some, or raise per_address in [limits] of the board\n";

/// As `TOO_MANY`, for one behind a proxy.
pub(super) const TOO_MANY_BEHIND: Refusal = Refusal::new(
    503,
    "this address has too many connections: close some, or raise per_address in [limits] of the board",
)
.kind(Kind::Address);

const WAIT: Refusal = Refusal::new(
    429,
    "too many wrong tokens came from this address: try again after {} seconds",
)
.kind(Kind::Wait);

const TOO_LONG: Refusal = Refusal::new(
    500,
    "the patterns of this token do not fit an answer: take fewer in [[token]]",
);

/// While it is not known what time it is, it is asked again so soon whether a token has ended.
const REVIEW_MS: u64 = 5_000;
/// A clock may be set: ends are looked at no later than after this.
const REVIEW_MS_MAX: u64 = 60_000;

impl<O: Outlet> Peers<O> {
    /// What a peer's address says of its rights.
    #[inline]
    pub(super) fn standing(&mut self, slot: u32) -> Standing {
        match self.slots[slot].standing {
            Some(standing) => standing,
            None => self.find_standing(slot),
        }
    }

    #[cold]
    fn find_standing(&mut self, slot: u32) -> Standing {
        let address = self.outlet.peer(slot).address;
        let standing = self.settings.policy.standing(address);
        self.slots[slot].standing = Some(standing);
        standing
    }

    /// A slot for a peer that was accepted from this address, as `accept`.
    ///
    /// # Errors
    /// What it is to be told when there is no room for it.
    pub fn accept_from(&mut self, address: IpAddr) -> Result<u32, &'static [u8]> {
        let standing = self.settings.policy.standing(address);
        let owner = match standing {
            Standing::Near | Standing::Far => Some(owner(address)),
            Standing::Loopback | Standing::Proxy => None,
        };
        if let Some(owner) = owner
            && !self.make_room_for(owner)
        {
            self.note(Kind::Address, || address);
            return Err(TOO_MANY);
        }
        let Some(slot) = self.accept() else {
            self.note(Kind::Full, || address);
            return Err(TURNED_AWAY);
        };
        self.slots[slot].standing = Some(standing);
        if let Some(owner) = owner {
            self.owners.enter(slot, owner);
        }
        Ok(slot)
    }

    /// Whether an owner of addresses may have one more connection. Its longest idle one gives way.
    fn make_room_for(&mut self, owner: u64) -> bool {
        if self.owners.count(owner) < self.settings.policy.per_address {
            return true;
        }
        // One that has just come looks idle until it is read.
        let is_idle = |peers: &Self, slot: u32| {
            let just_came = matches!(peers.slots[slot].phase,
                Phase::Idle { since_ms } if since_ms == peers.now.ms);
            peers.owners.is(slot, owner) && peers.slots[slot].spill == NO_BUFFER && !just_came
        };
        let gives_way = self.first(List::CLOSING, is_idle);
        let Some(slot) = gives_way.or_else(|| self.first(List::IDLE, is_idle)) else {
            return false;
        };
        self.counters.evicted += 1;
        self.close(slot);
        true
    }

    /// Counts a refusal, and remembers whom it was for.
    #[cold]
    fn note(&mut self, kind: Kind, address: impl FnOnce() -> IpAddr) {
        self.counters.refusals[kind as usize] += 1;
        self.refused_last[kind as usize] = address();
    }

    /// Counts a refusal of what a peer asked.
    #[cold]
    pub(super) fn note_refusal(&mut self, slot: u32, refusal: &Refusal) {
        let kind = refusal.kind;
        self.counters.refusals[kind as usize] += 1;
        if !matches!(kind, Kind::Request | Kind::Slow | Kind::Full) {
            self.refused_last[kind as usize] = self.outlet.peer(slot).address;
        }
        if kind == Kind::Guess {
            let owner = self.owner_of(slot);
            self.guessers.note(owner, self.now.ms);
        }
    }

    /// The owner of the address that asks.
    fn owner_of(&mut self, slot: u32) -> u64 {
        let behind = match self.slots[slot].phase {
            Phase::Busy { exchange } => {
                self.exchanges[usize::from(exchange)].connection.asked.owner
            }
            _ => 0,
        };
        match behind {
            0 => owner(self.outlet.peer(slot).address),
            behind => behind,
        }
    }

    /// Whether whoever a proxy asks for has too many connections already.
    #[inline]
    pub(super) fn is_one_too_many(&mut self, slot: u32, exchange: u16) -> bool {
        let owner = self.exchanges[usize::from(exchange)].connection.asked.owner;
        owner != 0 && !self.count_behind(slot, owner)
    }

    /// Counts a proxy's connection for whom it asks; whether that is one of those it may have.
    #[cold]
    fn count_behind(&mut self, slot: u32, owner: u64) -> bool {
        if self.owners.is(slot, owner) {
            return true;
        }
        let has_room =
            self.owners.count(owner) < self.settings.policy.per_address || self.disown_idle(owner);
        match has_room {
            true => self.owners.enter(slot, owner),
            false => self.owners.leave(slot),
        }
        has_room
    }

    /// Finds a connection that a proxy keeps though this owner asks nothing by it now, and counts
    /// it for nobody; whether there was one.
    fn disown_idle(&mut self, owner: u64) -> bool {
        let is_its = |peers: &Self, slot| {
            let standing = peers.slots[slot].standing;
            standing == Some(Standing::Proxy) && peers.owners.is(slot, owner)
        };
        let idle = self.first(List::IDLE, is_its);
        let idle = idle.or_else(|| self.first(List::CLOSING, is_its));
        idle.inspect(|slot| self.owners.leave(*slot)).is_some()
    }

    /// Whoever was wrong too often learns nothing from a try before its time: not by success, not
    /// by what else is wrong, and not by being let go on. All is refused alike, and the connection
    /// closes.
    #[cold]
    pub(super) fn unless_it_must_wait(&mut self, slot: u32, exchange: u16, turn: Turn) -> Turn {
        let connection = &self.exchanges[usize::from(exchange)].connection;
        let has_token = connection.asked.rights.reader.as_token().is_some();
        let would_tell = match turn {
            Turn::More => has_token && connection.is_in_body(),
            Turn::Continue | Turn::Admit | Turn::Piece => has_token,
            Turn::Request => has_token || matches!(self.memos.plan(), Plan::SignIn { .. }),
            Turn::Refused(why) => has_token || matches!(why.kind, Kind::Guess | Kind::Token),
        };
        let owner = self.owner_of(slot);
        match self.guessers.wait_ms(owner, self.now.ms) {
            Some(wait_ms) if would_tell => {
                let connection = &mut self.exchanges[usize::from(exchange)].connection;
                connection.abandon(self.inputs.bytes(exchange));
                Turn::Refused(WAIT.with([wait_ms.div_ceil(1000), 0, 0]))
            }
            _ => turn,
        }
    }

    /// Whether what is asked with this reader's token may have to wait, so that it is to be looked
    /// at more closely.
    pub(super) fn may_have_to_wait(&self, reader: Reader) -> bool {
        reader.as_token().is_some() && !self.guessers.is_empty()
    }

    /// Keeps a token in a cookie, if it is one.
    #[cold]
    pub(super) fn sign_in(&mut self, slot: u32, exchange: u16) {
        let Plan::SignIn { kind, is_secure } = *self.memos.plan() else {
            return;
        };
        let entry = &mut self.exchanges[usize::from(exchange)];
        let body = entry.connection.body(self.inputs.bytes(exchange));
        let found = session::credential(body, kind).and_then(|credential| {
            let tokens = &self.settings.policy.tokens;
            access::find(credential.as_bytes(), tokens).map(|reader| (credential, reader))
        });
        let (credential, reader) = match found {
            Ok(found) => found,
            Err(refusal) => return self.refuse(slot, &refusal),
        };
        entry.connection.asked.rights.reader = reader;
        entry.connection.asked.rights.is_local = false;
        let rights = entry.connection.asked.rights;
        let secure = if is_secure || self.outlet.peer(slot).secure {
            "; Secure"
        } else {
            ""
        };
        let parts = [
            "Set-Cookie: ",
            COOKIE,
            "=",
            &credential,
            "; Path=/; Max-Age=34560000; HttpOnly; SameSite=Strict",
            secure,
            "\r\n",
        ];
        let mut fields = [NO_STORE, "", "", "", "", "", "", "", ""];
        fields[1..8].copy_from_slice(&parts);
        if kind == session::Form::Form {
            fields[8] = "Location: /?plain\r\n";
            return self.send_answer(slot, 303, "", Length::Bytes(0), &fields, 0, Rest::Nothing);
        }
        let mut scratch = core::mem::take(&mut self.scratch);
        let mut out = Writer::new(&mut scratch[RESPONSE_HEAD_BYTES_MAX..][..OUTPUT_BYTES_MAX]);
        let written = session::write(&self.context(rights), &mut out);
        let body_bytes = out.len();
        self.scratch = scratch;
        if written.is_err() {
            return self.refuse(slot, &TOO_LONG);
        }
        let length = Length::Bytes(body_bytes);
        self.send_answer(
            slot,
            200,
            crate::resource::JSON,
            length,
            &fields,
            body_bytes,
            Rest::Nothing,
        );
    }

    /// Other rights from now on: those of `policy`. A token is the same as before if its name and
    /// its secret are; then it keeps its number, and whoever shows it stays.
    #[cold]
    pub fn set_policy(&mut self, mut policy: Policy) {
        let old = core::mem::take(&mut self.settings.policy.tokens);
        policy.tokens = merged(old, core::mem::take(&mut policy.tokens));
        self.flush_all();
        let old = &self.settings.policy;
        if (&old.proxies, &old.links) != (&policy.proxies, &policy.links) {
            self.end_those_moved_away(&policy);
        }
        self.settings.policy = policy;
        for slot in 0..self.slots.end() {
            self.slots[slot].standing = None;
        }
        self.review_tokens();
        self.change_rights();
    }

    /// What the board is called, where its pages may connect to, and after how long without a word
    /// a viewer hears something, from now on: as in `Settings`.
    #[cold]
    pub fn set_manner(&mut self, board: String, push_host: String, heartbeat_ms: u64) {
        self.settings.board = board;
        if self.settings.push_host != push_host {
            // Some bytes for each time that somebody changes it.
            self.settings.push_host = push_host.leak();
        }
        self.settings.heartbeat_ms = heartbeat_ms;
        let due_ms = self.now.ms + heartbeat_ms;
        for index in 0..self.hub.audiences.end() {
            let audience = self.hub.audiences.audience_mut(index);
            if audience.heartbeat_ms != u64::MAX {
                audience.heartbeat_ms = audience.heartbeat_ms.min(due_ms);
            }
        }
        self.wake_by(due_ms);
    }

    /// Networks that are on-link from now on.
    #[cold]
    pub fn set_links(&mut self, links: Vec<access::Network>) {
        if self.settings.policy.links != links {
            let policy = self.settings.policy.clone();
            self.set_policy(Policy { links, ..policy });
        }
    }

    /// Who may do what.
    pub fn policy(&self) -> &Policy {
        &self.settings.policy
    }

    /// Looks whether the time of a token has come.
    pub(super) fn review(&mut self) {
        if self.review_tokens() {
            self.flush_all();
            self.change_rights();
        }
    }

    /// Whether any token is worth something else than before.
    fn review_tokens(&mut self) -> bool {
        let time = self.now.time;
        let mut has_changed = false;
        self.review_ms = u64::MAX;
        for token in &mut self.settings.policy.tokens {
            let validity = token.at(time);
            has_changed |= core::mem::replace(&mut token.validity, validity) != validity;
            let wait_ms = match (validity, token.grant.until_s, time) {
                (Validity::Untimed, ..) => REVIEW_MS,
                (Validity::Valid | Validity::Ended, Some(until_s), Time::Wall(ms)) => {
                    let left_ms = until_s.saturating_mul(1000).saturating_sub(ms);
                    if left_ms == 0 {
                        REVIEW_MS_MAX
                    } else {
                        left_ms.min(REVIEW_MS_MAX)
                    }
                }
                _ => continue,
            };
            self.review_ms = self.review_ms.min(self.now.ms + wait_ms);
        }
        self.wake_by(self.review_ms);
        has_changed
    }

    /// Rights are others than before: nothing that was decided by the old ones counts any more.
    fn change_rights(&mut self) {
        self.memos = Memos::default();
        self.held = None;
        let policy = &self.settings.policy;
        self.hub.set_readers(policy.grants(), &policy.jsonp);
        self.note_presence();
        self.run_forget();
        for index in 0..self.hub.audiences.end() {
            if !self.hub.audiences.is_used(index) {
                continue;
            }
            // Polls ask again and are told then.
            if self.shape(index) == Shape::Answer && self.reads_nothing(index) {
                self.expire_polls(index, u64::MAX);
            }
        }
        for slot in 0..self.slots.end() {
            if let Some((audience, ..)) = self.slots[slot].phase.viewer()
                && self.reads_nothing(audience)
            {
                self.end_viewer(slot, audience, Why::Busy(Reason::Token));
            }
        }
        self.cut_answers();
    }

    /// Whether the members of an audience may read nothing any more.
    fn reads_nothing(&self, audience: u32) -> bool {
        let reader = self.hub.audiences.audience(audience).wish.reader;
        self.hub.readers.reads_nothing(reader)
    }

    /// Whoever was near and is not by another policy is no longer served as somebody near.
    fn end_those_moved_away(&mut self, policy: &Policy) {
        for slot in 0..self.slots.end() {
            if matches!(self.slots[slot].phase, Phase::Free) {
                continue;
            }
            let (before, address) = (self.standing(slot), self.outlet.peer(slot).address);
            let after = policy.standing(address);
            if before != after && matches!(after, Standing::Far | Standing::Proxy) {
                self.end_as_anybody(slot);
            }
        }
    }

    /// Ends what a peer is being given without a token.
    fn end_as_anybody(&mut self, slot: u32) {
        let phase = self.slots[slot].phase;
        let held = match phase {
            Phase::Poll { audience, .. } => Some(audience),
            Phase::Busy { exchange } => {
                let Exchange {
                    connection, rest, ..
                } = &self.exchanges[usize::from(exchange)];
                let is_its = connection.asked.rights.reader == Reader::ANYBODY;
                if is_its && !matches!(rest, Rest::Nothing) {
                    self.close(slot);
                }
                return;
            }
            phase => phase.viewer().map(|(audience, ..)| audience),
        };
        let Some(audience) = held else {
            return;
        };
        let reader = self.hub.audiences.audience(audience).wish.reader;
        if reader.as_token().is_some() {
            return;
        }
        match phase {
            Phase::Poll { .. } => self.expire_poll(slot),
            _ => self.end_viewer(slot, audience, Why::Busy(Reason::Token)),
        }
    }

    /// Long answers that were begun with rights that are gone end where they are; others go on
    /// within what is left of theirs.
    fn cut_answers(&mut self) {
        let mut slot = self.slots.first(List::BUSY);
        while slot != NOBODY {
            let next = self.slots.next(slot);
            if let Phase::Busy { exchange } = self.slots[slot].phase {
                let entry = &mut self.exchanges[usize::from(exchange)];
                let reader = entry.connection.asked.rights.reader;
                let is_long = !matches!(entry.rest, Rest::Nothing);
                if let Rest::Events(events) = &mut entry.rest {
                    events.set.keep(self.hub.readers.topics(reader));
                }
                if is_long && self.hub.readers.reads_nothing(reader) {
                    self.close(slot);
                }
            }
            slot = next;
        }
    }
}

/// The tokens of `new`, each where it was in `old`; what is in `old` alone counts no longer.
fn merged(old: Vec<access::Token>, mut new: Vec<access::Token>) -> Vec<access::Token> {
    let mut rows: Vec<_> = old
        .into_iter()
        .map(|token| {
            let same = |other: &access::Token| {
                other.grant.name == token.grant.name && other.sha256 == token.sha256
            };
            match new.iter().position(same) {
                Some(at) => (new.remove(at), false),
                None => {
                    let was_free = token.validity == Validity::Removed;
                    let validity = Validity::Removed;
                    (access::Token { validity, ..token }, was_free)
                }
            }
        })
        .collect();
    for token in new {
        // A place that was left just now may still be spoken of.
        match rows.iter_mut().find(|(_, is_free)| *is_free) {
            Some(row) => *row = (token, false),
            None => rows.push((token, false)),
        }
    }
    rows.into_iter().map(|(token, _)| token).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Token;

    #[test]
    fn one_with_too_many_connections_is_told_so_in_whole() {
        let text = core::str::from_utf8(TOO_MANY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        assert_eq!(body.trim_end(), TOO_MANY_BEHIND.reason);
    }

    #[test]
    fn a_token_keeps_its_number() {
        let token = |name: &str, hash| Token {
            grant: access::Grant {
                name: name.to_owned(),
                ..access::Grant::default()
            },
            sha256: [hash; 32],
            validity: Validity::Valid,
        };
        let names = |tokens: &[Token]| {
            let row = |token: &Token| match token.validity {
                Validity::Removed => format!("-{}", token.grant.name),
                _ => token.grant.name.clone(),
            };
            tokens.iter().map(row).collect::<Vec<_>>().join(" ")
        };
        let tokens = merged(Vec::new(), vec![token("a", 1), token("b", 2)]);
        assert_eq!(names(&tokens), "a b");
        let tokens = merged(tokens, vec![token("c", 3), token("b", 2)]);
        assert_eq!(names(&tokens), "-a b c");
        // Another secret is another token.
        let tokens = merged(tokens, vec![token("c", 4), token("d", 5)]);
        assert_eq!(names(&tokens), "c -b -c d");
    }
}
