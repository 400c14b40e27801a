//! A worker: one thread, one single-threaded runtime, its share of the connections and of the posts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::app::App,
    http::{
        admission::Admission,
        connection::{self, Rounds},
        listener::Listener,
    },
    record::{
        context::Context,
        pending, recorder,
        request::{ReplyBatch, RequestReceiver, ViewedRequest},
        viewed,
    },
};

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
    pub(crate) context: Context,
    pub(crate) redis_name: String,
    pub(crate) requests: RequestReceiver,
    /// Questions of this worker's requests which posts were seen.
    pub(crate) viewed: mpsc::Receiver<ViewedRequest>,
    /// What other workers' recorders have to say to this worker's requests.
    pub(crate) mailbox: mpsc::UnboundedReceiver<ReplyBatch>,
    /// Cancelled when the process stops.
    pub(crate) stopping: CancellationToken,
    /// The places of all workers' connections together.
    pub(crate) admission: Arc<Admission>,
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

    async fn run(self) {
        let Listener { socket, from_systemd } = self.listener;
        let listener = match tokio::net::TcpListener::from_std(socket) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "cannot use the listener");
                self.serving.send_modify(|workers| *workers -= 1);
                return;
            }
        };
        self.context.breaker.follow();
        self.context.redis.connect(self.redis_name);
        tokio::spawn(pending::deliver(self.mailbox));
        tokio::spawn(viewed::run(self.context.clone(), self.viewed));
        tokio::spawn(recorder::run(self.context, self.requests));
        let acceptor = Acceptor {
            app: self.app,
            stopping: self.stopping.clone(),
            admission: self.admission,
            refusals: Arc::default(),
            rounds: Rounds::default(),
        };

        let mut serving = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => break,
                // Finished connections are taken out of the set, which would grow for ever otherwise.
                Some(_) = serving.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => acceptor.admit(stream, &mut serving),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        if !from_systemd {
            // Whoever waits in the accept queue was told by the system that they are connected. There is an end to it:
            // under load, somebody always is.
            let rest = async {
                while let Ok(Ok((stream, _))) = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await {
                    acceptor.admit(stream, &mut serving);
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

/// Lets connections in, up to the limit.
struct Acceptor {
    app: Arc<App>,
    stopping: CancellationToken,
    admission: Arc<Admission>,
    refusals: Arc<AtomicUsize>,
    /// Whose turn it is to be read.
    rounds: Rounds,
}

impl Acceptor {
    fn admit(&self, stream: TcpStream, serving: &mut JoinSet<()>) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection was gone before it was served");
            return;
        }
        let app = Arc::clone(&self.app);
        if let Some(slot) = self.admission.take() {
            let (rounds, stopping) = (self.rounds.clone(), self.stopping.clone());
            serving.spawn(async move {
                connection::serve(app, stream, Arc::clone(&slot.timer), rounds, stopping).await;
                drop(slot);
            });
        } else if let Some(refusal) = Refusal::take(&self.refusals) {
            serving.spawn(async move {
                connection::turn_away(&*app, stream).await;
                drop(refusal);
            });
        }
    }
}

/// One of a bounded number of refusals, given back when dropped.
struct Refusal(Arc<AtomicUsize>);

impl Refusal {
    fn take(taken: &Arc<AtomicUsize>) -> Option<Self> {
        if taken.fetch_add(1, Ordering::Relaxed) < MAX_REFUSALS {
            return Some(Self(Arc::clone(taken)));
        }
        taken.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Refusal {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
