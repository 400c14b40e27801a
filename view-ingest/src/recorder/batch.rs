//! A batch: views and reads that arrived together, grouped by post, and the verdict on each.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use views_core::ids::{PostId, ViewerId};
use views_redis::scripts::Depth;

use super::{
    Outcome, Status, Unavailable,
    record::{self, Recorded},
    tickets::Tickets,
};
use crate::metrics::Metrics;

/// One post of one request: so small that it may be moved about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    /// The request.
    pub(super) ticket: usize,
    /// The post's place in the request.
    pub(super) place: usize,
    /// Whether the post has been looked up for this item.
    pub(super) touch: Touch,
}

/// Items of one post, most often a single one.
pub(super) type Items = SmallVec<[Item; 1]>;

/// Whether a post has been looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Touch {
    /// Not for this item.
    None,
    /// It has: the item is taken even if Redis knows nothing of the post.
    Done,
    /// PostgreSQL could not be asked: the item is taken unseen.
    Unseen,
    /// It has, and Redis did not take what PostgreSQL knows: what Redis says of the post is not to be believed.
    Refused,
}

/// What Redis knows of a post: the fields of its meta hash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Meta {
    /// Whether the author is known, so that somebody has looked the post up.
    pub(super) touched: bool,
    /// Whether the set has the viewers that the ledger has, as far as they were few enough.
    pub(super) loaded: bool,
    /// The count in PostgreSQL, where it is known.
    pub(super) persisted: Option<i64>,
    pub(super) recorded: i64,
    pub(super) acked: i64,
}

/// What Redis knows of a viewer of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The set does not have this viewer.
    New,
    /// The set has this viewer.
    Returning,
    /// The post is this viewer's own.
    Author,
}

/// Somebody who views a post.
#[derive(Debug, Clone, Copy)]
pub(super) struct Viewer {
    pub(super) id: ViewerId,
    pub(super) standing: Standing,
}

/// All of a batch that concerns one post.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) post: PostId,
    pub(super) items: Items,
    /// The viewers among the items, each once, in order.
    pub(super) viewers: SmallVec<[Viewer; 1]>,
    /// What the check found; an error where Redis did not tell.
    pub(super) meta: Result<Meta, Unavailable>,
    /// What became of the post's part of the record pipeline, if it had one.
    pub(super) recorded: Option<Result<Recorded, Unavailable>>,
}

impl Group {
    /// Whether Redis does not know of the post what the items need, and nobody has asked PostgreSQL for it this moment. Whoever only reads needs
    /// no viewers, nor does one whom the set has, or the author.
    pub(super) fn needs_first_touch(&self) -> bool {
        let lacks = |meta: Meta| !meta.touched || !meta.loaded && self.new_viewers().next().is_some();
        self.may_be_looked_up() && self.meta.is_ok_and(lacks)
    }

    /// What the items need of PostgreSQL.
    pub(super) fn depth(&self) -> Depth {
        if self.viewers.is_empty() { Depth::Read } else { Depth::View }
    }

    /// Whether the post, which could not be looked up, would take memory that Redis does not spend on it yet.
    pub(super) fn is_unseen(&self) -> bool {
        let is_new = |meta: Meta| !meta.touched && meta.recorded == 0;
        self.items.iter().any(|item| item.touch == Touch::Unseen)
            && self.meta.is_ok_and(is_new)
            && self.new_viewers().next().is_some()
    }

    /// Whether Redis did not take what PostgreSQL knows of the post, a moment ago.
    pub(super) fn was_refused(&self) -> bool {
        self.items.iter().any(|item| item.touch == Touch::Refused)
    }

    /// Whether Redis answers, and nobody has asked PostgreSQL for the post this moment.
    pub(super) fn may_be_looked_up(&self) -> bool {
        self.meta.is_ok() && self.items.iter().all(|item| item.touch == Touch::None)
    }

    /// Whether nobody has told Redis the count in PostgreSQL, so that the set itself is counted.
    pub(super) fn counts_the_set(&self) -> bool {
        self.meta.is_ok_and(|meta| meta.persisted.is_none())
    }

    /// The viewers that Redis answers for and does not have yet.
    pub(super) fn new_viewers(&self) -> impl Iterator<Item = &ViewerId> {
        let all = if self.meta.is_ok() { &*self.viewers } else { &[] };
        all.iter().filter(|viewer| viewer.standing == Standing::New).map(|viewer| &viewer.id)
    }
}

