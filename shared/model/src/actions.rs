//! The protocol as the model checker sees it: which steps are possible, and where each of them leads.

use stateright::{Model, Property};

use crate::{daemon::DaemonAction, ingest::IngestAction, properties, setup::Setup, viewers::Viewers, world::World};

/// Anything that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// In a process of view-ingest, by number.
    Ingest(usize, IngestAction),
    /// In a process of view-syncd, by number.
    Syncd(usize, DaemonAction),
    /// The set expires.
    SetExpires,
    /// The hash expires.
    HashExpires,
    /// Both expire.
    BothExpire,
}

impl Model for Setup {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for place in 0..self.ingests {
            let own = world.ingest_actions(place, self.variant, self.database_away, self.ingests_die);
            actions.extend(own.into_iter().map(|action| Action::Ingest(place, action)));
        }
        for place in 0..self.daemons {
            actions.extend(world.daemon_actions(place, self).into_iter().map(|action| Action::Syncd(place, action)));
        }
        if world.left.expiries > 0 {
            let (set, hash) = (!world.redis.set.is_empty(), world.redis.meta.is_some());
            actions.extend(set.then_some(Action::SetExpires));
            actions.extend(hash.then_some(Action::HashExpires));
            actions.extend((set && hash).then_some(Action::BothExpire));
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut world = world.clone();
        match action {
            Action::Ingest(place, action) => world.ingest(place, action, self.variant),
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
        }
        world.normalize(self);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
