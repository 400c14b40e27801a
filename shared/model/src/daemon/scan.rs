//! The scan: counts and hashes are brought into order, sets united with the ledger or purged of strangers, drifts repaired.

use super::state::{Drifted, Expected, Look, Next, Place, State, Task, Union};
use crate::{postgres::Answer, redis::Redis, setup::Setup, variant::Variant, world::World};

impl World {
    /// Returns whether the scan comes across the post.
    pub(crate) fn is_scanned(&self, setup: &Setup) -> bool {
        !self.redis.set.is_empty() || (setup.scan_finds_lone_hashes && self.redis.meta.is_some())
    }

    /// Returns the scan's first look.
    pub(super) fn look(&self) -> Task {
        let Redis { set, meta, .. } = &self.redis;
        let state = match meta {
            Some(meta) if meta.author && set.len() == meta.recorded => State::InOrder,
            Some(meta) if meta.author => State::Differs,
            _ => State::NoAuthor,
        };
        let meta = meta.unwrap_or_default();
        Task::Count(Look { state, known: meta.persisted, fallen: meta.fallen > 0 })
    }

    /// Returns the next step of a scan.
    pub(super) fn go_on_scanning(&mut self, task: &Task, place: usize, setup: &Setup) -> Task {
        let variant = setup.variant;
        let leads = place < setup.leaders;
        match *task {
            Task::Count(look) => match self.postgres.look_up(variant) {
                Answer::Error => Task::Idle,
                Answer::NoPost => Task::RemoveKeys,
                Answer::Post(known) => {
                    let expected = Expected { known: look.known, views: known.count };
                    match look.state {
                        State::NoAuthor => Task::Hydrate(known),
                        State::Differs => Task::LookAgain(Some(expected)),
                        State::InOrder => {
                            let fallen = has_fallen(look.fallen, look.known, expected);
                            plan(look.known, expected, if fallen { Next::Purge } else { Next::Nothing }, leads, setup)
                        }
                    }
                }
            },
            Task::Hydrate(_) if !self.redis.takes_scripts() => Task::Idle,
            Task::Hydrate(known) => {
                self.redis.hydrate(known, false, variant);
                Task::LookAgain(None)
            }
            Task::LookAgain(expected) => self.look_again(expected, leads, setup),
            Task::CheckWaiting(expected, next) => {
                if self.redis.unsettled(variant) == 0 {
                    Task::Refresh(expected, next)
                } else {
                    follow(next)
                }
            }
            Task::Refresh(expected, next) => {
                let is_quiet = leads || self.is_quiet() || variant == Variant::StandbyRefreshes;
                self.write_count(expected, is_quiet, variant);
                follow(next)
            }
            Task::Unite => self.unite(0),
            Task::ReadSet(union) => Task::StoreSet(union, self.redis.set),
            Task::StoreSet(union, members) => match self.postgres.store(members, variant) {
                Answer::Post(_) => {
                    // Some of the members may be waiting in the outbox.
                    self.daemons[place].in_doubt = setup.scans > 0 && leads;
                    Task::CountSet(union)
                }
                _ => Task::Idle,
            },
            Task::CountSet(union) => match self.postgres.look_up(variant) {
                Answer::Post(known) => Task::Correct(union, known.count),
                _ => Task::Idle,
            },
            Task::Correct(union, views) => {
                self.correct(union, views, variant);
                let drifted = Drifted { drift: union.drift, known: union.known };
                if union.drift == 0 { Task::Idle } else { Task::CountDrifted(drifted) }
            }
            Task::ReadFallen => {
                let falls = self.redis.meta.map_or(0, |meta| meta.fallen);
                let wrong_way = variant == Variant::PurgeAsksLedgerFirst;
                Task::Find(self.redis.set, if wrong_way { Place::LedgerFirst } else { Place::OutboxFirst }, falls)
            }
            Task::Find(members, place, falls) => {
                let not_waiting = members.without(self.redis.waiting(variant));
                let not_stored = members.without(self.postgres.ledger);
                match place {
                    Place::OutboxFirst => Task::Find(not_waiting, Place::LedgerLast, falls),
                    Place::LedgerFirst => Task::Find(not_stored, Place::OutboxLast, falls),
                    Place::LedgerLast => Task::TakeOut(not_stored, falls),
                    Place::OutboxLast => Task::TakeOut(not_waiting, falls),
                }
            }
            Task::TakeOut(strangers, falls) => {
                self.redis.take_out(strangers);
                Task::ForgetFalls(falls)
            }
            Task::ForgetFalls(falls) => {
                let blindly = variant == Variant::PurgeForgetsBlindly;
                let meta = self.redis.meta.iter_mut().filter(|meta| meta.fallen == falls || blindly);
                meta.for_each(|meta| meta.fallen = 0);
                Task::Idle
            }
            Task::DriftAgain(first) => match self.drift(setup) {
                second if second == 0 || second != first || variant == Variant::NoRepair => Task::Idle,
                second if second > 0 => Task::Rescue(second),
                second => Task::Repair(Drifted { drift: second, known: None }, None),
            },
            Task::Rescue(drift) => self.unite(drift),
            Task::CountDrifted(drifted) => match self.postgres.look_up(variant) {
                Answer::Post(known) => Task::Repair(drifted, Some(known.count)),
                _ => Task::Idle,
            },
            Task::Repair(drifted, views) => {
                self.repair(drifted, views, variant);
                Task::Idle
            }
            _ => Task::Idle,
        }
    }

