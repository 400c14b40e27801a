//! A process of view-ingest: check, first touch, record, answer; and straight into PostgreSQL where Redis does not answer.

mod steps;

pub mod state;

use self::state::{Ingest, Step, commands};
use crate::{setup::Setup, variant::Variant, viewers::Viewer, world::World};

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
    /// A script finds one of its keys missing in a slot that is moving, again and again.
    TryAgain,
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
            Step::Hydrate(..) | Step::Refresh(_) if !self.redis.takes_scripts() => actions.push(Do::TryAgain),
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
