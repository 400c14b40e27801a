//! What a node of a cluster says of itself: which slots it has, and which of them are on their way (`CLUSTER NODES`).
//!
//! A slot that is moved is open at both of its nodes until all of its keys have moved. Where the mover ends halfway, it
//! stays open; and each node knows of its own part only, so where the one that the slot leaves has failed over, the other
//! one alone knows that it has keys.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::RangeInclusive,
};

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
    /// The id of the other node: nodes may have several addresses, and tell this one or that.
    pub other_id: String,
}

/// What a node says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeView {
    /// Its id.
    pub id: String,
    /// Its slots.
    pub slots: Vec<RangeInclusive<u16>>,
    /// The slots that are on their way to or from it.
    pub open: Vec<OpenSlot>,
    /// The addresses of primaries that have no slot yet, and may be given one.
    without_slots: Vec<String>,
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
        let has_no_slot = |words: &&Vec<&str>| {
            let flags = words.get(2).copied().unwrap_or_default();
            words.len() == 8 && flags.contains("master") && !flags.contains("fail") && !flags.contains("noaddr")
        };
        let without_slots =
            lines.iter().filter(has_no_slot).filter_map(|words| addresses.get(*words.first()?)).cloned().collect();
        let own = lines.iter().find(is_myself)?;
        let mut view = Self { id: (*own.first()?).to_owned(), without_slots, ..Self::default() };
        for word in own.iter().skip(8) {
            if let Some(open) = word.strip_prefix('[') {
                let open = open.strip_suffix(']')?;
                let importing = open.split_once("-<-").map(|parts| (parts, Way::Importing));
                let ((slot, other), way) = importing.or_else(|| Some((open.split_once("->-")?, Way::Migrating)))?;
                let (other_id, other) = (other.to_owned(), addresses.get(other).cloned().unwrap_or_else(|| other.to_owned()));
                view.open.push(OpenSlot { slot: slot.parse().ok()?, way, other, other_id });
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
        let mut views = self.views_of(nodes.clone()).await;
        // A node that is to get its first slot is among those who have slots only when it has it.
        let others = views.iter().flat_map(|(_, view)| &view.without_slots).filter_map(|address| self.node_at(address));
        let others: BTreeSet<NodeId> = others.filter(|node| !nodes.contains(node)).collect();
        views.extend(self.views_of(others.into_iter().collect()).await);
        let addresses: HashMap<String, String> =
            views.iter().filter_map(|(node, view)| Some((view.id.clone(), self.address(*node)?))).collect();
        let mut found: BTreeMap<(u16, String), HalfMovedSlot> = BTreeMap::new();
        for (node, view) in views {
            for OpenSlot { slot, way, other, other_id } in view.open {
                let own = addresses.get(&view.id).cloned().unwrap_or_default();
                let other = addresses.get(&other_id).cloned().unwrap_or(other);
                let is_importing = way == Way::Importing;
                let (to_id, from, to) = if is_importing { (view.id.clone(), other, own) } else { (other_id, own, other) };
                let half_moved = HalfMovedSlot { slot, from, to, importing: None, is_sent_on: false };
                let half_moved = found.entry((slot, to_id)).or_insert(half_moved);
                match way {
                    Way::Importing => half_moved.importing = Some(node),
                    Way::Migrating => half_moved.is_sent_on = true,
                }
            }
        }
        found.into_values().collect()
    }

    /// Returns what nodes say of themselves, those that answer.
    async fn views_of(&self, nodes: Vec<NodeId>) -> Vec<(NodeId, NodeView)> {
        let views = join_all(nodes.iter().map(|node| self.view_of(*node))).await;
        nodes.into_iter().zip(views).filter_map(|(node, view)| Some((node, view.ok().flatten()?))).collect()
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
                    aaaa 127.0.0.1:30009@31009 master - 0 1426238316232 2 connected\n\
                    bbbb 127.0.0.1:30010@31010 master,fail - 0 1426238316232 2 connected\n\
                    292f 127.0.0.1:30002@31002 master - 0 1426238316232 2 connected 5461-10922\n\
                    e7d1 127.0.0.1:30001@31001 myself,master - 0 0 1 connected 0-5460 7000 [93->-292f] [77-<-ffff]\n";
        let view = NodeView::read(text).unwrap();
        assert_eq!(view.slots, [0..=5460, 7000..=7000]);
        assert!(view.has(5460) && view.has(7000) && !view.has(5461));
        let open = |slot, way, other: &str, id: &str| OpenSlot { slot, way, other: other.to_owned(), other_id: id.to_owned() };
        assert_eq!(view.open, [open(93, Way::Migrating, "127.0.0.1:30002", "292f"), open(77, Way::Importing, "ffff", "ffff")]);
        assert_eq!((&*view.id, view.without_slots), ("e7d1", vec!["127.0.0.1:30009".to_owned()]));
        assert_eq!(NodeView::read("nonsense"), None);
    }
}
