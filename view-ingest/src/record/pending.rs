//! Requests that are not replied to yet. A batch begins here, as items grouped by post, and ends here, with a verdict
//! for each item; a request for many posts is replied to when the last of them has its outcome.
//!
//! To wake a request on another worker's thread takes a call to the system, so all replies of a batch that go to one
//! worker travel together.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use slab::Slab;
use smallvec::SmallVec;
use tokio::sync::mpsc;
use views_core::ids::{PostId, ViewerId};

use crate::{
    metrics::Metrics,
    record::{
        group::{Group, Item, Items, Membership, Viewer},
        request::{Outcome, Outcomes, ReplyBatch, ReplySender, Request, Status, Unavailable},
        write::{Count, Written},
    },
};

/// The requests that a recorder has not replied to yet.
pub(super) struct PendingRequests {
    requests: Slab<PendingRequest>,
    worker_id: usize,
    mailboxes: Vec<mpsc::UnboundedSender<ReplyBatch>>,
    /// What is to go to each worker.
    replies: Vec<ReplyBatch>,
}

struct PendingRequest {
    viewer: Option<ViewerId>,
    posts: SmallVec<[PostId; 1]>,
    outcomes: Outcomes,
    missing: usize,
    is_unavailable: bool,
    /// Whether some of its posts wait to be looked up for a read.
    is_parked: bool,
    reply: ReplySender,
    worker_id: usize,
}

/// The verdicts of a batch, to be added to the process's numbers at once.
#[derive(Default)]
struct Tally {
    counted: u64,
    duplicate: u64,
    own: u64,
    reads: u64,
}

/// Hands out what other workers' recorders send to this worker's requests.
pub(crate) async fn deliver(mut mailbox: mpsc::UnboundedReceiver<ReplyBatch>) {
    while let Some(replies) = mailbox.recv().await {
        for (sender, reply) in replies {
            // A client that has gone away needs no reply.
            let _ = sender.send(reply);
        }
    }
}

impl PendingRequests {
    pub(super) fn new(worker_id: usize, mailboxes: Vec<mpsc::UnboundedSender<ReplyBatch>>) -> Self {
        let replies = mailboxes.iter().map(|_| ReplyBatch::new()).collect();
        Self { requests: Slab::new(), worker_id, mailboxes, replies }
    }

    /// Takes a request in: one item for each of its posts.
    pub(super) fn add(&mut self, request: Request, items: &mut Vec<Item>) {
        let count = request.posts.len();
        let pending = PendingRequest {
            viewer: request.viewer,
            posts: request.posts,
            outcomes: Outcomes::from_elem(Outcome::NOT_FOUND, count),
            missing: count,
            is_unavailable: false,
            is_parked: false,
            reply: request.reply,
            worker_id: request.worker_id,
        };
        let request = self.requests.insert(pending);
        items.extend((0..count).map(|place| Item { request, place, lookup: None }));
    }

    /// Groups items by post, in the order of their arrival.
    pub(super) fn group(&self, items: impl ExactSizeIterator<Item = Item>) -> Vec<Group> {
        let mut places: HashMap<&PostId, usize, RandomState> =
            HashMap::with_capacity_and_hasher(items.len(), RandomState::default());
        let mut groups: Vec<Group> = Vec::with_capacity(items.len());
        for item in items {
            let Some(pending) = self.requests.get(item.request) else { continue };
            let Some(post) = pending.posts.get(item.place) else { continue };
            let place = *places.entry(post).or_insert_with(|| {
                groups.push(Group { post: *post, items: Items::new(), viewers: SmallVec::new() });
                groups.len() - 1
            });
            let group = &mut groups[place];
            group.items.push(item);
            if let Some(id) = pending.viewer {
                group.viewers.push(Viewer { id, membership: Membership::New });
            }
        }
        for group in groups.iter_mut().filter(|group| group.viewers.len() > 1) {
            group.viewers.sort_unstable_by_key(|viewer| viewer.id);
            group.viewers.dedup_by_key(|viewer| viewer.id);
        }
        groups
    }

    /// Returns who views the post of an item.
    pub(super) fn viewer(&self, item: &Item) -> Option<&ViewerId> {
        self.requests.get(item.request)?.viewer.as_ref()
    }

    /// Returns whether an item of a read may wait to be looked up where `room` items more may. A request waits as a
    /// whole or not at all: looking up a part of what is refused would be in vain.
    pub(super) fn may_park(&mut self, item: &Item, room: usize) -> bool {
        let Some(pending) = self.requests.get_mut(item.request).filter(|pending| !pending.is_unavailable) else { return false };
        pending.is_parked |= pending.missing <= room;
        pending.is_parked
    }

