//! Bytes to the server, and what it makes of them.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Far beyond anything that the server waits for.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a client does when it has sent its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending {
    /// Waits until the server closes the connection.
    Wait,
    /// Waits a little while for answers, then says that nothing more will come, and reads to the end.
    Finish,
    /// Goes away at once.
    Leave,
}

/// Sends bytes over a new connection, and returns everything that comes back.
pub(crate) async fn send(address: SocketAddr, bytes: &[u8], ending: Ending) -> Vec<u8> {
    const A_LITTLE_WHILE: Duration = Duration::from_millis(50);
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    let mut answer = Vec::new();
    let write = async {
        // The server may answer and close before it has read everything: then writing fails, or reading does after the
        // answer.
        let _ = writer.write_all(bytes).await;
        if !matches!(ending, Ending::Wait) {
            tokio::time::sleep(A_LITTLE_WHILE).await;
            let _ = writer.shutdown().await;
        }
    };
    if matches!(ending, Ending::Leave) {
        let _ = timeout(A_LITTLE_WHILE, write).await;
        return answer;
    }
    let read = reader.read_to_end(&mut answer);
    let finished = timeout(DEADLINE, async { tokio::join!(write, read) }).await;
    assert!(finished.is_ok(), "the connection is still open after {DEADLINE:?}: {:?}", String::from_utf8_lossy(bytes));
    answer
}

/// The statuses of all answers, one behind the other. No body of the API could be mistaken for a head.
pub(crate) fn statuses(answers: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answers);
    // A client of HTTP/1.0 is answered in HTTP/1.0.
    let heads = text.split("HTTP/1.").skip(1);
    heads
        .map(|head| head.get(2..5).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status in {text:?}")))
        .collect()
}

/// A single answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Reads an answer, and demands that its length is what it says.
    pub(crate) fn read(bytes: &[u8], has_body: bool) -> Self {
        let text = std::str::from_utf8(bytes).unwrap_or_else(|error| panic!("{error} in {bytes:?}"));
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no whole head in {text:?}"));
        let answer = Self { status: statuses(bytes)[0], head: head.to_ascii_lowercase(), body: body.to_owned() };
        let length = answer.header("content-length").map(|length| length.parse::<usize>().unwrap());
        if has_body && answer.status != 204 {
            assert_eq!(length, Some(body.len()), "{answer:?}");
        } else {
            assert_eq!(body, "", "{answer:?}");
        }
        answer
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// Demands the API's form: JSON, and for errors the three fields.
    pub(crate) fn assert_form(&self) {
        if self.status == 204 {
            assert_eq!((self.header("allow"), self.body.as_str()), (Some("get, head, options"), ""), "{self:?}");
            return;
        }
        assert_eq!(self.header("content-type"), Some("application/json; charset=utf-8"), "{self:?}");
        assert_eq!(self.header("www-authenticate").is_some(), self.status == 401, "{self:?}");
        assert_eq!(self.header("allow").is_some(), self.status == 405, "{self:?}");
        if self.body.is_empty() {
            return;
        }
        let body: Value = serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        if self.status != 200 {
            let names: Vec<&String> = body.as_object().unwrap().keys().collect();
            assert_eq!(names, ["error", "message", "statusCode"], "{self:?}");
            assert_eq!(body["statusCode"], self.status, "{self:?}");
        }
    }
}
