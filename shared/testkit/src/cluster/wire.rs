//! Commands to one node, over a connection that is opened for them.

use fred::types::Value;
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What the error of a node begins with that has not answered.
pub(super) const AWAY: &str = "AWAY";

/// Sends commands and returns the answer to each, which may be an error.
///
/// # Errors
/// [`AWAY`] and why: some of the commands may have been done.
pub(super) async fn exchange(
    port: u16,
    password: Option<&str>,
    commands: &[&[&str]],
) -> Result<Vec<Result<Value, String>>, String> {
    let away = |error: &dyn std::fmt::Display| format!("{AWAY} {error}");
    let login = password.map(|password| ["AUTH", password]);
    let login = login.as_ref().map(|words| &words[..]);
    let request: Vec<u8> = login.iter().chain(commands).flat_map(|words| encoded(words)).collect();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| away(&error))?;
    stream.write_all(&request).await.map_err(|error| away(&error))?;
    let mut answers = Vec::new();
    let (mut buffer, mut used) = (Vec::new(), 0);
    while answers.len() < commands.len() + usize::from(login.is_some()) {
        match decode(&buffer[used..]).map_err(|error| away(&error))? {
            Some((frame, length)) => {
                used += length;
                answers.push(value(frame));
            }
            None => match stream.read_buf(&mut buffer).await {
                Ok(0) => return Err(away(&"the connection was closed")),
                Ok(_) => {}
                Err(error) => return Err(away(&error)),
            },
        }
    }
    if login.is_some() {
        answers.remove(0)?;
    }
    Ok(answers)
}

fn encoded(words: &[&str]) -> Vec<u8> {
    let head = format!("*{}\r\n", words.len());
    let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    [head].into_iter().chain(words).collect::<String>().into_bytes()
}

fn value(frame: OwnedFrame) -> Result<Value, String> {
    Ok(match frame {
        OwnedFrame::Error(error) => return Err(error),
        OwnedFrame::Null => Value::Null,
        OwnedFrame::Integer(number) => Value::Integer(number),
        OwnedFrame::SimpleString(bytes) | OwnedFrame::BulkString(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Value::String(text.into()),
            Err(error) => Value::Bytes(error.into_bytes().into()),
        },
        OwnedFrame::Array(frames) => {
            // An error within an array is that of one of several commands, which nobody sends here.
            Value::Array(
                frames.into_iter().map(|frame| value(frame).unwrap_or_else(|error| Value::String(error.into()))).collect(),
            )
        }
    })
}
