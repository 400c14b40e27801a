//! A process of view-ingest: check, first touch, record, answer; and straight into PostgreSQL where Redis does not answer.

use crate::{
    postgres::Known,
    setup::Variant,
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
    /// To have the next command of the record pipeline executed; or, after the last one, to read the replies and to answer.
    Record(Pipeline),
    /// To store the view in PostgreSQL.
    Store(Viewer),
    /// To tell Redis what it has missed.
    Refresh(Known),
}

/// A record pipeline on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pipeline {
    /// Who views.
    pub viewer: Viewer,
    /// How many of its commands have been executed.
    pub executed: usize,
    /// Whether Redis has refused `XADD`.
    pub refused: Option<Refused>,
}

/// What is known of a pipeline whose `XADD` was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refused {
    /// No more than that.
    Alone,
    /// The set has gained the viewer.
    ButInSet,
}

/// A command of the record pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `XADD` to the outbox.
    Outbox,
    /// `SADD` to the set.
    Set,
    /// `HINCRBY` of `recorded`.
    Recorded,
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
    /// Redis executes the next command of the pipeline.
    Execute,
    /// It has the replies, and answers.
    Answer,
    /// The connection breaks, and the rest of the pipeline with it.
    Break,
    /// It has waited long enough, but Redis will execute the rest of the pipeline.
    GiveUp,
    /// The client library sends the whole pipeline again.
    SendAgain,
    /// Redis refuses `XADD`, but executes what follows.
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

/// The commands of the record pipeline, in their order.
pub(crate) fn commands(variant: Variant) -> [Command; 3] {
    match variant {
        Variant::SetBeforeOutbox => [Command::Set, Command::Outbox, Command::Recorded],
        _ => [Command::Outbox, Command::Set, Command::Recorded],
    }
}

