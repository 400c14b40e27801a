//! The drain: entries are read, stored, settled, and then deleted.

use super::state::{Batch, Buried, Fate, Task};
use crate::{
    ingest::state::Step,
    postgres::Answer,
    redis::{Counted, Entry, Settled, Settlement, TARGET},
    setup::Setup,
    variant::Variant,
    viewers::Viewers,
    world::World,
};

impl World {
    /// Reads so many entries behind the first few.
    pub(super) fn read(&mut self, behind: usize, number: usize, variant: Variant) -> Task {
        let entries: Vec<Entry> = self.redis.outbox.iter().skip(behind).take(number).copied().collect();
        if entries.is_empty() {
            return Task::Idle;
        }
        let is_whole = entries.len() == self.redis.outbox.len();
        if variant == Variant::DeleteBeforeCommit {
            self.redis.xdel(&entries);
        }
        Task::Begin(Batch { entries, is_whole, from: Some(self.redis.nodes.outbox) })
    }

    /// Reads what an importing node has to which nobody is sent, with `ASKING`.
    pub(super) fn read_hidden(&self) -> Task {
        let entries = self.redis.nodes.hidden.outbox.iter().flat_map(|(entries, _)| entries).copied().collect();
        Task::Begin(Batch { entries, is_whole: false, from: Some(TARGET) })
    }

    /// Reads the dead letters.
    pub(super) fn read_dead(&mut self, variant: Variant) -> Task {
        let dead = self.redis.dead;
        if variant == Variant::UnburiesBeforeCommit {
            self.redis.dead = Viewers::default();
        }
        if dead.is_empty() { Task::Idle } else { Task::Offer(dead) }
    }

    /// Returns whether no increment can be on its way for these entries: by their age, the pipelines of all that are as
    /// old have ended.
    pub(super) fn is_final(&self, entries: &[Entry], setup: &Setup) -> bool {
        let youngest = match setup.variant {
            Variant::GraceOfFirst => entries.first(),
            _ => entries.last(),
        };
        let Some(youngest) = youngest else { return true };
        !self.ingests.iter().any(|ingest| {
            let waited_for = if let Step::Record(pipeline) = ingest.step { Some(pipeline) } else { None };
            let adrift = ingest.adrift.filter(|_| !setup.late_pipelines);
            waited_for.into_iter().chain(adrift).any(|pipeline| pipeline.entry > 0 && pipeline.entry <= youngest.id)
        })
    }

    /// Returns the next step of a drain.
    pub(super) fn go_on_draining(&mut self, task: Task, place: usize, setup: &Setup) -> Task {
        let variant = setup.variant;
        match task {
            Task::Begin(batch) if setup.slow_statements => Task::Commit(batch, self.postgres.count()),
            Task::Begin(batch) => self.commit(batch, None, setup),
            Task::Commit(batch, seen) => self.commit(batch, Some(seen), setup),
            Task::Bury(batch, dead, why) => {
                self.redis.dead.add_all(dead);
                match why {
                    Buried::NoPost => Task::Delete(batch, Fate::NoPost),
                    Buried::Refused(count) => Task::Settle(batch, count, 0),
                }
            }
            Task::Settle(batch, ..) if self.is_elsewhere(&batch, variant) => Task::Idle,
            Task::Settle(batch, count, settled) => {
                let entries: Vec<Entry> = batch.entries.iter().filter(|entry| entry.id > settled).copied().collect();
                let is_final = self.is_final(&entries, setup);
                match self.redis.settle(Settlement { entries: &entries, count, is_final }, variant) {
                    Settled::Done => Task::Delete(batch, Fate::Settled),
                    Settled::UpTo(id) => Task::Settle(batch, count, id),
                    Settled::Short => Task::Settle(batch, count, settled),
                }
            }
            Task::Delete(batch, fate) => {
                match batch.from {
                    _ if variant == Variant::DeletesAnywhere => self.redis.xdel(&batch.entries),
                    Some(node) => self.redis.xdel_at(node, &batch.entries),
                    None => return Task::Idle,
                }
                if batch.is_whole {
                    self.daemons[place].in_doubt = false;
                }
                match fate {
                    Fate::Settled => Task::Idle,
                    Fate::NoPost if variant == Variant::DeletesBeforeBurying => {
                        Task::BuryLate(batch.entries.iter().map(|entry| entry.viewer).collect())
                    }
                    Fate::NoPost => Task::RemoveKeys,
                }
            }
            Task::BuryLate(dead) => {
                self.redis.dead.add_all(dead);
                Task::RemoveKeys
            }
            Task::RemoveKeys => {
                self.redis.remove_keys();
                Task::Idle
            }
            Task::Offer(dead) => match self.postgres.store(dead, variant) {
                Answer::Post(_) => Task::Unbury(dead),
                _ => Task::Idle,
            },
            Task::Unbury(stored) => {
                self.redis.dead.remove_all(stored);
                Task::Idle
            }
            _ => Task::Idle,
        }
    }

