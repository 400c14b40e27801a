//! Requests that stop in the middle while their client stays.

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::{
    wire::{Answer, Ending, send, statuses},
    world::{PATIENCE, World},
};

#[test]
fn a_request_that_stops_anywhere_is_given_up_in_time() {
    let world = World::start();
    let head = format!(
        "POST /posts/view HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\r\n",
        world.token
    );
    let whole = format!("{head}{{\"postId\":\"7\"}}");
    // Every byte of the body and of what stands before the token, and some of the token.
    let lengths = (0..=whole.len()).filter(|length| !(80..head.len() - 60).contains(length) || length % 16 == 0);
    let exchange = |length: usize| {
        let part = &whole[..length];
        async move {
            let start = Instant::now();
            (length, send(world.address, part.as_bytes(), Ending::Wait).await, start.elapsed())
        }
    };
    for (length, answer, took) in world.runtime.block_on(join_all(lengths.map(exchange))) {
        // A connection that has said nothing, or that has its answer, is idle and closed without a word.
        let expected = match length {
            0 => {
                assert!(answer.is_empty(), "{:?}", String::from_utf8_lossy(&answer));
                continue;
            }
            length if length == whole.len() => 200,
            _ => 408,
        };
        let answer = Answer::read(&answer, true);
        assert_eq!(answer.status, expected, "after {length} bytes: {answer:?}");
        answer.assert_form();
        // The server looks at its clock four times a second, so it may give up a little early; and many of these
        // connections end in one moment, on a machine that may have other things to do.
        assert!(took >= PATIENCE / 2 && took < 10 * PATIENCE, "after {length} bytes: {took:?}");
    }
    world.assert_well();
}

#[test]
fn a_request_that_stops_behind_a_whole_one_does_not_hold_its_connection() {
    let world = World::start();
    let whole = "GET /livez HTTP/1.1\r\nhost: test\r\n\r\n";
    for part in ["G", "GET /livez HTTP/1.1\r\nhost: te", &whole[..whole.len() - 1]] {
        let start = Instant::now();
        let answer = world.runtime.block_on(send(world.address, format!("{whole}{part}").as_bytes(), Ending::Wait));
        assert_eq!(statuses(&answer), [200, 408], "{part:?}");
        assert!(start.elapsed() < 10 * PATIENCE, "{part:?}: {:?}", start.elapsed());
    }
    world.assert_well();
}
