//! Who may read and write what: the topics that each reader's patterns allow.
//!
//! A reader is a number: who has which is decided elsewhere, once for each request. Here its rights
//! are patterns, and the set of topics that they allow to be read, so that an audience, a listing
//! or a metric looks at one bit. It never knows a secret.

use super::audience::TopicSet;
use super::topic::Topics;
use crate::name;

/// Whose rights count, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct Reader {
    number: u8,
    by_script: bool,
}

impl Reader {
    /// Whoever is near and shows no token.
    pub const ANYBODY: Reader = Reader::numbered(0);
    /// Who may read nothing.
    pub const NOBODY: Reader = Reader::numbered(u8::MAX);

    const fn numbered(number: u8) -> Reader {
        Reader {
            number,
            by_script: false,
        }
    }

    /// Whoever shows the token with this number.
    pub fn token(at: usize) -> Reader {
        Reader::numbered(u8::try_from(at + 1).unwrap_or(u8::MAX))
    }

    /// The number of its token, if it has shown one.
    pub fn as_token(self) -> Option<usize> {
        match self.number {
            0 | u8::MAX => None,
            number => Some(usize::from(number) - 1),
        }
    }

    /// The same, asking by a script tag: it may read what any page may be told, and no more.
    pub fn by_script(self) -> Reader {
        Reader {
            by_script: true,
            ..self
        }
    }

    pub(super) fn bytes(self) -> [u8; 2] {
        [self.number, u8::from(self.by_script)]
    }
}

/// What a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Whose reading rights count.
    pub reader: Reader,
    /// Whether it writes as this machine's own programs do.
    pub is_local: bool,
}

impl Rights {
    /// None.
    pub const NONE: Rights = Rights {
        reader: Reader::NOBODY,
        is_local: false,
    };

    /// Whether there may be anything to write: it is local, or has a token.
    pub fn may_write(self) -> bool {
        self.is_local || self.reader.as_token().is_some()
    }

    /// Whether a topic of this name may be written by whom `grant` is for.
    ///
    /// # Errors
    /// Why not.
    pub fn check_write(self, grant: Option<&Grant>, topic: &str) -> Result<(), Unwritable> {
        match (self.reader.as_token(), grant) {
            _ if name::presence_base(topic).is_some() => Err(Unwritable::Presence),
            (Some(_), Some(grant)) if grant.writes(topic) => Ok(()),
            (Some(_), _) => Err(Unwritable::NotGranted),
            (None, _) if !self.is_local => Err(Unwritable::NotLocal),
            (None, _) if name::is_reserved(topic) => Err(Unwritable::Reserved),
            (None, _) => Ok(()),
        }
    }
}

/// Why a topic may not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritable {
    /// The token has no pattern for it.
    NotGranted,
    /// There is no token, and it is not this machine's own program that asks.
    NotLocal,
    /// It is one of the server's own, and there is no token.
    Reserved,
    /// It counts subscribers.
    Presence,
}

/// Whether these patterns are for reading topics of this name. Who is there is known to those who
/// may read what is said there, and to nobody else: of a presence topic its base alone counts.
pub fn may_read(patterns: &[String], topic: &str) -> bool {
    let mut base = topic;
    while let Some(below) = name::presence_base(base) {
        base = below;
    }
    patterns.iter().any(|pattern| name::matches(pattern, base))
}

/// What somebody may do, as the configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// The token's name; empty for whoever shows none.
    pub name: String,
    /// Patterns of the topics it may read.
    pub read: Vec<String>,
    /// Patterns of the topics it may write.
    pub write: Vec<String>,
    /// Seconds since 1970 at which it ends.
    pub until_s: Option<u64>,
}

impl Grant {
    /// Whether it is for reading topics of this name.
    pub fn reads(&self, topic: &str) -> bool {
        may_read(&self.read, topic)
    }

    fn writes(&self, topic: &str) -> bool {
        self.write
            .iter()
            .any(|pattern| name::matches(pattern, topic))
    }
}

#[derive(Clone, Debug)]
struct Row {
    grant: Grant,
    topics: TopicSet,
    /// Those of them that it may read by a script tag.
    by_script: TopicSet,
}

/// All readers but `NOBODY`.
#[derive(Clone, Debug)]
pub struct Readers {
    rows: Vec<Row>,
    /// Patterns of the topics that script tags may read.
    scripts: Vec<String>,
}

impl Readers {
    /// Readers with these grants, `ANYBODY` first, and what is theirs of the topics there are.
    pub fn new(
        grants: impl Iterator<Item = Grant>,
        scripts: &[String],
        topics: &Topics,
    ) -> Readers {
        let row = |grant| Row {
            grant,
            topics: TopicSet::EMPTY,
            by_script: TopicSet::EMPTY,
        };
        let mut readers = Readers {
            rows: grants.map(row).collect(),
            scripts: scripts.to_vec(),
        };
        for &slot in topics.by_name() {
            readers.match_topic(slot, Some(&topics.topic(slot).name));
        }
        readers
    }

    fn row(&self, reader: Reader) -> Option<&Row> {
        self.rows.get(usize::from(reader.number))
    }

    /// The topics that there are and it may read.
    pub fn topics(&self, reader: Reader) -> &TopicSet {
        match self.row(reader) {
            Some(row) if reader.by_script => &row.by_script,
            Some(row) => &row.topics,
            None => &TopicSet::EMPTY,
        }
    }

    /// What it may do; `None` for who may do nothing.
    pub fn grant(&self, reader: Reader) -> Option<&Grant> {
        self.row(reader).map(|row| &row.grant)
    }

    /// Whether it may read everything, whatever its name.
    pub fn reads_everything(&self, reader: Reader) -> bool {
        let all = |patterns: &[String]| patterns.iter().any(|pattern| pattern == "#");
        let scripts = !reader.by_script || all(&self.scripts);
        scripts && self.row(reader).is_some_and(|row| all(&row.grant.read))
    }

    /// Whether there is nothing it may read, whatever comes.
    pub fn reads_nothing(&self, reader: Reader) -> bool {
        let scripts = reader.by_script && self.scripts.is_empty();
        scripts || self.row(reader).is_none_or(|row| row.grant.read.is_empty())
    }

    /// A topic appears in a slot, or its slot is freed.
    pub(super) fn match_topic(&mut self, slot: u16, name: Option<&str>) {
        let is_open = name.is_some_and(|name| may_read(&self.scripts, name));
        for row in &mut self.rows {
            let reads = name.is_some_and(|name| row.grant.reads(name));
            row.topics.set(slot, reads);
            row.by_script.set(slot, reads && is_open);
        }
    }
}
