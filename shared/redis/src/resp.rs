//! Redis's protocol (RESP2) for pipelines that are written and read in one piece: what a batch sends and what comes
//! back.
//!
//! The client library gives each command of a pipeline a task, a channel's slot and a write of its own, which costs
//! more than all else that is done for a view. Writing commands is a matter of lengths; replies are read by the
//! library's own protocol crate.

use redis_protocol::{
    error::{RedisProtocolError, RedisProtocolErrorKind},
    resp2::{decode::decode_range, types::RangeFrame},
};

use crate::error::ServerError;

/// Commands, one after the other, as they go over the wire.
#[derive(Debug, Default)]
pub struct Commands {
    bytes: Vec<u8>,
    number: usize,
    /// Arguments that the last command has announced and not been given yet.
    missing: usize,
}

impl Commands {
    /// Forgets all, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        (self.number, self.missing) = (0, 0);
    }

    /// Returns how many there are, which is how many replies will come.
    #[must_use]
    pub fn len(&self) -> usize {
        self.number
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.number == 0
    }

    /// Begins a command. So many arguments must follow.
    pub fn command(&mut self, name: &str, arguments: usize) -> &mut Self {
        debug_assert_eq!(self.missing, 0, "an argument of the last command is missing");
        self.number += 1;
        self.missing = 1 + arguments;
        self.length(b'*', 1 + arguments);
        self.text(name)
    }

    /// Adds an argument.
    #[inline]
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.blob(text.as_bytes())
    }

    /// Adds an argument that is put together from pieces.
    #[inline]
    pub fn parts(&mut self, parts: &[&str]) -> &mut Self {
        self.argument(parts.iter().map(|part| part.len()).sum());
        for part in parts {
            self.bytes.extend_from_slice(part.as_bytes());
        }
        self.bytes.extend_from_slice(b"\r\n");
        self
    }

    /// Adds an argument of any bytes.
    #[inline]
    pub fn blob(&mut self, bytes: &[u8]) -> &mut Self {
        self.argument(bytes.len());
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
        self
    }

    /// Adds an argument that is a number.
    pub fn number(&mut self, number: i64) -> &mut Self {
        self.text(itoa::Buffer::new().format(number))
    }

    #[inline]
    fn argument(&mut self, length: usize) {
        debug_assert_ne!(self.missing, 0, "one argument too many");
        self.missing -= 1;
        self.length(b'$', length);
    }

    /// Nearly all lengths have one or two digits, and a batch has tens of thousands of them.
    #[inline]
    fn length(&mut self, kind: u8, length: usize) {
        let digit = |number: usize| b'0' + (number % 10) as u8;
        match length {
            0..10 => self.bytes.extend_from_slice(&[kind, digit(length), b'\r', b'\n']),
            10..100 => self.bytes.extend_from_slice(&[kind, digit(length / 10), digit(length), b'\r', b'\n']),
            _ => {
                self.bytes.push(kind);
                self.bytes.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
                self.bytes.extend_from_slice(b"\r\n");
            }
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        debug_assert_eq!(self.missing, 0, "an argument of the last command is missing");
        &self.bytes
    }
}

/// The replies to a pipeline.
#[derive(Debug, Default)]
pub struct Replies {
    pub(crate) bytes: Vec<u8>,
    /// Each reply, and where its bytes begin.
    frames: Vec<(usize, RangeFrame)>,
    /// Up to where the bytes have been read.
    read: usize,
}

/// One reply.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reply<'a> {
    /// A number.
    Integer(i64),
    /// A text.
    Text(&'a str),
    /// What would be a text, but is not UTF-8.
    Bytes(&'a [u8]),
    /// Nothing: no such field, member or key.
    Null,
    /// Why the command failed.
    Error(ServerError<'a>),
    /// Several replies.
    List(List<'a>),
}

/// A reply that consists of several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct List<'a> {
    bytes: &'a [u8],
    frames: &'a [RangeFrame],
}

impl<'a> Reply<'a> {
    /// Returns the error that this is.
    #[must_use]
    pub fn error(self) -> Option<ServerError<'a>> {
        if let Self::Error(error) = self { Some(error) } else { None }
    }

    /// Returns the text that this is.
    #[must_use]
    pub fn text(self) -> Option<&'a str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// Returns the number that this is, or that this text says.
    #[must_use]
    pub fn number(self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(number),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }
}

impl<'a> List<'a> {
    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Returns the replies in their order.
    pub fn iter(self) -> impl Iterator<Item = Reply<'a>> {
        self.frames.iter().map(move |frame| reply(self.bytes, frame))
    }
}

