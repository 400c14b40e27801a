//! The nodes of a cluster: which of them has the keys, what their replicas have, and what a slot that is half moved hides.
//!
//! [`Redis`] itself is what somebody finds who follows redirections. A key that a moving slot's source does not have is
//! looked for at the importing node and made there (`ASK`), so that there is one of each key wherever it is. Only a
//! source that has forgotten that its slot is moving sends nobody on: then there may be two of each.

use super::{Entry, Id, Meta, Redis};
use crate::viewers::Viewers;

/// A primary, by number.
pub type Node = usize;

/// The one that the keys are on before a slot moves.
pub const SOURCE: Node = 0;
/// The one that a slot moves to.
pub const TARGET: Node = 1;

/// Where the keys are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nodes {
    /// Where set and hash are.
    pub post: Node,
    /// Where the outbox is.
    pub outbox: Node,
    /// Whether the slot is moving.
    pub slot: Slot,
    /// What the importing node has, where nobody is sent to it any more, or an outbox of before the cluster.
    pub hidden: Held,
    /// What each node's replica has, where it has not got everything.
    pub replicas: [Option<Held>; 2],
}

/// A slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// It is somewhere.
    #[default]
    Steady,
    /// It is moving, or its mover has died.
    Moving,
    /// The same, but the source has failed over, and its replica did not know.
    Forgotten,
}

/// What a node has of the partition's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Held {
    /// Set and hash.
    pub post: Option<(Viewers, Option<Meta>)>,
    /// The outbox, and the id that was added to it last.
    pub outbox: Option<(Vec<Entry>, Id)>,
}

impl Held {
    /// The same with the two viewers' names exchanged.
    pub(crate) fn exchange_viewers(&mut self) {
        if let Some((set, _)) = &mut self.post {
            *set = set.exchanged();
        }
        self.outbox.iter_mut().flat_map(|(entries, _)| entries).for_each(|entry| entry.viewer ^= 1);
    }

    /// Shows all ids to somebody; those that were added last only where each outbox goes by a clock of its own.
    pub(crate) fn each_id(&mut self, clocks_differ: bool, visit: &mut impl FnMut(&mut Id)) {
        self.post.iter_mut().filter_map(|(_, meta)| meta.as_mut()).for_each(|meta| meta.each_id(visit));
        if let Some((entries, last)) = &mut self.outbox {
            entries.iter_mut().for_each(|entry| visit(&mut entry.id));
            if clocks_differ {
                visit(last);
            }
        }
    }
}

impl Redis {
    /// Returns whether a script that has the set and the hash is taken. In a moving slot it is not (`TRYAGAIN`) where
    /// one of them does not exist.
    #[must_use]
    pub fn takes_scripts(&self) -> bool {
        self.nodes.slot != Slot::Moving || !(self.set.is_empty() || self.meta.is_none())
    }

    /// Returns whether a node has the outbox, whether anybody is sent there or not.
    #[must_use]
    pub fn has_outbox(&self, node: Node) -> bool {
        self.nodes.outbox == node || (node == TARGET && self.nodes.hidden.outbox.is_some())
    }

    /// Returns whether there are entries in the outbox of before the cluster.
    #[must_use]
    pub fn has_legacy(&self) -> bool {
        self.nodes.slot == Slot::Steady && !self.hidden().is_empty()
    }

    /// `XDEL` over a connection to that node.
    pub fn xdel_at(&mut self, node: Node, entries: &[Entry]) {
        let outbox = match &mut self.nodes.hidden.outbox {
            _ if self.nodes.outbox == node => &mut self.outbox,
            Some((hidden, _)) if node == TARGET => hidden,
            _ => return,
        };
        outbox.retain(|entry| entries.iter().all(|gone| gone.id != entry.id));
    }

    /// Returns whom only an outbox has that nobody is sent to.
    #[must_use]
    pub fn hidden(&self) -> Viewers {
        self.nodes.hidden.outbox.iter().flat_map(|(entries, _)| entries).map(|entry| entry.viewer).collect()
    }

    /// The entries that are there belong to another outbox, and views are added to a new one.
    pub fn leave_outbox(&mut self) {
        if !self.outbox.is_empty() {
            self.nodes.hidden.outbox = Some((std::mem::take(&mut self.outbox), self.last));
        }
    }

    /// From now on a node's replica gets nothing more.
    pub fn lag(&mut self, node: Node) {
        let post = (self.nodes.post == node).then_some((self.set, self.meta));
        let outbox = (self.nodes.outbox == node).then(|| (self.outbox.clone(), self.last));
        self.nodes.replicas[node] = Some(Held { post, outbox });
    }

    /// A node's replica takes over with what it has. Whoever has moved a slot away has told only the node itself.
    pub fn fail_over(&mut self, node: Node, clocks_differ: bool) {
        let Some(replica) = self.nodes.replicas[node].take() else { return };
        let forgets = node == SOURCE && self.nodes.slot == Slot::Moving;
        if forgets {
            self.nodes.slot = Slot::Forgotten;
            self.nodes.replicas[TARGET] = None;
        }
        if forgets && self.nodes.post != node {
            self.nodes.hidden.post = Some((self.set, self.meta));
            self.nodes.post = node;
        }
        if self.nodes.post == node {
            (self.set, self.meta) = replica.post.unwrap_or_default();
        }
        if forgets && self.nodes.outbox != node {
            self.nodes.hidden.outbox = Some((std::mem::take(&mut self.outbox), self.last));
            self.nodes.outbox = node;
        }
        if self.nodes.outbox == node {
            let last;
            (self.outbox, last) = replica.outbox.unwrap_or_default();
            if clocks_differ {
                self.last = last;
            }
        }
    }

    /// In a moving slot, what does not exist is made at the importing node.
    pub(crate) fn ask(&mut self) {
        if self.nodes.slot == Slot::Moving {
            if self.set.is_empty() && self.meta.is_none() {
                self.nodes.post = TARGET;
            }
            if self.outbox.is_empty() && self.last == 0 {
                self.nodes.outbox = TARGET;
            }
        }
    }

    /// Somebody mends the cluster: what is hidden comes to where everybody looks for it. Where there is such a key, the
    /// hidden one replaces it, or goes.
    pub fn mend(&mut self, keeps_hidden: bool) {
        self.nodes.slot = Slot::Steady;
        let hidden = std::mem::take(&mut self.nodes.hidden);
        if let Some((set, meta)) = hidden.post
            && (keeps_hidden || (self.set.is_empty() && self.meta.is_none()))
        {
            (self.set, self.meta) = (set, meta);
        }
        if let Some((entries, last)) = hidden.outbox
            && (keeps_hidden || self.outbox.is_empty())
        {
            (self.outbox, self.last) = (entries, self.last.max(last));
        }
    }
}
