//! The drains of this process, one for each partition that it holds, of which some take their steps side by side.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio_util::sync::CancellationToken;
use views_core::{log_names, partition::Partition};

use super::{
    leases::{InUse, Leases},
    partition_drain::{Done, PartitionDrain},
};
use crate::{
    context::Context,
    drain::{Drain, Drained, Urgency, outbox, shared::Shared},
    error::Failure,
};

/// A partition that takes longer than this is waited for no more by the others.
const LONG: Duration = Duration::from_secs(1);
/// How often it is looked then what the others could drain.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// All drains of this process.
pub(super) struct PartitionDrains {
    pub(super) context: Arc<Context>,
    shared: Shared,
    /// What this process is to drain; everything, where it is alone.
    leases: Option<Leases>,
    /// Those that do nothing at the moment.
    resting: BTreeMap<Partition, PartitionDrain>,
    /// Those that take a step. Whoever stops waiting for them leaves them here.
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    /// The partitions of these.
    busy: BTreeSet<Partition>,
    /// What has been said of those that cannot be drained, where there are several.
    told: BTreeSet<(Partition, String)>,
}

impl fmt::Debug for PartitionDrains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionDrains").field("resting", &self.resting.keys()).field("busy", &self.busy).finish_non_exhaustive()
    }
}

impl PartitionDrains {
    pub(super) fn new(context: &Arc<Context>, shared: &Shared) -> Self {
        Self {
            context: Arc::clone(context),
            shared: shared.clone(),
            leases: None,
            resting: BTreeMap::new(),
            running: FuturesUnordered::new(),
            busy: BTreeSet::new(),
            told: BTreeSet::new(),
        }
    }

    /// Has the leases say what this process drains.
    pub(super) fn set_leases(&mut self, leases: Leases) {
        self.leases = Some(leases);
    }

    pub(super) fn leases(&self) -> Option<&Leases> {
        self.leases.as_ref()
    }

    /// Returns whether there are several partitions, of which one that fails stops nothing.
    pub(super) fn are_many(&self) -> bool {
        self.context.keys.are_in_cluster()
    }

    /// Begins to drain what this process is to drain now, and forgets what it is to drain no more.
    pub(super) fn follow(&mut self) {
        let wanted = match &self.leases {
            Some(leases) => leases.partitions(),
            None => self.context.keys.drained_partitions().collect(),
        };
        let leases = self.leases.as_ref();
        self.resting.retain(|partition, part| part.is_guest || (wanted.contains(partition) && part.stands(leases)));
        // What is left from before a cluster first: its partition is the last one.
        for partition in wanted.into_iter().rev() {
            if self.busy.contains(&partition) || self.resting.get(&partition).is_some_and(|part| !part.is_guest) {
                continue;
            }
            let in_use = match &self.leases {
                Some(leases) => match leases.use_of(partition) {
                    Some(in_use) => Some(in_use),
                    None => continue,
                },
                None => None,
            };
            self.add(partition, in_use, false);
        }
        // What another process has drained meanwhile is news when it fails here again.
        self.told.retain(|(partition, _)| self.busy.contains(partition) || self.resting.contains_key(partition));
        let dead = self.context.keys.partition_of_dead();
        if self.are_many() && !self.is_own(dead) {
            // Whoever drains that partition counts them.
            self.context.metrics.dead_letters.set(0);
        }
        self.context.health.keep_only(|partition| self.busy.contains(&partition) || self.resting.contains_key(&partition));
    }

    /// Drains a partition for a while that another process holds and does not get on with.
    pub(super) fn add_guest(&mut self, partition: Partition) {
        if !self.resting.contains_key(&partition) {
            self.add(partition, None, true);
        }
    }

    /// Leaves such partitions to the others again.
    pub(super) fn remove_guests(&mut self) {
        self.resting.retain(|_, part| !part.is_guest);
    }

    fn add(&mut self, partition: Partition, in_use: Option<InUse>, is_guest: bool) {
        let leaving = in_use.as_ref().map_or_else(CancellationToken::new, |in_use| in_use.leaving.clone());
        let drain = Drain::new(&self.context, &self.shared, partition, leaving);
        self.resting.insert(partition, PartitionDrain::new(&self.context, &self.shared, drain, in_use, is_guest));
    }

    /// Returns the partitions that this process drains of its own accord.
    pub(super) fn own(&self) -> BTreeSet<Partition> {
        let resting = self.resting.iter().filter(|(_, part)| !part.is_guest).map(|(partition, _)| *partition);
        resting.chain(self.busy.iter().copied()).collect()
    }

    /// Returns whether this process drains a partition of its own accord.
    pub(super) fn is_own(&self, partition: Partition) -> bool {
        self.busy.contains(&partition) || self.resting.get(&partition).is_some_and(|part| !part.is_guest)
    }

