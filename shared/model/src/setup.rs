//! What is checked: how large the world is, what may go wrong in it, and in what the protocol differs from the code, if in anything.

use crate::viewers::VIEWERS;

/// A protocol to be checked, and the world it is checked in.
///
/// Processes may die between any two steps, for nothing. What would make the number of states endless or merely vast has a budget.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// How the protocol differs from the code.
    pub variant: Variant,
    /// Processes of view-ingest, at most two.
    pub ingests: usize,
    /// Processes of view-syncd that all believe to lead, at most two.
    pub daemons: usize,
    /// How often each viewer's client sends its view, whatever the answers.
    pub requests: [u8; VIEWERS],
    /// How often keys expire: the set, the hash, or both at once.
    pub expiries: u8,
    /// How often the reply to a pipeline is lost. What of it Redis executes before, after or not at all, and whether the client library sends it
    /// again, is left to chance.
    pub lost_replies: u8,
    /// How often Redis is unreachable for one process, so that a view goes straight into PostgreSQL.
    pub bypasses: u8,
    /// How often Redis refuses an `XADD` (`OOM`) and would take what follows, because memory has become free in between.
    pub refusals: u8,
    /// How often view-syncd begins to scan, or to look for drifts, while everything else goes on.
    pub scans: u8,
    /// Whether processes of view-ingest die.
    pub ingests_die: bool,
    /// Whether PostgreSQL may fail to answer a first touch.
    pub database_away: bool,
    /// Whether a statement's count may be older than its end, because it waited for another one with the same pairs.
    pub slow_statements: bool,
    /// Whether the scan finds hashes whose post has no set.
    pub scan_finds_lone_hashes: bool,
    /// Whether states that differ only by the names of processes and viewers count as one. Traces name the wrong process then.
    pub symmetric: bool,
}

/// How the protocol differs from the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Not at all.
    AsBuilt,
    /// `SADD` comes before `XADD`.
    SetBeforeOutbox,
    /// Entries are deleted from the outbox when they have been read, before COMMIT.
    DeleteBeforeCommit,
    /// The client is answered before anything is written.
    AnswerBeforeRecord,
    /// `ack.lua` counts all the entries that it is given, not only those that it deletes.
    AckCountsRepeats,
    /// `ack.lua` lets `acked` pass `recorded`.
    AckedUncapped,
    /// `ack.lua` adds what the statement has added to `persisted`, instead of setting the count.
    PersistedIncremented,
    /// The statement adds all of its pairs to the post's count, not only those that are new.
    CountsRepeats,
    /// The scan does not write the count of PostgreSQL.
    NoRefresh,
    /// The scan does not unite a set that differs with the ledger.
    NoUnion,
    /// Drifts are not repaired.
    NoRepair,
    /// What follows `XADD` is sent in one pipeline with it, and so may be executed although that was refused. The viewers are taken out of
    /// the sets again afterwards.
    OnePipeline,
}

impl Setup {
    /// Two of each process, each viewer viewing once, and nothing that goes wrong but the death of processes.
    pub const PLAIN: Self = Self {
        variant: Variant::AsBuilt,
        ingests: 2,
        daemons: 2,
        requests: [1; VIEWERS],
        expiries: 0,
        lost_replies: 0,
        bypasses: 0,
        refusals: 0,
        scans: 0,
        ingests_die: true,
        database_away: false,
        slow_statements: false,
        scan_finds_lone_hashes: true,
        symmetric: true,
    };

    /// Whether nothing happens that only a scan puts right again.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        !self.ingests_die
            && self.expiries + self.lost_replies + self.bypasses + self.refusals + self.scans == 0
            && !self.database_away
    }
}
