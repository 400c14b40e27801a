//! The one struct that does the work: what it works on, and what it remembers between two steps.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use fred::{
    clients::Client,
    error::{Error, ErrorKind},
    interfaces::EventInterface,
};
use shared::{
    ids::PostId,
    keys::Keys,
    owner::Foreign,
    postgres::{Database, DatabaseError},
    redis::resp::Reply,
};

use crate::{
    cli::WorkSettings,
    line::Line,
    metrics::Metrics,
    outbox::{self, Gathered},
    stop::Stop,
    store::Store,
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
    pub fn obstacle(&self) -> &'static str {
        match self {
            Self::Redis(_) => "Redis is away",
            Self::Database(DatabaseError::Setup(_)) => "PostgreSQL is not set up for views",
            Self::Database(_) => "PostgreSQL is away",
            Self::Foreign(_) => "the keys in Redis belong to another database",
            Self::Stopped => "shutting down",
        }
    }
}

/// What was in the way of the last drain, if anything was.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<Option<&'static str>>>);

impl Health {
    /// What is in the way.
    #[must_use]
    pub fn obstacle(&self) -> Option<&'static str> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, obstacle: Option<&'static str>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = obstacle;
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
    /// What has been read from the outbox and waits for company.
    pub(crate) gathered: Gathered,
    pub(crate) store: Store,
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
            store: Store::new(Arc::clone(&stores.database), progress.clone()),
            progress,
            gathered: Gathered::default(),
            unpublished: HashMap::new(),
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

    /// Notes for operators how a drain or a cycle ended.
    pub(crate) fn note<T>(&self, result: &Result<T, Failure>) {
        self.progress.made();
        match result {
            Ok(_) => {
                self.metrics.redis_up.set(1);
                self.metrics.postgres_up.set(1);
                self.health.set(None);
            }
            Err(Failure::Stopped) => {}
            Err(failure) => {
                match failure {
                    Failure::Redis(_) => {
                        self.metrics.redis_up.set(0);
                    }
                    Failure::Database(_) => {
                        self.metrics.postgres_up.set(0);
                    }
                    Failure::Foreign(_) | Failure::Stopped => {}
                }
                self.health.set(Some(failure.obstacle()));
            }
        }
    }

    /// What a standby does: looks whether it could work, and leaves the work to the leader.
    pub async fn stand_by(&mut self) {
        let look = async {
            self.metrics.outbox_entries.set(outbox::length(&self.redis, &self.keys).await?);
            if self.health.obstacle().is_some() || self.watch.is_clustered() {
                self.watch.writable(&self.redis).await?;
            }
            self.database.ping().await?;
            self.check_owner().await
        };
        let result: Result<(), Failure> = look.await;
        self.gathered = Gathered::default();
        self.note(&result);
    }

    /// Ends the work at a point where that is safe.
    pub(crate) fn go_on(&self) -> Result<(), Failure> {
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

/// The replies of a pipeline, one for each of its commands. Where the connection broke, there is only the error.
pub(crate) fn replies<T>(replies: Vec<Result<T, Error>>, expected: usize) -> Result<Vec<Result<T, Error>>, Error> {
    // An error that is not about its key is about the server: no other reply of the pipeline is to be relied on then.
    let fatal = |reply: &Result<T, Error>| reply.as_ref().is_err_and(|error| !is_about_the_key(error));
    if replies.len() == expected && !replies.iter().any(fatal) {
        return Ok(replies);
    }
    Err(replies.into_iter().find(fatal).and_then(Result::err).unwrap_or_else(no_reply))
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
