//! Which of several daemons works: the one that holds an advisory lock in PostgreSQL, on a connection of its own.
//!
//! The lock is a courtesy, not a guarantee: two that both believe to lead for a moment do no harm, because every step
//! may be repeated and may run twice at once. So a daemon that has lost its connection goes on until it learns that
//! another one holds the lock.

use std::{
    convert::Infallible,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;
use views_core::log_names;
use views_postgres::{Database, DatabaseError, sql};

use crate::{entry_id::now_ms, metrics::Metrics, session_name};

/// How often a standby tries to take over, and a leader makes sure that it still has its connection.
const INTERVAL: Duration = Duration::from_secs(1);
/// A connection that does not answer for this long is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who has led for this long is the only one: whoever led before has learnt by now that its connection is lost.
const SETTLED_IN: Duration = INTERVAL.saturating_add(PATIENCE).saturating_add(Duration::from_secs(2));
/// How long a start waits for the first decision. Without one, the daemon works.
const FIRST_DECISION: Duration = Duration::from_secs(10);

/// What this daemon is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Nobody knows yet.
    Undecided,
    /// It drains and scans.
    Leader,
    /// Another one does; this one takes over when that one is gone.
    Standby,
}

impl Role {
    /// Returns the word for operators.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undecided => "undecided",
            Self::Leader => "leader",
            Self::Standby => "standby",
        }
    }
}

/// Follows the role of this daemon.
#[derive(Debug, Clone)]
pub struct Leadership {
    role: watch::Receiver<Role>,
    connected: Arc<AtomicBool>,
    /// Why PostgreSQL did not keep the connection that decides, where it did not.
    failure: Arc<Mutex<Option<DatabaseError>>>,
    session: Arc<Mutex<Option<Session>>>,
    /// When the last cycle of this process succeeded, in milliseconds since 1970.
    cycle: watch::Sender<Option<i64>>,
}

/// The session that holds the lock.
#[derive(Debug, Clone, Copy)]
struct Session {
    backend: i32,
    since: Instant,
}

