//! A batch: views and reads that arrived together, grouped by post, and the verdict on each.

use std::collections::HashMap;

use shared::ids::{PostId, ViewerId};

use super::{Outcome, Status, Unavailable, record::Recorded, tickets::Tickets};
use crate::metrics::Metrics;

/// One post of one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    /// The request.
    pub(super) ticket: usize,
    /// The post's place in the request.
    pub(super) place: usize,
    /// The post.
    pub(super) post: PostId,
    /// Who views it; nobody where only the count is wanted.
    pub(super) viewer: Option<ViewerId>,
    /// Whether the post has been looked up for this item.
    pub(super) touch: Touch,
}

/// Whether a post has been looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Touch {
    /// Not for this item.
    None,
    /// It has: the item is taken even if Redis knows nothing of the post.
    Done,
    /// It has, and Redis did not take what PostgreSQL knows: what Redis says of the post is not to be believed.
    Refused,
}

/// What Redis knows of a post: the fields of its meta hash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Meta {
    /// Whether the author is known, so that somebody has looked the post up.
    pub(super) touched: bool,
    /// Where the author is among the viewers.
    pub(super) author: Option<usize>,
    /// The count in PostgreSQL, where it is known.
    pub(super) persisted: Option<i64>,
    pub(super) recorded: i64,
    pub(super) acked: i64,
}

/// All of a batch that concerns one post.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) post: PostId,
    pub(super) items: Vec<Item>,
    /// The viewers among the items, each once, with whether the set has them.
    pub(super) viewers: Vec<(ViewerId, bool)>,
    /// What the check found; an error where Redis did not tell.
    pub(super) meta: Result<Meta, Unavailable>,
    /// The viewers that are to be recorded, from here to here in the batch's list of new pairs.
    pub(super) new: std::ops::Range<usize>,
    /// Where the post's replies to the record pipeline are.
    pub(super) recorded: Option<usize>,
}

impl Group {
    /// Whether Redis knows nothing of the post, and nobody has asked PostgreSQL for it this moment.
    pub(super) fn needs_first_touch(&self) -> bool {
        self.may_be_looked_up() && self.meta.is_ok_and(|meta| !meta.touched)
    }

    /// Whether a viewer is known to be the author.
    pub(super) fn is_by(&self, viewer: &ViewerId) -> bool {
        let author = self.meta.ok().and_then(|meta| meta.author);
        author.is_some_and(|place| self.viewers[place].0 == *viewer)
    }

    /// Whether Redis did not take what PostgreSQL knows of the post, a moment ago.
    pub(super) fn was_refused(&self) -> bool {
        self.items.iter().any(|item| item.touch == Touch::Refused)
    }

    /// Whether Redis answers, and nobody has asked PostgreSQL for the post this moment.
    pub(super) fn may_be_looked_up(&self) -> bool {
        self.meta.is_ok() && self.items.iter().all(|item| item.touch == Touch::None)
    }
}

/// Groups items by post, in the order of their arrival.
pub(super) fn group(items: impl ExactSizeIterator<Item = Item>) -> Vec<Group> {
    let mut places: HashMap<PostId, usize> = HashMap::with_capacity(items.len());
    let mut groups: Vec<Group> = Vec::with_capacity(items.len());
    for item in items {
        let place = *places.entry(item.post).or_insert_with(|| {
            groups.push(Group {
                post: item.post,
                items: Vec::with_capacity(1),
                viewers: Vec::new(),
                meta: Err(Unavailable),
                new: 0..0,
                recorded: None,
            });
            groups.len() - 1
        });
        let group = &mut groups[place];
        group.items.push(item);
        if let Some(viewer) = item.viewer {
            group.viewers.push((viewer, false));
        }
    }
    for group in groups.iter_mut().filter(|group| group.viewers.len() > 1) {
        group.viewers.sort_unstable();
        group.viewers.dedup();
    }
    groups
}

/// The verdicts of a batch, to be added to the process's numbers at once.
#[derive(Default)]
pub(super) struct Tally {
    counted: u64,
    duplicate: u64,
    own: u64,
    reads: u64,
}

impl Tally {
    pub(super) fn add_to(&self, metrics: &Metrics) {
        metrics.counted.inc_by(self.counted);
        metrics.duplicate.inc_by(self.duplicate);
        metrics.own.inc_by(self.own);
        metrics.reads.inc_by(self.reads);
    }
}

/// Gives each item of a post that Redis has taken its verdict.
pub(super) fn settle(group: &Group, recorded: &Recorded, tickets: &mut Tickets, tally: &mut Tally) {
    let count = group.meta.and_then(|meta| recorded.count(group, &meta));
    // Every item that asks for a new viewer is looked for here; the first one is the view, the others are its repetitions.
    let mut new: Vec<ViewerId> = recorded.counted(group).collect();
    for item in &group.items {
        let status = match item.viewer {
            None => Status::Read,
            Some(viewer) if group.is_by(&viewer) => Status::Own,
            Some(viewer) => match new.iter().position(|candidate| *candidate == viewer) {
                Some(place) => {
                    new.swap_remove(place);
                    Status::Counted
                }
                None => Status::Duplicate,
            },
        };
        match status {
            Status::Counted => tally.counted += 1,
            Status::Duplicate => tally.duplicate += 1,
            Status::Own => tally.own += 1,
            Status::Read | Status::NotFound => tally.reads += 1,
        }
        tickets.settle(item, count.map(|views| Outcome { status, views }));
    }
}

pub(super) fn fail(group: &Group, tickets: &mut Tickets, metrics: &Metrics) {
    metrics.failed.inc_by(group.items.len() as u64);
    for item in &group.items {
        tickets.settle(item, Err(Unavailable));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(ticket: usize, post: &str, viewer: Option<&str>) -> Item {
        let viewer = viewer.map(|viewer| ViewerId::parse(viewer).unwrap());
        Item { ticket, place: 0, post: PostId::parse(post).unwrap(), viewer, touch: Touch::None }
    }

    #[test]
    fn items_are_grouped_by_post_and_viewers_named_once() {
        let mut items = vec![item(0, "a", Some("x")), item(1, "b", Some("x")), item(2, "a", Some("y")), item(3, "a", Some("x"))];
        items.push(item(4, "b", None));
        let groups = group(items.into_iter());
        let shape: Vec<_> = groups.iter().map(|group| (group.post.as_str(), group.items.len(), group.viewers.len())).collect();
        assert_eq!(shape, [("a", 3, 2), ("b", 2, 1)]);
    }

    #[test]
    fn a_post_that_was_looked_up_this_moment_is_not_looked_up_again() {
        let mut group = group(std::iter::once(item(0, "a", Some("x")))).remove(0);
        assert!(!group.needs_first_touch(), "nothing is known of Redis yet");
        group.meta = Ok(Meta::default());
        assert!(group.needs_first_touch());
        group.items[0].touch = Touch::Done;
        assert!(!group.needs_first_touch());
    }
}
