//! `Writer`: text put into a lent slice, all or nothing. It never grows, allocates or panics on a
//! full slice: `Full` is flow control, not an error.

/// There is no room; nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// `00` to `99`: numbers stand in every event, and two digits for a division is half as many.
static DIGIT_PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut value = 0;
    while value < 100 {
        pairs[value] = [b'0' + (value / 10) as u8, b'0' + (value % 10) as u8];
        value += 1;
    }
    pairs
};

/// What a `Writer` appends: bytes of a known number where the compiler knows it, for then they are
/// as good as one or two stores, or any bytes.
pub trait Text {
    /// Appends it.
    fn append(&self, out: &mut Writer<'_>) -> Result<(), Full>;
}

impl<const N: usize> Text for [u8; N] {
    #[inline]
    fn append(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        if N > 16 {
            return out.put_slice(self);
        }
        let end = out.len + N;
        let room = out.bytes.get_mut(out.len..end).ok_or(Full)?;
        room.copy_from_slice(self);
        out.len = end;
        Ok(())
    }
}

impl Text for [u8] {
    #[inline]
    fn append(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        out.put_slice(self)
    }
}

/// Copies the first `N` bytes and the last `N`, which may overlap.
#[inline]
fn copy_ends<const N: usize>(to: &mut [u8], from: &[u8]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk::<N>()) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<N>(), from.last_chunk::<N>()) {
        *to = *from;
    }
}

/// Appends to a lent slice. Each `put` writes everything or, when there is no room, nothing.
#[derive(Debug)]
pub struct Writer<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    /// An empty writer over `bytes`.
    pub fn new(bytes: &'a mut [u8]) -> Writer<'a> {
        Writer { bytes, len: 0 }
    }

    /// A writer that goes on behind the first `len` bytes, which it keeps.
    pub fn resume(bytes: &'a mut [u8], len: usize) -> Writer<'a> {
        assert!(len <= bytes.len(), "a writer resumes inside its slice");
        Writer { bytes, len }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        self.bytes.len() - self.len
    }

    /// What was written.
    pub fn written(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Takes back everything behind `len`.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Lets `fill` write into the room there is; it answers how many bytes it wrote, or that they
    /// do not fit.
    pub fn put_with(
        &mut self,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, Full>,
    ) -> Result<(), Full> {
        let room = &mut self.bytes[self.len..];
        let len = fill(room)?;
        assert!(len <= room.len(), "what was written is in the room");
        self.len += len;
        Ok(())
    }

    /// Appends `text`.
    #[inline]
    pub fn put<T: Text + ?Sized>(&mut self, text: &T) -> Result<(), Full> {
        text.append(self)
    }

    /// Most texts are short, and of those a static binary's memcpy takes byte after byte: they are
    /// copied here.
    #[inline(never)]
    fn put_slice(&mut self, text: &[u8]) -> Result<(), Full> {
        let bytes = text.len();
        let end = self.len + bytes;
        let room = self.bytes.get_mut(self.len..end).ok_or(Full)?;
        if bytes > 64 {
            return self.put_long(text);
        } else if bytes >= 32 {
            copy_ends::<32>(room, text);
        } else if bytes >= 16 {
            copy_ends::<16>(room, text);
        } else if bytes >= 8 {
            copy_ends::<8>(room, text);
        } else if bytes >= 4 {
            copy_ends::<4>(room, text);
        } else if bytes >= 2 {
            copy_ends::<2>(room, text);
        } else if bytes == 1 {
            room[0] = text[0];
        }
        self.len = end;
        Ok(())
    }

    #[inline(never)]
    fn put_long(&mut self, text: &[u8]) -> Result<(), Full> {
        let end = self.len + text.len();
        let room = self.bytes.get_mut(self.len..end).ok_or(Full)?;
        room.copy_from_slice(text);
        self.len = end;
        Ok(())
    }

    /// Appends each of `parts`, or none.
    pub fn put_all(&mut self, parts: &[&[u8]]) -> Result<(), Full> {
        let start = self.len;
        for part in parts {
            if self.put_slice(part).is_err() {
                self.len = start;
                return Err(Full);
            }
        }
        Ok(())
    }

    /// Appends what `write` appends, or nothing.
    pub fn whole<E>(
        &mut self,
        write: impl FnOnce(&mut Writer<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.len;
        write(self).inspect_err(|_| self.len = start)
    }

    /// Takes `count` bytes out at `at`; what stands behind moves down.
    pub fn remove(&mut self, at: usize, count: usize) {
        self.bytes.copy_within(at + count..self.len, at);
        self.len -= count;
    }

    /// Overwrites bytes already written at `at`.
    pub fn set(&mut self, at: usize, text: &[u8]) {
        self.bytes[..self.len][at..at + text.len()].copy_from_slice(text);
    }

    /// Appends `value` in decimal.
    pub fn put_u64(&mut self, mut value: u64) -> Result<(), Full> {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        while value >= 100 {
            let pair = DIGIT_PAIRS[(value % 100) as usize];
            value /= 100;
            at -= 2;
            [digits[at], digits[at + 1]] = pair;
        }
        let [ten, one] = DIGIT_PAIRS[value as usize];
        at -= 1;
        digits[at] = one;
        if ten != b'0' {
            at -= 1;
            digits[at] = ten;
        }
        self.put(&digits[at..])
    }

    /// Appends `value` in lower-case hexadecimal: a chunk size.
    pub fn put_hex(&mut self, value: u64) -> Result<(), Full> {
        self.put_radix(value, 16)
    }

    /// Appends `value` in a radix of 2 to 36, lower case.
    pub fn put_radix(&mut self, mut value: u64, radix: u64) -> Result<(), Full> {
        let mut digits = [0u8; 64];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b"0123456789abcdefghijklmnopqrstuvwxyz"[(value % radix) as usize];
            value /= radix;
            if value == 0 {
                return self.put(&digits[at..]);
            }
        }
    }
}

/// So that `write!` works where speed does not matter.
impl core::fmt::Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.put(text.as_bytes()).map_err(|Full| core::fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn puts_all_or_nothing() {
        let mut bytes = [0; 5];
        let mut out = Writer::new(&mut bytes);
        assert_eq!(out.put(b"abc"), Ok(()));
        assert_eq!(out.put(b"def"), Err(Full));
        assert_eq!(out.put_all(&[b"d", b"ef"]), Err(Full));
        assert_eq!(out.put_u64(42), Ok(()));
        assert_eq!(out.written(), b"abc42");
        assert_eq!(out.room(), 0);
    }

    #[test]
    fn numbers_in_each_radix() {
        let mut bytes = [0; 80];
        for value in [0, 9, 10, 99, 100, 101, 12_345, u64::MAX] {
            let mut out = Writer::new(&mut bytes);
            out.put_u64(value).unwrap();
            assert_eq!(out.written(), value.to_string().as_bytes());
        }
        let mut out = Writer::new(&mut bytes);
        out.put_u64(0).unwrap();
        out.put_hex(255).unwrap();
        out.put_radix(u64::MAX, 36).unwrap();
        assert_eq!(out.written(), b"0ff3w5e11264sgsf");
    }
}
