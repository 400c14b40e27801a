//! Where commands go: the slot of each command's key, read from the commands as they go over the wire.

use std::ops::Range;

use views_core::partition::{hashed, slot};

/// A command among others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Routed {
    /// The slot of its key; none of a command that any node may be sent.
    pub(crate) slot: Option<u16>,
    /// Where its bytes are.
    pub(crate) bytes: Range<usize>,
}

/// Which argument of a command is its key.
enum Key {
    /// There is none.
    None,
    /// The one behind the name.
    First,
    /// The one behind a script and the number of its keys.
    OfScript,
}

impl Key {
    fn of(name: &[u8]) -> Self {
        match name {
            b"EVAL" => Self::OfScript,
            b"PUBLISH" | b"INFO" | b"CONFIG" | b"CLUSTER" | b"PING" | b"SCAN" | b"ACL" | b"TIME" => Self::None,
            _ => Self::First,
        }
    }
}

/// Reads commands, and notes of each where it goes. What was there before is forgotten.
pub(crate) fn read(commands: &[u8], routed: &mut Vec<Routed>) {
    routed.clear();
    // Commands about one post follow each other, and hashing its key costs more than to see that it is the same.
    let (mut last, mut last_slot): (&[u8], u16) = (&[], 0);
    let mut place = 0;
    while place < commands.len() {
        let start = place;
        let arguments = length(commands, &mut place);
        let mut key = Key::First;
        let mut slot_of_key = None;
        for argument in 0..arguments {
            let length = length(commands, &mut place);
            let text = commands.get(place..place + length).unwrap_or_default();
            place += length + 2;
            match (argument, &key) {
                (0, _) => key = Key::of(text),
                (1, Key::First) | (3, Key::OfScript) => {
                    let hashed = hashed(text);
                    if hashed != last {
                        (last, last_slot) = (hashed, slot(text));
                    }
                    slot_of_key = Some(last_slot);
                }
                // A script without keys.
                (2, Key::OfScript) if text == b"0" => key = Key::None,
                _ => {}
            }
        }
        routed.push(Routed { slot: slot_of_key, bytes: start..place });
    }
}

/// Reads a number between its sign and the end of its line, and goes behind that.
fn length(bytes: &[u8], place: &mut usize) -> usize {
    let mut number = 0;
    *place += 1;
    while let Some(digit) = bytes.get(*place).filter(|byte| byte.is_ascii_digit()) {
        number = number * 10 + usize::from(digit - b'0');
        *place += 1;
    }
    *place += 2;
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Commands;

    #[test]
    fn each_command_goes_where_its_key_is() {
        let mut commands = Commands::default();
        commands.command("SADD", 2).parts(&["post:", "7", ":views"]).text("anna");
        commands.command("HMGET", 2).text("{post:7:views}:meta").text("author");
        commands.command("EVAL", 4).text("return 1").number(2).text("post:8:views").text("{post:8:views}:meta");
        commands.command("EVAL", 2).text("return 1").number(0);
        commands.command("PUBLISH", 2).text("views:updates").text("{}");
        commands.command("XADD", 4).text("views:outbox:{1bz}").text("*").text("7").text(&"x".repeat(1_000));
        let mut routed = Vec::new();
        read(commands.bytes(), &mut routed);
        let slots: Vec<_> = routed.iter().map(|command| command.slot).collect();
        let [seven, eight] = ["post:7:views", "post:8:views"].map(|key| Some(slot(key.as_bytes())));
        assert_eq!(slots, [seven, seven, eight, None, None, Some(0)]);
        let all: Vec<u8> = routed.iter().flat_map(|command| &commands.bytes()[command.bytes.clone()]).copied().collect();
        assert_eq!(all, commands.bytes(), "nothing lies between them");
        assert!(routed.iter().all(|command| commands.bytes()[command.bytes.start] == b'*'));
    }
}
