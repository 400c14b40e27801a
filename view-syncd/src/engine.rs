//! The one struct that does the work: what it works on, and what it remembers between two steps.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Instant,
};

use fred::{
    clients::Client,
    error::{Error, ErrorKind},
    interfaces::EventInterface,
};
use views_core::{ids::PostId, keys::Keys, owner::Foreign};
use views_postgres::{Database, DatabaseError};
use views_redis::{
    resp::{Commands, Replies, Reply},
    scripts,
};

use crate::{
    cli::WorkSettings,
    deferred::DeferredPosts,
    drain::Drained,
    health::Health,
    leader::Leadership,
    line::Line,
    metrics::Metrics,
    outbox::{self, Batch, EntryId},
    stop::Stop,
    store::Inserter,
    stores::{RedisWatch, Stores},
    watchdog::Progress,
};

/// Why a step did not do its work. Everything is still where it was, and the step may be repeated.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Redis is away, or refuses.
    #[error("Redis is not available: {0}")]
    Redis(#[from] Error),
    /// PostgreSQL is away, or its tables are not as they should be.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The keys in Redis are not this database's to take from.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// The process is about to stop.
    #[error("the process is about to stop")]
    Stopped,
}

impl Failure {
    /// What is in the way, in words for an operator's `/readyz`.
    #[must_use]
    pub fn obstacle(&self) -> String {
        match self {
            Self::Redis(error) => match error.kind() {
                ErrorKind::Unknown | ErrorKind::InvalidCommand | ErrorKind::InvalidArgument => {
                    format!("Redis is away or refuses: {}", error.details())
                }
                _ => "Redis is away".to_owned(),
            },
            Self::Database(error @ DatabaseError::Setup(_)) => format!("PostgreSQL is not set up for views: {error}"),
            Self::Database(error @ (DatabaseError::Refused(_) | DatabaseError::Locked(_))) => {
                format!("PostgreSQL takes no views at all: {error}")
            }
            Self::Database(DatabaseError::Unavailable(text)) => format!("PostgreSQL is away: {text}"),
            Self::Database(error @ DatabaseError::Conflict(_)) => error.to_string(),
            Self::Foreign(_) => "the keys in Redis belong to another database".to_owned(),
            Self::Stopped => "shutting down".to_owned(),
        }
    }
}

/// Does the work, one step at a time. One task owns it.
#[derive(Debug)]
pub struct Engine {
    pub(crate) redis: Client,
    pub(crate) keys: Keys,
    /// Whole pipelines to the same server.
    pub(crate) line: Line,
    /// The link over which the keys were last found to be ours. What is over another one has to be looked at again.
    pub(crate) owned: u64,
    pub(crate) watch: RedisWatch,
    pub(crate) database: Arc<Database>,
    pub(crate) settings: WorkSettings,
    pub(crate) metrics: Metrics,
    pub(crate) stop: Stop,
    pub(crate) health: Health,
    pub(crate) progress: Progress,
    /// Whether this process is the one that drains. Another one's counts in PostgreSQL may be ahead of what Redis has been told.
    pub(crate) drains: bool,
    /// Whether it is the only one that does; where nobody can tell, it is.
    leadership: Option<Leadership>,
    /// When dead letters are offered again before the next cycle, because locks were in the way of some.
    pub(crate) retry_dead_at: Option<Instant>,
    /// Up to which dead letter they have been offered again.
    pub(crate) retried_to: Option<EntryId>,
    /// What has been read from the outbox and waits for company.
    pub(crate) batch: Batch,
    /// Posts whose pairs wait for locks.
    pub(crate) deferred: DeferredPosts,
    pub(crate) store: Inserter,
    /// Counts that have changed in PostgreSQL and have not been published yet, because Redis went away in between.
    pub(crate) unpublished: HashMap<PostId, i64>,
}

impl Engine {
    /// Puts the parts together. Nothing is asked of either store yet.
    #[must_use]
    pub fn new(stores: &Stores, settings: WorkSettings, metrics: Metrics, stop: Stop) -> Self {
        let connections = Arc::new(AtomicU64::new(0));
        let opened = Arc::clone(&connections);
        let progress = Progress::default();
        stores.redis.on_reconnect(move |_| {
            opened.fetch_add(1, SeqCst);
            async { Ok(()) }
        });
        Self {
            redis: stores.redis.clone(),
            keys: stores.keys.clone(),
            line: Line::new(stores.redis.clone(), connections),
            owned: 0,
            watch: stores.watch.clone(),
            database: Arc::clone(&stores.database),
            settings,
            metrics,
            stop,
            health: Health::default(),
            store: Inserter::new(Arc::clone(&stores.database), progress.clone()),
            progress,
            drains: true,
            leadership: None,
            retry_dead_at: None,
            retried_to: None,
            batch: Batch::default(),
            deferred: DeferredPosts::default(),
            unpublished: HashMap::new(),
        }
    }

    /// Sets whether this process is the one that drains, or leaves that to another one. It is, unless told otherwise.
    pub fn set_drains(&mut self, drains: bool) {
        self.drains = drains;
    }

    /// Sets who can tell whether this process is the only one that drains.
    pub fn set_leadership(&mut self, leadership: Leadership) {
        self.leadership = Some(leadership);
    }

