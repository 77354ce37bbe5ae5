//! One peer's requests as a state machine: head, then body, then a plan for whoever answers it.
//!
//! Bytes in, one `Turn` out; `advance` is called until it says `More`. Framing follows RFC 9112
//! section 6, expectations RFC 9110 section 10.1.1. It owns no buffer, socket or clock, never reads
//! past the request in hand, and never goes on after bytes it could not frame.
//!
//! Clients ask the same again and again: a poll differs from its neighbour's in nothing, a program
//! posts with one head all day. So the last head understood is kept, byte for byte, with what it
//! came to; one that is equal is not read again. One of a GET and one of another method: polls and
//! what they wait for come in turns.

mod pieces;

use pieces::Pieces;

use crate::access::{Cors, Policy, Rights, Standing};
use crate::limits::{BODY_BYTES_MAX, HEAD_BYTES_MAX, MEMO_BYTES_MAX};
use crate::resource::condition::Condition;
use crate::resource::{self, Plan};
use crate::transport::{Framing as Dressing, Shape, jsonp};
use crate::wire::chunked::Decoder;
use crate::wire::request::{Framing, Head, HeadScan, Method, Version, is_head};
use crate::wire::{Quote, Refusal};

/// What an answer needs to know of its request.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The version to answer in.
    pub version: Version,
    /// Whether the body is left out.
    pub is_head: bool,
    /// Whether another request may follow.
    pub keep_alive: bool,
    /// What it may do.
    pub rights: Rights,
    /// What the browser of a page of another origin is told.
    pub cors: Cors,
    /// The owner of the address that a trusted proxy asks for; 0 for who is connected.
    pub owner: u64,
}

impl Asked {
    /// Before a head was understood: answer as to HTTP/1.1 and close.
    const NOTHING: Asked = Asked {
        version: Version::Http11,
        is_head: false,
        keep_alive: false,
        rights: Rights::NONE,
        cors: Cors::NONE,
        owner: 0,
    };
}

/// What a head came to, but for what is to be done.
#[derive(Clone, Copy, Debug)]
struct Understood {
    asked: Asked,
    framing: Framing,
    waits: bool,
    /// From where it came to that: from elsewhere it would come to something else.
    from: Standing,
}

/// The last heads understood, and which of them is that of the request in hand.
#[derive(Debug, Default)]
pub struct Memos {
    kept: [Memo; 2],
    in_hand: usize,
}

impl Memos {
    /// What the request in hand is to do.
    pub fn plan(&self) -> &Plan {
        &self.kept[self.in_hand].plan
    }

    /// Whether `input` is a head that is kept, from where it came before, and nothing behind it;
    /// then it is the one in hand. Never from where nobody has looked yet.
    pub fn recognise(&mut self, input: &[u8], from: Option<Standing>) -> bool {
        self.choose(input);
        let memo = &self.kept[self.in_hand];
        let kept = memo.understood.as_ref();
        let fits = |kept: &Understood| Some(kept.from) == from && kept.framing == Framing::None;
        kept.is_some_and(fits) && are_same(input, &memo.head)
    }

    /// How often the head in hand was another one before.
    pub fn edition(&self) -> (usize, u64) {
        (self.in_hand, self.kept[self.in_hand].edition)
    }

    fn choose(&mut self, input: &[u8]) -> &mut Memo {
        self.in_hand = usize::from(input.first() != Some(&b'G'));
        &mut self.kept[self.in_hand]
    }
}

/// As `==`, which in a static binary looks at one byte after the other.
fn are_same(a: &[u8], b: &[u8]) -> bool {
    match (a.last_chunk::<32>(), b.last_chunk::<32>()) {
        // The last bytes first: polls differ there, if anywhere, and what is left is whole chunks.
        (Some(a_end), Some(b_end)) if a.len() == b.len() => {
            let chunks = a.as_chunks::<32>().0.iter().zip(b.as_chunks::<32>().0);
            a_end == b_end && { chunks }.all(|(a, b)| a == b)
        }
        (None, None) => a == b,
        _ => false,
    }
}

