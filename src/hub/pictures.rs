//! Pictures: the newest one of a few topics, in memory that is set aside at start.
//!
//! Each picture topic has two plates, and one more is for a picture that is arriving, whatever its
//! topic: so an upload that breaks off leaves what was there as it was. A plate that is being sent
//! is pinned, by count, and never written; one that is neither the newest of its topic nor pinned
//! is free for the next. Nothing is copied: a picture is written where it is sent from. The store
//! knows no format and no peer; the log holds what points here.

use super::event::{Event, Seq, State};
use crate::limits::TOPIC_BYTES_MAX;

/// What a picture is, as its publisher said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `image/jpeg`.
    Jpeg,
    /// `image/png`.
    Png,
}

impl Kind {
    /// Its media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Kind::Jpeg => "image/jpeg",
            Kind::Png => "image/png",
        }
    }
}

/// The number of a plate: room for one picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plate(pub u16);

/// Why a picture is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has more bytes than a plate.
    TooLong,
    /// As many other topics have pictures as there may be.
    Full,
    /// The topic's pictures are still being sent, or others are still arriving.
    Busy,
}

/// What an event is, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// No picture.
    Plain,
    /// A picture that a newer one has replaced.
    Replaced,
    /// The newest picture of its topic.
    Newest(Plate),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Nobody's.
    Free,
    /// A picture is being written.
    Arriving,
    /// The picture that its topic shows.
    Newest,
    /// Replaced or forgotten, but still being sent.
    Leaving,
}

/// What is in a plate.
#[derive(Clone, Copy, Debug)]
struct Content {
    is: Use,
    /// The row of its topic.
    row: u16,
    pins: u32,
    kind: Kind,
    bytes: u32,
    seq: Seq,
}

impl Content {
    const NOTHING: Content = Content {
        is: Use::Free,
        row: 0,
        pins: 0,
        kind: Kind::Jpeg,
        bytes: 0,
        seq: 0,
    };
}

/// A picture, borrowed from its plate.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// As its publisher said.
    pub kind: Kind,
    /// The event that points to it.
    pub seq: Seq,
    /// As they came.
    pub bytes: &'a [u8],
}

/// All pictures.
#[derive(Debug, Default)]
pub struct Pictures {
    bytes: Vec<u8>,
    picture_bytes: usize,
    plates: Vec<Content>,
    /// The topics that have pictures, by name; an empty name is a free row.
    rows: Vec<heapless::String<TOPIC_BYTES_MAX>>,
}

impl Pictures {
    /// Room for the pictures of so many topics. Pages are not touched before they are used.
    pub fn new(topics: usize, picture_bytes: usize) -> Pictures {
        let plates = plates(topics);
        Pictures {
            bytes: vec![0; plates * picture_bytes],
            picture_bytes,
            plates: vec![Content::NOTHING; plates],
            rows: vec![heapless::String::new(); topics],
        }
    }

    /// Bytes held for the pictures of so many topics.
    pub fn memory_bytes(topics: usize, picture_bytes: usize) -> usize {
        plates(topics) * (picture_bytes + size_of::<Content>())
            + topics * size_of::<heapless::String<TOPIC_BYTES_MAX>>()
    }

    /// Bytes of the largest picture.
    pub fn picture_bytes(&self) -> usize {
        self.picture_bytes
    }

    /// How many topics may have pictures.
    pub fn topics(&self) -> usize {
        self.rows.len()
    }

    fn row(&self, topic: &str) -> Option<usize> {
        let mut rows = self.rows.iter();
        rows.position(|name| name == topic && !topic.is_empty())
    }

    fn content(&self, Plate(plate): Plate) -> &Content {
        &self.plates[usize::from(plate)]
    }

    fn content_mut(&mut self, Plate(plate): Plate) -> &mut Content {
        &mut self.plates[usize::from(plate)]
    }

    fn find(&self, wanted: impl Fn(&Content) -> bool) -> Option<Plate> {
        let found = self.plates.iter().position(wanted);
        found.map(|plate| Plate(plate as u16))
    }

    fn count(&self, wanted: impl Fn(&Content) -> bool) -> usize {
        self.plates.iter().filter(|content| wanted(content)).count()
    }

    /// Plates that are being written or sent.
    pub fn in_use(&self) -> usize {
        self.count(|content| content.pins > 0 || content.is == Use::Arriving)
    }

    /// A plate for a picture of `topic`, of so many bytes if that is known; give it back with
    /// `finish` or `cancel`.
    ///
    /// # Errors
    /// Why there is none.
    pub fn begin(&mut self, topic: &str, kind: Kind, bytes: Option<u64>) -> Result<Plate, Refused> {
        if bytes.is_some_and(|bytes| bytes > self.picture_bytes as u64) {
            return Err(Refused::TooLong);
        }
        let free_row = || self.rows.iter().position(|name| name.is_empty());
        let row = self.row(topic).or_else(free_row).ok_or(Refused::Full)?;
        let is_own = |content: &Content| content.is != Use::Free && usize::from(content.row) == row;
        let pinned = self.count(|content| is_own(content) && content.pins > 0);
        // Besides its two plates a topic may use the one for what is arriving.
        if pinned > 1 || self.count(is_own) > 2 {
            return Err(Refused::Busy);
        }
        let plate = self.find(|content| content.is == Use::Free);
        let plate = plate.ok_or(Refused::Busy)?;
        self.rows[row] = topic.try_into().map_err(|_| Refused::Full)?;
        *self.content_mut(plate) = Content {
            is: Use::Arriving,
            row: row as u16,
            kind,
            ..Content::NOTHING
        };
        Ok(plate)
    }

