//! What a node says of itself and of the others: `CLUSTER NODES`.

use std::ops::RangeInclusive;

/// A node as a node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// The port that clients are told.
    pub port: u16,
    /// Whether it is the node that was asked.
    pub is_myself: bool,
    /// What it is: `myself`, `master`, `slave`, `fail?`, `fail`, `handshake`, …
    pub flags: Vec<String>,
    /// The id of its primary, if it is a replica.
    pub primary: Option<String>,
    /// Of two that claim a slot, the one with the higher epoch has it.
    pub epoch: u64,
    /// Its slots.
    pub slots: Vec<RangeInclusive<u16>>,
    /// Its slots that are being moved. A node knows its own only.
    pub open: Vec<OpenSlot>,
}

/// A slot that is being moved, as one of the two nodes sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSlot {
    /// The slot.
    pub slot: u16,
    /// Whether it comes or goes.
    pub way: Way,
    /// The id of the other node.
    pub other: String,
}

/// Which of its two nodes a moving slot is seen from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the one that it comes to.
    Importing,
    /// From the one that it leaves.
    Migrating,
}

impl Member {
    /// Returns whether it is a primary.
    pub fn is_primary(&self) -> bool {
        self.flags.iter().any(|flag| flag == "master")
    }

    /// Returns whether a slot is one of its own.
    pub fn has(&self, slot: u16) -> bool {
        self.slots.iter().any(|range| range.contains(&slot))
    }

    /// Returns whether a slot is being moved between it and another node.
    pub fn moves(&self, slot: u16, way: Way, other: &str) -> bool {
        self.open.iter().any(|open| open.slot == slot && open.way == way && open.other == other)
    }

    /// Returns whether it is known, and taken for well.
    pub(super) fn is_well(&self) -> bool {
        !self.flags.iter().any(|flag| ["fail?", "fail", "handshake", "noaddr"].contains(&flag.as_str()))
    }
}

/// Reads the answer to `CLUSTER NODES`.
///
/// # Panics
/// When it is none.
pub(super) fn parse(text: &str) -> Vec<Member> {
    text.lines().map(|line| member(line).unwrap_or_else(|| panic!("not a line of CLUSTER NODES: {line}"))).collect()
}

/// `<id> <ip:port@bus-port[,name]> <flags> <primary or -> <ping> <pong> <epoch> <link> <slot> <slot-slot> [slot-<-id] …`
fn member(line: &str) -> Option<Member> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (address, _) = words.get(1)?.split_once('@')?;
    let flags: Vec<String> = words.get(2)?.split(',').map(str::to_owned).collect();
    let mut member = Member {
        id: (*words.first()?).to_owned(),
        port: address.rsplit_once(':')?.1.parse().ok()?,
        is_myself: flags.iter().any(|flag| flag == "myself"),
        flags,
        primary: Some(*words.get(3)?).filter(|primary| *primary != "-").map(str::to_owned),
        epoch: words.get(6)?.parse().ok()?,
        slots: Vec::new(),
        open: Vec::new(),
    };
    for word in &words[8..] {
        if let Some(open) = word.strip_prefix('[') {
            let open = open.strip_suffix(']')?;
            let importing = open.split_once("-<-").map(|parts| (parts, Way::Importing));
            let ((slot, other), way) = importing.or_else(|| Some((open.split_once("->-")?, Way::Migrating)))?;
            member.open.push(OpenSlot { slot: slot.parse().ok()?, way, other: other.to_owned() });
        } else {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            member.slots.push(first.parse().ok()?..=last.parse().ok()?);
        }
    }
    Some(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_open_slots_and_primaries_are_read() {
        let text = "07c3 127.0.0.1:30004@31004,host slave e7d1 0 1426238317239 4 connected\n\
                    e7d1 127.0.0.1:30001@31001 myself,master - 0 0 1 connected 0-5460 7000 [93->-292f] [77-<-e7d1]\n";
        let members = parse(text);
        assert_eq!(members[0].primary.as_deref(), Some("e7d1"));
        assert!(!members[0].is_primary() && members[0].slots.is_empty() && members[0].port == 30_004);
        let primary = &members[1];
        assert!(primary.is_primary() && primary.is_myself && primary.is_well() && primary.epoch == 1);
        assert_eq!(primary.slots, [0..=5460, 7000..=7000]);
        assert!(primary.has(5460) && primary.has(7000) && !primary.has(5461));
        let open = |slot, way, other: &str| OpenSlot { slot, way, other: other.to_owned() };
        assert_eq!(primary.open, [open(93, Way::Migrating, "292f"), open(77, Way::Importing, "e7d1")]);
    }
}
