//! The public listener: a socket that systemd hands over, or one of our own.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use socket2::SockRef;

/// Connections that wait to be accepted. A burst longer than this is sent away by the kernel.
const BACKLOG: u32 = 4_096;

/// What the system may hold of a connection's answers that the client has not taken, in bytes; it counts its own
/// book-keeping, too, against twice as much. The largest answer fits. By the system's own rule it could be megabytes,
/// and a client that takes nothing would look like one that has taken all.
const SEND_BUFFER: usize = 16 * 1024;

/// Where clients connect to.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    /// Whether systemd holds the socket, too: whoever waits in its queue is served by the next start.
    pub(crate) from_systemd: bool,
}

impl Listener {
    /// Returns the same socket for another worker.
    ///
    /// # Errors
    /// When the process may not open more files.
    pub(crate) fn share(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, from_systemd: self.from_systemd })
    }
}

/// Takes the socket that systemd handed over, or opens one. A client whose system takes no bytes for `write_timeout` is
/// cut off by ours.
///
/// # Errors
/// When the socket is not a listening TCP socket, or the address cannot be listened on.
pub(crate) fn open(address: SocketAddr, write_timeout: Duration) -> io::Result<Listener> {
    let handed_over = listenfd::ListenFd::from_env().take_tcp_listener(0)?;
    let from_systemd = handed_over.is_some();
    let socket = match handed_over {
        Some(socket) => socket,
        None => bind(address)?,
    };
    socket.set_nonblocking(true)?;
    // Every connection has them from its listener.
    let options = SockRef::from(&socket);
    options.set_send_buffer_size(SEND_BUFFER)?;
    options.set_tcp_user_timeout(Some(write_timeout))?;
    tracing::info!(listener = "public", address = %socket.local_addr()?, from_systemd, "listening");
    Ok(Listener { socket, from_systemd })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    // Only inside a runtime can tokio's socket be turned into a listener, and it is the one way to set the backlog that
    // it offers.
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
    // A restart does not wait for the old connections' TIME_WAIT to pass.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}
