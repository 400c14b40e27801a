//! A TCP proxy whose network can be broken.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::ports;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
const BUFFER_BYTES: usize = 16 * 1024;
/// Pieces of data that are held back at once, in one direction of a connection.
const PIECES_UNDER_WAY: usize = 1024;
/// The version of PostgreSQL's protocol, in a startup message.
const PROTOCOL_3: [u8; 4] = [0, 3, 0, 0];

/// A proxy between a port of 127.0.0.1 and a target. It belongs to the runtime that it was started in, and ends when it
/// is dropped. Until then nobody else gets its port, also while it refuses connections.
pub struct Proxy {
    address: SocketAddr,
    network: watch::Sender<Network>,
    /// Whether the port is open: changed by the accepting task after it has followed a change of the network.
    listening: watch::Receiver<bool>,
    accepted: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
struct Network {
    target: SocketAddr,
    disguise: Option<(&'static str, &'static str)>,
    drop_options: bool,
    broken: bool,
    frozen: bool,
    swallow_replies: bool,
    delay: Duration,
}

impl Network {
    fn whole(target: SocketAddr) -> Self {
        Self {
            target,
            disguise: None,
            drop_options: false,
            broken: false,
            frozen: false,
            swallow_replies: false,
            delay: Duration::ZERO,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Proxy {
    /// Starts a proxy to a target, which need not exist yet.
    pub async fn start(target: SocketAddr) -> Self {
        let (keeper, address) = ports::keep();
        let listener = listen(address).expect("a port that is kept can be listened on");
        let network = watch::Sender::new(Network::whole(target));
        let (listening_sender, listening) = watch::channel(true);
        let accepted = Arc::new(AtomicUsize::new(0));
        tokio::spawn(accept(keeper, listener, network.subscribe(), listening_sender, accepted.clone()));
        Self { address, network, listening, accepted }
    }

    /// Starts a proxy to a port of 127.0.0.1.
    pub async fn to_port(port: u16) -> Self {
        Self::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
    }

    /// Returns where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the port that clients connect to.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the number of connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Cuts all connections and refuses new ones. When this returns, the port is closed.
    pub async fn break_networking(&self) {
        self.network.send_modify(|network| network.broken = true);
        let _ = self.listening.clone().wait_for(|listening| !listening).await;
    }

    /// Makes the network whole again: no break, freeze, delay, loss or disguise. When this returns, the port is open.
    /// Connections that lost replies are cut, because what follows on them would make no sense.
    pub async fn restore(&self) {
        self.network.send_modify(|network| *network = Network::whole(network.target));
        let _ = self.listening.clone().wait_for(|listening| *listening).await;
    }

    /// Leads new connections to another port of 127.0.0.1, as a failover would. Those that are open stay what they are.
    pub fn redirect(&self, port: u16) {
        self.network.send_modify(|network| network.target.set_port(port));
    }

    /// Replaces a text in what the server answers by another one of the same length.
    pub fn disguise(&self, text: &'static str, other: &'static str) {
        assert_eq!(text.len(), other.len(), "the length of an answer is often told before it");
        self.network.send_modify(|network| network.disguise = Some((text, other)));
    }

    /// Leaves the parameter `options` out of what PostgreSQL's clients send when they connect, as a pooler does that
    /// ignores it.
    pub fn drop_options(&self) {
        self.network.send_modify(|network| network.drop_options = true);
    }

    /// Passes nothing on in either direction, on connections that stay open, until [`Self::restore`].
    pub fn freeze(&self) {
        self.network.send_modify(|network| network.frozen = true);
    }

    /// Loses what the server answers, while requests still reach it.
    pub fn swallow_replies(&self) {
        self.network.send_modify(|network| network.swallow_replies = true);
    }

    /// Holds every piece of data back for a while, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.network.send_modify(|network| network.delay = delay);
    }
}

/// Listens on a port that is kept.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections where the network is whole. `_keeper` keeps the port where it is not.
async fn accept(
    _keeper: TcpSocket,
    listener: TcpListener,
    mut network: watch::Receiver<Network>,
    listening: watch::Sender<bool>,
    accepted: Arc<AtomicUsize>,
) {
    let address = listener.local_addr().expect("a bound socket has an address");
    let connections = network.clone();
    let mut listener = Some(listener);
    // An error of `wait_for` means that the proxy has been dropped.
    while let Some(open) = listener.take() {
        loop {
            tokio::select! {
                broken = network.wait_for(|network| network.broken) => if broken.is_ok() { break } else { return },
                Ok((client, _)) = open.accept() => {
                    accepted.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(serve(client, connections.clone()));
                }
            }
        }
        drop(open);
        listening.send_replace(false);
        if network.wait_for(|network| !network.broken).await.is_err() {
            return;
        }
        listener = Some(listen(address).expect("the proxy's port has been kept"));
        listening.send_replace(true);
    }
}

/// Passes data on until either side closes, the network breaks or the proxy is dropped.
async fn serve(mut client: TcpStream, mut network: watch::Receiver<Network>) {
    let mut broken = network.clone();
    let target = network.borrow().target;
    let traffic = async {
        let Ok(mut server) = TcpStream::connect(target).await else { return };
        // Small pieces are passed on as they come, and not only when the last one was acknowledged.
        if client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).is_err() {
            return;
        }
        let (client_reader, client_writer) = client.split();
        let (server_reader, server_writer) = server.split();
        let mut other = network.clone();
        tokio::select! {
            () = pump(client_reader, server_writer, &mut network, Direction::ToServer) => {}
            () = pump(server_reader, client_writer, &mut other, Direction::ToClient) => {}
        }
    };
    tokio::select! {
        () = traffic => {}
        _ = broken.wait_for(|network| network.broken) => {}
    }
}

async fn pump(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    network: &mut watch::Receiver<Network>,
    direction: Direction,
) {
    let (pieces, mut arrived) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_UNDER_WAY);
    let delays = network.clone();
    let read = async move {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Ok(length @ 1..) = reader.read(&mut buffer).await {
            // What follows at once is under way at the same time.
            let due = Instant::now() + delays.borrow().delay;
            if pieces.send((due, buffer[..length].to_vec())).await.is_err() {
                break;
            }
        }
    };
    let write = async {
        let mut has_lost_data = false;
        let mut has_started = false;
        loop {
            let piece = tokio::select! {
                piece = arrived.recv() => piece,
                _ = network.wait_for(|network| has_lost_data && !network.swallow_replies) => return,
            };
            let Some((due, mut data)) = piece else { return };
            sleep_until(due).await;
            let Ok(now) = network.wait_for(|network| !network.frozen).await.map(|network| *network) else { return };
            if direction == Direction::ToClient && now.swallow_replies {
                has_lost_data = true;
                continue;
            }
            if let Some((text, other)) = now.disguise.filter(|_| direction == Direction::ToClient) {
                replace(&mut data, text.as_bytes(), other.as_bytes());
            }
            if now.drop_options && direction == Direction::ToServer && !has_started {
                let rest = without_options(&data);
                has_started = rest.is_some();
                data = rest.unwrap_or(data);
            }
            if writer.write_all(&data).await.is_err() {
                return;
            }
        }
    };
    tokio::pin!(write);
    tokio::select! {
        () = &mut write => return,
        () = read => {}
    }
    // What was read is yet to arrive.
    write.await;
}

/// PostgreSQL's startup message without its options, if it is one: it comes in one piece. A client may ask for TLS before.
fn without_options(data: &[u8]) -> Option<Vec<u8>> {
    let parameters = data.strip_prefix(&u32::try_from(data.len()).ok()?.to_be_bytes())?.strip_prefix(&PROTOCOL_3)?;
    let words: Vec<&[u8]> = parameters.split(|byte| *byte == 0).collect();
    let kept = words.chunks_exact(2).take_while(|pair| !pair[0].is_empty()).filter(|pair| pair[0] != b"options");
    let mut rest: Vec<u8> = kept.flatten().flat_map(|word| word.iter().copied().chain([0])).collect();
    rest.push(0);
    let length = u32::try_from(rest.len() + 8).ok()?.to_be_bytes();
    Some([&length[..], &PROTOCOL_3, &rest].concat())
}

/// Replaces each occurrence that lies in one piece of data, which those at the start of an answer do.
fn replace(data: &mut [u8], text: &[u8], other: &[u8]) {
    let mut at = 0;
    while at + text.len() <= data.len() {
        if data[at..].starts_with(text) {
            data[at..at + text.len()].copy_from_slice(other);
        }
        at += 1;
    }
}
