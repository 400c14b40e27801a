//! Redis: the keys of one post, the outbox and the dead letters.

mod nodes;
mod scripts;

pub use self::{
    nodes::{Held, Node, Nodes, SOURCE, Slot, TARGET},
    scripts::{Counted, Settled, Settlement},
};
use crate::{
    variant::Variant,
    viewers::{Viewer, Viewers},
};

/// What Redis holds. Nothing of it is lost, unless it expires, or a node fails over whose replica has not got everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Redis {
    /// `post:<id>:views`; empty where there is no such key.
    pub set: Viewers,
    /// `{post:<id>:views}:meta`.
    pub meta: Option<Meta>,
    /// `views:outbox`, oldest first.
    pub outbox: Vec<Entry>,
    /// The id of the entry that was added last.
    pub last: Id,
    /// `views:dead`. Letters are never dropped here.
    pub dead: Viewers,
    /// Where the keys are.
    pub nodes: Nodes,
}

/// The id of an entry. Only its place among the others matters. Zero comes before all of them.
pub type Id = u8;

/// The meta hash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Meta {
    /// Whether there is an author.
    pub author: bool,
    /// `loaded`: whether the set has the viewers of the ledger.
    pub loaded: bool,
    /// `persisted`, where it is known.
    pub persisted: Option<i8>,
    /// `recorded`, which counts as zero where it is missing.
    pub recorded: i8,
    /// `acked`, likewise.
    pub acked: i8,
    /// `settled`: the last entry up to which the post is acknowledged.
    pub settled: Id,
    /// `repeated`: entries behind that whose pair `recorded` does not count, because another process has recorded the
    /// viewer.
    pub repeated: Repeated,
    /// `fallen`: how often PostgreSQL has been found to have fewer views than before, since the set was last compared
    /// with the ledger.
    pub fallen: u8,
}

/// A few entries, in their order behind zeros.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repeated(pub [Id; 4]);

impl Repeated {
    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> i8 {
        // There are only ever a few.
        self.0.iter().filter(|id| **id > 0).count() as i8
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many there are up to an entry.
    #[must_use]
    pub fn up_to(&self, last: Id) -> i8 {
        self.0.iter().filter(|id| **id > 0 && **id <= last).count() as i8
    }

    /// Returns the last of them.
    #[must_use]
    pub fn last(&self) -> Id {
        self.0[self.0.len() - 1]
    }

    fn add(&mut self, id: Id) {
        assert_eq!(std::mem::replace(&mut self.0[0], id), 0, "more repeated pairs than expected");
        self.0.sort_unstable();
    }

    /// Removes as many, the oldest first.
    fn remove(&mut self, number: i8) {
        let oldest = self.0.iter_mut().filter(|id| **id > 0).take(usize::try_from(number).unwrap_or(0));
        oldest.for_each(|id| *id = 0);
    }
}

/// An entry of the outbox. Batches are of one view each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entry {
    /// Its id.
    pub id: Id,
    /// Who viewed the post.
    pub viewer: Viewer,
}

impl Meta {
    /// Shows all ids to somebody.
    pub(crate) fn each_id(&mut self, visit: &mut impl FnMut(&mut Id)) {
        visit(&mut self.settled);
        self.repeated.0.iter_mut().for_each(visit);
    }

    /// Returns the live count.
    #[must_use]
    pub fn live(&self) -> i8 {
        self.persisted.unwrap_or(0) + self.recorded - self.acked
    }
}

impl Redis {
    /// Returns whether the hash has an author, so that whoever reads needs no first touch.
    #[must_use]
    pub fn has_author(&self) -> bool {
        self.meta.is_some_and(|meta| meta.author)
    }

