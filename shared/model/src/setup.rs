//! What is checked: how large the world is, what may go wrong in it, and in what the protocol differs from the code, if
//! in anything.

use crate::{variant::Variant, viewers::VIEWERS};

/// A protocol to be checked, and the world it is checked in.
///
/// Processes may die between any two steps, for nothing. What would make the number of states endless or merely vast
/// has a budget.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// How the protocol differs from the code.
    pub variant: Variant,
    /// Processes of view-ingest, at most two.
    pub ingests: usize,
    /// Processes of view-syncd, at most two.
    pub daemons: usize,
    /// How many of these, from the first on, believe to lead. The others stand by: they scan when they are asked to.
    pub leaders: usize,
    /// How often each viewer's client sends its view, whatever the answers.
    pub requests: [u8; VIEWERS],
    /// How often keys expire: the set, the hash, or both at once.
    pub expiries: u8,
    /// How often the reply to a pipeline is lost while its process lives. What of it Redis executes before, after or
    /// not at all, and whether the client library sends it again, is left to chance.
    pub lost_replies: u8,
    /// How often a process of view-ingest dies and Redis executes the rest of its pipeline.
    pub orphans: u8,
    /// How often Redis is unreachable for one process, so that a view goes straight into PostgreSQL.
    pub bypasses: u8,
    /// How often Redis refuses an `XADD` (`OOM`) and would take what follows, because memory has become free in between.
    pub refusals: u8,
    /// How often somebody reads the count of a post that Redis does not know.
    pub reads: u8,
    /// How often view-syncd begins to scan, or to look for drifts, while everything else goes on.
    pub scans: u8,
    /// How often a policy hides the post's row from the project's role. Whether it is lifted again is left to chance.
    pub policies: u8,
    /// How often the application deletes the post.
    pub deletions: u8,
    /// How often PostgreSQL is set back, or the post is created anew: its viewers and its count are gone.
    pub resets: u8,
    /// How often a viewer is erased from both stores, who sends nothing any more.
    pub forgets: u8,
    /// How often PostgreSQL refuses a pair that it will take later.
    pub bad_pairs: u8,
    /// How often a node of a cluster fails over to a replica that may not have got the last of what it had.
    pub failovers: u8,
    /// How often a slot, which has all of the partition's keys, begins to move to another node.
    pub moves: u8,
    /// How often the keys are moved from a server without a cluster to one, where their outbox is read and not written.
    pub legacy: u8,
    /// Whether an outbox on another node gets ids that do not follow those of before, because its clock is behind.
    pub clocks_differ: bool,
    /// Whether a failover is to take an outbox's entry and its viewer in the set together. Where it is not, a scan is to
    /// bring into order what it leaves.
    pub lost_together: bool,
    /// Whether processes of view-ingest die.
    pub ingests_die: bool,
    /// Whether processes of view-syncd die, or fail in the middle of something.
    pub daemons_die: bool,
    /// Whether PostgreSQL may fail to answer a first touch.
    pub database_away: bool,
    /// Whether a statement's count may be older than its end, because it waited for another one with the same pairs.
    pub slow_statements: bool,
    /// Whether the scan finds hashes whose post has no set.
    pub scan_finds_lone_hashes: bool,
    /// Whether Redis may serve others between the `SADD` and the `HINCRBY` of one pipeline, because it has received
    /// only a part of it.
    pub torn_pipelines: bool,
    /// Whether entries may be settled whose view-ingest has not finished recording them, because it was held up.
    pub overtaking: bool,
    /// Whether a pipeline that nobody waits for may be executed when the grace is over.
    pub late_pipelines: bool,
    /// How far counts may be off; nothing where they are not looked at.
    pub bounds: Option<Bounds>,
    /// Whether states that differ only by the names of processes and viewers count as one. Traces name the wrong
    /// process then.
    pub symmetric: bool,
}

/// By how much an answer may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// By how much it may be above the number of viewers who have sent a view.
    pub above: i8,
    /// By how much it may be below the number of viewers who had been acknowledged before it was asked for.
    pub below: i8,
    /// Whether it must be exact all the same while no view is being recorded.
    pub exact_at_rest: bool,
}

impl Bounds {
    /// Not at all.
    pub const EXACT: Self = Self { above: 0, below: 0, exact_at_rest: true };
}

impl Setup {
    /// Two of each process, each viewer viewing once, and nothing that goes wrong but the death of processes.
    pub const PLAIN: Self = Self {
        variant: Variant::AsBuilt,
        ingests: 2,
        daemons: 2,
        leaders: 2,
        requests: [1; VIEWERS],
        expiries: 0,
        lost_replies: 0,
        orphans: 0,
        bypasses: 0,
        refusals: 0,
        reads: 0,
        scans: 0,
        policies: 0,
        deletions: 0,
        resets: 0,
        forgets: 0,
        bad_pairs: 0,
        failovers: 0,
        moves: 0,
        legacy: 0,
        clocks_differ: false,
        lost_together: true,
        ingests_die: true,
        daemons_die: true,
        database_away: false,
        slow_statements: false,
        scan_finds_lone_hashes: true,
        torn_pipelines: true,
        overtaking: true,
        late_pipelines: false,
        bounds: None,
        symmetric: true,
    };

    /// Returns whether something happens to the nodes of a cluster.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.failovers + self.moves > 0
    }

    /// Returns whether nothing happens by which somebody may be missing in the set who has been acknowledged.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        !self.is_cluster()
            && self.expiries + self.lost_replies + self.bypasses + self.refusals + self.deletions + self.policies == 0
    }

    /// Returns whether nothing happens by which more may be acknowledged than recorded, until a scan puts it right: a
    /// process that takes back what it has recorded twice, in a hash that is not the one that it was recorded in.
    #[must_use]
    pub fn is_capped(&self) -> bool {
        !self.is_cluster() && self.scans == 0 && (self.ingests < 2 || self.expiries + self.deletions == 0)
    }

    /// Returns whether nothing happens that only a scan puts right again.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        let mishaps = [self.expiries, self.lost_replies, self.orphans, self.bypasses, self.refusals, self.scans];
        let in_postgres = [self.policies, self.deletions, self.resets, self.forgets, self.bad_pairs];
        !self.is_cluster()
            && !self.ingests_die
            && !self.database_away
            && mishaps.iter().chain(&in_postgres).all(|budget| *budget == 0)
    }
}
