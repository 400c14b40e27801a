//! The task that keeps the connection, takes leases and gives them back.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use views_core::{keys::Keys, log_names, partition::Partition};
use views_postgres::{
    Database, DatabaseError,
    leases::{Holders, LeaseSession},
};

use super::{
    CLUSTER_INTERVAL, INTERVAL, Lease, Leases, PATIENCE, Participant, Role, Shared, State,
    division::{Division, share},
    fitness::Fitness,
};
use crate::{metrics::Metrics, session_name};

/// How soon another connection is opened where one is lost that stood: until then, the others share out everything among
/// themselves.
const RECONNECT: Duration = Duration::from_millis(100);

/// Begins to run for leases, as soon as PostgreSQL is set up for it, for as long as anybody has what is returned: a
/// command that has drained does not keep the daemons from it.
#[must_use]
pub fn campaign(database: Arc<Database>, keys: Keys, metrics: Metrics, participant: Participant) -> Leases {
    let (sender, receiver) = watch::channel(State { role: Role::Undecided, held: BTreeMap::new() });
    let shared = Arc::new(Shared {
        keys,
        connected: AtomicBool::new(false),
        failure: Mutex::default(),
        backend: Mutex::default(),
        fitness: Fitness::default(),
        is_ending: AtomicBool::new(false),
        wake: Notify::new(),
        cycle: watch::Sender::new(None),
    });
    let campaign = Campaign { database, shared: Arc::clone(&shared), state: sender, participant, metrics };
    tokio::spawn(async move {
        tokio::select! {
            () = campaign.run() => {}
            () = campaign.state.closed() => {}
        }
    });
    Leases { state: receiver, shared }
}

struct Campaign {
    database: Arc<Database>,
    shared: Arc<Shared>,
    state: watch::Sender<State>,
    participant: Participant,
    metrics: Metrics,
}

