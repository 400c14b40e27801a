//! The scripts that the code runs in Redis.

use super::{Entry, Id, Meta, Redis};
use crate::{
    postgres::Known,
    variant::Variant,
    viewers::{Viewer, Viewers},
};

/// What `settle.lua` is given.
#[derive(Debug, Clone, Copy)]
pub struct Settlement<'a> {
    /// The entries that name the post.
    pub entries: &'a [Entry],
    /// The count in PostgreSQL.
    pub count: Counted,
    /// Whether no increment of `recorded` can be on its way any more.
    pub is_final: bool,
}

/// What a statement that stores pairs says of the post's count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Counted {
    /// What it is now.
    pub views: i8,
    /// What it was before.
    pub before: i8,
}

/// What `settle.lua` replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// All of the entries are settled.
    Done,
    /// Those up to this one were settled before, and nothing is changed.
    UpTo(Id),
    /// More pairs than were recorded: an increment is on its way, or was lost. Nothing is changed.
    Short,
}

impl Redis {
    /// `forget.lua`.
    pub fn forget(&mut self, viewer: Viewer) {
        if !self.set.has(viewer) {
            return;
        }
        self.set.remove(viewer);
        if let Some(meta) = &mut self.meta {
            meta.recorded -= 1;
            meta.acked -= 1;
        }
    }

    /// `hydrate.lua` in its `read` mode.
    pub fn hydrate_for_read(&mut self, count: i8, variant: Variant) {
        if self.has_author() {
            return;
        }
        let has_viewers = !self.set.is_empty();
        let meta = self.meta.unwrap_or_default();
        // Views were accepted unseen. The read goes on to bring viewers, as a view does.
        if meta.persisted.is_none() && (has_viewers || meta.recorded > 0) && variant != Variant::ReadTrustsUnseen {
            return;
        }
        let meta = self.meta();
        if meta.recorded == meta.acked {
            meta.persisted = meta.persisted.max(Some(count));
        }
        meta.author = true;
    }

    /// `hydrate.lua` in its other modes.
    pub fn hydrate(&mut self, known: Known, refresh: bool, variant: Variant) {
        if !refresh && self.is_loaded() {
            return;
        }
        let added = self.set.add_all(known.viewers);
        let meta = self.meta();
        meta.recorded += added;
        meta.acked += added;
        let known = match variant {
            Variant::HydrateWritesPending => Some(known.count),
            Variant::PendingLeftUncounted => (refresh || meta.recorded == meta.acked).then_some(known.count),
            _ if refresh => Some(known.count),
            // A read has brought the count before, or a drain. The viewers may be in it, and what is waiting is not to be.
            _ if meta.author => (meta.recorded == meta.acked).then_some(known.count),
            // The count may hold what is waiting, or be older than what is acknowledged. But all viewers are in the set
            // now, so that those who are acknowledged are all of PostgreSQL's.
            _ => Some(meta.acked),
        };
        meta.persisted = meta.persisted.max(known);
        (meta.author, meta.loaded) = (true, true);
    }

    /// `settle.lua`: count and acknowledged pairs move in one step.
    pub fn settle(&mut self, settlement: Settlement<'_>, variant: Variant) -> Settled {
        let Settlement { entries, count: Counted { views: count, before: counted_before }, is_final } = settlement;
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Settled::Done };
        // A hash that has expired is not brought back to life.
        let Some(meta) = &mut self.meta else { return Settled::Done };
        if variant != Variant::SettlesRepeats {
            if meta.settled >= last.id {
                return Settled::Done;
            }
            if meta.settled >= first.id {
                return Settled::UpTo(meta.settled);
            }
        }
        // There are only ever a few entries.
        let pairs = entries.len() as i8;
        let repeated = meta.repeated_among(pairs, last.id, count, variant);
        let number = pairs - repeated;
        let surplus = (meta.acked + number - meta.recorded).max(0);
        if surplus > 0 && !is_final && variant != Variant::NoGrace {
            return Settled::Short;
        }
        meta.acked += if variant == Variant::AckedUncapped { number } else { number - surplus };
        meta.repeated.remove(repeated);
        meta.settled = last.id;
        let before = meta.persisted;
        meta.persisted = match before {
            _ if variant == Variant::PersistedIncremented => Some(before.unwrap_or(0) + count),
            _ if variant == Variant::CountUnbounded => Some(count),
            // As many pairs cannot have added more rows. What has is settled later.
            Some(before) => Some(count.min(before + number)),
            // Nobody has looked the post up. Whoever does will know better.
            None if variant != Variant::PendingLeftUncounted => None,
            None => (meta.recorded == meta.acked).then_some(count),
        };
        let lowest = if variant == Variant::FallsByCount { count } else { count.min(counted_before) };
        meta.fallen += u8::from(before.is_some_and(|before| lowest < before));
        Settled::Done
    }

    /// What a process does that finds its viewer in the set already: `recorded` counts viewers, not pairs.
    pub fn repeated(&mut self, id: Id, variant: Variant) {
        let Some(meta) = &mut self.meta else { return };
        match variant {
            Variant::RacedLeft => return,
            Variant::RacedSubtracted => {}
            // The pair has been acknowledged like any other.
            _ if meta.settled >= id && variant != Variant::RacedBlindly => meta.acked -= 1,
            _ => meta.repeated.add(id),
        }
        meta.recorded -= 1;
    }

    /// `take_out.lua`: takes viewers out of the set whom neither the ledger nor the outbox has.
    pub fn take_out(&mut self, strangers: Viewers) {
        let removed = self.set.remove_all(strangers);
        if let Some(meta) = &mut self.meta {
            meta.recorded -= removed;
            meta.acked -= removed;
        }
    }
}

impl Meta {
    /// Returns how many of as many pairs, up to an entry, are repetitions that `recorded` does not count.
    fn repeated_among(&self, pairs: i8, last: Id, count: i8, variant: Variant) -> i8 {
        let by_count = self.persisted.map_or(0, |persisted| pairs - (count - persisted));
        let by_surplus = self.acked + pairs - self.recorded;
        let found = match variant {
            Variant::RepeatedByCount => by_count,
            Variant::RepeatedBySurplus => by_surplus,
            Variant::RepeatedByEither => by_count.max(by_surplus),
            Variant::RepeatedInOneSpan | Variant::RepeatedInLastEntry if self.repeated.last() <= last => self.repeated.len(),
            Variant::RepeatedInOneSpan if self.repeated.up_to(last) > 0 => by_count,
            Variant::RepeatedInOneSpan | Variant::RepeatedInLastEntry => 0,
            _ => self.repeated.up_to(last),
        };
        found.clamp(0, self.repeated.len())
    }
}