/// A head, and what it came to.
#[derive(Debug)]
struct Memo {
    plan: Plan,
    /// The head's bytes; without `understood` they are not worth anything.
    head: heapless::Vec<u8, MEMO_BYTES_MAX>,
    understood: Option<Understood>,
    edition: u64,
}

impl Default for Memo {
    fn default() -> Memo {
        Memo {
            plan: Plan::Health,
            head: heapless::Vec::new(),
            understood: None,
            edition: 0,
        }
    }
}

impl Memo {
    /// What the head at the start of `input` came to, and its length, if it is the one kept, and
    /// comes from where that came from.
    fn recall(&self, input: &[u8], from: Standing) -> Option<(Understood, usize)> {
        let understood = self.understood.as_ref()?;
        let head = input.get(..self.head.len())?;
        let is_kept = understood.from == from && are_same(head, &self.head);
        is_kept.then_some((*understood, self.head.len()))
    }

    /// Reads a head, and keeps what it came to; what else it may be refused for besides what it is.
    fn learn(
        &mut self,
        bytes: &[u8],
        asked: &mut Asked,
        policy: &Policy,
        from: Standing,
    ) -> Result<(Understood, Option<Refusal>), Refusal> {
        self.understood = None;
        self.edition += 1;
        let head = Head::parse(bytes)?;
        *asked = Asked {
            version: head.version,
            is_head: head.method == Method::Head,
            keep_alive: head.wants_keep_alive(),
            rights: Rights::NONE,
            cors: policy.cors(&head),
            owner: policy.owner_behind(&head, from),
        };
        let mut understood = Understood {
            asked: *asked,
            framing: head.framing()?,
            waits: head.expects_continue()?,
            from,
        };
        match plan(&head, asked, policy, from) {
            Ok(plan) => self.plan = plan,
            Err(refusal) => return Ok((understood, Some(located(refusal, &head, bytes)))),
        }
        understood.asked = *asked;
        self.head.clear();
        // Whom a proxy asks for, is counted for each request.
        if from != Standing::Proxy && self.head.extend_from_slice(bytes).is_ok() {
            self.understood = Some(understood);
        }
        Ok((understood, None))
    }
}

/// A refusal that says where in the head that stands which it quotes: from where, how many bytes.
#[cold]
fn located(refusal: Refusal, head: &Head<'_>, bytes: &[u8]) -> Refusal {
    let quoted = match refusal.quote {
        Quote::Nothing => return refusal,
        Quote::Host => head.host,
        Quote::Origin => head.field("origin").unwrap_or_default(),
    };
    let from = quoted.as_ptr().addr().saturating_sub(bytes.as_ptr().addr());
    refusal.with([from as u64, quoted.len() as u64, 0])
}

/// What a request is to do, if it may.
fn plan(
    head: &Head<'_>,
    asked: &mut Asked,
    policy: &Policy,
    from: Standing,
) -> Result<Plan, Refusal> {
    let rights = policy.admit(head, from, resource::need(head));
    let rights = rights.map_err(|refusal| resource::challenge(head, refusal))?;
    asked.rights = rights;
    let mut plan = resource::plan(head)?;
    match &mut plan {
        Plan::Topic(name, _) | Plan::Picture(name, _) => policy.check_read(rights, name)?,
        Plan::Publish(name, _, when)
        | Plan::PublishPicture(name, _, when)
        | Plan::Forget(name, when) => {
            policy.check_write(rights, name)?;
            // Whether it is met says something about what is there.
            if *when != Condition::NONE {
                policy.check_read(rights, name)?;
            }
        }
        Plan::Subscribe(subscription) => {
            let wish = &mut subscription.wish;
            let framing = Dressing::of(wish.framing);
            wish.reader = rights.reader;
            // The heads of streams are nobody else's.
            if framing.row().shape == Shape::Answer {
                wish.head = asked.cors.number();
            }
            if framing.transport == jsonp::NUMBER {
                policy.check_scripts()?;
                wish.reader = rights.reader.by_script();
            }
            policy.check_frame(head, rights, &wish.callback, &subscription.opening.domain)?;
        }
        Plan::SignIn { is_secure, .. } => *is_secure = policy.is_secure(head, from),
        Plan::Options { preflight, .. }
            if head.field("access-control-request-method").is_some() =>
        {
            *preflight = policy.preflight_fields(asked.cors);
        }
        _ => {}
    }
    Ok(plan)
}

