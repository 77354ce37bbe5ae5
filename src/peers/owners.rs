//! How many connections each owner of addresses has (`access::owner`).
//!
//! Only those are counted that a limit is for; of others nothing is kept, and no memory touched.

/// Who has how many.
#[derive(Debug)]
pub(super) struct Owners {
    /// By slot: one more than the row of its owner; 0 for one that is not counted.
    of: Vec<u32>,
    /// An owner and its connections; a row with none is free.
    rows: Vec<(u64, u32)>,
}

impl Owners {
    pub(super) fn new(slots: usize) -> Owners {
        Owners {
            of: vec![0; slots],
            rows: Vec::with_capacity(slots),
        }
    }

    /// Bytes for one more slot.
    pub(super) const fn memory_bytes() -> usize {
        size_of::<u32>() + size_of::<(u64, u32)>()
    }

    /// The connections of an owner.
    pub(super) fn count(&self, owner: u64) -> u32 {
        let mut rows = self.rows.iter();
        { rows.find(|row| row.0 == owner) }.map_or(0, |row| row.1)
    }

    /// Whether a slot is counted for this owner.
    pub(super) fn is(&self, slot: u32, owner: u64) -> bool {
        let row = (self.of[slot as usize] as usize).checked_sub(1);
        row.is_some_and(|row| self.rows[row].0 == owner)
    }

    /// Counts a slot for an owner, and for nobody else any more.
    pub(super) fn enter(&mut self, slot: u32, owner: u64) {
        self.leave(slot);
        let own = self.rows.iter().position(|row| row.0 == owner && row.1 > 0);
        let row = own.or_else(|| self.rows.iter().position(|row| row.1 == 0));
        let row = row.unwrap_or_else(|| {
            self.rows.push((owner, 0));
            self.rows.len() - 1
        });
        self.rows[row] = (owner, self.rows[row].1 + 1);
        self.of[slot as usize] = row as u32 + 1;
    }

    /// Counts a slot no longer.
    #[inline]
    pub(super) fn leave(&mut self, slot: u32) {
        // Looked at first: a page that was never written stays so.
        if self.of[slot as usize] > 0 {
            let row = core::mem::take(&mut self.of[slot as usize]) as usize - 1;
            self.rows[row].1 -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_owner() {
        let mut owners = Owners::new(4);
        for (slot, owner) in [(0, 7), (1, 8), (2, 7), (2, 7)] {
            owners.enter(slot, owner);
        }
        assert_eq!([7, 8, 9].map(|owner| owners.count(owner)), [2, 1, 0]);
        assert!(owners.is(2, 7) && !owners.is(1, 7) && !owners.is(3, 7));
        owners.enter(2, 8);
        owners.leave(0);
        owners.leave(0);
        owners.leave(3);
        assert_eq!([7, 8].map(|owner| owners.count(owner)), [0, 2]);
        owners.enter(0, 9);
        assert_eq!([7, 8, 9].map(|owner| owners.count(owner)), [0, 2, 1]);
        assert_eq!(owners.rows.len(), 2);
    }
}
