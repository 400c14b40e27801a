//! A batch, grouped by post: all views and reads of one post go through the stages together.
//!
//! Each stage consumes what the stage before has made: a [`Group`] becomes [`Checked`], and that [`Written`]. The groups
//! themselves stay where they are: an id is kept inline, so that moving a batch along would cost more than checking it.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use views_core::ids::{PostId, ViewerId};
use views_redis::scripts::Depth;

use crate::record::pending::{Item, Items, LookupResult, PendingRequests};

/// Whether the set of a post has a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Membership {
    /// It has not, as far as is known.
    New,
    /// It has.
    Member,
    /// The post is this viewer's own.
    Author,
}

/// Somebody who views a post.
#[derive(Debug, Clone, Copy)]
pub(super) struct Viewer {
    pub(super) id: ViewerId,
    pub(super) membership: Membership,
}

/// All of a batch that concerns one post.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) post: PostId,
    pub(super) items: Items,
    /// The viewers among the items, each once, in order.
    pub(super) viewers: SmallVec<[Viewer; 1]>,
}

/// A group of which Redis has told what it knows.
#[derive(Debug)]
pub(super) struct Checked<'b> {
    pub(super) group: &'b mut Group,
    pub(super) known: Known,
}

/// A group whose part of the batch Redis has taken.
#[derive(Debug)]
pub(super) struct Written<'b> {
    pub(super) group: &'b mut Group,
    pub(super) count: Count,
}

/// What Redis knows of a post: the fields of its meta hash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Whether the author is known, so that somebody has looked the post up.
    pub(super) has_author: bool,
    /// Whether the set has the viewers that the ledger has, as far as they were few enough.
    pub(super) is_loaded: bool,
    /// The count in PostgreSQL, where it is known.
    pub(super) persisted: Option<i64>,
    pub(super) recorded: i64,
    pub(super) acked: i64,
}

/// The count of a post after its part of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count {
    pub(super) views: i64,
    /// Whether another process was first with every new viewer: the set has gained none of them.
    pub(super) was_raced: bool,
}

impl Group {
    /// Returns what the items need of PostgreSQL.
    pub(super) fn depth(&self) -> Depth {
        if self.viewers.is_empty() { Depth::Read } else { Depth::View }
    }

    /// Returns how many viewers the set does not have yet.
    pub(super) fn new_count(&self) -> usize {
        self.viewers.iter().filter(|viewer| viewer.membership == Membership::New).count()
    }

    /// Returns whether an item has been looked up with that result.
    pub(super) fn has_lookup(&self, result: LookupResult) -> bool {
        self.items.iter().any(|item| item.lookup.is_some_and(|lookup| lookup.result == result))
    }

    /// Returns whether the post has been looked up a moment ago as deep as that, or deeper. What a reader has had
    /// looked up does not excuse a view.
    pub(super) fn was_looked_up(&self, depth: Depth) -> bool {
        self.items.iter().any(|item| item.lookup.is_some_and(|lookup| lookup.depth >= depth))
    }

    /// Returns the viewers that the set does not have yet.
    pub(super) fn new_viewers(&self) -> impl Iterator<Item = &ViewerId> {
        self.viewers.iter().filter(|viewer| viewer.membership == Membership::New).map(|viewer| &viewer.id)
    }
}

impl Checked<'_> {
    /// Returns whether Redis does not know of the post what the items need, and PostgreSQL has not been asked for it
    /// this moment. Whoever only reads needs no viewers, nor does one whom the set has, or the author.
    pub(super) fn needs_lookup(&self) -> bool {
        let Known { has_author, is_loaded, .. } = self.known;
        let lacks_viewers = !is_loaded && self.group.new_count() > 0;
        (!has_author || lacks_viewers) && !self.group.was_looked_up(self.group.depth())
    }

    /// Returns whether the post, which could not be looked up, would take memory that Redis does not spend on it yet.
    pub(super) fn is_unverified(&self) -> bool {
        let Known { has_author, recorded, .. } = self.known;
        let was_tried = self.group.has_lookup(LookupResult::Unavailable);
        was_tried && !has_author && recorded == 0 && self.group.new_count() > 0
    }

    /// Returns whether nobody has told Redis the count in PostgreSQL, so that the set itself is counted.
    pub(super) fn counts_the_set(&self) -> bool {
        self.known.persisted.is_none()
    }
}