#[derive(Debug)]
enum State {
    /// Reading a head.
    Head,
    /// Reading a body: decoded bytes behind the head, raw ones behind those.
    Body { framing: Framing, decoder: Decoder },
    /// Handing a body on as it comes.
    Pieces(Pieces),
    /// A request is with whoever answers it.
    Asked,
}

/// One peer between its first byte and its answer.
#[derive(Debug)]
pub struct Connection {
    state: State,
    scan: HeadScan,
    head_bytes: usize,
    body_bytes: usize,
    /// Bytes of input there are.
    filled: usize,
    /// The request in hand.
    pub asked: Asked,
}

/// What the input amounts to.
#[derive(Debug)]
pub enum Turn {
    /// More input is wanted.
    More,
    /// The client waits for 100 before it sends the body; then call again.
    Continue,
    /// A body comes that is taken piece by piece, if at all: the memos have the plan. Call `admit`,
    /// or `abandon` and refuse.
    Admit,
    /// `body` is a piece of it; call `took_piece`.
    Piece,
    /// A request, whole but for the pieces there were: the memos have its plan, `body` says where
    /// its body is. Call `done` when it is answered.
    Request,
    /// A refusal to be answered. Unless `asked.keep_alive`, nothing after it is to be read.
    Refused(Refusal),
}

impl Default for Connection {
    fn default() -> Connection {
        Connection::new()
    }
}

impl Connection {
    /// Before the first byte.
    pub const fn new() -> Connection {
        Connection {
            state: State::Head,
            scan: HeadScan::new(),
            head_bytes: 0,
            body_bytes: 0,
            filled: 0,
            asked: Asked::NOTHING,
        }
    }

