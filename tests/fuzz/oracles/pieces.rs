//! One input cut in pieces: whatever is read must come to the same however it arrives.

/// The input behind its first two bytes, which say how it is cut.
pub(crate) fn cuts(input: &[u8]) -> (&[u8], [Vec<&[u8]>; 4]) {
    let (seed, bytes) = input.split_at(input.len().min(2));
    let seed = seed
        .iter()
        .fold(1u32, |seed, byte| seed << 8 | u32::from(*byte));
    (bytes, ways(bytes, seed))
}

/// Whole, byte by byte, and in pieces of 1 to 16 bytes or of up to 256.
pub(crate) fn ways(bytes: &[u8], seed: u32) -> [Vec<&[u8]>; 4] {
    [
        vec![bytes],
        bytes.chunks(1).collect(),
        irregular(bytes, seed, 16),
        irregular(bytes, seed, 256),
    ]
}

fn irregular(mut bytes: &[u8], mut seed: u32, most: u32) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let len = bytes.len().min(1 + (seed >> 16) as usize % most as usize);
        let (piece, rest) = bytes.split_at(len);
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}
