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
        self.forget();
        self.renumber();
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
    fn forget(&mut self) {
        for daemon in &mut self.daemons {
            daemon.forget(&self.redis.outbox);
        }
        // What is older than every entry that anybody knows settles none of them.
        let settled = self.redis.meta.as_mut().map_or(0, |meta| std::mem::take(&mut meta.settled));
        let mut oldest = Id::MAX;
        self.each_id(&mut |id| {
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
    fn renumber(&mut self) {
        let mut ids: Vec<Id> = vec![0];
        self.each_id(&mut |id| ids.push(*id));
        ids.sort_unstable();
        ids.dedup();
        // There are only ever a few.
        self.each_id(&mut |id| *id = ids.iter().position(|known| known == id).unwrap_or(0) as Id);
        self.redis.last = ids.len() as Id - 1;
    }

    fn each_id(&mut self, visit: &mut impl FnMut(&mut Id)) {
        self.redis.outbox.iter_mut().for_each(|entry| visit(&mut entry.id));
        self.redis.meta.iter_mut().for_each(|meta| visit(&mut meta.settled));
        self.redis.meta.iter_mut().flat_map(|meta| &mut meta.repeated.0).for_each(&mut *visit);
        self.daemons.iter_mut().for_each(|daemon| daemon.each_id(visit));
        self.ingests.iter_mut().for_each(|ingest| ingest.each_id(visit));
    }

    fn exchange_viewers(&mut self) {
        self.redis.set = self.redis.set.exchanged();
        self.redis.dead = self.redis.dead.exchanged();
        for entry in &mut self.redis.outbox {
            entry.viewer ^= 1;
        }
        self.postgres.ledger = self.postgres.ledger.exchanged();
        self.postgres.erased = self.postgres.erased.exchanged();
        self.postgres.counted.reverse();
        self.left.requests.reverse();
        self.attempted = self.attempted.exchanged();
        self.acknowledged = self.acknowledged.exchanged();
        self.forgotten = self.forgotten.exchanged();
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