    /// Where input goes: behind what there is.
    pub fn spare<'b>(&self, input: &'b mut [u8]) -> &'b mut [u8] {
        &mut input[self.filled..]
    }

    /// So many bytes were put into `spare`.
    pub fn received(&mut self, bytes: usize) {
        self.filled += bytes;
    }

    /// Whether there is input that no request has used yet.
    pub fn has_input(&self) -> bool {
        self.filled > 0
    }

    /// Bytes of input that no request has used yet.
    pub fn input_bytes(&self) -> usize {
        self.filled
    }

    /// Whether a request has begun and is not answered.
    pub fn is_in_body(&self) -> bool {
        matches!(self.state, State::Body { .. } | State::Pieces(_))
    }

    /// The body of the request in hand.
    pub fn body<'b>(&self, input: &'b [u8]) -> &'b [u8] {
        &input[self.head_bytes..][..self.body_bytes]
    }

    /// The head of the request in hand.
    pub fn head<'b>(&self, input: &'b [u8]) -> &'b [u8] {
        &input[..self.head_bytes]
    }

    /// The request in hand was answered: what stands behind it comes to the front.
    pub fn done(&mut self, input: &mut [u8]) {
        let used = self.head_bytes + self.body_bytes;
        input.copy_within(used..self.filled, 0);
        *self = Connection {
            filled: self.filled - used,
            ..Connection::new()
        };
    }

    /// Goes on with what was received.
    pub fn advance(
        &mut self,
        input: &mut [u8],
        policy: &Policy,
        memos: &mut Memos,
        from: Standing,
    ) -> Turn {
        let memo = memos.choose(&input[..self.filled]);
        let turn = match self.state {
            State::Head if self.filled == 0 => Ok(Turn::More),
            State::Head => self.read_head(input, policy, memo, from),
            State::Body { .. } | State::Pieces(_) => self.late_body(input, policy, memo, from),
            State::Asked => Ok(Turn::More),
        };
        turn.unwrap_or_else(|refusal| {
            self.abandon(input);
            Turn::Refused(refusal)
        })
    }

    /// No more of this request is read, and none behind it: its answer is the last.
    #[cold]
    pub fn abandon(&mut self, input: &[u8]) {
        self.asked.keep_alive = false;
        self.asked.is_head |= is_head(&input[..self.filled]);
    }

    fn read_head(
        &mut self,
        input: &mut [u8],
        policy: &Policy,
        memo: &mut Memo,
        from: Standing,
    ) -> Result<Turn, Refusal> {
        if let Some((understood, head_bytes)) = memo.recall(&input[..self.filled], from) {
            (self.head_bytes, self.asked) = (head_bytes, understood.asked);
            return self.frame(input, &understood, None, memo.plan.takes_pieces());
        }
        let visible = self.filled.min(HEAD_BYTES_MAX + 1);
        let Some(head_bytes) = self.scan.find(&input[..visible])? else {
            return Ok(Turn::More);
        };
        self.head_bytes = head_bytes;
        let bytes = &input[..head_bytes];
        let (understood, refusal) = memo.learn(bytes, &mut self.asked, policy, from)?;
        self.frame(input, &understood, refusal, memo.plan.takes_pieces())
    }

    /// A head was understood: its body comes next.
    fn frame(
        &mut self,
        input: &mut [u8],
        understood: &Understood,
        refusal: Option<Refusal>,
        takes_pieces: bool,
    ) -> Result<Turn, Refusal> {
        let framing = understood.framing;
        if framing == Framing::None || framing == Framing::Length(0) {
            self.state = State::Asked;
            return Ok(refusal.map_or(Turn::Request, Turn::Refused));
        }
        // A refused request's body is not waited for: the connection closes behind the answer.
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        if takes_pieces {
            self.state = State::Pieces(Pieces::new(framing, understood.waits));
            return Ok(Turn::Admit);
        }
        if let Framing::Length(bytes) = framing
            && bytes > BODY_BYTES_MAX as u64
        {
            let numbers = [bytes, BODY_BYTES_MAX as u64, 0];
            return Err(
                Refusal::new(413, "the body has {} bytes, at most {} are taken").with(numbers),
            );
        }
        self.state = State::Body {
            framing,
            decoder: Decoder::new(),
        };
        if understood.waits && self.filled == self.head_bytes {
            return Ok(Turn::Continue);
        }
        self.collect(input)
    }

    /// A body that came behind its head: others have asked meanwhile, so the head is read again.
    #[cold]
    fn late_body(
        &mut self,
        input: &mut [u8],
        policy: &Policy,
        memo: &mut Memo,
        from: Standing,
    ) -> Result<Turn, Refusal> {
        let turn = match self.state {
            State::Pieces(_) => self.next_piece(input)?,
            _ => self.collect(input)?,
        };
        if !matches!(turn, Turn::Request) {
            return Ok(turn);
        }
        let head = &input[..self.head_bytes];
        let mut asked = self.asked;
        let refusal = match memo.recall(head, from) {
            Some((understood, _)) => {
                asked = understood.asked;
                None
            }
            None => memo.learn(head, &mut asked, policy, from)?.1,
        };
        // They may be others by now.
        (self.asked.rights, self.asked.cors) = (asked.rights, asked.cors);
        Ok(refusal.map_or(Turn::Request, Turn::Refused))
    }

    fn collect(&mut self, input: &mut [u8]) -> Result<Turn, Refusal> {
        let State::Body { framing, decoder } = &mut self.state else {
            return Ok(Turn::More);
        };
        let done = match framing {
            Framing::None => true,
            Framing::Length(bytes) => {
                let there = (self.filled - self.head_bytes) as u64;
                self.body_bytes = there.min(*bytes) as usize;
                there >= *bytes
            }
            Framing::Chunked => {
                let raw = self.head_bytes + self.body_bytes;
                let room = BODY_BYTES_MAX - self.body_bytes;
                let progress = decoder.decode(&mut input[raw..self.filled], room)?;
                input.copy_within(raw + progress.consumed..self.filled, raw + progress.decoded);
                self.filled -= progress.consumed - progress.decoded;
                self.body_bytes += progress.decoded;
                progress.done
            }
        };
        if !done {
            return Ok(Turn::More);
        }
        self.state = State::Asked;
        Ok(Turn::Request)
    }
}
