//! Connections to the server that the client library is connected to.
//!
//! They follow the client library, which finds the server (with Sentinel, the primary), knows the passwords and the
//! certificates, and decides when a server is to be given up.

use std::time::Duration;

use fred::{
    clients::Client,
    interfaces::ClientLike,
    types::config::{Config, Server, ServerConfig, TlsConnector},
};
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::RedisError;

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

async fn connect(config: &Config, server: &Server) -> Result<Stream, RedisError> {
    let stream = TcpStream::connect((host(server), server.port)).await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))?;
    let Some(tls) = &config.tls else { return Ok(Box::new(stream)) };
    let TlsConnector::Rustls(connector) = &tls.connector;
    let name = server.tls_server_name.as_deref().unwrap_or_else(|| host(server));
    let name = ServerName::try_from(name.to_owned())?;
    Ok(Box::new(connector.connect(name, stream).await?))
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
