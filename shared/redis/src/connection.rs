//! Connections to the server that the client library is connected to, or to a node of a cluster.
//!
//! They follow the client library, which finds the server (with Sentinel, the primary), knows the passwords and the
//! certificates, and decides when a server is to be given up.

use std::{io, time::Duration};

use fred::{
    clients::Client,
    interfaces::ClientLike,
    types::config::{Config, Server, ServerConfig, TlsConnector},
};
use futures_util::FutureExt;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    RedisError,
    resp::{Commands, Replies, Reply},
};

/// How much is read at once, in bytes: most batches' replies as a whole.
const READ_SIZE: usize = 32 * 1024;

/// After how long without traffic the system asks whether the other end is still there, lest something between forgets
/// the connection.
const KEEPALIVE: Duration = Duration::from_secs(60);

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection, as a session reads and writes it.
pub(crate) type Stream = Box<dyn Duplex>;

/// Opens a connection to the client library's server, which is not logged in yet. The caller sets the deadline.
///
/// # Errors
/// [`RedisError`].
pub(crate) async fn open(client: &Client, config: &Config) -> Result<Stream, RedisError> {
    let server = server_of(client, config).ok_or(RedisError::NotConnected)?;
    connect(config, &server).await
}

/// Returns the server that the client library is connected to. It lists its connections by the ids that it has asked
/// Redis for, which takes a right (`CLIENT ID`) that users of a restricted account may lack. Then the list is empty,
/// and the settings or the sentinels have named the server.
fn server_of(client: &Client, config: &Config) -> Option<Server> {
    client.active_connections().into_iter().next().or_else(|| match &config.server {
        ServerConfig::Centralized { server } => Some(server.clone()),
        ServerConfig::Sentinel { .. } => client.inner().server_state.read().kind.sentinel_primary(),
        ServerConfig::Clustered { .. } => None,
    })
}

/// Returns a host as the system and certificates know it: an IPv6 address without the brackets that it has in a URL.
fn host(server: &Server) -> &str {
    server.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&server.host)
}

/// Opens a connection to a server, which is not logged in yet. The caller sets the deadline.
///
/// # Errors
/// [`RedisError`].
pub(crate) async fn connect(config: &Config, server: &Server) -> Result<Stream, RedisError> {
    let stream = TcpStream::connect((host(server), server.port)).await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))?;
    let Some(tls) = &config.tls else { return Ok(Box::new(stream)) };
    let TlsConnector::Rustls(connector) = &tls.connector;
    let name = server.tls_server_name.as_deref().unwrap_or_else(|| host(server));
    let name = ServerName::try_from(name.to_owned())?;
    Ok(Box::new(connector.connect(name, stream).await?))
}

/// Logs in, and chooses the database.
///
/// # Errors
/// [`RedisError`].
pub(crate) async fn log_in(connection: &mut Stream, config: &Config) -> Result<(), RedisError> {
    let mut commands = Commands::default();
    match (&config.username, &config.password) {
        (Some(user), Some(password)) => drop(commands.command("AUTH", 2).text(user).text(password)),
        (None, Some(password)) => drop(commands.command("AUTH", 1).text(password)),
        (_, None) => {}
    }
    if let Some(database) = config.database.filter(|database| *database != 0) {
        commands.command("SELECT", 1).number(i64::from(database));
    }
    let mut replies = Replies::default();
    transmit(connection, commands.bytes(), commands.len(), &mut replies).await?;
    replies.iter().find_map(Reply::error).map_or(Ok(()), |error| Err(error.into()))
}

/// Sends so many commands and waits for all replies. After an error, or when the future is dropped, the connection is of
/// no more use.
///
/// # Errors
/// [`RedisError`].
pub(crate) async fn transmit(
    connection: &mut Stream,
    commands: &[u8],
    number: usize,
    replies: &mut Replies,
) -> Result<(), RedisError> {
    replies.clear();
    connection.write_all(commands).await?;
    connection.flush().await?;
    while !replies.parse(number)? {
        replies.bytes.reserve(READ_SIZE);
        if connection.read_buf(&mut replies.bytes).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    if replies.has_more_than_asked_for() { Err(RedisError::Unasked) } else { Ok(()) }
}

/// Returns whether the other end has not closed the connection, as far as this end has heard.
pub(crate) fn is_open(connection: &mut Stream) -> bool {
    // Nothing is ever sent unasked, so whatever there is to read is the end, or nonsense.
    connection.read(&mut [0]).now_or_never().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_loses_the_brackets_of_its_url() {
        for (url, expected) in [("redis://[::1]:7", "::1"), ("redis://10.0.0.1:7", "10.0.0.1"), ("redis://redis:7", "redis")] {
            let config = Config::from_url(url).unwrap();
            assert_eq!(host(&config.server.hosts()[0]), expected);
        }
    }

    #[test]
    fn the_server_of_the_settings_is_known_without_a_list_of_connections() {
        let client = Client::new(Config::from_url("redis://one:1").unwrap(), None, None, None);
        assert!(client.active_connections().is_empty());
        assert_eq!(server_of(&client, &client.client_config()), Some(Server::new("one", 1)));
    }
}
