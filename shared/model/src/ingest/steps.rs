//! What each step of view-ingest leads to.

use super::{
    IngestAction,
    state::{Command, Pipeline, Refused, Seen, Step, commands},
};
use crate::{
    postgres::{Answer, Known},
    setup::Setup,
    variant::Variant,
    viewers::{Viewer, Viewers},
    world::World,
};

impl World {
    /// Has a process do something.
    pub(crate) fn ingest(&mut self, place: usize, action: IngestAction, setup: &Setup) {
        use IngestAction as Do;
        let variant = setup.variant;
        let step = self.ingests[place].step;
        self.ingests[place].step = match (action, step) {
            (Do::Check(viewer), _) => {
                self.request(viewer);
                if variant == Variant::AnswerBeforeRecord {
                    self.acknowledge(viewer, setup);
                }
                if self.redis.is_loaded() { self.verdict(viewer, setup) } else { Step::LookUp(viewer) }
            }
            (Do::CheckFails(viewer), _) => {
                self.request(viewer);
                self.left.bypasses -= 1;
                Step::Store(viewer)
            }
            (Do::LookUp, Step::LookUp(viewer)) => match self.postgres.look_up(variant) {
                Answer::Post(known) => Step::Hydrate(viewer, known),
                Answer::NoPost => Step::Idle,
                Answer::Error => Step::CheckAgain(viewer),
            },
            (Do::LookUpFails, Step::LookUp(viewer)) => Step::CheckAgain(viewer),
            (Do::Hydrate | Do::HydrateUnheard, Step::Hydrate(viewer, known)) => {
                self.redis.hydrate(known, false, variant);
                if action == Do::Hydrate { Step::CheckAgain(viewer) } else { step }
            }
            (Do::CheckAgain, Step::CheckAgain(viewer)) => self.verdict(viewer, setup),
            (Do::Store | Do::StoreUnheard, Step::Store(viewer)) => self.store(place, viewer, action == Do::Store, setup),
            (Do::TryAgain, Step::Hydrate(viewer, _)) => Step::Store(viewer),
            (Do::StoreFails | Do::TryAgain, _) => Step::Idle,
            (Do::CatchUp, _) => match self.postgres.look_up(variant) {
                Answer::Post(known) => Step::Refresh(known),
                Answer::NoPost => {
                    self.ingests[place].bypassed = Viewers::default();
                    Step::Idle
                }
                Answer::Error => Step::Idle,
            },
            (Do::Refresh | Do::RefreshUnheard, Step::Refresh(known)) => {
                let viewers = known.viewers.with(self.ingests[place].bypassed);
                self.redis.hydrate(Known { viewers, ..known }, true, variant);
                if action == Do::Refresh {
                    self.ingests[place].bypassed = Viewers::default();
                    Step::Idle
                } else {
                    step
                }
            }
            (Do::Die, _) => self.die(place),
            (Do::ExecuteAdrift, _) => {
                let adrift = self.ingests[place].adrift.map(|pipeline| self.execute(pipeline, setup));
                let is_one = matches!(variant, Variant::OnePipeline | Variant::SetBeforeOutbox);
                // Nobody has sent what follows `XADD`, if that had not been answered.
                let goes_on = |adrift: &Pipeline| adrift.executed < commands(variant).len() && (is_one || adrift.executed > 1);
                self.ingests[place].adrift = adrift.filter(goes_on);
                step
            }
            (action, Step::Record(pipeline)) => self.go_on_recording(place, action, pipeline, setup),
            (action, step) => unreachable!("{action:?} at {step:?}"),
        };
    }

