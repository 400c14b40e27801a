//! What may be wrong with a protocol: the model must notice.

/// How the protocol differs from the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Not at all.
    AsBuilt,

    // Recording.
    /// `SADD` comes before `XADD`.
    SetBeforeOutbox,
    /// The client is answered before anything is written.
    AnswerBeforeRecord,
    /// What follows `XADD` is sent in one pipeline with it, and so may be executed although that was refused. The
    /// viewers are taken out of the sets again afterwards.
    OnePipeline,
    /// Who finds that another process has recorded the viewer leaves `recorded` alone: it counts pairs, not viewers.
    RacedLeft,
    /// Who finds that takes the viewer out of `recorded`, and notes nothing.
    RacedSubtracted,
    /// Who finds that takes the viewer out of `recorded` and adds him to `repeated`, whether his entry is settled or not.
    RacedBlindly,

    // Storing.
    /// Entries are deleted from the outbox when they have been read, before COMMIT.
    DeleteBeforeCommit,
    /// The statement adds all of its pairs to the post's count, not only those that are new.
    CountsRepeats,
    /// Entries of a post whose row is locked are acknowledged.
    HeldIsSettled,
    /// Entries of a post are stored and settled although older ones of it are held.
    OvertakesHeld,
    /// A post whose row PostgreSQL does not show is taken for one that does not exist.
    UnseenIsDeleted,
    /// The pairs of a post that does not exist are dropped.
    DeletedIsDropped,
    /// Dead letters are written when the entries have been deleted.
    DeletesBeforeBurying,
    /// Dead letters are removed before they are offered again.
    UnburiesBeforeCommit,

    // Settling.
    /// `settle.lua` does not look at `settled`.
    SettlesRepeats,
    /// `settle.lua` caps `acked` at once where more pairs are to be settled than were recorded.
    NoGrace,
    /// Increments are waited for by the age of the first entry that is to be settled, not of the last.
    GraceOfFirst,
    /// `settle.lua` lets `acked` pass `recorded`.
    AckedUncapped,
    /// `settle.lua` adds what the statement has added to `persisted`, instead of setting the count.
    PersistedIncremented,
    /// `settle.lua` writes the count as it is, also where it has more in it than the pairs that are settled.
    CountUnbounded,
    /// `settle.lua` knows repeated pairs only by what `acked` would surpass `recorded`.
    RepeatedBySurplus,
    /// `settle.lua` knows repeated pairs only by what the count lacks.
    RepeatedByCount,
    /// `settle.lua` knows repeated pairs by both, whichever are more.
    RepeatedByEither,
    /// `repeated` says of no pair which entry it is of, but only of all of them between which entries they are. That is as
    /// built, where there are many.
    RepeatedInOneSpan,
    /// `repeated` says of all pairs that they are of the last of their entries.
    RepeatedInLastEntry,
    /// `settle.lua` sees that PostgreSQL has lost views only by a count that is smaller than before.
    FallsByCount,
    /// `hydrate.lua` brings a read's count although views were accepted unseen.
    ReadTrustsUnseen,
    /// `hydrate.lua` writes the count although something is waiting.
    HydrateWritesPending,
    /// `hydrate.lua` writes no count where something is waiting, and `settle.lua` writes one where there is none and
    /// nothing seems to wait.
    PendingLeftUncounted,

    // Erasing.
    /// What the outbox has of the viewer is not stored before he is erased, but taken out of it.
    ForgetsPending,
    /// The set is not looked at once more when the row is gone.
    ForgetsOnce,

    // Scanning.
    /// The scan does not write the count of PostgreSQL.
    NoRefresh,
    /// The scan writes the count over whatever is there.
    RefreshBlindly,
    /// The scan compares with what a look saw that came after the count.
    RefreshLooksLate,
    /// A leader scans although it does not know whether everything that is committed is settled.
    ScansInDoubt,
    /// A standby writes the count also where something is waiting.
    StandbyRefreshes,
    /// A standby looks into the outbox before it writes the count. A remedy.
    StandbyLooksIntoOutbox,
    /// The scan does not unite a set that differs with the ledger.
    NoUnion,
    /// The scan writes the count of a set that it has united although something is waiting.
    UnionWritesPending,
    /// Drifts are not repaired.
    NoRepair,
    /// Drifts are repaired although entries are so young that their increments may be on their way.
    RepairsYoung,
    /// The repair believes in pairs that are not counted although the outbox has none of the post.
    RepairTrustsRepeated,
    /// Whom PostgreSQL has lost stays in the set.
    NoPurge,
    /// Who is to be removed from the set is taken for stored soon by an entry that is settled and not deleted yet.
    PurgeTrustsSettled,
    /// When a set has been compared with the ledger, falls are forgotten that have been noted meanwhile.
    PurgeForgetsBlindly,
    /// Who is to be removed from the set is looked for in the ledger before the outbox.
    PurgeAsksLedgerFirst,

    // A cluster.
    /// The outbox is on another node than its posts.
    OutboxElsewhere,
    /// The sets of a batch are written when any of its outboxes has answered.
    AnyOutboxSuffices,
    /// The set is written although the connection by which the outbox was written is gone.
    RecordsOverTwoConnections,
    /// Entries are settled over a connection that is still there, although their outbox has been moved away from it.
    SettlesBehindAMove,
    /// Entries are settled and deleted by their ids wherever the outbox is by then.
    DeletesAnywhere,
    /// The outbox of before the cluster and that of the partition are drained at once.
    SettlesTwoOutboxes,
    /// The outbox is read only at the node that owns its slot.
    ReadsOwnerOnly,
    /// Whoever mends a slot that is half moved has one outbox replaced by the other.
    MendsUndrained,
}
