//! States that mean the same in one form: the ids of entries matter only by their order, and it is all the same which
//! process or viewer is called by which name.

use crate::{
    redis::Id,
    setup::Setup,
    world::{Erasure, World},
};

impl World {
    /// Brings states that mean the same into one form.
    pub(crate) fn normalize(&mut self, setup: &Setup) {
        self.redis.ask();
        self.forget(setup);
        self.renumber(setup);
        if !setup.symmetric {
            return;
        }
        self.sort_processes(setup);
        // Where only one of them has a client there is nothing to gain.
        if setup.requests.contains(&0) {
            return;
        }
        let mut exchanged = self.clone();
        exchanged.exchange_viewers();
        exchanged.sort_processes(setup);
        if exchanged < *self {
            *self = exchanged;
        }
    }

    /// Processes that are not there stay at the end, because idle ones sort first and cannot be told from them.
    fn sort_processes(&mut self, setup: &Setup) {
        self.ingests[..setup.ingests].sort_unstable();
        // A leader and a standby are not alike.
        if setup.leaders == setup.daemons {
            self.daemons[..setup.daemons].sort_unstable();
        }
    }

    /// Forgets what makes no difference any more.
    fn forget(&mut self, setup: &Setup) {
        let is_cluster = setup.is_cluster() || setup.legacy > 0;
        for daemon in &mut self.daemons {
            daemon.forget(&self.redis.outbox, is_cluster);
        }
        // What is older than every entry that anybody knows settles none of them.
        let settled = self.redis.meta.as_mut().map_or(0, |meta| std::mem::take(&mut meta.settled));
        // Ids that are yet to come may be older than that where clocks differ.
        let mut oldest = if setup.clocks_differ { self.redis.last } else { Id::MAX };
        self.each_id(setup, &mut |id| {
            if *id > 0 {
                oldest = oldest.min(*id);
            }
        });
        if let Some(meta) = &mut self.redis.meta
            && settled >= oldest
        {
            meta.settled = settled;
        }
    }

    /// Gives the ids that are in use the numbers from one on.
    fn renumber(&mut self, setup: &Setup) {
        let mut ids: Vec<Id> = vec![0];
        self.each_id(setup, &mut |id| ids.push(*id));
        ids.sort_unstable();
        ids.dedup();
        // There are only ever a few.
        self.each_id(setup, &mut |id| *id = ids.iter().position(|known| known == id).unwrap_or(0) as Id);
        if !setup.clocks_differ {
            self.redis.last = ids.len() as Id - 1;
        }
    }

    fn each_id(&mut self, setup: &Setup, visit: &mut impl FnMut(&mut Id)) {
        self.redis.each_id(setup.clocks_differ, visit);
        self.daemons.iter_mut().for_each(|daemon| daemon.each_id(visit));
        self.ingests.iter_mut().for_each(|ingest| ingest.each_id(visit));
    }

    fn exchange_viewers(&mut self) {
        self.redis.exchange_viewers();
        self.postgres.ledger = self.postgres.ledger.exchanged();
        self.postgres.erased = self.postgres.erased.exchanged();
        self.postgres.counted.reverse();
        self.left.requests.reverse();
        self.attempted = self.attempted.exchanged();
        self.acknowledged = self.acknowledged.exchanged();
        self.forgotten = self.forgotten.exchanged();
        self.lost = self.lost.exchanged();
        if let Some(Erasure::TakenOut(viewer) | Erasure::Based(viewer)) = &mut self.erasure {
            *viewer ^= 1;
        }
        for ingest in &mut self.ingests {
            ingest.exchange_viewers();
        }
        for daemon in &mut self.daemons {
            daemon.exchange_viewers();
        }
    }
}
