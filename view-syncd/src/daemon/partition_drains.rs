//! The drains of this process, one for each partition that it holds, of which some take their steps side by side.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Instant,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio_util::sync::CancellationToken;
use views_core::{log_names, partition::Partition};
use views_redis::NodeId;

use super::{
    leases::{InUse, Leases},
    schedule::Schedule,
};
use crate::{
    context::Context,
    drain::{Drain, Drained, Urgency, outbox, shared::Shared},
    error::Failure,
};

/// The drain of one partition.
pub(super) struct PartitionDrain {
    pub(super) drain: Drain,
    schedule: Schedule,
    /// Keeps the lease, where there are leases.
    in_use: Option<InUse>,
    /// Whether all that PostgreSQL may have got from the outbox is acknowledged, but for what is deferred: not where a step has
    /// failed, perhaps between the two, nor where nobody knows what came before.
    is_settled: bool,
    /// Whether it drains beside the process that holds the partition and does not get on with it.
    is_guest: bool,
    /// Drains what another node has of the outbox, where the slot is half moved.
    hidden: Option<(NodeId, Drain)>,
    context: Arc<Context>,
    shared: Shared,
}

/// What a drain has done for now.
type Done = (PartitionDrain, Result<Drained, Failure>);

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
        let (context, shared, schedule) = (Arc::clone(&self.context), self.shared.clone(), Schedule::starting_now());
        self.resting.insert(
            partition,
            PartitionDrain { drain, schedule, in_use, is_settled: false, is_guest, hidden: None, context, shared },
        );
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

    /// Has some partitions worked on, side by side, each to its end.
    pub(super) async fn work_on(
        &mut self,
        partitions: BTreeSet<Partition>,
        work: impl Fn(PartitionDrain) -> BoxFuture<'static, Done>,
    ) -> Vec<(Partition, Result<Drained, Failure>)> {
        self.rest().await;
        for partition in partitions {
            self.start(partition, &work);
        }
        let mut ended = Vec::new();
        while let Some(done) = self.running.next().await {
            ended.push(self.finish(done));
        }
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
    pub(super) fn sum_up(&self, ended: Vec<(Partition, Result<Drained, Failure>)>) -> Result<(Drained, usize), Failure> {
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
    pub(super) fn tell_failures(&self, ended: &[(Partition, Result<Drained, Failure>)]) {
        for (partition, result) in ended {
            if let Err(failure) = result {
                self.tell(*partition, failure);
            }
        }
    }

    /// Says that an outbox cannot be drained.
    pub(super) fn tell(&self, partition: Partition, failure: &Failure) {
        if self.are_many() {
            let partition = partition.name();
            tracing::warn!(name: log_names::STATE, partition, "the outbox cannot be drained: {failure}");
        } else {
            tracing::warn!("the outbox cannot be drained: {failure}");
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

impl PartitionDrain {
    /// Takes one step.
    pub(super) fn step(mut self, urgency: Urgency) -> BoxFuture<'static, Done> {
        Box::pin(async move {
            self.step_hidden().await;
            let result = self.drain.step(urgency).await;
            (self, result)
        })
    }

    /// Takes a step of the drain of what another node has of the outbox, where the slot is half moved and its owner does not
    /// know that.
    async fn step_hidden(&mut self) {
        let partition = self.drain.partition();
        let Some(node) = self.context.half_moved.hidden_at(self.context.keys.outbox_of(partition)) else {
            self.hidden = None;
            return;
        };
        if self.hidden.as_ref().is_none_or(|(at, _)| *at != node) {
            let leaving = self.in_use.as_ref().map_or_else(CancellationToken::new, |in_use| in_use.leaving.clone());
            self.hidden = Some((node, Drain::of_hidden(&self.context, &self.shared, partition, node, leaving)));
        }
        let Some((_, drain)) = &mut self.hidden else { return };
        match drain.step(Urgency::AtOnce).await {
            Ok(Drained::Stored { pairs, .. }) => {
                let partition = partition.name();
                tracing::info!(partition, pairs, "stored views that a half moved slot of the cluster had hidden");
            }
            Ok(Drained::Idle) => {
                if let Err(error) = drain.outbox.session.remove_hidden_outbox().await {
                    tracing::debug!(partition = partition.name(), %error, "what is left of a half moved outbox is not removed");
                }
            }
            Ok(_) => {}
            Err(failure) => tracing::debug!(partition = partition.name(), "a half moved outbox cannot be drained: {failure}"),
        }
    }

    /// Drains everything that is in the outbox now, but for what others have locked. What arrives meanwhile may stay, so
    /// that this ends under load too.
    pub(super) fn drain_all(mut self, context: Arc<Context>) -> BoxFuture<'static, Done> {
        Box::pin(async move {
            self.step_hidden().await;
            let partition = self.drain.partition();
            let result = async {
                let Some(newest) = outbox::newest(&context, partition).await? else { return Ok(Drained::Idle) };
                loop {
                    match self.drain.step(Urgency::AtOnce).await? {
                        Drained::Stored { last, .. } if last < newest => context.checkpoint()?,
                        drained => return Ok(drained),
                    }
                }
            };
            let result = result.await;
            self.is_settled |= matches!(result, Ok(Drained::Idle | Drained::Stored { .. } | Drained::Deferred(_)));
            (self, result)
        })
    }

    /// Notes that something else was in the way of its work.
    pub(super) fn fail(&mut self, failure: Failure) -> Failure {
        let result = self.drain.finish(Err(failure));
        self.schedule.after(&result, std::time::Duration::ZERO, 1);
        result.err().unwrap_or(Failure::Stopped)
    }

    fn stands(&self, leases: Option<&Leases>) -> bool {
        match (&self.in_use, leases) {
            (Some(in_use), Some(leases)) => in_use.stands(leases),
            (None, None) => true,
            _ => false,
        }
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
