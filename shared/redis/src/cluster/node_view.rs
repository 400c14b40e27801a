//! What a node of a cluster says of itself: which slots it has, and which of them are on their way (`CLUSTER NODES`).
//!
//! A slot that is moved is open at both of its nodes until all of its keys have moved. Where the mover ends halfway, it
//! stays open; and each node knows of its own part only, so where the one that the slot leaves has failed over, the other
//! one alone knows that it has keys.

use std::{collections::HashMap, ops::RangeInclusive};

use fred::error::Error;
use futures_util::future::join_all;
use views_core::partition::SLOTS;

use super::NodeId;
use crate::{Redis, server_info::is_forbidden};

/// Which of its two nodes an open slot is seen from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From the one that it comes to.
    Importing,
    /// From the one that it leaves.
    Migrating,
}

/// A slot that is on its way, as one of its two nodes sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSlot {
    /// The slot.
    pub slot: u16,
    /// Whether it comes or goes.
    pub way: Way,
    /// The address of the other node, or its id where that is not known.
    pub other: String,
}

/// What a node says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeView {
    /// Its slots.
    pub slots: Vec<RangeInclusive<u16>>,
    /// The slots that are on their way to or from it.
    pub open: Vec<OpenSlot>,
}

/// A slot that is half moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HalfMovedSlot {
    /// The slot.
    pub slot: u16,
    /// The address of the node that it leaves.
    pub from: String,
    /// The address of the node that it comes to.
    pub to: String,
    /// The node that it comes to, where that one knows.
    pub importing: Option<NodeId>,
    /// Whether the node that it leaves knows, and so sends clients on.
    pub is_sent_on: bool,
}

impl NodeView {
    /// Reads the reply to `CLUSTER NODES`.
    fn read(text: &str) -> Option<Self> {
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let address = |words: &Vec<&str>| Some(((*words.first()?).to_owned(), words.get(1)?.split('@').next()?.to_owned()));
        let addresses: HashMap<String, String> = lines.iter().filter_map(address).collect();
        let is_myself = |words: &&Vec<&str>| words.get(2).is_some_and(|flags| flags.split(',').any(|flag| flag == "myself"));
        let mut view = Self::default();
        for word in lines.iter().find(is_myself)?.iter().skip(8) {
            if let Some(open) = word.strip_prefix('[') {
                let open = open.strip_suffix(']')?;
                let importing = open.split_once("-<-").map(|parts| (parts, Way::Importing));
                let ((slot, other), way) = importing.or_else(|| Some((open.split_once("->-")?, Way::Migrating)))?;
                let other = addresses.get(other).cloned().unwrap_or_else(|| other.to_owned());
                view.open.push(OpenSlot { slot: slot.parse().ok()?, way, other });
            } else {
                let (first, last) = word.split_once('-').unwrap_or((word, word));
                view.slots.push(first.parse().ok()?..=last.parse().ok()?);
            }
        }
        Some(view)
    }

    /// Returns whether a slot is one of its own.
    #[must_use]
    pub fn has(&self, slot: u16) -> bool {
        self.slots.iter().any(|range| range.contains(&slot))
    }
}

impl Redis {
    /// Asks a node of a cluster what it says of itself; nothing where that is forbidden, or there is no cluster.
    ///
    /// # Errors
    /// Redis's error, where it is away.
    pub async fn view_of(&self, node: NodeId) -> Result<Option<NodeView>, Error> {
        if !self.is_clustered() {
            return Ok(None);
        }
        match self.send_at(node, &["CLUSTER", "NODES"]).await {
            Ok(reply) => Ok(reply.as_str().and_then(|text| NodeView::read(&text))),
            Err(error) if is_forbidden(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the slots that are half moved now, as those of the primaries know that answer.
    pub async fn half_moved_slots(&self) -> Vec<HalfMovedSlot> {
        let nodes = if self.is_clustered() { self.nodes() } else { Vec::new() };
        let views = join_all(nodes.iter().map(|node| self.view_of(*node))).await;
        let mut found: Vec<HalfMovedSlot> = Vec::new();
        for (node, view) in nodes.into_iter().zip(views) {
            let own = self.address(node).unwrap_or_default();
            for OpenSlot { slot, way, other } in view.ok().flatten().unwrap_or_default().open {
                let (from, to) = if way == Way::Importing { (&other, &own) } else { (&own, &other) };
                let place = found.iter().position(|known| known.slot == slot && known.to == *to).unwrap_or(found.len());
                if place == found.len() {
                    let (from, to) = (from.clone(), to.clone());
                    found.push(HalfMovedSlot { slot, from, to, importing: None, is_sent_on: false });
                }
                match way {
                    Way::Importing => found[place].importing = Some(node),
                    Way::Migrating => found[place].is_sent_on = true,
                }
            }
        }
        found.sort_unstable_by_key(|half_moved| half_moved.slot);
        found
    }

    /// Returns how many slots no primary has, as far as is known.
    #[must_use]
    pub fn slots_without_primary(&self) -> usize {
        (0..SLOTS).filter(|slot| self.node_of_slot(*slot).is_none()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_s_own_line_is_read() {
        let text = "07c3 127.0.0.1:30004@31004,host slave e7d1 0 1426238317239 4 connected\n\
                    292f 127.0.0.1:30002@31002 master - 0 1426238316232 2 connected 5461-10922\n\
                    e7d1 127.0.0.1:30001@31001 myself,master - 0 0 1 connected 0-5460 7000 [93->-292f] [77-<-ffff]\n";
        let view = NodeView::read(text).unwrap();
        assert_eq!(view.slots, [0..=5460, 7000..=7000]);
        assert!(view.has(5460) && view.has(7000) && !view.has(5461));
        let open = |slot, way, other: &str| OpenSlot { slot, way, other: other.to_owned() };
        assert_eq!(view.open, [open(93, Way::Migrating, "127.0.0.1:30002"), open(77, Way::Importing, "ffff")]);
        assert_eq!(NodeView::read("nonsense"), None);
    }
}