impl Campaign {
    /// Keeps a connection, for ever.
    async fn run(&self) {
        let mut division = Division::new(self.shared.keys.drained_partitions());
        let mut cycles = self.shared.cycle.subscribe();
        loop {
            let Err(error) = self.hold_a_session(&mut division, &mut cycles).await;
            self.note_backend(None);
            self.note_failure(Some(error.clone()));
            let mut pause = self.interval();
            if self.shared.connected.swap(false, Relaxed) {
                self.metrics.postgres_up.set(0);
                tracing::warn!(name: log_names::STATE, %error, "the connection that decides who leads is lost");
                if self.shared.keys.are_in_cluster() {
                    pause = RECONNECT;
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn interval(&self) -> Duration {
        if self.shared.keys.are_in_cluster() { CLUSTER_INTERVAL } else { INTERVAL }
    }

    fn note_backend(&self, backend: Option<i32>) {
        *self.shared.backend.lock().unwrap_or_else(PoisonError::into_inner) = backend;
    }

    fn note_failure(&self, failure: Option<DatabaseError>) {
        *self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// Takes leases and gives them back, as long as the connection stands: they end with it.
    async fn hold_a_session(
        &self,
        division: &mut Division,
        cycles: &mut watch::Receiver<Option<i64>>,
    ) -> Result<Infallible, DatabaseError> {
        let is_in_cluster = self.shared.keys.are_in_cluster();
        let mut session = LeaseSession::open(&self.database, is_in_cluster, PATIENCE).await?;
        self.note_backend(Some(session.backend()));
        session.ping().await?;
        self.take_again(&mut session).await?;
        let mut is_named = false;
        loop {
            self.share_out(&mut session, division).await?;
            let leads = !session.held().is_empty();
            if leads && !is_named {
                let name = session_name::leader(*cycles.borrow_and_update());
                session.set_name(Some(&name)).await?;
            } else if is_named && !leads {
                session.set_name(None).await?;
            }
            is_named = leads;
            tokio::select! {
                () = tokio::time::sleep(self.interval()) => {}
                () = self.shared.wake.notified() => {}
                Ok(()) = cycles.changed(), if leads => is_named = false,
            }
            session.ping().await?;
        }
    }

    /// Takes those partitions whose lease was held by the connection before: who works on them goes on. What others have
    /// by now is theirs.
    async fn take_again(&self, session: &mut LeaseSession) -> Result<(), DatabaseError> {
        let before: Vec<Partition> = self.state.borrow().held.keys().copied().collect();
        session.take(before.iter().copied()).await?;
        for partition in before {
            if session.held().contains(&partition) {
                self.change(|held| {
                    if let Some(lease) = held.get_mut(&partition) {
                        lease.since = Instant::now();
                    }
                });
            } else {
                self.lose(partition);
            }
        }
        Ok(())
    }

    /// Has this process hold its share, as far as that can be done now.
    async fn share_out(&self, session: &mut LeaseSession, division: &mut Division) -> Result<(), DatabaseError> {
        let is_ending = self.shared.is_ending.load(Relaxed);
        let is_daemon = self.participant == Participant::Daemon;
        let is_able = self.shared.fitness.is_able(session.held().iter().copied());
        session.set_member(is_daemon && is_able && !is_ending).await?;
        let holders = session.holders().await?;
        division.note_free(|partition| holders.is_free(partition));
        let share = match self.participant {
            Participant::Daemon => share(division.len(), holders.other_members, is_able),
            Participant::Command => division.len(),
        };
        if !is_ending {
            self.give_notice(division, &holders, share, is_able);
        }
        self.give_back_unused(session, is_ending).await?;
        if is_ending {
            return Ok(());
        }
        let has_others = holders.other_members > 0;
        let mut wanted = division.wanted(&self.kept(), share, has_others);
        if is_daemon && share > 0 {
            wanted.extend(division.left_over(&wanted));
        }
        session.take(wanted.into_iter()).await?;
        for partition in session.held() {
            self.gain(*partition);
        }
        self.decide();
        Ok(())
    }

    /// Has those leases given back that are too many, or of partitions that this process cannot drain.
    fn give_notice(&self, division: &mut Division, holders: &Holders, share: usize, is_able: bool) {
        let kept = self.kept();
        let mut leaving = division.too_many(&kept, share);
        if share == 0 && !leaving.is_empty() {
            tracing::warn!(name: log_names::STATE, "Redis is of no use to this view-syncd: another one takes over, whose Redis is well");
        }
        let fails = |partition: &Partition| self.shared.fitness.fails(*partition);
        if holders.other_members > 0 && is_able {
            for partition in kept.into_iter().filter(fails) {
                tracing::warn!(name: log_names::STATE, partition = partition.number(), "another view-syncd is left to drain a partition");
                division.avoid(partition);
                leaving.push(partition);
            }
        }
        if leaving.is_empty() {
            return;
        }
        self.change(|held| {
            for lease in leaving.iter().filter_map(|partition| held.get(partition)) {
                lease.leaving.cancel();
            }
        });
    }

    /// Gives back what is to be given back and nobody of this process works on.
    async fn give_back_unused(&self, session: &mut LeaseSession, is_ending: bool) -> Result<(), DatabaseError> {
        let is_unused = |lease: &Lease| (is_ending || lease.leaving.is_cancelled()) && Arc::strong_count(&lease.users) == 1;
        let unused: Vec<Partition> = {
            let state = self.state.borrow();
            state.held.iter().filter(|(_, lease)| is_unused(lease)).map(|(partition, _)| *partition).collect()
        };
        session.give_back(&unused).await?;
        for partition in unused {
            self.lose(partition);
        }
        Ok(())
    }

    /// Returns the partitions that this process holds and is not to give back.
    fn kept(&self) -> BTreeSet<Partition> {
        let state = self.state.borrow();
        state.held.iter().filter(|(_, lease)| !lease.leaving.is_cancelled()).map(|(partition, _)| *partition).collect()
    }

    fn gain(&self, partition: Partition) {
        if !self.state.borrow().held.contains_key(&partition) {
            let lease = Lease { since: Instant::now(), leaving: CancellationToken::new(), users: Arc::default() };
            self.change(|held| drop(held.insert(partition, lease)));
        }
    }

    fn lose(&self, partition: Partition) {
        self.shared.fitness.forget(partition);
        self.change(|held| {
            if let Some(lease) = held.remove(&partition) {
                lease.leaving.cancel();
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<Partition, Lease>)) {
        self.state.send_modify(|state| change(&mut state.held));
    }

    /// Tells everybody what this process is now.
    fn decide(&self) {
        if !self.shared.connected.swap(true, Relaxed) {
            self.metrics.postgres_up.set(1);
            self.note_failure(None);
            tracing::info!(store = "postgresql", "PostgreSQL connected");
        }
        let held = self.state.borrow().held.len();
        let now = if held > 0 { Role::Leader } else { Role::Standby };
        self.metrics.leader.set(i64::from(now == Role::Leader));
        let before = self.metrics.partitions.set(i64::try_from(held).unwrap_or(i64::MAX));
        let changed = self.state.send_if_modified(|state| std::mem::replace(&mut state.role, now) != now);
        let all = self.shared.keys.drained_partitions().count();
        let is_in_cluster = self.shared.keys.are_in_cluster();
        match now {
            Role::Leader if is_in_cluster && (changed || before != self.metrics.partitions.get()) => {
                tracing::info!(role = now.as_str(), "this view-syncd drains {held} of {all} partitions");
            }
            Role::Leader if changed && !is_in_cluster => tracing::info!(role = now.as_str(), "this view-syncd leads"),
            Role::Standby if changed && is_in_cluster => {
                tracing::info!(
                    role = now.as_str(),
                    "other view-syncd drain all {all} partitions; this one takes over when one is gone"
                );
            }
            Role::Standby if changed => {
                tracing::info!(role = now.as_str(), "another view-syncd leads; this one takes over when that one is gone");
            }
            _ => {}
        }
    }
}