impl World {
    /// What a process may do next.
    pub(crate) fn ingest_actions(&self, place: usize, variant: Variant, database_away: bool, die: bool) -> Vec<IngestAction> {
        use IngestAction as Do;
        let Ingest { step, bypassed, adrift } = &self.ingests[place];
        let (left, mut actions) = (&self.left, Vec::new());
        // A second pipeline in the same state would only wait behind the first.
        let may_give_up = left.lost_replies > 0 && adrift.is_none();
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
                let last = commands(variant).len();
                actions.push(match pipeline.refused {
                    _ if pipeline.executed < last => Do::Execute,
                    Some(_) => Do::TakeBack,
                    None => Do::Answer,
                });
                actions.extend((left.lost_replies > 0).then_some(Do::Break));
                actions.extend((left.lost_replies > 0 && pipeline.executed > 0).then_some(Do::SendAgain));
                actions.extend((may_give_up && pipeline.executed < last).then_some(Do::GiveUp));
                actions.extend((die && may_give_up && pipeline.executed < last).then_some(Do::DieWithPipelineSent));
                actions.extend((left.refusals > 0 && pipeline.executed == 0).then_some(Do::Refuse));
            }
            Step::Store(_) => {
                actions.extend([Do::Store, Do::StoreUnheard]);
                actions.extend(database_away.then_some(Do::StoreFails));
            }
            Step::Refresh(_) => actions.extend([Do::Refresh, Do::RefreshUnheard]),
        }
        actions.extend(adrift.map(|_| Do::ExecuteAdrift));
        actions.extend((die && (*step != Step::Idle || !bypassed.is_empty())).then_some(Do::Die));
        actions
    }

    /// Has a process do something.
    pub(crate) fn ingest(&mut self, place: usize, action: IngestAction, variant: Variant) {
        use IngestAction as Do;
        let step = self.ingests[place].step;
        let next = match (action, step) {
            (Do::Check(viewer), _) => {
                self.request(viewer);
                if variant == Variant::AnswerBeforeRecord {
                    self.acknowledged.add(viewer);
                }
                if self.redis.has_author() { self.verdict(viewer) } else { Step::LookUp(viewer) }
            }
            (Do::CheckFails(viewer), _) => {
                self.request(viewer);
                self.left.bypasses -= 1;
                Step::Store(viewer)
            }
            (Do::LookUp, Step::LookUp(viewer)) => Step::Hydrate(viewer, self.postgres.look_up()),
            (Do::LookUpFails, Step::LookUp(viewer)) => Step::CheckAgain(viewer),
            (Do::Hydrate | Do::HydrateUnheard, Step::Hydrate(viewer, known)) => {
                self.redis.hydrate(known, false);
                if action == Do::Hydrate { Step::CheckAgain(viewer) } else { step }
            }
            (Do::CheckAgain, Step::CheckAgain(viewer)) => self.verdict(viewer),
            (Do::Execute, Step::Record(pipeline)) => Step::Record(self.execute(pipeline, variant)),
            (Do::Answer, Step::Record(pipeline)) => {
                self.acknowledged.add(pipeline.viewer);
                Step::Idle
            }
            (Do::Break, Step::Record(pipeline)) => {
                self.left.lost_replies -= 1;
                Step::Store(pipeline.viewer)
            }
            (Do::GiveUp | Do::DieWithPipelineSent, Step::Record(pipeline)) => {
                self.left.lost_replies -= 1;
                self.ingests[place].adrift = Some(pipeline);
                if action == Do::GiveUp { Step::Store(pipeline.viewer) } else { self.die(place) }
            }
            (Do::SendAgain, Step::Record(pipeline)) => {
                self.left.lost_replies -= 1;
                Step::Record(Pipeline { executed: 0, refused: None, ..pipeline })
            }
            (Do::Refuse, Step::Record(pipeline)) => {
                self.left.refusals -= 1;
                if variant != Variant::OnePipeline {
                    self.ingests[place].step = Step::Store(pipeline.viewer);
                    return;
                }
                Step::Record(Pipeline { executed: 1, refused: Some(Refused::Alone), ..pipeline })
            }
            (Do::TakeBack, Step::Record(pipeline)) => {
                if pipeline.refused == Some(Refused::ButInSet) {
                    self.redis.set.remove(pipeline.viewer);
                }
                self.redis.meta().recorded -= 1;
                Step::Store(pipeline.viewer)
            }
            (Do::Store | Do::StoreUnheard, Step::Store(viewer)) => {
                let added = self.postgres.store([viewer].into_iter().collect(), variant);
                if action == Do::Store {
                    self.acknowledged.add(viewer);
                    if added > 0 {
                        self.ingests[place].bypassed.add(viewer);
                    }
                }
                Step::Idle
            }
            (Do::StoreFails, _) => Step::Idle,
            (Do::CatchUp, _) => Step::Refresh(self.postgres.look_up()),
            (Do::Refresh | Do::RefreshUnheard, Step::Refresh(known)) => {
                let viewers = known.viewers.with(self.ingests[place].bypassed);
                self.redis.hydrate(Known { viewers, ..known }, true);
                if action == Do::Refresh {
                    self.ingests[place].bypassed = Viewers::default();
                    Step::Idle
                } else {
                    step
                }
            }
            (Do::Die, _) => self.die(place),
            (Do::ExecuteAdrift, _) => {
                let adrift = self.ingests[place].adrift.map(|pipeline| self.execute(pipeline, variant));
                self.ingests[place].adrift = adrift.filter(|pipeline| pipeline.executed < commands(variant).len());
                step
            }
            (action, step) => unreachable!("{action:?} at {step:?}"),
        };
        self.ingests[place].step = next;
    }

    fn request(&mut self, viewer: Viewer) {
        self.left.requests[viewer] -= 1;
        self.attempted.add(viewer);
    }

    /// What follows from a check: a duplicate is answered at once.
    fn verdict(&mut self, viewer: Viewer) -> Step {
        if self.redis.set.has(viewer) {
            self.acknowledged.add(viewer);
            return Step::Idle;
        }
        Step::Record(Pipeline { viewer, executed: 0, refused: None })
    }

    fn execute(&mut self, pipeline: Pipeline, variant: Variant) -> Pipeline {
        let Pipeline { viewer, executed, mut refused } = pipeline;
        match commands(variant)[executed] {
            Command::Outbox => self.redis.xadd(viewer),
            Command::Set => {
                if self.redis.set.add(viewer) {
                    refused = refused.map(|_| Refused::ButInSet);
                }
            }
            Command::Recorded => self.redis.meta().recorded += 1,
        }
        Pipeline { viewer, executed: executed + 1, refused }
    }

    fn die(&mut self, place: usize) -> Step {
        self.ingests[place].bypassed = Viewers::default();
        Step::Idle
    }
}

impl Ingest {
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
