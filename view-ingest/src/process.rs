//! The process from its start to its stop: stores, workers, operators' listener, signals.

use std::{process::ExitCode, sync::Arc, thread::JoinHandle, time::Duration};

use anyhow::Context;
use fred::clients::Client;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};
use views_core::settings::EXIT_CONFIG;
use views_postgres::Database;
use views_redis::requirements::Notices;
use views_service::{
    admin::{self, Admin},
    notify,
    signals::{self, Signal},
};

use crate::{
    app::App,
    cli::{STATEMENT_TIMEOUT, Settings},
    listener,
    metrics::{self, Metrics},
    places::Places,
    recorder::{
        self, REDIS_TIMEOUT, Stores, first_touch,
        gate::{Gate, Terms},
        health::{self, Health},
        unknown::UnknownPosts,
        unseen::UnseenPosts,
    },
    worker::Worker,
};

/// Connections to PostgreSQL. First touches are few and batched; a fleet of ingest servers must leave room for the application.
const DATABASE_CONNECTIONS: usize = 8;
/// How long the start waits to be told whether a store takes views.
const FIRST_LOOK_OUT: Duration = Duration::from_secs(1);

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
    let metrics = Metrics::new(&mut registry);
    let verifier = Arc::new(settings.verifier);
    verifier.register(registry.sub_registry_with_prefix(metrics::PREFIX));

    let clients: Vec<Client> = (0..settings.workers)
        .map(|_| views_redis::client(&settings.redis, REDIS_TIMEOUT))
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
    let terms = Terms {
        allow_eviction: settings.redis.allow_eviction,
        database: database.clone(),
        keys: settings.redis.keys.clone(),
        notices: Arc::clone(&notices),
        unfit: metrics.redis_unfit.clone(),
    };
    let gates: Vec<_> = clients.iter().map(|redis| Arc::new(Gate::new(redis.clone(), terms.clone()))).collect();
    let health = Arc::new(Health::new(gates.clone()));
    let readiness = Arc::new(health.readiness());

    let public = listener::open(settings.listen, settings.limits.write_timeout)
        .with_context(|| format!("cannot listen on {}", settings.listen))?;
    let operators =
        admin::bind(settings.admin_listen).await.with_context(|| format!("cannot listen on {}", settings.admin_listen))?;
    tokio::spawn(admin::serve(operators, Arc::new(Admin { readiness: Arc::clone(&readiness), registry, route: None })));

    let (unknown, unseen) = (UnknownPosts::default(), UnseenPosts::new(settings.max_unseen_posts));
    let read_queries = first_touch::read_queries();
    let (recorders, queues): (Vec<_>, Vec<_>) = clients.iter().map(|_| recorder::queue(settings.limits.max_queue)).unzip();
    let (couriers, parcels): (Vec<_>, Vec<_>) = clients.iter().map(|_| mpsc::unbounded_channel()).unzip();
    let view_ttl = settings.limits.view_ttl;
    let places = Arc::new(Places::new(settings.limits.max_connections, metrics.clone()));
    tokio::spawn(Arc::clone(&places).sweep(settings.limits.clone()));
    let app =
        App::new(settings.limits, Arc::clone(&verifier), Arc::clone(&readiness), metrics.clone(), database.clone(), recorders);
    let (stop, stopping) = watch::channel(false);
    let serving = watch::Sender::new(clients.len());
    let mut workers = Vec::with_capacity(clients.len());
    for (number, (((redis, gate), asked), parcels)) in clients.into_iter().zip(gates).zip(queues).zip(parcels).enumerate() {
        let stores = Stores {
            redis,
            keys: settings.redis.keys.clone(),
            gate,
            database: database.clone(),
            unknown: unknown.clone(),
            unseen: unseen.clone(),
            read_queries: Arc::clone(&read_queries),
            view_ttl,
            health: Arc::clone(&health),
            metrics: metrics.clone(),
            home: number,
            couriers: couriers.clone(),
        };
        let worker = Worker {
            listener: public.share().context("cannot share the listener")?,
            app: Arc::new(app.at(number)),
            stores,
            redis_name: settings.redis.describe(),
            asked,
            parcels,
            stopping: stopping.clone(),
            places: Arc::clone(&places),
            serving: serving.clone(),
        };
        workers.push(worker.start(number).context("cannot start a worker")?);
    }
    // From now on only the workers hold the listener: when the last of them lets go of it, nobody is accepted any more.
    drop(public);
    let ((), unfit) = tokio::join!(health.wait_for_redis(), health::first_look(database.as_deref()));
    if let Some(text) = &unfit {
        tracing::error!("{text}");
    }
    if unfit.is_some() || notices.refusal().is_some() {
        // The log has the reason. Should a store become like this later, the process goes on as well as it can.
        return Ok(ExitCode::from(EXIT_CONFIG));
    }
    // What is not known by then is asked for later.
    let _ = tokio::time::timeout(FIRST_LOOK_OUT, health.look_out(database.as_deref())).await;
    if let Some(database) = &database {
        tokio::spawn(health::keep_connections(Arc::clone(database)));
    }
    tokio::spawn(health::watch_stores(Arc::clone(&health), database, metrics.postgres_unfit.clone()));
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
    let _ = stop.send(true);
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