    fn go_on_recording(&mut self, place: usize, action: IngestAction, pipeline: Pipeline, setup: &Setup) -> Step {
        use IngestAction as Do;
        let variant = setup.variant;
        match action {
            Do::Execute => Step::Record(self.execute(pipeline, setup)),
            Do::Correct => {
                self.redis.repeated(pipeline.entry, variant);
                Step::Record(Pipeline { raced: false, ..pipeline })
            }
            Do::Answer => {
                self.acknowledge(pipeline.viewer, setup);
                Step::Idle
            }
            Do::Break => {
                self.left.lost_replies -= 1;
                Step::Store(pipeline.viewer)
            }
            Do::GiveUp => {
                self.left.lost_replies -= 1;
                self.ingests[place].adrift = Some(Pipeline { seen: Seen::default(), ..pipeline });
                Step::Store(pipeline.viewer)
            }
            Do::DieWithPipelineSent => {
                self.left.orphans -= 1;
                self.ingests[place].adrift = Some(Pipeline { seen: Seen::default(), ..pipeline });
                self.die(place)
            }
            Do::SendAgain => {
                self.left.lost_replies -= 1;
                Step::Record(Pipeline { executed: 0, refused: None, entry: 0, at: 0, raced: false, ..pipeline })
            }
            Do::Refuse => {
                self.left.refusals -= 1;
                if variant == Variant::OnePipeline {
                    Step::Record(Pipeline { executed: 1, refused: Some(Refused::Alone), ..pipeline })
                } else {
                    Step::Store(pipeline.viewer)
                }
            }
            Do::TakeBack => {
                if pipeline.refused == Some(Refused::ButInSet) {
                    self.redis.set.remove(pipeline.viewer);
                }
                self.redis.meta().recorded -= 1;
                Step::Store(pipeline.viewer)
            }
            action => unreachable!("{action:?} while recording"),
        }
    }

    fn acknowledge(&mut self, viewer: Viewer, setup: &Setup) {
        self.acknowledged.add(viewer);
        if setup.lost_together {
            self.lost.remove(viewer);
        }
    }

    fn request(&mut self, viewer: Viewer) {
        self.left.requests[viewer] -= 1;
        self.attempted.add(viewer);
    }

    /// Returns what follows from a check: a duplicate is answered at once.
    fn verdict(&mut self, viewer: Viewer, setup: &Setup) -> Step {
        if self.redis.set.has(viewer) {
            self.acknowledge(viewer, setup);
            return Step::Idle;
        }
        let meta = self.redis.meta.unwrap_or_default();
        let seen = if setup.bounds.is_some() {
            Seen { count: meta.persisted.map(|persisted| persisted - meta.acked), acknowledged: self.acknowledged.len() }
        } else {
            Seen::default()
        };
        Step::Record(Pipeline { viewer, executed: 0, refused: None, entry: 0, at: 0, raced: false, seen })
    }

    /// Has Redis execute the next command, and those that cannot be told from it.
    fn execute(&mut self, mut pipeline: Pipeline, setup: &Setup) -> Pipeline {
        let commands = commands(setup.variant);
        self.execute_one(commands[pipeline.executed], &mut pipeline);
        pipeline.executed += 1;
        if pipeline.executed == 2 && !setup.torn_pipelines {
            self.execute_one(commands[pipeline.executed], &mut pipeline);
            pipeline.executed += 1;
        }
        if pipeline.executed == commands.len()
            && let Some(bounds) = setup.bounds
        {
            self.measure(&mut pipeline, bounds);
        }
        pipeline
    }

    fn execute_one(&mut self, command: Command, pipeline: &mut Pipeline) {
        match command {
            Command::Outbox => {
                pipeline.entry = self.redis.xadd(pipeline.viewer);
                pipeline.at = self.redis.nodes.outbox;
            }
            Command::Set => {
                if self.redis.set.add(pipeline.viewer) {
                    pipeline.refused = pipeline.refused.map(|_| Refused::ButInSet);
                } else {
                    pipeline.raced = true;
                }
            }
            Command::Recorded => {
                let meta = self.redis.meta();
                meta.recorded += 1;
                pipeline.seen.count = pipeline.seen.count.map(|count| count + meta.recorded);
            }
        }
    }

    fn store(&mut self, place: usize, viewer: Viewer, is_heard: bool, setup: &Setup) -> Step {
        let before = self.postgres.count();
        let answer = self.postgres.store([viewer].into_iter().collect(), setup.variant);
        if let Answer::Post(known) = answer
            && is_heard
        {
            self.acknowledge(viewer, setup);
            if known.count > before {
                self.ingests[place].bypassed.add(viewer);
            }
        }
        Step::Idle
    }

    fn die(&mut self, place: usize) -> Step {
        self.ingests[place].bypassed = Viewers::default();
        Step::Idle
    }
}
