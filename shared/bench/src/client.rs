//! A bare HTTP client, for what `wrk` cannot do: requests at set times, connections that idle, many answers awaited
//! together.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use anyhow::{Context, bail, ensure};
use futures_util::future::join_all;
use rand::{SeedableRng, rngs::SmallRng, seq::SliceRandom};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    load::{head, json},
    population::{Population, Viewer},
    workload::{Ask, BATCH},
};

/// Requests that are under way at once when something is filled.
const FILLERS: usize = 16;
const SEED: u64 = 4;

/// A connection that is kept alive.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(1024) })
    }

    /// Sends a whole request.
    pub(crate) async fn send(&mut self, request: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(request).await?)
    }

    /// Waits for the answer, which must be a 200.
    pub(crate) async fn receive(&mut self) -> anyhow::Result<()> {
        let status = self.status().await?;
        ensure!(status == 200, "the answer is no 200 but a {status}");
        Ok(())
    }

    /// Waits for so many answers to requests that were sent together. Returns how many of them were a 200.
    pub(crate) async fn receive_any(&mut self, answers: usize) -> anyhow::Result<usize> {
        let mut good = 0;
        for _ in 0..answers {
            good += usize::from(self.status().await? == 200);
        }
        Ok(good)
    }

    /// Waits for an answer. Returns its status.
    async fn status(&mut self) -> anyhow::Result<u16> {
        loop {
            if let Some((status, length)) = answer(&self.buffer)?
                && self.buffer.len() >= length
            {
                self.buffer.drain(..length);
                return Ok(status);
            }
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection was closed");
        }
    }

    /// Asks and waits.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.send(request).await?;
        self.receive().await
    }
}

/// Returns the status of an answer, and how long it is with its head, as soon as the head is there.
fn answer(bytes: &[u8]) -> anyhow::Result<Option<(u16, usize)>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let Some(status) = status else { bail!("this is no answer: {head}") };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    Ok(Some((status, end + 4 + length.context("the answer has no length")?)))
}

/// Returns a view of some posts.
pub(crate) fn view(viewer: &Viewer, posts: &[String]) -> Vec<u8> {
    let path = if posts.len() == 1 { "/posts/view" } else { "/posts/views-batch" };
    let body = json(posts);
    format!("{}{body}", head(path, &viewer.token, body.len())).into_bytes()
}

/// The counts of some posts.
pub(crate) fn read(posts: &[String]) -> Vec<u8> {
    format!("GET /posts/views?ids={} HTTP/1.1\r\nHost: localhost\r\n\r\n", posts.join(",")).into_bytes()
}

/// Has so many viewers view every post of the population, in batches and in a random order that is always the same.
/// Gives that order.
pub(crate) async fn fill(address: SocketAddr, population: &Population, viewers: usize) -> anyhow::Result<Vec<Ask>> {
    let batches: Vec<&[String]> = population.posts.chunks(BATCH).collect();
    let mut asks: Vec<Ask> = (0..viewers).flat_map(|viewer| (0..batches.len()).map(move |body| Ask { viewer, body })).collect();
    asks.shuffle(&mut SmallRng::seed_from_u64(SEED));
    let request = |number: usize| view(&population.viewers[asks[number].viewer], batches[asks[number].body]);
    send_all(address, asks.len(), request).await?;
    Ok(asks)
}

/// Sends so many requests, some at once, in no set order.
pub(crate) async fn send_all(address: SocketAddr, number: usize, request: impl Fn(usize) -> Vec<u8>) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let filler = || async {
        let mut connection = Connection::open(address).await?;
        loop {
            let number_of_this = next.fetch_add(1, Relaxed);
            if number_of_this >= number {
                return Ok(());
            }
            connection.ask(&request(number_of_this)).await?;
        }
    };
    let results = join_all((0..FILLERS).map(|_| filler())).await;
    results.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::answer;

    #[test]
    fn an_answer_ends_where_its_length_says() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(answer(text).unwrap(), Some((200, text.len())));
        assert_eq!(answer(&text[..40]).unwrap(), None);
        let refusal = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(answer(refusal).unwrap(), Some((503, refusal.len())));
        assert!(answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(answer(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n").is_err());
    }
}
