//! What a process of view-ingest keeps between two of its steps, and the commands of its pipelines.

use crate::{
    postgres::Known,
    redis::{Id, Node},
    variant::Variant,
    viewers::{Viewer, Viewers},
};

/// A process of view-ingest. It has one view at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ingest {
    /// Where it is.
    pub step: Step,
    /// Whom it has stored in PostgreSQL while Redis was away, and has not told Redis about.
    pub bypassed: Viewers,
    /// A pipeline that Redis goes on to execute, although nobody waits for its replies any more.
    pub adrift: Option<Pipeline>,
}

/// What a process is about to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Nothing.
    #[default]
    Idle,
    /// To look the post up in PostgreSQL, because Redis does not know it.
    LookUp(Viewer),
    /// To put what it has found into Redis.
    Hydrate(Viewer, Known),
    /// To check again.
    CheckAgain(Viewer),
    /// To have the next command of the record pipelines executed; or, after the last one, to read the replies and to answer.
    Record(Pipeline),
    /// To store the view in PostgreSQL.
    Store(Viewer),
    /// To tell Redis what it has missed.
    Refresh(Known),
}

/// The two pipelines that record a view, as one: what follows `XADD` is sent when that has been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pipeline {
    /// Who views.
    pub viewer: Viewer,
    /// How many of the commands have been executed.
    pub executed: usize,
    /// Whether Redis has refused `XADD`.
    pub refused: Option<Refused>,
    /// The outbox's entry; zero before `XADD`.
    pub entry: Id,
    /// The node by which `XADD` was executed.
    pub at: Node,
    /// Whether another process was first to put the viewer into the set.
    pub raced: bool,
    /// What the answer will be made of, and measured by.
    pub seen: Seen,
}

/// What the check has seen, until the answer is known. Only where counts are looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seen {
    /// `persisted` less `acked`, later with `recorded` added; nothing where `persisted` is unknown.
    pub count: Option<i8>,
    /// How many viewers had been acknowledged.
    pub acknowledged: i8,
}

/// What is known of a pipeline whose `XADD` was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refused {
    /// No more than that.
    Alone,
    /// The set has gained the viewer.
    ButInSet,
}

/// A command of the record pipelines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `XADD` to the outbox.
    Outbox,
    /// `SADD` to the set.
    Set,
    /// `HINCRBY` of `recorded`.
    Recorded,
}

/// Returns the commands of the record pipelines, in their order.
pub(crate) fn commands(variant: Variant) -> [Command; 3] {
    match variant {
        Variant::SetBeforeOutbox => [Command::Set, Command::Outbox, Command::Recorded],
        _ => [Command::Outbox, Command::Set, Command::Recorded],
    }
}

impl Ingest {
    /// Shows all ids to somebody.
    pub(crate) fn each_id(&mut self, visit: &mut impl FnMut(&mut Id)) {
        if let Step::Record(pipeline) = &mut self.step {
            visit(&mut pipeline.entry);
        }
        if let Some(pipeline) = &mut self.adrift {
            visit(&mut pipeline.entry);
        }
    }

    /// Returns whether it has a view of a viewer, or something that it is going to tell Redis of him.
    pub(crate) fn has_view_of(&self, viewer: Viewer) -> bool {
        let is_his = match &self.step {
            Step::Idle | Step::Refresh(_) => false,
            Step::LookUp(other) | Step::CheckAgain(other) | Step::Store(other) | Step::Hydrate(other, _) => *other == viewer,
            Step::Record(pipeline) => pipeline.viewer == viewer,
        };
        is_his || self.bypassed.has(viewer) || self.adrift.is_some_and(|pipeline| pipeline.viewer == viewer)
    }

    /// Returns whether it has looked the post up, and is about to bring a viewer into the set.
    pub(crate) fn brings(&self, viewer: Viewer) -> bool {
        matches!(&self.step, Step::Hydrate(_, known) | Step::Refresh(known) if known.viewers.has(viewer))
    }

    /// The same with the two viewers' names exchanged.
    pub(crate) fn exchange_viewers(&mut self) {
        match &mut self.step {
            Step::Idle => {}
            Step::LookUp(viewer) | Step::CheckAgain(viewer) | Step::Store(viewer) => *viewer ^= 1,
            Step::Hydrate(viewer, known) => {
                *viewer ^= 1;
                known.viewers = known.viewers.exchanged();
            }
            Step::Record(pipeline) => pipeline.viewer ^= 1,
            Step::Refresh(known) => known.viewers = known.viewers.exchanged(),
        }
        self.bypassed = self.bypassed.exchanged();
        if let Some(pipeline) = &mut self.adrift {
            pipeline.viewer ^= 1;
        }
    }
}
