//! What the limits cost: the bytes that peers and their hub take when everything is used to the
//! full. It sets nothing aside itself.

use super::SPILL_BYTES;
use super::exchange::Exchange;
use super::owners::Owners;
use super::pictures::Showings;
use super::slots::Slots;
use super::spans::Due;
use super::spills;
use super::websocket::Talk;
use crate::hub::audience::Audiences;
use crate::hub::pictures::Pictures;
use crate::limits::INPUT_BYTES_MAX;

/// What one limit costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The limit's key, or what cannot be set.
    pub name: &'static str,
    /// How many there can be.
    pub count: u64,
    /// Bytes when all of them are used to the full.
    pub bytes: u64,
}

/// How many of each thing there may be, as `[limits]` of the configuration says.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams and held polls.
    pub viewers: u32,
    /// Slots for others, and buffers for requests.
    pub pages: u32,
    /// Topics.
    pub topics: u32,
    /// Bytes of the ring.
    pub ring_bytes: usize,
    /// Topics with pictures.
    pub pictures: u32,
    /// Bytes of the largest picture.
    pub picture_bytes: usize,
}

/// What is set aside for `limits`.
pub fn memory(limits: Limits) -> [Cost; 6] {
    // Each slot may stand once on the queue.
    let (slot, lists) = Slots::memory_bytes();
    let slot = slot
        + size_of::<u32>()
        + size_of::<Due>()
        + size_of::<Talk>()
        + size_of::<u64>()
        + Owners::memory_bytes()
        + Showings::memory_bytes();
    let audience = Audiences::memory_bytes(1) + lists;
    let page = slot + INPUT_BYTES_MAX + size_of::<Exchange>();
    let topic = crate::hub::topic::Topics::memory_bytes(1);
    let ring_bytes = crate::hub::log::Log::memory_bytes(limits.ring_bytes) as u64;
    let picture_bytes = Pictures::memory_bytes(limits.pictures as usize, limits.picture_bytes);
    let cost = |name, count, each: usize| Cost {
        name,
        count,
        bytes: count * each as u64,
    };
    [
        cost("viewers", limits.viewers.into(), slot + audience),
        cost("pages", limits.pages.into(), page),
        cost("topics", limits.topics.into(), topic),
        Cost {
            name: "ring_bytes",
            count: limits.ring_bytes as u64,
            bytes: ring_bytes,
        },
        Cost {
            name: "pictures",
            count: limits.pictures.into(),
            bytes: picture_bytes as u64,
        },
        cost("unsent answers", spills(limits.viewers).into(), SPILL_BYTES),
    ]
}
