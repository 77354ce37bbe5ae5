//! A stream of bytes cut at an end mark: lines at a line feed, frames at a zero.
//!
//! Pure. A piece that came whole is not copied; one that came in parts is kept until its end, up to
//! a limit. A longer one is said to be so once, as soon as that is known, and skipped to its end:
//! the next piece is whole again.

use super::heading::Unfit;

/// The bytes since the last end mark.
#[derive(Debug)]
pub(super) struct Pieces {
    end: u8,
    bytes_max: usize,
    held: Vec<u8>,
    stage: Stage,
}

#[derive(Debug, PartialEq)]
enum Stage {
    /// What is held is the begin of a piece.
    Holding,
    /// What is held was handed out.
    Given,
    /// The piece is too long; its end has not come.
    Skipping,
}

impl Pieces {
    pub(super) fn new(end: u8, bytes_max: usize) -> Pieces {
        Pieces {
            end,
            bytes_max,
            held: Vec::new(),
            stage: Stage::Holding,
        }
    }

    /// The next whole piece of `chunk`, which is then cut behind it; `None` when it is used up.
    pub(super) fn next<'a, 'b: 'a>(
        &'a mut self,
        chunk: &mut &'b [u8],
    ) -> Option<Result<&'a [u8], Unfit>> {
        self.forget();
        while !chunk.is_empty() {
            let end = chunk.iter().position(|&byte| byte == self.end);
            let (piece, rest) = chunk.split_at(end.unwrap_or(chunk.len()));
            *chunk = rest.get(1..).unwrap_or_default();
            if self.stage == Stage::Skipping {
                if end.is_some() {
                    self.stage = Stage::Holding;
                }
                continue;
            }
            if self.held.len() + piece.len() > self.bytes_max {
                self.held.clear();
                if end.is_none() {
                    self.stage = Stage::Skipping;
                }
                return Some(Err(Unfit::Long(self.bytes_max)));
            }
            if end.is_some() && self.held.is_empty() {
                return Some(Ok(piece));
            }
            self.held.extend_from_slice(piece);
            if end.is_some() {
                self.stage = Stage::Given;
                return Some(Ok(&self.held));
            }
        }
        None
    }

    /// What stands behind the last end mark when nothing more will come.
    pub(super) fn finish(&mut self) -> Option<&[u8]> {
        self.forget();
        if self.stage == Stage::Skipping {
            self.stage = Stage::Holding;
        }
        let is_any = !self.held.is_empty();
        self.stage = if is_any { Stage::Given } else { Stage::Holding };
        is_any.then_some(&*self.held)
    }

    /// Drops what was handed out.
    fn forget(&mut self) {
        if self.stage == Stage::Given {
            self.held.clear();
            self.stage = Stage::Holding;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All pieces of a stream that comes in these chunks; `None` for one that is too long.
    fn cut<'a>(max: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Option<Vec<u8>>> {
        let mut pieces = Pieces::new(b'\n', max);
        let mut all = Vec::new();
        for mut chunk in chunks {
            while let Some(piece) = pieces.next(&mut chunk) {
                all.push(piece.ok().map(<[u8]>::to_vec));
            }
        }
        all.extend(pieces.finish().map(|piece| Some(piece.to_vec())));
        assert_eq!(pieces.finish(), None);
        all
    }

    fn texts(max: usize, chunks: &[&str]) -> Vec<String> {
        let text = |piece: Option<Vec<u8>>| {
            piece.map_or("too long".to_owned(), |bytes| {
                String::from_utf8(bytes).unwrap()
            })
        };
        let chunks = chunks.iter().map(|chunk| chunk.as_bytes());
        cut(max, chunks).into_iter().map(text).collect()
    }

    #[test]
    fn pieces_below_at_and_above_the_limit() {
        for (chunks, want) in [
            (&["a\nbb\n"][..], &["a", "bb"][..]),
            (&["a", "", "b\nc", "\n", "d"], &["ab", "c", "d"]),
            (&["\n\n"], &["", ""]),
            (&[""], &[]),
            (
                &["abc\nabcd\nabcde\nf\n"],
                &["abc", "abcd", "too long", "f"],
            ),
            (
                &["ab", "cd", "\n", "ab", "cde", "fg", "h\ni", "\n"],
                &["abcd", "too long", "i"],
            ),
            (&["abcde"], &["too long"]),
            (&["abcde", "f\n", "g"], &["too long", "g"]),
        ] {
            assert_eq!(texts(4, chunks), want, "{chunks:?}");
        }
    }

    proptest! {
        #[test]
        fn how_it_is_chunked_does_not_matter(
            text in "[ab\n]{0,60}",
            cuts in prop::collection::vec(0usize..60, 0..6),
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|at| at.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let chunks = cuts.windows(2).map(|ends| &text.as_bytes()[ends[0]..ends[1]]);
            let want: Vec<_> = text.split('\n').map(|line| {
                (line.len() <= 5).then(|| line.as_bytes().to_vec())
            }).collect();
            let is_open = !text.is_empty() && !text.ends_with('\n');
            let count = if is_open { want.len() } else { want.len() - 1 };
            prop_assert_eq!(&cut(5, chunks), &want[..count]);
        }
    }
}