/// Groups items by post, in the order of their arrival.
pub(super) fn group(items: impl ExactSizeIterator<Item = Item>, pending: &PendingRequests) -> Vec<Group> {
    let mut places: HashMap<&PostId, usize, RandomState> = HashMap::with_capacity_and_hasher(items.len(), RandomState::default());
    let mut groups: Vec<Group> = Vec::with_capacity(items.len());
    for item in items {
        let Some((post, viewer)) = pending.subject(&item) else { continue };
        let place = *places.entry(post).or_insert_with(|| {
            groups.push(Group { post: *post, items: Items::new(), viewers: SmallVec::new() });
            groups.len() - 1
        });
        let group = &mut groups[place];
        group.items.push(item);
        if let Some(id) = viewer {
            group.viewers.push(Viewer { id: *id, membership: Membership::New });
        }
    }
    for group in groups.iter_mut().filter(|group| group.viewers.len() > 1) {
        group.viewers.sort_unstable_by_key(|viewer| viewer.id);
        group.viewers.dedup_by_key(|viewer| viewer.id);
    }
    groups
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;
    use tokio::sync::oneshot;

    use super::*;
    use crate::record::{pending::Lookup, request::Request};

    /// Requests for one post each, with who views it.
    fn pending(requests: &[(&str, Option<&str>)]) -> (PendingRequests, Vec<Item>) {
        let (mut pending, mut items) = (PendingRequests::new(0, Vec::new()), Vec::new());
        for (post, viewer) in requests {
            let viewer = viewer.map(|viewer| ViewerId::parse(viewer).unwrap());
            let posts = smallvec![PostId::parse(post).unwrap()];
            pending.add(Request { viewer, posts, permit: None, reply: oneshot::channel().0, worker_id: 0 }, &mut items);
        }
        (pending, items)
    }

    #[test]
    fn items_are_grouped_by_post_and_viewers_named_once() {
        let (pending, items) =
            pending(&[("a", Some("x")), ("b", Some("x")), ("a", Some("y")), ("a", Some("x")), ("b", None), ("c", None)]);
        let groups = group(items.into_iter(), &pending);
        let shape: Vec<_> = groups.iter().map(|group| (group.post.as_str(), group.items.len(), group.viewers.len())).collect();
        assert_eq!(shape, [("a", 3, 2), ("b", 2, 1), ("c", 1, 0)]);
    }

    #[test]
    fn a_post_that_was_looked_up_this_moment_is_not_looked_up_again() {
        let (pending, items) = pending(&[("a", Some("x"))]);
        let mut group = group(items.into_iter(), &pending).remove(0);
        assert!(Checked { group: &mut group, known: Known::default() }.needs_lookup());
        group.items[0].lookup = Some(Lookup { depth: Depth::View, result: LookupResult::Done });
        assert!(!Checked { group: &mut group, known: Known::default() }.needs_lookup());
    }

    #[test]
    fn what_a_reader_has_had_looked_up_does_not_excuse_a_view() {
        let (pending, items) = pending(&[("a", None), ("a", Some("x"))]);
        let known = Known { has_author: true, persisted: Some(1), ..Known::default() };
        let mut group = group(items.into_iter(), &pending).remove(0);
        group.items[0].lookup = Some(Lookup { depth: Depth::Read, result: LookupResult::Done });
        assert!(Checked { group: &mut group, known }.needs_lookup(), "the viewers are not there yet");
        assert!(!Checked { group: &mut group, known: Known { is_loaded: true, ..known } }.needs_lookup());
    }
}