    /// Appends what has come of an arriving picture.
    ///
    /// # Errors
    /// The picture would be longer than a plate.
    pub fn append(&mut self, plate: Plate, piece: &[u8]) -> Result<(), Refused> {
        let filled = self.content(plate).bytes as usize;
        debug_assert!(self.content(plate).is == Use::Arriving);
        if filled + piece.len() > self.picture_bytes {
            return Err(Refused::TooLong);
        }
        let at = self.start(plate) + filled;
        self.bytes[at..at + piece.len()].copy_from_slice(piece);
        self.content_mut(plate).bytes += piece.len() as u32;
        Ok(())
    }

    /// Bytes of an arriving picture so far.
    pub fn arrived_bytes(&self, plate: Plate) -> usize {
        self.content(plate).bytes as usize
    }

    /// A picture has arrived, and this event points to it: it is the newest of its topic.
    pub fn finish(&mut self, plate: Plate, seq: Seq) {
        let row = self.content(plate).row;
        let old = self.find(|content| content.is == Use::Newest && content.row == row);
        if let Some(old) = old {
            self.content_mut(old).is = Use::Leaving;
            self.tidy(old);
        }
        let content = self.content_mut(plate);
        (content.is, content.seq) = (Use::Newest, seq);
    }

    /// An arriving picture does not come whole.
    pub fn cancel(&mut self, plate: Plate) {
        debug_assert!(self.content(plate).is == Use::Arriving);
        self.content_mut(plate).is = Use::Leaving;
        self.tidy(plate);
    }

    /// An event of `topic` was published.
    pub(super) fn note_event(&mut self, topic: &str, state: State) {
        if state == State::Gone && !self.rows.is_empty() {
            self.forget(topic);
        }
    }

    /// The topic shows no picture any more. One that is being sent is sent to its end.
    fn forget(&mut self, topic: &str) {
        let Some(row) = self.row(topic) else {
            return;
        };
        let is_shown = |c: &Content| c.is == Use::Newest && usize::from(c.row) == row;
        if let Some(plate) = self.find(is_shown) {
            self.content_mut(plate).is = Use::Leaving;
            self.tidy(plate);
        }
    }

    /// The plate of the picture that a topic shows.
    pub fn newest(&self, topic: &str) -> Option<Plate> {
        let row = self.row(topic)?;
        self.find(|content| content.is == Use::Newest && usize::from(content.row) == row)
    }

    /// The picture in a plate.
    pub fn picture(&self, plate: Plate) -> Picture<'_> {
        let content = self.content(plate);
        Picture {
            kind: content.kind,
            seq: content.seq,
            bytes: &self.bytes[self.start(plate)..][..content.bytes as usize],
        }
    }

    /// A picture is being sent, once more at the same time.
    pub fn pin(&mut self, plate: Plate) {
        self.content_mut(plate).pins += 1;
    }

    /// It is not being sent any more, by one of those who were.
    pub fn unpin(&mut self, plate: Plate) {
        self.content_mut(plate).pins -= 1;
        self.tidy(plate);
    }

    /// Whether an event points to a picture, and to one that can still be had.
    pub fn sight(&self, event: &Event<'_>) -> Sight {
        if !points_to_picture(event) {
            return Sight::Plain;
        }
        let name = core::str::from_utf8(event.topic_name()).unwrap_or_default();
        match self.newest(name) {
            Some(plate) if self.content(plate).seq == event.seq => Sight::Newest(plate),
            _ => Sight::Replaced,
        }
    }

    /// Frees a plate that nobody needs, and the row of a topic that has none left.
    fn tidy(&mut self, plate: Plate) {
        let content = self.content_mut(plate);
        if content.is != Use::Leaving || content.pins > 0 {
            return;
        }
        content.is = Use::Free;
        let row = content.row;
        if self.count(|content| content.is != Use::Free && content.row == row) == 0 {
            self.rows[usize::from(row)].clear();
        }
    }

    /// Where the bytes of a picture begin.
    fn start(&self, Plate(plate): Plate) -> usize {
        usize::from(plate) * self.picture_bytes
    }
}

/// What a picture's event begins with, between `"` the address and the id.
pub const VALUE_START: &[u8] = br#"{"image":"/pictures/"#;
/// What stands between the topic and the id in that.
pub const VALUE_ID: &[u8] = b"?id=";

