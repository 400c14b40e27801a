//! Redis: the keys of one post and the outbox, and the scripts that the code runs there.

use crate::{
    postgres::Known,
    setup::Variant,
    viewers::{Viewer, Viewers},
};

/// What Redis holds. Nothing of it is lost, unless it expires.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Redis {
    /// `post:<id>:views`; empty where there is no such key.
    pub set: Viewers,
    /// `{post:<id>:views}:meta`.
    pub meta: Option<Meta>,
    /// `views:outbox`, oldest first.
    pub outbox: Vec<Entry>,
}

/// The meta hash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Meta {
    /// Whether there is an author.
    pub author: bool,
    /// `persisted`, where it is known.
    pub persisted: Option<i8>,
    /// `recorded`, which counts as zero where it is missing.
    pub recorded: i8,
    /// `acked`, likewise.
    pub acked: i8,
}

/// An entry of the outbox. Batches are of one view each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entry {
    /// Its place in the stream; [`GONE`] in the memory of a daemon when somebody has deleted it.
    pub id: u8,
    /// Who viewed the post.
    pub viewer: Viewer,
}

/// The id of an entry that is no longer in the outbox.
pub const GONE: u8 = 0;

impl Meta {
    /// The live count.
    #[must_use]
    pub fn live(&self) -> i8 {
        self.persisted.unwrap_or(0) + self.recorded - self.acked
    }
}

impl Redis {
    /// Whether the hash has an author, so that the post needs no first touch.
    #[must_use]
    pub fn has_author(&self) -> bool {
        self.meta.is_some_and(|meta| meta.author)
    }

    /// The hash, brought into being where there is none.
    pub fn meta(&mut self) -> &mut Meta {
        self.meta.get_or_insert_default()
    }

    /// The viewers in the outbox.
    #[must_use]
    pub fn waiting(&self) -> Viewers {
        self.outbox.iter().map(|entry| entry.viewer).collect()
    }

    /// `XADD`.
    pub fn xadd(&mut self, viewer: Viewer) {
        let id = self.outbox.last().map_or(0, |entry| entry.id) + 1;
        self.outbox.push(Entry { id, viewer });
    }

    /// `hydrate.lua`.
    pub fn hydrate(&mut self, known: Known, refresh: bool) {
        if !refresh && self.has_author() {
            return;
        }
        let added = self.set.add_all(known.viewers);
        let meta = self.meta();
        meta.recorded += added;
        meta.acked += added;
        meta.persisted = meta.persisted.max(Some(known.count));
        meta.author = true;
    }

    /// `ack.lua`. Gives nothing back, because the code does nothing with it.
    pub fn ack(&mut self, ids: &[u8], count: i8, variant: Variant) {
        let mut deleted = 0;
        for id in ids {
            let before = self.outbox.len();
            self.outbox.retain(|entry| entry.id != *id);
            let gone = self.outbox.len() < before;
            deleted += i8::from(gone || variant == Variant::AckCountsRepeats);
        }
        let Some(meta) = &mut self.meta else { return };
        if deleted == 0 {
            return;
        }
        let all = meta.acked + deleted;
        meta.acked = if variant == Variant::AckedUncapped { all } else { meta.acked.max(all.min(meta.recorded)) };
        meta.persisted = Some(if variant == Variant::PersistedIncremented { meta.persisted.unwrap_or(0) + count } else { count });
    }
}
