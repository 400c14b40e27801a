//! Free TCP ports.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use tokio::net::TcpSocket;

/// Below the kernel's default range for outgoing connections (32768 and up), which leaves the ports here to those who
/// ask for them.
const FIRST: u16 = 10_000;
const LAST: u16 = 32_000;

/// What this process has claimed, for as long as it lives.
static CLAIMED: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());

/// Returns a port of 127.0.0.1 for a server that sets `SO_REUSEADDR`, as nearly all do. Nobody listens there, nor can
/// be given it while this process lives, not even while the server is down: no outgoing connection, and nobody who asks
/// here, in whatever process.
///
/// Whoever names this port and sets `SO_REUSEADDR` may take it before you do; where the binary can listen on port 0 and
/// tell, let it.
pub fn free() -> u16 {
    let (socket, address) = claim();
    // Not before it is bound, so that a claim gets no port that somebody else has claimed.
    socket.set_reuseaddr(true).expect("an option of a socket can be set");
    CLAIMED.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
    address.port()
}

/// Returns a port of 127.0.0.1 that nobody else can bind while the socket lives, but for those who set `SO_REUSEPORT`.
/// As the socket does not listen, connections are refused.
pub(crate) fn keep() -> (TcpSocket, SocketAddr) {
    let (socket, address) = claim();
    socket.set_reuseport(true).expect("an option of a socket can be set");
    (socket, address)
}

/// Returns a socket that has a port to itself.
fn claim() -> (TcpSocket, SocketAddr) {
    loop {
        // Random, so that test processes that run at the same time do not try the same ports in the same order.
        let [high, low, ..] = uuid::Uuid::new_v4().into_bytes();
        let port = FIRST + u16::from_be_bytes([high, low]) % (LAST - FIRST);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let socket = TcpSocket::new_v4().expect("there is room for another socket");
        if socket.bind(address).is_ok() {
            return (socket, address);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_port_that_was_given_is_there_for_its_server_and_for_nobody_else() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free()));
        for _ in 0..2 {
            assert!(TcpStream::connect(address).is_err());
            assert!(TcpSocket::new_v4().unwrap().bind(address).is_err(), "claimed twice");
            // It sets SO_REUSEADDR.
            drop(TcpListener::bind(address).expect("a server may listen there"));
        }
    }
}
