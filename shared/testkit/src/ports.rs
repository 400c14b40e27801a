//! Free TCP ports.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// Below the kernel's default range for outgoing connections (32768 and up): a server that is down for a while does not
/// lose its port to a client that happens to connect somewhere.
const FIRST: u16 = 10_000;
const LAST: u16 = 32_000;

static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A port of 127.0.0.1 that nobody listens on, and that this process has not been given before.
///
/// Another process may take it before you do; where the binary can listen on port 0 and tell, let it.
pub fn free() -> u16 {
    let mut guard = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = guard.get_or_insert_default();
    loop {
        // Random, so that test processes that run at the same time do not try the same ports in the same order.
        let [high, low, ..] = uuid::Uuid::new_v4().into_bytes();
        let port = FIRST + u16::from_be_bytes([high, low]) % (LAST - FIRST);
        if !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            given.insert(port);
            return port;
        }
    }
}
