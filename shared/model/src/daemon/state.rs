//! What a process of view-syncd keeps between two of its steps.

use crate::{
    postgres::Known,
    redis::{Counted, Entry, Id, Node},
    viewers::Viewers,
};

/// A process of view-syncd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Daemon {
    /// What it is about to do.
    pub task: Task,
    /// Whether something may be committed that is not settled. A leader drains everything before it scans then.
    pub in_doubt: bool,
}

/// What a process of view-syncd is about to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Task {
    /// Nothing.
    #[default]
    Idle,
    /// Drain: to begin the statement.
    Begin(Batch),
    /// Drain: to commit the statement, which sees the count as it was when it began.
    Commit(Batch, i8),
    /// Drain: to bury viewers.
    Bury(Batch, Viewers, Buried),
    /// Drain: to settle the post with this count. Entries up to this one were settled before.
    Settle(Batch, Counted, Id),
    /// Drain: to delete the entries, which are settled or of a post that does not exist.
    Delete(Batch, Fate),
    /// Drain: to bury those whose entries are deleted. Only done wrong.
    BuryLate(Viewers),
    /// Drain or scan: to remove the keys of a post that does not exist.
    RemoveKeys,
    /// Drain: to offer the dead once more.
    Offer(Viewers),
    /// Drain: to remove letters of viewers who are stored now.
    Unbury(Viewers),
    /// Scan: to ask PostgreSQL for the count of a post that Redis has said this of.
    Count(Look),
    /// Scan: to run `hydrate.lua`, having looked the post up because its hash had no author.
    Hydrate(Known),
    /// Scan: to look a second time. What was known of the count, and what it is, unless the post has been looked up
    /// meanwhile.
    LookAgain(Option<Expected>),
    /// Scan: to look whether the outbox has anything of the post, before the count is written. Only as a remedy.
    CheckWaiting(Expected, Next),
    /// Scan: to write the count.
    Refresh(Expected, Next),
    /// Union: to look at the set and the hash.
    Unite,
    /// Union: to read the set.
    ReadSet(Union),
    /// Union: to store these members.
    StoreSet(Union, Viewers),
    /// Union: to ask for the count.
    CountSet(Union),
    /// Union: to correct the numbers, and to write this count.
    Correct(Union, i8),
    /// Purge: to read the set.
    ReadFallen,
    /// Purge: to look for these members in the outbox or, when that is done, in the ledger. So many falls had been noted.
    Find(Viewers, Place, u8),
    /// Purge: to take these viewers out of the set.
    TakeOut(Viewers, u8),
    /// Purge: to forget as many falls, if there have not been more since.
    ForgetFalls(u8),
    /// Repair: to look for the same drift once more.
    DriftAgain(i8),
    /// Repair: to have the set united with the ledger first, because it may hold somebody whose entry is lost.
    Rescue(i8),
    /// Repair: to ask for the count.
    CountDrifted(Drifted),
    /// Repair: to take the drift back, and to write the count, if any.
    Repair(Drifted, Option<i8>),
}

/// Entries that have been read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Batch {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Whether that was the whole outbox.
    pub is_whole: bool,
    /// The node that they were read from, over a connection that is still there; nothing where it is not.
    pub from: Option<Node>,
}

/// Why viewers are buried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Buried {
    /// There is no such post.
    NoPost,
    /// PostgreSQL refuses the pair, and has this count.
    Refused(Counted),
}

/// What has become of the pairs of entries that are to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    /// They are settled.
    Settled,
    /// Their post does not exist.
    NoPost,
}

/// Where somebody is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// In the outbox, and then elsewhere.
    OutboxFirst,
    /// In the ledger, and nowhere else.
    LedgerLast,
    /// In the ledger, and then elsewhere. Only done wrong.
    LedgerFirst,
    /// In the outbox, and nowhere else.
    OutboxLast,
}

/// A count that is to be written, where the one that is there is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Expected {
    /// `persisted` before PostgreSQL was asked.
    pub known: Option<i8>,
    /// The count in PostgreSQL.
    pub views: i8,
}

/// What follows when the count is in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// Set and hash disagree: the set is united with the ledger.
    Unite,
    /// PostgreSQL has lost views: the set is compared with the ledger.
    Purge,
}

/// Why a set is united with the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Union {
    /// By how much the set was larger than `recorded`.
    pub difference: i8,
    /// `persisted` at that time.
    pub known: Option<i8>,
    /// The drift that is to be repaired afterwards; zero in a scan.
    pub drift: i8,
}

/// A drift that is to be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Drifted {
    /// By how much more is recorded than acknowledged or waiting.
    pub drift: i8,
    /// `persisted` before PostgreSQL was asked.
    pub known: Option<i8>,
}

/// What the scan keeps of its first look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Look {
    /// What the scan makes of it.
    pub state: State,
    /// `persisted`.
    pub known: Option<i8>,
    /// `fallen`.
    pub fallen: bool,
}

/// What the scan makes of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// The hash has no author.
    NoAuthor,
    /// Set and hash disagree.
    Differs,
    /// All is well, but perhaps for the count.
    InOrder,
}

impl Task {
    /// Returns the batch that it is about.
    pub(crate) fn batch_mut(&mut self) -> Option<&mut Batch> {
        match self {
            Self::Begin(batch)
            | Self::Commit(batch, _)
            | Self::Bury(batch, ..)
            | Self::Settle(batch, ..)
            | Self::Delete(batch, _) => Some(batch),
            _ => None,
        }
    }
}

impl Daemon {
    /// Shows all ids to somebody.
    pub(crate) fn each_id(&mut self, visit: &mut impl FnMut(&mut Id)) {
        if let Some(batch) = self.task.batch_mut() {
            batch.entries.iter_mut().for_each(|entry| visit(&mut entry.id));
        }
        if let Task::Settle(.., settled) = &mut self.task {
            visit(settled);
        }
    }

    /// Forgets what makes no difference any more.
    pub(crate) fn forget(&mut self, outbox: &[Entry], is_cluster: bool) {
        // In a cluster it is to be seen what comes of entries of another outbox.
        if let Task::Delete(batch, _) = &mut self.task
            && !is_cluster
        {
            batch.entries.retain(|entry| outbox.contains(entry));
        }
        // What is not in the outbox is settled.
        self.in_doubt &= !outbox.is_empty();
    }

    /// The same with the two viewers' names exchanged.
    pub(crate) fn exchange_viewers(&mut self) {
        if let Some(batch) = self.task.batch_mut() {
            batch.entries.iter_mut().for_each(|entry| entry.viewer ^= 1);
        }
        match &mut self.task {
            Task::Bury(_, viewers, _)
            | Task::BuryLate(viewers)
            | Task::Offer(viewers)
            | Task::Unbury(viewers)
            | Task::StoreSet(_, viewers)
            | Task::Find(viewers, ..)
            | Task::TakeOut(viewers, _) => *viewers = viewers.exchanged(),
            Task::Hydrate(known) => known.viewers = known.viewers.exchanged(),
            _ => {}
        }
    }
}
