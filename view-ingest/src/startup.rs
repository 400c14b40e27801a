//! The process from its start to its stop: stores, workers, operators' listener, signals.

use std::{process::ExitCode, sync::Arc, thread::JoinHandle, time::Duration};

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use views_core::settings::EXIT_CONFIG;
use views_postgres::Database;
use views_redis::{Redis, requirements::Notices};
use views_service::{
    admin::{self, Admin},
    notify,
    signals::{self, Signal},
};

use crate::{
    api::app::App,
    cli::{STATEMENT_TIMEOUT, Settings},
    http::{admission::Admission, listener},
    metrics::{self, Metrics},
    observed,
    record::{
        breaker::{AwayNodes, CircuitBreaker, REDIS_TIMEOUT, Requirements},
        context::Context,
        dependencies,
        health::{self, Health},
        not_found::NotFoundPosts,
        read_limit, request,
        unverified::UnverifiedPosts,
    },
    worker::Worker,
};

/// Connections to PostgreSQL. Look-ups are few and batched; a fleet of ingest servers must leave room for the application.
const DATABASE_CONNECTIONS: usize = 8;
/// How long the start waits to be told whether a store takes views.
const FIRST_PROBE: Duration = Duration::from_secs(1);

/// Runs until a signal ends it, or finds at once that it cannot be of use.
///
/// # Errors
/// When an address cannot be listened on, or the system refuses threads or signal handlers.
pub(crate) fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    // Every connection takes a file descriptor, and many systems' soft limit is far below the hard one.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: Settings) -> anyhow::Result<ExitCode> {
    let mut signals = signals::listen().context("cannot listen to signals")?;
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry, settings.workers);
    let verifier = Arc::new(settings.verifier);
    verifier.register(registry.sub_registry_with_prefix(metrics::PREFIX));
    tokio::spawn(Arc::clone(&verifier).follow_keys());

    let clients: Vec<Redis> = (0..settings.workers)
        .map(|_| Redis::new(&settings.redis, REDIS_TIMEOUT))
        .collect::<Result<_, _>>()
        .context("cannot prepare the connection to Redis")?;
    let database = settings
        .database
        .as_ref()
        .map(|database| Database::new(database, settings.posts, DATABASE_CONNECTIONS, STATEMENT_TIMEOUT).map(Arc::new))
        .transpose()
        .context("cannot prepare the connection to PostgreSQL")?;
    if database.is_none() {
        tracing::warn!("no --database-url: authors and unknown posts are told apart only by view-syncd, after the answer");
    }
    let notices = Arc::new(Notices::default());
    let requirements = Requirements {
        allow_eviction: settings.redis.allow_eviction,
        database: database.clone(),
        keys: settings.redis.keys.clone(),
        notices: Arc::clone(&notices),
        misconfigured: metrics.redis_misconfigured.clone(),
        away: Arc::new(AwayNodes::default()),
    };
    let breakers: Vec<_> =
        clients.iter().map(|redis| Arc::new(CircuitBreaker::new(redis.clone(), requirements.clone()))).collect();
    let health = Arc::new(Health::new(breakers.clone()));
    let checks = dependencies::checks(&health, &notices, database.is_some(), &verifier);
    let readiness = Arc::new(health.readiness().with_checks(checks));

    let public = listener::open(settings.listen, settings.limits.write_timeout)
        .with_context(|| format!("cannot listen on {}", settings.listen))?;
    let operators =
        admin::bind(settings.admin_listen).await.with_context(|| format!("cannot listen on {}", settings.admin_listen))?;
    let (senders, receivers): (Vec<_>, Vec<_>) = clients.iter().map(|_| request::queue(settings.limits.max_queue)).unzip();
    let (not_found, unverified) = (NotFoundPosts::default(), UnverifiedPosts::new(settings.max_unseen_posts));
    observed::register(&mut registry, &health, &readiness, &senders, &unverified, database.as_ref());
    tokio::spawn(admin::serve(operators, Arc::new(Admin { readiness: Arc::clone(&readiness), registry, route: None })));

    let read_queries = read_limit::read_queries();
    let (mailboxes, mailbox_ends): (Vec<_>, Vec<_>) = clients.iter().map(|_| mpsc::unbounded_channel()).unzip();
    let admission = Arc::new(Admission::new(settings.limits.max_connections, metrics.clone()));
    tokio::spawn(Arc::clone(&admission).sweep(settings.limits.clone()));
    let app = App::new(
        settings.limits,
        settings.surface,
        Arc::clone(&verifier),
        Arc::clone(&readiness),
        metrics.clone(),
        database.clone(),
        senders,
    );
    let stopping = CancellationToken::new();
    let serving = watch::Sender::new(clients.len());
    let mut workers = Vec::with_capacity(clients.len());
    let parts = clients.into_iter().zip(breakers).zip(receivers).zip(mailbox_ends);
    for (worker_id, (((redis, breaker), (requests, viewed)), mailbox)) in parts.enumerate() {
        let context = Context {
            redis,
            keys: settings.redis.keys.clone(),
            breaker,
            database: database.clone(),
            not_found: not_found.clone(),
            unverified: unverified.clone(),
            read_queries: Arc::clone(&read_queries),
            health: Arc::clone(&health),
            metrics: metrics.at(worker_id),
            worker_id,
            mailboxes: mailboxes.clone(),
        };
        let worker = Worker {
            listener: public.share().context("cannot share the listener")?,
            app: Arc::new(app.at(worker_id)),
            context,
            redis_name: settings.redis.describe(),
            requests,
            viewed,
            mailbox,
            stopping: stopping.clone(),
            admission: Arc::clone(&admission),
            serving: serving.clone(),
        };
        workers.push(worker.start(worker_id).context("cannot start a worker")?);
    }
    // From now on only the workers hold the listener: when the last of them lets go of it, nobody is accepted any more.
    drop(public);
    let ((), misconfigured, ()) =
        tokio::join!(health.wait_for_redis(), health::first_check(database.as_deref()), verifier.first_keys());
    if let Some(text) = &misconfigured {
        tracing::error!("{text}");
    }
    if misconfigured.is_some() || notices.refusal().is_some() {
        // The log has the reason. Should a store become like this later, the process goes on as well as it can.
        return Ok(ExitCode::from(EXIT_CONFIG));
    }
    // What is not known by then is asked for later.
    let _ = tokio::time::timeout(FIRST_PROBE, health.probe(database.as_deref())).await;
    if let Some(database) = &database {
        tokio::spawn(health::keep_connections(Arc::clone(database)));
        tokio::spawn(health.database.clone().watch(Arc::clone(database)));
    }
    tokio::spawn(health::watch_redis(Arc::clone(&health)));
    tokio::spawn(Arc::clone(&readiness).watch());
    tokio::spawn(health::watch_stores(Arc::clone(&health), database, metrics.postgres_misconfigured.clone()));
    readiness.started();
    notify::ready();
    tracing::info!(workers = workers.len(), version = env!("CARGO_PKG_VERSION"), "view-ingest started");

    while let Some(signal) = signals.recv().await {
        match signal {
            Signal::Hangup => verifier.reload_aside(),
            Signal::Stop => break,
        }
    }
    readiness.draining();
    notify::stopping();
    tracing::info!("stopping: /readyz is 503, requests in flight are finished");
    tokio::time::sleep(settings.shutdown_delay).await;
    // The workers listen as long as they live.
    stopping.cancel();
    finish(workers, settings.shutdown_timeout).await;
    Ok(ExitCode::SUCCESS)
}

/// Waits for the workers to finish their connections, but not for ever.
async fn finish(workers: Vec<JoinHandle<()>>, limit: Duration) {
    let finished = async {
        while !workers.iter().all(JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    match tokio::time::timeout(limit, finished).await {
        Ok(()) => tracing::info!("stopped"),
        Err(_) => tracing::warn!("stopped, although some connections were still open"),
    }
}
