//! The daemon: waits for the stores, then drains and scans until it is told to stop, then drains a last time.
//!
//! One task does all the work, one step after the other, so that no step needs to think of another one beside it.

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use backon::ExponentialBackoff;
use prometheus_client::registry::Registry;
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{sleep, sleep_until},
};
use views_auth::Verifier;
use views_core::settings::EXIT_CONFIG;
use views_service::{
    admin::{self, Admin},
    notify,
    readiness::Readiness,
    signals::{self, Signal},
};

use crate::{
    admin_api,
    cli::{DaemonSettings, SyncSettings, WorkSettings},
    drain::{Drained, Urgency},
    engine::{Engine, Failure},
    flush,
    health::Health,
    leader::{self, Leadership},
    metrics::{self, Metrics},
    stop::{self, Stop, Stopper},
    stores::{self, Stores},
    triggers::{self, Trigger, TriggerReceiver, TriggerSender},
    watchdog::{self, Progress},
};

/// The outbox is looked at as often as this even with a long linger: a full batch does not wait.
const LONGEST_POLL: Duration = Duration::from_secs(1);
/// The outbox is not looked at more often than this even without any linger.
const SHORTEST_POLL: Duration = Duration::from_millis(10);
/// A cycle that failed is tried again after this time, unless the interval is shorter.
const CYCLE_RETRY: Duration = Duration::from_secs(10);
/// A step that takes longer than this does not get on. Most take milliseconds, and a full batch a second or so.
const STALLED: Duration = Duration::from_secs(10);
/// How much more time than it needs systemd is asked for.
const MARGIN: Duration = Duration::from_secs(60);

