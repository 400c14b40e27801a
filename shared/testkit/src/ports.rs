//! Free TCP ports.

use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, PoisonError};

/// Below the kernel's default range for outgoing connections (32768 and up): a server that is down for a while does not
/// lose its port to a client that happens to connect somewhere.
const FIRST: u16 = 10_000;
const LAST: u16 = 32_000;

/// What this process has claimed, for as long as it lives.
static CLAIMED: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A port of 127.0.0.1 that nobody listens on, and that no living process has been given by this function, not even while the
/// server there is down: a run of tests beside this one cannot take it.
///
/// A process that does not ask here may take it before you do; where the binary can listen on port 0 and tell, let it.
pub fn free() -> u16 {
    loop {
        // Random, so that test processes that run at the same time do not try the same ports in the same order.
        let [high, low, ..] = uuid::Uuid::new_v4().into_bytes();
        let port = FIRST + u16::from_be_bytes([high, low]) % (LAST - FIRST);
        let Some(claim) = claim(port) else { continue };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            CLAIMED.lock().unwrap_or_else(PoisonError::into_inner).push(claim);
            return port;
        }
    }
}

/// Claims a port among all processes of this machine, unless one has it already. The claim is a socket with an abstract name:
/// there is one of each name, and the kernel takes it back when its process ends, however it ends.
fn claim(port: u16) -> Option<UnixListener> {
    let name = SocketAddr::from_abstract_name(format!("view-counter test port {port}")).ok()?;
    UnixListener::bind_addr(&name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_was_given_cannot_be_claimed_again_although_nobody_listens_there() {
        let port = free();
        drop(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("nobody listens there"));
        assert!(claim(port).is_none());
    }
}
