//! The protocol as the model checker sees it: which steps are possible, and where each of them leads.

use stateright::{Model, Property};

use crate::{
    cluster::ClusterAction,
    daemon::DaemonAction,
    ingest::IngestAction,
    postgres::{Answer, Row},
    properties,
    setup::Setup,
    variant::Variant,
    viewers::{VIEWERS, Viewer, Viewers},
    world::{Erasure, World},
};

/// Anything that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// In a process of view-ingest, by number.
    Ingest(usize, IngestAction),
    /// In a process of view-syncd, by number.
    Syncd(usize, DaemonAction),
    /// A read looks the post up, because Redis has no author of it.
    ReadLooksUp,
    /// It puts the count into Redis.
    ReadBringsCount,
    /// The set expires.
    SetExpires,
    /// The hash expires.
    HashExpires,
    /// Both expire.
    BothExpire,
    /// A policy hides the post's row.
    Hide,
    /// The policy is lifted.
    Show,
    /// The application deletes the post.
    Delete,
    /// Somebody has a viewer erased, who sends nothing any more, once the outbox has nothing of him: he is taken out of the
    /// dead letters and of the set.
    TakesOut(Viewer),
    /// His row moves into the base.
    MovesIntoBase,
    /// He is taken out of the set again, when look-ups that were under way have arrived.
    TakesOutAgain,
    /// The application deletes the post and creates it anew, or PostgreSQL is restored from a backup that does not have
    /// its viewers.
    Reset,
    /// In the cluster that is Redis.
    Cluster(ClusterAction),
}

impl Model for Setup {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        // What comes after a wrong answer is of no interest.
        if world.wrong.is_some() {
            return;
        }
        for place in 0..self.ingests {
            actions.extend(world.ingest_actions(place, self).into_iter().map(|action| Action::Ingest(place, action)));
        }
        for place in 0..self.daemons {
            actions.extend(world.daemon_actions(place, self).into_iter().map(|action| Action::Syncd(place, action)));
        }
        let left = &world.left;
        if left.expiries > 0 {
            let (set, hash) = (!world.redis.set.is_empty(), world.redis.meta.is_some());
            actions.extend(set.then_some(Action::SetExpires));
            actions.extend(hash.then_some(Action::HashExpires));
            actions.extend((set && hash).then_some(Action::BothExpire));
        }
        let looks_up = left.reads > 0 && world.reader.is_none() && !world.redis.has_author();
        actions.extend(looks_up.then_some(Action::ReadLooksUp));
        actions.extend(world.reader.map(|_| Action::ReadBringsCount));
        let row = world.postgres.row;
        actions.extend((left.policies > 0 && row == Row::Seen).then_some(Action::Hide));
        actions.extend((row == Row::Hidden).then_some(Action::Show));
        actions.extend((left.deletions > 0 && row != Row::Deleted).then_some(Action::Delete));
        self.erasure_actions(world, actions);
        actions.extend(world.cluster_actions(self).into_iter().map(Action::Cluster));
        actions.extend((left.resets > 0 && row == Row::Seen && !world.postgres.ledger.is_empty()).then_some(Action::Reset));
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut world = world.clone();
        match action {
            Action::Ingest(place, action) => world.ingest(place, action, self),
            Action::Syncd(place, action) => world.daemon(place, action, self),
            Action::SetExpires | Action::HashExpires | Action::BothExpire => {
                world.left.expiries -= 1;
                if action != Action::HashExpires {
                    world.redis.set = Viewers::default();
                }
                if action != Action::SetExpires {
                    world.redis.meta = None;
                }
            }
            Action::ReadLooksUp => {
                world.left.reads -= 1;
                if let Answer::Post(known) = world.postgres.look_up(self.variant) {
                    world.reader = Some(known.count);
                }
            }
            Action::ReadBringsCount => {
                if let Some(count) = world.reader.take() {
                    world.redis.hydrate_for_read(count, self.variant);
                }
            }
            Action::Hide => {
                world.left.policies -= 1;
                world.postgres.row = Row::Hidden;
            }
            Action::Show => world.postgres.row = Row::Seen,
            Action::Delete => {
                world.left.deletions -= 1;
                world.postgres.erase(Row::Deleted);
            }
            Action::TakesOut(viewer) => {
                world.left.forgets -= 1;
                if self.variant == Variant::ForgetsPending {
                    let his: Vec<_> = world.redis.outbox.iter().filter(|entry| entry.viewer == viewer).copied().collect();
                    world.redis.xdel(&his);
                }
                // From here on he need not be anywhere.
                world.postgres.erased.add(viewer);
                world.redis.dead.remove(viewer);
                world.redis.forget(viewer);
                world.erasure = Some(Erasure::TakenOut(viewer));
            }
            Action::MovesIntoBase => {
                if let Some(Erasure::TakenOut(viewer)) = world.erasure {
                    world.postgres.move_into_base(viewer);
                    world.erasure = Some(Erasure::Based(viewer));
                }
            }
            Action::TakesOutAgain => {
                if let Some(Erasure::Based(viewer)) = world.erasure.take() {
                    if self.variant != Variant::ForgetsOnce {
                        world.redis.forget(viewer);
                    }
                    world.forgotten.add(viewer);
                }
            }
            Action::Cluster(action) => world.cluster(action, self),
            Action::Reset => {
                world.left.resets -= 1;
                world.postgres.erase(Row::Seen);
            }
        }
        world.normalize(self);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

impl Setup {
    /// Adds the steps of erasing a viewer.
    fn erasure_actions(&self, world: &World, actions: &mut Vec<Action>) {
        match world.erasure {
            None if world.left.forgets > 0 && world.postgres.row == Row::Seen => {
                let is_done = |viewer: &Viewer| {
                    let pending = world.redis.listed().has(*viewer) && self.variant != Variant::ForgetsPending;
                    let sends =
                        world.left.requests[*viewer] > 0 || world.ingests.iter().any(|ingest| ingest.has_view_of(*viewer));
                    world.attempted.has(*viewer) && !pending && !sends
                };
                actions.extend((0..VIEWERS).filter(is_done).map(Action::TakesOut));
            }
            Some(Erasure::TakenOut(_)) if world.postgres.row == Row::Seen => actions.push(Action::MovesIntoBase),
            Some(Erasure::Based(viewer)) if !world.ingests.iter().any(|ingest| ingest.brings(viewer)) => {
                actions.push(Action::TakesOutAgain);
            }
            _ => {}
        }
    }
}