    /// Returns whether the outbox that entries were read from is not there any more: their ids mean nothing then.
    fn is_elsewhere(&self, batch: &Batch, variant: Variant) -> bool {
        match variant {
            Variant::DeletesAnywhere => false,
            Variant::SettlesBehindAMove => batch.from.is_none(),
            _ => !batch.from.is_some_and(|node| self.redis.has_outbox(node)),
        }
    }

    fn commit(&mut self, batch: Batch, seen: Option<i8>, setup: &Setup) -> Task {
        let variant = setup.variant;
        let before = self.postgres.count();
        let viewers: Viewers = batch.entries.iter().map(|entry| entry.viewer).collect();
        let count = match self.postgres.store(viewers, variant) {
            Answer::Post(known) => known.count,
            Answer::Error => return Task::Idle,
            Answer::NoPost => {
                return match variant {
                    Variant::UnseenIsDeleted | Variant::DeletedIsDropped | Variant::DeletesBeforeBurying => {
                        Task::Delete(batch, Fate::NoPost)
                    }
                    _ => Task::Bury(batch, viewers, Buried::NoPost),
                };
            }
        };
        let added = count - before;
        let views = match seen {
            _ if variant == Variant::PersistedIncremented => added,
            // Where nothing is new, no row is updated, and the count is that of the statement's snapshot.
            Some(seen) if added == 0 => seen,
            _ => count,
        };
        Task::Settle(batch, counted(views, added, setup), 0)
    }

    /// Finds the post's row locked: the post is held, nothing of it is stored, and its entries stay. Younger ones will
    /// wait with them.
    pub(super) fn find_locked(&self, task: Task, variant: Variant) -> Task {
        match task {
            Task::Begin(batch) if variant == Variant::HeldIsSettled => {
                let views = self.postgres.count();
                Task::Settle(batch, Counted { views, before: views }, 0)
            }
            _ => Task::Idle,
        }
    }

    /// Stores a batch without the pair of its first entry, which PostgreSQL refuses.
    pub(super) fn be_refused(&mut self, task: Task, setup: &Setup) -> Task {
        let Task::Begin(batch) = task else { return Task::Idle };
        let refused: Viewers = batch.entries.iter().take(1).map(|entry| entry.viewer).collect();
        let viewers: Viewers = batch.entries.iter().map(|entry| entry.viewer).collect();
        let before = self.postgres.count();
        match self.postgres.store(viewers.without(refused), setup.variant) {
            Answer::Post(known) => {
                let counted = counted(known.count, known.count - before, setup);
                // Who is in the ledger is not refused.
                let is_known = refused.all_in(self.postgres.ledger);
                if is_known { Task::Settle(batch, counted, 0) } else { Task::Bury(batch, refused, Buried::Refused(counted)) }
            }
            _ => Task::Idle,
        }
    }
}

/// What a statement says. Where PostgreSQL loses nothing, what the count was before makes no difference.
fn counted(views: i8, added: i8, setup: &Setup) -> Counted {
    Counted { views, before: if setup.resets > 0 { views - added } else { views } }
}
