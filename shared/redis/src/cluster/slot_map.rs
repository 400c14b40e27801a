//! Which node has which slot, as a node tells it: the reply of `CLUSTER SLOTS`.

use fred::types::config::Server;
use views_core::partition::SLOTS;

use crate::resp::{List, Reply};

/// A node of a cluster, by its place among the addresses that have been heard of; a server without a cluster is the
/// first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u16);

impl NodeId {
    /// The server, where there is no cluster.
    pub const ONLY: Self = Self(0);
    /// Stands for no node.
    const NONE: Self = Self(u16::MAX);

    /// Returns the node at a place; none past as many as can be told apart.
    pub(crate) fn at(place: usize) -> Option<Self> {
        u16::try_from(place).ok().map(Self).filter(|node| *node != Self::NONE)
    }

    /// Returns its place.
    #[must_use]
    pub fn place(self) -> usize {
        usize::from(self.0)
    }
}

/// Which node has which slot.
#[derive(Debug, Clone)]
pub(crate) struct SlotMap {
    owners: Box<[NodeId]>,
    /// How many slots each node has, by its place.
    numbers: Vec<u16>,
}

impl Default for SlotMap {
    fn default() -> Self {
        Self { owners: vec![NodeId::NONE; usize::from(SLOTS)].into(), numbers: Vec::new() }
    }
}

impl SlotMap {
    /// Returns the primary of a slot, as far as is known.
    pub(crate) fn owner(&self, slot: u16) -> Option<NodeId> {
        self.owners.get(usize::from(slot)).copied().filter(|node| *node != NodeId::NONE)
    }

    /// Notes the primary of a slot.
    pub(crate) fn set(&mut self, slot: u16, node: NodeId) {
        let Some(owner) = self.owners.get_mut(usize::from(slot)) else { return };
        let before = std::mem::replace(owner, node);
        if let Some(number) = self.numbers.get_mut(before.place()) {
            *number -= 1;
        }
        if self.numbers.len() <= node.place() {
            self.numbers.resize(node.place() + 1, 0);
        }
        self.numbers[node.place()] += 1;
    }

    /// Returns the nodes that have slots, each once.
    pub(crate) fn primaries(&self) -> Vec<NodeId> {
        let with_slots = self.numbers.iter().enumerate().filter(|(_, number)| **number > 0);
        with_slots.filter_map(|(place, _)| NodeId::at(place)).collect()
    }
}

/// A range of slots, and the nodes that have it: the primary first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlotRange {
    pub(crate) first: u16,
    pub(crate) last: u16,
    pub(crate) nodes: Vec<Server>,
}

/// Reads the reply of `CLUSTER SLOTS` of the node at `asked`, whose own host stands where a node tells none.
pub(crate) fn read(reply: List<'_>, asked: &Server) -> Option<Vec<SlotRange>> {
    reply.iter().map(|range| read_range(range, asked)).collect()
}

fn read_range(range: Reply<'_>, asked: &Server) -> Option<SlotRange> {
    let Reply::List(range) = range else { return None };
    let mut parts = range.iter();
    let mut slot = || parts.next()?.number().and_then(|slot| u16::try_from(slot).ok()).filter(|slot| *slot < SLOTS);
    let (first, last) = (slot()?, slot()?);
    let nodes: Option<Vec<Server>> = parts.map(|node| read_node(node, asked)).collect();
    let nodes = nodes.filter(|nodes| !nodes.is_empty())?;
    Some(SlotRange { first, last, nodes })
}

fn read_node(node: Reply<'_>, asked: &Server) -> Option<Server> {
    let Reply::List(node) = node else { return None };
    let mut parts = node.iter();
    let host = parts.next()?.text().unwrap_or_default();
    let port = parts.next()?.number().and_then(|port| u16::try_from(port).ok())?;
    Some(server(host, port, asked))
}

/// Reads an address, `host:port`, of which the node that was asked may leave its own host out.
pub(crate) fn address(text: &str, asked: &Server) -> Option<Server> {
    let (host, port) = text.rsplit_once(':')?;
    Some(server(host, port.parse().ok()?, asked))
}

fn server(host: &str, port: u16, asked: &Server) -> Server {
    // A node that was not told its own name says nothing, or a question mark.
    let host = if host.is_empty() || host == "?" { &*asked.host } else { host };
    Server::new(host.to_owned(), port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Replies;

    fn ranges(bytes: &str) -> Option<Vec<SlotRange>> {
        let replies = Replies::decode(bytes.as_bytes().to_vec(), 1).unwrap();
        let Some(Reply::List(list)) = replies.iter().next() else { panic!("{bytes}") };
        read(list, &Server::new("asked", 7000))
    }

    #[test]
    fn ranges_are_read_with_their_nodes_and_a_host_that_is_not_told_is_the_asked_one() {
        let node = |host: &str, port| format!("*4\r\n{host}:{port}\r\n$2\r\nid\r\n*0\r\n");
        let first = format!("*4\r\n:0\r\n:5460\r\n{}{}", node("$3\r\none\r\n", 7000), node("$-1\r\n", 7003));
        let second = format!("*3\r\n:5461\r\n:16383\r\n{}", node("$1\r\n?\r\n", 7001));
        let found = ranges(&format!("*2\r\n{first}{second}")).unwrap();
        let expected = |first, last, nodes: &[(&str, u16)]| SlotRange {
            first,
            last,
            nodes: nodes.iter().map(|(host, port)| Server::new((*host).to_owned(), *port)).collect(),
        };
        assert_eq!(found, [expected(0, 5460, &[("one", 7000), ("asked", 7003)]), expected(5461, 16383, &[("asked", 7001)])]);
        assert_eq!(ranges("*1\r\n*2\r\n:0\r\n:99999\r\n"), None);
        assert_eq!(ranges("*0\r\n"), Some(Vec::new()));
    }

    #[test]
    fn the_owner_of_a_slot_is_the_last_one_noted() {
        let mut map = SlotMap::default();
        assert_eq!((map.owner(0), map.primaries()), (None, Vec::new()));
        map.set(7, NodeId(2));
        map.set(7, NodeId(1));
        map.set(SLOTS - 1, NodeId(0));
        assert_eq!((map.owner(7), map.owner(8), map.owner(SLOTS)), (Some(NodeId(1)), None, None));
        assert_eq!(map.primaries(), [NodeId(0), NodeId(1)]);
        map.set(SLOTS - 1, NodeId(1));
        assert_eq!(map.primaries(), [NodeId(1)]);
    }

    #[test]
    fn an_address_of_a_redirection_may_lack_its_host() {
        let asked = Server::new("asked", 1);
        for (text, host, port) in [("10.0.0.1:6381", "10.0.0.1", 6381), (":6381", "asked", 6381), ("::1:7", "::1", 7)] {
            assert_eq!(address(text, &asked), Some(Server::new(host, port)), "{text}");
        }
        assert_eq!(address("nonsense", &asked), None);
    }
}