    /// Gives each item of what Redis has taken its verdict.
    pub(super) fn respond_written(&mut self, groups: Vec<Written<'_>>, metrics: &Metrics) {
        let mut tally = Tally::default();
        for Written { group, count } in groups {
            let Count { views, was_raced } = count;
            for item in &group.items {
                let status = match self.viewer(item) {
                    Some(id) => match group.viewers.binary_search_by(|viewer| viewer.id.cmp(id)) {
                        Ok(place) => verdict(&mut group.viewers[place], was_raced),
                        Err(_) => Status::Read,
                    },
                    None => Status::Read,
                };
                match status {
                    Status::Counted => tally.counted += 1,
                    Status::Duplicate => tally.duplicate += 1,
                    Status::Own => tally.own += 1,
                    Status::Read | Status::NotFound => tally.reads += 1,
                }
                self.respond(item, Ok(Outcome { status, views }));
            }
        }
        metrics.counted.inc_by(tally.counted);
        metrics.duplicate.inc_by(tally.duplicate);
        metrics.own.inc_by(tally.own);
        metrics.reads.inc_by(tally.reads);
    }

    /// Tells those who asked for a post that there is none.
    pub(super) fn respond_not_found(&mut self, items: &[Item], metrics: &Metrics) {
        for item in items {
            if self.viewer(item).is_some() {
                metrics.not_found.inc();
            }
            self.respond(item, Ok(Outcome::NOT_FOUND));
        }
    }

    /// Tells those who asked for a post that no store took it: the clients come again.
    pub(super) fn respond_unavailable(&mut self, items: &[Item], metrics: &Metrics) {
        metrics.failed.inc_by(items.len() as u64);
        for item in items {
            self.respond(item, Err(Unavailable));
        }
    }

    /// Notes the outcome of one item, and replies to the request when it was the last one. A request fails as a whole:
    /// what of it was recorded is a duplicate when the client asks again, and harmless.
    pub(super) fn respond(&mut self, item: &Item, outcome: Result<Outcome, Unavailable>) {
        let Some(pending) = self.requests.get_mut(item.request) else { return };
        match outcome {
            Ok(outcome) => pending.outcomes[item.place] = outcome,
            Err(Unavailable) => pending.is_unavailable = true,
        }
        pending.missing -= 1;
        if pending.missing == 0 {
            let pending = self.requests.remove(item.request);
            let reply = if pending.is_unavailable { Err(Unavailable) } else { Ok(pending.outcomes) };
            if pending.worker_id == self.worker_id {
                // A client that has gone away needs no reply.
                let _ = pending.reply.send(reply);
            } else {
                self.replies[pending.worker_id].push((pending.reply, reply));
            }
        }
    }

    /// Sends off what goes to other workers. They listen as long as anybody records.
    pub(super) fn flush(&mut self) {
        for (replies, mailbox) in self.replies.iter_mut().zip(&self.mailboxes).filter(|(replies, _)| !replies.is_empty()) {
            let _ = mailbox.send(std::mem::take(replies));
        }
    }
}

/// Returns the verdict on one view. The first view of a new viewer counts, unless another process was first; the others
/// are its repetitions.
fn verdict(viewer: &mut Viewer, was_raced: bool) -> Status {
    match viewer.membership {
        Membership::Author => Status::Own,
        Membership::Member => Status::Duplicate,
        Membership::New => {
            viewer.membership = Membership::Member;
            if was_raced { Status::Duplicate } else { Status::Counted }
        }
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;
    use tokio::sync::oneshot;
    use views_redis::scripts::Depth;

    use super::*;
    use crate::record::{
        check::{Checked, Known},
        group::{Lookup, LookupResult},
    };

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
        let groups = pending.group(items.into_iter());
        let shape: Vec<_> = groups.iter().map(|group| (group.post.as_str(), group.items.len(), group.viewers.len())).collect();
        assert_eq!(shape, [("a", 3, 2), ("b", 2, 1), ("c", 1, 0)]);
    }

    #[test]
    fn a_post_that_was_looked_up_this_moment_is_not_looked_up_again() {
        let (pending, items) = pending(&[("a", Some("x"))]);
        let mut group = pending.group(items.into_iter()).remove(0);
        assert!(Checked { group: &mut group, known: Known::default() }.needs_lookup());
        group.items[0].lookup = Some(Lookup { depth: Depth::View, result: LookupResult::Done });
        assert!(!Checked { group: &mut group, known: Known::default() }.needs_lookup());
    }

    #[test]
    fn what_a_reader_has_had_looked_up_does_not_excuse_a_view() {
        let (pending, items) = pending(&[("a", None), ("a", Some("x"))]);
        let known = Known { has_author: true, persisted: Some(1), ..Known::default() };
        let mut group = pending.group(items.into_iter()).remove(0);
        group.items[0].lookup = Some(Lookup { depth: Depth::Read, result: LookupResult::Done });
        assert!(Checked { group: &mut group, known }.needs_lookup(), "the viewers are not there yet");
        assert!(!Checked { group: &mut group, known: Known { is_loaded: true, ..known } }.needs_lookup());
    }

    #[test]
    fn only_the_first_view_of_a_new_viewer_counts() {
        let viewer = |membership| Viewer { id: ViewerId::parse("x").unwrap(), membership };
        let mut new = viewer(Membership::New);
        assert_eq!([verdict(&mut new, false), verdict(&mut new, false)], [Status::Counted, Status::Duplicate]);
        assert_eq!(verdict(&mut viewer(Membership::New), true), Status::Duplicate, "another process was first");
        assert_eq!(verdict(&mut viewer(Membership::Author), false), Status::Own);
    }
}
