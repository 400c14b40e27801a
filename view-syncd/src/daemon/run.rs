//! The start-up order of the daemon, and its end.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use views_core::settings::EXIT_CONFIG;
use views_service::{
    admin::{self, Admin},
    notify, signals as os_signals,
};

use super::{
    admin_api, dependencies, flush,
    leases::{Leases, Participant, campaign},
    observed,
    readiness::readiness,
    signals::{self, Followers, MARGIN},
    synchronizer::Synchronizer,
    triggers::{self, TriggerReceiver},
    warm_up, watchdog, work,
};
use crate::{
    cli::{DaemonSettings, SyncSettings},
    context::{Context, startup},
    metrics::{self, Metrics},
};

/// Runs until a signal stops it. The exit status is 0 when everything recorded is in PostgreSQL.
///
/// # Errors
/// When it cannot start.
pub async fn run(settings: SyncSettings, daemon: DaemonSettings) -> anyhow::Result<ExitCode> {
    let os_signals = os_signals::listen().context("cannot listen for signals")?;
    let stop = CancellationToken::new();
    let (trigger_sender, mut triggers) = triggers::channel();
    let listener = admin::bind(daemon.admin_listen).await.with_context(|| format!("cannot listen on {}", daemon.admin_listen))?;

    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let context = Context::open(&settings, metrics.clone(), stop.clone())?;
    context.half_moved.follow(&context.redis);
    metrics::register_misconfigured(&mut registry, &context.redis_watch.misconfigured);
    let mut leases = campaign(Arc::clone(&context.database), context.keys.clone(), metrics, Participant::Daemon);
    let mut synchronizer = Synchronizer::new(&context);
    synchronizer.set_leases(leases.clone());
    let verifier = Arc::new(daemon.verifier);
    let checks = dependencies::checks(&context, &leases, &verifier);
    let readiness = Arc::new(readiness(&context, leases.clone()).with_checks(checks));
    tokio::spawn(Arc::clone(&readiness).watch());
    verifier.register(registry.sub_registry_with_prefix(metrics::PREFIX));
    observed::register(&mut registry, &context, &readiness, daemon.interval);
    tokio::spawn(Arc::clone(&verifier).follow_keys());
    let route = admin_api::route(Arc::clone(&verifier), trigger_sender.clone());
    let admin = Admin { readiness: Arc::clone(&readiness), registry, route: Some(route) };
    tokio::spawn(admin::serve(listener, Arc::new(admin)));
    let followers = Followers {
        stop: stop.clone(),
        trigger_sender,
        verifier,
        readiness: Arc::clone(&readiness),
        shutdown_timeout: daemon.shutdown_timeout,
    };
    tokio::spawn(signals::follow(os_signals, followers));

    let work = async {
        if let Err(text) = wait_for_stores(&context, &leases, &mut triggers, &stop).await {
            tracing::error!("{text}");
            return ExitCode::from(EXIT_CONFIG);
        }
        if !stop.is_cancelled() {
            leases.decided().await;
            notify::ready();
            readiness.started();
            warm_up::start(&context, &leases, daemon.warm_up);
        }
        work::until_done(&mut synchronizer, triggers, &mut leases, &stop, daemon.interval).await
    };
    let finished = tokio::select! {
        // On the heap: the work is large, and deeper than the compiler follows in one piece.
        code = watchdog::while_working(&context.progress, Box::pin(work)) => Some(code),
        () = overdue(&stop, daemon.shutdown_timeout) => None,
    };
    match finished {
        Some(code) => Ok(code),
        None => {
            flush::report_rest(&context, leases.partitions()).await;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Waits for the stores, or for the stop.
async fn wait_for_stores(
    context: &Arc<Context>,
    leases: &Leases,
    triggers: &mut TriggerReceiver,
    stop: &CancellationToken,
) -> Result<(), String> {
    let waiting = startup::wait(context, |pause| {
        leases.note_look(!context.store_failures.has_redis_failed());
        notify::extend_timeout(pause + MARGIN);
    });
    let refusing = async {
        // A cycle cannot be run before the start is over, and the first thing after it is a cycle.
        while triggers.recv().await.is_some() {}
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = waiting => {
            leases.note_look(true);
            result
        }
        () = refusing => Ok(()),
        () = stop.cancelled() => Ok(()),
    }
}

/// Waits until the last drain after the stop has taken too long.
async fn overdue(stop: &CancellationToken, shutdown_timeout: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(shutdown_timeout).await;
}