impl Leadership {
    /// Returns whether no other process can be draining now: this one leads, as PostgreSQL says at this moment, and has
    /// for a while.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn is_alone(&self, database: &Database) -> Result<bool, DatabaseError> {
        let session = *self.session.lock().unwrap_or_else(PoisonError::into_inner);
        match session.filter(|session| session.since.elapsed() >= SETTLED_IN) {
            Some(session) => database.leads(session.backend).await,
            None => Ok(false),
        }
    }

    /// Notes that a cycle has succeeded. The session that holds the lock is named by it, so that whoever can see that
    /// session knows.
    pub fn note_cycle(&self) {
        self.cycle.send_replace(Some(now_ms()));
    }

    /// Returns the role now.
    #[must_use]
    pub fn role(&self) -> Role {
        *self.role.borrow()
    }

    /// Returns whether this daemon drains and scans of its own accord.
    #[must_use]
    pub fn works(&self) -> bool {
        self.role() != Role::Standby
    }

    /// Returns whether the connection that decides stands. With an empty outbox, nothing else would tell that
    /// PostgreSQL is away.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Relaxed)
    }

    /// Returns why there is no such connection, where it was tried.
    pub(super) fn failure(&self) -> Option<DatabaseError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the first decision, but not for ever.
    pub async fn decided(&mut self) {
        let decided = self.role.wait_for(|role| *role != Role::Undecided);
        // Either way the loop goes on with the role that there is.
        let _ = tokio::time::timeout(FIRST_DECISION, decided).await;
    }

    /// Waits for a change of role.
    pub async fn changed(&mut self) {
        if self.role.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Begins to run for the leadership, as soon as PostgreSQL is set up for it, for as long as anybody has what is
/// returned: a command that has drained does not keep the daemon from it.
#[must_use]
pub fn campaign(database: Arc<Database>, metrics: Metrics) -> Leadership {
    let (sender, receiver) = watch::channel(Role::Undecided);
    let (connected, session) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
    let failure = Arc::<Mutex<Option<DatabaseError>>>::default();
    let cycle = watch::Sender::new(None);
    let mut cycles = cycle.subscribe();
    let leadership = Leadership {
        role: receiver,
        connected: Arc::clone(&connected),
        failure: Arc::clone(&failure),
        session: Arc::clone(&session),
        cycle,
    };
    tokio::spawn(async move {
        let candidate = Candidate { database, role: sender, connected, failure, session, metrics };
        loop {
            let ended = tokio::select! {
                ended = candidate.hold_a_session(&mut cycles) => ended,
                () = candidate.role.closed() => return,
            };
            candidate.note_session(None);
            let Err(error) = ended;
            candidate.note_failure(Some(error.clone()));
            if candidate.connected.swap(false, Relaxed) {
                candidate.metrics.postgres_up.set(0);
                tracing::warn!(name: log_names::STATE, %error, "the connection that decides who leads is lost");
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = candidate.role.closed() => return,
            }
        }
    });
    leadership
}

struct Candidate {
    database: Arc<Database>,
    role: watch::Sender<Role>,
    connected: Arc<AtomicBool>,
    failure: Arc<Mutex<Option<DatabaseError>>>,
    session: Arc<Mutex<Option<Session>>>,
    metrics: Metrics,
}

impl Candidate {
    fn note_session(&self, session: Option<Session>) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = session;
    }

    fn note_failure(&self, failure: Option<DatabaseError>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// Tries for the lock until it is held, then keeps the connection, for the lock ends with it.
    async fn hold_a_session(&self, cycles: &mut watch::Receiver<Option<i64>>) -> Result<Infallible, DatabaseError> {
        let ledger = self.database.schema().await?.tables.ledger.to_string();
        let session = self.database.dedicated().await?;
        in_time(session.batch_execute(sql::LEADER_SESSION)).await?;
        in_time(session.query(sql::BE_PRESENT, &[&ledger])).await?;
        let mut leads = false;
        loop {
            // A lock on a standby keeps nobody from leading on the primary: it is given up with the session.
            if !in_time(session.query_one(sql::PING, &[])).await?.get::<_, bool>(0) {
                return Err(DatabaseError::read_only());
            }
            if !leads {
                let tried = in_time(session.query_one(sql::TRY_TO_LEAD, &[&ledger])).await?;
                leads = tried.get(0);
                self.note_session(leads.then(|| Session { backend: tried.get(1), since: Instant::now() }));
                if leads {
                    cycles.mark_changed();
                }
                self.decide(if leads { Role::Leader } else { Role::Standby });
            }
            let sleep = tokio::time::sleep(INTERVAL);
            tokio::select! {
                () = sleep => {}
                Ok(()) = cycles.changed(), if leads => {
                    let name = session_name::leader(*cycles.borrow_and_update());
                    in_time(session.query(sql::NAME_SESSION, &[&name])).await?;
                }
            }
        }
    }

    fn decide(&self, now: Role) {
        if !self.connected.swap(true, Relaxed) {
            self.metrics.postgres_up.set(1);
            self.note_failure(None);
            tracing::info!(store = "postgresql", "PostgreSQL connected");
        }
        self.metrics.leader.set(i64::from(now == Role::Leader));
        let changed = self.role.send_if_modified(|role| std::mem::replace(role, now) != now);
        match now {
            Role::Leader if changed => tracing::info!(role = now.as_str(), "this view-syncd leads"),
            _ if changed => {
                tracing::info!(role = now.as_str(), "another view-syncd leads; this one takes over when that one is gone");
            }
            _ => {}
        }
    }
}

async fn in_time<T, E: Into<DatabaseError>>(work: impl Future<Output = Result<T, E>>) -> Result<T, DatabaseError> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(DatabaseError::Unavailable("no answer in time".to_owned())),
    }
}
