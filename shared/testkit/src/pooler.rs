//! A pooler in transaction mode before PostgreSQL: all clients share one session, which each has for a transaction.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

/// What a client asks first that would like TLS.
const TLS_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();
/// The version of PostgreSQL's protocol.
const PROTOCOL_3: [u8; 4] = [0, 3, 0, 0];
/// `AuthenticationOk`, as it is sent to clients.
const LET_IN: &[u8] = b"R\0\0\0\x08\0\0\0\0";
/// That the session is ready, and in no transaction.
const READY: &[u8] = b"Z\0\0\0\x05I";

/// The server's session, and what it said of itself at its start.
struct Shared {
    session: TcpStream,
    greeting: Vec<u8>,
}

/// Starts a pooler before a database of a server that demands no password, and returns its address. It belongs to the
/// current runtime.
///
/// # Panics
/// When the server cannot be reached.
pub async fn start(port: u16, user: &str, database: &str) -> SocketAddr {
    let shared = Shared::connect(port, user, database).await.expect("PostgreSQL lets the pooler in");
    let shared = Arc::new(Mutex::new(shared));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
    let address = listener.local_addr().expect("a listener has an address");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // A client that goes away ends its own task.
            tokio::spawn(serve(client, Arc::clone(&shared)));
        }
    });
    address
}

impl Shared {
    async fn connect(port: u16, user: &str, database: &str) -> io::Result<Self> {
        let mut session = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let parameters = format!("user\0{user}\0database\0{database}\0\0");
        let length = u32::try_from(8 + parameters.len()).expect("names are short").to_be_bytes();
        session.write_all(&[&length[..], &PROTOCOL_3, parameters.as_bytes()].concat()).await?;
        let mut greeting = Vec::new();
        loop {
            let message = read(&mut session).await?;
            match message[0] {
                b'Z' => return Ok(Self { session, greeting }),
                b'S' | b'K' => greeting.extend(message),
                _ => {}
            }
        }
    }
}

/// Reads a message: its letter, its length, and the rest.
async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; 5];
    stream.read_exact(&mut message).await?;
    let length = u32::from_be_bytes([message[1], message[2], message[3], message[4]]) as usize;
    message.resize(1 + length, 0);
    stream.read_exact(&mut message[5..]).await?;
    Ok(message)
}

async fn serve(mut client: TcpStream, shared: Arc<Mutex<Shared>>) -> io::Result<()> {
    loop {
        let mut head = [0; 8];
        client.read_exact(&mut head).await?;
        if head[4..] == TLS_REQUEST {
            client.write_all(b"N").await?;
            continue;
        }
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        client.read_exact(&mut vec![0; length.saturating_sub(8)]).await?;
        break;
    }
    let greeting = shared.lock().await.greeting.clone();
    client.write_all(&[LET_IN, &greeting, READY].concat()).await?;
    loop {
        let mut message = read(&mut client).await?;
        // From here on, the session is this client's until its transaction is over.
        let mut shared = shared.lock().await;
        loop {
            if message[0] == b'X' {
                return Ok(());
            }
            shared.session.write_all(&message).await?;
            // A query, or the end of a series of messages: now the server answers.
            if matches!(message[0], b'Q' | b'S') && relay(&mut shared.session, &mut client).await? {
                break;
            }
            message = read(&mut client).await?;
        }
    }
}

/// Hands on what the server answers. Returns whether the session is in no transaction then.
async fn relay(session: &mut TcpStream, client: &mut TcpStream) -> io::Result<bool> {
    loop {
        let message = read(session).await?;
        client.write_all(&message).await?;
        if message[0] == b'Z' {
            return Ok(message[5] == b'I');
        }
    }
}