impl Replies {
    /// Returns the replies in the order of the commands.
    pub fn iter(&self) -> impl Iterator<Item = Reply<'_>> {
        self.frames.iter().map(|(start, frame)| reply(&self.bytes[*start..], frame))
    }

    /// Reads the replies to so many commands, for whoever has them from elsewhere.
    ///
    /// # Errors
    /// When they are none, or not all.
    pub fn decode(bytes: Vec<u8>, wanted: usize) -> Result<Self, RedisProtocolError> {
        let mut replies = Self { bytes, ..Self::default() };
        if replies.parse(wanted)? {
            return Ok(replies);
        }
        Err(RedisProtocolError::new(RedisProtocolErrorKind::DecodeError, "a reply is missing"))
    }

    /// Forgets all, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
        self.read = 0;
    }

    /// Has room for so many replies, which are put there one by one.
    pub(crate) fn prepare(&mut self, number: usize) {
        self.clear();
        self.frames.resize_with(number, || (0, RangeFrame::Null));
    }

    /// Puts an error in the place of a reply.
    pub(crate) fn put_error(&mut self, place: usize, text: &str) {
        if let Some(frame) = self.frames.get_mut(place) {
            *frame = (self.bytes.len(), RangeFrame::Error((0, text.len())));
            self.bytes.extend_from_slice(text.as_bytes());
        }
    }

    /// Puts the replies of another pipeline in their places. Before those of which that is said, there is one that
    /// nobody wants.
    pub(crate) fn take_from(&mut self, other: &mut Self, places: impl Iterator<Item = (usize, bool)>) {
        let base = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        let mut frames = other.frames.drain(..);
        for (place, has_unwanted) in places {
            if has_unwanted {
                frames.next();
            }
            if let (Some((start, frame)), Some(target)) = (frames.next(), self.frames.get_mut(place)) {
                *target = (base + start, frame);
            }
        }
    }

    /// Returns the reply to a command, by its place.
    pub(crate) fn get(&self, place: usize) -> Option<Reply<'_>> {
        self.frames.get(place).map(|(start, frame)| reply(&self.bytes[*start..], frame))
    }

    /// Reads what has arrived. Gives whether so many replies are there, and nothing behind them.
    pub(crate) fn parse(&mut self, wanted: usize) -> Result<bool, RedisProtocolError> {
        while self.frames.len() < wanted {
            let rest = &self.bytes[self.read..];
            let found = if let Some(digit) = small_number(rest) { Some(digit) } else { decode_range(rest)? };
            let Some((frame, length)) = found else { return Ok(false) };
            self.frames.push((self.read, frame));
            self.read += length;
        }
        Ok(true)
    }

    pub(crate) fn has_more_than_asked_for(&self) -> bool {
        self.read < self.bytes.len()
    }
}

/// Most replies are numbers of one digit, and reading those takes the library longer than all else that is in a view's
/// replies.
fn small_number(bytes: &[u8]) -> Option<(RangeFrame, usize)> {
    match bytes {
        [b':', digit @ b'0'..=b'9', b'\r', b'\n', ..] => Some((RangeFrame::Integer(i64::from(digit - b'0')), 4)),
        _ => None,
    }
}

fn reply<'a>(bytes: &'a [u8], frame: &'a RangeFrame) -> Reply<'a> {
    let text = |(start, end): (usize, usize)| std::str::from_utf8(&bytes[start..end]);
    match frame {
        RangeFrame::SimpleString(range) | RangeFrame::BulkString(range) => {
            text(*range).map_or(Reply::Bytes(&bytes[range.0..range.1]), Reply::Text)
        }
        RangeFrame::Error(range) => Reply::Error(ServerError::parse(text(*range).unwrap_or_default())),
        RangeFrame::Integer(number) => Reply::Integer(*number),
        RangeFrame::Array(frames) => Reply::List(List { bytes, frames }),
        RangeFrame::Null => Reply::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_written_as_redis_reads_them() {
        let mut commands = Commands::default();
        commands.command("SADD", 2).parts(&["post:", "7", ":views"]).text("имя");
        commands.command("EXPIRE", 2).text("k").number(-86_400);
        assert_eq!(commands.len(), 2);
        let expected =
            "*3\r\n$4\r\nSADD\r\n$12\r\npost:7:views\r\n$6\r\nимя\r\n*3\r\n$6\r\nEXPIRE\r\n$1\r\nk\r\n$6\r\n-86400\r\n";
        assert_eq!(std::str::from_utf8(commands.bytes()).unwrap(), expected);
        commands.clear();
        assert!(commands.is_empty() && commands.bytes().is_empty());
    }

    #[test]
    fn an_argument_of_any_length_is_announced_with_it() {
        for length in [0, 1, 9, 10, 11, 99, 100, 101, 1_000, 12_345] {
            let mut commands = Commands::default();
            commands.command("ECHO", 1).text(&"x".repeat(length));
            let expected = format!("*2\r\n$4\r\nECHO\r\n${length}\r\n{}\r\n", "x".repeat(length));
            assert_eq!(commands.bytes(), expected.as_bytes());
        }
    }

    #[test]
    fn numbers_are_read_whatever_their_size() {
        let numbers = [0, 9, 10, -1, i64::MAX, i64::MIN, 7];
        let bytes: String = numbers.iter().map(|number| format!(":{number}\r\n")).collect();
        let replies = Replies::decode(bytes.into_bytes(), numbers.len()).unwrap();
        assert!(replies.iter().eq(numbers.map(Reply::Integer)));
    }

    #[test]
    fn replies_are_read_however_they_arrive() {
        let all = b":42\r\n*3\r\n$1\r\na\r\n$-1\r\n:1\r\n-OOM command not allowed\r\n+OK\r\n$0\r\n\r\n";
        let mut replies = Replies::default();
        for (sent, byte) in all.iter().enumerate() {
            assert!(!replies.parse(5).unwrap(), "after {sent} bytes");
            replies.bytes.push(*byte);
        }
        assert!(replies.parse(5).unwrap());
        assert!(!replies.has_more_than_asked_for());
        let found: Vec<_> = replies.iter().collect();
        assert_eq!(found[0], Reply::Integer(42));
        assert_eq!(found[2], Reply::Error(ServerError::parse("OOM command not allowed")));
        assert_eq!((found[3], found[4]), (Reply::Text("OK"), Reply::Text("")));
        let Reply::List(list) = found[1] else { panic!("{:?}", found[1]) };
        assert_eq!(list.iter().collect::<Vec<_>>(), [Reply::Text("a"), Reply::Null, Reply::Integer(1)]);
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        let mut replies = Replies::default();
        replies.bytes.extend_from_slice(b"HTTP/1.1 400 Bad Request\r\n");
        assert!(replies.parse(1).is_err());
    }
}