/// Whether an event's value is that of a picture published with it: one that repeats an older value
/// is not.
fn points_to_picture(event: &Event<'_>) -> bool {
    let rest = event.value().strip_prefix(VALUE_START);
    let rest = rest.and_then(|rest| rest.strip_prefix(event.topic_name()));
    let rest = rest.and_then(|rest| rest.strip_prefix(VALUE_ID));
    rest.is_some_and(|rest| {
        rest.strip_prefix(event.id())
            .is_some_and(|r| r.starts_with(b"\""))
    })
}

const fn plates(topics: usize) -> usize {
    if topics == 0 { 0 } else { 2 * topics + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(pictures: &mut Pictures, topic: &str, seq: Seq, bytes: &[u8]) -> Plate {
        let plate = pictures.begin(topic, Kind::Png, None).unwrap();
        pictures.append(plate, bytes).unwrap();
        pictures.finish(plate, seq);
        plate
    }

    #[test]
    fn the_newest_replaces_the_one_before() {
        let mut pictures = Pictures::new(1, 8);
        assert_eq!(pictures.newest("cam"), None);
        put(&mut pictures, "cam", 1, b"one");
        let two = put(&mut pictures, "cam", 2, b"two");
        assert_eq!(pictures.newest("cam"), Some(two));
        assert_eq!(pictures.picture(two).bytes, b"two");
        for seq in 3..100 {
            put(&mut pictures, "cam", seq, b"again");
        }
    }

    #[test]
    fn a_pinned_plate_is_not_overwritten() {
        let mut pictures = Pictures::new(1, 8);
        let one = put(&mut pictures, "cam", 1, b"one");
        pictures.pin(one);
        for seq in 2..9 {
            put(&mut pictures, "cam", seq, b"others");
        }
        assert_eq!(pictures.picture(one).bytes, b"one");
        let newest = pictures.newest("cam").unwrap();
        assert_eq!(pictures.picture(newest).seq, 8);
        pictures.pin(newest);
        let busy = pictures.begin("cam", Kind::Png, None);
        assert_eq!(busy, Err(Refused::Busy));
        pictures.unpin(one);
        put(&mut pictures, "cam", 9, b"nine");
        pictures.unpin(newest);
        put(&mut pictures, "cam", 10, b"ten");
    }

    #[test]
    fn what_breaks_off_leaves_what_was_there() {
        let mut pictures = Pictures::new(1, 8);
        let one = put(&mut pictures, "cam", 1, b"one");
        let plate = pictures.begin("cam", Kind::Png, None).unwrap();
        pictures.append(plate, b"half").unwrap();
        pictures.cancel(plate);
        assert_eq!(pictures.newest("cam"), Some(one));
        assert_eq!(pictures.picture(one).bytes, b"one");
        // A topic of which nothing came is none.
        pictures.forget("cam");
        let plate = pictures.begin("other", Kind::Png, None).unwrap();
        pictures.cancel(plate);
        assert_eq!(pictures.rows, [""; 1]);
    }

    #[test]
    fn sizes_and_topics_at_and_above_their_limits() {
        let mut pictures = Pictures::new(2, 8);
        assert_eq!(
            pictures.begin("a", Kind::Png, Some(9)),
            Err(Refused::TooLong)
        );
        let plate = pictures.begin("a", Kind::Png, Some(8)).unwrap();
        pictures.append(plate, b"12345678").unwrap();
        assert_eq!(pictures.append(plate, b"9"), Err(Refused::TooLong));
        pictures.finish(plate, 1);
        let arriving = pictures.begin("b", Kind::Png, None).unwrap();
        assert_eq!(pictures.begin("c", Kind::Png, None), Err(Refused::Full));
        pictures.cancel(arriving);
        put(&mut pictures, "c", 2, b"c");
        assert_eq!(pictures.begin("b", Kind::Png, None), Err(Refused::Full));
        pictures.forget("a");
        put(&mut pictures, "b", 3, b"b");
        assert_eq!(
            Pictures::new(0, 8).begin("a", Kind::Png, None),
            Err(Refused::Full)
        );
    }

    #[test]
    fn uploads_at_once_end_in_the_order_of_their_ends() {
        let mut pictures = Pictures::new(1, 8);
        put(&mut pictures, "cam", 1, b"one");
        let first = pictures.begin("cam", Kind::Png, None).unwrap();
        let second = pictures.begin("cam", Kind::Jpeg, None).unwrap();
        assert_eq!(pictures.begin("cam", Kind::Png, None), Err(Refused::Busy));
        pictures.append(second, b"second").unwrap();
        pictures.finish(second, 2);
        pictures.append(first, b"first").unwrap();
        pictures.finish(first, 3);
        assert_eq!(pictures.newest("cam"), Some(first));
    }

    #[test]
    fn a_forgotten_picture_is_sent_to_its_end() {
        let mut pictures = Pictures::new(1, 8);
        let one = put(&mut pictures, "cam", 1, b"one");
        pictures.pin(one);
        pictures.forget("cam");
        assert_eq!(pictures.newest("cam"), None);
        assert_eq!(pictures.picture(one).bytes, b"one");
        // Its row is its topic's until then.
        assert_eq!(pictures.begin("b", Kind::Png, None), Err(Refused::Full));
        pictures.unpin(one);
        put(&mut pictures, "b", 2, b"b");
    }
}
