//! A process of view-ingest: check, first touch, record, answer; and straight into PostgreSQL where Redis does not answer.

mod steps;

use crate::{
    postgres::Known,
    redis::Id,
    setup::Setup,
    variant::Variant,
    viewers::{Viewer, Viewers},
    world::World,
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

/// The commands of the record pipelines, in their order.
pub(crate) fn commands(variant: Variant) -> [Command; 3] {
    match variant {
        Variant::SetBeforeOutbox => [Command::Set, Command::Outbox, Command::Recorded],
        _ => [Command::Outbox, Command::Set, Command::Recorded],
    }
}

/// What a process of view-ingest does, or what befalls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngestAction {
    /// It takes a view and checks the set and the hash.
    Check(Viewer),
    /// It takes a view, and Redis does not answer.
    CheckFails(Viewer),
    /// It looks the post up.
    LookUp,
    /// PostgreSQL does not answer: the view is taken unseen.
    LookUpFails,
    /// It runs `hydrate.lua`.
    Hydrate,
    /// `hydrate.lua` runs, but the reply is lost, and it will be sent again.
    HydrateUnheard,
    /// It checks once more, after the first touch.
    CheckAgain,
    /// Redis executes the next command of a pipeline.
    Execute,
    /// It has the replies, and takes out of `recorded` again whom another process has recorded.
    Correct,
    /// It has the replies, and answers.
    Answer,
    /// The connection breaks, and the rest of the pipeline with it.
    Break,
    /// It has waited long enough, but Redis will execute the rest of the pipeline.
    GiveUp,
    /// The client library sends everything again.
    SendAgain,
    /// Redis refuses `XADD`, and would execute what follows.
    Refuse,
    /// Having the replies to such a pipeline, it takes out of the set and the hash again what has got there.
    TakeBack,
    /// It stores the view in PostgreSQL, and answers.
    Store,
    /// The view is committed, but the reply is lost.
    StoreUnheard,
    /// PostgreSQL does not answer either.
    StoreFails,
    /// It looks up what Redis has missed.
    CatchUp,
    /// It runs `hydrate.lua` in its `refresh` mode.
    Refresh,
    /// `hydrate.lua` runs in its `refresh` mode, but the reply is lost, and it will be sent again.
    RefreshUnheard,
    /// It dies, and its pipeline with it.
    Die,
    /// It dies, but Redis will execute the rest of its pipeline.
    DieWithPipelineSent,
    /// Redis executes the next command of a pipeline that nobody waits for.
    ExecuteAdrift,
}

impl World {
    /// What a process may do next.
    pub(crate) fn ingest_actions(&self, place: usize, setup: &Setup) -> Vec<IngestAction> {
        use IngestAction as Do;
        let Setup { variant, database_away, ingests_die, .. } = *setup;
        let Ingest { step, bypassed, adrift } = &self.ingests[place];
        let (left, mut actions) = (&self.left, Vec::new());
        match step {
            Step::Idle => {
                for viewer in (0..left.requests.len()).filter(|viewer| left.requests[*viewer] > 0) {
                    // Redis is not believed about a post that it has missed views of.
                    actions.extend(bypassed.is_empty().then_some(Do::Check(viewer)));
                    actions.extend((left.bypasses > 0).then_some(Do::CheckFails(viewer)));
                }
                actions.extend((!bypassed.is_empty()).then_some(Do::CatchUp));
            }
            Step::LookUp(_) => {
                actions.push(Do::LookUp);
                actions.extend(database_away.then_some(Do::LookUpFails));
            }
            Step::Hydrate(..) => actions.extend([Do::Hydrate, Do::HydrateUnheard]),
            Step::CheckAgain(_) => actions.push(Do::CheckAgain),
            Step::Record(pipeline) => {
                let is_under_way = pipeline.executed < commands(variant).len();
                // A second pipeline in the same state would only wait behind the first.
                let may_drift = is_under_way && adrift.is_none();
                actions.push(match pipeline.refused {
                    _ if is_under_way => Do::Execute,
                    Some(_) => Do::TakeBack,
                    None if pipeline.raced && variant != Variant::RacedLeft => Do::Correct,
                    None => Do::Answer,
                });
                actions.extend((left.lost_replies > 0).then_some(Do::Break));
                actions.extend((left.lost_replies > 0 && pipeline.executed > 0).then_some(Do::SendAgain));
                actions.extend((left.lost_replies > 0 && may_drift).then_some(Do::GiveUp));
                actions.extend((ingests_die && left.orphans > 0 && may_drift).then_some(Do::DieWithPipelineSent));
                actions.extend((left.refusals > 0 && pipeline.executed == 0).then_some(Do::Refuse));
            }
            Step::Store(_) => {
                actions.extend([Do::Store, Do::StoreUnheard]);
                actions.extend(database_away.then_some(Do::StoreFails));
            }
            Step::Refresh(_) => actions.extend([Do::Refresh, Do::RefreshUnheard]),
        }
        actions.extend(adrift.map(|_| Do::ExecuteAdrift));
        actions.extend((ingests_die && (*step != Step::Idle || !bypassed.is_empty())).then_some(Do::Die));
        actions
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