/// Groups items by post, in the order of their arrival.
pub(super) fn group(items: impl ExactSizeIterator<Item = Item>, tickets: &Tickets) -> Vec<Group> {
    let mut places: HashMap<&PostId, usize, RandomState> = HashMap::with_capacity_and_hasher(items.len(), RandomState::default());
    let mut groups: Vec<Group> = Vec::with_capacity(items.len());
    for item in items {
        let Some((post, viewer)) = tickets.subject(&item) else { continue };
        let place = *places.entry(post).or_insert_with(|| {
            groups.push(Group {
                post: *post,
                items: Items::new(),
                viewers: SmallVec::new(),
                meta: Err(Unavailable),
                recorded: None,
            });
            groups.len() - 1
        });
        let group = &mut groups[place];
        group.items.push(item);
        if let Some(id) = viewer {
            group.viewers.push(Viewer { id: *id, standing: Standing::New });
        }
    }
    for group in groups.iter_mut().filter(|group| group.viewers.len() > 1) {
        group.viewers.sort_unstable_by_key(|viewer| viewer.id);
        group.viewers.dedup_by_key(|viewer| viewer.id);
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
pub(super) fn settle(group: &mut Group, tickets: &mut Tickets, tally: &mut Tally) {
    let count = record::count(group);
    let lost = record::is_lost(group);
    for item in &group.items {
        let viewer = tickets.subject(item).and_then(|(_, viewer)| viewer);
        let place = viewer.and_then(|id| group.viewers.binary_search_by(|viewer| viewer.id.cmp(id)).ok());
        let status = place.map_or(Status::Read, |place| verdict(&mut group.viewers[place].standing, lost));
        match status {
            Status::Counted => tally.counted += 1,
            Status::Duplicate => tally.duplicate += 1,
            Status::Own => tally.own += 1,
            Status::Read | Status::NotFound => tally.reads += 1,
        }
        tickets.settle(item, count.map(|views| Outcome { status, views }));
    }
}

/// The verdict on one view. The first view of a new viewer counts, unless another process was first; the others are its repetitions.
fn verdict(standing: &mut Standing, lost: bool) -> Status {
    match standing {
        Standing::Author => Status::Own,
        Standing::Returning => Status::Duplicate,
        Standing::New => {
            *standing = Standing::Returning;
            if lost { Status::Duplicate } else { Status::Counted }
        }
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
    use smallvec::smallvec;
    use tokio::sync::oneshot;

    use super::{super::Ask, *};

    /// Requests for one post each, with who views it.
    fn asked(requests: &[(&str, Option<&str>)]) -> (Tickets, Vec<Item>) {
        let (mut tickets, mut items) = (Tickets::new(0, Vec::new()), Vec::new());
        for (post, viewer) in requests {
            let viewer = viewer.map(|viewer| ViewerId::parse(viewer).unwrap());
            let ask =
                Ask { viewer, posts: smallvec![PostId::parse(post).unwrap()], turn: None, reply: oneshot::channel().0, home: 0 };
            tickets.open(ask, &mut items);
        }
        (tickets, items)
    }

    #[test]
    fn items_are_grouped_by_post_and_viewers_named_once() {
        let (tickets, items) =
            asked(&[("a", Some("x")), ("b", Some("x")), ("a", Some("y")), ("a", Some("x")), ("b", None), ("c", None)]);
        let groups = group(items.into_iter(), &tickets);
        let shape: Vec<_> = groups.iter().map(|group| (group.post.as_str(), group.items.len(), group.viewers.len())).collect();
        assert_eq!(shape, [("a", 3, 2), ("b", 2, 1), ("c", 1, 0)]);
    }

    #[test]
    fn a_post_that_was_looked_up_this_moment_is_not_looked_up_again() {
        let (tickets, items) = asked(&[("a", Some("x"))]);
        let mut group = group(items.into_iter(), &tickets).remove(0);
        assert!(!group.needs_first_touch(), "nothing is known of Redis yet");
        group.meta = Ok(Meta::default());
        assert!(group.needs_first_touch());
        group.items[0].touch = Touch::Done;
        assert!(!group.needs_first_touch());
    }

    #[test]
    fn only_the_first_view_of_a_new_viewer_counts() {
        let mut standing = Standing::New;
        assert_eq!([verdict(&mut standing, false), verdict(&mut standing, false)], [Status::Counted, Status::Duplicate]);
        assert_eq!(verdict(&mut Standing::New, true), Status::Duplicate, "another process was first");
        assert_eq!(verdict(&mut Standing::Author, false), Status::Own);
    }
}