/// Runs until a signal stops it. The exit status is 0 when everything recorded is in PostgreSQL.
///
/// # Errors
/// When it cannot start.
pub async fn run(settings: SyncSettings, daemon: DaemonSettings) -> anyhow::Result<ExitCode> {
    let signals = signals::listen().context("cannot listen for signals")?;
    let (stopper, stop) = stop::channel();
    let (trigger_sender, mut triggers) = triggers::channel();
    let listener = admin::bind(daemon.admin_listen).await.with_context(|| format!("cannot listen on {}", daemon.admin_listen))?;

    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let stores = Stores::open(&settings)?;
    metrics::register_misconfigured(&mut registry, &stores.watch.unfit);
    let mut engine = Engine::new(&stores, settings.work, metrics.clone(), stop.clone());
    let health = engine.health();
    metrics::register_oldest(&mut registry, health.clone());
    let mut leadership = leader::campaign(Arc::clone(&stores.database), metrics);
    engine.set_leadership(leadership.clone());
    let readiness = Arc::new(readiness(health, engine.progress(), leadership.clone()));
    let verifier = Arc::new(daemon.verifier);
    verifier.register(registry.sub_registry_with_prefix("view_syncd"));
    let route = admin_api::route(Arc::clone(&verifier), trigger_sender.clone());
    let admin = Admin { readiness: Arc::clone(&readiness), registry, route: Some(route) };
    tokio::spawn(admin::serve(listener, Arc::new(admin)));
    tokio::spawn(follow_signals(signals, stopper, trigger_sender, verifier, Arc::clone(&readiness), daemon.shutdown_timeout));

    let progress = engine.progress();
    let work = async {
        if let Err(text) = wait_for_stores(&stores, &mut triggers, stop.clone()).await {
            tracing::error!("{text}");
            return ExitCode::from(EXIT_CONFIG);
        }
        if !stop.is_requested() {
            leadership.decided().await;
            notify::ready();
            readiness.started();
            serve_until_stopped(&mut engine, &mut triggers, &mut leadership, stop.clone(), settings.work, daemon.interval).await;
        }
        // Whoever waits for a cycle learns now that there will be none.
        drop(triggers);
        if leadership.works() {
            engine.set_drains(true);
            return flush::run(&mut engine).await;
        }
        tracing::info!("the outbox is left to the view-syncd that leads");
        ExitCode::SUCCESS
    };
    let overdue = async {
        let mut stop = stop.clone();
        stop.requested().await;
        tokio::time::sleep(daemon.shutdown_timeout).await;
    };
    let finished = tokio::select! {
        code = watchdog::while_working(&progress, work) => Some(code),
        () = overdue => None,
    };
    match finished {
        Some(code) => Ok(code),
        None => {
            flush::report_rest(&stores).await;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Ready is who can work, or could if the leader were gone.
fn readiness(health: Health, progress: Progress, leadership: Leadership) -> Readiness {
    let role = leadership.clone();
    let obstacle = move || {
        let stalled = progress.age();
        health.obstacle().or_else(|| (!leadership.is_connected()).then(|| health.with_age("PostgreSQL is away"))).or_else(|| {
            (stalled >= STALLED).then(|| health.with_age(&format!("a store takes {} s for one step", stalled.as_secs())))
        })
    };
    Readiness::new(obstacle).with_role(move || role.role().as_str())
}

/// Waits for the stores, or for the stop.
async fn wait_for_stores(stores: &Stores, triggers: &mut TriggerReceiver, mut stop: Stop) -> Result<(), String> {
    let waiting = stores.wait(|pause| notify::extend_timeout(pause + MARGIN));
    let refusing = async {
        // A cycle cannot be run before the start is over, and the first thing after it is a cycle.
        while triggers.recv().await.is_some() {}
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = waiting => result,
        () = refusing => Ok(()),
        () = stop.requested() => Ok(()),
    }
}

/// What signals ask for. The order to stop is passed on at once, whatever the work is waiting for.
async fn follow_signals(
    mut signals: UnboundedReceiver<Signal>,
    stopper: Stopper,
    trigger_sender: TriggerSender,
    verifier: Arc<Verifier>,
    readiness: Arc<Readiness>,
    shutdown_timeout: Duration,
) {
    while let Some(signal) = signals.recv().await {
        match signal {
            Signal::Hangup => {
                verifier.reload_and_tell();
                tracing::info!("SIGHUP: a synchronization follows");
                trigger_sender.trigger();
            }
            Signal::Stop => {
                tracing::info!("stopping: the outbox is drained a last time");
                readiness.draining();
                notify::stopping();
                notify::extend_timeout(shutdown_timeout + MARGIN);
                stopper.stop();
            }
        }
    }
    // The listening thread lives as long as the process.
    std::future::pending::<()>().await;
}

/// When the next things are due.
struct Schedule {
    cycle: Instant,
    drain: Instant,
    pauses: ExponentialBackoff,
}

/// Drains, and runs a cycle at once, at every interval, and whenever somebody asks for one. A standby only does what it is asked for.
async fn serve_until_stopped(
    engine: &mut Engine,
    triggers: &mut TriggerReceiver,
    leadership: &mut Leadership,
    mut stop: Stop,
    work: WorkSettings,
    interval: Duration,
) {
    let mut schedule = Schedule::starting_now();
    loop {
        let mut asked: Vec<Trigger> = Vec::new();
        let works = leadership.works();
        tokio::select! {
            biased;
            () = stop.requested() => return,
            Some(request) = triggers.recv() => asked.push(request),
            () = leadership.changed() => {
                // Who takes over begins where a start begins; who steps down forgets what was gathered.
                schedule = Schedule::starting_now();
                continue;
            }
            () = sleep(LONGEST_POLL), if !works => {
                engine.standby_step().await;
                continue;
            }
            () = sleep_until(schedule.cycle.into()), if works => {}
            () = sleep_until(schedule.drain.into()), if works => {
                engine.set_drains(true);
                let drained = engine.drain(Urgency::Patient).await;
                schedule.after_drain(&drained, work.linger);
                continue;
            }
        }
        triggers::take_waiting(triggers, &mut asked);
        engine.set_drains(works);
        let result = engine.cycle().await;
        let pause = if result.is_ok() { interval } else { interval.min(CYCLE_RETRY) };
        schedule.cycle = Instant::now() + pause;
        if let Ok(synced) = result {
            notify::status(&format!("Sync completed: {} successful, {} errors", synced.successful, synced.errors));
            for reply in asked.into_iter().filter_map(|request| request.reply) {
                // Whoever does not wait any longer needs no answer.
                let _ = reply.send(synced);
            }
        }
    }
}

impl Schedule {
    fn starting_now() -> Self {
        let now = Instant::now();
        Self { cycle: now, drain: now, pauses: stores::pauses() }
    }

    fn after_drain(&mut self, drained: &Result<Drained, Failure>, linger: Duration) {
        let now = Instant::now();
        let poll = now + linger.clamp(SHORTEST_POLL, LONGEST_POLL);
        self.drain = match drained {
            Ok(Drained::Idle) => poll,
            Ok(Drained::Waiting(until)) => poll.min(*until),
            Ok(Drained::Deferred(until)) => *until,
            Ok(Drained::Stored { .. }) => now,
            Err(failure) => {
                let pause = stores::pause_after(failure, &mut self.pauses);
                tracing::warn!("the outbox cannot be drained: {failure}");
                now + pause
            }
        };
        // A batch that waits for company shows nothing of what was in the way of the last one.
        if !matches!(drained, Ok(Drained::Waiting(_)) | Err(_)) {
            self.pauses = stores::pauses();
        }
    }
}