    fn look_again(&self, expected: Option<Expected>, leads: bool, setup: &Setup) -> Task {
        // A hash that has expired since is left alone.
        let Some(meta) = self.redis.meta else { return Task::Idle };
        let differs = self.redis.set.len() != meta.recorded && setup.variant != Variant::NoUnion;
        let noted = meta.fallen > 0;
        let fallen = expected.map_or(noted, |expected| has_fallen(noted, meta.persisted, expected));
        let next = match (fallen, differs) {
            (true, _) => Next::Purge,
            (false, true) => Next::Unite,
            (false, false) => Next::Nothing,
        };
        match expected {
            None => follow(next),
            Some(expected) if setup.variant == Variant::RefreshLooksLate => {
                plan(meta.persisted, Expected { known: meta.persisted, ..expected }, next, leads, setup)
            }
            Some(expected) => plan(meta.persisted, expected, next, leads, setup),
        }
    }

    /// Whether, by its numbers, the outbox has nothing of the post.
    fn is_quiet(&self) -> bool {
        self.redis.meta.is_some_and(|meta| meta.recorded == meta.acked)
    }

    /// `adjust.lua`: writes a count over the one that is known.
    fn write_count(&mut self, expected: Expected, is_quiet: bool, variant: Variant) {
        let Some(meta) = &mut self.redis.meta else { return };
        if is_quiet && (meta.persisted == expected.known || variant == Variant::RefreshBlindly) {
            meta.fallen += u8::from(meta.persisted.is_some_and(|before| expected.views < before));
            meta.persisted = Some(expected.views);
        }
    }

    fn unite(&self, drift: i8) -> Task {
        let Some(meta) = self.redis.meta else { return Task::Idle };
        Task::ReadSet(Union { difference: self.redis.set.len() - meta.recorded, known: meta.persisted, drift })
    }

    /// `adjust.lua` after a union: adds the difference to both numbers, where it is still there, and writes the count.
    fn correct(&mut self, union: Union, views: i8, variant: Variant) {
        let Some(meta) = &mut self.redis.meta else { return };
        if self.redis.set.len() - meta.recorded == union.difference {
            meta.recorded += union.difference;
            meta.acked += union.difference;
        }
        let is_quiet = self.is_quiet() || variant == Variant::UnionWritesPending;
        self.write_count(Expected { known: union.known, views }, is_quiet, variant);
    }

    /// By how much more is recorded than acknowledged or waiting. Where it is less, the increments of young entries may
    /// be on their way.
    pub(super) fn drift(&self, setup: &Setup) -> i8 {
        let drift = self.redis.drift(setup.variant);
        let is_young = drift < 0 && !self.is_final(&self.redis.outbox, setup);
        if is_young && setup.variant != Variant::RepairsYoung { 0 } else { drift }
    }

    /// `adjust.lua` in a repair.
    fn repair(&mut self, drifted: Drifted, views: Option<i8>, variant: Variant) {
        if let Some(meta) = &mut self.redis.meta {
            meta.acked += drifted.drift;
        }
        if let Some(views) = views {
            self.write_count(Expected { known: drifted.known, views }, self.is_quiet(), variant);
        }
    }
}

/// What is to be done about a post of which Redis has this count.
fn plan(now: Option<i8>, expected: Expected, next: Next, leads: bool, setup: &Setup) -> Task {
    let variant = setup.variant;
    let next = if variant == Variant::NoPurge && next == Next::Purge { Next::Nothing } else { next };
    match variant {
        _ if now == Some(expected.views) => follow(next),
        Variant::NoRefresh => follow(next),
        Variant::StandbyLooksIntoOutbox if !leads => Task::CheckWaiting(expected, next),
        _ => Task::Refresh(expected, next),
    }
}

fn has_fallen(fallen: bool, known: Option<i8>, expected: Expected) -> bool {
    fallen || known.is_some_and(|known| known > expected.views)
}

fn follow(next: Next) -> Task {
    match next {
        Next::Nothing => Task::Idle,
        Next::Unite => Task::Unite,
        Next::Purge => Task::ReadFallen,
    }
}