    /// Whether no other process can have put anything into PostgreSQL that it has not settled in Redis yet.
    pub(crate) async fn drains_alone(&self) -> Result<bool, Failure> {
        match &self.leadership {
            _ if !self.drains => Ok(false),
            Some(leadership) => Ok(leadership.is_alone(&self.database).await?),
            None => Ok(true),
        }
    }

    /// What was in the way of the last drain.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// When the last step was taken.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Forgets what has been read of the outbox: it is to be read again from its start.
    pub(crate) fn forget_outbox(&mut self) {
        self.batch = Batch::default();
        self.deferred = std::mem::take(&mut self.deferred).forgotten();
    }

    /// Notes for operators how a step of the drain ended. Only what was really stored, or that there is nothing to store, makes it well again.
    pub(crate) fn note_drained(&mut self, result: &Result<Drained, Failure>) {
        self.progress.made();
        self.metrics.deferred_posts.set(i64::try_from(self.deferred.len()).unwrap_or(i64::MAX));
        self.health.note_deferred(self.deferred.len(), self.deferred.oldest());
        match result {
            Ok(Drained::Waiting(_)) => {}
            Ok(Drained::Deferred(_)) => {
                self.deferred.forget_before();
                // Nothing was stored that would show that it is well again.
                self.health.note_only_deferred();
            }
            Ok(drained) => {
                if *drained == Drained::Idle {
                    self.deferred.forget_before();
                }
                self.metrics.redis_up.set(1);
                self.metrics.postgres_up.set(1);
                self.health.note_drain(None);
            }
            Err(failure) => self.note_failure(failure, Health::note_drain),
        }
    }

    /// Notes for operators how a cycle ended.
    pub(crate) fn note_cycle<T>(&self, result: &Result<T, Failure>) {
        self.progress.made();
        match result {
            Ok(_) => self.health.note_cycle(None),
            // Where it was the drain that failed, it is a drain that shows that it is well again.
            Err(_) if !self.health.is_healthy() => {}
            Err(failure) => self.note_failure(failure, Health::note_cycle),
        }
    }

    fn note_failure(&self, failure: &Failure, note: impl Fn(&Health, Option<String>)) {
        match failure {
            Failure::Stopped => return,
            Failure::Foreign(_) => {}
            Failure::Redis(_) => {
                self.metrics.redis_up.set(0);
            }
            Failure::Database(_) => {
                self.metrics.postgres_up.set(0);
            }
        }
        note(&self.health, Some(failure.obstacle()));
    }

    /// What a standby does: looks whether it could work, and leaves the work to the leader.
    pub async fn standby_step(&mut self) {
        self.forget_outbox();
        let result: Result<(), Failure> = async {
            self.measure_outbox().await?;
            self.check_owner().await?;
            if self.is_healthy() { Ok(self.database.ping().await?) } else { self.prove_stores().await }
        }
        .await;
        self.note_drained(&result.map(|()| Drained::Idle));
    }

    /// Whether nothing was in the way when it was last seen.
    pub(crate) fn is_healthy(&self) -> bool {
        self.health.is_healthy() && !self.watch.is_clustered()
    }

    /// Makes sure that both stores take what they would be given.
    pub(crate) async fn prove_stores(&mut self) -> Result<(), Failure> {
        self.watch.writable(&self.redis).await?;
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        scripts::prove_writable(&mut commands, &self.keys);
        self.line.exchange(&commands, &mut replies).await?;
        if let Some(reply) = replies.iter().find(|reply| matches!(reply, Reply::Error(_))) {
            return Err(refusal(Some(reply)).into());
        }
        self.database.ping().await?;
        self.database.refuses_all().await?.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Notes how long the outbox is, and how old its oldest entry.
    pub(crate) async fn measure_outbox(&mut self) -> Result<(), Failure> {
        let (length, oldest) = outbox::measure(&mut self.line, &self.keys).await?;
        self.metrics.outbox_entries.set(length);
        self.health.note_oldest(oldest);
        Ok(())
    }

    /// Ends the work at a point where that is safe.
    pub(crate) fn checkpoint(&self) -> Result<(), Failure> {
        self.progress.made();
        if self.stop.is_requested() { Err(Failure::Stopped) } else { Ok(()) }
    }
}

/// Whether Redis is well and refuses this one command for what the key holds (a key of another type, a field that is no number).
pub(crate) fn is_about_the_key(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::InvalidArgument => error.details().starts_with("WRONGTYPE"),
        ErrorKind::Unknown => error.details().starts_with("ERR "),
        _ => false,
    }
}

/// Why a reply over the line is none that was expected.
pub(crate) fn refusal(reply: Option<Reply<'_>>) -> Error {
    match reply {
        Some(Reply::Error(text)) if text.starts_with("WRONGTYPE") => Error::new(ErrorKind::InvalidArgument, text.to_owned()),
        Some(Reply::Error(text)) => Error::new(ErrorKind::Unknown, text.to_owned()),
        Some(_) => Error::new(ErrorKind::Protocol, "a reply of an unexpected kind"),
        None => no_reply(),
    }
}

fn no_reply() -> Error {
    Error::new(ErrorKind::Protocol, "a reply is missing")
}
