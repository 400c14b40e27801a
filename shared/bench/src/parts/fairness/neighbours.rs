//! Those whom an honest client has beside itself, each over a connection of its own, all in one thread.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    client::{self, Connection},
    population::Population,
};

/// Posts in a neighbour's request.
pub(super) const IDS: usize = 100;
/// Requests that a neighbour sends at once who does not wait for answers.
pub(super) const PIPELINED: usize = 16;
/// How many bytes a slow reader takes a second.
pub(super) const SLOWLY: usize = 512;
/// How soon whoever only takes a place notices that it has lost it, or that it may go.
const GLANCE: Duration = Duration::from_millis(200);

/// What a neighbour does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Neighbour {
    /// Reads made-up ids.
    MadeUp,
    /// Reads ids that Redis knows, so many requests at once.
    Known(usize),
    /// Reads with a query of 28 KB in which there is no id.
    Rubbish,
    /// Sends bodies of 60 KB without a token, each over a connection of its own.
    Uploads,
    /// Sends nothing.
    Silent,
    /// Sends half a head.
    HalfHead,
    /// Asks for much and takes it slowly.
    SlowReader,
}

/// Neighbours at work.
pub(super) struct Neighbours {
    is_over: Arc<AtomicBool>,
    good: Arc<AtomicUsize>,
    thread: JoinHandle<anyhow::Result<()>>,
}

/// What all neighbours of a kind know.
struct Kind {
    neighbour: Neighbour,
    address: SocketAddr,
    /// Reads of known posts.
    known: Vec<Vec<u8>>,
    is_over: Arc<AtomicBool>,
    good: Arc<AtomicUsize>,
}

impl Neighbours {
    pub(super) fn start(address: SocketAddr, neighbour: Neighbour, population: &Population, connections: usize) -> Self {
        let (is_over, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let known = population.posts.chunks(IDS).map(client::read).collect();
        let kind = Kind { neighbour, address, known, is_over: Arc::clone(&is_over), good: Arc::clone(&good) };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let results = runtime.block_on(join_all((0..connections).map(|place| kind.work(place))));
            results.into_iter().collect()
        });
        Self { is_over, good, thread }
    }

    /// Waits until so many have taken their places, of those who do nothing else.
    pub(super) async fn sit(&self, connections: usize) {
        while self.good.load(Relaxed) < connections && !self.thread.is_finished() {
            sleep(GLANCE).await;
        }
    }

    /// Returns how many answers were a 200, or how often a place was taken.
    pub(super) fn end(self) -> anyhow::Result<usize> {
        self.is_over.store(true, Relaxed);
        match self.thread.join() {
            Ok(result) => result.map(|()| self.good.load(Relaxed)),
            Err(_) => anyhow::bail!("the neighbours have panicked"),
        }
    }
}

impl Kind {
    async fn work(&self, place: usize) -> anyhow::Result<()> {
        match self.neighbour {
            Neighbour::MadeUp => self.ask(place, 1, |round| made_up(place, round)).await,
            Neighbour::Known(at_once) => {
                self.ask(place, at_once, |round| self.known[round % self.known.len()].repeat(at_once)).await
            }
            Neighbour::Rubbish => {
                let query = "ids&".repeat(7_000);
                let request = format!("GET /posts/views?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
                self.ask(place, 1, |_| request.clone()).await
            }
            Neighbour::Uploads => self.upload().await,
            Neighbour::Silent => self.sit(b"", usize::MAX).await,
            Neighbour::HalfHead => self.sit(b"POST /posts/view HTTP/1.1\r\nhost: x\r\n", usize::MAX).await,
            Neighbour::SlowReader => self.sit(&self.known[0].repeat(PIPELINED), SLOWLY).await,
        }
    }

    /// Sends requests, the next one as soon as the last one has its answers.
    async fn ask(&self, place: usize, answers: usize, request: impl Fn(usize) -> Vec<u8>) -> anyhow::Result<()> {
        let mut connection = Connection::open(self.address).await?;
        let mut round = place;
        while !self.is_over.load(Relaxed) {
            round += 1;
            connection.send(&request(round)).await?;
            self.good.fetch_add(connection.receive_any(answers).await?, Relaxed);
        }
        Ok(())
    }

    /// Sends bodies that nobody reads, over connections that are closed for it.
    async fn upload(&self) -> anyhow::Result<()> {
        let head =
            "POST /posts/view HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n";
        let request = [head.as_bytes(), &[b' '; 60_000]].concat();
        while !self.is_over.load(Relaxed) {
            let mut stream = TcpStream::connect(self.address).await?;
            // What is refused before it is read may be reset.
            if stream.write_all(&request).await.is_ok() && stream.shutdown().await.is_ok() {
                let _ = timeout(GLANCE, stream.read_to_end(&mut Vec::new())).await;
            }
        }
        Ok(())
    }

    /// Takes a place, and takes it again whenever it is lost. `pace` is how many bytes of answers are taken a second.
    async fn sit(&self, begins_with: &[u8], pace: usize) -> anyhow::Result<()> {
        while !self.is_over.load(Relaxed) {
            let mut stream = TcpStream::connect(self.address).await?;
            if stream.write_all(begins_with).await.is_err() {
                continue;
            }
            self.good.fetch_add(1, Relaxed);
            let mut taken = vec![0; pace.div_ceil(5).min(4_096)];
            while !self.is_over.load(Relaxed) {
                match timeout(GLANCE, stream.read(&mut taken)).await {
                    Ok(Ok(0) | Err(_)) => break,
                    Ok(Ok(_)) => sleep(GLANCE).await,
                    Err(_) => {}
                }
            }
        }
        Ok(())
    }
}

fn made_up(place: usize, round: usize) -> Vec<u8> {
    let id = |number: usize| format!("{place:08x}-{:04x}-4000-8000-{round:012x}", number % 0x1_0000);
    let posts: Vec<String> = (0..IDS).map(id).collect();
    client::read(&posts)
}
