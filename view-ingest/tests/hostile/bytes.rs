//! Bytes that are hardly HTTP any more.

use std::{cell::RefCell, collections::BTreeSet};

use futures_util::future::join_all;
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_oneof},
    sample::{Index, select},
    test_runner::TestRunner,
};
use testkit::properties::cases;

use crate::{
    wire::{Ending, send, statuses},
    world::World,
};

/// What may come back: an interim answer to a client that asks for it, and what the documentation lists, without the
/// 503. The 414 is the HTTP library's own, for a path that is longer than all headers may be.
const CONTRACT: [u16; 12] = [100, 200, 204, 400, 401, 404, 405, 408, 413, 414, 415, 431];

/// Pieces that mean something to somebody who reads HTTP.
const PIECES: [&str; 24] = [
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "\0",
    " ",
    ":",
    "HTTP/1.1",
    "HTTP/2.0",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "Content-Length: 18446744073709551616\r\n",
    "Content-Length: -1\r\n",
    "Content-Length: 5\r\nContent-Length: 6\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: websocket\r\nConnection: Upgrade\r\n",
    "Authorization: Bearer a.b.c\r\n",
    "FFFFFFFFFFFFFFFF\r\n",
    "ffffffffffffffffff\r\n",
    "0\r\nTrailer: x\r\n\r\n",
    "1;a=\"\r\n",
    "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}",
];

/// Something that is done to a good request.
#[derive(Debug, Clone)]
enum Damage {
    Cut(Index),
    Replace(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
    Fill(Index, u8, usize),
}

impl Damage {
    fn any() -> impl Strategy<Value = Self> {
        let piece = prop_oneof![
            select(PIECES.to_vec()).prop_map(|piece| piece.as_bytes().to_vec()),
            select(PIECES.to_vec()).prop_map(|piece| piece.as_bytes().to_vec()),
            vec(any::<u8>(), 1..20)
        ];
        prop_oneof![
            any::<Index>().prop_map(Self::Cut),
            (any::<Index>(), any::<u8>()).prop_map(|(place, byte)| Self::Replace(place, byte)),
            (any::<Index>(), piece).prop_map(|(place, piece)| Self::Insert(place, piece)),
            (any::<Index>(), 1_usize..40).prop_map(|(place, length)| Self::Remove(place, length)),
            (any::<Index>(), 1_usize..200).prop_map(|(place, times)| Self::Repeat(place, times)),
            (any::<Index>(), any::<u8>(), prop_oneof![1_usize..100, Just(17_000), Just(70_000)])
                .prop_map(|(place, byte, length)| Self::Fill(place, byte, length)),
        ]
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        let at = |place: &Index| place.index(bytes.len() + 1);
        match self {
            Self::Cut(place) => bytes.truncate(at(place)),
            Self::Replace(place, byte) => {
                let at = at(place);
                if let Some(old) = bytes.get_mut(at) {
                    *old = *byte;
                }
            }
            Self::Insert(place, piece) => drop(bytes.splice(at(place)..at(place), piece.iter().copied())),
            Self::Remove(place, length) => drop(bytes.drain(at(place)..(at(place) + length).min(bytes.len()))),
            Self::Repeat(place, times) => {
                // A line, so that there are many headers or chunks of a kind.
                let start = bytes[..at(place)].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
                let end =
                    bytes[start..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |newline| start + newline + 1);
                let line = bytes[start..end].repeat(*times);
                bytes.splice(start..start, line);
            }
            Self::Fill(place, byte, length) => drop(bytes.splice(at(place)..at(place), std::iter::repeat_n(*byte, *length))),
        }
    }
}

/// All that a client sends over one connection.
#[derive(Clone)]
struct Conversation {
    bytes: Vec<u8>,
    ending: Ending,
}

impl std::fmt::Debug for Conversation {
    /// Most of a long one is filling.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = String::from_utf8_lossy(&self.bytes[..self.bytes.len().min(800)]);
        write!(f, "{} bytes, then {:?}: {start:?}", self.bytes.len(), self.ending)
    }
}

/// Good requests, to be spoiled.
fn good(token: &str) -> Vec<Vec<u8>> {
    let json = format!("host: test\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n");
    [
        format!("POST /posts/view HTTP/1.1\r\n{json}content-length: 14\r\n\r\n{{\"postId\":\"7\"}}"),
        format!("POST /posts/view HTTP/1.1\r\n{json}transfer-encoding: chunked\r\n\r\n5\r\n{{\"pos\r\n9;x=y\r\ntId\":\"7\"}}\r\n0\r\n\r\n"),
        format!("POST /posts/views-batch HTTP/1.1\r\n{json}content-length: 21\r\n\r\n{{\"postIds\":[\"7\",\"a\"]}}"),
        "GET /posts/views?ids=7,a HTTP/1.1\r\nhost: test\r\naccept: */*\r\n\r\n".to_owned(),
        "GET /posts/7/views HTTP/1.0\r\n\r\n".to_owned(),
        "HEAD /readyz HTTP/1.1\r\nhost: test\r\nconnection: keep-alive\r\n\r\n".to_owned(),
        format!("POST /posts/view HTTP/1.1\r\n{json}expect: 100-continue\r\ncontent-length: 14\r\n\r\n{{\"postId\":\"7\"}}"),
        "CONNECT localhost:80 HTTP/1.1\r\nhost: test\r\n\r\n".to_owned(),
        "OPTIONS * HTTP/1.1\r\nhost: test\r\n\r\n".to_owned(),
        "GET http://test/livez HTTP/1.1\r\nhost: other\r\n\r\n".to_owned(),
    ]
    .map(String::into_bytes)
    .into()
}

/// Some requests in a row, damaged here and there; or nothing that was ever a request.
fn conversation(token: &str) -> impl Strategy<Value = Conversation> + use<> {
    let damaged = (vec(select(good(token)), 1..4), vec(Damage::any(), 0..4)).prop_map(|(requests, damages)| {
        let mut bytes = requests.concat();
        for damage in damages {
            damage.apply(&mut bytes);
        }
        bytes
    });
    let garbage = vec(any::<u8>(), 0..400);
    let pieces = vec(select(PIECES.to_vec()), 0..30).prop_map(|pieces| pieces.concat().into_bytes());
    let bytes = prop_oneof![6 => damaged, 1 => garbage, 1 => pieces];
    let ending = prop_oneof![8 => Just(Ending::Finish), 1 => Just(Ending::Leave)];
    (bytes, ending).prop_map(|(bytes, ending)| Conversation { bytes, ending })
}

#[test]
fn nothing_brings_the_server_down() {
    let world = World::start();
    let seen = RefCell::new(BTreeSet::new());
    let mut runner = TestRunner::new(cases(50));
    let outcome = runner.run(&vec(conversation(&world.token), 1..40), |conversations| {
        let exchange = |sent: Conversation| async move { (send(world.address, &sent.bytes, sent.ending).await, sent) };
        for (answer, sent) in world.runtime.block_on(join_all(conversations.into_iter().map(exchange))) {
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{:?} to {sent:?}", String::from_utf8_lossy(&answer));
            for status in statuses(&answer) {
                assert!(CONTRACT.contains(&status), "{status} to {sent:?}");
                seen.borrow_mut().insert(status);
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    // Some of the bytes must still be good requests, and some must be none.
    let seen = seen.into_inner();
    assert!([100, 200, 400, 401, 404, 415, 431].iter().all(|status| seen.contains(status)), "{seen:?}");
    world.assert_well();
}