    /// Returns all drains, none of which takes a step.
    pub(super) fn all(&self) -> impl Iterator<Item = &Drain> {
        self.resting.values().map(|part| &part.drain)
    }

    /// Returns the drain of a partition, where this process has one.
    pub(super) fn of(&self, partition: Partition) -> Option<&Drain> {
        self.resting.get(&partition).map(|part| &part.drain)
    }

    /// Returns the only drain, where there is no more than one partition.
    pub(super) fn only(&mut self) -> Option<&mut PartitionDrain> {
        if self.are_many() { None } else { self.resting.get_mut(&Partition::WHOLE) }
    }

    /// Hands out all drains, when none takes a step any more.
    pub(super) async fn take_all(&mut self) -> Vec<PartitionDrain> {
        self.rest().await;
        std::mem::take(&mut self.resting).into_values().collect()
    }

    /// Takes steps that are due, and waits for the end of the next one. Who stops waiting stops none of them. All that are
    /// due begin; as many store as have a place.
    pub(super) async fn next(&mut self) -> (Partition, Result<Drained, Failure>) {
        loop {
            let next_due = self.start_due();
            let sleep = async {
                match next_due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(done) = self.running.next() => return self.finish(done),
                () = sleep => {}
            }
        }
    }

    /// Starts steps that are due, in their order. Returns when the next one is.
    fn start_due(&mut self) -> Option<Instant> {
        let now = Instant::now();
        loop {
            let parts = self.resting.iter().filter(|(_, part)| !part.is_guest);
            let (partition, due) = parts.map(|(partition, part)| (*partition, part.schedule.due)).min_by_key(|(_, due)| *due)?;
            if due > now {
                return Some(due);
            }
            self.start(partition, &|part| part.step(Urgency::Patient));
        }
    }

    /// Waits until no drain takes a step. Those that have no place yet are begun anew later.
    pub(super) async fn rest(&mut self) {
        let _pause = self.shared.places.pause();
        while let Some(done) = self.running.next().await {
            let (partition, result) = self.finish(done);
            if let Err(failure) = result {
                self.tell(partition, &failure);
            }
        }
    }

    /// Returns whether any drain takes a step.
    pub(super) fn are_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// Returns the partitions whose next step is due, with or without those that could not be drained the last time.
    pub(super) fn due(&self, with_failing: bool) -> BTreeSet<Partition> {
        let now = Instant::now();
        let is_wanted = |partition: Partition| with_failing || self.context.health.is_healthy(partition);
        let due = self.resting.iter().filter(|(_, part)| !part.is_guest && part.schedule.due <= now);
        due.map(|(partition, _)| *partition).filter(|partition| is_wanted(*partition)).collect()
    }

    /// Has some partitions worked on, side by side, each to its end. Where one of them takes long, the others drain what comes
    /// in meanwhile, unless it is what was left from before a cluster, which comes first. None takes a step when this ends.
    pub(super) async fn work_on(
        &mut self,
        partitions: BTreeSet<Partition>,
        work: impl Fn(PartitionDrain) -> BoxFuture<'static, Done>,
    ) -> Vec<(Partition, Result<Drained, Failure>)> {
        self.rest().await;
        let mut awaited: BTreeSet<Partition> =
            partitions.into_iter().filter(|partition| self.resting.contains_key(partition)).collect();
        for partition in &awaited {
            self.start(*partition, &work);
        }
        let mut ended = Vec::with_capacity(awaited.len());
        let mut next_look = tokio::time::Instant::now() + LONG;
        while !awaited.is_empty() {
            let others_may = !awaited.contains(&Partition::LEGACY) || !self.context.health.is_healthy(Partition::LEGACY);
            tokio::select! {
                Some(done) = self.running.next() => {
                    let (partition, result) = self.finish(done);
                    if awaited.remove(&partition) {
                        ended.push((partition, result));
                    } else if let Err(failure) = result {
                        self.tell(partition, &failure);
                    }
                }
                () = tokio::time::sleep_until(next_look), if others_may => {
                    for partition in self.due(false) {
                        self.start(partition, &|part| part.step(Urgency::Patient));
                    }
                    next_look = tokio::time::Instant::now() + LOOK_INTERVAL;
                }
            }
        }
        self.rest().await;
        ended
    }

    fn start(&mut self, partition: Partition, work: &impl Fn(PartitionDrain) -> BoxFuture<'static, Done>) {
        if let Some(part) = self.resting.remove(&partition) {
            self.busy.insert(partition);
            self.running.push(work(part));
        }
    }