    /// Returns whether the viewers are there, so that whoever views needs no first touch.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.meta.is_some_and(|meta| meta.loaded)
    }

    /// Returns the hash, brought into being where there is none.
    pub fn meta(&mut self) -> &mut Meta {
        self.meta.get_or_insert_default()
    }

    /// What view-ingest tells somebody who asks for the count. Where nobody knows PostgreSQL's, the set is counted.
    #[must_use]
    pub fn answer(&self) -> i8 {
        let meta = self.meta.unwrap_or_default();
        if meta.persisted.is_none() { self.set.len() } else { meta.live().max(0) }
    }

    /// Returns the viewers in the outbox.
    #[must_use]
    pub fn listed(&self) -> Viewers {
        self.outbox.iter().map(|entry| entry.viewer).collect()
    }

    /// Returns those of them who are not settled: entries stay for a while when they are, for other posts' sake perhaps
    /// a long one.
    #[must_use]
    pub fn waiting(&self, variant: Variant) -> Viewers {
        let settled = if variant == Variant::PurgeTrustsSettled { 0 } else { self.settled() };
        self.entries(variant).filter(|entry| entry.id > settled).map(|entry| entry.viewer).collect()
    }

    /// Returns all entries that somebody reads.
    fn entries(&self, variant: Variant) -> impl Iterator<Item = &Entry> {
        let hidden = self.nodes.hidden.outbox.iter().filter(move |_| variant != Variant::ReadsOwnerOnly);
        self.outbox.iter().chain(hidden.flat_map(|(entries, _)| entries))
    }

    fn settled(&self) -> Id {
        self.meta.unwrap_or_default().settled
    }

    /// Returns how many entries are not settled.
    #[must_use]
    pub fn unsettled(&self, variant: Variant) -> i8 {
        let settled = self.settled();
        // There are only ever a few entries.
        self.entries(variant).filter(|entry| entry.id > settled).count() as i8
    }

    /// By how much a hash has recorded more than it has acknowledged and the outbox holds. One that has expired has no
    /// drift.
    #[must_use]
    pub fn drift(&self, variant: Variant) -> i8 {
        let waiting = self.unsettled(variant);
        self.meta.map_or(0, |meta| {
            let repeated = meta.repeated.len();
            // Pairs that are not there cannot be repeated. They were settled while there was no hash.
            let repeated = if variant == Variant::RepairTrustsRepeated { repeated } else { repeated.min(waiting) };
            meta.recorded + repeated - meta.acked - waiting
        })
    }

    /// `XADD`.
    pub fn xadd(&mut self, viewer: Viewer) -> Id {
        self.last += 1;
        self.outbox.push(Entry { id: self.last, viewer });
        self.last
    }

    /// `XDEL`.
    pub fn xdel(&mut self, entries: &[Entry]) {
        self.outbox.retain(|entry| entries.iter().all(|gone| gone.id != entry.id));
    }

    /// Shows all ids to somebody. The last that was added is one of them where each outbox goes by a clock of its own.
    pub(crate) fn each_id(&mut self, clocks_differ: bool, visit: &mut impl FnMut(&mut Id)) {
        self.outbox.iter_mut().for_each(|entry| visit(&mut entry.id));
        self.meta.iter_mut().for_each(|meta| meta.each_id(visit));
        if clocks_differ {
            visit(&mut self.last);
        }
        self.nodes.hidden.each_id(clocks_differ, visit);
        self.nodes.replicas.iter_mut().flatten().for_each(|held| held.each_id(clocks_differ, visit));
    }

    /// The same with the two viewers' names exchanged.
    pub(crate) fn exchange_viewers(&mut self) {
        self.set = self.set.exchanged();
        self.dead = self.dead.exchanged();
        self.outbox.iter_mut().for_each(|entry| entry.viewer ^= 1);
        self.nodes.hidden.exchange_viewers();
        self.nodes.replicas.iter_mut().flatten().for_each(Held::exchange_viewers);
    }

    /// `UNLINK` of both keys.
    pub fn remove_keys(&mut self) {
        self.set = Viewers::default();
        self.meta = None;
    }
}
