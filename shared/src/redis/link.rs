//! A connection that takes whole pipelines: one write, and reads until the last reply is there.
//!
//! It follows the client library, which finds the server (with Sentinel, the primary), knows the passwords and the certificates, and
//! decides when a server is to be given up. A link that fails in any way is thrown away, so a reply can never be taken for another's.

use std::{io, time::Duration};

use fred::{
    clients::Client,
    interfaces::ClientLike,
    types::config::{Config, Server, TlsConnector},
};
use futures_util::FutureExt;
use redis_protocol::error::RedisProtocolError;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use super::resp::{Commands, Replies, Reply};

/// After how long without traffic the system asks whether the other end is still there, lest something between forgets the connection.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How much is read at once, in bytes: most batches' replies as a whole.
const READ_SIZE: usize = 32 * 1024;

/// Why a pipeline has no replies. Some of its commands may have been carried out all the same, or may be yet.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The client library has no connection, so nobody knows where the server is.
    #[error("not connected")]
    NotConnected,
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server's name cannot be on a certificate.
    #[error(transparent)]
    Name(#[from] InvalidDnsNameError),
    /// What came back was no reply.
    #[error("not Redis's protocol: {0}")]
    Protocol(#[from] RedisProtocolError),
    /// More came back than was asked for.
    #[error("a reply that nobody asked for")]
    Unasked,
    /// The server does not let us in.
    #[error("refused: {0}")]
    Refused(String),
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection to the server that the client library is connected to.
pub struct Link {
    stream: Box<dyn Duplex>,
}

impl Link {
    /// Opens a connection to the client library's server and logs in. The caller sets the deadline.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn open(client: &Client) -> Result<Self, LinkError> {
        let server = client.active_connections().into_iter().next().ok_or(LinkError::NotConnected)?;
        let config = client.client_config();
        let mut link = Self { stream: connect(&config, &server).await? };
        link.log_in(&config).await?;
        Ok(link)
    }

    async fn log_in(&mut self, config: &Config) -> Result<(), LinkError> {
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
        self.exchange(&commands, &mut replies).await?;
        let refusal = replies.iter().find_map(|reply| if let Reply::Error(text) = reply { Some(text.to_owned()) } else { None });
        refusal.map_or(Ok(()), |text| Err(LinkError::Refused(text)))
    }

    /// Whether the other end has not closed the connection, as far as this end has heard.
    pub fn is_open(&mut self) -> bool {
        // Nothing is ever sent unasked, so whatever there is to read is the end, or nonsense.
        self.stream.read(&mut [0]).now_or_never().is_none()
    }

    /// Sends commands and waits for all replies. After an error, or when the future is dropped, the link is of no more use. The caller
    /// sets the deadline.
    ///
    /// # Errors
    /// [`LinkError`]; a command that fails is no error here, but a reply.
    pub async fn exchange(&mut self, commands: &Commands, replies: &mut Replies) -> Result<(), LinkError> {
        replies.clear();
        self.stream.write_all(commands.bytes()).await?;
        self.stream.flush().await?;
        while !replies.parse(commands.len())? {
            replies.bytes.reserve(READ_SIZE);
            if self.stream.read_buf(&mut replies.bytes).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        if replies.has_more_than_asked_for() { Err(LinkError::Unasked) } else { Ok(()) }
    }
}

async fn connect(config: &Config, server: &Server) -> Result<Box<dyn Duplex>, LinkError> {
    let stream = TcpStream::connect((&*server.host, server.port)).await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))?;
    let Some(tls) = &config.tls else { return Ok(Box::new(stream)) };
    let TlsConnector::Rustls(connector) = &tls.connector;
    let name = server.tls_server_name.as_ref().unwrap_or(&server.host);
    let name = ServerName::try_from(name.to_string())?;
    Ok(Box::new(connector.connect(name, stream).await?))
}
