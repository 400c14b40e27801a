//! A worker: one thread, one single-threaded runtime, its share of the connections and of the posts.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use shared::ticks;
use slab::Slab;
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    app::App,
    connection::{self, Clock, Watch},
    listener::Listener,
    recorder::{self, Asked, Parcel, Stores, tickets},
};

/// How often slow and idle connections are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// How long connections that wait in the accept queue are let in when the process stops.
const LAST_ACCEPTS: Duration = Duration::from_millis(100);
/// The pause after the system refuses to accept, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that are being turned away at once, per worker. Past that, they are closed without a word.
const MAX_REFUSALS: usize = 256;

/// What a worker is made of.
pub(crate) struct Worker {
    pub(crate) listener: Listener,
    pub(crate) app: Arc<App>,
    pub(crate) stores: Stores,
    pub(crate) redis_name: String,
    pub(crate) asked: Asked,
    /// What other workers' recorders have to say to this worker's requests.
    pub(crate) parcels: mpsc::UnboundedReceiver<Parcel>,
    /// Turns true when the process stops.
    pub(crate) stopping: watch::Receiver<bool>,
    /// All workers' connections together.
    pub(crate) connections: Arc<AtomicUsize>,
    /// How many workers still have connections or accept them.
    pub(crate) serving: watch::Sender<usize>,
}

impl Worker {
    /// Starts the thread. It ends when the process stops and the last connection of all workers is closed.
    ///
    /// # Errors
    /// When the system gives no thread or no runtime.
    pub(crate) fn start(self, number: usize) -> std::io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || runtime.block_on(self.run()))
    }

    async fn run(mut self) {
        let Listener { socket, from_systemd } = self.listener;
        let listener = match tokio::net::TcpListener::from_std(socket) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "cannot use the listener");
                self.serving.send_modify(|workers| *workers -= 1);
                return;
            }
        };
        self.stores.gate.follow();
        shared::redis::connect(&self.stores.redis, self.redis_name);
        tokio::spawn(tickets::deliver(self.parcels));
        tokio::spawn(recorder::run(self.stores, self.asked));
        let gate = Gate::new(self.app, self.stopping.clone(), self.connections);
        tokio::spawn(sweep(Arc::clone(&gate.watches), Arc::clone(&gate.app), Arc::clone(&gate.clock)));

        let mut serving = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                _ = self.stopping.changed() => break,
                // Finished connections are taken out of the set, which would grow for ever otherwise.
                Some(_) = serving.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => gate.admit(stream, &mut serving),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        if !from_systemd {
            // Whoever waits in the accept queue was told by the system that they are connected. There is an end to it: under load, somebody
            // always is.
            let rest = async {
                while let Ok(Ok((stream, _))) = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await {
                    gate.admit(stream, &mut serving);
                }
            };
            let _ = tokio::time::timeout(LAST_ACCEPTS, rest).await;
        }
        drop(listener);
        while serving.join_next().await.is_some() {}
        // The recorder lives on while other workers have requests in flight, whose posts may be its own.
        self.serving.send_modify(|workers| *workers -= 1);
        let _ = self.serving.subscribe().wait_for(|workers| *workers == 0).await;
    }
}

type Watches = Arc<Mutex<Slab<Arc<Watch>>>>;

/// Lets connections in, up to the limit.
struct Gate {
    app: Arc<App>,
    clock: Arc<Clock>,
    watches: Watches,
    stopping: watch::Receiver<bool>,
    connections: Arc<AtomicUsize>,
    refusals: Arc<AtomicUsize>,
}

impl Gate {
    fn new(app: Arc<App>, stopping: watch::Receiver<bool>, connections: Arc<AtomicUsize>) -> Self {
        Self { app, clock: Arc::new(Clock::new()), watches: Watches::default(), stopping, connections, refusals: Arc::default() }
    }

    fn admit(&self, stream: TcpStream, serving: &mut JoinSet<()>) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection was gone before it was served");
            return;
        }
        let app = Arc::clone(&self.app);
        let Some(place) = Place::take(&self.connections, app.limits.max_connections) else {
            if let Some(place) = Place::take(&self.refusals, MAX_REFUSALS) {
                serving.spawn(async move {
                    connection::turn_away(&app, stream).await;
                    drop(place);
                });
            }
            return;
        };
        let watch = Arc::new(Watch::new(Arc::clone(&self.clock)));
        let (watches, stopping) = (Arc::clone(&self.watches), self.stopping.clone());
        let number = watches.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(&watch));
        app.metrics.connections.inc();
        serving.spawn(async move {
            connection::serve(Arc::clone(&app), stream, watch, stopping).await;
            app.metrics.connections.dec();
            watches.lock().unwrap_or_else(PoisonError::into_inner).remove(number);
            drop(place);
        });
    }
}

/// One of a bounded number of places, given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        if taken.fetch_add(1, Ordering::Relaxed) < limit {
            return Some(Self(Arc::clone(taken)));
        }
        taken.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn sweep(watches: Watches, app: Arc<App>, clock: Arc<Clock>) {
    let mut interval = ticks::every(SWEEP_INTERVAL);
    loop {
        interval.tick().await;
        clock.tick();
        for (_, watch) in watches.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            watch.sweep(&app.limits);
        }
    }
}
