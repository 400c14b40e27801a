//! Whether Redis is as it is needed: looked at when the process starts and with each new connection, told in the log
//! and in a gauge.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use fred::error::{Error, ErrorKind};
use prometheus_client::metrics::gauge::Gauge;
use views_redis::{
    Redis,
    requirements::{self, Notices, Report},
};
use views_service::checks::Check;

/// How long to wait before a Redis that is not as it is needed is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Whether Redis is as it is needed.
#[derive(Debug, Clone, Default)]
pub(crate) struct RedisWatch {
    allow_eviction: bool,
    notices: Arc<Notices>,
    /// Whether the keys belong to another database.
    foreign: Arc<AtomicBool>,
    /// Whether it was in cluster mode when it was last asked.
    clustered: Arc<AtomicBool>,
    /// Whether some nodes of a cluster were away when they were last asked.
    partly_seen: Arc<AtomicBool>,
    /// Whether a task looks again and again, until it is as it is needed.
    looks_again: Arc<AtomicBool>,
    /// Why the last connection could not be opened, or was lost.
    lost: Arc<Mutex<Option<String>>>,
    /// Whether views are not safe in Redis, for operators.
    pub(crate) misconfigured: Gauge,
}

impl RedisWatch {
    pub(crate) fn new(allow_eviction: bool) -> Self {
        Self { allow_eviction, ..Self::default() }
    }

    /// Notes why connections are lost.
    pub(crate) fn note_losses(&self, redis: &Redis) {
        let lost = Arc::clone(&self.lost);
        redis.on_lost(move |details, _| {
            *lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(details.to_owned());
        });
    }

    /// Returns why there is no connection, where there is none.
    pub(crate) fn why_disconnected(&self) -> String {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone();
        lost.unwrap_or_else(|| "there is no connection yet".to_owned())
    }

    /// Demands that Redis takes writes. A server that loads its data or follows another one can perhaps be read, and no
    /// more.
    ///
    /// # Errors
    /// Why it does not.
    pub(crate) async fn writable(&self, redis: &Redis) -> Result<(), Error> {
        let report = self.inspect(redis).await?;
        self.note(&report);
        writable(&report)
    }

    /// Asks Redis what it is.
    ///
    /// # Errors
    /// Redis's error.
    pub(crate) async fn inspect(&self, redis: &Redis) -> Result<Report, Error> {
        requirements::inspect(redis, self.allow_eviction).await
    }

    /// Notes what Redis is.
    pub(crate) fn note(&self, report: &Report) {
        let mut report = report.clone();
        report.keep_unseen(self.notices.refusal());
        self.partly_seen.store(!report.unseen.is_empty(), Relaxed);
        self.notices.tell(&report);
        self.clustered.store(report.is_clustered, Relaxed);
        self.set_misconfigured();
    }

    /// Returns whether it was in cluster mode when it was last asked.
    pub(crate) fn is_clustered(&self) -> bool {
        self.clustered.load(Relaxed)
    }

    /// Notes whether the keys belong to another database.
    pub(crate) fn note_owner(&self, foreign: bool) {
        if self.foreign.swap(foreign, Relaxed) != foreign {
            self.set_misconfigured();
        }
    }

    /// Returns whether another look may find something else.
    fn is_open(&self) -> bool {
        self.notices.refusal().is_some() || self.partly_seen.load(Relaxed)
    }

    fn set_misconfigured(&self) {
        self.misconfigured.set(i64::from(self.foreign.load(Relaxed) || self.notices.refusal().is_some()));
    }

    /// Returns what is not as it is needed, if anything is.
    pub(crate) fn check(&self) -> Option<Check> {
        if let Some(text) = self.notices.refusal() {
            return Some(Check::because(Check::MISCONFIGURED, text));
        }
        if self.foreign.load(Relaxed) {
            return Some(Check::because(Check::MISCONFIGURED, "the keys in Redis belong to another database"));
        }
        self.notices.pause().map(|why| Check::because(Check::REFUSES, why))
    }

    /// Looks again with each new connection: Redis may have been started anew with other settings. A daemon that runs
    /// only says so, because nothing would be gained by leaving the views where they are. Where it is not as it is
    /// needed, it is looked at now and then until it is.
    pub(crate) fn follow(&self, redis: &Redis) {
        self.look_until_mended(redis.clone());
        let (watch, followed) = (self.clone(), redis.clone());
        redis.on_connected(move || {
            let (watch, redis) = (watch.clone(), followed.clone());
            tokio::spawn(async move {
                // Where the connection is lost again, the next one brings the next look.
                let _ = watch.writable(&redis).await;
                watch.look_until_mended(redis);
            });
        });
    }

    /// Looks again from a task of its own, of which there is one, where Redis is not as it is needed, or a node of a cluster
    /// is away of which that is not known.
    fn look_until_mended(&self, redis: Redis) {
        if !self.is_open() || self.looks_again.swap(true, Relaxed) {
            return;
        }
        let watch = self.clone();
        tokio::spawn(async move {
            while watch.is_open() {
                tokio::time::sleep(LOOK_AGAIN).await;
                let _ = watch.writable(&redis).await;
            }
            watch.looks_again.store(false, Relaxed);
        });
    }
}

/// Demands of a report that Redis takes writes.
///
/// # Errors
/// Why it does not.
pub(crate) fn writable(report: &Report) -> Result<(), Error> {
    // One that may evict views is emptied all the same. This one cannot be: what is stored of it could not be acknowledged.
    let clustered = report.is_clustered.then_some("it is in cluster mode");
    report.pause.or(clustered).map_or(Ok(()), |why| Err(Error::new(ErrorKind::Unknown, why)))
}