    /// Notes how work on a partition ended, and gives the partition back where it is to be given back.
    fn finish(&mut self, (mut part, result): Done) -> (Partition, Result<Drained, Failure>) {
        let partition = part.drain.partition();
        let outboxes = self.resting.len() + self.busy.len();
        self.busy.remove(&partition);
        part.schedule.after(&result, self.context.settings.linger, outboxes);
        if let Some(leases) = self.leases.as_ref().filter(|_| !part.is_guest) {
            leases.note_step(partition, result.as_ref().err());
        }
        match &result {
            Ok(Drained::Idle) => part.is_settled = true,
            Ok(_) => {}
            Err(_) => part.is_settled = false,
        }
        if matches!(result, Ok(Drained::Idle | Drained::Stored { .. })) {
            self.told.retain(|(told, _)| *told != partition);
        }
        if part.is_guest || part.stands(self.leases.as_ref()) {
            self.resting.insert(partition, part);
        }
        (partition, result)
    }

    /// Sums up what work has done: the greatest of it, and how many partitions have failed. Where there are several, one
    /// that fails costs only itself.
    ///
    /// # Errors
    /// What was in the way of all of them.
    pub(super) fn sum_up(&mut self, ended: Vec<(Partition, Result<Drained, Failure>)>) -> Result<(Drained, usize), Failure> {
        let number = ended.len();
        let (mut greatest, mut failures) = (None, Vec::new());
        for (partition, result) in ended {
            match result {
                Ok(drained) => greatest = Some(greatest.map_or(drained, |greatest| greater(greatest, drained))),
                Err(Failure::Stopped) => return Err(Failure::Stopped),
                Err(failure) => failures.push((partition, failure)),
            }
        }
        let failed = failures.len();
        if self.are_many() {
            failures.iter().for_each(|(partition, failure)| self.tell(*partition, failure));
        }
        match failures.into_iter().next() {
            Some((_, failure)) if failed == number => Err(failure),
            _ => Ok((greatest.unwrap_or(Drained::Idle), failed)),
        }
    }

    /// Says which outboxes cannot be drained.
    pub(super) fn tell_failures(&mut self, ended: &[(Partition, Result<Drained, Failure>)]) {
        for (partition, result) in ended {
            if let Err(failure) = result {
                self.tell(*partition, failure);
            }
        }
    }

    /// Says that an outbox cannot be drained. Of several, a node that is away has many, and each is tried again and again: each
    /// reason is said once, until the outbox is drained again.
    pub(super) fn tell(&mut self, partition: Partition, failure: &Failure) {
        if !self.are_many() {
            tracing::warn!("the outbox cannot be drained: {failure}");
            return;
        }
        let text = failure.to_string();
        let name = partition.name();
        if self.told.insert((partition, text.clone())) {
            tracing::warn!(name: log_names::STATE, partition = name, "the outbox cannot be drained: {text}");
        } else {
            tracing::debug!(partition = name, "the outbox cannot be drained: {text}");
        }
    }

    /// Returns the partitions of whose posts PostgreSQL has nothing that is not acknowledged in Redis yet: no other process can
    /// have put it there, and no step of this one that has failed.
    pub(super) async fn alone(&mut self) -> Result<BTreeSet<Partition>, Failure> {
        let own = self.own();
        let Some(leases) = &self.leases else { return Ok(own) };
        let mut alone = leases.alone(&self.context.database).await?;
        alone.retain(|partition| own.contains(partition));
        if self.are_many() {
            // Without a cluster, there is no scan where the drain fails.
            alone.retain(|partition| self.resting.get(partition).is_some_and(|part| part.is_settled));
        }
        if self.are_many() && !alone.contains(&Partition::LEGACY) {
            // What is left from before a cluster is of posts of all partitions.
            let length = outbox::length(&self.context, Partition::LEGACY).await;
            if !length.is_ok_and(|length| length == 0) {
                alone.clear();
            }
        }
        Ok(alone)
    }
}

/// Returns which of two drains has done more, or has less to do.
fn greater(one: Drained, other: Drained) -> Drained {
    use Drained::{Deferred, Idle, Stored, Waiting};
    match (one, other) {
        (Stored { last, pairs }, Stored { last: other, pairs: more }) => Stored { last: last.max(other), pairs: pairs + more },
        (stored @ Stored { .. }, _) | (_, stored @ Stored { .. }) => stored,
        (Deferred(one), Deferred(other)) => Deferred(one.min(other)),
        (deferred @ Deferred(_), _) | (_, deferred @ Deferred(_)) => deferred,
        (Waiting(one), Waiting(other)) => Waiting(one.min(other)),
        (waiting @ Waiting(_), _) | (_, waiting @ Waiting(_)) => waiting,
        (Idle, Idle) => Idle,
    }
}
